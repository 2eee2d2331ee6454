"""A host with everything that an attacker would wish for: directories that others keep closed, his own images of all
kinds with links and openings in them, and the oracle that says whether a launch gave him anything. Needs root."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from images import Partition, extfs, squashfs, write, write_sif
from launch_requests import LEVEL_USUAL, encode, kinds
from workers import KEPT, LEFT, Outcome, Witness, compiled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ordinary_user import Account

WITNESS_NAMES = (
    "bin/witness",
    "bin/sh",
    "bin/bash",
    ".singularity.d/runscript",
    ".singularity.d/test",
    "singularity",
    ".test",
)
SECRET = "secret-of-others"
LEVEL = encode("level", LEVEL_USUAL)  # where refusals are told
TAIL = f"closed-root/inner/{SECRET}"  # where overlays of the attacker try to open a way
OTHER = 61_000  # somebody else's ids
OVERFLOW = 65_534  # how a user namespace shows those that it does not have


@dataclass(kw_only=True)
class HostileHost:
    place: Path
    account: Account
    witness: Path = field(init=False)
    images: dict[str, Path] = field(default_factory=dict)
    closed: dict[str, Path] = field(default_factory=dict)  # not to be seen, or not to be opened
    identities: dict[str, str] = field(default_factory=dict)  # of what is in them: device and inode, by path

    @property
    def mine(self) -> Path:
        return self.place / "mine"

    @property
    def known(self) -> list[bytes]:
        """The words with which the witness looks for what is closed."""
        return [f"+{TAIL}".encode(), *(os.fsencode(path) for path in self.identities)]

    def make(self, programs: Path) -> HostileHost:
        self.place.mkdir(mode=0o755)
        self.witness = compiled("witness", programs)
        self._closed()
        self.mine.mkdir(mode=0o755)
        self._images()
        self._overlays()
        self._oddities()
        give(self.mine, self.account.uid, self.account.gid)
        return self

    def _closed(self) -> None:
        for name, owner, mode in (
            ("closed-root", 0, 0o700),
            ("closed-other", OTHER, 0o700),
            ("closed-group", 0, 0o770),
        ):
            self.closed[name] = closed_directory(self.place / name, owner, mode)
            self._remember(self.place / name / "inner" / SECRET)
        hidden = write(self.place / "hidden-file", "nobody else reads this\n", 0o600)
        self.closed["hidden-file"] = hidden
        self._remember(hidden)

    def _remember(self, path: Path) -> None:
        status = path.stat()
        self.identities[str(path)] = f"{status.st_dev}:{status.st_ino}"

    def tree(self, name: str, *links: tuple[str, str], lacking: tuple[str, ...] = ()) -> Path:
        """A root file system in which everything that can be executed is the witness."""
        place = self.place / "trees" / name
        directories = {
            "bin",
            "etc",
            "dev",
            "proc",
            "sys",
            "home",
            "opt",
            "mnt",
            "srv",
            "usr/share",
            "tmp",
            "var/tmp",
            "root",
        }
        for directory in sorted(directories - set(lacking)):
            (place / directory).mkdir(mode=0o755, parents=True, exist_ok=True)
        for program in WITNESS_NAMES:
            (place / program).parent.mkdir(exist_ok=True)
            os.link(self.witness, place / program)
        write(place / "etc/passwd", "root:x:0:0::/root:/bin/sh\napp:x:1234:2345::/srv:/bin/sh\n")
        write(place / "etc/group", "root:x:0:\n")
        write(place / "etc/resolv.conf", "")
        for where, target in links:
            victim = place / where
            if victim.is_dir():
                shutil.rmtree(victim)
            victim.unlink(missing_ok=True)
            victim.symlink_to(target)
        return place

    def _images(self) -> None:
        plain = self.tree("plain")
        lacking = self.tree("lacking", lacking=("home", "tmp", "srv", "mnt"))
        links = self.tree("links", ("srv", "/proc/self/fd/4"), ("opt", "../../.."), ("mnt", "/proc/self/root"),
                          ("etc/passwd", "/proc/self/fd/3"), ("tmp", "/"), ("home", "/proc/1/root"))  # fmt: skip
        oci = self.tree("oci")
        write(oci / ".singularity.d/oci-start", "USER=app\nWORKDIR=/proc/self/fd/5\n")
        closed_directory(plain / "closed-root", 0, 0o700)
        closed_directory(lacking / "closed-root", 0, 0o700)
        own = self.mine / "own-directory"
        shutil.copytree(links, own, symlinks=True)
        packed = squashfs(self.tree("packed"), self.mine / "plain.squashfs")
        data = extfs(self.tree("packed-ext"), self.mine / "plain.ext3", mebibytes=16).read_bytes()
        self.images |= {
            "directory": plain, "directory-lacking": lacking, "directory-links": links, "directory-oci": oci,
            "own-directory": own, "squashfs": packed, "ext3": self.mine / "plain.ext3",
            "squashfs-links": squashfs(self.tree("packed-links", ("srv", "/proc/self/fd/4"), ("tmp", "../../..")),
                                       self.mine / "links.squashfs"),
            "sif": write_sif(self.mine / "plain.sif", [Partition(data=packed.read_bytes())]),
            "sif-ext3": write_sif(self.mine / "ext3.sif", [Partition(data=data, filesystem=2)]),
        }  # fmt: skip
        damaged = bytearray(packed.read_bytes())
        damaged[200:260] = bytes(60)
        self.images["squashfs-damaged"] = write(self.mine / "damaged.squashfs", bytes(damaged), 0o755)

    def _overlays(self) -> None:
        opening = self.mine / "opening"
        (opening / "upper/closed-root/inner").mkdir(parents=True)
        (opening / "work").mkdir()
        write(opening / "upper/closed-root/inner/own", "of the attacker\n")
        for name, targets in (("linked", ("closed-root", "closed-root")), ("linked-work", (None, "closed-root"))):
            place = self.mine / name
            place.mkdir()
            for part, target in zip(("upper", "work"), targets, strict=True):
                if target is None:
                    (place / part).mkdir()
                else:
                    (place / part).symlink_to(self.place / target)
        give(self.mine, self.account.uid, self.account.gid)
        for name in ("opening", "linked"):
            extfs(self.mine / name, self.mine / f"{name}.ext3", mebibytes=8)
        squashfs(opening / "upper", self.mine / "opening.squashfs")
        partition = (self.mine / "opening.ext3").read_bytes()
        linked = (self.mine / "linked.ext3").read_bytes()
        packed = Partition(data=self.images["squashfs"].read_bytes())
        for name, overlay in (("opening", partition), ("linked", linked)):
            parts = [packed, Partition(data=overlay, filesystem=2, kind=4)]
            self.images[f"sif-{name}"] = write_sif(self.mine / f"{name}.sif", parts)

    def _oddities(self) -> None:
        mine = self.mine
        for name, target in (("to-closed", self.place / "closed-root"), ("to-root", Path("/")), ("loop", mine / "loop"),
                             ("to-fd", Path("/proc/self/fd/4")), ("dangling", Path("/nonexistent/x"))):  # fmt: skip
            (mine / name).symlink_to(target)
        os.mkfifo(mine / "fifo")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(mine / "socket"))
        write(mine / "file", "of the user\n")
        write(mine / "line\nbreak, and:colon=%s/file", "odd\n")
        (mine / "home").mkdir(mode=0o700)
        (mine / "work").mkdir()
        shutil.copy(self.witness, mine / "setuid")
        (mine / "setuid").chmod(0o4755)

    # ---- the oracle ----

    def untouched(self) -> dict[str, tuple[int, ...]]:
        """What nobody but root may change: compared before and after."""
        roots = [*self.closed.values(), self.place / "trees"]
        found = [path for root in roots for path in (root, *root.rglob("*"))]
        return {str(path): facts(path) for path in found}

    def planted(self) -> list[str]:
        """Files in the user's directories that somebody else's rights have made, or that have rights of their own."""
        allowed = {self.mine / "setuid"}
        found = []
        for path in self.mine.rglob("*"):
            status = path.lstat()
            special = status.st_mode & 0o6000 and not path.is_dir() and path not in allowed
            if status.st_uid != self.account.uid or special:
                found.append(f"{path}: uid {status.st_uid}, mode {status.st_mode:o}")
        return found


def closed_directory(place: Path, owner: int, mode: int) -> Path:
    """Closed itself, and open below: who gets past it gets everything."""
    write(place / "inner" / SECRET, "SECRET\n")
    write(place / f"{SECRET}-too", "SECRET\n")
    for path in (place / "inner" / SECRET, place / "inner", place / f"{SECRET}-too", place):
        os.chown(path, owner, OTHER)
    (place / "inner").chmod(0o755)
    place.chmod(mode)
    return place


def give(place: Path, uid: int, gid: int) -> None:
    for path in (place, *place.rglob("*")):
        os.chown(path, uid, gid, follow_symlinks=False)


def facts(path: Path) -> tuple[int, ...]:
    status = path.lstat()
    return (status.st_mode, status.st_uid, status.st_gid, status.st_size, status.st_mtime_ns, status.st_ino)


def names_in(octets: bytes) -> set[str]:
    """Which fields a request has, as far as it can be read."""
    by_tag = {kind.tag: name for name, kind in kinds().items()}
    found, place = set(), 16
    while place + 8 <= len(octets):
        tag, _, size = struct.unpack_from("<HHI", octets, place)
        found.add(by_tag.get(tag, ""))
        place += 8 + size
    return found


def violations(host: HostileHost, outcome: Outcome, octets: bytes, kept: int) -> list[str]:
    """R-L5, R-L6, R-M1 to R-M3, R-M12, R-L17: what this launch gave the user that he had not before, or left behind."""
    names = names_in(octets)
    found = list(outcome.left_behind)
    if "instance_starts" in names and outcome.status == -signal.SIGKILL:  # nobody else ends it; with it goes all
        found = [what for what in found if what != LEFT[1]]
    elif outcome.status < 0 and "stack_soft" not in names:  # a stack of 500 bytes ends any program
        found.append(f"ended by signal {-outcome.status}")
    if outcome.witness is not None:
        found += judge(host, outcome.witness, octets, kept)
    elif outcome.status == 255 and not outcome.err.strip() and LEVEL in octets and "instance_starts" not in names:
        found.append("refused without a word")
    return found


def judge(host: HostileHost, told: Witness, octets: bytes, kept: int) -> Iterator[str]:
    yield from judge_rights(host, told, octets)
    for number, (kind, _, path_only) in told.descriptors.items():
        if number > 2 and not KEPT <= number < KEPT + kept:
            yield f"descriptor {number} is open"
        if kind == "40000" or path_only:
            yield f"descriptor {number} is a directory"
    yield from judge_places(host, told)


def judge_rights(host: HostileHost, told: Witness, octets: bytes) -> Iterator[str]:
    account, values = host.account, told.values
    asked = names_in(octets)
    own = os.stat("/proc/self/ns/user").st_ino
    another = values.get("namespace user", str(own)) != str(own) or (
        "namespace user" not in values
        and values["whole_machine"] == "no"
        and bool(asked & {"fakeroot", "oci_defaults", "add_caps"})
    )
    mapped = another and bool(asked & {"fakeroot", "oci_defaults"})
    if values["whole_machine"] != "no":
        yield "it has a capability over the machine"
    if values["no_new_privs"] != "1":
        yield "no_new_privs is not set"
    if values["securebits"] != "0":
        yield f"securebits {values['securebits']}"
    for name in ("effective", "permitted", "inheritable", "bounding", "ambient"):
        if int(values[name], 16) != 0 and not (asked & {"fakeroot", "add_caps"} and another):
            yield f"{name} capabilities {values[name]}"
    for name, number in (("uids", account.uid), ("gids", account.gid)):
        numbers = set(values[name].split())
        if len(numbers) != 1 or (not mapped and numbers != {str(number)}):
            yield f"{name} {values[name]}"
    allowed = {account.gid, *account.groups.values()}
    if another or "namespace user" not in values:
        allowed |= {OVERFLOW, 0, 2345} if mapped else {OVERFLOW}
    groups = {int(word) for word in values["groups"].split()}
    if not groups <= allowed:
        yield f"groups {values['groups']}"


def judge_places(host: HostileHost, told: Witness) -> Iterator[str]:
    values = told.values
    status = os.stat("/")
    if values.get("root") == f"{status.st_dev}:{status.st_ino}":
        yield "its root directory is the host's"
    if "top" in values:
        yield f"beyond its root directory it finds {values['top']}"
    if not values.get("cwd", "/").startswith(("/", "E")):
        yield f"it stands outside: {values['cwd']}"
    if values.get("root_nosuid") != "1":
        yield "its root file system is not nosuid"
    yield from judge_mounts(told)
    yield from (f"it sees {path}" for path in told.seen)
    for path, (can, identity) in told.reach.items():
        if can not in {"-", "="} and identity == host.identities.get(path):
            yield f"it reaches {path} ({can})"


def judge_mounts(told: Witness) -> Iterator[str]:
    for mount in told.mounts:
        if "nosuid" not in mount.options:
            yield f"{mount.point} is not nosuid"
        if "nodev" not in mount.options and not f"{mount.point}/".startswith("/dev/"):
            yield f"{mount.point} is not nodev"
