"""exec to Triton kernels and the launches that run them."""
