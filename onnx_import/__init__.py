"""Files in, graph out: readers of model files and the graph they produce."""
