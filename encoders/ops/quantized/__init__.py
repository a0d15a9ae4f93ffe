"""Quantized operators and Cast."""
