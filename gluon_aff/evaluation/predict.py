"""Predict the classes of image files in any common format."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Callable, Iterable, Iterator, List, Sequence, Tuple, Union

import numpy as np

from gluon_aff.data.preprocessing import Preprocess, image_input
from gluon_aff.engines import Infer
from gluon_aff.errors import GluonAFFError, InputError
from gluon_aff.iteration import one_behind


@dataclass(frozen=True)
class Prediction:
    """Holds the prediction for one file.

    Attributes:
        path: the file, as given.
        classes: label and softmax score (0..1) of the likeliest classes, the likeliest first; empty if there is an
            error.
        error: one line that says why the file cannot be read as an image; empty if it can.
    """

    path: str
    classes: List[Tuple[int, float]]
    error: str = ""


def predict(
    infer: Infer, paths: Iterable[str], preprocess: Preprocess, top_k: int, batch_size: int
) -> Iterator[Prediction]:
    """Predict the class of each image file, in the order of `paths`.

    The predictions of a batch are returned after the next batch has been read.

    Args:
        infer: inference of the network, which returns the logits of K classes.
        paths: image files; a file that cannot be read yields a prediction with an error.
        preprocess: function that prepares an image, as `preprocessing` returns it.
        top_k: number of classes for each image, at most K.
        batch_size: number of files in a batch.

    Raises:
        InputError: `top_k` or `batch_size` is less than 1.
        GluonAFFError: an output is not finite.
    """
    if top_k < 1 or batch_size < 1:
        raise InputError(f"top-k {top_k} and batch size {batch_size}: both must be 1 or more")
    return _predictions(infer, paths, preprocess, top_k, batch_size)


def likeliest(logits: np.ndarray, top_k: int, path: str) -> List[Tuple[int, float]]:
    """Return label and softmax score of the `top_k` largest logits; of equal logits, the lower label comes first.

    Args:
        logits: logits of one image, (K,).
        top_k: number of classes to return.
        path: the image file, for an error message.

    Raises:
        GluonAFFError: a logit of the image in `path` is not finite.
    """
    if not np.isfinite(logits).all():
        raise GluonAFFError(
            f"the network's outputs for {path} are not finite: look for damaged weights, or use float32 if the "
            "network computes in float16"
        )
    exact = logits.astype(np.float64)
    scores = np.exp(exact - exact.max())
    labels = np.argsort(-exact, kind="stable")[:top_k]
    return list(zip(labels.tolist(), (scores[labels] / scores.sum()).tolist()))


# An image as the network's input, or the reason why it cannot be read
_Input = Union[np.ndarray, str]


def _predictions(
    infer: Infer, paths: Iterable[str], preprocess: Preprocess, top_k: int, batch_size: int
) -> Iterator[Prediction]:
    batches = ((chunk, [_input(path, preprocess) for path in chunk]) for chunk in _chunks(paths, batch_size))
    steps = ((chunk, inputs, _start(infer, inputs)) for chunk, inputs in batches)
    for chunk, inputs, outputs in one_behind(steps):
        logits = iter(outputs())
        for path, given in zip(chunk, inputs):
            if isinstance(given, str):
                yield Prediction(path, [], given)
            else:
                yield Prediction(path, likeliest(next(logits), top_k, path))


def _chunks(paths: Iterable[str], size: int) -> Iterator[List[str]]:
    iterator = iter(paths)
    return iter(lambda: list(itertools.islice(iterator, size)), [])


def _input(path: str, preprocess: Preprocess) -> _Input:
    try:
        return image_input(path, preprocess)
    except InputError as error:
        return str(error)


def _start(infer: Infer, inputs: Sequence[_Input]) -> Callable[[], Iterable[np.ndarray]]:
    """Start to infer those inputs that are images; return a function that waits for their logits, (K,) each."""
    images = [image for image in inputs if not isinstance(image, str)]
    return infer(np.stack(images)) if images else list
