"""A root file system becomes a SIF, squashfs or EROFS file: mksquashfs writes straight into its place in the new file.

mkfs.erofs begins files only, so that an EROFS in a SIF file is a file of its own first.
"""

import json
import logging
import os
import shlex
import subprocess
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from uuid import UUID, uuid4

from singularity import console, files, process
from singularity.build import layout, reproducible
from singularity.build.reproducible import source_date_epoch as source_date_epoch
from singularity.console import VERBOSE
from singularity.errors import BuildError
from singularity.image import marks, metadata, removed
from singularity.image.erofs import tools as erofs
from singularity.image.root import Root
from singularity.image.sif import format as sif
from singularity.image.sif import write as sif_write
from singularity.image.sif.format import DataType
from singularity.image.sif.write import NewObject
from singularity.image.squashfs import tools as squashfs
from singularity.namespaces import emulation

logger = logging.getLogger(__name__)

OCI_CONFIGURATION = f"{metadata.DIRECTORY}/oci-config.json"
_OCI_OBJECT = b"oci-config.json"
_NANOSECONDS = 10**9
_MEBIBYTE, _LARGE = 1 << 20, 8 << 20  # bytes
_INODES = 1 << 63  # numbers that mksquashfs can be told; overlays of several file systems may have larger ones
LEVEL = 9  # of zstd
TIMES = range(1 << 32)  # that squashfs has room for, in seconds since 1970


def pack(
    root: Path,
    target: Path,
    *,
    architecture: str = "",
    arguments: Sequence[str],
    overwrite: bool,
    read_first: Sequence[str] = (),
    as_erofs: bool = False,
) -> None:
    """Writes a SIF, squashfs or EROFS file from a finished root file system; whole, or not at all.

    `architecture` is SIF's word, empty for a file system alone; `arguments` are further ones of mksquashfs;
    `read_first` are the files that a start was seen to read, in order, without leading `/`. With SOURCE_DATE_EPOCH set
    the same root makes the same file. Raises FileError and ToolError.
    """
    marked: list[str] = []
    size, alike = (0, 0) if as_erofs else _fit(root, target, marked)
    owners = b"".join(marks.definitions(root, marked))
    with Root(root) as opened:
        objects = objects_of(opened) if architecture else []
        order = layout.Layout() if as_erofs else layout.choose(opened, size, read_first)
    with files.replacing(target, overwrite=overwrite, mode=0o777) as new:
        offset = sif_write.partition_offset(objects) if architecture else 0
        if as_erofs:
            _make_erofs(root, new, offset, target)
        else:
            _make_squashfs(root, new, offset, order, arguments, target, size, owners, alike)
        if not architecture:
            return
        head = sif_write.encode_head(
            objects,
            partition_size=os.fstat(new.fd).st_size - offset,
            filesystem=sif.Filesystem.RAW if as_erofs else sif.Filesystem.SQUASHFS,
            architecture=architecture,
            id=new_id(),
            time=new_time(),
        )
        files.write_at(new.fd, head, 0)


def new_id() -> UUID:
    """The id of a new SIF file."""
    return UUID(int=0) if source_date_epoch() is not None else uuid4()


def new_time() -> int:
    """When a new SIF file and its objects were made."""
    return sif.NO_TIME if source_date_epoch() is not None else int(time.time())


def objects_of(root: Root) -> list[NewObject]:
    """The objects of a SIF file that say in short what its root file system says about itself."""
    about = metadata.from_root(root)
    document = json.dumps(metadata.to_json(about), ensure_ascii=False, separators=(",", ":"))
    objects = [
        NewObject(type=DataType.DEFINITION, data=f"{about.deffile}\n".encode("utf-8", "replace")),
        NewObject(type=DataType.GENERIC_JSON, data=document.encode("utf-8", "replace"), name=metadata.OBJECT_NAME),
    ]
    if root.is_file(removed.FILE):  # for the front door, which looks into no file system
        objects.append(NewObject(type=DataType.GENERIC_JSON, data=b"{}", name=removed.OBJECT_NAME))
    if root.is_file(OCI_CONFIGURATION):
        objects.append(NewObject(type=DataType.GENERIC_JSON, data=root.read(OCI_CONFIGURATION), name=_OCI_OBJECT))
    return objects


