"""Rounding-error analysis: bounds of one rounding, of sums, of whole computations."""
