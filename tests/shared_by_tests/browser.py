"""A page seen in headless Chromium, driven by the DevTools protocol over two pipes."""

import base64
import contextlib
import functools
import json
import os
import select
import subprocess
import sys
import time

FLAGS = ["--headless", "--no-sandbox", "--no-zygote", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe"]
SECONDS = 60
# Chromium reads its descriptor 3 and writes its descriptor 4
MOVE_PIPES = "import os, sys; os.dup2({}, 3); os.dup2({}, 4); os.execv(sys.argv[1], sys.argv[1:])"


@contextlib.contextmanager
def browser(path, profile):
    """Function `call(method, session, **parameters)` of a running Chromium, and its events as a list."""
    to_read, write = os.pipe()
    read, to_write = os.pipe()
    move = MOVE_PIPES.format(*(os.dup2(end, 200 + i, inheritable=True) for i, end in enumerate((to_read, to_write))))
    command = [sys.executable, "-c", move, path, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
    process = subprocess.Popen(
        command, pass_fds=(200, 201), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    for end in (to_read, to_write, 200, 201):
        os.close(end)
    try:
        yield _Connection(read, write)
    finally:
        process.kill()
        process.wait()
        os.close(read)
        os.close(write)


class _Connection:
    def __init__(self, read, write):
        self.read, self.write, self.number, self.buffer, self.events = read, write, 0, b"", []

    def call(self, method, session=None, **parameters):
        self.number += 1
        message = {
            "id": self.number,
            "method": method,
            "params": parameters,
            **({"sessionId": session} if session else {}),
        }
        os.write(self.write, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + SECONDS
        while True:
            answer = self._receive(until)
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def wait_for(self, method):
        until = time.monotonic() + SECONDS
        while not any(event.get("method") == method for event in self.events):
            self.events.append(self._receive(until))

    def _receive(self, until):
        while b"\0" not in self.buffer:
            assert select.select([self.read], [], [], max(until - time.monotonic(), 0))[0], "no answer from Chromium"
            part = os.read(self.read, 1 << 20)
            assert part, "Chromium went away"
            self.buffer += part
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)


@contextlib.contextmanager
def opened(connection, url, width, height, dark=False):
    """Function `call(method, **parameters)` of the page, loaded at that size."""
    connection.events.clear()
    target = connection.call("Target.createTarget", url="about:blank")["targetId"]
    session = connection.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    call = functools.partial(_call_page, connection, session)
    for domain in ("Page", "Runtime", "Log", "Network"):
        call(f"{domain}.enable")
    call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    call("Emulation.setEmulatedMedia", features=[scheme])
    call("Page.navigate", url=url)
    connection.wait_for("Page.loadEventFired")
    yield call
    connection.call("Target.closeTarget", targetId=target)


def _call_page(connection, session, method, **parameters):
    return connection.call(method, session, **parameters)


def value_of(call, expression):
    """What the JavaScript is on the page."""
    return call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")


def view(connection, url, width, height, dark):
    """Picture (PNG) of the page at that size, its scroll width, what its console and the network complained of."""
    with opened(connection, url, width, height, dark) as call:
        scroll_width = value_of(call, "document.documentElement.scrollWidth")
        picture = base64.b64decode(call("Page.captureScreenshot", format="png")["data"])
        complaints = [event for event in connection.events if _is_complaint(event)]
    return picture, scroll_width, complaints


def _is_complaint(event):
    method = event.get("method")
    if method == "Network.requestWillBeSent":
        return not event["params"]["request"]["url"].startswith(("file:", "data:"))
    return method in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded", "Network.loadingFailed")
