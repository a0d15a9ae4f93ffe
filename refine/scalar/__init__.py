"""Small networks of scalars over many boxes at once, through true derivatives."""
