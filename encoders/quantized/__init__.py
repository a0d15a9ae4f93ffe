"""What quantized operators share: grids, integer products, scaling back."""
