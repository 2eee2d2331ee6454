"""`%files`: patterns as in bash, targets as with cp, and neither ever outside a root."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from singularity.build import copies
from singularity.build.copies import Source
from singularity.definition.model import Copy
from singularity.errors import DefinitionError
from singularity.image.root import Root

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def host(tmp_path: Path) -> Path:
    files = ("a.txt", "b.txt", "c.dat", ".hidden", "dir/one", "dir/sub/two", "dir/sub/three.txt", "with blank")
    for name in files:
        path = tmp_path / "host" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "host" / "link").symlink_to("a.txt")
    (tmp_path / "host" / "dir" / "link").symlink_to("../b.txt")
    (tmp_path / "host" / "c.dat").chmod(0o4750)
    return tmp_path / "host"


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Root]:
    (tmp_path / "image" / "there").mkdir(parents=True)
    with Root(tmp_path / "image") as root:
        yield root


def copied(host: Path, image: Root, source: str, target: str = "", *, follow: bool = True) -> dict[str, str]:
    """What is in the image after one line: files by their text, links by where they point."""
    with Root("/") as root:
        place = Source(root=root, directory=str(host), follow=follow)
        copies.copy(Copy(source=source, target=target, stage="", line=7), place, image, "x.def")
    return {
        str(path.relative_to(image.path)): f"-> {os.readlink(path)}" if path.is_symlink() else path.read_text()
        for path in sorted(image.path.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


TARGETS = [
    ("a.txt", "", {"a.txt": "a.txt"}),
    ("a.txt", "/new/name", {"new/name": "a.txt"}),
    ("a.txt", "relative", {"relative": "a.txt"}),
    ("a.txt", "/new/", {"new/a.txt": "a.txt"}),
    ("a.txt", "/there", {"there/a.txt": "a.txt"}),
    ("*.txt", "/to", {"to/a.txt": "a.txt", "to/b.txt": "b.txt"}),
    ("[!ab].*", "/to/", {"to/c.dat": "c.dat"}),
    ("[^ab].*", "/to/", {"to/c.dat": "c.dat"}),
    ("?.txt", "", {"a.txt": "a.txt", "b.txt": "b.txt"}),
    ("{a,c}.*", "/to", {"to/a.txt": "a.txt", "to/c.dat": "c.dat"}),
    ("{a.{txt,none},dir/{one,sub/two}}", "/to", {"to/a.txt": "a.txt", "to/one": "dir/one", "to/two": "dir/sub/two"}),
    ("**/*.txt", "/to", {"to/a.txt": "a.txt", "to/b.txt": "b.txt", "to/three.txt": "dir/sub/three.txt"}),
    (".h*", "/to/", {"to/.hidden": ".hidden"}),
    ("dir/sub", "/to", {"to/three.txt": "dir/sub/three.txt", "to/two": "dir/sub/two"}),
    ("dir/sub", "/there", {"there/sub/three.txt": "dir/sub/three.txt", "there/sub/two": "dir/sub/two"}),
    ("with blank", "/a b", {"a b": "with blank"}),
    ("link", "/to", {"to": "a.txt"}),
    ("a.txt", "/../../../up", {"up": "a.txt"}),
]


@pytest.mark.parametrize(("source", "target", "expected"), TARGETS)
def test_patterns_and_targets(host: Path, image: Root, source: str, target: str, expected: dict[str, str]) -> None:
    assert copied(host, image, source, target) == expected


def test_absolute_sources_keep_their_path(host: Path, image: Root) -> None:
    assert copied(host, image, f"{host}/a.txt") == {f"{host}/a.txt".lstrip("/"): "a.txt"}
    assert f"{host}/b.txt".lstrip("/") in copied(host, image, f"{host}/*.txt")


def test_links_of_the_host_are_followed_and_those_of_a_stage_kept(host: Path, image: Root) -> None:
    assert copied(host, image, "dir", "/a")["a/link"] == "b.txt"
    assert copied(host, image, "dir", "/b", follow=False)["b/link"] == "-> ../b.txt"


def test_permissions_follow_but_setuid_does_not(host: Path, image: Root) -> None:
    copied(host, image, "c.dat")
    assert (image.path / "c.dat").stat().st_mode & 0o7777 == 0o750


def test_files_replace_what_is_there_and_do_not_write_through_links(host: Path, image: Root, tmp_path: Path) -> None:
    """R-B6."""
    (tmp_path / "secret").write_text("of the host")
    (image.path / "x").symlink_to(tmp_path / "secret")
    assert copied(host, image, "a.txt", "/x")["x"] == "a.txt"
    assert (tmp_path / "secret").read_text() == "of the host"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere", "x.def:7: %files: nowhere: no such file"),
        ("*.none", "x.def:7: %files: *.none: no such file"),
        ("pipe", "x.def:7: %files: {host}/pipe: neither a file, a link nor a directory"),
        ("broken", "x.def:7: %files: {host}/broken: a link to nothing"),
        ("circle", "x.def:7: %files: {host}/circle/again: links in a circle"),
    ],
)
def test_what_cannot_be_copied_names_its_line(host: Path, image: Root, source: str, message: str) -> None:
    os.mkfifo(host / "pipe")
    (host / "broken").symlink_to("nothing")
    (host / "circle").mkdir()
    (host / "circle" / "again").symlink_to(".")
    with pytest.raises(DefinitionError) as caught:
        copied(host, image, source, "/to")
    assert str(caught.value) == message.format(host=host)
