"""The image server shows what the kernel shows: trees of all kinds of files in every compression, mounted by both and
compared, file by file. Some dozens here; EXHAUSTIVE=1 (`make fuzz`): a thousand. And what it does when it, or its
image, ends early."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import platform
import random
import re
import shutil
import signal
import stat
import struct
import subprocess
import sys
import time
import zlib
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import machine
import pytest
from generated_trees import Tree

from singularity import kernel
from singularity.edit import loop

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

pytestmark = pytest.mark.needs("root", "fuse", "installation", "mksquashfs")

COUNT = 1000 if os.environ.get("EXHAUSTIVE") else 25
COMPRESSIONS = ["gzip", "zstd", "lz4", "xz", "lzo"]
FILTERED = ["-comp", "xz", "-Xbcj", "x86"]
BLOCKS = ["4096", "16384", "131072", "1048576"]
PACKING = [
    [],
    ["-no-fragments"],
    ["-always-use-fragments"],
    ["-noD", "-noF"],
    ["-noI", "-noX"],
    ["-nopad"],
    ["-no-duplicates"],
]
SAFE = kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV
OFFSET = 4096
SUPERBLOCK = 96
GETDENTS64 = {"x86_64": 217, "aarch64": 61}.get(platform.machine(), 61)


@dataclass
class Server:
    """One that serves `place`."""

    process: subprocess.Popen[bytes]
    place: Path


def pack(tree: Path, target: Path, *words: str) -> Path:
    """Behind OFFSET bytes of something else, as in a SIF file."""
    command = ["mksquashfs", tree, target, "-noappend", "-quiet", "-no-progress", "-offset", str(OFFSET), *words]
    subprocess.run(command, check=True, timeout=120, stdout=subprocess.DEVNULL)
    return target


@contextmanager
def shown_by_kernel(image: Path, place: Path) -> Iterator[Path]:
    place.mkdir(exist_ok=True)
    with image.open("r+b") as file:
        size = -(-(image.stat().st_size - OFFSET) // 4096) * 4096
        file.truncate(OFFSET + size)  # a loop device has whole sectors, and the kernel reads two at a time
        device = loop.attach(file.fileno(), offset=OFFSET, size=size, writable=False)
    try:
        kernel.mount(os.readlink(f"/proc/self/fd/{device}"), str(place), "squashfs", SAFE)
    finally:
        os.close(device)
    try:
        yield place
    finally:
        kernel.unmount(str(place))


@contextmanager
def served(image: Path, place: Path, offset: int = OFFSET, before: Sequence[str] = ()) -> Iterator[Server]:
    prefix = machine.prefix()
    assert prefix is not None
    place.mkdir(exist_ok=True)
    with ExitStack() as stack:
        file = stack.enter_context(image.open("rb"))
        device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        stack.callback(os.close, device)
        options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions"
        kernel.mount("squashfs", str(place), "fuse", SAFE, options)
        words = [device, file.fileno(), offset, image.stat().st_size - offset]
        command = [*before, str(prefix / "libexec/singularity/image-server"), *map(str, words)]
        process = subprocess.Popen(
            command, pass_fds=words[:2], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
    with process:
        try:
            yield Server(process, place)
        finally:
            kernel.unmount(str(place), kernel.MNT_DETACH)
            try:
                assert process.wait(10) in {0, 255, -signal.SIGKILL}
            finally:
                process.kill()


def attributes(path: bytes) -> dict[str, bytes]:
    """All but "trusted.", which the server's mounts never show to whom the kernel would."""
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        assert error.errno == errno.EOPNOTSUPP  # an image without any
        return {}
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in names if not name.startswith("trusted.")}


def contents(path: bytes, size: int) -> str:
    """In parts of odd sizes, from odd places, and then all of it."""
    chance = random.Random(size)  # noqa: S311 - the same for both
    with open(path, "rb", buffering=0) as file:
        parts = [os.pread(file.fileno(), chance.randrange(1, 70_000), chance.randrange(size + 1)) for _ in range(4)]
        whole = hashlib.file_digest(file, "sha256").hexdigest()
    return hashlib.sha256(b"|".join(parts)).hexdigest() + whole


def description(path: bytes) -> tuple[object, ...]:
    status = os.lstat(path)
    kind = stat.S_IFMT(status.st_mode)
    seen: list[object] = [
        *(status.st_mode, status.st_ino, status.st_nlink, status.st_uid, status.st_gid, status.st_size),
        *(status.st_mtime_ns, status.st_atime_ns, status.st_ctime_ns, status.st_rdev, status.st_blocks),
        attributes(path),
    ]
    if kind == stat.S_IFREG:
        seen.append(contents(path, status.st_size))
    elif kind == stat.S_IFLNK:
        seen.append(os.readlink(path))
    return tuple(seen)


