"""CUDA kernels with explicit schedules, and their source compiled for a processor."""
