"""What is known of one node as a network is bounded: its errors, and its run-time numbers."""
