"""Write a run's figures for TensorBoard; the log has them, too."""

from __future__ import annotations

import contextlib
from typing import Callable, Iterator, Mapping, Optional

from gluon_aff.errors import GluonAFFError
from gluon_aff.extras import import_extra

# A function that takes the number of an epoch and its figures by name.
Board = Callable[[int, Mapping[str, float]], None]


@contextlib.contextmanager
def open_board(folder: Optional[str], epoch: int) -> Iterator[Board]:
    """Yield a function that writes the figures of an epoch into `folder` as scalars; None writes nothing.

    TensorBoard hides what `folder` already holds of `epoch` and later ones, which a killed run may have written.

    Raises:
        InputError: tensorboardX is not installed.
        GluonAFFError: the folder cannot be written.
    """
    if not folder:
        yield lambda epoch, figures: None
        return
    tensorboard = import_extra("tensorboardX")
    try:
        writer = tensorboard.SummaryWriter(folder, purge_step=epoch)
    except OSError as error:
        raise GluonAFFError(f"--tensorboard {folder} cannot be written ({error.strerror}): name another one") from None

    def write(epoch: int, figures: Mapping[str, float]) -> None:
        for name, figure in figures.items():
            writer.add_scalar(name, figure, epoch)
        writer.flush()

    with contextlib.closing(writer):
        yield write
