"""The domain of a claim: boxes of inputs, their exact sides, and the floats within them."""
