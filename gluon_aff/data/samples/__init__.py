"""Small data sets in the layouts of the large ones, made on the spot."""
