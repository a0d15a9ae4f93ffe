"""What every room of this package uses: time, rounding for display, files read from strangers."""
