"""What each op means, in torch on the CPU in float32: the judge of every pass and kernel."""
