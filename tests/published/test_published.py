"""The published records agree with the figures they stand for, and with the papers."""

import subprocess
import sys

import numpy as np
import pytest

from gluon_aff.published import (
    chain,
    curve,
    paper_tables,
    published_runs,
    published_weights,
    top1_accuracy,
    weights_with_hash,
)
from gluon_aff.results.text import published_overview, weights_text

RUNS = published_runs()


@pytest.mark.parametrize("name", RUNS)
def test_best_and_last_figures_are_those_of_the_curve(name):
    run = RUNS[name]
    columns = curve(run)
    accuracy = top1_accuracy(columns)
    assert len(columns["epoch"]) == run.epochs
    assert columns["epoch"][accuracy.argmax()] == run.best["epoch"]
    assert accuracy.max() == pytest.approx(top1_accuracy(run.best))
    assert accuracy[-1] == pytest.approx(top1_accuracy(run.final))
    assert run.labels in ("fine", "superclass", "cifar10", "imagenet")


def test_every_run_that_was_resumed_names_where_it_started():
    for run in RUNS.values():
        if "weights only" in run.description:
            parent = RUNS[run.parent]
            started_from = run.settings["resume_from"].rsplit("/", 1)[1]
            # file names hold the first of two validations: run 1 of ResNeXt-38 is named 0.9066 and logs 0.9065
            assert float(started_from[:6]) == pytest.approx(top1_accuracy(parent.best), abs=1.01e-4)
        else:
            assert run.parent is None


def test_chain_of_the_best_superclass_result():
    """logs/README.md: run 1 (90.91 %), run 2 (91.47 %), run 3 (91.84 %)."""
    links = chain(RUNS["aff_resnext47_32x4d_superclass_run3"])
    assert [round(100 * link.best["val_acc"], 2) for link in links] == [90.91, 91.47, 91.84]
    assert chain(RUNS["aff_resnet50"]) == [RUNS["aff_resnet50"]]


def test_weights_bear_their_figure_in_their_name():
    assert len(published_weights()) == 23
    for weights in published_weights():
        named = float(weights.file_name[:6])
        error = named if weights.labels == "imagenet" else 1 - named
        assert weights.error == pytest.approx(100 * error, abs=0.0051)
        assert weights_with_hash(weights.git_blob_sha1) == weights
        assert " " not in weights.url
    assert weights_with_hash("0" * 40) is None


def test_weights_whose_logs_were_not_published():
    without = [weights for weights in published_weights() if weights.run is None]
    assert [(weights.git_blob_sha1[:8], weights.error, weights.epoch) for weights in without] == [
        ("50773e21", 9.73, None),
        ("8b5b81ac", 9.84, None),
    ]
    for weights in without:
        assert "0.9" in weights_text(weights)
        assert "None" not in weights_text(weights)
    assert "None" not in published_overview()


def test_readme_errors_are_the_best_epochs_of_the_head_logs():
    """README at the last commit: 20.3, 20.2 and 19.78 % for the ImageNet networks."""
    rows = paper_tables()["readme_imagenet"].rows
    for model, name, digits in (
        ("aff_resnet50", "AFF-ResNet-50", 1),
        ("iaff_resnet50", "iAFF-ResNet-50", 1),
        ("iaff_resnext50_32x4d", "iAFF-ResNeXt-50-32x4d", 2),
    ):
        assert round(100 * RUNS[model].best["err_top1"], digits) == rows[name][0]


def test_table_3_agrees_with_the_ablation_logs():
    rows = paper_tables()["aff_table3_context_scale"].rows
    for run, row in (
        ("global_global", "Global + Global"),
        ("local_local", "Local + Local"),
        ("global_local", "Global + Local"),
    ):
        accuracy = top1_accuracy(RUNS[f"ablation_resnet50_{run}"].best)
        assert rows[row][-1] == pytest.approx(accuracy, abs=1e-3)


def test_tables_are_rectangular():
    for table in paper_tables().values():
        assert {len(figures) for figures in table.rows.values()} == {len(table.columns)}
        assert table.source


def test_no_column_is_empty():
    for run in RUNS.values():
        for name, column in curve(run).items():
            assert np.isfinite(column).any(), name


def test_needs_no_mxnet():
    code = "import sys, gluon_aff.published, gluon_aff.results.report, gluon_aff.cli; sys.exit('mxnet' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
