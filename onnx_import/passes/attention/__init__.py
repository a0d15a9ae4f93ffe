"""What scores of attention are computed from, and which of them a mask leaves out."""
