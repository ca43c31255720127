"""Measure the class selectivity index of channels (AFINets paper, Fig. 4; Morcos et al., arXiv:1803.06959)."""

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
    """Class selectivity of C channels.

    Attributes:
        index: index of each channel, float64 (C,): 0 if the channel responds to all classes alike, 1 if it responds to
            one class only, NaN if it is dead, that is, 0 for every image.
        preferred: label of the class to which each channel responds most, int (C,).
    """

    index: np.ndarray
    preferred: np.ndarray

    @property
    def alive(self) -> np.ndarray:
        """Return the index of the channels that are not dead."""
        return self.index[~np.isnan(self.index)]

    @property
    def mean(self) -> Optional[float]:
        """Return the mean index of the channels that are not dead; None if all are dead."""
        return float(self.alive.mean()) if len(self.alive) else None


def channels_called(text: str) -> Channels:
    """Parse `NAME` or `NAME[BEGIN:END]`, a layer and some of its channels; as in Python, BEGIN or END may be left out.

    Raises:
        InputError: the text has another form.
    """
    found = re.fullmatch(r"([^\[\]]+)(?:\[(\d*):(\d*)\])?", text)
    if not found:
        raise InputError(f"layer {text!r}: write NAME for all of its channels or NAME[BEGIN:END] for some")
    return Channels(found[1], int(found[2] or 0), int(found[3]) if found[3] else None)


def default_channels(network: Network, other: Optional[Network] = None, other_layer: str = "") -> Channels:
    """Return the channels to measure where the user names none.

    For an AFINet these are the last integrated feature; for other networks the maps that are averaged for the head. A
    plain network that is compared with an AFINet, the `other`, has no integrated feature; its channels are those in the
    same place (AFINets paper, Fig. 4): the last ones of the first convolution in the same block, as many as the
    AFINet's feature has.

    Args:
        network: the network to measure.
        other: the network that it is compared with.
        other_layer: layer of the other network; its last integrated feature if empty.

    Raises:
        InputError: the network has no maps that are averaged for the head.
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
    """Return the layers that integrate features of earlier layers, with their numbers of channels."""
    ending = ".score.weight"
    scorers = (name for name in parameters if name.endswith(f".integrate{ending}"))
    return {name[: -len(ending)]: len(parameters[name]) for name in scorers}


def class_means(
    network: Network, channels: Channels, batches: Iterable[Batch], classes: int, total: Optional[int] = None
) -> np.ndarray:
    """Return the mean of each channel over height, width and the images of each class.

    Args:
        network: network (N, 3, H, W) -> (N, outputs) of any floating-point type.
        channels: channels of a layer whose outputs, (N, C, H, W) or (N, C), are 0 or more. If the network uses the
            layer twice, its last output counts.
        batches: images (N, 3, H, W) and labels (N,) of each batch, with any N above 0.
        classes: number of label values.
        total: number of images, for the progress bar.

    Returns:
        float64 (classes, C); NaN for a class without images.

    Raises:
        DataError: there are no images, or a label is not in the range 0 to classes - 1.
        InputError: the layer or the channels do not exist, or the layer's output is not a feature or is negative.
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
    """Compute the class selectivity index, (largest - rest) / (largest + rest), of each channel.

    `largest` is the channel's largest mean over the classes, and `rest` is the mean over the other classes.
    Source: Morcos et al. (arXiv:1803.06959).

    Args:
        means: mean of each channel for each class, 0 or more, (classes, C); NaN for classes without images, which do
            not count.

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
    """Return a Matplotlib figure with a histogram of the index for each title, and the means in the legend.

    There are at most as many histograms as `colours`.
    """
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
            f"outputs of {channels.layer} are not finite: look for damaged weights, or use float32 if the network "
            "computes in float16"
        )
    if lowest < 0:
        raise InputError(
            f"--layer {channels.layer}: it has negative outputs ({lowest:g}), for which there is no selectivity index; "
            "name a layer after a ReLU"
        )
