"""Formats of numbers, and outward-rounded arithmetic on bounds."""
