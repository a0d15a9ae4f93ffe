"""A result document as one HTML page, which needs nothing else."""
