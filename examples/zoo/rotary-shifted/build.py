"""The score of a query at position 3 and a key at position 1, against positions 4 and 2."""

from building import script

score = script("rotary-position")["score"]

RIGHT, WRONG = score(3, 1), score(4, 2)
