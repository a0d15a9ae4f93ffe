"""Real runtimes on the user's own file."""
