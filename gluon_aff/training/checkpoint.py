"""Checkpoints, which hold all that a run needs to continue as if it had never stopped.

A run's checkpoints are in `{save_dir}/{run name}.checkpoint/`, together with a lock file and a file that names the
process which holds the lock:

    epoch-12/               only the newest is kept; epoch-12-step-340 if a signal ended the run within an epoch
        parameters.params   weights, averaged over the devices as in any .params file
        devices.params      running statistics of each device, if there are several devices
        optimizer.params    momentum and float32 weights, by the names of the parameters
        log.txt             the run's log lines so far
        checkpoint.json     everything else, and the SHA-256 of each file above

A checkpoint is written under a temporary name and then renamed; only after that is the previous one removed. It
contains no pickles.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import socket
from dataclasses import asdict, dataclass, replace
from typing import Any, Iterator, List, Mapping, Optional, Tuple, TypeVar

import numpy as np

from gluon_aff.engines import Cluster, Learner, LearnerState
from gluon_aff.errors import GluonAFFError, InputError, last_line
from gluon_aff.locks import LockedError
from gluon_aff.locks import locked as lock_file
from gluon_aff.settings.declaration import declared
from gluon_aff.settings.shared import RunSettings
from gluon_aff.training.epoch import NOT_BEGUN, EpochProgress
from gluon_aff.weights.params_format import read_params_file, write_params_file

FORMAT = 1
FACTS = "checkpoint.json"
PARAMETERS, DEVICES, OPTIMIZER, LOG = "parameters.params", "devices.params", "optimizer.params", "log.txt"
LARGEST_FACTS = 64 << 20  # bytes
NAME = re.compile(r"epoch-(\d{1,9})(?:-step-(\d{1,12}))?")
TYPES = {  # of what a checkpoint's own file says
    **dict.fromkeys({"epoch", "steps", "devices", "log_start", "num_epochs"}, frozenset({int})),
    **dict.fromkeys({"best", "best_niou", "metric_sum", "loss_sum", "seconds"}, frozenset({int, float})),
    **dict.fromkeys({"engine", "versions", "from"}, frozenset({str})),
    "params": frozenset({str, type(None)}),
}
LEAVE_OUT = "or leave --resume out for a new run"
Settings = TypeVar("Settings", bound=RunSettings)


@dataclass(frozen=True)
class RunState:
    """State of a run between two steps, without the network's and the optimizer's arrays.

    Attributes:
        epoch: number of finished epochs.
        best: best score so far: the highest accuracy or IoU, or on ImageNet the lowest top-1 error, in 0..1.
        params: path of the weights that reached it, or None.
        begun: progress within the next epoch.
        errors: training and validation error of each finished epoch, for recipes that draw a curve.
        best_niou: highest nIoU so far, for segmentation.
    """

    epoch: int
    best: float
    params: Optional[str] = None
    begun: EpochProgress = NOT_BEGUN
    errors: Tuple[Tuple[float, float], ...] = ()
    best_niou: float = 0.0

    @property
    def position(self) -> str:
        """Return the name of the checkpoint of this state, such as `epoch-12` or `epoch-12-step-340`."""
        return f"epoch-{self.epoch}" + (f"-step-{self.begun.steps}" if self.begun.steps else "")


FRESH = RunState(0, best=0.0)


@dataclass(frozen=True)
class RunFacts:
    """Facts about a run that stay the same while a process trains.

    Attributes:
        settings: the run's settings, by name.
        devices: number of devices that the run trains on, over all machines.
        log_start: offset of the run's first line in the log, in bytes.
        sessions: for each process that has trained this run so far, the current one last, its engine, its versions and
            the position it started from.
    """

    settings: Mapping[str, Any]
    devices: int
    log_start: int = 0
    sessions: Tuple[Mapping[str, str], ...] = ()

    @property
    def engine(self) -> str:
        """Return the name of the engine that trains; checkpoints of older versions lack it and are MXNet's."""
        return self.sessions[-1].get("engine", "MXNet") if self.sessions else "MXNet"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose files have been verified: its directory and the content of `checkpoint.json`."""

    path: str
    state: RunState
    facts: RunFacts
    updates: int

    @property
    def finished(self) -> bool:
        """Return whether the run has completed all its epochs."""
        return self.state.epoch >= int(self.facts.settings["num_epochs"])

    def log(self) -> bytes:
        """Return the lines of the run's log up to this checkpoint.

        Raises:
            InputError: the file cannot be read.
        """
        with _reading(self.path), open(os.path.join(self.path, LOG), "rb") as file:
            return file.read()


@contextlib.contextmanager
def locked(folder: str) -> Iterator[None]:
    """Lock the checkpoints in `folder` for this process; the system releases the lock when the process ends.

    Raises:
        InputError: another process holds the lock.
        GluonAFFError: the folder cannot be created.
    """
    lock, owner = (os.path.join(folder, name) for name in ("lock", "owner"))
    with contextlib.ExitStack() as held:
        try:
            os.makedirs(folder, exist_ok=True)
            held.enter_context(lock_file(lock))
            with open(owner, "w") as file:
                file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            held.callback(_remove, owner)
        except LockedError:
            reason = f"{folder} is in use by {_first_line(owner) or 'another process'}"
            raise InputError(f"{reason}: stop it first, or give another --save-dir") from None
        except OSError as error:
            raise GluonAFFError(f"{lock} cannot be made ({error.strerror}): check free space and rights") from None
        yield


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.remove(path)


def _first_line(path: str) -> str:
    with contextlib.suppress(OSError), open(path, errors="replace") as file:
        return file.readline(300).strip()
    return ""


def save_checkpoint(
    folder: str,
    state: RunState,
    facts: RunFacts,
    learner: Learner,
    log: bytes,
) -> str:
    """Write the checkpoint of `state` into the existing `folder`, remove older ones there, and return its path.

    Raises:
        GluonAFFError: it cannot be written; the previous checkpoint stays.
    """
    path = os.path.join(folder, state.position)
    if os.path.isdir(path):  # the run continued from this checkpoint and stopped before its first step
        return path
    partial = f"{path}.partial"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        os.mkdir(partial)
        learnt = learner.state()
        write_params_file(os.path.join(partial, PARAMETERS), learnt.parameters)
        if learnt.device_statistics:
            write_params_file(os.path.join(partial, DEVICES), learnt.device_statistics)
        write_params_file(os.path.join(partial, OPTIMIZER), learnt.optimizer)
        with open(os.path.join(partial, LOG), "wb") as file:
            file.write(log)
        content = {
            "format": FORMAT,
            "state": asdict(state),
            "facts": asdict(facts),
            "updates": learnt.updates,
            "sha256": {name: _sha256(os.path.join(partial, name)) for name in sorted(os.listdir(partial))},
        }
        with open(os.path.join(partial, FACTS), "w") as text:
            json.dump({**content, "own_sha256": _own_sha256(content)}, text, indent=1)
        _flush(partial)
        os.rename(partial, path)
        _flush_directory(folder)
    except (OSError, GluonAFFError) as error:
        kept = newest_checkpoint(folder)
        last = f"{kept} is intact, and --resume auto continues from it" if kept else "there is no earlier one"
        raise GluonAFFError(f"checkpoint {path} cannot be written ({last_line(error)}): {last}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    for other in _names(folder):
        if other != state.position:
            shutil.rmtree(os.path.join(folder, other), ignore_errors=True)
    return path


def newest_checkpoint(folder: str) -> Optional[str]:
    """Return the path of the checkpoint in `folder` with the most epochs and steps, or None if there is none."""
    names = _names(folder)
    return os.path.join(folder, max(names, key=_place)) if names else None


def _names(folder: str) -> List[str]:
    with contextlib.suppress(OSError):
        return [name for name in os.listdir(folder) if NAME.fullmatch(name)]
    return []


def _place(name: str) -> Tuple[int, int]:
    found = NAME.fullmatch(name)
    assert found
    return int(found[1]), int(found[2] or 0)


def read_checkpoint(path: str) -> Checkpoint:
    """Read and verify the checkpoint at `path`, or the newest checkpoint in the folder `path`.

    Raises:
        InputError: there is none, or a file differs from what was written.
    """
    if not os.path.isfile(os.path.join(path, FACTS)):
        newest = newest_checkpoint(path)
        if newest is None:
            raise InputError(f"--resume {path}: no checkpoint is there; name a directory such as NAME.checkpoint")
        path = newest
    with _reading(path):
        with open(os.path.join(path, FACTS), "rb") as file:
            content = json.loads(file.read(LARGEST_FACTS))
        if content["format"] != FORMAT:
            raise InputError(f"{path} has format {content['format']}, this version reads {FORMAT}: update gluon_aff")
        if content.pop("own_sha256") != _own_sha256(content):
            raise ValueError(f"{FACTS} is not what was written")
        for name, digest in content["sha256"].items():
            if os.path.basename(name) != name or _sha256(os.path.join(path, name)) != digest:
                raise ValueError(f"{name} is not what was written")
        state, facts = content["state"], content["facts"]
        epochs = {"num_epochs": facts["settings"]["num_epochs"]}
        for part in (state, state["begun"], facts, epochs, *facts["sessions"]):
            _check_types(part)
        return Checkpoint(
            path,
            RunState(
                **{
                    **state,
                    "begun": EpochProgress(**state["begun"]),
                    "errors": tuple((float(training), float(validation)) for training, validation in state["errors"]),
                }
            ),
            RunFacts(**{**facts, "settings": dict(facts["settings"]), "sessions": tuple(facts["sessions"])}),
            int(content["updates"]),
        )


def _check_types(part: Mapping[str, Any]) -> None:
    """Raise TypeError if a field that is used before the run's own settings are held against it is of another type."""
    for name in sorted(TYPES.keys() & part.keys()):
        if type(part[name]) not in TYPES[name]:
            raise TypeError(f"{name} is {part[name]!r:.80}")


