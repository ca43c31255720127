"""The picture of one or two runs: which quantities it shows, and how the runs are told apart."""

import numpy as np
import pytest

from gluon_aff.results.plots import COLOURS, draw_runs


def columns(epochs, **figures):
    return {"epoch": np.arange(epochs), **{name: np.linspace(*ends, epochs) for name, ends in figures.items()}}


def drawn(figure):
    """Label of the vertical axis, and the points of each line, of each panel."""
    return [(axes.get_ylabel(), [line.get_xydata() for line in axes.lines]) for axes in figure.axes]


def test_panels_have_what_both_runs_have():
    """One logs the loss, the other does not, so that the metric of the training takes its place."""
    this = columns(4, top1_accuracy=(50, 80), train_rmse=(0.1, 0.05), loss=(4, 1), lr=(0.2, 0.1))
    other = columns(6, top1_accuracy=(40, 90), train_rmse=(0.2, 0.02), lr=(0.1, 0.0))
    figure = draw_runs({"mine": this, "published": other})
    found = drawn(figure)
    assert [label for label, _ in found] == ["top-1 accuracy (%)", "train RMSE", "learning rate"]
    for (_, lines), name in zip(found, ("top1_accuracy", "train_rmse", "lr")):
        for line, run in zip(lines, (this, other)):
            np.testing.assert_array_equal(line, np.transpose([run["epoch"], run[name]]))
    for axes in figure.axes:
        assert tuple(line.get_color() for line in axes.lines) == COLOURS
        assert [line.get_linestyle() for line in axes.lines] == ["-", "--"]
        assert all(tick == int(tick) for tick in axes.get_xticks())
    legends = [axes.get_legend() for axes in figure.axes]
    assert [text.get_text() for text in legends[0].get_texts()] == ["mine", "published"]
    assert legends[1:] == [None, None]
    heights = [axes.get_subplotspec().rowspan.start for axes in figure.axes]
    assert heights == [0, 1, 2]


@pytest.mark.parametrize(("epochs", "marker"), [(1, "o"), (2, "None")])
def test_a_single_epoch_is_a_point(epochs, marker):
    figure = draw_runs({"mine": columns(epochs, val_iou=(0.1, 0.2), loss=(1, 0.5))})
    assert [label for label, _ in drawn(figure)] == ["IoU (%)", "loss"]
    assert {line.get_marker() for axes in figure.axes for line in axes.lines} == {marker}