def whole_tree(root: Path) -> dict[bytes, tuple[object, ...]]:
    base = os.fsencode(root)
    found = {b"": description(base)}
    below = [b""]
    while below:
        directory = below.pop()
        with os.scandir(base + directory) as entries:
            listed = [(entry.name, entry.inode(), entry.is_dir(follow_symlinks=False)) for entry in entries]
        for name, inode, is_directory in listed:
            path = directory + b"/" + name
            found[path] = (inode, *description(base + path))
            if is_directory:
                below.append(path)
    return found


def file_system(root: Path) -> tuple[int, ...]:
    seen = os.statvfs(root)
    return (seen.f_blocks, seen.f_bfree, seen.f_files, seen.f_ffree)


@pytest.mark.needs("loop")
@pytest.mark.parametrize("number", range(COUNT))
def test_a_generated_tree_is_shown_as_the_kernel_shows_it(number: int, tmp_path: Path) -> None:
    """R-P1: each compression, size of blocks and way of packing in turn."""
    Tree(number, tmp_path / "tree")
    words = [
        *(["-comp", COMPRESSIONS[number % 5]] if number % 11 != 10 else FILTERED),
        "-b",
        BLOCKS[number % 4],
        *PACKING[number % 7],
    ]
    image = pack(tmp_path / "tree", tmp_path / "image", *words)
    with shown_by_kernel(image, tmp_path / "kernel") as expected, served(image, tmp_path / "ours") as ours:
        wanted, seen = whole_tree(expected), whole_tree(ours.place)
        assert list(seen) == list(wanted)
        wrong = [
            (path, *pair) for path in seen for pair in zip(seen[path], wanted[path], strict=True) if pair[0] != pair[1]
        ]
        assert wrong[:5] == []
        assert file_system(ours.place) == file_system(expected)
        with pytest.raises(FileNotFoundError):
            (ours.place / "is not there").stat()
    shutil.rmtree(tmp_path)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """With a file of 40 MiB that no cache holds, `large`, and small ones."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "large").write_bytes(os.urandom(1 << 20) * 40)
    for number in range(100):
        (tree / f"{number}").write_text(f"{number}\n" * 100)
    return pack(tree, tmp_path / "image", "-comp", "zstd", "-no-duplicates")


def test_a_killed_server_leaves_errors_and_nothing_that_hangs(image: Path, tmp_path: Path) -> None:
    with served(image, tmp_path / "place") as server:
        file = os.open(server.place / "large", os.O_RDONLY)
        assert len(os.read(file, 1)) == 1
        server.process.kill()
        server.process.wait(5)
        with pytest.raises(OSError, match=r"not connected|aborted|Input/output"):
            os.pread(file, 1 << 20, 30 << 20)
        with suppress(OSError):
            os.close(file)
        with pytest.raises(OSError, match="not connected"):
            (server.place / "7").stat()


def test_an_image_that_loses_its_end_gives_errors_there(image: Path, tmp_path: Path) -> None:
    with served(image, tmp_path / "place") as server, (server.place / "large").open("rb") as file:
        assert len(os.pread(file.fileno(), 1 << 16, 0)) == 1 << 16
        os.truncate(image, 4 << 20)
        with pytest.raises(OSError, match="Input/output error"):
            os.pread(file.fileno(), 1 << 20, 30 << 20)
        assert len(os.pread(file.fileno(), 1 << 16, 0)) == 1 << 16, "what is there can still be read"


def test_what_is_no_squashfs_is_one_line(image: Path, tmp_path: Path) -> None:
    with image.open("rb") as whole:
        (ids,) = struct.unpack("<Q", os.pread(whole.fileno(), 8, OFFSET + 48))
    for name, at, data, word in (
        ("magic", 0, b"none", b"no squashfs"),
        ("version", 28, struct.pack("<H", 3), b"not squashfs 4.0"),
        ("compression", 20, struct.pack("<H", 2), b"lzma"),
        ("size", 40, struct.pack("<Q", 1 << 40), b"its end is missing"),
        ("tables", 72, struct.pack("<Q", 1), b"tables"),
        ("ids", ids, b"\xff" * 8, b"its tables cannot be read"),
    ):
        bad = tmp_path / name
        shutil.copy(image, bad)
        with bad.open("r+b") as file:
            file.seek(OFFSET + at)
            file.write(data)
        with served(bad, tmp_path / "place") as server:
            _, said = server.process.communicate(timeout=5)
            assert word in said, name
            assert said.count(b"\n") == 1


@pytest.mark.needs("strace", "unsanitized")
def test_nothing_is_decompressed_before_the_filter(image: Path, tmp_path: Path) -> None:
    """The superblock alone is read by a process that can do more than read."""
    trace = tmp_path / "trace"
    words = ["strace", "-f", "-o", str(trace), "-e", "trace=prctl,seccomp,pread64"]
    with served(image, tmp_path / "place", before=words) as server:
        assert (server.place / "7").read_text().startswith("7\n")
    before, filtered, behind = trace.read_text().partition("SECCOMP_MODE_FILTER")
    assert filtered
    assert re.findall(r"pread64\(.*, (\d+), (\d+)\)", before) == [(str(SUPERBLOCK), str(OFFSET))]
    assert "pread64" in behind


def test_a_position_in_a_directory_is_a_number_of_entries(tmp_path: Path) -> None:
    """Programs may go on at any (lseek(2)): what is no place of an entry in the image was read as a header."""
    (tmp_path / "tree").mkdir()
    for number in range(600):
        (tmp_path / "tree" / f"{'x' * (number % 200)}{number:04}").touch()
    image = pack(tmp_path / "tree", tmp_path / "image")
    places = [*range(605), *(number << 9 for number in range(1, 70)), (12 << 9) + 2, 1 << 40, (1 << 63) - 1]
    with served(image, tmp_path / "place") as server:
        names = [".", "..", *sorted(os.listdir(tmp_path / "tree"))]
        for place in places:
            directory = os.open(server.place, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.lseek(directory, place, os.SEEK_SET)
                assert entries_of(directory) == names[place:], place
            finally:
                os.close(directory)


def entries_of(directory: int) -> list[str]:
    """From its position on: getdents64(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(32768)
    names = []
    while (got := libc.syscall(GETDENTS64, directory, buffer, len(buffer))) != 0:
        assert got > 0, os.strerror(ctypes.get_errno())
        at = 0
        while at < got:
            (size,) = struct.unpack_from("<H", buffer, at + 16)
            names.append(buffer.raw[at + 19 : at + size].partition(b"\0")[0].decode())
            at += size
    return names


def test_memory_is_bounded(image: Path, tmp_path: Path) -> None:
    """R-I7: all of it read, twice, by eight at once."""
    with served(image, tmp_path / "place") as server:
        for _ in range(2):
            readers = [subprocess.Popen(["cat", server.place / "large"], stdout=subprocess.DEVNULL) for _ in range(8)]
            assert [reader.wait(60) for reader in readers] == [0] * 8
        status = (Path(f"/proc/{server.process.pid}") / "status").read_text()
        (peak,) = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")]
        assert peak < 64 << 10


def test_it_ends_with_the_mount(image: Path, tmp_path: Path) -> None:
    with served(image, tmp_path / "place") as server:
        assert (server.place / "7").read_text().startswith("7\n")
        assert server.process.poll() is None
        began = time.monotonic()
    assert server.process.returncode == 0
    assert time.monotonic() - began < 10


def test_what_was_found_once_is_asked_for_no_more(image: Path, tmp_path: Path) -> None:
    """Its process sleeps while everything is looked at and read again: it is stopped."""
    with served(image, tmp_path / "place") as server:
        first = whole_tree(server.place)
        with pytest.raises(FileNotFoundError):
            (server.place / "missing").stat()
        server.process.send_signal(signal.SIGSTOP)
        try:
            look = "import os, sys; print(*(os.stat(f'{a}/{d}') for a, b, c in os.walk(sys.argv[1]) for d in b + c))"
            again = subprocess.run(
                [sys.executable, "-c", look, server.place], capture_output=True, timeout=10, check=True
            )
            assert again.stdout.count(b"st_ino") == len(first) - 1
            subprocess.run(["cat", server.place / "large"], stdout=subprocess.DEVNULL, timeout=10, check=True)
            with pytest.raises(FileNotFoundError):
                (server.place / "missing").stat()
        finally:
            server.process.send_signal(signal.SIGCONT)


def test_it_holds_nothing_but_the_image_and_its_queues(image: Path, tmp_path: Path) -> None:
    with served(image, tmp_path / "place") as server:
        os.listdir(server.place)
        names = {os.readlink(path) for path in (Path(f"/proc/{server.process.pid}") / "fd").iterdir()}
        assert {name for name in names if not name.startswith(("/dev/", "pipe:"))} - {"/proc"} == {str(image)}
        status = (Path(f"/proc/{server.process.pid}") / "status").read_text()
        assert "\nNoNewPrivs:\t1\n" in status
        assert "\nSeccomp:\t2\n" in status


def processors_of(server: Server) -> set[str]:
    """Where its threads may run."""
    texts = [path.read_text() for path in Path(f"/proc/{server.process.pid}/task").glob("*/status")]
    return {line.split()[1] for text in texts for line in text.splitlines() if line.startswith("Cpus_allowed_list:")}


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="a machine with one processor")
def test_who_asks_alone_is_answered_on_his_processor(image: Path, tmp_path: Path) -> None:
    """Found by /proc/PID/stat, which needs Landlock; whoever else asks frees the thread."""
    ours = os.sched_getaffinity(0)
    with served(image, tmp_path / "place") as server:
        everywhere = processors_of(server)
        try:
            for processor in sorted(ours)[:2]:
                os.sched_setaffinity(0, {processor})
                # Which of its threads takes a question is the kernel's choice: ask until each has had enough of them.
                asked, until = 0, time.monotonic() + 30
                while processors_of(server) != {str(processor)}:
                    assert time.monotonic() < until, processors_of(server)
                    assert not (server.place / f"missing-{processor}-{asked}").exists()
                    asked += 1
        finally:
            os.sched_setaffinity(0, ours)
        asked, until = 0, time.monotonic() + 30
        while processors_of(server) != everywhere:
            assert time.monotonic() < until, processors_of(server)
            subprocess.run(["test", "-e", server.place / f"absent-{asked}"], check=False)
            asked += 1


