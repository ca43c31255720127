"""`python -m benchmarks gpu`, on rows of no size."""

import csv

import pytest
import torch

from benchmarks import gpu


def test_rates_beside_those_of_the_published_logs(tmp_path, capsys):
    published = {model: gpu.published_rate(model) for model in (*gpu.CIFAR, *gpu.IMAGENET)}
    assert published["aff_resnet50"] == (2163, 4)
    assert published["iaff_resnext50_32x4d"] == (1105, 4)
    assert published["aff_resnet32_cifar100"] == (pytest.approx(50_000 / 16.758, rel=1e-3), 4)
    assert len({(row.model, row.precision) for row in gpu.gpu_rows()}) == 4 * 3 + 3 * 2
    few = [gpu.Row(gpu.RESNET32, 4, "float32", False, images) for images in ("random", "pipeline")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu, "cpu_rows", lambda: iter(few))
        patch.setattr(torch.cuda, "is_available", lambda: False)
        assert gpu.main(["--seconds", "0", "--csv", str(tmp_path / "gpu.csv")]) == 0
    assert "written: " in capsys.readouterr().err
    with open(tmp_path / "gpu.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["images"] for row in rows] == ["random", "pipeline"]
    for row in rows:
        assert float(row["ratio"]) == pytest.approx(float(row["training images/s"]) / published[gpu.RESNET32][0])
        assert float(row["inference images/s"]) > 0
