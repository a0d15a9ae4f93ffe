"""How terms, formulas and whole lemmas are read of numbers."""
