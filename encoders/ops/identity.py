"""Identity: the same values."""

from encoders.movement import reshaping_operator

OPERATORS = (reshaping_operator("Identity", since=1),)