@pytest.mark.needs("gcc")
def test_a_compression_that_was_left_out_of_the_build_is_named(tmp_path: Path) -> None:
    """As the Makefile compiles where no library of a decompressor is."""
    launcher = Path(__file__).parents[2] / "launcher"
    (tmp_path / "main.c").write_text(
        '#include <fcntl.h>\n#include <stdio.h>\n#include "squashfs/squashfs.h"\n'
        'int main(int count, char **words)\n{\n    const char *why = "";\n    struct squashfs *image;\n'
        "    struct squashfs_file file = {open(words[count - 1], O_RDONLY), 0};\n"
        "    struct squashfs_source source = squashfs_file_source(&file, 1 << 20);\n"
        '    int failed = squashfs_open(&source, &image, &why);\n    printf("%d %s\\n", failed, why);\n}\n'
    )
    command = ["gcc", "-D_GNU_SOURCE", f"-I{launcher}", "-o", tmp_path / "main", tmp_path / "main.c"]
    subprocess.run([*command, *launcher.glob("squashfs/*.c")], check=True, timeout=60)
    package = {
        "gzip": "libdeflate-dev",
        "zstd": "libzstd-dev",
        "xz": "liblzma-dev",
        "lz4": "liblz4-dev",
        "lzo": "liblzo2-dev",
    }
    for compression, name in package.items():
        image = launcher.parent / "fuzz/corpus/squashfs_tree" / compression
        said = subprocess.run([tmp_path / "main", image], capture_output=True, text=True, check=True, timeout=5).stdout
        assert said.startswith(f"-{errno.EOPNOTSUPP} its compression was left out when Singularity was built"), (
            compression
        )
        assert f"install {name} " in said


