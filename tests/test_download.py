"""Downloads from a server on this machine that misbehaves as each test wants it to."""

import gzip
import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from filelock import FileLock

from gluon_aff.download import Patience, download
from gluon_aff.errors import GluonAFFError

CONTENT = random.Random(1).getrandbits(8 * 300_000).to_bytes(300_000, "big")
OTHER = random.Random(2).getrandbits(8 * 300_000).to_bytes(300_000, "big")
HALF = len(CONTENT) // 2
QUICK = Patience(connect=2, read=1, retries=3, pause=0.01)

CHILD = """
import sys
from gluon_aff.download import download

{setup}
try:
    download(sys.argv[1], sys.argv[2], lambda name: "other bytes", "the weights")
except Exception as error:
    print(type(error).__name__, error)
"""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.requests.append(self)
        self.close_connection = True
        self.server.behave(self)

    def log_message(self, *args):
        pass

    @property
    def start(self):
        """The byte that is asked for first."""
        return int(self.headers.get("Range", "bytes=0-")[len("bytes=") : -1])

    def head(self, status, **headers):
        self.send_response(status)
        self.send_header("Connection", "close")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def reset(self):
        """Break the connection as a failing network does: with an RST, which drops what is still on its way."""
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Server(ThreadingHTTPServer):
    daemon_threads = False

    def __init__(self, behave):
        super().__init__(("127.0.0.1", 0), Handler)
        self.behave = behave
        self.requests = []
        self.stopping = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/weights/net.params"

    @property
    def ranges(self):
        return [request.headers["Range"] for request in self.requests]

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def serve():
    """Start a server that calls the given function with every request's handler."""
    servers = []

    def start(behave):
        server = Server(behave)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        servers.append((server, thread))
        return server

    yield start
    for server, thread in servers:
        server.stopping.set()
        server.shutdown()
        thread.join()
        server.server_close()


def whole(handler, content=CONTENT, **headers):
    handler.head(200, Content_Length=len(content), **headers)
    handler.wfile.write(content)


def ranged(handler, content=CONTENT, most=None, **headers):
    """What a good server sends, or the first `most` bytes of it."""
    start = handler.start
    headers["Content_Length"] = len(content) - start
    if "Range" in handler.headers:
        handler.head(206, Content_Range=f"bytes {start}-{len(content) - 1}/{len(content)}", **headers)
    else:
        handler.head(200, **headers)
    handler.wfile.write(content[start:][:most])


def verify(name):
    with open(name, "rb") as file:
        return None if file.read() == CONTENT else "other bytes"


def get(server, path, **kwargs):
    url = server if isinstance(server, str) else server.url
    download(url, str(path), verify, "the weights", **{"patience": QUICK, **kwargs})


def fail(server, path, **kwargs):
    """The error, one line that names the server's file and where it was to go."""
    with pytest.raises(GluonAFFError) as error:
        get(server, path, **kwargs)
    message = str(error.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def content(path):
    """What lies at `path`, alone in its folder."""
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    return path.read_bytes()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cache" / "net.params"


@pytest.fixture
def partial(path):
    path.parent.mkdir()
    return path.with_name("net.params.partial")


def test_plain(serve, path, capsys):
    server = serve(whole)
    get(server, path)
    assert content(path) == CONTENT
    assert server.requests[0].headers["Accept-Encoding"] == "identity"
    assert server.ranges == [None]
    assert capsys.readouterr() == ("", "")


def test_into_the_working_directory(serve, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    get(serve(whole), "net.params")
    assert content(tmp_path / "net.params") == CONTENT


def test_replaces_an_old_file(serve, path, partial):
    path.write_bytes(b"old")
    get(serve(whole), path)
    assert content(path) == CONTENT


@pytest.mark.parametrize("cut", [False, True])
def test_chunked_and_of_unannounced_length(serve, path, cut):
    def chunked(handler):
        handler.head(200, Transfer_Encoding="chunked")
        for at in range(0, len(CONTENT) if not cut or "Range" in handler.headers else HALF, 50_000):
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(CONTENT[at : at + 50_000]), CONTENT[at : at + 50_000]))
        if not cut or "Range" in handler.headers:
            handler.wfile.write(b"0\r\n\r\n")

    server = serve(chunked)
    get(server, path)
    assert content(path) == CONTENT
    assert len(server.requests) == 1 + cut


