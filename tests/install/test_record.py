"""What installing has written, when something goes wrong in the middle."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from singularity.errors import FileError
from singularity.image.offered import Command
from singularity.install import record
from singularity.install.tool import Kind, New, Tool, named


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tool:
    monkeypatch.setenv("SINGULARITY_CONFIGDIR", str(tmp_path / "own"))
    command = Command("x", ("x",))
    return Tool(name="t", version="1", image=tmp_path / "x.sif", front_door=Path("/s"), commands=(command,))


def new(directory: Path, *names: str, text: str = "one", kind: Kind = Kind.WRAPPERS) -> list[New]:
    return [New(kind=kind, path=directory / name, text=text, mode=0o755) for name in names]


def put(tool: Tool, files: list[New]) -> None:
    with record.kept():
        record.put(tool, files, record.of(tool.title, record.records()))


def below(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def test_a_failure_in_the_middle_leaves_nothing(tool: Tool, tmp_path: Path) -> None:
    place = tmp_path / "bin"
    (tmp_path / "file").touch()
    with pytest.raises(FileError):
        put(tool, [*new(place / "deep", "a", "b"), *new(tmp_path / "file/below", "c")])
    assert not place.exists()
    assert record.records() == []


def test_a_failure_while_replacing_leaves_what_can_be_taken_away(tool: Tool, tmp_path: Path) -> None:
    place = tmp_path / "bin"
    put(tool, new(place, "a", "gone"))
    (tmp_path / "file").touch()
    with pytest.raises(FileError):
        put(tool, [*new(place, "a", "b", text="two"), *new(tmp_path / "file/below", "c")])
    assert below(place) == ["a", "gone"]
    (known,) = record.records()
    assert record.take_away(known, force=False) == []
    assert not place.exists()


def test_a_file_that_is_no_file_of_ours_is_never_removed(tool: Tool, tmp_path: Path) -> None:
    place = tmp_path / "bin"
    put(tool, new(place, "a", "b", "c", "d"))
    for name in "abc":
        (place / name).unlink()
    (place / "a").symlink_to(place / "d")
    os.mkfifo(place / "b")
    (place / "c").mkdir()
    (known,) = record.records()
    assert [path.name for path in record.take_away(known, force=False)] == ["a", "b", "c"]
    assert below(place) == ["a", "b", "c"]


def test_a_directory_that_is_moved_meanwhile_is_still_the_one(
    tool: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner need not be who uninstalls."""
    place, other = tmp_path / "bin", tmp_path / "other"
    put(tool, new(place, "a"))
    other.mkdir()
    (other / "a").write_text("somebody's")
    looked_at = record._digest

    def slowly(*where: str | Path | int | None) -> str:
        digest = looked_at(*where)  # type: ignore[arg-type]
        place.rename(tmp_path / "moved")
        place.symlink_to(other)
        return digest

    monkeypatch.setattr(record, "_digest", slowly)
    (known,) = record.records()
    record.take_away(known, force=False)
    assert (other / "a").read_text() == "somebody's"
    assert below(tmp_path / "moved") == []


def test_files_that_others_changed_are_refused(tool: Tool, tmp_path: Path) -> None:
    place = tmp_path / "bin"
    put(tool, new(place, "a", "b"))
    known = record.records()
    record.refuse(new(place, "a", "b", "c"), known[0], known)
    with pytest.raises(FileError, match="a: belongs to t/1"):
        record.refuse(new(place, "a"), None, known)
    (place / "b").write_text("mine")
    with pytest.raises(FileError, match="changed since"):
        record.refuse(new(place, "b"), known[0], known)
    (place / "d").touch()
    with pytest.raises(FileError, match="d: exists"):
        record.refuse(new(place, "d"), known[0], known)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"title": 1}', '{"title": "t", "image": "x", "files": [{"kind": "y"}]}']
)
def test_a_damaged_record_is_named(tool: Tool, tmp_path: Path, text: str) -> None:
    put(tool, new(tmp_path / "bin", "a"))
    (path,) = (tmp_path / "own/installed").glob("*.json")
    assert json.loads(path.read_text())["title"] == "t/1"
    path.write_text(text)
    with pytest.raises(FileError, match=r"t@1\.json: a record of what is installed, and damaged"):
        record.records()


def test_under_sudo_the_files_stay_roots(tool: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_UID", "12345")
    monkeypatch.setenv("SUDO_GID", "12345")
    put(tool, new(tmp_path / "bin", "a"))
    assert (tmp_path / "bin/a").stat().st_uid == os.geteuid()
    assert (tmp_path / "bin/a").stat().st_mode & 0o777 == 0o755


def test_names_and_versions_of_files() -> None:
    cases = {
        "samtools-1.17.sif": ("samtools", "1.17"), "debian_latest.sif": ("debian", "latest"), "tool.sif": ("tool", ""),
        "a-b-2.0-rc1.sqfs": ("a-b", "2.0-rc1"), "x-v3.img": ("x", "v3"), "python3.11.sif": ("python3.11", ""),
        "tree": ("tree", ""),
    }  # fmt: skip
    assert {name: named("", Path("/x") / name) for name in cases} == cases
    assert named("n/1", Path("x")) == ("n", "1")
