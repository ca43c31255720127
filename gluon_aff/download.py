"""Download a file over HTTP(S): resumed after an interruption, verified, in place whole or not at all.

What has arrived lies in `{path}.partial`. It stays there as long as a later call can go on from it, and is removed when
it is of no use. One process at a time holds `{path}.lock`.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import textwrap
import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTime
from dataclasses import dataclass
from http.client import responses
from typing import Callable, Iterator, Optional

import requests
from tqdm import tqdm
from urllib3.exceptions import HTTPError

from gluon_aff.errors import GluonAFFError, last_line
from gluon_aff.locks import LockedError, locked

LARGEST = 1 << 30

_CHUNK = 1 << 14
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")


@dataclass(frozen=True)
class Patience:
    """How long to wait for a server, and how often to go back to it.

    Attributes:
        connect: seconds for a connection to be made.
        read: seconds without a byte after which a connection counts as broken.
        retries: further connections after one that broke.
        pause: seconds before the first of these; before the second it is twice as long, and so on.
        slowest: bytes a second, over `window` seconds, below which a connection counts as broken.
        window: seconds; as many may also pass until the headers of the answer are complete.
    """

    connect: float = 10.0
    read: float = 30.0
    retries: int = 4
    pause: float = 1.0
    slowest: float = 100.0  # a modem of 1990 is faster
    window: float = 60.0


PATIENCE = Patience()


@dataclass(frozen=True)
class _Job:
    """The arguments of `download`."""

    url: str
    path: str
    verify: Callable[[str], Optional[str]]
    what: str
    largest: int
    patience: Patience

    @property
    def partial(self) -> str:
        """Name of the file that grows."""
        return f"{self.path}.partial"

    @property
    def by_hand(self) -> str:
        """The remedy where no further call will help."""
        return f"get {self.what} by other means and put it at {self.path}"


class UnderWayError(GluonAFFError):
    """Another process is downloading the file."""


class _StoppedError(Exception):
    """The server is out of reach or ceased to send; what has arrived is good for a later call."""


def download(
    url: str,
    path: str,
    verify: Callable[[str], Optional[str]],
    what: str,
    largest: int = LARGEST,
    patience: Patience = PATIENCE,
) -> None:
    """Put what `url` serves at `path`, going on from what an earlier call left in `{path}.partial`.

    Proxies and certificates are taken from the environment as `requests` does. The progress bar shows on a terminal
    only. The directory of `path` is made; a file that is already at `path` stays until the new one is verified.

    Args:
        url: http or https; redirects are followed to these two only.
        path: where the file goes.
        verify: given the name of the downloaded file, returns None where it is right, else a few words on what is
            wrong with it. Also asked about what an earlier call left: if that is right, nothing is downloaded.
        what: the file in words, for the progress bar and for errors.
        largest: bytes beyond which the answer is refused.
        patience: time limits and retries.

    Raises:
        UnderWayError: another process is downloading the file.
        GluonAFFError: if the server cannot be reached, refuses, stops in the middle or sends something else, or the
            file cannot be written; what was at `path` stays.
    """
    job = _Job(url, path, verify, what, largest, patience)
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with locked(f"{path}.lock"):
            _finish(job)
    except LockedError:
        raise UnderWayError(f"another process is downloading {path}: wait until it is done") from None
    except OSError as error:
        raise GluonAFFError(f"{path} cannot be written ({last_line(error)}): check free space and rights") from None


def _size(file: io.FileIO) -> int:
    return os.fstat(file.fileno()).st_size


def _finish(job: _Job) -> None:
    """Complete the partial file and move it to its place, or remove it if it is of no use to a later call."""
    try:
        with open(job.partial, "a+b", buffering=0, opener=_open_no_link) as file:
            _fill(job, file)
        os.replace(job.partial, job.path)
    finally:
        with contextlib.suppress(OSError):
            if os.lstat(job.partial).st_size == 0:
                os.remove(job.partial)


def _open_no_link(name: str, flags: int) -> int:
    return os.open(name, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def _fill(job: _Job, file: io.FileIO) -> None:
    """Complete the partial file, or empty it if it is of no use to a later call."""
    try:
        _complete(job, file)
    except _StoppedError as stopped:
        size = _size(file)
        kept = f"run it again to go on after the {size:,} bytes in {job.partial}" if size else "check the network"
        text = f"{job.url} cannot be downloaded ({stopped}): {kept}, or {job.by_hand}"
        raise GluonAFFError(text) from None
    except (GluonAFFError, OSError):
        file.truncate(0)
        raise


def _complete(job: _Job, file: io.FileIO) -> None:
    """Download until the partial file is right.

    Raises:
        GluonAFFError: if it is wrong although no byte of it is from an earlier connection, or wrong twice.
    """
    if _size(file) and job.verify(job.partial) is None:
        return
    for _ in range(2):
        resumed = _receive(job, file)
        problem = job.verify(job.partial)
        if problem is None:
            return
        file.truncate(0)
        if not resumed:
            break
    raise GluonAFFError(f"{job.url} did not send {job.what} ({problem}): {job.by_hand}")


def _receive(job: _Job, file: io.FileIO) -> bool:
    """Receive what is missing, over several connections while each brings some; whether the last one added to others.

    Raises:
        _StoppedError: if a connection brought nothing, or was the last that may be made.
    """
    with requests.Session() as session:
        for retry in range(1, job.patience.retries + 1):
            before = _size(file)
            try:
                return _transfer(job, file, session)
            except _StoppedError:
                if _size(file) <= before:
                    raise
            time.sleep(job.patience.pause * retry)
        return _transfer(job, file, session)


def _transfer(job: _Job, file: io.FileIO, session: requests.Session) -> bool:
    """Receive what is missing over one connection, or all of it if the server cannot go on there; whether it could.

    Raises:
        GluonAFFError: if the server refuses.
        _StoppedError: if it has no answer for now, or the answer ends early.
    """
    for start in (_size(file), 0):
        file.truncate(start)
        with _request(job, session, start) as response:
            if response.status_code == requests.codes.ok:
                file.truncate(0)
                _append(job, file, response, _length(response))
                return False
            total = _resumed_total(response, start)
            if total is not None:
                _append(job, file, response, total)
                return True
            if response.status_code not in (requests.codes.partial, requests.codes.range_not_satisfiable):
                break
    status = f"HTTP {response.status_code} {responses.get(response.status_code, '')}".rstrip()
    if response.status_code == requests.codes.too_many_requests or response.status_code >= 500:
        raise _StoppedError(status)
    raise GluonAFFError(f"{job.url} cannot be downloaded ({status}): {job.by_hand}")


def _request(job: _Job, session: requests.Session, start: int) -> requests.Response:
    """Ask for the file from byte `start`; after the first answer, only if the file is still the same."""
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    timeout = (job.patience.connect, job.patience.read)
    try:
        response = _answer(lambda: session.get(job.url, headers=headers, stream=True, timeout=timeout), job.patience)
    # A bad URL, also one that a redirect names, comes as one of several kinds of ValueError.
    except (OSError, ValueError, HTTPError) as error:
        raise _StoppedError(_reason(error) + _proxy_part(job.url, error)) from None
    etag = response.headers.get("ETag", "")
    # A weak tag, W/"...", may not be used here; a server passes over the header where no range is asked for.
    session.headers.pop("If-Range", None)
    if etag.startswith('"'):
        session.headers["If-Range"] = etag
    return response


def _answer(ask: Callable[[], requests.Response], patience: Patience) -> requests.Response:
    """Return or raise what `ask` does, which runs in a thread, since its own time limits begin anew with every byte.

    Raises:
        _StoppedError: the headers are not complete in time; the thread goes on until the server ends, or the process.
    """
    answer: Future[requests.Response] = Future()

    def wait() -> None:
        try:
            response = ask()
        except BaseException as error:
            if answer.set_running_or_notify_cancel():
                answer.set_exception(error)
            return
        if answer.set_running_or_notify_cancel():
            answer.set_result(response)
        else:
            response.close()

    threading.Thread(target=wait, daemon=True).start()
    try:
        return answer.result(patience.window)
    except NotInTime:
        if not answer.cancel():
            return answer.result()
        raise _StoppedError(f"the headers of its answer were not complete in {patience.window:.0f} s") from None


def _reason(error: BaseException) -> str:
    """What is at the bottom of an error, which requests and urllib3 wrap several times, as its cause or in itself."""
    inner: Optional[BaseException] = error
    while inner is not None:
        error = inner
        wrapped = (error.__cause__, getattr(error, "reason", None), *error.args)
        inner = next((each for each in wrapped if isinstance(each, BaseException)), None)
    # urllib3 1.x wraps no cause and names the connection object first.
    return textwrap.shorten(re.sub("^<[^>]*>: ", "", last_line(error)), 160, placeholder="...")


def _proxy_part(url: str, error: BaseException) -> str:
    """Which proxy of the environment an error is of, if it is of one; without its user and password."""
    if not isinstance(error, requests.exceptions.ProxyError):
        return ""
    proxy = requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url)) or ""
    return f", by the proxy {proxy.rpartition('@')[2].rpartition('//')[2]} that the environment names"


def _length(response: requests.Response) -> Optional[int]:
    """The size of the body as announced, if it is."""
    length = response.headers.get("Content-Length", "")
    known = re.fullmatch("[0-9]{1,18}", length) and "Transfer-Encoding" not in response.headers
    return int(length) if known else None


def _resumed_total(response: requests.Response, start: int) -> Optional[int]:
    """The size of the whole file as announced by a partial answer, None for one that does not go on at `start`."""
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if match is None or response.status_code != requests.codes.partial:
        return None
    last = int(match[2])
    total = last + 1 if match[3] == "*" else int(match[3])
    return total if int(match[1]) == start <= last < total else None


def _append(job: _Job, file: io.FileIO, response: requests.Response, total: Optional[int]) -> None:
    """Write the body of an answer as it comes, whatever its encoding.

    Raises:
        GluonAFFError: if the file is larger than it may be.
        _StoppedError: if the connection breaks.
    """
    size = _size(file)
    _check_size(job, total or 0)
    with tqdm(None, job.what, total, leave=False, disable=None, unit="B", unit_scale=True, initial=size) as progress:
        for chunk in _chunks(response, job.patience):
            size += len(chunk)
            _check_size(job, size)
            _write(file, chunk)
            progress.update(len(chunk))
    if total is not None and size < total:
        raise _StoppedError(f"the connection closed before byte {total:,}")


def _chunks(response: requests.Response, patience: Patience) -> Iterator[bytes]:
    """What comes of the body.

    Raises:
        _StoppedError: if the connection breaks, or brings next to nothing.
    """
    read = response.raw.read1  # not `read`, which waits until a chunk is whole, however slowly it comes
    arrived, since = 0, time.monotonic()
    try:
        for chunk in iter(lambda: read(_CHUNK, decode_content=False), b""):
            yield chunk
            arrived += len(chunk)
            seconds = time.monotonic() - since
            if seconds >= patience.window:
                if arrived < patience.slowest * seconds:
                    raise _StoppedError(f"it sent {arrived:,} bytes in {seconds:.0f} s")
                arrived, since = 0, time.monotonic()
    except (OSError, HTTPError) as error:
        raise _StoppedError(_reason(error)) from None


def _check_size(job: _Job, size: int) -> None:
    if size > job.largest:
        raise GluonAFFError(f"{job.url} sends more than {job.largest:,} bytes: {job.by_hand}")


def _write(file: io.FileIO, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]
