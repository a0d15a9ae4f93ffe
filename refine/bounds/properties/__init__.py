"""Margins of unsafe sets: how far what runs stays from them, and what executions take of that."""
