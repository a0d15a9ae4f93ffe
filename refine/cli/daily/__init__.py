"""Commands that answer what people ask every day."""
