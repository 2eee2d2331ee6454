"""What this machine has of what tests need: MISSING maps each need to "" or to the reason why it is not there."""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from syscalls import SO_PASSRIGHTS

from singularity.image.squashfs import packer

CHECKOUT = Path(__file__).resolve().parent.parent
FIXTURES = CHECKOUT.parent / "shared" / "fixtures"


def prefix() -> Path | None:
    """The installation under test."""
    name = os.environ.get("SINGULARITY_TEST_PREFIX")
    return Path(name).absolute() if name else None


def _in_child(action: str) -> str:
    """Runs Python text in a child of its own; "" when it worked, else the last line it said."""
    command = [sys.executable, "-c", action]
    here = Path(__file__).parent
    result = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=20, check=False)
    return "" if result.returncode == 0 else (result.stderr.strip().splitlines() or ["no reason given"])[-1]


def _program(name: str, package: str) -> str:
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return "" if shutil.which(name, path=path) else f"{name} is not installed (package {package})"


def _root() -> str:
    return "" if os.geteuid() == 0 else "not root"


def _userns() -> str:
    if _root():
        why = _in_child("import ordinary_user as o; o.unshare(0x10000000)")
    else:
        why = _in_child("import ordinary_user as o; o.unshare(0x10000000 | o.CLONE_NEWNS)")
    return f"no user namespaces ({why})" if why else ""


def _fuse() -> str:
    if not Path("/dev/fuse").exists():
        return "no /dev/fuse"
    if _root() and not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse cannot be opened"
    return ""


def _loop() -> str:
    return _root() or ("" if Path("/dev/loop-control").exists() else "no /dev/loop-control")


def _overlay() -> str:
    known = Path("/proc/filesystems").read_text().split()
    return "" if "overlay" in known else "the kernel has no overlay file system"


def _opens(path: str, what: str) -> str:
    """Whether there is a driver behind a device."""
    try:
        os.close(os.open(path, os.O_RDWR))
    except OSError:
        return what
    return ""


def _busybox() -> str:
    path = Path("/bin/busybox")
    if not path.exists():
        return "no /bin/busybox (package busybox-static)"
    return "" if b"ld-linux" not in path.read_bytes()[:8192] else "busybox is not static (package busybox-static)"


def mirror() -> str:
    """The distribution's mirror, as apt is set up on this machine; "" where it is not."""
    files = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    lines = [line for file in files if file.is_file() for line in file.read_text(errors="replace").splitlines()]
    words = (word for line in lines if not line.lstrip().startswith("#") for word in line.split())
    return next((word for word in words if word.startswith(("http://", "https://"))), "")


def _network() -> str:
    """The distribution's mirror."""
    url = urllib.parse.urlsplit(mirror())
    if url.hostname is None:
        return "apt knows no mirror"
    proxy = urllib.request.getproxies().get(url.scheme)
    place = urllib.parse.urlsplit(proxy) if proxy else url
    port = place.port or (443 if place.scheme == "https" else 80)
    try:
        socket.create_connection((place.hostname or "", port), timeout=3).close()
    except OSError as error:
        return f"the distribution's mirror cannot be reached ({error})"
    return ""


def _installation() -> str:
    place = prefix()
    if place is None:
        return "SINGULARITY_TEST_PREFIX names no installation (make test sets it)"
    return "" if (place / "bin/singularity").exists() else f"no bin/singularity in {place}"


def _setuid() -> str:
    place = prefix()
    if _installation() or place is None:
        return _installation()
    starter = place / "libexec/singularity/sexec-suid"
    if not starter.exists():
        return f"no sexec-suid in {starter.parent}"
    status = starter.stat()
    return "" if status.st_uid == 0 and status.st_mode & 0o4000 else f"{starter} is not setuid root"


def _fixtures() -> str:
    return "" if FIXTURES.is_dir() else "no ../shared/fixtures beside the checkout"


def _slurm() -> str:
    packages = {"munged": "munge", "slurmctld": "slurmctld", "slurmd": "slurmd", "srun": "slurm-client"}
    missing = [why for why in (_program(name, package) for name, package in packages.items()) if why]
    return missing[0] if missing else ""


def _spank() -> str:
    place = prefix()
    there = place is not None and (place / "lib/slurm/singularity.so").exists()
    return "" if there else "the installation has no plugin for Slurm (package libslurm-dev)"