def compression(arguments: Sequence[str], purpose: str, level: int = LEVEL) -> list[str]:
    """What mksquashfs is told of compression, unless `arguments`, the user's, say it.

    zstd, which starts programs twice as fast as gzip, where mksquashfs writes it and the running kernel reads it.
    Level 9 packs a Debian system in a tenth of the time of mksquashfs's own choice, 15, for 4 % more size; it is
    smaller than gzip all the same.
    """
    if "-comp" in arguments:
        return []
    if "zstd" not in squashfs.compressors(purpose=purpose) or not squashfs.kernel_reads_zstd():
        return ["-comp", "gzip"]
    own = [] if "-Xcompression-level" in arguments else ["-Xcompression-level", str(level)]
    return ["-comp", "zstd", *own]


def check_arguments(arguments: Sequence[str], temporary: Path) -> None:
    """Raises BuildError for arguments that mksquashfs does not take: before the work, by an empty directory."""
    purpose = "check its arguments"
    with files.temporary_directory(temporary) as place:
        (place / "empty").mkdir()
        argv: list[str | Path] = ["mksquashfs", place / "empty", place / "new", "-noappend", "-no-progress"]
        argv += ["-no-recovery", *compression(arguments, purpose), *arguments]
        finished = process.call(argv, purpose=purpose)
    if finished.status:
        lines = [line.strip() for line in finished.complaints.splitlines() if line.strip()]
        reason = lines[0].removeprefix("mksquashfs: ") if lines else f"exit status {finished.status}"
        raise BuildError(f"mksquashfs does not take {shlex.join(arguments)}: {reason}", hint=_known(reason, purpose))


def _known(reason: str, purpose: str) -> str:
    """A hint with the compressors that mksquashfs has, where it complains about one."""
    if not reason.startswith("Compressor"):
        return ""
    return f"known are {', '.join(sorted(squashfs.compressors(purpose=purpose)))}"


def common_arguments(offset: int) -> list[str]:
    """What mksquashfs is always told: a new file system `offset` bytes into a file, nothing left beside it."""
    processors = str(len(os.sched_getaffinity(0)))
    return ["-noappend", "-no-progress", "-no-recovery", "-offset", str(offset), "-processors", processors]


