"""The one place that starts the programs we rely on: argument lists, an environment built from nothing, empty stdin."""

import logging
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from singularity import kernel
from singularity.errors import ToolError

logger = logging.getLogger(__name__)

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PACKAGES = {
    "debootstrap": "debootstrap",
    "mksquashfs": "squashfs-tools",
    "unsquashfs": "squashfs-tools",
    "newuidmap": "uidmap",
    "newgidmap": "uidmap",
}
_GRACE = 1.0  # seconds between TERM and KILL


def search_path() -> str:
    """Where tools are looked for: root's must come from the system, a user's may also come from the user."""
    if os.geteuid() == 0:
        return SYSTEM_PATH
    return f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}".lstrip(":")


def find(name: str, *, purpose: str) -> Path:
    """The path of a tool. Raises ToolError naming the package that has it."""
    found = shutil.which(name, path=search_path())
    if found is None:
        raise ToolError(f"{name} not found, needed to {purpose}", hint=f"install {PACKAGES.get(name, name)}")
    return Path(found)


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """What every tool gets: a search path, the C locale, and what the caller of this function adds."""
    return {"PATH": search_path(), "LC_ALL": "C.UTF-8", **(extra or {})}


def run(
    argv: Sequence[str | Path],
    *,
    purpose: str,
    environment: Mapping[str, str] | None = None,
    accept: Collection[int] = (0,),
    keep: Collection[int] = (),
    directory: Path | None = None,
    on_line: Callable[[str], None] | None = None,
) -> str:
    """Run one tool to its end; return its stdout, as text.

    `keep` are descriptors the tool inherits. `on_line` sees each line of output, stderr included, as it comes.
    However this ends, the tool has ended: an exception, or our own death, takes it along.
    Raises ToolError: missing, killed, or a status not in `accept`.
    """
    words = [str(word) for word in argv]
    program = find(words[0], purpose=purpose)
    logger.debug("Running %s", shlex.join(words))
    process = subprocess.Popen(
        words,
        executable=program,
        env=clean_environment(environment),
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if on_line else subprocess.PIPE,
        pass_fds=tuple(keep),
        process_group=0,
        preexec_fn=_die_with_parent,
        text=True,
        errors="surrogateescape",
    )
    try:
        output, complaints = _follow(process, on_line) if on_line else process.communicate()
    except BaseException:
        _end(process)
        raise
    for line in complaints.splitlines():
        logger.debug("%s: %s", words[0], line)
    if process.returncode in accept:
        return output
    raise _failure(words[0], purpose, process.returncode, complaints.strip() or output)


def _follow(process: "subprocess.Popen[str]", on_line: Callable[[str], None]) -> tuple[str, str]:
    lines: list[str] = []
    with process:
        for line in process.stdout or ():
            lines.append(line)
            on_line(line.rstrip("\n"))
    return "".join(lines), ""


def _die_with_parent() -> None:
    kernel.die_with_parent(signal.SIGKILL)


def _end(process: "subprocess.Popen[str] | subprocess.Popen[bytes]") -> None:
    """Ends the tool and all it started, which share its process group."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(timeout=_GRACE)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def _failure(name: str, purpose: str, status: int, output: str) -> ToolError:
    if status < 0:
        reason = f"killed by {signal.Signals(-status).name}"
    else:
        reason = telling_line(output) or f"exit status {status}"
    return ToolError(f"{name} could not {purpose}: {reason}", hint="--debug shows the command")


def telling_line(output: str) -> str:
    """The line of a failed tool's output that says most: the last that speaks of an error, else the last of all."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith("E: ") or "error" in line.lower() or "fatal" in line.lower()]
    return (telling or lines or [""])[-1]


def attached(argv: Sequence[str | Path], *, environment: Mapping[str, str]) -> int:
    """Runs a script of the user's to its end, its output going where ours goes; returns its exit status.

    Death by a signal is 128 and its number. An exception, or our own death, takes the script along.
    """
    process = subprocess.Popen(
        [str(word) for word in argv],
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        process_group=0,
        preexec_fn=_die_with_parent,
    )
    try:
        status = process.wait()
    except BaseException:
        _end(process)
        raise
    return status if status >= 0 else 128 - status
