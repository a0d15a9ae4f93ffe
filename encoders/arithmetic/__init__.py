"""The arithmetics in which semantics are executed: exact, enclosing, bit for bit, symbolic."""
