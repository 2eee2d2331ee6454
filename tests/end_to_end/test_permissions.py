"""The permission matrix: owner, group and other, each mode of each component, each kind of path of a launch: what
the program in the container can do with it is what the user can do with it directly. About 16,000 cases; EXHAUSTIVE=1
(`make fuzz`): all 23,000, those too of which each takes a launch of its own."""

from __future__ import annotations

import itertools
import os
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from hostile_host import OTHER
from images import squashfs
from launch_requests import Value, request_for
from workers import Job, Outcome, Worker, run_all, working

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from hostile_host import HostileHost
    from images import Images
    from launching import Launcher

pytestmark = [
    pytest.mark.needs("root", "mke2fs", "mksquashfs", "fuse"),
    pytest.mark.modes("suid", "userns"),
]

WHO = ("owner", "group", "other")
EXHAUSTIVE = bool(os.environ.get("EXHAUSTIVE"))
IN_ONE = 128  # binds of one launch, where all of them can be resolved


@dataclass(frozen=True, slots=True)
class Right:
    """How a component of a path stands to the user: which of its bits are for her, and what they are; the others say
    the opposite."""

    who: str
    bits: int

    @property
    def mode(self) -> int:
        against = 7 ^ self.bits
        bits = {
            "owner": (self.bits, against, against),
            "group": (against, self.bits, against),
            "other": (against, against, self.bits),
        }
        owner, group, other = bits[self.who]
        return owner << 6 | group << 3 | other

    @property
    def name(self) -> str:
        return f"{self.who}{self.bits}"

    def apply(self, path: Path, launch: Launcher) -> None:
        account = launch.account
        group = next(iter(account.groups.values()))  # a supplementary one
        uid = account.uid if self.who == "owner" else OTHER
        gid = group if self.who == "group" else OTHER
        os.chown(path, uid, gid, follow_symlinks=False)
        path.chmod(self.mode)


RIGHTS = tuple(Right(who, bits) for who in WHO for bits in range(8))


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """PLACE/PARENT/LEAF for each two rights, a file or a directory each."""

    place: Path
    directories: bool

    def path(self, parent: Right, leaf: Right) -> Path:
        return self.place / parent.name / leaf.name

    @property
    def paths(self) -> list[Path]:
        return [self.path(parent, leaf) for parent, leaf in itertools.product(RIGHTS, RIGHTS)]

    @property
    def some(self) -> list[Path]:
        """A quarter of them, with each right in each place six times: where each takes a launch of its own."""
        pairs = itertools.product(range(len(RIGHTS)), repeat=2)
        return [self.path(RIGHTS[one], RIGHTS[two]) for one, two in pairs if EXHAUSTIVE or (one + two) % 4 == 0]

    def make(self, launch: Launcher) -> Matrix:
        self.place.mkdir(parents=True)
        for parent in RIGHTS:
            (self.place / parent.name).mkdir()
            for leaf in RIGHTS:
                path = self.path(parent, leaf)
                if self.directories:
                    path.mkdir()
                    (path / "x").touch()
                else:
                    path.write_text("data\n")
                leaf.apply(path, launch)
        for parent in RIGHTS:
            parent.apply(self.place / parent.name, launch)
        return self


@dataclass(kw_only=True)
class Bench:
    """Workers, and what they find directly and in containers."""

    host: HostileHost
    launch: Launcher
    workers: Sequence[Worker]
    image: Path

    @property
    def userns(self) -> bool:
        return self.launch.mode.value == "userns"

    def directly(self, paths: Sequence[Path | str]) -> dict[str, str]:
        """What the user can do with them without us."""
        job = Job(program=self.host.witness, words=[b"witness", b"reach", *map(os.fsencode, paths)])
        return reached(self.workers[0].run(job))

    def job(self, asked: Sequence[tuple[str, Value]], paths: Sequence[Path | str], image: Path | None = None) -> Job:
        octets = request_for(image or self.image, *asked, userns=self.userns)
        words = [b"sexec", b"5", b"/bin/witness", b"reach", *map(os.fsencode, paths)]
        return Job(program=self.launch.starter, words=words, request=octets)

    def hostile(self, name: str) -> Path:
        return self.host.images[name]

    def launched(self, jobs: Sequence[Job]) -> list[Outcome]:
        return run_all(self.workers, jobs)


def reached(outcome: Outcome) -> dict[str, str]:
    assert outcome.witness is not None, str(outcome)
    return {path: can for path, (can, _) in outcome.witness.reach.items()}


@pytest.fixture
def bench(launch: Launcher, hostile_host: HostileHost, images: Images) -> Iterator[Bench]:
    with ExitStack() as stack:
        workers = [stack.enter_context(working(launch, images.directory)) for _ in range(min(os.cpu_count() or 1, 8))]
        yield Bench(host=hostile_host, launch=launch, workers=workers, image=hostile_host.images["directory"])


def compare(direct: dict[str, str], found: dict[str, str]) -> list[str]:
    return [
        f"{path}: {found[path]} in the container, {can} directly" for path, can in direct.items() if found[path] != can
    ]


