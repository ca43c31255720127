"""Read, augment and batch CIFAR, ImageNet and StopSign with NumPy, and make small sample sets in their layouts."""

from gluon_aff.data.cifar.files import CIFAR_MEAN, CIFAR_STD, LabelledImages, load_cifar
from gluon_aff.data.samples.cifar_layout import write_digits, write_shapes

__all__ = ["CIFAR_MEAN", "CIFAR_STD", "LabelledImages", "load_cifar", "write_digits", "write_shapes"]
