"""Class selectivity index: how much channels are for one class (AFINets, Fig. 4; Morcos et al., arXiv:1803.06959)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional

import mxnet as mx
import numpy as np
from mxnet import gluon
from mxnet.gluon import HybridBlock
from tqdm import tqdm

from gluon_aff.data.loading import Batch
from gluon_aff.errors import DataError, GluonAFFError, InputError
from gluon_aff.evaluation.evaluate import class_indices
from gluon_aff.evaluation.inference import network_dtype
from gluon_aff.gluon.fusion.integration import AFI
from gluon_aff.inspection.layers import layer_by_layer, layer_called, named_layers, pooled_layer
from gluon_aff.iteration import one_behind
from gluon_aff.results.plots import COLOURS

BINS = 20


@dataclass(frozen=True)
class Channels:
    """Channels `begin` to before `end` of what the layer with this name gives; to its last one if `end` is None."""

    layer: str
    begin: int = 0
    end: Optional[int] = None

    def __str__(self) -> str:
        if not self.begin and self.end is None:
            return self.layer
        return f"{self.layer}[{self.begin}:{'' if self.end is None else self.end}]"


@dataclass(frozen=True)
class Selectivity:
    """Class selectivity of channels.

    Attributes:
        index: float64 (C,), from 0, the same for all classes, to 1, for one class alone; NaN for a dead channel, which
            is 0 for all.
        preferred: label of the class with the largest mean, int (C,).
    """

    index: np.ndarray
    preferred: np.ndarray

    @property
    def alive(self) -> np.ndarray:
        """The index of channels that are not dead."""
        return self.index[~np.isnan(self.index)]

    @property
    def mean(self) -> Optional[float]:
        """Over the channels that are not dead; None without any."""
        return float(self.alive.mean()) if len(self.alive) else None


def channels_called(text: str) -> Channels:
    """`NAME`, or `NAME[BEGIN:END]` with either end left out or not, as in Python.

    Raises:
        InputError: it ends in brackets that hold something else.
    """
    found = re.fullmatch(r"([^\[\]]+)(?:\[(\d*):(\d*)\])?", text)
    if not found:
        raise InputError(f"layer {text!r}: write NAME for all of its channels or NAME[BEGIN:END] for some")
    return Channels(found[1], int(found[2] or 0), int(found[3]) if found[3] else None)


def default_channels(net: HybridBlock, other: Optional[HybridBlock] = None, other_layer: str = "") -> Channels:
    """The network's last integrated feature, or else the maps that are averaged for the head.

    Of a plain network beside an AFINet, the `other`: what stands in place of its last integrated feature, or of that
    called `other_layer` (Fig. 4): as many channels, the last ones, of the first convolution in the same block.

    Raises:
        InputError: there is nothing of the kind.
    """
    own, others = _integrating(net), _integrating(other) if other else {}
    if own:
        return Channels(next(reversed(own)))
    place = other_layer or next(reversed(others), "")
    first = re.sub(r"\.integrate$", ".first", place)
    layers = dict(named_layers(net))
    if place in others and first in layers:
        return Channels(first, layers[first][0].weight.shape[0] - others[place].score.weight.shape[0])
    return Channels(pooled_layer(net))


def _integrating(net: HybridBlock) -> Dict[str, AFI]:
    return {name: layer for name, layer in named_layers(net) if isinstance(layer, AFI)}


def class_means(
    net: HybridBlock,
    channels: Channels,
    batches: Iterable[Batch],
    contexts: List[mx.Context],
    classes: int,
    total: Optional[int] = None,
) -> np.ndarray:
    """Mean of each channel over height, width and the images of each class.

    Args:
        net: initialised network, (N, 3, H, W) -> (N, outputs), of any floating-point type; it stays as it is.
        channels: of a layer whose outputs are 0 or more, (N, C, H, W) or (N, C). Of a layer used
            twice, the last output.
        batches: images (N, 3, H, W) and labels (N,), N any number above 0.
        contexts: devices; each takes an equal slice of a batch, or nearly.
        classes: number of label values.
        total: images, for the progress bar.

    Returns:
        float64 (classes, C); NaN for a class without images.

    Raises:
        DataError: there are no images, or a label is no class.
        InputError: for an unknown layer, channels that it does not have, or an output that is no features or negative.
        GluonAFFError: an output is not finite.
    """
    layer = layer_called(net, channels.layer)
    counts = np.zeros(classes)
    sums: Dict[mx.Context, Any] = {}  # (classes, C) and the lowest value, (1,), which stay on their device
    outputs: List[Any] = []
    hook = layer.register_forward_hook(lambda _, __, output: outputs.append(output))
    dtype = network_dtype(net)

    def steps() -> Iterator[Any]:
        for number, (images, labels) in enumerate(batches):
            counts[:] += np.bincount(class_indices(labels, classes, number), minlength=classes)
            places = contexts[: len(labels)]
            slices = (gluon.utils.split_and_load(array, places, even_split=False) for array in (images, labels))
            for context, part, part_labels in zip(places, *slices):
                net(part.astype(dtype, copy=False))
                values = _checked(outputs, channels).astype("float32", copy=False)
                added = mx.nd.dot(mx.nd.one_hot(part_labels, classes), _per_image(values), transpose_a=True)
                so_far, lowest = sums.get(context, (mx.nd.zeros_like(added), values.min()))
                sums[context] = so_far + added, mx.nd.minimum(lowest, values.min())
                outputs.clear()
            yield len(labels), [lowest for _, lowest in sums.values()]

    try:
        with layer_by_layer(net), tqdm(
            desc=f"selectivity of {channels.layer}", total=total, leave=False, disable=None, unit="image"
        ) as progress:
            for images, under_way in one_behind(steps()):
                for array in under_way:
                    array.wait_to_read()
                progress.update(images)
    finally:
        hook.detach()
    if not sums:
        raise DataError("there are no images: name a data set that has some")
    total_sums = sum(each.asnumpy().astype(np.float64) for each, _ in sums.values())
    _check_values(total_sums, min(float(lowest.asscalar()) for _, lowest in sums.values()), channels)
    with np.errstate(invalid="ignore"):
        return total_sums / counts[:, np.newaxis]


def class_selectivity(means: np.ndarray) -> Selectivity:
    """(largest - rest) / (largest + rest) of each channel's means, rest being the mean of the other classes'.

    Args:
        means: 0 or more, (classes, C); NaN for classes without images, which do not count.

    Raises:
        DataError: fewer than two classes have images.
    """
    seen = np.flatnonzero(~np.isnan(means).any(axis=1))
    if len(seen) < 2:
        raise DataError(f"{len(seen)} class has images: class selectivity compares two or more")
    ordered = np.sort(means[seen], axis=0)
    largest, rest = ordered[-1], ordered[:-1].mean(axis=0)
    with np.errstate(invalid="ignore"):
        index = (largest - rest) / (largest + rest)
    return Selectivity(index, seen[means[seen].argmax(axis=0)])


def draw_distributions(distributions: Mapping[str, Selectivity]) -> Any:
    """Matplotlib figure of histograms of the index, one or two, with their means in the legend."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for (title, selectivity), colour in zip(distributions.items(), COLOURS):
        alive = selectivity.alive
        mean = "all channels dead" if selectivity.mean is None else f"mean {selectivity.mean:.3f}"
        axes.hist(
            alive,
            bins=BINS,
            range=(0, 1),
            weights=np.full(len(alive), 100 / max(len(alive), 1)),
            histtype="stepfilled",
            alpha=0.45,
            color=colour,
            label=f"{title}: {mean}",
        )
        if selectivity.mean is not None:
            axes.axvline(selectivity.mean, color=colour, lw=1.2, ls="--")
    axes.set(xlabel="class selectivity index", ylabel="channels (%)", xlim=(0, 1))
    legend = axes.legend(loc="lower left", bbox_to_anchor=(0, 1), frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def _checked(outputs: List[Any], channels: Channels) -> mx.nd.NDArray:
    """The chosen channels of a layer's last output.

    Raises:
        InputError: there is none, or it has no such channels.
    """
    output = outputs[-1] if outputs else None
    if not isinstance(output, mx.nd.NDArray) or output.ndim not in (2, 4):
        raise InputError(f"--layer {channels.layer}: its output is no feature; name a convolution, a ReLU or a stage")
    end = output.shape[1] if channels.end is None else channels.end
    if not channels.begin < end <= output.shape[1]:
        raise InputError(f"--layer {channels}: the layer has channels 0 to {output.shape[1] - 1}")
    return mx.nd.slice_axis(output, axis=1, begin=channels.begin, end=end)


def _per_image(values: mx.nd.NDArray) -> mx.nd.NDArray:
    """(N, C, H, W) or (N, C) -> (N, C)."""
    return values.mean(axis=(2, 3)) if values.ndim == 4 else values


def _check_values(sums: np.ndarray, lowest: float, channels: Channels) -> None:
    if not np.isfinite(sums).all():
        raise GluonAFFError(
            f"outputs of {channels.layer} are not finite: look for damaged weights, or use float32 if the network is "
            "of type float16"
        )
    if lowest < 0:
        raise InputError(
            f"--layer {channels.layer}: it has negative outputs ({lowest:g}), of which there is no selectivity index; "
            "name a layer behind a ReLU"
        )
