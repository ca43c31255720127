"""A run's figures for TensorBoard, beside the log that has them all."""

from __future__ import annotations

import contextlib
from typing import Callable, Iterator, Mapping, Optional

from gluon_aff.errors import GluonAFFError
from gluon_aff.extras import import_extra

# Is told the number of an epoch and its figures by name.
Board = Callable[[int, Mapping[str, float]], None]


@contextlib.contextmanager
def open_board(folder: Optional[str], epoch: int) -> Iterator[Board]:
    """Yield what writes figures as scalars into `folder`, from `epoch` on; nothing is written if it is None.

    What the folder has of that epoch and later ones, from a run that was killed, TensorBoard no longer shows.

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
        raise GluonAFFError(f"--tensorboard {folder} cannot be written ({error.strerror}): name another") from None

    def write(epoch: int, figures: Mapping[str, float]) -> None:
        for name, figure in figures.items():
            writer.add_scalar(name, figure, epoch)
        writer.flush()

    with contextlib.closing(writer):
        yield write
