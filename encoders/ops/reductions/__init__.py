"""Pools, reductions and softmax."""
