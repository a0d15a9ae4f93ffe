"""Files written whole, processes that end with their parent, sources compiled here."""
