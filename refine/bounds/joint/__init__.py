"""Formulas of one number that a graph spells out in nodes, bounded as the one curve that they
are."""
