"""The claim and its proof: bounds, lemmas, composition, search, verdicts, reports."""
