"""A headless Chromium that does what it is told over its pipe of the DevTools protocol: no library, no port."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class Page:
    """One page; `complaints` are the errors and warnings of its console, broken policies among them."""

    def __init__(self, read: int, write: int) -> None:
        self._read, self._write = read, write
        self._number, self._data = 0, b""
        self._session = ""
        self.complaints: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.requests: list[str] = []

    def call(self, method: str, **params: Any) -> Any:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._data:
            more = os.read(self._read, 1 << 20)
            assert more, "the browser has ended"
            self._data += more
        line, _, self._data = self._data.partition(b"\0")
        answer: dict[str, Any] = json.loads(line)
        params = answer.get("params", {})
        match answer.get("method"):
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(params["exceptionDetails"])[:500])
            case "Log.entryAdded":
                self.complaints.append(params["entry"]["text"])
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
        return answer

    def open(self, url: str, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url="about:blank")  # else another fragment is no other page
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete' && document.querySelector('h2')")

    def until(self, script: str) -> None:
        """Waits until an expression is true; the machine may be busy."""
        limit = time.monotonic() + 30
        while not self.run(f"Boolean({script})"):
            assert time.monotonic() < limit, (script, self.complaints)
            time.sleep(0.05)

    def run(self, script: str) -> Any:
        """The value of an expression in the page; awaited where it is a promise."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def settle(self) -> None:
        """Until what was asked for has been drawn."""
        self.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


@contextlib.contextmanager
def browser() -> Iterator[Page]:
    profile = tempfile.mkdtemp(prefix="singularity-chromium-")
    to_it, to_us = os.pipe(), os.pipe()

    def hand_over() -> None:
        read, write = (fcntl.fcntl(fd, fcntl.F_DUPFD, 50) for fd in (to_it[0], to_us[1]))  # neither is 3 or 4 itself
        os.dup2(read, 3)
        os.dup2(write, 4)

    words = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run"]
    words += [f"--user-data-dir={profile}", "--disable-background-networking", "--disable-dev-shm-usage"]
    process = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        preexec_fn=hand_over, close_fds=False, start_new_session=True,
        env={**os.environ, "HOME": profile},
    )  # fmt: skip
    os.close(to_it[0])
    os.close(to_us[1])
    try:
        yield Page(to_us[0], to_it[1])
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(to_it[1])
        os.close(to_us[0])
        shutil.rmtree(profile, ignore_errors=True)
