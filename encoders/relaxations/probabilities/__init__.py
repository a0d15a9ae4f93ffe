"""Probabilities of scores, and what is mixed by them: attention, to the second order."""
