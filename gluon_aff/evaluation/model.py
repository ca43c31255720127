"""Networks with weights, from Python: `gluon_aff.load`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Tuple

import numpy as np

from gluon_aff.data.preprocessing import image_input, preprocessing
from gluon_aff.evaluation.predict import likeliest
from gluon_aff.evaluation.weights_file import PUBLISHED, LoadedWeights, WeightsRequest, load_weights, output_names
from gluon_aff.weights.card import Card


@dataclass(frozen=True)
class Model:
    """A network with weights, for inference.

    Attributes:
        loaded: the network, on its devices.
        names: of its outputs.
    """

    loaded: LoadedWeights
    names: List[str]

    @property
    def card(self) -> Card:
        """What is known of the network: its name, input size, outputs, labels, data set."""
        return self.loaded.card

    def preprocess(self, path: str) -> np.ndarray:
        """The picture in a file as the network's input, float32 (3, H, W), as its validation images were made.

        Raises:
            InputError: the file cannot be read as an image.
        """
        return image_input(path, preprocessing(self.card.for_cifar, self.card.input_size))

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Logits, float32 (N, K), of images (N, 3, H, W), as `preprocess` makes them."""
        return self.loaded.infer(np.asarray(images, np.float32))()

    def predict(self, path: str, top_k: int = 5) -> List[Tuple[str, float]]:
        """The likeliest classes of the picture in a file, with their softmax scores, 0..1; the likeliest comes first.

        Raises:
            InputError: the file cannot be read as an image.
            GluonAFFError: an output is not finite.
        """
        logits = self.logits(self.preprocess(path)[np.newaxis])[0]
        return [(self.names[label], score) for label, score in likeliest(logits, top_k, path)]


def load(
    weights: str,
    *,
    model: Optional[str] = None,
    labels: Optional[str] = None,
    names: Optional[str] = None,
    engine: Optional[str] = None,
    gpus: str = WeightsRequest.gpus,
    input_size: Optional[int] = None,
    root: str = WeightsRequest.root,
    open_aff: Optional[str] = None,
) -> Model:
    """Load a network with its weights.

    Args:
        weights: name of a model with published weights, such as aff_resnet50, which are downloaded if need be; or the
            path of a `.params` file, or of an `.onnx` file of `gluon-aff export`.
        model: name of the network in a file; what fits it if None.
        labels: fine or superclass, of a CIFAR-100 network whose file does not say so.
        names: file with the names of the classes, one a line; those of the data set if None.
        engine: mxnet, torch or onnxruntime; that of this machine if None.
        gpus: ids, such as '0,1'; the CPU without one.
        input_size: side of ImageNet's images in pixels; the network's own if None.
        root: folder with published weights.
        open_aff: clone of the original repository to take them from ($GLUON_AFF_OPEN_AFF if None).

    Raises:
        InputError: the file, the model, the labels and the engine do not go together.
        GluonAFFError: published weights cannot be had.
    """
    is_file = Path(weights).suffix.lower() in (".params", ".onnx")
    request = WeightsRequest(
        params=weights if is_file else PUBLISHED,
        model=model if is_file else weights,
        labels=labels,
        root=root,
        open_aff=open_aff,
        gpus=gpus,
        input_size=input_size,
        engine=engine,
    )
    loaded = load_weights(request)
    return Model(loaded, output_names(loaded.card, names))
