"""Executions of a graph, bit for bit and exact."""
