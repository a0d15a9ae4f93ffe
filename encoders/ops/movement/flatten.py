"""Flatten: two dimensions, split at `axis`; row-major order is kept."""

from encoders.families.movement import reshaping_operator

OPERATORS = (reshaping_operator("Flatten", since=1).reading("axis"),)
