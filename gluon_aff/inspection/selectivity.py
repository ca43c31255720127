"""Class selectivity index: how much channels are for one class (AFINets, Fig. 4; Morcos et al., arXiv:1803.06959)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Dict, Iterable, Iterator, Mapping, Optional, Sequence

import numpy as np
from tqdm import tqdm

from gluon_aff.data.batches import Batch
from gluon_aff.engines import Channels, Network
from gluon_aff.errors import DataError, GluonAFFError, InputError
from gluon_aff.evaluation.evaluate import class_indices

BINS = 20


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


def default_channels(network: Network, other: Optional[Network] = None, other_layer: str = "") -> Channels:
    """The network's last integrated feature, or else the maps that are averaged for the head.

    Of a plain network beside an AFINet, the `other`: what stands in place of its last integrated feature, or of that
    called `other_layer` (Fig. 4): as many channels, the last ones, of the first convolution in the same block.

    Raises:
        InputError: there is nothing of the kind.
    """
    parameters = network.parameters()
    own, others = _integrated(parameters), _integrated(other.parameters()) if other else {}
    if own:
        return Channels(next(reversed(own)))
    place = other_layer or next(reversed(others), "")
    first = re.sub(r"\.integrate$", ".first", place)
    convolution = f"{first}.0.weight"
    if place in others and convolution in parameters:
        return Channels(first, len(parameters[convolution]) - others[place])
    return Channels(network.pooled_layer())


def _integrated(parameters: Mapping[str, np.ndarray]) -> Dict[str, int]:
    """Layers that integrate features of earlier ones, and their channels."""
    ending = ".score.weight"
    scorers = (name for name in parameters if name.endswith(f".integrate{ending}"))
    return {name[: -len(ending)]: len(parameters[name]) for name in scorers}


def class_means(
    network: Network, channels: Channels, batches: Iterable[Batch], classes: int, total: Optional[int] = None
) -> np.ndarray:
    """Mean of each channel over height, width and the images of each class.

    Args:
        network: (N, 3, H, W) -> (N, outputs), of any floating-point type.
        channels: of a layer whose outputs are 0 or more, (N, C, H, W) or (N, C). Of a layer used
            twice, the last output.
        batches: images (N, 3, H, W) and labels (N,), N any number above 0.
        classes: number of label values.
        total: images, for the progress bar.

    Returns:
        float64 (classes, C); NaN for a class without images.

    Raises:
        DataError: there are no images, or a label is no class.
        InputError: for an unknown layer, channels that it does not have, or an output that is no features or negative.
        GluonAFFError: an output is not finite.
    """
    counts = np.zeros(classes)

    def counted() -> Iterator[Batch]:
        for number, (images, labels) in enumerate(batches):
            counts[:] += np.bincount(class_indices(labels, classes, number), minlength=classes)
            yield images, labels
        if not counts.any():
            raise DataError("there are no images: name a data set that has some")

    with tqdm(
        desc=f"selectivity of {channels.layer}", total=total, leave=False, disable=None, unit="image"
    ) as progress:
        sums, lowest = network.channel_sums(channels, counted(), classes, progress.update)
    _check_values(sums, lowest, channels)
    with np.errstate(invalid="ignore"):
        return sums / counts[:, np.newaxis]


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


def draw_distributions(distributions: Mapping[str, Selectivity], colours: Sequence[str]) -> Any:
    """Matplotlib figure of histograms of the index, one for each colour at most, with their means in the legend."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for (title, selectivity), colour in zip(distributions.items(), colours):
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