def test_slow_server(serve, path):
    def trickle(handler):
        handler.head(200, Content_Length=len(CONTENT))
        for at in range(0, len(CONTENT), 5_000):
            handler.wfile.write(CONTENT[at : at + 5_000])
            time.sleep(0.025)

    server = serve(trickle)
    get(server, path)  # takes 1.5 s, longer than the read timeout
    assert content(path) == CONTENT
    assert len(server.requests) == 1


@pytest.mark.parametrize("how", ["close", "reset", "stall"])
def test_goes_on_after_a_broken_connection(serve, path, how):
    def cut(handler):
        ranged(handler, most=100_000, ETag='"v1"')
        if how == "reset":
            time.sleep(0.1)
            handler.reset()
        elif how == "stall" and handler.start < 200_000:
            handler.server.stopping.wait(5)

    server = serve(cut)
    get(server, path, patience=Patience(connect=2, read=0.3, retries=4, pause=0.01))
    assert content(path) == CONTENT
    starts = [request.start for request in server.requests]
    assert len(set(starts)) >= 3
    assert starts == sorted(starts)
    if how != "reset":  # which on a busy machine may drop all that was sent, so that a request is made again
        assert len(starts) == len(set(starts))
    begun = [request.headers["If-Range"] for request in server.requests if request.start]
    assert begun == ['"v1"'] * len(begun)


def test_gives_up_and_the_next_call_goes_on(serve, path, partial):
    old = partial.parent / "net.params"
    old.write_bytes(b"old")
    server = serve(lambda handler: ranged(handler, most=40_000))
    message = fail(server, path)
    assert len(server.requests) == 1 + QUICK.retries
    assert path.read_bytes() == b"old"
    there = partial.read_bytes()
    assert 100_000 < len(there) <= 160_000
    assert CONTENT.startswith(there)
    assert f"run it again to go on after the {len(there):,} bytes in {partial}" in message
    assert message.startswith(server.url)

    server = serve(ranged)
    get(server, path)
    assert content(path) == CONTENT
    assert server.ranges == [f"bytes={len(there)}-"]
    assert server.requests[0].headers["If-Range"] is None


def test_stops_where_a_connection_brings_nothing(serve, path):
    server = serve(lambda handler: ranged(handler, most=HALF if handler.start == 0 else 0))
    assert "cannot be downloaded" in fail(server, path)
    assert len(server.requests) == 2


def test_waits_longer_and_longer(serve, path, monkeypatch):
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)
    fail(serve(lambda handler: ranged(handler, most=40_000)), path, patience=Patience(retries=3, pause=2))
    assert waits == [2, 4, 6]


def test_a_changed_etag_starts_again(serve, path):
    def change(handler):
        if handler.server.ranges == [None]:
            ranged(handler, OTHER, most=HALF, ETag='"v1"')
        else:
            assert handler.headers["If-Range"] == '"v1"'
            whole(handler, ETag='"v2"')

    server = serve(change)
    get(server, path)
    assert content(path) == CONTENT
    assert len(server.requests) == 2


def test_a_weak_etag_is_not_used(serve, path):
    server = serve(lambda handler: ranged(handler, most=200_000, ETag='W/"v1"'))
    get(server, path)
    assert content(path) == CONTENT
    assert [request.headers["If-Range"] for request in server.requests] == [None, None]


def test_server_that_knows_no_ranges(serve, path, partial):
    partial.write_bytes(CONTENT[:1000])
    server = serve(whole)
    get(server, path)
    assert content(path) == CONTENT
    assert server.ranges == ["bytes=1000-"]


