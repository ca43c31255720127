"""Pictures as tensors for the networks."""

from __future__ import annotations

from typing import Callable, Optional, Union

import torch
from PIL import Image

from gluon_aff.data.preprocessing import image_input
from gluon_aff.data.preprocessing import preprocessing as in_numpy
from gluon_aff.models import CIFAR_SIZE, model_record


def preprocessing(name: str, input_size: Optional[int] = None) -> Callable[[Union[str, Image.Image]], torch.Tensor]:
    """What makes a picture the input of the model called `name`, as the validation images of its training were.

    Args:
        name: one of `list_models()`.
        input_size: side of the square input in pixels; the model's own if None. CIFAR's networks have 32 always.

    Returns:
        A function from the path of an image file, or an RGB image of Pillow's, to a float32 tensor (3, size, size).

    Raises:
        InputError: for an unknown name; that function raises it for a file that cannot be read as an image.
    """
    size = model_record(name).input_size
    to_array = in_numpy(size == CIFAR_SIZE, input_size or size)

    def preprocess(picture: Union[str, Image.Image]) -> torch.Tensor:
        return torch.from_numpy(
            to_array(picture.convert("RGB")) if isinstance(picture, Image.Image) else image_input(picture, to_array)
        )

    return preprocess
