"""Typing `singularity ...` as a user would: who types it, on what machine, and what came of it."""

from __future__ import annotations

import dataclasses
import enum
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import machine

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ordinary_user import Account, World

LAUNCH_VERBS = ("exec", "run", "shell", "test")
TIMEOUT = 120.0 if os.environ.get("GUEST") else 30.0  # seconds; emulated machines are slow
OUR_LEVELS = ("FATAL:   ", "ERROR:   ", "WARNING: ", "INFO:    ")


class Mode(enum.Enum):
    SUID = "suid"
    USERNS = "userns"
    ROOT = "root"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How a command ended: its status (negative: the signal that ended it) and what it wrote."""

    argv: tuple[str, ...]
    status: int
    stdout: bytes
    stderr: bytes

    @property
    def out(self) -> str:
        return self.stdout.decode(errors="surrogateescape")

    @property
    def err(self) -> str:
        return self.stderr.decode(errors="surrogateescape")

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    def __str__(self) -> str:
        ended = f"status {self.status}" if self.status >= 0 else f"signal {-self.status}"
        return f"{' '.join(self.argv)}\n{ended}\n--- stdout\n{self.out[-4000:]}\n--- stderr\n{self.err[-4000:]}"

    def ok(self) -> Result:
        """It succeeded and said nothing of its own."""
        assert self.status == 0, str(self)
        assert self.err == "", str(self)
        return self

    def warned(self, *words: str) -> Result:
        """It succeeded, with one WARNING that holds these words."""
        assert self.status == 0, str(self)
        return self._said("WARNING: ", words)

    def refused(self, *words: str, status: int = 255) -> Result:
        """It ended with `status`, one FATAL line that holds these words, and nothing on standard output."""
        assert self.status == status, str(self)
        assert self.stdout == b"", str(self)
        return self._said("FATAL:   ", words)

    def misused(self, *words: str) -> Result:
        """Wrong usage: one line, status 1."""
        assert self.status == 1, str(self)
        assert self.stdout == b"", str(self)
        assert len(self.err.splitlines()) == 1, str(self)
        for word in words:
            assert word in self.err, str(self)
        return self

    def _said(self, level: str, words: Sequence[str]) -> Result:
        lines = self.err.splitlines()
        ours = [line for line in lines if line.startswith(level)]
        assert len(ours) == 1, str(self)
        assert all(line.startswith(OUR_LEVELS) for line in lines), str(self)
        for word in words:
            assert word.lower() in ours[0].lower(), f"{word!r} is not in {ours[0]!r}\n{self}"
        return self


def decode(status: int, argv: Sequence[str], stdout: bytes, stderr: bytes) -> Result:
    return Result(argv=tuple(argv), status=status, stdout=stdout, stderr=stderr)


@dataclass(frozen=True, slots=True, kw_only=True)
class Launcher:
    """Types commands in one mode on one machine, a private one where root runs the tests."""

    prefix: Path
    mode: Mode
    world: World
    home: Path  # the home directory as this process sees it
    directory: Path  # of the test, for files that it makes
    env: Mapping[str, str | None] = dataclasses.field(default_factory=dict)

    @property
    def account(self) -> Account:
        return self.world.account

    @property
    def home_inside(self) -> Path:
        """The home directory as the user names it."""
        return self.account.home

    @property
    def config_path(self) -> Path:
        within = Path("/etc") if self.prefix == Path("/usr") else self.prefix / "etc"
        return within / "singularity/singularity.conf"

    @property
    def starter(self) -> Path:
        name = "sexec-suid" if self.mode is Mode.SUID else "sexec"
        return self.prefix / "libexec/singularity" / name

    def changed(self, **changes: Any) -> Launcher:
        """The same on another machine: fields of World. Most of them need root, for a machine of our own."""
        if set(changes) - {"before", "cwd", "refusals"}:
            machine.require("root")
        return dataclasses.replace(self, world=dataclasses.replace(self.world, **changes))

    def with_env(self, **env: str | None) -> Launcher:
        return dataclasses.replace(self, env={**self.env, **env})

    def showing(self, target: Path, source: Path) -> Launcher:
        """The same where `source` is found at `target`."""
        return self.changed(replaced={**self.world.replaced, target: source})

    def configured(self, text: str, *, owner: int = 0, mode: int = 0o644) -> Launcher:
        """The same with this configuration file, root's own unless told otherwise."""
        machine.require("root")
        path = self.directory / f"singularity-{len(list(self.directory.iterdir()))}.conf"
        path.write_text(text)
        os.chown(path, owner, owner)
        path.chmod(mode)
        return self.showing(self.config_path, path)

    def argv(self, *words: str | Path, first: Sequence[str] = ()) -> list[str]:
        """The command line: `first` before the verb, and the option of the mode right after it."""
        texts = [str(word) for word in words]
        option = ["-u"] if self.mode is Mode.USERNS and texts and texts[0] in LAUNCH_VERBS else []
        return [str(self.prefix / "bin/singularity"), *first, *texts[:1], *option, *texts[1:]]

    def environment(self, env: Mapping[str, str | None]) -> dict[str, str]:
        base = self.world.environment(self.prefix / "bin")
        merged = {**base, "HOME": str(self.home if not self.world.private else self.home_inside), **self.env, **env}
        return {name: value for name, value in merged.items() if value is not None}

    def __call__(
        self,
        *words: str | Path,
        first: Sequence[str] = (),
        stdin: bytes | None = None,
        env: Mapping[str, str | None] = {},
        timeout: float = TIMEOUT,
        **changes: Any,
    ) -> Result:
        return self.command(*self.argv(*words, first=first), stdin=stdin, env=env, timeout=timeout, **changes)

    def command(
        self,
        *argv: str | Path,
        stdin: bytes | None = None,
        env: Mapping[str, str | None] = {},
        timeout: float = TIMEOUT,
        **changes: Any,
    ) -> Result:
        """Any command line, typed by the user of this mode."""
        with self.start(
            *argv, env=env, stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL, **changes
        ) as process:
            try:
                stdout, stderr = process.communicate(stdin, timeout=timeout)
            except subprocess.TimeoutExpired as error:
                os.killpg(process.pid, signal.SIGKILL)
                stdout, stderr = process.communicate()
                text = f"not finished after {timeout:.0f} s: {argv}\n{stdout!r}\n{stderr!r}"
                raise AssertionError(text) from error
        return decode(process.returncode, [str(word) for word in argv], stdout, stderr)

    def start(
        self,
        *argv: str | Path,
        env: Mapping[str, str | None] = {},
        stdin: int | IO[bytes] | None = subprocess.DEVNULL,
        stdout: int | IO[bytes] = subprocess.PIPE,
        stderr: int | IO[bytes] = subprocess.PIPE,
        pass_fds: Sequence[int] = (),
        executable: str | None = None,
        **changes: Any,
    ) -> subprocess.Popen[bytes]:
        """The command running; it leads a process group (and session) of its own."""
        launcher = self.changed(**changes) if changes else self
        return subprocess.Popen(
            [str(word) for word in argv],
            env=launcher.environment(env),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            pass_fds=pass_fds,
            executable=executable,
            start_new_session=True,
            preexec_fn=launcher.world.enter,
            cwd="/",
        )