def _closed_sockets() -> str:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as one:
        try:
            one.setsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS, 0)
        except OSError:
            return "sockets that no descriptor gets into: Linux 6.16"
    return ""


def _landlock(least: int, since: str) -> str:
    """Its version is the answer to a call that makes nothing: landlock_create_ruleset(2) with its first flag."""
    version = ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), 1)
    return "" if version >= least else f"a kernel that has Landlock as of Linux {since}"


def _qemu_user() -> str:
    """Foreign programs, for which a user namespace of a test's own says what runs them."""
    if tuple(map(int, os.uname().release.split(".")[:2])) < (6, 7):
        return "binfmt_misc of a user namespace's own: Linux 6.7"
    there = Path("/usr/lib/binfmt.d/qemu-aarch64.conf").exists()
    return "" if there else "no registration of qemu-aarch64-static (package qemu-user-static)"


def _libseccomp() -> str:
    try:
        ctypes.CDLL("libseccomp.so.2")
    except OSError:
        return "no libseccomp.so.2 (package libseccomp2)"
    return ""


CHECKS: dict[str, Callable[[], str]] = {
    "root": _root,
    "userns": _userns,
    "fuse": _fuse,
    "loop": _loop,
    "closed-sockets": _closed_sockets,
    "landlock": lambda: _landlock(3, "6.2"),
    "landlock-scopes": lambda: _landlock(6, "6.12"),
    "libseccomp": _libseccomp,
    "overlay": _overlay,
    "busybox": _busybox,
    "gcc": lambda: _program("gcc", "gcc"),
    "gocryptfs": lambda: _program("gocryptfs", "gocryptfs"),
    "squashfuse": lambda: _program("squashfuse", "squashfuse"),
    "fuse2fs": lambda: _program("fuse2fs", "fuse2fs"),
    "fuse-overlayfs": lambda: _program("fuse-overlayfs", "fuse-overlayfs"),
    "packer": lambda: "" if packer.is_there() else "singularity-pack is not built",
    "mksquashfs": lambda: _program("mksquashfs", "squashfs-tools"),
    "mke2fs": lambda: _program("mke2fs", "e2fsprogs"),
    "mkfs.erofs": lambda: _program("mkfs.erofs", "erofs-utils"),
    "erofs": lambda: "" if "\terofs\n" in Path("/proc/filesystems").read_text() else "a kernel that has EROFS",
    "umoci": lambda: _program("umoci", "umoci"),
    "skopeo": lambda: _program("skopeo", "skopeo"),
    "buildah": lambda: _program("buildah", "buildah"),
    "siftool": lambda: _program("siftool", "siftool"),
    "docker-registry": lambda: _program("docker-registry", "docker-registry"),
    "faketime": lambda: _program("faketime", "faketime"),
    "xz": lambda: _program("xz", "xz-utils"),
    "zstd": lambda: _program("zstd", "zstd"),
    "cpio": lambda: _program("cpio", "cpio"),
    "debootstrap": lambda: _program("debootstrap", "debootstrap"),
    "mmdebstrap": lambda: _program("mmdebstrap", "mmdebstrap"),
    "dnf": lambda: _program("dnf", "dnf"),
    "rpmbuild": lambda: _program("rpmbuild", "rpm"),
    "createrepo": lambda: _program("createrepo_c", "createrepo-c"),
    "zypper": lambda: _program("zypper", "zypper"),
    "pacman": lambda: _program("pacman", "pacman-package-manager"),
    "makepkg": lambda: _program("makepkg", "makepkg"),  # repo-add of the other package calls its scripts
    "dpkg-scanpackages": lambda: _program("dpkg-scanpackages", "dpkg-dev"),
    "pip": lambda: _program("/usr/bin/pip3", "python3-pip"),
    "npm": lambda: _program("npm", "npm"),
    "db5.3_load": lambda: _program("db5.3_load", "db5.3-util"),
    "chromium": lambda: _program("chromium", "chromium"),
    "bsdtar": lambda: _program("bsdtar", "libarchive-tools"),
    "gpg": lambda: _program("gpg", "gpg"),
    "qemu-user": _qemu_user,
    "zsh": lambda: _program("zsh", "zsh"),
    "fish": lambda: _program("fish", "fish"),
    "lmod": lambda: "" if Path("/usr/share/lmod/lmod/init/sh").exists() else "lmod is not here (install lmod)",
    "desktop-file-validate": lambda: _program("desktop-file-validate", "desktop-file-utils"),
    "groff": lambda: _program("groff", "groff-base"),
    "apptainer": lambda: _program("apptainer", "apptainer"),
    "sks": lambda: _program("sks", "sks"),
    "veritysetup": lambda: _program("veritysetup", "cryptsetup-bin"),
    "device-mapper": lambda: _opens("/dev/mapper/control", "a kernel that has the device mapper"),
    "ssh-keygen": lambda: _program("ssh-keygen", "openssh-client"),
    "openssl": lambda: _program("openssl", "openssl"),
    "newuidmap": lambda: _program("newuidmap", "uidmap"),
    "ip": lambda: _program("ip", "iproute2"),
    "pasta": lambda: _program("pasta", "passt"),
    "cni": lambda: _program("iptables", "iptables") or _program("/usr/lib/cni/bridge", "containernetworking-plugins"),
    "slirp4netns": lambda: _program("slirp4netns", "slirp4netns"),
    "strace": lambda: _program("strace", "strace"),
    "slurm": _slurm,
    "spank": _spank,
    "openmpi": lambda: _program("mpicc.openmpi", "libopenmpi-dev") or _program("mpirun.openmpi", "openmpi-bin"),
    "mpich": lambda: _program("mpicc.mpich", "libmpich-dev") or _program("mpiexec.mpich", "mpich"),
    "network": _network,
    "installation": _installation,
    "setuid": _setuid,
    "fixtures": _fixtures,
    "guest": lambda: "" if os.environ.get("GUEST") else "a machine whose settings may be changed (make test-kernels)",
    "unsanitized": lambda: "a build with sanitizers needs more memory, and /proc" if os.environ.get("SANITIZE") else "",
}


