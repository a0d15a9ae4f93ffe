"""Comparisons, truth values, and choices made by them."""
