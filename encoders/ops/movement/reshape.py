"""Reshape: a new shape, row-major order kept; the shape is known from inference."""

from encoders.families.movement import reshaping_operator

OPERATORS = (reshaping_operator("Reshape", since=5, parameters=(1,)).reading("allowzero"),)
