"""ImageNet, in class folders and in record files, and other images in these layouts."""
