"""Images that the tests launch, built once a session from the machine's static busybox.

`Images` makes each one when it is first asked for: the same root file system in every format, in the layouts of the
generations (today's /.singularity.d, the helper files of 2.x, none at all, no shell at all), and hostile ones.
The SIF writer here is written from the format's description and shares nothing with the program under test.
"""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import struct
import subprocess
import time
import uuid
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

BUSYBOX = Path("/bin/busybox")
PROBE_SOURCE = Path(__file__).parent / "end_to_end" / "probe.c"
LAUNCH_LINE = b"#!/usr/bin/env run-singularity\n"
COMPRESSIONS = ("gzip", "lzo", "lz4", "xz", "zstd")
ARCHITECTURES = {"x86_64": "02", "aarch64": "04"}
MEBIBYTE = 1 << 20

BASE_ENVIRONMENT = "#!/bin/sh\n"
ENVIRONMENT = """\
#!/bin/sh
# written by a build: plain assignments
export GREETING="hello from the image"
export SUBJECT='plain $text'
SENTENCE="$GREETING, again"
export SENTENCE
export EMPTY=""
export GUARDED="${GUARDED:-"image default"}"
export BOTH=image
"""
BASE_END = """\
#!/bin/sh
if [ -z "$LD_LIBRARY_PATH" ]; then
    LD_LIBRARY_PATH="/.singularity.d/libs"
else
    LD_LIBRARY_PATH="$LD_LIBRARY_PATH:/.singularity.d/libs"
fi
PS1="Singularity> "
export LD_LIBRARY_PATH PS1
"""
APPS = """\
#!/bin/sh
if [ -n "$SINGULARITY_APPNAME" ]; then
    SCIF_APPNAME="$SINGULARITY_APPNAME"
    SCIF_APPROOT="/scif/apps/$SCIF_APPNAME"
    PATH="$SCIF_APPROOT/bin:$PATH"
    export SCIF_APPNAME SCIF_APPROOT PATH
    if [ -f "$SCIF_APPROOT/scif/env/90-environment.sh" ]; then
        . "$SCIF_APPROOT/scif/env/90-environment.sh"
    fi
fi
"""
LIVE_ENVIRONMENT = """\
#!/bin/sh
if [ -d /etc ]; then
    export COMPUTED="$(echo computed | tr a-z A-Z)"
fi
for part in one two; do
    PARTS="$PARTS$part"
done
export PARTS
"""
RUNSCRIPT = '#!/bin/sh\necho "runscript got $# arguments: $*"\n'
TESTSCRIPT = '#!/bin/sh\necho "test got $# arguments: $*"\nexit ${TEST_STATUS:-0}\n'
APP_RUNSCRIPT = '#!/bin/sh\necho "hello from the app $*"\n'
OLD_ENVIRONMENT = """\
# Define any environment init code here

if test -z "$SINGULARITY_INIT"; then
    PATH=$PATH:/bin:/sbin:/usr/bin:/usr/sbin:/usr/local/bin:/usr/local/sbin
    PS1="Singularity.$SINGULARITY_CONTAINER> $PS1"
    SINGULARITY_INIT=1
    export PATH PS1 SINGULARITY_INIT
fi
GREETING="hello from the old image"
export GREETING
"""
OLD_EXEC = '#!/bin/sh\n. /environment\nexec "$@"\n'
OLD_RUN = """\
#!/bin/sh
. /environment
if test -x /singularity; then
    exec /bin/sh /singularity "$@"
else
    echo "No Singularity runscript found, executing /bin/sh"
    exec /bin/sh "$@"
fi
"""
OLD_SHELL = """\
#!/bin/sh
. /environment
if test -n "$SHELL" -a -x "$SHELL"; then
    exec "$SHELL" "$@"
fi
exec /bin/sh "$@"
"""
OLD_RUNSCRIPT = 'echo "old image, $# arguments: $*"\n'  # no interpreter line, as 2.x builds wrote it


def hold(file: IO[bytes], *, writable: bool) -> None:
    """The lock that a launch holds on an image, for as long as the file is open."""
    kind = fcntl.F_WRLCK if writable else fcntl.F_RDLCK
    fcntl.fcntl(file, fcntl.F_OFD_SETLK, struct.pack("hhqqi", kind, os.SEEK_SET, 0, 0, 0))


