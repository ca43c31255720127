"""Record the epochs of CIFAR and segmentation runs: a log line, the best weights and the curve of errors."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Dict, Optional, Sequence, Tuple

from gluon_aff.engines import Learner, Objective
from gluon_aff.run_names import best_file
from gluon_aff.training.checkpoint import RunState
from gluon_aff.training.epoch import StepObserver
from gluon_aff.training.logbook import draw_curve, epoch_line
from gluon_aff.training.run_files import RunFiles
from gluon_aff.weights.card_file import remove_with_card

Scores = Tuple[float, Optional[float]]
Errors = Sequence[Tuple[float, float]]


@dataclass(frozen=True)
class CurveBookkeeper:
    """`run.Bookkeeper` for scores in 0..1 of which the highest is best; segmentation adds the nIoU to each.

    Attributes:
        files: files of the run.
        objective: training objective, which turns the training metric into an error for the curve.
    """

    files: RunFiles
    objective: Objective

    def begin(self, state: RunState) -> None:
        """Draw the curve of the epochs before this process, if there are any."""
        self._draw(state.errors)

    def observer(self, state: RunState) -> Optional[StepObserver]:
        """Return None, since these recipes log whole epochs only."""
        return None

    def kept(self, state: RunState) -> Optional[str]:
        """Return the path of the best weights so far, None if there are none."""
        return state.params

    def trained(self, learner: Learner, state: RunState, *, now: bool) -> None:
        """Write nothing, since the log line of an epoch includes its validation."""

    def validated(self, learner: Learner, state: RunState, score: Scores, *, seconds: float) -> RunState:
        """Write the weights if they are the best so far, the epoch's log line and the curve; return the new state."""
        value, niou = score
        if value > state.best:
            state = replace(state, best=value, params=self._save_best(learner, value, superseded=state.params))
        begun = state.begun
        self.files.log.info(
            epoch_line(state.epoch, begun.metric, value, begun.loss, learner.learning_rate, seconds, niou)
        )
        errors = (*state.errors, (self.objective.error(begun.metric), 1 - value))
        self._draw(errors)
        return replace(state, errors=errors, best_niou=max(niou or 0.0, state.best_niou))

    def figures(self, state: RunState, score: Scores) -> Dict[str, float]:
        """Return the training metric, the validation score and, for segmentation, the nIoU."""
        value, niou = score
        return {"train": state.begun.metric, "val": value, **({} if niou is None else {"niou": niou})}

    def _draw(self, errors: Errors) -> None:
        curve = self.files.setup.paths.curve
        if errors and curve and self.files.writes:
            draw_curve(errors, curve)

    def _save_best(self, learner: Learner, score: float, superseded: Optional[str]) -> Optional[str]:
        """Write the weights and return their path; with --keep-one-best, then remove the `superseded` file."""
        settings = self.files.setup.settings
        if not settings.saves or not self.files.writes:
            return None
        path = os.path.join(settings.save_dir, f"{best_file(self.files.setup.paths.name, score)}.params")
        self.files.write_weights(path, learner.parameters())
        if settings.keep_one_best and superseded not in (None, path):
            remove_with_card(str(superseded))  # it may be gone: a run killed after this line continues from before it
        return path
