"""Load a network with its weights in Python: `gluon_aff.load`."""

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
    """A network with weights, ready for inference.

    Attributes:
        loaded: the network on its devices.
        names: a class name for each output.
    """

    loaded: LoadedWeights
    names: List[str]

    @property
    def card(self) -> Card:
        """Return the card of the network: its name, input size, outputs, label set and data set."""
        return self.loaded.card

    def preprocess(self, path: str) -> np.ndarray:
        """Read an image file and prepare it like the validation images, as the network's input, float32 (3, H, W).

        Raises:
            InputError: the file cannot be read as an image.
        """
        return image_input(path, preprocessing(self.card.for_cifar, self.card.input_size))

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Return the logits, float32 (N, K), of images (N, 3, H, W) that `preprocess` has prepared."""
        return self.loaded.infer(np.asarray(images, np.float32))()

    def predict(self, path: str, top_k: int = 5) -> List[Tuple[str, float]]:
        """Predict the class of an image file.

        Args:
            path: image file.
            top_k: number of classes to return.

        Returns:
            Names and softmax scores (0..1) of the `top_k` likeliest classes, the likeliest first.

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
        weights: name of a model with published weights, such as aff_resnet50, which are downloaded if necessary; or the
            path of a `.params` file, or of an `.onnx` file that `gluon-aff export` wrote.
        model: name of the network in a file; the network that fits the file if None.
        labels: fine or superclass, for a CIFAR-100 network whose file does not say which.
        names: text file with one class name in each line; the class names of the weights or their data set if None.
        engine: mxnet, torch or onnxruntime; if None, onnxruntime for an `.onnx` file, else the engine of this machine.
        gpus: GPU ids, such as '0,1'; the CPU computes if there is no GPU.
        input_size: side of ImageNet images in pixels; the network's own if None.
        root: folder with published weights.
        open_aff: clone of the original repository, to take published weights from ($GLUON_AFF_OPEN_AFF if None).

    Raises:
        InputError: the file, the model, the labels and the engine do not fit together.
        GluonAFFError: the published weights are not found and cannot be downloaded.
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
