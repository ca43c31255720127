"""Look inside PyTorch networks: layers, counts, outputs, gradients and memory."""
