"""Whether a runtime honours a contract, node by node."""
