"""A quantised copy of a network beside its original, layer by layer."""
