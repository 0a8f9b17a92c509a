"""Model directory in, aten module and weights by name out."""
