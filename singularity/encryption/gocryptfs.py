"""gocryptfs, which reads and writes encrypted file systems, behind mounts that are made here.

It runs in a process and a mount namespace of its own, without rights, with the device of its mount, which it is handed
open, and the passphrase in a pipe, never in words or variables. What it shows is mounted in the namespace of whoever
calls, and only there: the mount goes with the last process that uses it, and gocryptfs with the mount. Nothing that is
decrypted touches a disk.
"""

import logging
import os
import resource
import signal
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

from singularity import files, kernel, paths, process
from singularity.encryption.sealed import Sealed
from singularity.errors import FileError, ImageError, SingularityError, ToolError
from singularity.foreign_json import parse_answer
from singularity.trust.pipes import in_pipe

logger = logging.getLogger(__name__)

PREFIX = "squashfs-"  # of the name of the file that is the root file system
CONFIGURATION = "gocryptfs.conf"
_READ, _WRITE = "read an encrypted image", "encrypt an image"
_SAFE = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
_WRONG_PASSPHRASE = 12  # the status that it ends with then: gocryptfs(1), "EXIT CODES"
_FAILED = 255
_CONFIGURATION_LIMIT = 1 << 16  # bytes
_MEMORY_LIMIT, _PARALLEL_LIMIT = 1 << 30, 16
_DESCRIPTORS = 1 << 20
_END = 5.0  # seconds for who still reads to close it


def find() -> Path:
    """The program. Raises ToolError."""
    return process.find("gocryptfs", purpose=_READ)


@contextmanager
def reading(image: Sealed, fd: int, secret: bytes, place: Path) -> Iterator[Path]:
    """The decrypted squashfs of an image, open as `fd`, in a file below `place`, a directory, as it is seen from here.

    This process is in a mount namespace of its own, with the rights to mount there. Raises ImageError for a passphrase
    that does not open it, FileError and ToolError.
    """
    with _mounted(partial(_show_cipher, image, fd), secret, place, writable=False, name=str(image.path)):
        names = sorted(name for name in os.listdir(place) if name.startswith(PREFIX))
        if len(names) != 1 or not stat.S_ISREG((place / names[0]).lstat().st_mode):
            raise ImageError(f"{image.path}: encrypted, and without the one squashfs file that belongs there")
        yield place / names[0]


@contextmanager
def writing(cipher: Path, secret: bytes, place: Path, name: str) -> Iterator[Path]:
    """An empty directory, encrypted as it is filled: what goes below `place` lies in `cipher`, a new directory.

    `name` is the image's, for messages. Raises FileError and ToolError.
    """
    cipher.mkdir(mode=0o700)
    with in_pipe(secret + b"\n") as passphrase:
        words = ["gocryptfs", "-init", "-q", "-nosyslog", "-plaintextnames", str(cipher)]
        finished = process.call(words, purpose=_WRITE, stdin=passphrase)
    if finished.status != 0:
        raise finished.failure(_WRITE)
    with _mounted(lambda: cipher, secret, place, writable=True, name=name):
        yield place


@contextmanager
def _mounted(cipher: Callable[[], Path], secret: bytes, place: Path, *, writable: bool, name: str) -> Iterator[None]:
    program = find()
    said = os.memfd_create("said", os.MFD_CLOEXEC)
    device = _device(name)
    with files.closing(said):
        become = partial(_become, program, cipher, device, said, writable=writable)
        with in_pipe(secret + b"\n") as passphrase, _server(partial(become, passphrase)) as server:
            server.wait_until_apart()
            try:
                _mount(device, place, "fuse.gocryptfs", 0 if writable else kernel.MS_RDONLY)
            except OSError as error:
                raise FileError(f"{name}: encrypted, and cannot be mounted: {error.strerror}") from error
            finally:
                os.close(device)  # or nobody would notice that it has ended
            server.start()
        try:
            _wait_for(place, server.pid, said, name)
            yield
        finally:
            with suppress(OSError):
                kernel.unmount_after_use(str(place), _END)
            with suppress(ChildProcessError):
                os.waitpid(server.pid, 0)


@dataclass(slots=True)
class _Server:
    """The process of a server, which waits for its mount: a device that nothing is mounted by cannot be read."""

    pid: int
    apart: int  # a pipe that tells that it has left for a mount namespace of its own
    go: int  # a pipe that it waits at

    def wait_until_apart(self) -> None:
        """Returns when what is mounted here is not in its namespace, which would keep the mount, and so the server."""
        os.read(self.apart, 1)

    def start(self) -> None:
        """Lets it serve; where it has ended already, the first look at the mount tells."""
        with suppress(BrokenPipeError):
            os.write(self.go, b"1")


@contextmanager
def _server(become: Callable[[int, int], NoReturn]) -> Iterator[_Server]:
    """Forks a server, which gets the other ends of the two pipes; it ends where the block has not started it."""
    (apart_read, apart_write), (go_read, go_write) = os.pipe2(os.O_CLOEXEC), os.pipe2(os.O_CLOEXEC)
    try:
        pid = process.fork(partial(_keep_ends, become, (apart_read, go_write), apart_write, go_read))
        os.close(apart_write)
        os.close(go_read)
        yield _Server(pid, apart_read, go_write)
    finally:
        os.close(apart_read)
        os.close(go_write)


