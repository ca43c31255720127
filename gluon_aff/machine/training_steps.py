"""Check that an engine trains on this machine, by one step with a known result on the CPU and on each GPU."""

from __future__ import annotations

from typing import Callable, Iterable, List

from gluon_aff.machine.children import ask
from gluon_aff.machine.findings import Finding, mend, ok

LOSS_AFTER_STEP = 0.6404  # loss after the step of the probe `training_step`, under either engine
STEPS = {"mxnet": "training step", "torch": "PyTorch step"}  # names of the checks
Remedy = Callable[[str, str], str]


def check_steps(engine: str, gpus: Iterable[int], remedy: Remedy) -> List[Finding]:
    """Try a step on the CPU and on each of the GPUs, and return a finding for each.

    Args:
        engine: mxnet or torch.
        gpus: numbers of the GPUs on which the engine can run.
        remedy: function that returns what to do, given the device, cpu or gpu, and the problem, which is empty if the
            step worked but gave another loss.
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
    if not abs(after - LOSS_AFTER_STEP) < 0.01:  # smaller differences are rounding, for example by TF32 on newer GPUs
        return mend(check, f"{said}, which should be {LOSS_AFTER_STEP}", remedy(device, ""))
    return ok(check, said)
