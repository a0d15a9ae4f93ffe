"""What every bound rests on, as statements that Z3 proves."""
