"""Folding on constants of what a runtime computes bit-exactly."""
