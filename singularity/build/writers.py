"""A root file system as a stream becomes a tar archive or an ext3 image, in a new file that is there already."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from singularity import console, files, process
from singularity.build import reproducible
from singularity.build.request import BuildRequest
from singularity.image.archive.compression import widen
from singularity.image.tree import Entry, Tree

_LARGE = 8 << 20  # bytes of a file that is counted by its parts
_NANOSECONDS = 1_000_000_000


def write_tar(tree: Tree, new: files.NewFile, target: Path) -> None:
    """Writes a tar archive, compressed as the suffix of `target` says: .gz, .tgz, .bz2, .xz, .zst, else not at all.

    Raises ToolError, and OSError for `new`.
    """
    from singularity.image.archive import tar_writer

    with _compressing(new, target) as out:
        tar_writer.write(clamped(tree), out)


@contextmanager
def _compressing(new: files.NewFile, target: Path) -> Iterator[BinaryIO]:
    argv = compressor(target.suffix)
    if not argv:
        with open(new.fd, "wb", closefd=False, buffering=1 << 20) as out:
            yield out
        return
    with process.started(argv, purpose=f"write {target}", stdin=subprocess.PIPE, stdout=new.fd) as tool:
        yield wide(tool)


def wide(tool: process.Running) -> BinaryIO:
    """The pipe to a tool, of a size that lets both sides work at the same time."""
    if tool.stdin is None:
        raise ValueError("a tool that was started without a pipe")
    widen(tool.stdin)
    return tool.stdin


def compressor(suffix: str) -> list[str]:
    """The program for a suffix, which writes the same on every machine; empty for no compression.

    What it writes must not depend on the number of processors: two threads at least.
    """
    threads = str(max(2, len(os.sched_getaffinity(0))))
    match suffix.lower():
        case ".gz" | ".tgz":
            return ["pigz", "-n", "-p", threads] if shutil.which("pigz", path=process.search_path()) else ["gzip", "-n"]
        case ".bz2" | ".tbz" | ".tbz2":
            return ["bzip2"]
        case ".xz" | ".txz":
            return ["xz", "-q", "-T", threads]
        case ".zst" | ".tzst":
            return ["zstd", "-q", "-c", f"-T{threads}", "-9"]
        case _:
            return []


def clamped(tree: Tree) -> Tree:
    """The entries, none of them younger than SOURCE_DATE_EPOCH where that is set."""
    epoch = reproducible.source_date_epoch()
    if epoch is None:
        yield from tree
        return
    latest = epoch * _NANOSECONDS
    for entry in tree:
        late = entry.member.mtime > latest
        yield Entry(replace(entry.member, mtime=latest), entry.data) if late else entry


@contextmanager
def counted(tree: Tree, what: str) -> Iterator[Tree]:
    """The entries; how many bytes of files have passed is shown."""

    def passing(add: Callable[[int], None]) -> Tree:
        for entry in tree:
            if entry.member.size < _LARGE:
                add(entry.member.size)
                yield entry
            else:
                yield Entry(entry.member, data(entry, add))

    def data(entry: Entry, add: Callable[[int], None]) -> Iterator[bytes]:
        for chunk in entry.data:
            add(len(chunk))
            yield chunk

    with console.counting(what, None) as add:
        yield passing(add)


def write_ext3(tree: Tree, new: files.NewFile, request: BuildRequest) -> None:
    """Writes an image of version 2, ext3 behind an interpreter line, of `request.size` MiB or as its content needs.

    Raises ImageError when the size is too small, ToolError, and OSError for `new`.
    """
    from singularity.image.ext import make as make_ext

    make_ext.make(
        clamped(tree),
        new.fd,
        size=None if request.size is None else request.size * make_ext.MEBIBYTE,
        epoch=reproducible.source_date_epoch(),
        purpose=f"write {request.target}",
        name=str(request.target),
    )
