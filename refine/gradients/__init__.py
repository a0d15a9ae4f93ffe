"""Gradients of a graph as graphs: differentiation, losses, steps of training, and checks of it."""
