"""Download a file over HTTP(S): resume after interruptions, verify it, and put it in place complete or not at all.

The bytes received so far are in `{path}.partial`. They are kept as long as a later call can resume from them, and
removed otherwise. One process at a time holds `{path}.lock`.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import socket
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
    """Says how long to wait for a server, and how often to connect to it again.

    Attributes:
        connect: time limit in seconds for making a connection.
        read: seconds without a byte after which a connection counts as broken.
        retries: number of further connections after a broken one.
        pause: seconds to wait before the first retry; twice as long before the second, and so on.
        slowest: speed in bytes per second, averaged over `window` seconds, below which a connection counts as broken.
        window: seconds over which the speed is averaged, and time limit for the headers of the answer; a
            chunk of its body has to begin within `window` and `read` seconds.
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
        """Return the path of the file that holds the bytes received so far."""
        return f"{self.path}.partial"

    @property
    def by_hand(self) -> str:
        """Return the remedy for errors that a further call cannot solve."""
        return f"get {self.what} by other means and put it at {self.path}"


class DownloadError(GluonAFFError):
    """The server could not be reached or did not send the file; `reason` says why without the address or a remedy."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class UnderWayError(GluonAFFError):
    """Another process is downloading the file."""


class _StoppedError(Exception):
    """The server cannot be reached or stopped sending; a later call can use the bytes received so far."""


def download(
    url: str,
    path: str,
    verify: Callable[[str], Optional[str]],
    what: str,
    largest: int = LARGEST,
    patience: Patience = PATIENCE,
) -> None:
    """Download `url` to `path`, resuming from the bytes that an earlier call left in `{path}.partial`.

    Proxies and certificates are taken from the environment, as `requests` does. A progress bar is shown on a terminal.
    The directory of `path` is created. A file that is already at `path` stays there until the new one is verified.

    Args:
        url: address with http or https; redirects to other protocols are not followed.
        path: where to put the file.
        verify: function that takes the path of the downloaded file, and returns None if it is right, else a few words
            on what is wrong. It also checks the bytes of an earlier call: if they are right, nothing is downloaded.
        what: the file in words, for the progress bar and for errors.
        largest: largest accepted size in bytes.
        patience: time limits and retries.

    Raises:
        UnderWayError: another process is downloading the file.
        DownloadError: the server cannot be reached, refuses, stops in the middle or sends something else.
        GluonAFFError: the file is too large or cannot be written. A file that was at `path` stays there in any case.
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
    """Complete the partial file and move it into place; if that fails and the partial file is empty, remove it."""
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
        again = f"run it again to go on after the {size:,} bytes in {job.partial}"
        text = f"{job.url} cannot be downloaded ({stopped}): {again if size else 'check the network'}, or {job.by_hand}"
        raise DownloadError(text, f"{stopped}; {again}" if size else f"{stopped}") from None
    except (GluonAFFError, OSError):
        file.truncate(0)
        raise


def _complete(job: _Job, file: io.FileIO) -> None:
    """Download until the partial file is right.

    Raises:
        DownloadError: the file is wrong although no byte of it is from an earlier connection, or it is wrong twice.
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
    text = f"{job.url} did not send {job.what} ({problem}): {job.by_hand}"
    raise DownloadError(text, f"the server sent something else: {problem}")


def _receive(job: _Job, file: io.FileIO) -> bool:
    """Receive the missing bytes, over several connections if necessary.

    Returns:
        Whether the last connection resumed from bytes of an earlier one.

    Raises:
        _StoppedError: a connection broke without bringing any bytes, or no retry is left.
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
    """Receive the missing bytes over one connection, or the whole file if the server cannot resume.

    Returns:
        Whether the server resumed.

    Raises:
        DownloadError: the server refuses.
        _StoppedError: the server cannot answer now, or the answer ends early.
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
    raise DownloadError(f"{job.url} cannot be downloaded ({status}): {job.by_hand}", status)


def _request(job: _Job, session: requests.Session, start: int) -> requests.Response:
    """Request the file from byte `start` on; after the first answer, only if the file has not changed."""
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    timeout = (job.patience.connect, job.patience.read)
    try:
        response = _answer(lambda: session.get(job.url, headers=headers, stream=True, timeout=timeout), job.patience)
    # A malformed URL, also in a redirect, raises one of several kinds of ValueError.
    except (OSError, ValueError, HTTPError) as error:
        raise _StoppedError(_reason(error) + _proxy_part(job.url, error)) from None
    etag = response.headers.get("ETag", "")
    # A weak tag, W/"...", may not be used here. A server ignores this header if no range is requested.
    session.headers.pop("If-Range", None)
    if etag.startswith('"'):
        session.headers["If-Range"] = etag
    return response


def _answer(ask: Callable[[], requests.Response], patience: Patience) -> requests.Response:
    """Run `ask` in a thread and return or raise what it does, within a time limit for the whole answer's headers.

    The time limits of requests start again with every byte, so they do not limit the total time.

    Raises:
        _StoppedError: the headers are not complete in time. The thread then runs until the server or the process ends.
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
    """Return the message of the innermost error; requests and urllib3 wrap it several times, as cause or argument."""
    inner: Optional[BaseException] = error
    while inner is not None:
        error = inner
        wrapped = (error.__cause__, getattr(error, "reason", None), *error.args)
        inner = next((each for each in wrapped if isinstance(each, BaseException)), None)
    # urllib3 1.x does not set a cause, and its message starts with the connection object.
    return textwrap.shorten(re.sub("^<[^>]*>: ", "", last_line(error)), 160, placeholder="...")


