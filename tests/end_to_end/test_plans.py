"""Plans as text: the words of a command line and a configuration in, the printed plan out, one file a case in plans/.

A file begins with `mode`, `image`, `options` and, if wanted, `config` lines (one each, repeated for more); after an
empty line stands the plan. What differs between machines and runs has a name: {image}, {source}, {home}, {uid}, {gid}.
With UPDATE_PLANS=1 in the environment the plans are written anew, to be read before they are committed.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from images import Images
from launching import Launcher

PLANS = sorted((Path(__file__).parent / "plans").glob("*.txt"))
KEYS = ("mode", "image", "options", "config")


@dataclass(frozen=True, slots=True)
class Case:
    path: Path
    values: dict[str, list[str]]
    plan: str

    @property
    def head(self) -> str:
        return "".join(f"{key}: {value}\n" for key in KEYS for value in self.values[key])


def read(path: Path) -> Case:
    head, _, plan = path.read_text().partition("\n\n")
    pairs = [line.partition(": ")[::2] for line in head.splitlines()]
    assert all(key in KEYS for key, _ in pairs), f"{path.name}: {pairs}"
    return Case(path, {key: [value for name, value in pairs if name == key] for key in KEYS}, plan)


CASES = [read(path) for path in PLANS]


@pytest.mark.needs("root", "overlay", "userns")
@pytest.mark.parametrize(
    ("mode", "case"),
    [(case.values["mode"][0], case) for case in CASES],
    ids=[case.path.stem for case in CASES],
    indirect=["mode"],
)
def test_the_plan_is_the_one_on_file(launch: Launcher, images: Images, directory: Path, case: Case) -> None:
    source = directory / "source"
    source.mkdir()
    (source / "file").touch()
    names = {
        "image": str(images.of_format(case.values["image"][0])),
        "source": str(source),
        "home": str(launch.home_inside),
        "uid": str(launch.account.uid),
        "gid": str(launch.account.gid),
    }
    text = "".join(f"{line.format(**names)}\n" for line in case.values["config"])
    world = launch.configured(text).changed(cwd=Path("/"))
    options = [word.format(**names) for option in case.values["options"] for word in option.split()]
    plan = world("exec", "--dry-run", *options, names["image"], "true").out
    for name in ("source", "image", "home"):
        plan = plan.replace(names[name], f"{{{name}}}")
    for name in ("uid", "gid"):
        plan = plan.replace(f"{name} {names[name]}", f"{name} {{{name}}}")
    if os.environ.get("UPDATE_PLANS"):
        case.path.write_text(f"{case.head}\n{plan}")
    assert plan == case.plan
