"""Identity: the same values."""

from encoders.families.movement import reshaping_operator

OPERATORS = (reshaping_operator("Identity", since=1),)
