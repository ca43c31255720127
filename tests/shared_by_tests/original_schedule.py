"""A schedule as the original trained with it: GluonCV's own objects."""

from gluon_aff.gluon.imports import import_gluoncv

LRScheduler, LRSequential = (getattr(import_gluoncv("gluoncv.utils"), name) for name in ("LRScheduler", "LRSequential"))


def original_schedule(schedule):
    def part(mode, steps, **settings):
        return LRScheduler("constant" if steps == 1 else mode, niters=steps, **settings)  # it divides by steps - 1

    after = part(
        schedule.mode,
        schedule.steps_after,
        base_lr=schedule.base,
        target_lr=0,
        power=schedule.power,
        step_iter=[cut * schedule.steps_per_epoch for cut in schedule.cuts],
        step_factor=schedule.factor,
    )
    return LRSequential([part("linear", schedule.warmup_steps, base_lr=0, target_lr=schedule.base), after])
