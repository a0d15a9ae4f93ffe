"""Lemmas on other ways to say how far a computation is off."""
