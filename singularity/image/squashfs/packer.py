"""Layers to layer files, and those to squashfs file systems, by `singularity-pack`, a program of ours (`packer/`).

It runs as the user, reads and writes descriptors that are open already, and says what is wrong in one line. Where it
was not built, mksquashfs makes images of a stream.

Members of merge: what was asked for comes on its standard output, each as the size of a record (4 bytes), the record as
`_RECORD` has it with path and target, the number of its extended attributes with the sizes of name and value before
each (4 bytes each), and the content of a file. A size of 0 is the end; then, when the file system is written, how many
times and lists of attributes squashfs had no room for.
"""

import os
import struct
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO

from singularity import paths
from singularity.errors import ImageError, ToolError
from singularity.image.archive.compression import widen
from singularity.image.squashfs.tools import kernel_reads_zstd
from singularity.image.tree import Entry, Kind, Member, Tree
from singularity.process import Running, started

LEVEL = 3  # of zstd: docs/performance.md has the table
_GZIP_LEVEL = 6
_VERSION = 1  # of layer files; another number, and all are made anew
_BAD_INPUT, _DAMAGED = 2, 3  # exit statuses
_RECORD = struct.Struct("<BxHIIqIIIIIQQQIII")
_COUNT, _PAIR = struct.Struct("<I"), struct.Struct("<II")
_KINDS = {
    ord("f"): Kind.FILE,
    ord("d"): Kind.DIRECTORY,
    ord("l"): Kind.LINK,
    ord("h"): Kind.HARD_LINK,
    ord("c"): Kind.CHARACTER_DEVICE,
    ord("b"): Kind.BLOCK_DEVICE,
    ord("p"): Kind.FIFO,
}
_NANOSECONDS = 10**9
_CHUNK = 1 << 20


class DamagedLayerError(ImageError):
    """A layer file is not as it was made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How layers are compressed, and how the files of them are laid out; images are merged of files of one form."""

    compressor: str
    level: int

    def __str__(self) -> str:
        return f"{self.compressor}-{self.level}.{_VERSION}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which files of a layer are stored for a fast start, as patterns of paths (`build/layout.py` says which)."""

    hot: Sequence[str] = ()
    warm: Sequence[str] = ()  # while what that costs is small
    alone: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Members that `merge` tells of: patterns of paths."""

    hold: Sequence[str] = ()  # files and links, with their content, which are taken out of the file system
    hold_links: Sequence[str] = ()  # the same of links
    hold_trees: Sequence[str] = ()  # the same of directories and all below them
    show: Sequence[str] = ()  # without their content
    read: Sequence[str] = ()  # with it, and with what is below them: where one of the links was held


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """What squashfs had no room for."""

    times: int
    lists: int


@cache
def is_there() -> bool:
    """Whether the program was built and installed."""
    return os.access(_program(), os.X_OK)


def _program() -> Path:
    return paths.beside("singularity-pack")


def form(level: int = LEVEL) -> Form:
    """zstd where the running kernel reads it, else gzip."""
    return Form(compressor="zstd", level=level) if kernel_reads_zstd() else Form(compressor="gzip", level=_GZIP_LEVEL)


def write_layer(
    archive: int, target: int, *, form: Form, choice: Choice, digest: str, limit: int, budget: int, name: str
) -> None:
    """Makes a layer file, in an open and empty file, of a tar archive that a descriptor is open for.

    The archive must have this digest, and at most `limit` bytes; `budget` bytes more than needed may go to files that
    are `warm`. Raises ImageError and ToolError.
    """
    argv = [*_layer(target, form, choice, budget), "--digest", digest, "--limit", str(limit)]
    with _told(name), started(argv, purpose=f"pack {name}", stdin=archive, keep=[target]):
        pass


@contextmanager
def layer(target: int, *, form: Form, choice: Choice, budget: int, name: str) -> Iterator[BinaryIO]:
    """The same of the archive that is written meanwhile, by us: of any digest and size."""
    argv = _layer(target, form, choice, budget)
    with _told(name), started(argv, purpose=f"pack {name}", stdin=subprocess.PIPE, keep=[target]) as tool:
        if tool.stdin is None:
            raise ValueError("a tool that was started without a pipe")
        widen(tool.stdin)
        yield tool.stdin


def _layer(target: int, form: Form, choice: Choice, budget: int) -> list[str | Path]:
    argv: list[str | Path] = [_program(), "layer", "--output", str(target), *_options(form), "--budget", str(budget)]
    return argv + _repeated(("--hot", choice.hot), ("--warm", choice.warm), ("--alone", choice.alone))


class Merging:
    """A merge that goes on: its members are read to their end, then an archive is written to it, then it is closed."""

    def __init__(self, tool: Running) -> None:
        if tool.stdin is None or tool.stdout is None:
            raise ValueError("a tool that was started without pipes")
        widen(tool.stdin)
        self.input: BinaryIO = tool.stdin
        self._output: BinaryIO = tool.stdout

    def members(self) -> Tree:
        """What was asked for; directories before what is in them, hard links last."""
        while size := self._number():
            data = self._output.read(size)
            if len(data) < size:
                raise EOFError
            fields = _RECORD.unpack_from(data)
            kind, mode, uid, gid, time, major, minor = fields[:7]
            path = data[_RECORD.size : _RECORD.size + fields[8]]
            member = Member(
                path=path,
                kind=_KINDS[kind],
                mode=mode,
                uid=uid,
                gid=gid,
                mtime=time * _NANOSECONDS,
                size=fields[10],
                target=data[_RECORD.size + fields[8] :],
                device=os.makedev(major, minor),
                xattrs=self._attributes(),
            )
            content = _Content(self._output, member.size)
            yield Entry(member, content)
            content.finish()

    def finish(self) -> Losses:
        """What was lost, when all is written."""
        self.input.close()
        return Losses(times=self._number(), lists=self._number())

    def _number(self) -> int:
        data = self._output.read(_COUNT.size)
        if len(data) < _COUNT.size:
            raise EOFError
        (number,) = _COUNT.unpack(data)
        return int(number)

    def _attributes(self) -> dict[bytes, bytes]:
        found = {}
        for _ in range(self._number()):
            name, value = _PAIR.unpack(self._output.read(_PAIR.size))
            key = self._output.read(name)
            found[key] = self._output.read(value)
        return found


class _Content:
    """The bytes of one file, to be read before the next member."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._left = file, size

    def __iter__(self) -> Iterator[bytes]:
        while self._left:
            data = self._file.read(min(self._left, _CHUNK))
            if not data:
                raise EOFError
            self._left -= len(data)
            yield data

    def finish(self) -> None:
        for _ in self:
            pass


