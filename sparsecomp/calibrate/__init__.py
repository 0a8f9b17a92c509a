"""What a model does on text, so that what it can leave out is known before it is compiled."""
