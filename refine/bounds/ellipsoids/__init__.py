"""Errors of a whole tensor at once: how large they can be together, not each by itself."""
