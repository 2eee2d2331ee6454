"""Compressed files as streams: gzip, bzip2, xz and zstd, known by their first bytes, in bounded memory.

Programs decompress a file while we do something else, so they are taken where they are installed. Without them, and
from pipes, gzip, bzip2 and xz are decompressed by Python's library; zstd, which that lacks, needs its program.
"""

import contextlib
import fcntl
import io
import os
import shutil
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from enum import Enum
from typing import TYPE_CHECKING, BinaryIO, cast

from singularity.errors import FileError, ImageError, ToolError
from singularity.image.archive.stream import CHUNK
from singularity.image.limits import LIMITS, Limits
from singularity.process import find, search_path, started

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

HEAD = 512  # bytes that can be looked at before they are read
_MEMORY = 1 << 30  # bytes that a decompressor may take


class Compression(Enum):
    """The kinds of compression; the value is the name for messages."""

    GZIP = "gzip"
    BZIP2 = "bzip2"
    XZ = "xz"
    ZSTD = "zstd"


_MAGICS = (
    (b"\x1f\x8b", Compression.GZIP),
    (b"BZh", Compression.BZIP2),
    (b"\xfd7zXZ\0", Compression.XZ),
    (b"\x28\xb5\x2f\xfd", Compression.ZSTD),
    *((bytes([first]) + b"\x2a\x4d\x18", Compression.ZSTD) for first in range(0x50, 0x60)),  # a frame to be skipped
)
_PROGRAMS: dict[Compression, tuple[tuple[str, ...], ...]] = {  # the first that is installed; the last is what is missed
    Compression.GZIP: (("igzip", "-dc"), ("pigz", "-dc"), ("gzip", "-dc")),  # the first takes half the time of others
    Compression.BZIP2: (("lbzip2", "-dc"), ("pbzip2", "-dc"), ("bzip2", "-dc")),
    Compression.XZ: (("xz", "-dc", "-T0", f"--memlimit-decompress={_MEMORY}"),),
    Compression.ZSTD: (("zstd", "-dcq", f"--memory={_MEMORY}"),),
}


def recognise(head: bytes) -> Compression | None:
    """The compression that a file beginning with `head` has; None for none that is known."""
    return next((kind for magic, kind in _MAGICS if head.startswith(magic)), None)


@contextmanager
def decompressed(
    file: BinaryIO, name: str, *, limits: Limits = LIMITS, aside: bool = False
) -> Iterator[io.BufferedReader]:
    """What is in a compressed file, or the file as it is; `name` stands in messages.

    `file` is read from where it stands, and may be a pipe. With `aside` a program decompresses it even then, which
    pays where there is much of it. The first HEAD bytes of the result can be had by `peek`. It must be read to its end,
    so that damage is seen. Raises ImageError for damage and for more than `limits.ratio`,
    FileError when the file cannot be read, ToolError when only a program could decompress it and it is missing.
    """
    start = _offset(file)
    source = _Input(file, name)
    plain: io.BufferedReader = io.BufferedReader(source, CHUNK)
    kind = recognise(plain.peek(HEAD))
    if kind is None:
        yield plain
        return
    argv = _program(kind) if start is not None or aside or kind is Compression.ZSTD else None
    if argv is None:
        with _library(kind, plain) as raw:
            yield _limited(raw, name, kind, limits, lambda: source.count)
    elif start is None:
        with _by_program(argv, subprocess.PIPE, name) as (raw, pipe), _pumped(plain, cast("BinaryIO", pipe)):
            yield _limited(raw, name, kind, limits, lambda: source.count)
    else:
        fd = file.fileno()
        os.lseek(fd, start, os.SEEK_SET)
        with _by_program(argv, fd, name) as (raw, _):
            yield _limited(raw, name, kind, limits, lambda: os.lseek(fd, 0, os.SEEK_CUR) - start)


@contextmanager
def piped(file: BinaryIO, name: str, *, limits: Limits = LIMITS) -> Iterator[tuple[int, int]]:
    """A descriptor for a program that reads what is in a file, decompressed; and the most bytes that may come of it.

    A regular file goes from the program that decompresses it to the one that reads, and never through us. Raises as
    `decompressed` does.
    """
    start = _offset(file)
    if start is None:
        with decompressed(file, name, limits=limits, aside=True) as stream, _poured(stream) as fd:
            yield fd, limits.total
        return
    fd = file.fileno()
    kind = recognise(os.pread(fd, HEAD, start))
    most = max(limits.ratio_after, limits.ratio * (os.fstat(fd).st_size - start))
    os.lseek(fd, start, os.SEEK_SET)
    argv = _program(kind) if kind is not None else None
    if argv is not None:
        with _by_program(argv, fd, name) as (raw, _):
            yield raw.fileno(), most
    elif kind is None:
        yield fd, most
    else:
        with decompressed(file, name, limits=limits) as stream, _poured(stream) as pipe:
            yield pipe, most


