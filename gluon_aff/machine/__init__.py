"""Check whether training can work on this machine; this needs neither MXNet nor NumPy."""
