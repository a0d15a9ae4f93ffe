"""The elementary functions, one file each: values, shape, and how accurately runtimes go."""
