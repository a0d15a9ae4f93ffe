"""Rows that are divided by their norms, or made probabilities."""
