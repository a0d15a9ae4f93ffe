"""Unsqueeze: inserts axes of length 1 (axes as an attribute to opset 12, as an input from 13)."""

from encoders.families.movement import reshaping_operator

OPERATORS = (reshaping_operator("Unsqueeze", since=1, parameters=(1,)).reading("axes"),)
