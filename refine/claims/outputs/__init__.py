"""Claims about outputs of what runs, and what proofs over the reals give of them."""
