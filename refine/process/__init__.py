"""The process, the one that watches it, and workers. What watches imports nothing heavy."""
