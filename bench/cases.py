"""What is launched: the same root file system, mounts and program by singularity and by its peers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from place import Place

OURS = "singularity"
FLOOR = "C floor"
NONE = "none"
DIRECTORIES = ("/dev", "/proc", "/sys", "/tmp", "/var/tmp")
FILES = ("/etc/hosts", "/etc/localtime", "/etc/resolv.conf")
ACCOUNTS = ("/etc/passwd", "/etc/group")

DIRECTORY_USERNS = "directory, user namespace"
DIRECTORY_SUID = "directory, SUID"
IMAGE_SUID = "image, SUID (mounted by the kernel)"
IMAGE_USERNS = "image, user namespace (FUSE)"
REFERENCE = "no container"
GROUPS = (REFERENCE, DIRECTORY_USERNS, DIRECTORY_SUID, IMAGE_SUID, IMAGE_USERNS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One row: a program launched in one way."""

    name: str
    group: str
    who: str  # OURS, FLOOR, NONE, or the peer's name
    argv: tuple[str, ...]  # {n} is the number of the launch
    many: bool = False  # also launched many at a time

    def line(self) -> str:
        """For the timer."""
        return "\t".join((self.name, *self.argv)) + "\n"

    def one(self) -> list[str]:
        """The command of a single launch."""
        return [word.replace("{n}", "single") for word in self.argv]


def cases(place: Place, program: Sequence[str]) -> list[Case]:
    """Every row that this machine can make, with `program` as what runs."""
    made = [*_reference(place, program), *_ours(place, program)]
    peers = {"bwrap": _bubblewrap, "crun": _crun, "runc": _runc, "ch-run": _charliecloud, "apptainer": _apptainer}
    for command, make in peers.items():
        if place.has(command):
            made += make(place, program)
    return made


def _case(name: str, group: str, who: str, *argv: str | Path, many: bool = False) -> Case:
    return Case(name=name, group=group, who=who, argv=tuple(map(str, argv)), many=many)


def _reference(place: Place, program: Sequence[str]) -> list[Case]:
    root = place.shown("root")
    binds = [*DIRECTORIES, str(place.home), *FILES, *ACCOUNTS]
    return [
        _case("the program alone", REFERENCE, NONE, *program),
        _case("floor", DIRECTORY_USERNS, FLOOR, place.shown("floor"), root, *binds, "--", *program),
        _case(
            "floor, our squashfs",
            IMAGE_SUID,
            FLOOR,
            place.shown("state/floor-suid"),
            place.shown("debian.sqfs"),
            *binds,
            "--",
            *program,
        ),
    ]


def _ours(place: Place, program: Sequence[str]) -> list[Case]:
    images = {
        "SIF": "debian.sif",
        "squashfs": "debian.sqfs",
        "squashfs, plain zstd": "zstd.sqfs",
        "squashfs, plain gzip": "gzip.sqfs",
    }
    absent = ("--bind", "/usr/share:/absent")

    def ours(name: str, group: str, image: str, *options: str, many: bool = False) -> Case:
        userns = ("-u",) if group in (DIRECTORY_USERNS, IMAGE_USERNS) else ()
        words = (*userns, *options, place.shown(image), *program)
        return _case(name, group, OURS, place.singularity, "exec", *words, many=many)

    made = [
        ours("directory -u", DIRECTORY_USERNS, "root", many=True),
        ours("directory -u, a new mount point", DIRECTORY_USERNS, "root", *absent),
        ours("directory", DIRECTORY_SUID, "root", many=True),
        ours("directory, a new mount point", DIRECTORY_SUID, "root", *absent),
    ]
    made += [ours(name, IMAGE_SUID, file, many=name == "SIF") for name, file in images.items()]
    made += [
        ours("SIF, a new mount point", IMAGE_SUID, "debian.sif", *absent),
        ours("SIF, EROFS", IMAGE_SUID, "erofs.sif"),
        ours("ext3", IMAGE_SUID, "debian.ext3"),
    ]
    made += [ours(f"{name} -u", IMAGE_USERNS, file, many=name == "SIF") for name, file in images.items()]
    return made


