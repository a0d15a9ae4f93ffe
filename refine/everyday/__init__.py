"""What people ask every day: tolerances, numbers from other devices, a first look at a model."""
