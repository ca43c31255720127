"""Record the epochs of ImageNet runs: log lines, the weights of the lowest error and periodic weights."""

from __future__ import annotations

import contextlib
import glob
import os
import time
from dataclasses import dataclass, replace
from typing import Dict, Optional, Tuple

from gluon_aff.engines import Learner
from gluon_aff.run_names import best_file, best_in, periodic_file
from gluon_aff.settings.imagenet import ImageNetSettings
from gluon_aff.training.checkpoint import RunState
from gluon_aff.training.epoch import StepObserver
from gluon_aff.training.logbook import batch_line, speed_line, training_line, validation_line
from gluon_aff.training.run_files import RunFiles
from gluon_aff.weights.card_file import remove_with_card, states_path

Errors = Tuple[float, float]


@dataclass(frozen=True)
class ImageNetBookkeeper:
    """`run.Bookkeeper` for top-1 and top-5 errors in 0..1.

    Attributes:
        files: files of the run.
        steps: number of steps in an epoch.
        earlier_params: path of the best weights of the epochs before `--resume-epoch`, None if there are none.
    """

    files: RunFiles
    steps: int
    earlier_params: Optional[str]

    @property
    def settings(self) -> ImageNetSettings:
        """Return the settings of the run."""
        return self.files.setup.settings

    def begin(self, state: RunState) -> None:
        """Write nothing, since there is no curve to draw."""

    def observer(self, state: RunState) -> Optional[StepObserver]:
        """Return a function that writes a log line every `log_interval` steps."""
        interval, epoch = self.settings.log_interval, state.epoch
        last, last_step = time.monotonic(), state.begun.steps - 1

        def observe(step: int, metric: float, rate: float) -> None:
            nonlocal last, last_step
            if interval and (step + 1) % interval == 0:
                now = time.monotonic()
                speed = self.files.setup.global_batch * (step - last_step) / (now - last)
                self.files.log.info(batch_line(epoch, step, speed, self._metric_name, metric, rate))
                last, last_step = now, step

        return observe

    def kept(self, state: RunState) -> Optional[str]:
        """Return the path of the best weights so far, None if there are none."""
        return state.params or self.earlier_params

    def trained(self, learner: Learner, state: RunState, *, now: bool) -> None:
        """Log the training metric, and write the periodic weights every `save_frequency` epochs and after the last."""
        if now:
            self.files.log.info(training_line(state.epoch, self._metric_name, state.begun.metric))
        every = self.settings.save_frequency
        last = state.epoch == self.settings.num_epochs - 1
        if last or (every and (state.epoch + 1) % every == 0):
            self._save(learner, periodic_file(self.files.setup.paths.name, state.epoch))

    def validated(self, learner: Learner, state: RunState, score: Errors, *, seconds: float) -> RunState:
        """Log the speed and the errors, write the weights if they are the best so far, and return the new state."""
        epoch, (error, top5_error) = state.epoch, score
        speed = self.files.setup.global_batch * self.steps / state.begun.seconds
        self.files.log.info(speed_line(epoch, speed, seconds))
        self.files.log.info(validation_line(epoch, error, top5_error))
        if error >= state.best:
            return state
        params = self._save(learner, best_file(self.files.setup.paths.name, error, epoch))
        if self.settings.keep_one_best and params and state.params:
            _remove(state.params)
        return replace(state, best=error, params=params)

    def figures(self, state: RunState, score: Errors) -> Dict[str, float]:
        """Return the training metric and the validation errors."""
        error, top5_error = score
        return {self._metric_name: state.begun.metric, "err-top1": error, "err-top5": top5_error}

    @property
    def _metric_name(self) -> str:
        return "rmse" if self.settings.mixup else "accuracy"

    def _save(self, learner: Learner, name: str) -> Optional[str]:
        """Write `{name}.params` and `{name}.states`; return the path of the weights, None if none are written here."""
        if not self.settings.saves or not self.files.writes:
            return None
        path = os.path.join(self.settings.save_dir, f"{name}.params")
        self.files.write_weights(path, learner.parameters(), write_states=learner.save_states)
        return path


def best_error(settings: ImageNetSettings, name: str) -> Tuple[float, Optional[str]]:
    """Find the best weights that the run wrote before `--resume-epoch`, by the names of the files in `--save-dir`.

    Args:
        settings: settings of the run.
        name: the part that the names of the run's files have in common.

    Returns:
        Their top-1 error in 0..1 and their path; 1 and None if there are none.
    """
    paths = glob.glob(os.path.join(glob.escape(settings.save_dir), "*.params"))
    named = ((best_in(os.path.basename(path), name), path) for path in paths)
    earlier = ((found[0], path) for found, path in named if found and found[1] < settings.resume_epoch)
    return min(earlier, default=(1.0, None))


def _remove(params: str) -> None:
    remove_with_card(params)
    with contextlib.suppress(FileNotFoundError):
        os.remove(states_path(params))
