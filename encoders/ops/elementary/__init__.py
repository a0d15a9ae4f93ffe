"""Elementary functions, roundings to integers and signs."""