@contextmanager
def merging(
    layers: Sequence[Path],
    target: int,
    *,
    offset: int,
    form: Form,
    told: Told,
    epoch: int | None,
    scratch: Path,
    name: str,
    first: Sequence[str] = (),
    literal: bool = False,
) -> Iterator[Merging]:
    """Writes a squashfs file system of layer files, the lowest first, `offset` bytes into an open file.

    Files that match one of `first`, patterns of paths, come before all others. With `literal` no name in the layers is
    a whiteout. Raises DamagedLayerError, ImageError and ToolError.
    """
    argv: list[str | Path] = [_program(), "merge", "--output", str(target), "--offset", str(offset), *_options(form)]
    argv += ["--scratch", scratch, *(["--epoch", str(epoch)] if epoch is not None else [])]
    argv += ["--literal"] if literal else []
    argv += _repeated(
        ("--hot", first), ("--hold", told.hold), ("--hold-link", told.hold_links), ("--hold-tree", told.hold_trees)
    )
    argv += _repeated(("--show", told.show), ("--read", told.read))
    with (
        _told(name),
        started(
            [*argv, "--", *layers],
            purpose=f"write {name}",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            keep=[target],
        ) as tool,
    ):
        try:
            yield Merging(tool)
        except (EOFError, BrokenPipeError):  # it is about to end, and how it does says more
            os.waitid(os.P_PID, tool.pid, os.WEXITED | os.WNOWAIT)
            raise


def _options(form: Form) -> list[str]:
    threads = str(len(os.sched_getaffinity(0)))
    return ["--compressor", form.compressor, "--level", str(form.level), "--threads", threads]


def _repeated(*options: tuple[str, Sequence[str]]) -> list[str]:
    return [word for option, patterns in options for pattern in patterns for word in (option, pattern)]


@contextmanager
def _told(name: str) -> Iterator[None]:
    """What the program finds wrong in what it reads, as ImageError."""
    try:
        yield
    except ToolError as error:
        if error.status == _DAMAGED:
            raise DamagedLayerError(error.reason) from error
        if error.status == _BAD_INPUT:
            raise ImageError(f"{name}: {error.reason}") from error
        raise