@contextmanager
def _poured(stream: BinaryIO) -> Iterator[int]:
    """The reading end of a pipe, into which a stream of ours goes while the block runs."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    with open(reading, "rb", buffering=0) as end:
        widen(end)
        with _pumped(cast("io.BufferedReader", stream), open(writing, "wb", buffering=0)):
            yield reading


def _offset(file: BinaryIO) -> int | None:
    """Where in a regular file, which a program can read by itself, we stand; None for all else."""
    try:
        return file.tell() if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else None
    except (OSError, AttributeError):
        return None


def _program(kind: Compression) -> Sequence[str] | None:
    """The command line of a program for this; None where there is none and none is needed."""
    for argv in _PROGRAMS[kind]:
        if shutil.which(argv[0], path=search_path()):
            return argv
    if kind is Compression.ZSTD:
        find(_PROGRAMS[kind][-1][0], purpose=f"decompress {kind.value}")
    return None


@contextmanager
def _by_program(argv: Sequence[str], stdin: int, name: str) -> Iterator[tuple[BinaryIO, BinaryIO | None]]:
    """The output of a program and, where it was asked for, the pipe into it."""
    try:
        with started(argv, purpose=f"decompress {name}", stdin=stdin, stdout=subprocess.PIPE) as tool:
            for pipe in (tool.stdin, tool.stdout):
                if pipe is not None:
                    widen(pipe)
            yield cast("BinaryIO", tool.stdout), tool.stdin
    except ToolError as error:
        reason = str(error).rpartition(f"decompress {name}: ")[2]
        raise ImageError(f"{name}: damaged, or incomplete: {reason}") from error


@contextmanager
def _pumped(source: io.BufferedReader, pipe: BinaryIO) -> Iterator[None]:
    """Feeds a program from a stream of ours while the block runs; failures to read come out at its end."""
    failures: list[Exception] = []

    def pump() -> None:
        try:
            with contextlib.suppress(BrokenPipeError), pipe:
                while chunk := source.read1(CHUNK):
                    pipe.write(chunk)
        except Exception as error:  # for the thread that waits: here nobody would see it
            failures.append(error)

    thread = threading.Thread(target=pump, daemon=True)  # may wait for input that never comes, when we have to stop
    thread.start()
    yield
    thread.join()
    if failures:
        raise failures[0]


def _library(kind: Compression, plain: BinaryIO) -> AbstractContextManager[BinaryIO]:
    if kind is Compression.GZIP:
        import gzip

        return cast("AbstractContextManager[BinaryIO]", gzip.GzipFile(fileobj=plain))
    if kind is Compression.BZIP2:
        import bz2

        return cast("AbstractContextManager[BinaryIO]", bz2.BZ2File(plain))
    import lzma

    return cast("AbstractContextManager[BinaryIO]", lzma.LZMAFile(plain))


class _Input(io.RawIOBase):
    """A file of ours, with a count of what was read; the first bytes come together."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.count = 0
        self._file = file
        self._read = getattr(file, "read1", file.read)  # one call to the system, where that can be told
        self._name = name

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view = memoryview(buffer).cast("B")
        done = 0
        with FileError.about(self._name):
            if isinstance(self._file, io.FileIO) and self.count >= HEAD:
                done = self._file.readinto(buffer) or 0  # without a copy of a copy
                self.count += done
                return done
            while done < len(view) and (not done or self.count < HEAD):
                data = self._read(len(view) - done)
                if not data:
                    break
                view[done : done + len(data)] = data
                done += len(data)
                self.count += len(data)
        return done


def _limited(
    file: BinaryIO, name: str, kind: Compression, limits: Limits, consumed: Callable[[], int]
) -> io.BufferedReader:
    return io.BufferedReader(_Output(file, name, kind, limits, consumed), CHUNK)


class _Output(io.RawIOBase):
    """What a decompressor gives, with its failures as ours, and not too much of it; the first bytes come together."""

    def __init__(
        self, file: BinaryIO, name: str, kind: Compression, limits: Limits, consumed: Callable[[], int]
    ) -> None:
        self._read = getattr(file, "read1", file.read)
        self._pipe = getattr(file, "raw", None)  # of a program, which is read without a copy of a copy
        self._name = name
        self._kind = kind
        self._limits = limits
        self._consumed = consumed
        self._count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view = memoryview(buffer).cast("B")
        done = 0
        while done < len(view) and (not done or self._count < HEAD):
            count = self._next(view[done:])
            if not count:
                break
            done += count
            self._count += count
        if self._count > self._limits.ratio_after and self._count > self._limits.ratio * max(1, self._consumed()):
            what = f"{self._name}: more than {self._limits.ratio} times as large when decompressed"
            raise ImageError(what, hint="no archive of files is; it would fill the disk")
        return done

    def _next(self, view: memoryview) -> int:
        try:
            if isinstance(self._pipe, io.FileIO):
                return self._pipe.readinto(view) or 0
            data: bytes = self._read(len(view))
        except Exception as error:
            if not isinstance(error, (OSError, EOFError, *_failures())):
                raise
            raise ImageError(f"{self._name}: damaged, or incomplete, {self._kind.value} data: {error}") from error
        view[: len(data)] = data
        return len(data)


def widen(pipe: BinaryIO) -> None:
    """Gives a pipe a size that lets both of its sides work at the same time."""
    with contextlib.suppress(OSError):  # beyond what the administrator allows: it works all the same
        fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, CHUNK)


def _failures() -> tuple[type[Exception], ...]:
    """What the libraries raise, of those that are in use."""
    import lzma
    import zlib

    return lzma.LZMAError, zlib.error
