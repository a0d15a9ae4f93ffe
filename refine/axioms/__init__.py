"""What a verdict rests on, as a graph read from the document of a result."""
