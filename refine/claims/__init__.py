"""What is claimed, and how a claim is settled: accuracy, difference, batch invariance."""
