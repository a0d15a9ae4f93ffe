"""Certificates: what a result rests on, for a checker that shares nothing with this program."""
