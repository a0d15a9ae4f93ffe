"""Counterexamples: evaluated exactly, kept on disk, replayed on real runtimes."""
