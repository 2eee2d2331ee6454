"""One container for many calls: it is set up once, and each program that is called joins it.

A process holds it, whose standard input is a pipe of ours: when we end, however we do, that ends, and with it and the
last program that was called the container. Programs find it by a name that nobody else has (`--join=@NAME`).
"""

import os
import select
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Self

from singularity.api import door
from singularity.api.callee import Callee, Waits, refuse
from singularity.api.calls import Call, wait
from singularity.api.door import Word
from singularity.api.images import Image, fetched, is_uri
from singularity.api.words import of_launches, spelled
from singularity.errors import LaunchError

if TYPE_CHECKING:
    from typing import Unpack

    from singularity.api.options import ExecOptions

_GRACE = 5.0  # seconds in which a holder ends whose input has ended
_FETCHING = ("platform", "arch", "arch_variant", "no_https", "authfile", "disable_cache", "verify_cache", "offline",
             "library", "docker_host", "tmpdir")  # fmt: skip


class Held(Callee):
    """A container of our own, for `Container` and for that of `aio`."""

    def __init__(self, image: Word, **options: "Unpack[ExecOptions]") -> None:
        """Of `image`, with the options of `singularity exec`. Nothing is started yet."""
        if "join" in options:
            raise TypeError("Container() has no option 'join': it shares by itself")
        self._known = of_launches("exec")
        self._options: Mapping[str, object] = options
        spelled("Container", self._known, self._options)
        self._image = image
        self._fetched: Image | None = None  # where a URI names it
        self._name = f"python-{uuid.uuid4().hex}"
        self._holder: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {os.fspath(self._image)!r}, {'open' if self._holder else 'closed'}>"

    def _fetch(self) -> Call[Image] | None:
        """Once, and not anew for each call; None where there is nothing to be fetched."""
        if not is_uri(self._image) or self._fetched is not None:
            return None
        return fetched(self._image, **{key: value for key, value in self._options.items() if key in _FETCHING})  # type: ignore[arg-type] # by name

    def _begin(self) -> None:
        """Sets the container up. Raises LaunchError."""
        if self._holder is not None:
            raise LaunchError(f"{os.fspath(self._image)}: this container is open already")
        with suppress(FileNotFoundError):  # it is gone, and launches say so
            self._directory = os.getcwd()  # one of the things that are the same for all who share
        pipe = subprocess.PIPE
        holder = subprocess.Popen(
            self._words({}, (), "exec"), stdin=pipe, stdout=pipe, stderr=pipe, cwd=self._directory, process_group=0
        )
        try:
            ready = _pipe(holder.stdout).read(1)
        except BaseException:
            holder.kill()
            holder.communicate()
            raise
        if ready != b"\n":
            _, errors = holder.communicate()
            failed = door.complaint(holder.returncode, errors)
            raise failed or LaunchError(f"{os.fspath(self._image)}: its container has ended while it was set up")
        self._holder = holder

    def _finish(self) -> None:
        """Ends what holds it; the container ends with the last program in it."""
        holder, self._holder = self._holder, None
        for pipe in (holder.stdin, holder.stdout, holder.stderr) if holder else ():
            with suppress(OSError):
                if pipe is not None:
                    pipe.close()
        if holder is not None:
            try:
                holder.wait(_GRACE)
            except subprocess.TimeoutExpired:
                holder.kill()
                holder.wait()
        found, self._fetched = self._fetched, None
        if found is not None:
            found.close()

    def _words(self, options: Mapping[str, object], program: Sequence[Word], verb: str) -> tuple[str, ...]:
        both = spelled("Container", self._known, {**self._options, **options})
        return door.launch([verb], [f"--join=@{self._name}", *both], self._fetched or self._image, program)

    def _called(self, options: Mapping[str, object], program: Sequence[Word], verb: str) -> tuple[str, ...]:
        refuse(options, self._known)
        if self._holder is None or _has_ended(self._holder):
            what = "is not open" if self._holder is None else "has ended"
            raise LaunchError(f"{os.fspath(self._image)}: its container {what}", hint="with Container(IMAGE) as c:")
        return self._words(options, program, verb)


def _has_ended(holder: "subprocess.Popen[bytes]") -> bool:
    """By its output, since it is no child of those that fork themselves from here."""
    poll = select.poll()
    poll.register(_pipe(holder.stdout), 0)
    return bool(poll.poll(0))


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None  # noqa: S101 - as it was started
    return pipe


class Container(Held, Waits):
    """A container that is set up once, for many programs: `with Container("x.sif", bind=["/data"]) as c: c.exec("ls")`.

    They see each other's processes, files in memory and, with `writable_tmpfs`, what they write. It ends with the
    `with` block, or with this process, and the last program in it. Threads may call in it at once.
    """

    def open(self) -> None:
        """Sets the container up, which `with` does by itself. Raises LaunchError, and what fetching raises."""
        call = self._fetch()
        if call is not None:
            self._fetched = wait(call)
        self._begin()

    def close(self) -> None:
        """Lets it end as soon as no program is in it any more."""
        self._finish()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *about: object) -> None:
        self.close()