@contextlib.contextmanager
def _reading(path: str) -> Iterator[None]:
    """Turn any error that reading a checkpoint raises into an InputError that calls it damaged."""
    try:
        yield
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or last_line(error)
        raise InputError(f"checkpoint {path} is damaged ({reason}): get it again, {LEAVE_OUT}") from None


def restore(checkpoint: Checkpoint, learner: Learner) -> None:
    """Give `learner`, before its first step, the parameters and the optimizer's state of the checkpoint.

    Raises:
        InputError: the checkpoint is damaged or does not fit the network.
    """
    with _reading(checkpoint.path):
        files = {
            name: read_params_file(os.path.join(checkpoint.path, name)).arrays
            for name in (PARAMETERS, DEVICES, OPTIMIZER)
            if name != DEVICES or os.path.exists(os.path.join(checkpoint.path, name))
        }
        state = LearnerState(files[PARAMETERS], files.get(DEVICES, {}), files[OPTIMIZER], checkpoint.updates)
        learner.restore(state, os.path.join(checkpoint.path, PARAMETERS))


def check_seen_by_all(checkpoint: Optional[Checkpoint], cluster: Cluster) -> None:
    """Check that all workers continue from the same checkpoint, which they find each by itself.

    Raises:
        InputError: this worker has found another checkpoint than worker 0.
    """
    place = np.array([-1, -1] if checkpoint is None else [checkpoint.state.epoch, checkpoint.state.begun.steps])
    if (cluster.broadcast(place) != place).any():
        found = checkpoint.path if checkpoint else "none"
        raise InputError(
            f"--resume: worker {cluster.rank} and worker 0 see different checkpoints (worker {cluster.rank}: {found}): "
            "put --save-dir on a file system that all machines share"
        )


