"""Cases of secant slopes: branched on, confined to inputs that make them possible."""
