"""Look inside Gluon networks: layers, counts, outputs, gradients and memory."""