def endless_directory(path: Path) -> None:
    """An image whose root directory has 4 GiB of entries, in blocks of 68 bytes."""
    lengths = [248] * 8 + [52]
    run = struct.pack("<III", len(lengths) - 1, 0, 1)
    run += b"".join(struct.pack("<HhHH", 0, 0, 2, each - 9) + b"!" * (each - 8) for each in lengths)
    assert len(run) == 2048
    block = zlib.compress(run * 4, 9)
    root = struct.pack("<6HI", 8, 0o755, 0, 0, 0, 0, 1) + struct.pack(
        "<4I2HI", 2, (1 << 32) - 11, 0, 2, 0, 0, (1 << 32) - 1
    )
    listing = (struct.pack("<H", len(block)) + block) * ((1 << 32) // 8192)
    table = SUPERBLOCK + 2 + len(root)
    ids = table + len(listing)
    tables = (ids + 6, (1 << 64) - 1, SUPERBLOCK, table, (1 << 64) - 1, (1 << 64) - 1)
    head = struct.pack("<4s4I6HQQ6Q", b"hsqs", 1, 0, 4096, 0, 1, 12, 0, 1, 4, 0, 0, ids + 14, *tables)
    blocks = struct.pack("<H", 0x8000 | len(root)) + root + listing + struct.pack("<HIQ", 0x8004, 0, ids)
    path.write_bytes(bytes(OFFSET) + head + blocks)


def test_an_answer_has_its_time(tmp_path: Path) -> None:
    """R-I7: who waits for it cannot be killed meanwhile."""
    endless_directory(tmp_path / "endless.squashfs")
    with served(tmp_path / "endless.squashfs", tmp_path / "place") as server:
        began = time.monotonic()
        with pytest.raises(OSError, match="Input/output error"):
            (server.place / "z").stat()
        assert time.monotonic() - began < 5
