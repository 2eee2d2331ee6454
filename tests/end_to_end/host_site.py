"""A machine where root allows some commands to containers (--host-cmd), and what runs on it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import machine

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Sequence

    from launching import Launcher, Result


HELPER = "host-commands"
INSIDE = "/.singularity.d/host"
GONE = "the helper of this container"


def called(name: str, above: int) -> list[int]:
    """The children of a process that have this name."""
    text = Path(f"/proc/{above}/task/{above}/children").read_text()
    return [child for child in map(int, text.split()) if comm(child) == name]


def comm(process: int) -> str:
    try:
        return Path(f"/proc/{process}/comm").read_text().strip()
    except OSError:
        return ""


def state(process: int) -> str:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def running(word: str) -> list[int]:
    """The processes, anybody's, whose command line has this word."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and state(int(entry.name)) not in ("", "Z"):
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if word.encode() in words:
                found.append(int(entry.name))
    return found


def until(what: Callable[[], object], *, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


@dataclass(frozen=True, kw_only=True)
class Site:
    """A machine where root allows some commands, and the user has a few more."""

    launch: Launcher
    image: Path
    places: Path  # where helpers make their sockets
    commands: Path

    def exec(self, *words: str | Path, options: Sequence[str] = (), names: str = "onhost", **more: object) -> Result:
        return self.launch("exec", f"--host-cmd={names}", *options, self.image, *words, **more)  # type: ignore[arg-type]

    def sh(self, script: str, *options: str, **more: object) -> Result:
        return self.exec("sh", "-c", script, options=options, **more)

    def start(self, script: str, *options: str, **more: object) -> subprocess.Popen[bytes]:
        argv = self.launch.argv("exec", "--host-cmd=onhost", *options, self.image, "sh", "-c", script)
        return self.launch.start(*argv, **more)  # type: ignore[arg-type]

    def left(self) -> list[Path]:
        return sorted(self.places.glob("singularity-host-*"))

    def helper(self) -> int:
        """That of the only launch."""
        found: list[int] = []

        def there() -> bool:
            found[:] = [child for child in machine.children() if comm(child) == HELPER]
            return len(found) == 1

        until(there)
        return found[0]


def sleeping(mark: str) -> list[int]:
    return [pid for pid in running(mark) if comm(pid) == "sleep"]