def same_run(checkpoint: Checkpoint, settings: Settings, devices: int, seed_given: bool) -> Settings:
    """Check that a checkpoint belongs to the run that `settings` describe, and return them with its seed.

    Args:
        checkpoint: checkpoint to continue from.
        settings: resolved settings.
        devices: number of devices that would continue the run, over all machines.
        seed_given: whether the user gave the seed; a drawn one is replaced by the checkpoint's.

    Raises:
        InputError: the checkpoint is of another run; the message names the settings that differ.
    """
    if not seed_given:
        settings = replace(settings, seed=checkpoint.facts.settings.get("seed"))
    options = declared(type(settings))
    # Settings missing from the checkpoint of an older version had today's defaults
    saved = {**{name: each.default for name, each in options.items()}, **checkpoint.facts.settings}
    differing = [
        f"{options[name].flags[-1]} is {value!r} and was {saved[name]!r}"
        for name, value in asdict(settings).items()
        if not options[name].may_differ and saved[name] != value
    ]
    if devices != checkpoint.facts.devices:
        differing.append(f"there are {devices} devices and were {checkpoint.facts.devices}")
    if differing:
        differences = "; ".join(differing)
        raise InputError(f"{checkpoint.path} is of another run ({differences}): give its settings, {LEAVE_OUT}")
    return settings


def clear(folder: str) -> Optional[str]:
    """Empty `folder` of an earlier run's checkpoints: delete those of a finished run, move those of an unfinished one.

    If a process was killed while it wrote one, there may be several, and the new run must not take any of them for its
    own. They are moved in order, the newest last: if this process is killed meanwhile, `--resume auto` still finds it.

    Returns:
        The folder to which the checkpoints of an unfinished run were moved, None if there were none.

    Raises:
        GluonAFFError: a checkpoint cannot be moved or deleted.
    """
    newest = newest_checkpoint(folder)
    if newest is None:
        return None
    try:
        finished = read_checkpoint(newest).finished
    except InputError:
        finished = False
    try:
        if not finished:
            aside = next(path for path in map(f"{folder}.{{}}".format, range(1, 10**6)) if not os.path.exists(path))
            os.mkdir(aside)
            for name in sorted(_names(folder), key=_place):
                os.rename(os.path.join(folder, name), os.path.join(aside, name))
            return aside
        for name in sorted(_names(folder), key=_place):
            shutil.rmtree(os.path.join(folder, name))
    except OSError as error:
        raise GluonAFFError(f"{newest} cannot be moved away ({error.strerror}): remove it") from None
    return None


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def _own_sha256(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _flush(folder: str) -> None:
    """Flush the files in `folder` to the disk."""
    for name in os.listdir(folder):
        with open(os.path.join(folder, name), "r+b") as file:  # Windows cannot flush a file opened for reading only
            os.fsync(file.fileno())
    _flush_directory(folder)


def _flush_directory(folder: str) -> None:
    if os.name == "nt":  # Windows cannot open directories
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
