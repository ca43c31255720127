"""What CIFAR's and segmentation's epochs leave: a line in the log, the best weights, the curve of errors."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Dict, Optional, Tuple

from gluon_aff.engines import Learner, Objective
from gluon_aff.run_names import best_file
from gluon_aff.training.cards import WriteWeights
from gluon_aff.training.checkpoint import RunState
from gluon_aff.training.epoch import StepObserver
from gluon_aff.training.logbook import draw_curve, epoch_line
from gluon_aff.training.run_files import RunFiles
from gluon_aff.weights.card_file import remove_with_card

Scores = Tuple[float, Optional[float]]


@dataclass(frozen=True)
class CurveBookkeeper:
    """`run.Bookkeeper` of scores to be raised, 0..1, each with the nIoU where the recipe segments.

    Attributes:
        files: of the run.
        objective: says what error a metric is.
        name: in the files.
        curve: path of the picture of the errors.
        save_dir: for the best weights; none are written if empty.
        keep_one_best: a better file replaces the one before.
        write_weights: writes a file.
    """

    files: RunFiles
    objective: Objective
    name: str
    curve: str
    save_dir: str
    keep_one_best: bool
    write_weights: WriteWeights

    def begin(self, state: RunState) -> None:
        """Draw the errors so far."""
        if state.errors and self.files.writes:
            draw_curve(state.errors, self.curve)

    def observer(self, state: RunState) -> Optional[StepObserver]:
        """Nothing is told of steps."""
        return None

    def kept(self, state: RunState) -> Optional[str]:
        """Path of the best weights so far."""
        return state.params

    def trained(self, learner: Learner, state: RunState, now: bool) -> None:
        """Nothing is written before the validation."""

    def validated(self, learner: Learner, state: RunState, score: Scores, seconds: float) -> RunState:
        """Write the weights if they are the best, the epoch's line, and the curve."""
        value, niou = score
        if value > state.best:
            superseded = state.params if self.keep_one_best else None
            state = replace(state, best=value, params=self._save_best(learner, value, superseded))
        begun = state.begun
        self.files.log.info(
            epoch_line(state.epoch, begun.metric, value, begun.loss, learner.learning_rate, seconds, niou)
        )
        errors = (*state.errors, (self.objective.error(begun.metric), 1 - value))
        if self.files.writes:
            draw_curve(errors, self.curve)
        return replace(state, errors=errors, best_niou=max(niou or 0.0, state.best_niou))

    def figures(self, state: RunState, score: Scores) -> Dict[str, float]:
        """Metric, score and, where the recipe segments, nIoU."""
        value, niou = score
        return {"train": state.begun.metric, "val": value, **({} if niou is None else {"niou": niou})}

    def _save_best(self, learner: Learner, score: float, superseded: Optional[str]) -> Optional[str]:
        """Write the weights, then remove the file that is `superseded`; return the path."""
        if not self.save_dir or not self.files.writes:
            return None
        path = os.path.join(self.save_dir, f"{best_file(self.name, score)}.params")
        self.write_weights(path, learner.parameters())
        if superseded not in (None, path):
            remove_with_card(str(superseded))  # not there in a run that was killed after this, and goes on from before
        return path