def _proxy_part(url: str, error: BaseException) -> str:
    """Name the environment's proxy that caused an error, without user and password; empty if it was not a proxy."""
    if not isinstance(error, requests.exceptions.ProxyError):
        return ""
    proxy = requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url)) or ""
    return f", by the proxy {proxy.rpartition('@')[2].rpartition('//')[2]} that the environment names"


def _length(response: requests.Response) -> Optional[int]:
    """Return the announced size of the body in bytes; None if the server does not announce it."""
    length = response.headers.get("Content-Length", "")
    known = re.fullmatch("[0-9]{1,18}", length) and "Transfer-Encoding" not in response.headers
    return int(length) if known else None


def _resumed_total(response: requests.Response, start: int) -> Optional[int]:
    """Return the file's size in bytes from a partial answer; None if the answer does not resume at `start`."""
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if match is None or response.status_code != requests.codes.partial:
        return None
    last = int(match[2])
    total = last + 1 if match[3] == "*" else int(match[3])
    return total if int(match[1]) == start <= last < total else None


def _append(job: _Job, file: io.FileIO, response: requests.Response, total: Optional[int]) -> None:
    """Append the raw body of an answer to the file, without decoding it.

    Raises:
        GluonAFFError: the file is larger than accepted.
        _StoppedError: the connection breaks.
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
    """Yield the body in chunks as they arrive.

    Raises:
        _StoppedError: the connection breaks or is too slow.
    """
    read = response.raw.read1  # not `read`, which waits for a full chunk, however slowly it comes
    ended = False
    while not ended:
        arrived, since, problem = 0, time.monotonic(), None
        with _hanging_up(response, patience.window + patience.read) as hung_up:
            try:
                while not ended and time.monotonic() - since < patience.window:
                    chunk = read(_CHUNK, decode_content=False)
                    ended = not chunk
                    arrived += len(chunk)
                    yield chunk
            except (OSError, HTTPError) as error:
                problem = _reason(error)
        seconds = time.monotonic() - since
        if hung_up.is_set() or not (ended or problem or arrived >= patience.slowest * seconds):
            raise _StoppedError(f"it sent {arrived:,} bytes in {seconds:.0f} s")
        if problem:
            raise _StoppedError(problem)


@contextlib.contextmanager
def _hanging_up(response: requests.Response, seconds: float) -> Iterator[threading.Event]:
    """Hang up after so many seconds, which ends a read that is under way; the event is set once that was done.

    A chunk's size and the headers after the last chunk are read as whole lines, for which the time limit of a read
    begins again with every byte.
    """
    hung_up = threading.Event()

    def hang_up() -> None:
        hung_up.set()
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    # A duplicate, since the response may close its own descriptor, and another file may then get its number.
    with socket.fromfd(response.raw.fileno(), socket.AF_INET, socket.SOCK_STREAM) as connection:
        timer = threading.Timer(seconds, hang_up)
        timer.daemon = True
        timer.start()
        try:
            yield hung_up
        finally:
            timer.cancel()


def _check_size(job: _Job, size: int) -> None:
    if size > job.largest:
        raise GluonAFFError(f"{job.url} sends more than {job.largest:,} bytes: {job.by_hand}")


def _write(file: io.FileIO, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]