def test_range_not_satisfiable(serve, path, partial):
    partial.write_bytes(CONTENT + b"more")

    def refuse(handler):
        if "Range" in handler.headers:
            handler.head(416, Content_Range=f"bytes */{len(CONTENT)}", Content_Length=0)
        else:
            whole(handler)

    server = serve(refuse)
    get(server, path)
    assert content(path) == CONTENT
    assert server.ranges == [f"bytes={len(CONTENT) + 4}-", None]


@pytest.mark.parametrize(
    "answer",
    ["bytes 0-299999/300000", "bytes 1001-299999/300000", "bytes 1000-300000/300000", "bytes 1000-999/300000", "gone"],
)
def test_range_that_does_not_fit(serve, path, partial, answer):
    partial.write_bytes(CONTENT[:1000])

    def other(handler):
        if "Range" in handler.headers:
            handler.head(206, Content_Range=answer, Content_Length=len(OTHER))
            handler.wfile.write(OTHER)
        else:
            whole(handler)

    server = serve(other)
    get(server, path)
    assert content(path) == CONTENT
    assert server.ranges == ["bytes=1000-", None]


def test_partial_answers_that_end_early(serve, path, partial):
    partial.write_bytes(CONTENT[:1000])

    def pieces(handler):
        last = min(handler.start + 100_000, len(CONTENT)) - 1
        total = "*" if last == len(CONTENT) - 1 else len(CONTENT)
        handler.head(
            206, Content_Range=f"bytes {handler.start}-{last}/{total}", Content_Length=last + 1 - handler.start
        )
        handler.wfile.write(CONTENT[handler.start : last + 1])

    server = serve(pieces)
    get(server, path)
    assert content(path) == CONTENT
    assert [request.start for request in server.requests] == [1000, 101_000, 201_000]


def test_complete_partial_is_only_verified(path, partial):
    partial.write_bytes(CONTENT)
    get("http://127.0.0.1:1/", path)
    assert content(path) == CONTENT


def test_wrong_bytes(serve, path, partial):
    path.write_bytes(b"old")
    server = serve(lambda handler: whole(handler, OTHER))
    message = fail(server, path)
    assert message.startswith(f"{server.url} did not send the weights (other bytes): ")
    assert content(path) == b"old"
    assert len(server.requests) == 1


def test_web_page(serve, path):
    server = serve(lambda handler: whole(handler, b"<!DOCTYPE html><html>", Content_Type="text/html"))
    assert "did not send" in fail(server, path)
    assert list(path.parent.iterdir()) == []


def test_stale_partial_of_another_file(serve, path, partial):
    partial.write_bytes(OTHER[:1000])
    server = serve(ranged)
    get(server, path)
    assert content(path) == CONTENT
    assert server.ranges == ["bytes=1000-", None]


def test_stale_partial_and_wrong_bytes(serve, path, partial):
    partial.write_bytes(CONTENT[:1000])
    server = serve(lambda handler: ranged(handler, OTHER))
    assert "did not send" in fail(server, path)
    assert list(path.parent.iterdir()) == []
    assert server.ranges == ["bytes=1000-", None]


def test_announced_length_is_too_short(serve, path):
    def lie(handler):
        handler.head(200, Content_Length=HALF)
        handler.wfile.write(CONTENT)

    assert "did not send" in fail(serve(lie), path)
    assert list(path.parent.iterdir()) == []


def test_announced_length_is_too_long(serve, path):
    def lie(handler):
        handler.head(200, Content_Length=len(CONTENT) + 1)
        handler.wfile.write(CONTENT)

    server = serve(lie)
    assert "cannot be downloaded" in fail(server, path)
    assert len(server.requests) == 2
    get(server, path)
    assert content(path) == CONTENT
    assert len(server.requests) == 2


@pytest.mark.parametrize("length", ["nonsense", "²", "-1"])
def test_announced_length_is_no_number(serve, path, length):
    def lie(handler):
        handler.head(200, Content_Length=length)
        handler.wfile.write(CONTENT)

    get(serve(lie), path)
    assert content(path) == CONTENT


