"""What operators mean: formats, contracts, arithmetic, and one file per operator in `ops`."""