def _bubblewrap(place: Place, program: Sequence[str]) -> list[Case]:
    root, home = place.shown("root"), str(place.home)
    words = ["--unshare-user", "--ro-bind", str(root), "/", "--dev-bind", "/dev", "/dev"]
    for path in (*DIRECTORIES[1:], home):
        words += ["--bind", path, path]
    for path in FILES:
        words += ["--ro-bind", path, path]
    for path in ACCOUNTS:
        words += ["--ro-bind", str(place.shown(Path(path).name)), path]
    return [_case("bubblewrap", DIRECTORY_USERNS, "bubblewrap", "bwrap", *words, "--chdir", home, *program, many=True)]


def _crun(place: Place, program: Sequence[str]) -> list[Case]:
    bundle = _bundle(place, program)
    state = place.shown("state/crun")
    argv = ("crun", "--root", str(state), "--cgroup-manager=disabled", "run", "--bundle", str(bundle), "bench-{n}")
    return [_case("crun", DIRECTORY_USERNS, "crun", *argv, many=True)]


def _runc(place: Place, program: Sequence[str]) -> list[Case]:
    bundle = _bundle(place, program)
    argv = ("runc", "--root", str(place.shown("state/runc")), "run", "--bundle", str(bundle), "bench-{n}")
    return [_case("runc", DIRECTORY_USERNS, "runc", *argv, many=True)]


def _charliecloud(place: Place, program: Sequence[str]) -> list[Case]:
    options = ["-c", str(place.home)]
    for path in ("/var/tmp", "/etc/localtime", str(place.home)):
        options += ["-b", path]

    def launch(name: str, group: str, image: str, *, many: bool = False) -> Case:
        argv = ("ch-run", *options, str(place.shown(image)), "--", *program)
        return _case(name, group, "charliecloud", *argv, many=many)

    return [
        launch("charliecloud", DIRECTORY_USERNS, "root", many=True),
        launch("charliecloud, our squashfs", IMAGE_USERNS, "debian.sqfs", many=True),
        launch("charliecloud, plain zstd", IMAGE_USERNS, "zstd.sqfs"),
        launch("charliecloud, plain gzip", IMAGE_USERNS, "gzip.sqfs"),
    ]


def _apptainer(place: Place, program: Sequence[str]) -> list[Case]:
    words = ("apptainer", "--quiet", "exec", "--userns", "--no-mount", "hostfs,bind-paths")

    def launch(name: str, group: str, image: str) -> Case:
        return _case(name, group, "apptainer", *words, place.shown(image), *program)

    return [launch("apptainer", DIRECTORY_USERNS, "root"), launch("apptainer, our SIF", IMAGE_USERNS, "debian.sif")]


def _bundle(place: Place, program: Sequence[str]) -> Path:
    """An OCI bundle: these mounts, a user and a mount namespace, no cgroup, no seccomp filter."""
    name = f"bundle-{Path(program[0]).name}"
    directory = place.directory / name
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text(json.dumps(_oci_config(place, program), indent=1))
    return place.shown(name)


def _oci_config(place: Place, program: Sequence[str]) -> dict[str, object]:
    sources = {path: path for path in (*DIRECTORIES, str(place.home), *FILES)}
    sources |= {path: str(place.shown(Path(path).name)) for path in ACCOUNTS}

    def mapping(number: int) -> list[dict[str, int]]:
        return [{"containerID": 0, "hostID": number, "size": 1}]  # runc wants a root in the container

    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": list(program),
            "env": [f"{key}={value}" for key, value in place.environment().items()],
            "cwd": str(place.home),
            "noNewPrivileges": True,
            "capabilities": {},
        },
        "root": {"path": str(place.shown("root")), "readonly": True},
        "mounts": [
            {"destination": path, "type": "none", "source": source, "options": ["rbind", "nosuid", "rw"]}
            for path, source in sources.items()
        ],
        "linux": {
            "namespaces": [{"type": "user"}, {"type": "mount"}],
            "uidMappings": mapping(place.account.uid),
            "gidMappings": mapping(place.account.gid),
        },
    }
