"""TorchLean graphs and their weights."""
