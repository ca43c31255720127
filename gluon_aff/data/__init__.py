"""Data: CIFAR-10 and CIFAR-100, sample sets in their layout, augmentation, batches and mixup.

`loading` and `mixup` need MXNet and are imported from their modules, so that worker processes and the sample writers do
without it.
"""

from gluon_aff.data.cifar import CIFAR_MEAN, CIFAR_STD, LabelledImages, load_cifar
from gluon_aff.data.sample import write_digits, write_shapes

__all__ = ["CIFAR_MEAN", "CIFAR_STD", "LabelledImages", "load_cifar", "write_digits", "write_shapes"]
