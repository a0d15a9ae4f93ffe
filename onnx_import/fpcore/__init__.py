"""FPCore kernels."""
