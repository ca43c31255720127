"""Pictures as the input of CIFAR's networks or ImageNet's."""

from __future__ import annotations

from typing import Callable

import numpy as np
from PIL import Image, ImageOps

from gluon_aff.data.cifar.augmentation import normalise as normalise_cifar
from gluon_aff.data.image_files import read_image
from gluon_aff.data.imagenet.images import FOLDER_MEAN, FOLDER_STD, normalise, opencv
from gluon_aff.data.imagenet.validation_batches import folder_crop
from gluon_aff.errors import InputError
from gluon_aff.models import CIFAR_SIZE

Preprocess = Callable[[Image.Image], np.ndarray]


def preprocessing(for_cifar: bool, input_size: int) -> Preprocess:
    """What turns an RGB image into the input, float32 (3, H, W), of CIFAR's networks or ImageNet's.

    It is `fitting` and `normalised`.
    """
    fit = fitting(for_cifar, input_size)
    return lambda image: normalised(fit(image), for_cifar)


def fitting(for_cifar: bool, input_size: int, squash: bool = False) -> Preprocess:
    """What turns an RGB image into the pixels, uint8 (H, W, 3), that CIFAR's networks or ImageNet's see.

    CIFAR's: the centre square, scaled by Pillow's bicubic filter. Images of 32 x 32 pixels stay as they are.
    ImageNet's: resized and cropped as in validation. With `squash` the whole image, resized to a square likewise.
    """

    def cifar(image: Image.Image) -> np.ndarray:
        size = (CIFAR_SIZE, CIFAR_SIZE)
        if squash:
            return np.asarray(image.resize(size, Image.Resampling.BICUBIC))
        return np.asarray(ImageOps.fit(image, size, Image.Resampling.BICUBIC))

    def imagenet(image: Image.Image) -> np.ndarray:
        if squash:
            return opencv().resize(np.asarray(image), (input_size, input_size))
        return folder_crop(np.asarray(image), input_size)

    return cifar if for_cifar else imagenet


def normalised(pixels: np.ndarray, for_cifar: bool) -> np.ndarray:
    """`fitting`'s pixels as the network's input, float32 (3, H, W), normalised as in training or validation."""
    batch = pixels[np.newaxis]
    return (normalise_cifar(batch) if for_cifar else normalise(batch, FOLDER_MEAN, FOLDER_STD))[0]


def image_input(path: str, preprocess: Preprocess) -> np.ndarray:
    """What `preprocess` makes of the image in a file.

    Raises:
        InputError: `read_image`'s, or the image cannot be preprocessed.
    """
    image = read_image(path)
    try:
        return preprocess(image)
    except InputError as error:
        raise InputError(f"{path} cannot be used ({error})") from None
