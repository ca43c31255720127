"""Draw the errors of the networks over their numbers of parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Iterable, List, Sequence, Tuple

from gluon_aff.models import model_record
from gluon_aff.published import paper_tables, published_weights
from tools.pictures.theme import LARGE, NORMAL, SMALL, Theme, colour_axes, new_figure


@dataclass(frozen=True)
class Network:
    """Holds a network in the picture of the errors.

    Attributes:
        name: name of the network.
        parameters: number of trainable parameters in millions.
        error: top-1 error in percent.
    """

    name: str
    parameters: float
    error: float


@dataclass(frozen=True)
class Family:
    """Holds networks that are drawn in the same style.

    Attributes:
        legend: text in the legend.
        networks: networks to mark.
        joined: groups of networks to join by a line, each a plain network followed by its variants.
    """

    legend: str
    networks: Sequence[Network]
    joined: Sequence[Sequence[Network]] = ()


def imagenet_families() -> List[Family]:
    """Return the families of ImageNet networks.

    They are the networks that the papers compare with, the AFINets, and the networks with published weights.
    """
    first, second = paper_tables()["aff_table5_imagenet"], paper_tables()["afi_table5_imagenet"]
    compared = [Network(name, *reversed(row)) for name, row in first.rows.items() if "AFF" not in name]
    rows = {name: Network(name, row[0], round(100 - row[2], 2)) for name, row in second.rows.items()}
    compared += [network for name, network in rows.items() if not name.startswith("AFI")]
    return [
        Family("others, as the papers quote them", compared),
        _afinets(rows, ("ResNet-50", "ResNet-152")),
        Family("AFF and iAFF, published weights", _published("imagenet")),
    ]


def cifar100_families() -> List[Family]:
    """Return the families of CIFAR-100 networks, with those for 20 superclasses apart, since that is another task."""
    first, second = paper_tables()["readme_first_release_cifar100"], paper_tables()["afi_table4_cifar100"]
    compared = [
        Network(name, row[1], round(100 - row[0], 2)) for name, row in first.rows.items() if not name.startswith("AFF")
    ]
    rows = {name: Network(name, _millions(row[1]), round(100 - row[0], 2)) for name, row in second.rows.items()}
    hosts = [name for name in rows if not name.startswith("AFI")]
    return [
        Family("others, as the papers quote them", compared + [rows[host] for host in hosts]),
        _afinets(rows, hosts),
        Family("AFF, published weights", _published("fine")),
        Family("AFF, published weights, 20 superclasses", _published("superclass")),
    ]


def _published(labels: str) -> List[Network]:
    """Return the networks of this package whose weights are published for `labels`."""
    known = [weights for weights in published_weights() if weights.labels == labels and weights.release == "head"]
    records = [model_record(weights.model) for weights in known]
    return [
        Network(record.title, (record.trainable or 0) / 1e6, weights.error) for record, weights in zip(records, known)
    ]


def _afinets(rows: Dict[str, Network], hosts: Iterable[str]) -> Family:
    """Return the AFINets of a table of the second paper, each joined with the plain network that it extends."""
    joined = [[rows[name] for name in (host, f"AFI-{host}", f"AFI-{host}-B") if name in rows] for host in hosts]
    return Family(
        "AFINets: AFI, and AFI-B with more parameters",
        [network for row in joined for network in row[1:]],
        joined,
    )


def _millions(text: str) -> float:
    """Return a number of parameters in millions, from text such as `472.76K` or `1.74M` in the paper."""
    return float(text[:-1]) / {"K": 1000, "M": 1}[text[-1]]


SHORT_NAMES = {
    "Efficient-Channel-Attention-Net-101": "ECA-Net-101",
    "Attention-Augmented-ResNet-101": "AA-ResNet-101",
    "Gather-Excite-theta+-ResNet-101": "GE-θ+-ResNet-101",
    "Local-Importance-Pooling-ResNet-101": "LIP-ResNet-101",
    "Attention-Augmented-Wide-ResNet-28-10": "AA-Wide-ResNet-28-10",
    "PyramidNet-272-alpha-200": "PyramidNet-272",
    "AutoAugment+PyramidNet+ShakeDrop": "PyramidNet, AutoAugment, ShakeDrop",
    "ResNeXt-29(32x4d)": "ResNeXt-29-32x4d",
}
# Positions of names: offset from the mark to the right and upwards in points, and horizontal alignment. `RIGHT` is the
# default, and `PLACES` has the names that would overlap something there.
RIGHT = (8, 0, "left")
PLACES = {
    "AFF-ResNet-50": (-4, 14, "center"),
    "AFF-ResNeXt-50-32x4d": (-25, -15, "center"),
    "ECA-Net-101": (-7, 0, "right"),
    "LIP-ResNet-101": (0, -14, "center"),
    "SE-ResNet-50": (0, -14, "center"),
    "SE-ResNet-152": (-7, 0, "right"),
    "ResNet-32": (6, 9, "left"),
    "ResNeXt-29-32x4d": (6, 7, "left"),
    "MobileNetV2": (6, 7, "left"),
    "SKNet-29": (-7, 0, "right"),
    "AA-Wide-ResNet-28-10": (-7, 1, "right"),
    "SENet-29": (8, -3, "left"),
    "PyramidNet, AutoAugment, ShakeDrop": (-7, -1, "right"),
    "AFF-ResNet-32, 20 superclasses": (-9, 6, "right"),
    "AFF-ResNeXt-38-32x4d, 20 superclasses": (-9, -4, "right"),
}


def draw_errors(theme: Theme) -> Any:
    """Draw the top-1 errors over the trainable parameters, for ImageNet at the top and CIFAR-100 at the bottom."""
    from matplotlib.ticker import NullLocator

    figure = new_figure(800)
    imagenet = figure.add_axes((0.07, 0.56, 0.92, 0.405), xlim=(20, 72), ylim=(19.3, 25.2))
    _draw_panel(imagenet, theme, "ImageNet", imagenet_families(), (0.42, 0.8))
    cifar = figure.add_axes((0.07, 0.06, 0.92, 0.405), xscale="log", xlim=(0.3, 65), ylim=(7, 30.5))
    _draw_panel(cifar, theme, "CIFAR-100", cifar100_families(), (0, 0.21))
    cifar.xaxis.set_minor_locator(NullLocator())
    ticks = (0.5, 1, 2, 5, 10, 20, 50)
    cifar.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    return figure


def _draw_panel(axes: Any, theme: Theme, title: str, families: Sequence[Family], legend: Tuple[float, float]) -> None:
    for family in families:
        look = _look(theme, family.legend)
        for row in family.joined:
            _plot(axes, row, color=look["color"], lw=1, alpha=0.7, zorder=1)
        _plot(axes, family.networks, ls="", label=family.legend, **look)
        for network in family.networks:
            if not family.joined:
                _name(axes, network, look["color"], ", 20 superclasses" if look.get("mfc") else "")
    axes.set_title(title, loc="left", fontsize=LARGE, weight="bold", color=theme.ink)
    axes.set_xlabel("trainable parameters (millions)", fontsize=NORMAL)
    axes.set_ylabel("top-1 error (%)", fontsize=NORMAL)
    axes.tick_params(labelsize=SMALL)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=SMALL, labelcolor=theme.ink, framealpha=0, loc=legend)
    colour_axes(axes, theme)


def _look(theme: Theme, legend: str) -> Dict[str, Any]:
    """Return the style of a family's marks; marks of different colours also have different shapes."""
    if legend.startswith("others"):
        return {"marker": "s", "ms": 5.5, "color": theme.faint}
    if legend.startswith("AFINets"):
        return {"marker": "D", "ms": 6, "color": theme.green}
    return {"marker": "o", "ms": 9, "color": theme.blue, **({"mfc": "none", "mew": 2} if "20" in legend else {})}


def _plot(axes: Any, networks: Sequence[Network], **style: Any) -> None:
    axes.plot([network.parameters for network in networks], [network.error for network in networks], **style)


def _name(axes: Any, network: Network, colour: str, task: str) -> None:
    name = SHORT_NAMES.get(network.name, network.name)
    right, up, anchor = PLACES.get(name + task, RIGHT)
    place = {"xytext": (right, up), "textcoords": "offset points", "ha": anchor, "va": "center"}
    axes.annotate(name, (network.parameters, network.error), color=colour, fontsize=SMALL, **place)