class _Missing(Mapping[str, str]):
    """Each need is looked at once, when it is first asked for."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def __getitem__(self, need: str) -> str:
        if need not in self._known:
            self._known[need] = CHECKS[need]()
        return self._known[need]

    def __iter__(self) -> Iterator[str]:
        return iter(CHECKS)

    def __len__(self) -> int:
        return len(CHECKS)


MISSING: Mapping[str, str] = _Missing()


def require(*needs: str) -> None:
    """Skips the test with a reason, or fails it where everything should be there."""
    for need in needs:
        if MISSING[need]:
            (pytest.fail if os.environ.get("TESTS_STRICT") else pytest.skip)(MISSING[need])


def adopt_orphans() -> None:
    """Makes this process the parent of whatever its children leave behind, so that it is seen."""
    ctypes.CDLL(None, use_errno=True).prctl(36, 1, 0, 0, 0)


def children() -> set[int]:
    """The living children of this process; the dead ones among those adopted are buried on the way."""
    alive = set()
    for task in Path("/proc/self/task").iterdir():
        try:
            words = (task / "children").read_text().split()
        except OSError:  # a thread that has ended since
            continue
        for word in words:
            try:
                state = Path(f"/proc/{word}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
            except OSError:
                continue
            if state != "Z":
                alive.add(int(word))
            else:
                os.waitpid(int(word), os.WNOHANG)
    return alive


def command_of(process: int) -> str:
    """Its command line; of the image server, which is forked and not executed, the name that it gives itself."""
    try:
        if (name := Path(f"/proc/{process}/comm").read_text().strip()) == "image-server":
            return name
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return "(gone)"


@contextmanager
def leaving_nothing(directory: Path) -> Iterator[None]:
    """At its end no process of ours that it began lives, and no loop device holds a file of this directory."""
    before = children()
    yield
    deadline = time.monotonic() + 5
    while True:
        left = [f"process {child}: {command_of(child)}" for child in children() - before] + loops_of(directory)
        if not left or time.monotonic() > deadline:
            break
        time.sleep(0.01)
    assert not left, f"left behind: {left}"


def loops_of(directory: Path) -> list[str]:
    """The loop devices whose backing file lies in this directory, also when it has been deleted."""
    found = []
    for device in sorted(Path("/sys/block").glob("loop*")):
        try:
            backing = (device / "loop/backing_file").read_text(errors="replace").strip()
        except OSError:
            continue
        if str(directory) in backing:
            found.append(f"{device.name}: {backing}")
    return found
