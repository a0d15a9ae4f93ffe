"""Many claims at once: lists of instances, and data sets of points."""
