"""How a user sets the command line up: options from a file, presets, a log, completion."""