def both(bench: Bench, asked: dict[Path, list[tuple[str, Value]]], inside: dict[Path, str]) -> dict[str, str]:
    """What is found of each path in a container that got it by these fields: together where the user can resolve it,
    each alone where not, since a launch is refused for one that he cannot."""
    direct = bench.directly(list(asked))
    found = dict.fromkeys(direct, "-")
    there = [path for path in asked if direct[str(path)] != "-"]
    closed = [path for path in asked if direct[str(path)] == "-"]
    closed = closed if EXHAUSTIVE else closed[::2]
    groups = [there[start : start + IN_ONE] for start in range(0, len(there), IN_ONE)] + [[path] for path in closed]
    jobs = [
        bench.job([one for path in group for one in asked[path]], [inside[path] for path in group]) for group in groups
    ]
    for group, outcome in zip(groups, bench.launched(jobs), strict=True):
        if outcome.witness is not None:
            can = reached(outcome)
            found |= {str(path): can[inside[path]] for path in group}
        else:
            assert outcome.status == 255, str(outcome)
            assert len(group) == 1, f"refused, though the user can reach each of them: {outcome}"
    return found


def differences(direct: dict[str, str], found: dict[str, str]) -> str:
    wrong = compare(direct, found)
    return f"{len(wrong)} of {len(direct)}:\n" + "\n".join(wrong[:20]) if wrong else ""


@pytest.mark.parametrize("directories", [True, False], ids=["directories", "files"])
def test_bind_sources(bench: Bench, directory: Path, *, directories: bool) -> None:
    """R-M2: 576 paths."""
    matrix = Matrix(place=directory / "matrix", directories=directories).make(bench.launch)
    inside = {path: f"/m/{number}" for number, path in enumerate(matrix.paths)}
    asked: dict[Path, list[tuple[str, Value]]] = {
        path: [("bind", (0, os.fsencode(path), target.encode()))] for path, target in inside.items()
    }
    direct = bench.directly(matrix.paths)
    assert 200 < list(direct.values()).count("-") < 400, "about half of the parents cannot be passed through"
    assert not differences(direct, both(bench, asked, inside))


def image_with(matrix: Matrix, bench: Bench, place: Path) -> Path:
    """A directory image in which the matrix lies at /m."""
    tree = place / "image"
    for name in ("bin", "dev", "proc", "sys", "tmp", "etc", "home"):
        (tree / name).mkdir(parents=True)
    os.link(bench.host.witness, tree / "bin/witness")
    matrix.place.rename(tree / "m")
    return tree


@pytest.mark.parametrize("directories", [True, False], ids=["directories", "files"])
def test_what_lies_in_an_image(bench: Bench, directory: Path, *, directories: bool) -> None:
    """R-M12: a directory image, with mount points to be made in it (a layer above it), and as an overlay itself."""
    made = Matrix(place=directory / "matrix", directories=directories).make(bench.launch)
    image = image_with(made, bench, directory)
    paths = [image / "m" / path.relative_to(made.place) for path in made.paths]
    direct = bench.directly(paths)
    inside = [f"/{path.relative_to(image)}" for path in paths]
    layers: list[list[tuple[str, Value]]] = [[], [("bind", (0, b"/usr/share", b"/new/deep"))], [("underlay", True)]]
    layers.append([("underlay", True), ("bind", (0, b"/usr/share", b"/new/deep"))])
    layers.append([("writable_tmpfs", True)])
    jobs = [bench.job(asked, inside, image) for asked in layers]
    overlay: list[tuple[str, Value]] = [("overlay", (1, os.fsencode(image), b""))]  # the same as a layer above another
    jobs += [bench.job(overlay, inside, bench.hostile(name)) for name in ("directory", "squashfs")]
    for outcome in bench.launched(jobs):
        found = reached(outcome)
        seen = {str(path): found[name] for path, name in zip(paths, inside, strict=True)}
        writable = {path: can.replace("w", "") for path, can in direct.items()}
        assert not differences(writable, {path: can.replace("w", "") for path, can in seen.items()})


def test_bind_targets_in_an_image(bench: Bench, directory: Path) -> None:
    """R-M2, R-M5: a mount point that the user cannot reach is none; what is shown at another is the source's."""
    made = Matrix(place=directory / "matrix", directories=True).make(bench.launch)
    image = image_with(made, bench, directory)
    paths = [image / "m" / path.relative_to(made.place) for path in made.some]
    direct = bench.directly(paths)
    jobs = []
    for path in paths:
        target = f"/{path.relative_to(image)}"
        jobs.append(bench.job([("bind", (0, b"/usr/share", target.encode()))], [target], image))
    wrong = []
    for path, outcome in zip(paths, bench.launched(jobs), strict=True):
        shown = outcome.witness is not None and reached(outcome)[f"/{path.relative_to(image)}"] != "-"
        if shown != (direct[str(path)] != "-"):
            wrong.append(f"{path}: {'shown' if shown else 'not shown'}, {direct[str(path)]} directly\n{outcome}")
    assert not wrong, f"{len(wrong)}: " + "\n".join(wrong[:5])


