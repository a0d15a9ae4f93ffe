"""Answers as data: verdicts, obligations, and numbers as people read them."""
