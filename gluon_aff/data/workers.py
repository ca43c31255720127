"""Worker processes that make batches and exchange them with their parent through pipes.

They are plain child processes, not `multiprocessing`'s: a fork would copy the state of MXNet's threads, and a spawned
process would import the user's script again. A worker first receives the function to apply, so that any worker can take
any batch. It ends when its standard input is closed, which also happens when its parent is killed.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, BinaryIO, Callable, Tuple, cast

from gluon_aff.errors import GluonAFFError, TrainingError
from gluon_aff.interpreter import python_command

Work = Callable[..., Any]
MakeWork = Callable[[], Work]


class Worker:
    """One worker process; Ctrl-C does not reach it, so that only its parent reacts.

    Args:
        make_work: function that the worker calls once; it returns the function to apply to each task. It must be
            picklable.
    """

    def __init__(self, make_work: MakeWork) -> None:
        self._process = subprocess.Popen(
            python_command("from gluon_aff.data.workers import serve; serve()"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._tasks = cast(BinaryIO, self._process.stdin)
        self._answers = cast(BinaryIO, self._process.stdout)
        pickle.dump(make_work, self._tasks, pickle.HIGHEST_PROTOCOL)  # sent with the first task

    def run(self, task: Tuple[Any, ...]) -> Any:
        """Compute `work(*task)` in the worker and return the result.

        Raises:
            GluonAFFError: the work raised it in the worker.
            TrainingError: the worker process has ended.
        """
        try:
            pickle.dump(task, self._tasks, pickle.HIGHEST_PROTOCOL)
            self._tasks.flush()
            answer = pickle.load(self._answers)
        # The pipes of a worker that failed earlier and was closed raise ValueError.
        except (OSError, EOFError, ValueError, pickle.UnpicklingError) as error:
            raise TrainingError(
                f"a data worker process ended with code {self.close()} (-9 is often a lack of memory): "
                "use fewer workers, or none with -j 0"
            ) from error
        if isinstance(answer, GluonAFFError):
            raise answer
        return answer

    def close(self) -> int:
        """End the process, wait until it is gone and return its exit code."""
        self._answers.close()
        with contextlib.suppress(BrokenPipeError):  # it ended while it was being sent a task
            self._tasks.close()
        return self._process.wait()


class WorkerPool:
    """Several workers that take tasks as they become free; a thread waits for the answer of each."""

    def __init__(self, size: int, make_work: MakeWork) -> None:
        self._workers = [Worker(make_work) for _ in range(size)]
        self._idle: queue.SimpleQueue = queue.SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(size)

    def submit(self, task: Tuple[Any, ...]) -> Future:
        """Give `task` to the next free worker and return a future of the result."""
        return self._threads.submit(self._run, task)

    def _run(self, task: Tuple[Any, ...]) -> Any:
        worker = self._idle.get()
        try:
            return worker.run(task)
        finally:
            self._idle.put(worker)

    def close(self) -> None:
        """Wait until all tasks are done, and end the workers."""
        self._threads.shutdown()
        for worker in self._workers:
            worker.close()


def serve() -> None:
    """Read the function to apply, then tasks, from standard input, and write the results to standard output."""
    # Anything else that this process prints must not get between the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        work = pickle.load(sys.stdin.buffer)()
        while True:
            task = pickle.load(sys.stdin.buffer)
            pickle.dump(_answer(work, task), answers, pickle.HIGHEST_PROTOCOL)
            answers.flush()
    except (EOFError, BrokenPipeError, pickle.UnpicklingError):
        os._exit(0)  # the parent has closed the pipe, which a normal exit would try to flush


def _answer(work: Work, task: Tuple[Any, ...]) -> Any:
    try:
        return work(*task)
    except GluonAFFError as error:
        return error
