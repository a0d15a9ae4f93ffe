"""What a run gave, tensor by tensor, and two such runs held against what is proved of both."""
