"""What resized and sampled images have in common: where a pixel stands, and what it weighs."""
