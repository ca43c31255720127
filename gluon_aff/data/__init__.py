"""Data: CIFAR, ImageNet, StopSign and sample sets in their layouts, augmentation and batches, in NumPy."""

from gluon_aff.data.cifar.files import CIFAR_MEAN, CIFAR_STD, LabelledImages, load_cifar
from gluon_aff.data.samples.cifar_layout import write_digits, write_shapes

__all__ = ["CIFAR_MEAN", "CIFAR_STD", "LabelledImages", "load_cifar", "write_digits", "write_shapes"]
