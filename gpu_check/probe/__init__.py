"""What a runtime does, found out by running it."""
