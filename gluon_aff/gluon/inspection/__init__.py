"""What Gluon networks do inside: their layers, with counts, outputs and gradients, and the memory they take."""
