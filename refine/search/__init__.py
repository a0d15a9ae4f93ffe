"""Inputs on which the runtime is far from the real network: where to look, and how to improve."""
