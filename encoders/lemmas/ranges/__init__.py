"""Where real values lie: ranges, which only the application of a lemma makes, and these lemmas."""
