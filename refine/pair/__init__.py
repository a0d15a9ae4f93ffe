"""Two graphs at once: which tensors correspond, what is the same function, where they part."""
