"""Whether an engine trains here: one step on the CPU and on each GPU, whose outcome is known."""

from __future__ import annotations

from typing import Callable, Iterable, List

from gluon_aff.machine.children import ask
from gluon_aff.machine.findings import Finding, mend, ok

LOSS_AFTER_STEP = 0.6404  # of the probe `training_step`, under either engine
STEPS = {"mxnet": "training step", "torch": "PyTorch step"}  # names of the checks
Remedy = Callable[[str, str], str]


def check_steps(engine: str, gpus: Iterable[int], remedy: Remedy) -> List[Finding]:
    """A finding for the CPU and for each of the GPUs.

    Args:
        engine: mxnet or torch.
        gpus: numbers of those that it can run on.
        remedy: what to do, given the device, cpu or gpu, and the problem; the problem is empty where the step gave
            another loss.
    """
    return [
        _step(engine, "CPU", "cpu", 0, remedy),
        *(_step(engine, f"GPU {each}", "gpu", each, remedy) for each in gpus),
    ]


def _step(engine: str, name: str, device: str, number: int, remedy: Remedy) -> Finding:
    check, answer = STEPS[engine], ask("training_step", engine, device, number)
    if answer.problem:
        return mend(check, f"{name}: {answer.problem}", remedy(device, answer.problem))
    before, after, seconds = (answer.value[key] for key in ("before", "after", "seconds"))
    said = f"{name}: loss from {before:.4f} to {after:.4f} in {seconds:.2f} s"
    if not abs(after - LOSS_AFTER_STEP) < 0.01:  # less than that is rounding, TF32's on newer GPUs included
        return mend(check, f"{said}, which should be {LOSS_AFTER_STEP}", remedy(device, ""))
    return ok(check, said)