@pytest.mark.parametrize(("status", "phrase"), [(403, "Forbidden"), (404, "Not Found"), (204, "No Content")])
def test_refused(serve, path, partial, status, phrase):
    partial.write_bytes(CONTENT[:1000])
    path.write_bytes(b"old")
    server = serve(lambda handler: handler.head(status, Content_Length=0))
    message = fail(server, path)
    assert message.startswith(f"{server.url} cannot be downloaded (HTTP {status} {phrase}): get the weights by other")
    assert content(path) == b"old"
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [429, 500, 503])
def test_server_error(serve, path, status):
    server = serve(lambda handler: handler.head(status, Content_Length=0))
    assert f"(HTTP {status} " in fail(server, path)
    assert list(path.parent.iterdir()) == []
    assert len(server.requests) == 1


def test_server_error_in_the_middle_keeps_what_has_arrived(serve, path):
    def cut(handler):
        if handler.start:
            handler.head(503, Content_Length=0)
        else:
            ranged(handler, most=HALF)

    message = fail(serve(cut), path)
    assert "(HTTP 503 Service Unavailable): run it again" in message
    server = serve(ranged)
    get(server, path)
    assert content(path) == CONTENT
    assert server.requests[0].start > 0


def test_closed_port(path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/net.params"
        message = fail(url, path)
    assert message.startswith(f"{url} cannot be downloaded (")
    remedy = f"check the network, or get the weights by other means and put it at {path}"
    assert message.endswith(f"[Errno 111] Connection refused): {remedy}")
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize(
    "url",
    [
        "http://no-such-host.invalid/net.params",
        "http://127.0.0.1:99999/net.params",
        "http://" + "a" * 70 + ".invalid/",
        "http://[::1",
        "http://*.invalid/",
        "ftp://127.0.0.1/net.params",
        "file:///etc/passwd",
        "net.params",
        "",
    ],
)
def test_bad_url(path, url, monkeypatch):
    def unknown(*args, **kwargs):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    message = fail(url, path)
    assert message.startswith(f"{url} cannot be downloaded (")
    if "no-such-host" in url:
        assert "[Errno -2] Name or service not known)" in message
        assert "<" not in message
    assert list(path.parent.iterdir()) == []


def test_reason_is_not_what_the_caller_was_handling(path):
    try:
        raise KeyError("unrelated")
    except KeyError:
        assert "unrelated" not in fail("http://127.0.0.1:1/", path)


def test_server_that_does_not_answer(serve, path):
    server = serve(lambda handler: handler.server.stopping.wait(5))
    assert "timed out" in fail(server, path, patience=Patience(read=0.2))


def test_server_that_hangs_up(serve, path):
    assert "closed connection without response" in fail(serve(lambda handler: None), path)


def test_redirect(serve, path, partial):
    partial.write_bytes(CONTENT[:1000])
    target = serve(ranged)
    server = serve(lambda handler: handler.head(302, Location=target.url, Content_Length=0))
    get(server, path)
    assert content(path) == CONTENT
    assert target.ranges == ["bytes=1000-"]


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("file:///etc/passwd", "file:///etc/passwd"),
        ("ftp://127.0.0.1/", "ftp"),
        ("/again", "30 redirects"),
        ("//[", ""),
    ],
)
def test_redirect_to_elsewhere(serve, path, location, reason):
    server = serve(lambda handler: handler.head(302, Location=location, Content_Length=0))
    assert reason in fail(server, path)
    assert list(path.parent.iterdir()) == []


def test_a_proxy_that_refuses_is_named_without_its_password(path, monkeypatch):
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        proxy = f"127.0.0.1:{unused.getsockname()[1]}"
        monkeypatch.setenv("http_proxy", f"http://me:secret@{proxy}")
        with pytest.raises(GluonAFFError, match=rf"refused.*, by the proxy {proxy} that") as caught:
            download("http://192.0.2.1/net.params", str(path), lambda name: None, "the weights", patience=QUICK)
    assert "secret" not in str(caught.value)


