"""Operators that move elements, and linear interpolation between them."""
