"""Resized and sampled images: written out axis by axis, or as pixels that are picked."""