def test_a_server_that_sends_a_byte_now_and_then_is_given_up(serve, path):
    def drip(handler):
        handler.head(200, Content_Length=len(CONTENT))
        while not handler.server.stopping.wait(0.02):
            handler.wfile.write(b"x")

    patience = Patience(connect=2, read=1, retries=1, pause=0.01, slowest=1000, window=0.3)
    started = time.monotonic()
    with pytest.raises(GluonAFFError, match=r"it sent [0-9]+ bytes in 0 s"):
        download(serve(drip).url, str(path), lambda name: "other bytes", "the weights", patience=patience)
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("start", [b"HTTP/1", b"HTTP/1.1 200 OK\r\nX-Name: ", b"HTTP/1.1 302 Found\r\nLocation: /"])
def test_a_server_whose_headers_come_a_byte_now_and_then_is_given_up(serve, path, start):
    def drip(handler):
        handler.wfile.write(start)
        while not handler.server.stopping.wait(0.02):
            handler.wfile.write(b"1")

    started = time.monotonic()
    message = fail(serve(drip), path, patience=Patience(read=1, window=0.3))
    assert "(the headers of its answer were not complete in 0 s)" in message
    assert time.monotonic() - started < 20
    assert list(path.parent.iterdir()) == []


DRIPPING = {
    "the size of a chunk": (b"", b"0"),
    "what follows the size of a chunk": (b"5;", b"x"),
    "the size of a later chunk": (b"5\r\nbytes\r\n", b"0"),
    "headers behind the last chunk": (b"5\r\nbytes\r\n0\r\n", b"X: y\r\n"),
}


@pytest.mark.parametrize("what", DRIPPING)
def test_a_server_whose_chunks_never_begin_is_given_up(serve, path, what):
    start, more = DRIPPING[what]

    def drip(handler):
        handler.head(200, Transfer_Encoding="chunked")
        handler.wfile.write(start)
        while not handler.server.stopping.wait(0.02):
            handler.wfile.write(more)

    started = time.monotonic()
    message = fail(serve(drip), path, patience=Patience(read=0.3, retries=1, pause=0.01, window=0.3))
    assert re.search(r"\(it sent [05] bytes in [0-9] s\)", message), message
    assert time.monotonic() - started < 20


def test_proxy_of_the_environment(serve, path, monkeypatch):
    server = serve(whole)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
    get("http://files.invalid/net.params", path)
    assert content(path) == CONTENT
    assert server.requests[0].path == "http://files.invalid/net.params"


def test_gzip_encoding_is_stored_as_it_comes(serve, path):
    packed = gzip.compress(CONTENT)
    server = serve(lambda handler: whole(handler, packed, Content_Encoding="gzip"))
    assert "did not send" in fail(server, path)
    download(server.url, str(path), lambda name: None, "the packed weights")
    assert content(path) == packed


@pytest.mark.parametrize("announced", [True, False])
def test_too_large(serve, path, announced):
    def endless(handler):
        handler.head(200, **({"Content_Length": 1 << 40} if announced else {}))
        while not handler.server.stopping.is_set():
            handler.wfile.write(OTHER)

    assert "sends more than 1,000,000 bytes" in fail(serve(endless), path, largest=1_000_000)
    assert list(path.parent.iterdir()) == []


def test_as_large_as_allowed(serve, path):
    get(serve(whole), path, largest=len(CONTENT))
    assert content(path) == CONTENT


def test_two_at_once(serve, path):
    started, go_on = threading.Event(), threading.Event()

    def wait(handler):
        handler.head(200, Content_Length=len(CONTENT))
        handler.wfile.write(CONTENT[:HALF])
        started.set()
        go_on.wait(10)
        handler.wfile.write(CONTENT[HALF:])

    server = serve(wait)
    first = threading.Thread(target=get, args=(server, path), kwargs={"patience": Patience(read=10)})
    first.start()
    assert started.wait(10)
    message = fail(server, path)
    go_on.set()
    first.join()
    assert message == f"another process is downloading {path}: wait until it is done"
    assert content(path) == CONTENT
    assert len(server.requests) == 1