def _keep_ends(become: Callable[[int, int], NoReturn], others: tuple[int, int], apart: int, go: int) -> NoReturn:
    for fd in others:
        os.close(fd)
    become(apart, go)


def _device(name: str) -> int:
    try:
        return os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        what = f"{name}: encrypted, and cannot be mounted: /dev/fuse: {error.strerror}"
        raise FileError(what, hint="ask the administrator for access to /dev/fuse") from error


def _mount(device: int, place: Path, kind: str, flags: int) -> None:
    data = f"fd={device},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}"
    kernel.mount("singularity", str(place), kind, _SAFE | flags, data)


def _wait_for(place: Path, server: int, said: int, name: str) -> None:
    """Returns when it has answered once. Raises ImageError and ToolError where it has ended instead."""
    try:
        os.listdir(place)
    except OSError as error:
        _, status = os.waitpid(server, 0)
        if os.waitstatus_to_exitcode(status) == _WRONG_PASSPHRASE:
            raise ImageError(f"{name}: the key does not open it", hint="encrypted with another one?") from error
        text = os.pread(said, 1 << 16, 0).decode("utf-8", "replace")
        for line in text.splitlines():
            logger.debug("gocryptfs: %s", line)
        reason = process.telling_line(text) or error.strerror
        raise ImageError(f"{name}: encrypted, and cannot be read: {reason}", hint="damaged?") from error


# ---- in its process ----


def _become(
    program: Path,
    cipher: Callable[[], Path],
    device: int,
    said: int,
    passphrase: int,
    apart: int,
    go: int,
    *,
    writable: bool,
) -> NoReturn:
    """Becomes gocryptfs. It takes an open device by the name that libfuse has given those, `/dev/fd/N`."""
    try:
        begin_server(said)
        os.dup2(passphrase, 0)
        kernel.unshare(kernel.CLONE_NEWNS)
        with suppress(OSError):  # without it where there are none to be had (user.max_net_namespaces)
            kernel.unshare(kernel.CLONE_NEWNET | kernel.CLONE_NEWIPC)
        kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
        os.write(apart, b"1")
        directory = cipher()
        words = ["gocryptfs", "-fg", "-q", "-nosyslog", *([] if writable else ["-ro"]), str(directory)]
        if os.read(go, 1):
            execute(program, [*words, f"/dev/fd/{device}"], [device])
    except (OSError, SingularityError) as error:
        os.write(2, f"{error}\n".encode("utf-8", "replace"))
    os._exit(_FAILED)


def begin_server(said: int) -> None:
    """For a process that becomes a server: no terminal, no input, no dump of its memory."""
    os.setsid()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for standard, fd in enumerate((null, said, said)):
        os.dup2(fd, standard)
    for number in process.STOPPING:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, process.STOPPING)


def execute(program: Path, words: list[str], kept: list[int]) -> NoReturn:
    """Becomes a server that has no rights, no variables, and no descriptors but these and the standard ones."""
    first = 3
    for fd in sorted(kept):
        os.closerange(first, fd)
        os.set_inheritable(fd, True)
        first = fd + 1
    os.closerange(first, _DESCRIPTORS)
    kernel.give_up_rights()
    os.execve(program, words, process.clean_environment())  # noqa: S606 - a list of words, without a shell


def _show_cipher(image: Sealed, fd: int) -> Path:
    """Mounts the squashfs that holds the encrypted file, by the image server of launches, which is started for it.

    It is outside of the mount namespace that this makes next: whoever is in there keeps the mount.
    """
    program, place = paths.beside("image-server"), Path("/tmp")  # noqa: S108 - seen from the new namespace alone
    if not program.exists():
        raise ToolError(f"{program} is missing", hint="the installation is incomplete: install again")
    device = _device(str(image.path))
    with _server(partial(_become_image_server, program, image, fd, device)) as server:
        kernel.unshare(kernel.CLONE_NEWNS)
        _mount(device, place, "fuse.squashfs", kernel.MS_RDONLY)
        os.close(device)
        server.start()  # it ends with the mount, and is nobody's to wait for
    _check_costs(place / CONFIGURATION)
    return place


def _check_costs(path: Path) -> None:
    """Raises ImageError where a stranger's image says that its key takes more memory than machines have.

    That is scrypt's (RFC 7914): 128 bytes, times N, times R. gocryptfs makes images of 64 MiB.
    """
    with path.open("rb") as file:
        data = file.read(_CONFIGURATION_LIMIT + 1)
    said = parse_answer(data, CONFIGURATION).get("ScryptObject") if len(data) <= _CONFIGURATION_LIMIT else None
    given = [said.get(name) for name in "NRP"] if isinstance(said, dict) else []
    numbers = [each for each in given if isinstance(each, int) and each > 0]
    if len(numbers) != 3:
        raise ImageError("no configuration of gocryptfs")
    if 128 * numbers[0] * numbers[1] > _MEMORY_LIMIT or numbers[2] > _PARALLEL_LIMIT:
        raise ImageError("its key takes too much memory, or time, to be made")


def _become_image_server(program: Path, image: Sealed, fd: int, device: int, apart: int, go: int) -> NoReturn:
    del apart  # it is in none
    try:
        if os.read(go, 1):
            words = [program.name, str(device), str(fd), str(image.offset), str(image.size)]
            execute(program, words, [device, fd])
    finally:
        os._exit(_FAILED)
