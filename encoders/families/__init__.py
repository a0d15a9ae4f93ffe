"""What several operators share, as plain functions."""
