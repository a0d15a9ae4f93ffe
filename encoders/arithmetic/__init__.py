"""The arithmetics in which meanings are executed: exact, enclosing, bit for bit, symbolic."""
