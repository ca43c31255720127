"""Read, augment and batch CIFAR-10 and CIFAR-100."""
