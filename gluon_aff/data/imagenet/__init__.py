"""Read and augment ImageNet, and other images in its layouts, from class folders and from record files."""
