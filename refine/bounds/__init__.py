"""Ranges and error bounds of a whole graph, and the relaxations that tighten them."""
