"""Turn pictures into the input of CIFAR's or ImageNet's networks."""

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
    """Return a function that turns an RGB image into a network's input, float32 (3, H, W).

    It applies `fitting` and then `normalised`.

    Args:
        for_cifar: whether the network is CIFAR's, otherwise ImageNet's.
        input_size: side of the input of ImageNet's networks, in pixels.
    """
    fit = fitting(for_cifar, input_size)
    return lambda image: normalised(fit(image), for_cifar)


def fitting(for_cifar: bool, input_size: int, squash: bool = False) -> Preprocess:
    """Return a function that turns an RGB image into the pixels, uint8 (H, W, 3), that a network sees.

    For CIFAR, these are the centre square, scaled to 32 x 32 pixels by Pillow's bicubic filter; an image of 32 x 32
    pixels stays as it is. For ImageNet, the image is resized and cropped as in validation.

    Args:
        for_cifar: whether the network is CIFAR's, otherwise ImageNet's.
        input_size: side of the input of ImageNet's networks, in pixels.
        squash: whether to resize the whole image to a square instead of cropping it.
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
    """Normalise the pixels that `fitting` returns as in training and validation; return float32 (3, H, W)."""
    batch = pixels[np.newaxis]
    return (normalise_cifar(batch) if for_cifar else normalise(batch, FOLDER_MEAN, FOLDER_STD))[0]


def image_input(path: str, preprocess: Preprocess) -> np.ndarray:
    """Read the image in a file and return the result of `preprocess`.

    Raises:
        InputError: the image cannot be read or preprocessed; the message names the file.
    """
    image = read_image(path)
    try:
        return preprocess(image)
    except InputError as error:
        raise InputError(f"{path} cannot be used ({error})") from None
