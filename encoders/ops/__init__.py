"""One file per operator, in rooms by family; `encoders.registry` walks this folder."""
