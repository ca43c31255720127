"""Learning-rate schedules of the original commands."""

from __future__ import annotations

from typing import Any, List, Sequence

from gluon_aff.errors import InputError


def decay_epochs(listed: str, period: int, num_epochs: int, warmup_epochs: int) -> List[int]:
    """Epochs at which the rate is cut: `listed` (comma-separated), or every `period` epochs if that is not 0.

    All are shifted by -warmup_epochs, as the original does even where there is no warm-up (train_cifar.py 130-135):
    300 means 290 by default, and the published logs show it.

    Raises:
        InputError: if `listed` is no list of integers.
    """
    if period > 0:
        epochs = list(range(period, num_epochs, period))
    else:
        try:
            epochs = [int(epoch) for epoch in listed.split(",") if epoch.strip()]
        except ValueError:
            raise InputError(f"--lr-decay-epoch {listed!r} is not a list of epochs such as 300,450") from None
    return [epoch - warmup_epochs for epoch in epochs]


def step_rate(base: float, factor: float, cuts: Sequence[int], epoch: int) -> float:
    """`base` times `factor` for each cut up to `epoch`."""
    return base * factor ** sum(cut <= epoch for cut in cuts)


def warmup_schedule(
    mode: str,
    base: float,
    warmup_epochs: int,
    num_epochs: int,
    steps_per_epoch: int,
    cuts: Sequence[int] = (),
    factor: float = 0.1,
    power: float = 2,
) -> Any:
    """GluonCV scheduler per step: linear from 0 to `base` over the warm-up, then by `mode`.

    Args:
        mode: cosine (a half cosine to 0), poly (to 0 by `power`) or step (times `factor` at each cut).
        base: learning rate after the warm-up.
        warmup_epochs: length of the warm-up.
        num_epochs: length of both parts.
        steps_per_epoch: batches in an epoch.
        cuts: epochs of `step`, counted from the end of the warm-up.
        factor: of `step`.
        power: of `poly`.
    """
    from gluoncv.utils import LRScheduler, LRSequential

    def part(mode: str, epochs: int, **settings: Any) -> Any:
        steps = max(epochs, 0) * steps_per_epoch
        # GluonCV divides by steps - 1
        return LRScheduler("constant" if steps == 1 else mode, niters=steps, **settings)

    step_iter = [cut * steps_per_epoch for cut in cuts]
    return LRSequential(
        [
            part("linear", warmup_epochs, base_lr=0, target_lr=base),
            part(
                mode,
                num_epochs - warmup_epochs,
                base_lr=base,
                target_lr=0,
                power=power,
                step_iter=step_iter,
                step_factor=factor,
            ),
        ]
    )
