"""An artifact's sparsity as one page: what is chosen, how well, what it saves and what it costs."""
