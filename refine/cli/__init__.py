"""The command line: options in, one exit code out."""
