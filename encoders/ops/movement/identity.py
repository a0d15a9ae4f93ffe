"""Identity: the same values."""

from encoders.families.movement import reshaping_operator
from encoders.traits import Likeness

OPERATORS = (reshaping_operator("Identity", since=1, likeness=Likeness(copies=lambda site: True)),)
