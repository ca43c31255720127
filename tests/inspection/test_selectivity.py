"""Names of channels, and pictures of their selectivity."""

import numpy as np
import pytest

from gluon_aff.engines import Channels
from gluon_aff.errors import InputError
from gluon_aff.inspection.selectivity import Selectivity, channels_called, draw_distributions


@pytest.mark.parametrize(
    ("text", "channels"),
    [
        ("a.b", Channels("a.b")),
        ("a.b[3:]", Channels("a.b", 3)),
        ("a[2:5]", Channels("a", 2, 5)),
        ("a[0:7]", Channels("a", 0, 7)),
    ],
)
def test_names_of_channels(text, channels):
    assert channels_called(text) == channels
    assert str(channels) == text


def test_left_out_ends():
    assert channels_called("a[:7]") == Channels("a", 0, 7)
    assert channels_called("a[:]") == Channels("a")


@pytest.mark.parametrize("text", ["", "a[", "a[3]", "a[-1:]", "[2:3]", "a[1:2][3:4]"])
def test_names_that_are_none(text):
    with pytest.raises(InputError, match=r"write NAME for all of its channels or NAME\[BEGIN:END\]"):
        channels_called(text)


def test_histograms_are_shares_and_the_legend_has_the_means():
    first = Selectivity(np.array([0.1, 0.12, 0.9, np.nan]), np.zeros(4, int))
    dead = Selectivity(np.array([np.nan]), np.zeros(1, int))
    (axes,) = draw_distributions({"A, $x$": first, "B": dead}, ("blue", "red")).axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["A, $x$: mean 0.373", "B: all channels dead"]
    points = axes.patches[0].get_xy()
    heights = {round(x, 2): y for x, y in points if y}
    assert max(heights.values()) == pytest.approx(200 / 3)
    assert sorted(set(np.round(list(heights.values()), 3))) == [33.333, 66.667]
