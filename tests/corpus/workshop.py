"""The workshop: a root file system of Debian sid with the image builders of today, and Docker's daemon running in it.

Needs root, Debian's mirror, and the registry on loopback. Each command has mount and PID namespaces of its own. Writes
below one directory, which stays between runs.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import machine

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

PACKAGES = (
    "ca-certificates docker.io docker-cli docker-buildx containerd stargz-snapshotter buildah podman crun umoci skopeo "
    "crane qemu-utils"
)
SOME_TIME = 'Acquire::Check-Valid-Until "false";'  # where the mirror is one of yesterday
_LIMIT = 1800  # seconds for one command

# The directory of the corpus has the same name inside; /run and /tmp are of each command.
_ENTER = """
set -e
mount --bind "$ROOT" "$ROOT"
mount -t proc proc "$ROOT/proc"; mount --rbind /sys "$ROOT/sys"; mount --rbind /dev "$ROOT/dev"
mount -t tmpfs tmpfs "$ROOT/tmp"; mount -t tmpfs tmpfs "$ROOT/run"
cp /etc/resolv.conf /etc/hosts "$ROOT/etc/"
mkdir -p "$ROOT$PLACE"; mount --rbind "$PLACE" "$ROOT$PLACE"
exec chroot "$ROOT" "$@"
"""


def run(argv: Sequence[str | Path], *, cwd: Path | None = None, shown: str = "", **environment: str) -> str:
    """A command to its end; what it wrote to standard output. An AssertionError shows it and what it said."""
    words = [str(word) for word in argv]
    done = subprocess.run(
        words,
        cwd=cwd,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=_LIMIT,
    )
    assert done.returncode == 0, f"{shown or ' '.join(words)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@contextmanager
def whole(target: Path) -> Iterator[Path]:
    """A new name beside `target`, which it gets at the end: what is there of an earlier run is whole."""
    new = target.with_name(f"{target.name}.new")
    for path in (new, target):
        if path.is_dir():
            shutil.rmtree(path)
    yield new
    new.rename(target)


@dataclass(frozen=True)
class Workshop:
    """Runs lines of shell among the builders."""

    place: Path  # holds all of the corpus

    @property
    def root(self) -> Path:
        return self.place / "workshop"

    @property
    def daemon(self) -> Path:
        return self.place / "run"

    def prepare(self) -> None:
        """Makes the root file system, once."""
        self.daemon.mkdir(parents=True, exist_ok=True)
        if (self.root / "packages").is_file() and (self.root / "packages").read_text() == PACKAGES:
            return
        with whole(self.root) as new:
            words = ["mmdebstrap", f"--aptopt={SOME_TIME}", "--variant=apt", f"--include={PACKAGES.replace(' ', ',')}"]
            run([*words, "sid", new, machine.mirror()])
            (new / "packages").write_text(PACKAGES)

    def argv(self, *words: str | Path) -> list[str]:
        """The command line that runs one inside, in namespaces that end with it."""
        enter = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
        return [*enter, "sh", "-c", _ENTER, "sh", *map(str, words)]

    def environment(self) -> dict[str, str]:
        return {
            "ROOT": str(self.root),
            "PLACE": str(self.place),
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/tmp",
            "STORAGE": str(self.place),
            "DOCKER_HOST": f"unix://{self.daemon}/docker.sock",
            "CONTAINERD": f"{self.daemon}/docker/containerd/containerd.sock",
        }

    def __call__(self, script: str, **variables: str | Path) -> str:
        """Runs the lines; the first that fails ends them, and is an AssertionError with the last of the lines."""
        texts = {name: str(value) for name, value in variables.items()}
        return run(self.argv("sh", "-euc", script), shown=script.splitlines()[-1], **self.environment(), **texts)

    @contextmanager
    def docker(self) -> Iterator[None]:
        """Docker's daemon, with containerd's store of images; its containers use the machine's network."""
        words = ["dockerd", "--data-root", self.place / "docker", "--exec-root", self.daemon / "docker"]
        words += ["--host", f"unix://{self.daemon}/docker.sock", "--pidfile", "/run/docker.pid", "--bridge=none"]
        words += ["--iptables=false", "--ip6tables=false", "--feature", "containerd-snapshotter=true"]
        shutil.rmtree(self.daemon / "docker", ignore_errors=True)
        (self.daemon / "docker.sock").unlink(missing_ok=True)
        with (self.daemon / "docker.log").open("wb") as log:
            environment = {**os.environ, **self.environment()}
            streams = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
            process = subprocess.Popen(self.argv(*words), env=environment, start_new_session=True, **streams)  # type: ignore[call-overload]
        try:
            self._wait(process)
            yield
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()  # and with it, by --kill-child, all that is in its PID namespace
            process.wait()

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end and process.poll() is None:
            with suppress(AssertionError):
                self("docker version")
                return
            time.sleep(0.3)
        raise AssertionError(f"dockerd does not start: {(self.daemon / 'docker.log').read_text()[-3000:]}")
