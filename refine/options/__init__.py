"""What users write, read into what the proof works with: contracts, runtimes, tolerances."""
