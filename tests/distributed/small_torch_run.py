"""Steps of a small network, alone or as a worker: `small_torch_run.py FOLDER [die|tell]`.

Writes FOLDER/RANK.npz: parameters, momentum and figures; with `tell` what the workers tell each other instead. With
`die` worker 1 kills itself before the third step, once.
"""

import gc
import os
import signal
import sys
from pathlib import Path

import numpy as np

from gluon_aff.engines import Classification, Devices, LearnerSettings, Optimizer, Start
from gluon_aff.models import Architecture
from gluon_aff.pytorch.cluster import join_cluster, leave_cluster
from gluon_aff.pytorch.learner import learner

GLOBAL_BATCH = 8
STEPS = 4
NUMBERS = (-0.0, 1e-45, float("inf"), float("nan"))
# Addition and no context of pooled maps: BatchNorm, which sees a worker's images alone, is all that may differ
NETWORK = Architecture("small", "cifar_resnet", {"askc_type": "Add", "blocks": 1, "channel_times": 1, "classes": 4}, 32)


def images_of(step):
    """The global batch of a step: 8 images, of which the second half repeats the first, and labels."""
    random = np.random.RandomState(step)
    images, labels = random.normal(size=(GLOBAL_BATCH // 2, 3, 32, 32)), random.randint(0, 4, GLOBAL_BATCH // 2)
    return np.tile(images, (2, 1, 1, 1)).astype("float32"), np.tile(labels, 2).astype("float32")


def small_learner(cluster):
    settings = LearnerSettings(
        NETWORK,
        (GLOBAL_BATCH // cluster.size, 3, 32, 32),
        Classification(4),
        Optimizer("nag", 0.05, 1e-3, 0.9),
        seed=7 + cluster.rank,  # of which worker 0's counts
        dtype="float64",
        start=Start(),
    )
    return learner(settings, Devices(), cluster)


def train(cluster, folder, dies):
    trained = small_learner(cluster)
    figures = []
    for number in range(STEPS):
        if dies and cluster.rank == 1 and number == 2 and not (folder / "died").exists():
            (folder / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        half = slice(cluster.rank * GLOBAL_BATCH // cluster.size, (cluster.rank + 1) * GLOBAL_BATCH // cluster.size)
        step = trained.step(*(array[half] for array in images_of(number)), 1.0, cluster.rank == 1 and number == 3)()
        figures.append((step.metric, step.loss, step.asked_to_stop))
    assert trained.end_epoch()
    # PyTorch's compiler, which a second is spent to import; its parallel training needs it
    assert cluster.size > 1 or "torch._dynamo" not in sys.modules
    state = trained.state()
    momentum = {f"momentum {name}": array for name, array in state.optimizer.items()}
    np.savez(folder / f"{cluster.rank}.npz", figures=np.array(figures), **state.parameters, **momentum)


def after_a_step(cluster, step):
    """Parameters after one step on the images of that number."""
    trained = small_learner(cluster)
    trained.step(*images_of(step), 1.0, False)()
    return {name: array for name, array in trained.parameters().items() if "running_" not in name}


def tell(cluster, folder):
    told = {"sum": cluster.sum([cluster.rank + 1.0, 0.5]), "size": cluster.size, "local_size": cluster.local_size}
    for name, array in {
        "int64": np.array([2**62 + 1 + cluster.rank, -1]),
        "scalar": np.array(5 + cluster.rank),
        "float32": np.array(NUMBERS, np.float32) if cluster.rank == 0 else np.ones(4, np.float32),
        "empty": np.zeros((0, 3)),
    }.items():
        told[name] = cluster.broadcast(array)
    trained = small_learner(cluster)
    kept = trained.net.state_dict()
    for name in ("features.0.running_mean", "features.0.bias", "features.1.weight"):
        kept[name] += cluster.rank  # the last one is trained, and stays each worker's own
    trained.end_epoch()
    stepped = {f"stepped {name}": array for name, array in after_a_step(cluster, step=cluster.rank).items()}
    arrays = {name: array.numpy() for name, array in kept.items()}
    np.savez(folder / f"{cluster.rank}.npz", **told, **arrays, **stepped)


def main(folder, what=""):
    gc.disable()  # as if the collector had not come round before the worker leaves
    cluster = join_cluster("dist_sync" if "RANK" in os.environ else "device")
    if what == "tell":
        tell(cluster, Path(folder))
    else:
        train(cluster, Path(folder), what == "die")
    leave_cluster()
    threads = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    assert not [name for name in threads if "gloo" in name]


if __name__ == "__main__":
    main(*sys.argv[1:])
