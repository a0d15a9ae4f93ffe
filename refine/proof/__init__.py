"""From bounds to a theorem: parts of the domain, obligations of nodes, questions to Z3."""
