"""Worker processes that augment batches: `python -m gluon_aff.data.workers`, fed and read through pipes.

They are plain child processes and not `multiprocessing`'s: a fork would copy the state of MXNet's threads, and a
spawned process imports the user's script again. A worker keeps no state, so any of them can take any batch, and it ends
when its standard input does, which is also what happens when its parent is killed.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO, Tuple, cast

import numpy as np

from gluon_aff.data.augmentation import AugmentationDraws, augment_batch
from gluon_aff.errors import TrainingError

Task = Tuple[np.ndarray, AugmentationDraws, bool]


class Worker:
    """One worker process; Ctrl-C does not reach it, so that only its parent answers."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gluon_aff.data.workers"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,
        )
        self._tasks = cast(BinaryIO, self._process.stdin)
        self._answers = cast(BinaryIO, self._process.stdout)

    def augment(self, task: Task) -> np.ndarray:
        """`augment_batch(*task)`, over there.

        Raises:
            TrainingError: the process ended.
        """
        try:
            pickle.dump(task, self._tasks, pickle.HIGHEST_PROTOCOL)
            self._tasks.flush()
            return pickle.load(self._answers)
        # A ValueError comes from the pipes of a worker that failed earlier and was closed.
        except (OSError, EOFError, ValueError, pickle.UnpicklingError) as error:
            raise TrainingError(
                f"a data worker process ended with code {self.close()} (-9 is often a lack of memory): "
                "use fewer workers, or none with -j 0"
            ) from error

    def close(self) -> int:
        """End the process, wait until it is gone and return its exit code."""
        self._answers.close()
        with contextlib.suppress(BrokenPipeError):  # it had ended already, with a task half sent
            self._tasks.close()
        return self._process.wait()


class WorkerPool:
    """Workers that take tasks as they become free, each looked after by a thread."""

    def __init__(self, size: int) -> None:
        self._workers = [Worker() for _ in range(size)]
        self._idle: queue.SimpleQueue = queue.SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(size)

    def submit(self, task: Task) -> Future:
        """Have the next free worker run `augment_batch(*task)`."""
        return self._threads.submit(self._run, task)

    def _run(self, task: Task) -> np.ndarray:
        worker = self._idle.get()
        try:
            return worker.augment(task)
        finally:
            self._idle.put(worker)

    def close(self) -> None:
        """End all workers once they have finished what they were given."""
        self._threads.shutdown()
        for worker in self._workers:
            worker.close()


def serve() -> None:
    """Answer tasks from standard input on standard output until there are no more."""
    # Whatever else is printed in this process must not get between the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        while True:
            task = pickle.load(sys.stdin.buffer)
            pickle.dump(augment_batch(*task), answers, pickle.HIGHEST_PROTOCOL)
            answers.flush()
    except (EOFError, BrokenPipeError, pickle.UnpicklingError):
        os._exit(0)  # the parent is done or gone, and with it the pipe that a normal exit would flush


if __name__ == "__main__":
    serve()
