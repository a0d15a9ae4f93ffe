"""Lemmas on backward errors: what runs as the exact result of numbers that are moved a little."""
