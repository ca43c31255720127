"""Train networks: set a run up, carry out its epochs, and record them."""
