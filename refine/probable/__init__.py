"""How far roundings scatter: probable errors."""
