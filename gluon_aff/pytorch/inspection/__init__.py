"""What looks into PyTorch networks."""
