"""Backward errors: what runs as the exact output of a network whose numbers are moved a little."""