def test_partial_that_another_process_moved_to_its_place_just_before(serve, path, partial, monkeypatch):
    partial.write_bytes(OTHER)
    acquire = FileLock.acquire

    def after_another_process(lock, *args, **kwargs):
        if not path.exists():
            partial.rename(path)
        return acquire(lock, *args, **kwargs)

    monkeypatch.setattr(FileLock, "acquire", after_another_process)
    server = serve(whole)
    get(server, path)
    assert content(path) == CONTENT
    assert server.ranges == [None]


def test_partial_is_a_link(serve, path, partial, tmp_path):
    (tmp_path / "target").write_bytes(b"mine")
    partial.symlink_to(tmp_path / "target")
    assert "cannot be written" in fail(serve(whole), path)
    assert (tmp_path / "target").read_bytes() == b"mine"


def test_folder_that_cannot_be_made(serve, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    server = serve(whole)
    assert "cannot be written ([Errno 17] File exists" in fail(server, tmp_path / "file" / "net.params")
    assert server.requests == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_rights(serve, path, partial):
    path.parent.chmod(0o500)
    server = serve(whole)
    assert "cannot be written ([Errno 13] Permission denied" in fail(server, path)
    path.parent.chmod(0o700)
    assert server.requests == []


def test_interrupted_by_the_user(serve, path, partial):
    def interrupt(handler):
        ranged(handler, most=HALF)
        time.sleep(0.1)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        handler.server.stopping.wait(5)

    server = serve(interrupt)
    with pytest.raises(KeyboardInterrupt):
        get(server, path, patience=Patience(read=10))
    there = len(partial.read_bytes())
    assert there > 0
    server = serve(ranged)
    get(server, path)
    assert content(path) == CONTENT
    assert server.ranges == [f"bytes={there}-"]


def child(server, path, setup="", prefix=()):
    command = [*prefix, sys.executable, "-c", CHILD.format(setup=setup), server.url, str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def said(process):
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert err == ""
    return out


def test_killed(serve, path, partial):
    def pause(handler):
        ranged(handler, most=HALF)
        handler.server.stopping.wait(30)

    process = child(serve(pause), path)
    deadline = time.monotonic() + 30
    while not partial.exists() or partial.stat().st_size < HALF - 20_000:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.communicate()
    there = partial.stat().st_size
    assert not path.exists()
    server = serve(ranged)
    get(server, path)
    assert content(path) == CONTENT
    assert server.ranges == [f"bytes={there}-"]


def test_file_size_limit(serve, path):
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"
    message = said(child(serve(whole), path, limit))
    assert message.startswith(f"GluonAFFError {path} cannot be written ([Errno 27] File too large): check free space")
    assert list(path.parent.iterdir()) == []


def test_full_disk(serve, tmp_path):
    """On a file system of 64 KiB that only the child sees, where the kernel lets a user mount one."""
    small = tmp_path / "small"
    small.mkdir()
    mount = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    mount += [f'mount -t tmpfs -o size=64k none {small} && exec "$@"', "sh"]
    try:
        subprocess.run([*mount, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no mounts in user namespaces here")
    setup = "import atexit, os; atexit.register(lambda: print(os.listdir(os.path.dirname(sys.argv[2]))))"
    out = said(child(serve(whole), small / "net.params", setup, mount))
    assert "net.params cannot be written ([Errno 28] No space left on device): check free space" in out
    assert out.endswith("\n[]\n")


def test_progress_on_a_terminal(serve, path, monkeypatch):
    written = []
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(sys.stderr, "write", written.append)
    get(serve(whole), path)
    assert "the weights: " in "".join(written)
    assert "300k" in "".join(written)
