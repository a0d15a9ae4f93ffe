"""Sums, products, quotients and extrema of tensors, element by element."""
