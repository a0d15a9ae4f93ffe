"""One file per claim: what it says, how it is settled, which options it reads."""
