"""`%files`: patterns as in bash, targets as with cp, and neither ever outside a root."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest

from singularity.build import copies
from singularity.build.copies import Source
from singularity.definition.model import Copy
from singularity.errors import DefinitionError
from singularity.image.root import Root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from builds import Build


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
    ("{[a].{txt,t*},dir/{one,sub/two}}", "/to", {"to/a.txt": "a.txt", "to/one": "dir/one", "to/two": "dir/sub/two"}),
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
        ("pipe", "x.def:7: %files: {host}/pipe: a named pipe cannot be copied"),
        ("{a.txt,none}", "x.def:7: %files: none: no such file"),
        ("$HOME/x", "x.def:7: %files: $HOME/x: no such file (~ and $NAME are not filled in here)"),
        ("~/x", "x.def:7: %files: ~/x: no such file (~ and $NAME are not filled in here)"),
        ("/", "x.def:7: %files: /: all of the host cannot be copied"),
        ("dir", "x.def:7: %files: /to: a file is there, and a directory should be"),
        ("both", "x.def:7: %files: /to/there: a directory is there, and a file should be"),
        ("broken", "x.def:7: %files: {host}/broken: a link to nothing"),
        ("circle", "x.def:7: %files: {host}/circle/again: links in a circle"),
    ],
)
def test_what_cannot_be_copied_names_its_line(host: Path, image: Root, source: str, message: str) -> None:
    os.mkfifo(host / "pipe")
    (host / "broken").symlink_to("nothing")
    (host / "circle").mkdir()
    (host / "circle" / "again").symlink_to(".")
    (host / "both").mkdir()
    (host / "both" / "there").touch()
    if source == "dir":
        (image.path / "to").touch()
    if source == "both":
        (image.path / "to" / "both" / "there").mkdir(parents=True)
        message = message.replace("/to/there", "/to/both/there")
    with pytest.raises(DefinitionError) as caught:
        copied(host, image, source, "/to")
    assert str(caught.value) == message.format(host=host)


def test_directories_of_the_project_may_have_names_like_patterns(host: Path, image: Root) -> None:
    strange = host / "run[1] *"
    strange.mkdir()
    (strange / "x.txt").write_text("x")
    assert copied(strange, image, "*.txt", "/to/") == {"to/x.txt": "x"}
    assert copied(strange, image, "../a.*", "/to/")["to/a.txt"] == "a.txt"


def test_what_lies_deeper_than_calls_may_nest_is_copied_and_found(host: Path, image: Root) -> None:
    deep = str(host)
    for _ in range(1100):
        deep += "/d"
        os.mkdir(deep)
    with open(f"{deep}/x.deep", "w") as file:
        file.write("x")
    try:
        assert f"to/{'d/' * 1099}x.deep" in _named(host, image, "d", "/to")
        assert "found" in _named(host, image, "d/**/*.deep", "/found")
    finally:
        subprocess.run(["rm", "-rf", host / "d", image.path / "to"], check=True)


def _named(host: Path, image: Root, source: str, target: str) -> set[str]:
    with Root("/") as root:
        place = Source(root=root, directory=str(host), follow=True)
        copies.copy(Copy(source=source, target=target, stage="", line=7), place, image, "x.def")
    listed = subprocess.run(["find", image.path, "-type", "f", "-printf", "%P\\n"], check=True, stdout=subprocess.PIPE)
    return set(listed.stdout.decode().split("\n"))


@pytest.mark.parametrize(("follow", "expected"), [(True, 0o1775), (False, 0o1777)])
def test_modes_and_times_of_directories_are_those_of_the_source(
    host: Path, image: Root, follow: bool, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    (host / "dir" / "sub").chmod(0o7777)
    (host / "dir").chmod(0o555)
    for name in ("dir/sub", "dir", "dir/one"):
        os.utime(host / name, (1e9, 1e9))
    copied(host, image, "dir", "/to", follow=follow)
    assert (image.path / "to").stat().st_mode & 0o7777 == 0o555
    assert (image.path / "to" / "sub").stat().st_mode & 0o7777 == expected
    assert {(image.path / "to" / name).stat().st_mtime for name in ("", "sub", "one")} == {1e9}
    os.utime(image.path / "to", (2e9, 2e9))
    copied(host, image, "dir", "/to/../to/..", follow=follow)
    assert (image.path / "to").stat().st_mtime == 2e9


def test_times_are_the_builds_where_the_build_says_what_time_it_is(
    host: Path, image: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    os.utime(host / "a.txt", (1, 1))
    copied(host, image, "a.txt")
    assert (image.path / "a.txt").stat().st_mtime > 1


def test_hard_links_stay_one_file(host: Path, image: Root) -> None:
    os.link(host / "dir" / "one", host / "dir" / "again")
    copied(host, image, "dir", "/to")
    assert (image.path / "to/one").stat().st_ino == (image.path / "to/again").stat().st_ino
    copied(host, image, "dir/{one,again}", "/to")
    assert (image.path / "to/one").samefile(image.path / "to/again")
    assert (image.path / "to/one").read_text() == "dir/one"


def test_holes_stay_holes_and_sizes_are_kept(host: Path, image: Root) -> None:
    with (host / "sparse").open("wb") as file:
        file.seek(1 << 30)
        file.write(b"x" * 4096)
        file.truncate(3 << 30)
    copied_path = image.path / "sparse"
    with Root("/") as root:
        place = Source(root=root, directory=str(host), follow=True)
        copies.copy(Copy(source="sparse", target="", stage="", line=1), place, image, "x.def")
    status = copied_path.stat()
    assert (status.st_size, status.st_blocks * 512 < 1 << 20) == (3 << 30, True)
    with copied_path.open("rb") as file:
        file.seek((1 << 30) + 4095)
        assert file.read(2) == b"x\0"


def test_files_that_say_they_are_empty_are_read_to_their_end(image: Root) -> None:
    with Root("/") as root:
        place = Source(root=root, directory="/", follow=True)
        copies.copy(Copy(source="/proc/version", target="/v", stage="", line=1), place, image, "x.def")
    assert b"Linux" in (image.path / "v").read_bytes()


def test_without_the_system_call_contents_are_copied_all_the_same(
    host: Path, image: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> int:
        raise OSError(errno.EXDEV, "no")

    data = os.urandom(3_000_000)
    (host / "big").write_bytes(data)
    monkeypatch.setattr(os, "copy_file_range", refused)
    with Root("/") as root:
        place = Source(root=root, directory=str(host), follow=True)
        copies.copy(Copy(source="big", target="", stage="", line=1), place, image, "x.def")
    assert (image.path / "big").read_bytes() == data


def test_attributes_that_users_give_are_kept(host: Path, image: Root) -> None:
    try:
        os.setxattr(host / "a.txt", "user.origin", b"here")
        os.setxattr(host / "dir", "user.origin", b"there")
    except OSError:
        pytest.skip("no user attributes on this file system")
    copied(host, image, "a.txt")
    copied(host, image, "dir", "/to")
    assert os.getxattr(image.path / "a.txt", "user.origin") == b"here"
    assert os.getxattr(image.path / "to", "user.origin") == b"there"


def test_names_in_no_encoding(host: Path, image: Root) -> None:
    with open(os.fsencode(host) + b"/dir/\xff\n", "wb") as file:
        file.write(b"x")
    copied(host, image, "dir", "/to")
    with open(os.fsencode(image.path) + b"/to/\xff\n", "rb") as file:
        assert file.read() == b"x"


def test_what_is_no_file_is_left_out_with_a_line(
    host: Path, image: Root, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(host / "dir" / "pipe")
    (host / "dir" / "broken").symlink_to("nothing")
    monkeypatch.chdir(host / "dir")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
    copied(host, image, "dir", "/to")
    assert sorted(os.listdir(image.path / "to")) == ["broken", "link", "one", "sub"]
    assert os.readlink(image.path / "to" / "broken") == "nothing"
    assert [record.getMessage() for record in caplog.records] == [
        f"x.def:7: {host}/dir/broken leads to nothing, and is copied as a link",
        f"x.def:7: {host}/dir/pipe is left out: a named pipe",
        f"x.def:7: {host}/dir/socket is left out: a socket",
    ]


def test_what_may_not_be_read_is_said(host: Path, image: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Root.open

    def refusing(self: Root, path: str, flags: int, mode: int = 0o666) -> int:
        if path.endswith("a.txt") and not flags & os.O_PATH:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return real(self, path, flags, mode)

    monkeypatch.setattr(Root, "open", refusing)
    with pytest.raises(DefinitionError, match=rf"^x.def:7: %files: {host}/a.txt: Permission denied \((you|not)"):
        copied(host, image, "a.txt")


def test_a_link_of_the_image_leads_to_a_place_in_the_image(host: Path, image: Root, tmp_path: Path) -> None:
    """R-B6."""
    (tmp_path / "outside").mkdir()
    (image.path / "away").symlink_to(tmp_path / "outside")
    (image.path / "up").symlink_to("../../../../outside")
    (image.path / "usr" / "lib").mkdir(parents=True)
    (image.path / "lib").symlink_to("usr/lib")
    (host / "tree" / "lib").mkdir(parents=True)
    (host / "tree" / "lib" / "x").write_text("x")
    assert copied(host, image, "tree/lib", "/")["usr/lib/x"] == "x"
    for target in ("/away/x/", "/up/x/"):
        with pytest.raises(DefinitionError):
            copied(host, image, "a.txt", target)
    assert os.listdir(tmp_path / "outside") == []


def test_a_build_in_the_directory_that_it_copies_does_not_copy_itself(host: Path) -> None:
    (host / "singularity-work-0" / "root").mkdir(parents=True)
    with Root(host / "singularity-work-0" / "root") as image:
        assert set(copied(host, image, ".", "/src")) == {
            f"src/{name}"
            for name in ("a.txt", "b.txt", "c.dat", ".hidden", "dir/one", "dir/sub/two", "dir/sub/three.txt",
                         "with blank", "link", "dir/link")
        }  # fmt: skip


@pytest.mark.needs("root", "busybox")
@pytest.mark.parametrize("target", [("--sandbox", "x"), ("x.sif",)])
def test_a_project_is_copied_without_the_build_in_it(
    build: Build, definition: Callable[[str], Path], target: tuple[str, ...]
) -> None:
    path = definition("%files\n  . /src\n%post\n  ls -A /src /src/tmp >/listed\n")
    build.ok("build", "--sandbox", "first", path)
    assert (build.directory / "first" / "listed").read_text().split() == ["/src:", "base", "tmp", "x.def", "/src/tmp:"]
    build.ok("build", *target, path)
