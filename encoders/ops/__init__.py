"""One file per operator; `encoders.registry` lists this folder."""
