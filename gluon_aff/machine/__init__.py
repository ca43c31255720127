"""What machine this is and whether training can work on it; needs neither MXNet nor NumPy."""