def tool(*argv: str | Path, stdin: bytes | None = None) -> str:
    """Runs one program to its end; its output is in the exception when it fails."""
    result = subprocess.run(
        [str(word) for word in argv], input=stdin, capture_output=True, timeout=120, check=False, env=TOOL_ENVIRONMENT
    )
    if result.returncode != 0:
        raise RuntimeError(f"{argv[0]} ended with {result.returncode}: {result.stderr.decode(errors='replace')}")
    return result.stdout.decode(errors="replace")


def superblock(image: Path, *, offset: int = 0) -> str:
    """What an ext file system says of itself, a line each; dumpe2fs 1.47.2 takes no offset together with `-h`."""
    return tool("debugfs", "-R", "stats -h", f"{image}?offset={offset}")


TOOL_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/nonexistent",  # Open MPI 5 compiles nothing without
    "LC_ALL": "C",
}


def write(path: Path, text: str | bytes, mode: int = 0o644) -> Path:
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    path.chmod(mode)
    return path


@cache
def applets() -> tuple[str, ...]:
    return tuple(name for name in tool(BUSYBOX, "--list").split() if "/" not in name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """A file system to be placed in a SIF."""

    data: bytes
    filesystem: int = 1  # 1 squashfs, 2 ext3
    kind: int = 2  # 1 system, 2 primary system, 3 data, 4 overlay
    architecture: str = ARCHITECTURES.get(platform.machine(), "02")
    group: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A descriptor as it is written: hostile images change these numbers."""

    data_type: int
    identity: int
    offset: int
    size: int
    extra: bytes = b""
    group: int = 1
    used: int = 1

    def encode(self) -> bytes:
        now = int(time.time())
        head = struct.pack(
            "<IBIIIQQQqqQQ",
            self.data_type, self.used, self.identity, self.group | 0xF0000000, 0,
            self.offset, self.size, self.size, now, now, 0, 0,
        )  # fmt: skip
        return head + bytes(128) + self.extra.ljust(384, b"\0")


def write_sif(
    path: Path,
    partitions: Sequence[Partition],
    *,
    definition: bytes = b"bootstrap: scratch\n",
    capacity: int = 48,
    alignment: int = 4096,
    change: Sequence[tuple[int, bytes]] = (),
) -> Path:
    """A SIF of a definition file and these partitions; `change` overwrites bytes at offsets at the end."""
    table = 4096
    start = table + capacity * 585
    place = start
    placed = [Placed(data_type=0x4001, identity=1, offset=place, size=len(definition))]
    bodies = [(place, definition)]
    place += len(definition)
    for number, partition in enumerate(partitions, start=2):
        place = -(-place // alignment) * alignment
        extra = struct.pack("<ii", partition.filesystem, partition.kind) + partition.architecture.encode() + b"\0"
        placed.append(
            Placed(
                data_type=0x4004,
                identity=number,
                offset=place,
                size=len(partition.data),
                extra=extra,
                group=partition.group,
            )
        )
        bodies.append((place, partition.data))
        place += len(partition.data)
    primary = next((p.architecture for p in partitions if p.kind == 2), "00")
    now = int(time.time())
    header = LAUNCH_LINE.ljust(32, b"\0") + b"SIF_MAGIC\0" + b"01\0" + primary.encode() + b"\0" + uuid.uuid4().bytes
    header += struct.pack(
        "<qqQQQQQQ", now, now, capacity - len(placed), capacity, table, capacity * 585, start, place - start
    )
    with path.open("wb") as file:
        file.write(header)
        for number, descriptor in enumerate(placed):
            file.seek(table + number * 585)
            file.write(descriptor.encode())
        for offset, body in bodies:
            file.seek(offset)
            file.write(body)
        for offset, octets in change:
            file.seek(offset)
            file.write(octets)
    path.chmod(0o755)
    return path


def squashfs(tree: Path, target: Path, *, compression: str = "gzip", line: bool = False) -> Path:
    plain = target.with_name(target.name + ".part")
    tool("mksquashfs", tree, plain, "-comp", compression, "-noappend", "-quiet", "-no-progress", "-no-xattrs")
    target.write_bytes((LAUNCH_LINE if line else b"") + plain.read_bytes())
    plain.unlink()
    target.chmod(0o755)
    return target


def extfs(tree: Path, target: Path, *, kind: str = "ext3", mebibytes: int = 24, line: bool = False) -> Path:
    """The tree with its owners, that of its root too."""
    plain = target.with_name(target.name + ".part")
    owner = tree.stat()
    root = ["-E", f"root_owner={owner.st_uid}:{owner.st_gid}"]
    tool("mke2fs", "-q", "-F", "-t", kind, *root, "-d", tree, plain, f"{mebibytes}M")
    if line:
        with target.open("wb") as file, plain.open("rb") as body:
            file.write(LAUNCH_LINE)
            shutil.copyfileobj(body, file, MEBIBYTE)
        plain.unlink()
    else:
        plain.rename(target)  # which keeps it sparse
    target.chmod(0o755)
    return target


def erofs(tree: Path, target: Path, *options: str) -> Path:
    tool("mkfs.erofs", "--quiet", *options, target, tree)
    target.chmod(0o755)
    return target


class Images:
    """The images of a session, by name. Every path is readable by any user and belongs to root when root runs this."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._made: dict[str, Path] = {}

    def _once(self, name: str) -> tuple[Path, bool]:
        known = name in self._made
        path = self._made.setdefault(name, self.directory / name)
        return path, known

    @property
    def probe(self) -> Path:
        """The static program of end_to_end/probe.c."""
        return self.program(PROBE_SOURCE)

    def program(self, source: Path) -> Path:
        """A C program of the tests that runs in any image."""
        path, known = self._once(source.stem)
        if not known:
            tool("gcc", "-std=gnu17", "-static", "-Os", "-s", "-Wall", "-Wextra", "-Werror", "-Wno-unused-result",
                 "-o", path, source)  # fmt: skip
            path.chmod(0o755)
        return path

    def bare_tree(self, target: Path, *, shell: bool = True) -> Path:
        """A root file system without any file of ours."""
        for name in ("bin", "etc", "dev", "proc", "sys", "home", "opt", "mnt", "srv", "usr/bin", "usr/share", "var"):
            (target / name).mkdir(mode=0o755, parents=True, exist_ok=True)
        (target / "root").mkdir(mode=0o750)
        for name in ("tmp", "var/tmp"):
            (target / name).mkdir()
            (target / name).chmod(0o1777)
        if shell:
            shutil.copy(BUSYBOX, target / "bin/busybox")
            (target / "bin/busybox").chmod(0o755)
            for name in applets():
                if name != "busybox":
                    (target / "bin" / name).symlink_to("busybox")
        shutil.copy(self.probe, target / "bin/probe")
        write(target / "etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")
        write(target / "etc/group", "root:x:0:\nnogroup:x:65534:\n")
        write(target / "etc/hosts", "")
        write(target / "etc/resolv.conf", "")
        write(target / "etc/image-name", "busybox of the tests\n")
        write(target / "opt/script", "#!/bin/sh\necho script ran with $#\n", 0o755)
        write(target / "opt/no-interpreter", "echo no interpreter line, $# arguments\n", 0o755)
        write(target / "opt/data", "data of the image\n")
        return target

    def modern_tree(self, target: Path, *, environment: str = ENVIRONMENT, shell: bool = True) -> Path:
        """The same with the files that today's builds write."""
        self.bare_tree(target, shell=shell)
        meta = target / ".singularity.d"
        write(meta / "env/01-base.sh", BASE_ENVIRONMENT, 0o755)
        write(meta / "env/90-environment.sh", environment, 0o755)
        write(meta / "env/91-environment.sh", BASE_ENVIRONMENT, 0o755)
        write(meta / "env/95-apps.sh", APPS, 0o755)
        write(meta / "env/99-base.sh", BASE_END, 0o755)
        write(meta / "runscript", RUNSCRIPT, 0o755)
        write(meta / "test", TESTSCRIPT, 0o755)
        write(meta / "labels.json", "{}\n")
        (meta / "libs").mkdir()
        app = target / "scif/apps/hello"
        write(app / "scif/runscript", APP_RUNSCRIPT, 0o755)
        write(app / "scif/test", '#!/bin/sh\necho "test of the app"\n', 0o755)
        write(app / "scif/env/01-base.sh", BASE_ENVIRONMENT, 0o755)
        write(app / "scif/env/90-environment.sh", "export APP_GREETING=hi\n", 0o755)
        write(app / "bin/app-tool", "#!/bin/sh\necho tool of the app\n", 0o755)
        (app / "lib").mkdir()
        (target / "scif/data/hello").mkdir(parents=True)
        return target

    def old_tree(self, target: Path) -> Path:
        """The same with the files that 2.x builds wrote."""
        self.bare_tree(target)
        write(target / "environment", OLD_ENVIRONMENT)
        write(target / ".exec", OLD_EXEC, 0o755)
        write(target / ".run", OLD_RUN, 0o755)
        write(target / ".shell", OLD_SHELL, 0o755)
        write(target / ".test", "#!/bin/sh\n\necho test of the old image\n", 0o755)
        write(target / "singularity", OLD_RUNSCRIPT, 0o755)
        return target

    @property
    def sandbox(self) -> Path:
        path, known = self._once("sandbox")
        return path if known else self.modern_tree(path)

    def oci_tree(self, target: Path, user: str, workdir: str) -> Path:
        """The same as made from an image of Docker or OCI with this USER and WORKDIR."""
        self.modern_tree(target)
        write(target / "etc/passwd", "root:x:0:0:root:/root:/bin/sh\napp:x:1234:2345:App:/home/app:/bin/sh\n")
        write(target / "etc/group", "root:x:0:\nappg:x:2345:\nextra:x:3456:app\n")
        (target / "srv/present").mkdir(parents=True)
        write(target / ".singularity.d/oci-start", f"USER={user}\nWORKDIR={workdir}\n")
        return target

    @property
    def oci_sandbox(self) -> Path:
        path, known = self._once("oci-sandbox")
        return path if known else self.oci_tree(path, "app", "/new/work")

    @property
    def live_sandbox(self) -> Path:
        """Its environment is shell code that only a shell can evaluate."""
        path, known = self._once("live-sandbox")
        return path if known else self.modern_tree(path, environment=LIVE_ENVIRONMENT)

    @property
    def old_sandbox(self) -> Path:
        path, known = self._once("old-sandbox")
        return path if known else self.old_tree(path)

    @property
    def bare_sandbox(self) -> Path:
        path, known = self._once("bare-sandbox")
        return path if known else self.bare_tree(path)

    @property
    def shellless_sandbox(self) -> Path:
        """One static program and the environment files of a build; nothing could evaluate a script."""
        path, known = self._once("shellless-sandbox")
        return path if known else self.modern_tree(path, shell=False)

    def squashfs(self, compression: str = "gzip", *, line: bool = False) -> Path:
        path, known = self._once(f"{compression}{'-line' if line else ''}.squashfs")
        return path if known else squashfs(self.sandbox, path, compression=compression, line=line)

    def erofs(self) -> Path:
        path, known = self._once("bare.erofs")
        return path if known else erofs(self.sandbox, path, "-zlz4hc")

    @property
    def sif_with_erofs(self) -> Path:
        """As `build --erofs` makes it: the partition is said to be raw data."""
        path, known = self._once("erofs.sif")
        return path if known else write_sif(path, [Partition(data=self.erofs().read_bytes(), filesystem=4)])

    def extfs(self, kind: str = "ext3") -> Path:
        path, known = self._once(f"bare.{kind}")
        return path if known else extfs(self.sandbox, path, kind=kind)

    @property
    def image_2x(self) -> Path:
        """31 bytes of interpreter line, then ext3, with the files of 2.x."""
        path, known = self._once("old.img")
        return path if known else extfs(self.old_sandbox, path, line=True)

    @property
    def sif(self) -> Path:
        path, known = self._once("squashfs.sif")
        return path if known else write_sif(path, [Partition(data=self.squashfs().read_bytes())])

    @property
    def sif_with_ext3(self) -> Path:
        path, known = self._once("ext3.sif")
        return path if known else write_sif(path, [Partition(data=self.extfs().read_bytes(), filesystem=2)])

    @property
    def sif_with_overlay(self) -> Path:
        """Its overlay partition holds /overlaid and belongs to nobody in particular: upper/ is open to all."""
        path, known = self._once("overlay.sif")
        if not known:
            tree = self.directory / "overlay-tree"
            (tree / "upper").mkdir(parents=True)
            (tree / "work").mkdir()
            (tree / "upper").chmod(0o777)
            write(tree / "upper/overlaid", "from the overlay partition\n")
            overlay = extfs(tree, self.directory / "overlay.ext3", mebibytes=8)
            parts = [
                Partition(data=self.squashfs().read_bytes()),
                Partition(data=overlay.read_bytes(), filesystem=2, kind=4),
            ]
            write_sif(path, parts)
        return path

    @property
    def sif_of_another_machine(self) -> Path:
        path, known = self._once("other-architecture.sif")
        other = "04" if platform.machine() == "x86_64" else "02"
        return path if known else write_sif(path, [Partition(data=self.squashfs().read_bytes(), architecture=other)])

    @property
    def sif_without_a_root(self) -> Path:
        path, known = self._once("no-root.sif")
        return path if known else write_sif(path, [])

    @property
    def shellless_squashfs(self) -> Path:
        """Like the image that workflow engines probe with: a squashfs behind the line, no shell, no /etc/passwd."""
        path, known = self._once("hello.simg")
        if not known:
            tree = self.directory / "hello-tree"
            for name in ("dev", "proc", "sys", "tmp", "home"):
                (tree / name).mkdir(parents=True)
            shutil.copy(self.probe, tree / "hello")
            squashfs(tree, path, line=True)
        return path

    def of_format(self, name: str) -> Path:
        """The modern root file system in one of the launchable formats."""
        paths: dict[str, Callable[[], Path]] = {
            "sandbox": lambda: self.sandbox,
            "squashfs": self.squashfs,
            "sif": lambda: self.sif,
            "erofs": self.erofs,
            "sif-erofs": lambda: self.sif_with_erofs,
            "ext3": self.extfs,
            "sif-ext3": lambda: self.sif_with_ext3,
            "2.x": lambda: self.image_2x,
            "oci": lambda: self.oci_sandbox,
        }
        return paths[name]()

    def damaged(self) -> dict[str, Path]:
        """Files that look like images for a while, by what is wrong with them."""
        squash, ext, sif = self.squashfs().read_bytes(), self.extfs().read_bytes(), self.sif.read_bytes()
        root = 4096 + 585  # the descriptor of the root partition
        far = struct.pack("<Q", 1 << 40)
        cases = {
            "empty": b"",
            "one-byte": b"h",
            "text": b"this is not an image\n" * 300,
            "only-the-line": LAUNCH_LINE,
            "line-and-text": LAUNCH_LINE + b"nothing else\n",
            "squashfs-cut-in-the-superblock": squash[:50],
            "squashfs-cut-in-half": squash[: len(squash) // 2],
            "squashfs-behind-the-line-cut": LAUNCH_LINE + squash[: len(squash) // 2],
            "ext3-cut-in-the-superblock": ext[:1500],
            "ext3-cut-in-half": ext[: len(ext) // 2],
            "sif-cut-in-the-header": sif[:100],
            "sif-cut-in-the-table": sif[:5000],
            "sif-cut-in-the-data": sif[:-4096],
            "sif-version-99": sif[:42] + b"99" + sif[44:],
            "sif-table-past-the-end": sif[:96] + far + sif[104:],
            "sif-too-many-descriptors": sif[:88] + far + sif[96:],
            "sif-root-offset-past-the-end": sif[: root + 17] + far + sif[root + 25 :],
            "sif-root-size-past-the-end": sif[: root + 25] + far + sif[root + 33 :],
            "sif-root-size-negative": sif[: root + 25] + b"\xff" * 8 + sif[root + 33 :],
            "sif-root-over-the-table": sif[: root + 17] + struct.pack("<Q", 4096) + sif[root + 25 :],
            "sif-root-is-not-squashfs": sif[:32768] + bytes(4096) + sif[36864:],
        }
        paths = {}
        for name, octets in cases.items():
            path, known = self._once(f"damaged-{name}")
            paths[name] = path if known else write(path, octets, 0o755)
        return paths

    def hostile_sandbox(self, name: str, links: Iterable[tuple[str, str]]) -> Path:
        """A sandbox with some of its paths replaced by links: (path in the image, target)."""
        path, known = self._once(f"hostile-{name}")
        if not known:
            self.modern_tree(path)
            for place, target in links:
                victim = path / place
                if victim.is_dir() and not victim.is_symlink():
                    shutil.rmtree(victim)
                elif victim.is_symlink() or victim.exists():
                    victim.unlink()
                victim.symlink_to(target)
        return path

    @property
    def privileged_tree(self) -> Path:
        """Set-uid root programs and device nodes, as an attacker would put them into an image. Needs root to make."""
        path, known = self._once("privileged-sandbox")
        if not known:
            self.modern_tree(path)
            for name, mode in (("setuid-probe", 0o4755), ("setgid-probe", 0o2755)):
                shutil.copy(self.probe, path / "bin" / name)
                os.chown(path / "bin" / name, 0, 0)
                (path / "bin" / name).chmod(mode)
            for name, kind, device in (
                ("null", 0o020000, os.makedev(1, 3)),
                ("memory", 0o020000, os.makedev(1, 1)),
                ("disk", 0o060000, os.makedev(254, 0)),
                ("loop", 0o060000, os.makedev(7, 0)),
            ):
                os.mknod(path / "opt" / name, 0o666 | kind, device)
                (path / "opt" / name).chmod(0o666)
        return path

    def privileged(self, form: str) -> Path:
        if form == "sandbox":
            return self.privileged_tree
        path, known = self._once(f"privileged.{form}")
        if known:
            return path
        return squashfs(self.privileged_tree, path) if form == "squashfs" else extfs(self.privileged_tree, path)
