"""Turn pictures into tensors for the networks."""

from __future__ import annotations

from typing import Callable, Optional, Union

import torch
from PIL import Image

from gluon_aff.data.preprocessing import image_input
from gluon_aff.data.preprocessing import preprocessing as in_numpy
from gluon_aff.models import CIFAR_SIZE, model_record


def preprocessing(name: str, input_size: Optional[int] = None) -> Callable[[Union[str, Image.Image]], torch.Tensor]:
    """Return a function that preprocesses pictures as the validation images of a model's training were preprocessed.

    Args:
        name: one of `list_models()`.
        input_size: side of the square input in pixels. If None, that of the model. CIFAR networks always have 32.

    Returns:
        A function of a picture, which is the path of an image file or a Pillow image. It returns a float32 tensor of
        shape (3, size, size) and raises InputError for a file that cannot be read as an image.

    Raises:
        InputError: the name is unknown.
    """
    size = model_record(name).input_size
    to_array = in_numpy(size == CIFAR_SIZE, input_size or size)

    def preprocess(picture: Union[str, Image.Image]) -> torch.Tensor:
        return torch.from_numpy(
            to_array(picture.convert("RGB")) if isinstance(picture, Image.Image) else image_input(picture, to_array)
        )

    return preprocess