def memory(arguments: Sequence[str], alike: int | None = None) -> list[str]:
    """How much mksquashfs may take; by itself, a quarter of the machine. And whether it looks for copies of files.

    With a few blocks for each processor it is as fast, and what it has read is not far from what it has written. But
    behind an offset it (4.5.1) spoils a file of which it finds a copy when the file is larger than a quarter of that
    memory. `alike` is the size of the largest that may have one; None: nobody knows.
    """
    needed = 0 if alike is None else 4 * -(-alike // _MEBIBYTE) + 8
    usual = max(64, 2 * len(os.sched_getaffinity(0)))
    own = [] if {"-mem", "-b"}.intersection(arguments) else ["-mem", f"{usual}M"]
    if alike == 0:
        return own
    if (
        alike is None
        or "-mem" in arguments
        or needed << 20 > os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4
    ):
        return [*own, "-no-duplicates"]
    return ["-mem", f"{max(usual, needed)}M"]


def _make_squashfs(
    root: Path, new: files.NewFile, offset: int, order: layout.Layout, arguments: Sequence[str], target: Path,
    size: int, owners: bytes, alike: int,
) -> None:  # fmt: skip
    """Writes the file system; how far it is, is what mksquashfs has read of `size` bytes.

    `owners` is what the root file system does not say itself, as a pseudo file.
    """
    purpose = f"write {target}"
    argv: list[str | Path] = ["mksquashfs", root, new.path, *common_arguments(offset)]
    argv += [*compression(arguments, purpose), *memory(arguments, alike)]
    actions = {"uncompressed": order.uncompressed, "no-fragments": order.alone, "fragment(first)": order.together}
    for action, paths in actions.items():
        numbers = {os.lstat(root / path).st_ino for path in paths}
        for test in _tests(sorted(number for number in numbers if number < _INODES)):
            argv += ["-action", f"{action}@{test}"]
    logger.log(VERBOSE, "Stored uncompressed: %s", ", ".join(order.uncompressed) or "nothing")
    environment = reproducible.environment()
    keep = [new.fd]
    sort = "".join(f"{path} {number}\n" for path, number in _priorities(order.sorted)).encode()
    for option, text in (("-sort", sort), ("-pf", owners)):
        if text:
            keep.append(os.memfd_create(option, os.MFD_CLOEXEC))
            files.write_at(keep[-1], text, 0)
            argv += [option, f"/proc/self/fd/{keep[-1]}"]
    try:
        with (
            process.started(
                [*argv, *arguments], purpose=purpose, stdout=subprocess.PIPE, keep=keep, environment=environment
            ) as tool,
            console.counting("packing", size) as add,
        ):
            for count in process.reading(tool):
                add(count)
    finally:
        for fd in keep[1:]:
            os.close(fd)


def _make_erofs(root: Path, new: files.NewFile, offset: int, target: Path) -> None:
    with files.temporary_directory(target.parent) as place:
        alone = place / "erofs"
        environment, through = reproducible.environment(), emulation.words()
        erofs.make(root, alone, identity=new_id(), environment=environment, purpose=f"write {target}", through=through)
        with alone.open("rb") as file:
            files.copy_data(file.fileno(), new.fd, offset)


def warn_of_losses(target: Path, times: int, lists: int) -> None:
    """Says what squashfs had no room for: how many times, and how many access control lists."""
    for count, what in ((times, "times before 1970 or after 2106"), (lists, "access control lists")):
        if count:
            logger.warning("%s: %d %s are left out: squashfs cannot hold them", target, count, what)


def _fit(root: Path, target: Path, marked: list[str]) -> tuple[int, int]:
    """Moves times into the range of squashfs, which mksquashfs would let wrap around, in a root file system of ours.

    Returns the bytes in its regular files, and the size of the largest that may be copies of each other. Adds to
    `marked` the paths of those that root emulation has marked: to walk through them twice is what would be felt. Says
    how many times, and how many access control lists squashfs cannot hold. What cannot be read, mksquashfs names.
    """
    times = lists = size = 0
    large: dict[int, set[int]] = {}  # inodes by size
    pending = [os.fspath(root)]
    while pending:
        with suppress(OSError), os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                with suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    if status.st_mtime_ns // _NANOSECONDS not in TIMES:
                        nearest = min(max(status.st_mtime_ns // _NANOSECONDS, TIMES.start), TIMES.stop - 1)
                        times_of = (status.st_atime_ns, nearest * _NANOSECONDS)
                        os.utime(entry.path, ns=times_of, follow_symlinks=False)
                        times += 1
                    if not entry.is_symlink():
                        names = os.listxattr(entry.path)
                        lists += any(name.startswith("system.posix_acl") for name in names)
                        if marks.NAME in names:
                            marked.append(entry.path)
                    if entry.is_file(follow_symlinks=False):
                        size += status.st_size // status.st_nlink  # each of its names comes by
                        if status.st_size >= _LARGE:
                            large.setdefault(status.st_size, set()).add(status.st_ino)
    warn_of_losses(target, times, lists)
    return size, max((each for each, inodes in large.items() if len(inodes) > 1), default=0)


def _tests(inodes: Sequence[int]) -> Iterable[str]:
    """Expressions that are true for these files, by ascending numbers: each is asked of every file, so they halve.

    Several, since mksquashfs bounds the length of one. With thousands of names to compare it would take minutes.
    """
    for start in range(0, len(inodes), 256):
        yield _halved(inodes[start : start + 256])


def _halved(inodes: Sequence[int]) -> str:
    if len(inodes) <= 4:
        return "||".join(f"inode({number})" for number in inodes)
    middle = len(inodes) // 2
    border = inodes[middle]
    below, above = _halved(inodes[:middle]), _halved(inodes[middle:])
    return f"(inode(<{border})&&({below}))||(inode(>{border - 1})&&({above}))"


def _priorities(paths: Sequence[str]) -> Iterable[tuple[str, int]]:
    """mksquashfs places files of higher priority first; at most 32767."""
    for number, path in enumerate(paths[: 1 << 14]):
        yield path, (1 << 14) - number
