"""Read and augment StopSign: images and the masks of the stop signs in them."""
