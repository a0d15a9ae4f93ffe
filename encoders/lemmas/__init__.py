"""Lemmas as data, read as arrays, and the radii that only they make."""
