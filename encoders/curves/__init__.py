"""Functions of one real variable, piece by piece convex or concave."""
