"""Rewritings of a graph that is read: each keeps what the file means."""