def one_by_one(
    bench: Bench, asked: dict[Path, list[tuple[str, Value]]], inside: str, expected: dict[str, bool]
) -> None:
    """Whether each launch comes to show something at `inside` (or to run at all, where that is "")."""
    jobs = [bench.job(fields, [inside] if inside else []) for fields in asked.values()]
    wrong = []
    for path, outcome in zip(asked, bench.launched(jobs), strict=True):
        ran = outcome.witness is not None and (not inside or reached(outcome)[inside] != "-")
        if ran != expected[str(path)]:
            wrong.append(f"{path}: {'ran' if ran else 'did not'}\n{outcome}")
    assert not wrong, f"{len(wrong)} of {len(asked)}: " + "\n".join(wrong[:5])


def test_working_directories(bench: Bench, directory: Path) -> None:
    """R-M6: --cwd enters what the user could enter, shown in the container under its own name."""
    matrix = Matrix(place=directory / "matrix", directories=True).make(bench.launch)
    direct = bench.directly(matrix.some)
    expected = {path: "x" in can for path, can in direct.items()}
    parent: tuple[str, Value] = ("bind", (0, os.fsencode(matrix.place), b"/m"))
    asked: dict[Path, list[tuple[str, Value]]] = {
        path: [parent, ("target_cwd", b"/m/" + os.fsencode(path.relative_to(matrix.place)))] for path in matrix.some
    }
    one_by_one(bench, asked, "", expected)


@pytest.mark.parametrize("kind", ["home", "workdir", "scratch", "cwd"])
def test_directories_that_options_name(bench: Bench, directory: Path, kind: str) -> None:
    """R-M2, R-M5: home directories and the caller's own are shown as binds are; what --workdir makes, she makes."""
    matrix = Matrix(place=directory / "matrix", directories=True).make(bench.launch)
    direct = bench.directly(matrix.some)
    fields: dict[str, tuple[str, list[tuple[str, Value]]]] = {
        "home": ("/myhome", [("home_target", b"/myhome")]),
        "workdir": ("/var/tmp/x", [("contain", True)]),
        "scratch": ("/scratch", [("scratch", (0, b"/scratch", b""))]),
        "cwd": ("", []),
    }
    inside, more = fields[kind]
    option = {"home": "home_source", "cwd": "cwd"}.get(kind, "workdir")
    asked = {path: [*more, (option, os.fsencode(path))] for path in matrix.some}
    if kind == "home":
        one_by_one(bench, asked, inside, {path: can != "-" for path, can in direct.items()})
    elif kind == "cwd":
        jobs = [bench.job(fields, [path]) for path, fields in asked.items()]
        found: dict[str, str] = {}
        for outcome in bench.launched(jobs):
            found |= reached(outcome)
        assert not differences(direct, found)
    else:
        writable = {path: {"w", "x"} <= set(can) for path, can in direct.items()}
        jobs = [bench.job(fields, [inside if kind == "scratch" else "/tmp"]) for fields in asked.values()]
        outcomes = bench.launched(jobs)
        wrong = [
            f"{path}: {outcome}"
            for path, outcome in zip(matrix.some, outcomes, strict=True)
            if (outcome.witness is not None) != writable[str(path)]
        ]
        assert not wrong, f"{len(wrong)}: " + "\n".join(wrong[:4])
        made = {path for path in matrix.some if any(one.name in {"tmp", "scratch"} for one in path.iterdir())}
        assert made == {path for path in matrix.some if writable[str(path)]}


@pytest.mark.parametrize("kind", ["image", "overlay"])
def test_image_files(bench: Bench, directory: Path, kind: str) -> None:
    """R-I1: an image that the user cannot open for reading is none; hard links are the same file in each directory."""
    tree = directory / "tree"
    for name in ("bin", "dev", "proc", "sys", "tmp", "etc", "home"):
        (tree / name).mkdir(parents=True)
    os.link(bench.host.witness, tree / "bin/witness")
    place = directory / "matrix"
    place.mkdir()
    original = squashfs(tree, directory / "one.squashfs").read_bytes()
    for leaf in RIGHTS:
        (directory / leaf.name).write_bytes(original)
        leaf.apply(directory / leaf.name, bench.launch)
    for parent in RIGHTS:
        (place / parent.name).mkdir()
        for leaf in RIGHTS:
            os.link(directory / leaf.name, place / parent.name / leaf.name)
        parent.apply(place / parent.name, bench.launch)
    paths = Matrix(place=place, directories=False).some
    direct = bench.directly(paths)
    jobs = [
        bench.job([], [], path) if kind == "image" else bench.job([("overlay", (1, os.fsencode(path), b""))], [])
        for path in paths
    ]
    wrong = [
        f"{path}: {direct[str(path)]} directly\n{outcome}"
        for path, outcome in zip(paths, bench.launched(jobs), strict=True)
        if (outcome.witness is not None) != ("r" in direct[str(path)])
    ]
    assert not wrong, f"{len(wrong)}: " + "\n".join(wrong[:4])
