"""Which files of an image stay: by traces, by patterns, by packages; and what the traces say."""

from __future__ import annotations

import fcntl
import json
import os
import struct
import threading
import time
from typing import TYPE_CHECKING

import pytest

from singularity.errors import FileError
from singularity.image import removed
from singularity.image.lookup import Directory, Followed
from singularity.image.root import Root
from singularity.packages.model import Survey
from singularity.slim import python_hook, selection, traces

if TYPE_CHECKING:
    from pathlib import Path

FILES = {
    "usr/bin/tool": "tool",
    "usr/bin/other": "other",
    "usr/lib/python3/module.py": "source",
    "usr/lib/python3/__pycache__/module.cpython-311.pyc": "compiled",
    "usr/lib/python3/unused.py": "source",
    "usr/lib/python3/encodings/__init__.py": "",
    "usr/lib/python3/encodings/ascii.py": "",
    "usr/lib/python3/dist-packages/package/__init__.py": "",
    "usr/share/tool/data": "12345",
    "usr/share/other/data": "",
    "usr/share/odd[1]/file": "",
    "etc/passwd": "",
    "var/lib/dpkg/status": "Package: tool\nStatus: install ok installed\nVersion: 1\nArchitecture: amd64\n\n",
    "var/lib/dpkg/info/tool.list": "/.\n/usr\n/usr/bin\n/bin/tool\n/usr/share/tool\n/usr/share/tool/data\n",
    ".singularity.d/env/01-base.sh": "",
    "scif/apps/app/scif/runscript": "",
    "scif/apps/app/bin/program": "",
}


@pytest.fixture
def survey(tmp_path: Path) -> Survey:
    root = tmp_path / "root"
    for name, text in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / "bin").symlink_to("usr/bin")
    (root / "usr/bin/link").symlink_to("/bin/other")
    (root / "usr/bin/loop").symlink_to("loop")
    return Survey(Directory(root))


def kept(survey: Survey, *names: str, keep: tuple[str, ...] = (), whole_packages: bool = False) -> set[str]:
    """What stays beside what always does."""
    chosen = selection.choose(survey, names, keep, whole_packages=whole_packages)
    always = selection.choose(survey, (), (), whole_packages=False).kept
    return set(chosen.kept - always)


def test_what_every_launch_needs_stays(survey: Survey) -> None:
    chosen = selection.choose(survey, (), (), whole_packages=False)
    assert chosen.kept == {
        "/bin", "/usr", "/etc", "/var", "/scif", "/etc/passwd", "/.singularity.d", "/.singularity.d/env",
        "/.singularity.d/env/01-base.sh", "/scif/apps", "/scif/apps/app", "/scif/apps/app/scif",
        "/scif/apps/app/scif/runscript",
    }  # fmt: skip
    assert tuple(sorted(chosen.removed)) == ("/scif/apps/app/bin", "/usr/bin", "/usr/lib", "/usr/share", "/var/lib")
    assert (chosen.files, chosen.kept_files) == (len(FILES), 3)


def test_a_name_stays_with_the_directories_above_it(survey: Survey) -> None:
    assert kept(survey, "/usr/bin/tool", "/not/there") == {"/usr/bin", "/usr/bin/tool"}
    chosen = selection.choose(survey, ["/usr/bin/tool"], (), whole_packages=False)
    assert {"/usr/bin/other", "/usr/bin/link", "/usr/lib"} <= set(chosen.removed)
    assert "/usr/bin" not in chosen.removed


def test_a_compiled_module_keeps_its_source_and_encodings_stay_together(survey: Survey) -> None:
    found = kept(survey, "/usr/lib/python3/__pycache__/module.cpython-311.pyc")
    assert "/usr/lib/python3/module.py" in found
    assert "/usr/lib/python3/unused.py" not in found
    found = kept(survey, "/usr/lib/python3/encodings/__init__.py")
    assert "/usr/lib/python3/encodings/ascii.py" in found
    assert "/usr/lib/python3/module.py" not in found


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("/bin/tool", {"/usr/bin", "/usr/bin/tool"}),  # through a link
        ("usr/bin/tool/", {"/usr/bin", "/usr/bin/tool"}),
        ("/usr/bin/link", {"/usr/bin", "/usr/bin/link", "/usr/bin/other"}),  # and what it leads to
        ("/usr/bin/loop", {"/usr/bin", "/usr/bin/loop"}),
        ("/bin/t*", {"/usr/bin", "/usr/bin/tool"}),
        ("/usr/share/tool", {"/usr/share", "/usr/share/tool", "/usr/share/tool/data"}),
        ("/usr/*/data", {f"/usr/share{each}" for each in ("", "/tool", "/tool/data", "/other", "/other/data")}),
        ("/usr/share/odd[[]1]", {"/usr/share", "/usr/share/odd[1]", "/usr/share/odd[1]/file"}),
        ("/nothing", set()),
        ("/", set()),
    ],
)
def test_patterns(survey: Survey, pattern: str, found: set[str], caplog: pytest.LogCaptureFixture) -> None:
    assert kept(survey, keep=(pattern,)) == found
    assert bool(caplog.messages) is not bool(found)


def test_packages_of_which_a_file_is_used_stay_whole(survey: Survey) -> None:
    data = {"/usr/share", "/usr/share/tool", "/usr/share/tool/data"}
    assert kept(survey, "/usr/bin/tool", whole_packages=True) == {"/usr/bin", "/usr/bin/tool", *data}
    assert kept(survey, "/usr/bin/other", whole_packages=True) == {"/usr/bin", "/usr/bin/other"}
    assert kept(survey, "/usr/bin", whole_packages=True) == {"/usr/bin"}  # a directory is everybody's


def test_the_list_of_removed_names(tmp_path: Path) -> None:
    """Sorted by directory; a name with a line break has no place in it."""
    (tmp_path / ".singularity.d").mkdir()
    paths = ["/b/two", "/a", "/b/one", "/line\nbreak", "/b\udcff/x"]
    with Root(tmp_path) as root:
        assert removed.write(root, paths) == 1
    assert (tmp_path / removed.FILE[1:]).read_bytes() == b"/a\n/b/one\n/b/two\n/b\xff/x\n"
    read = removed.read(Followed(Directory(tmp_path)))
    assert set(read) == set(paths) - {"/line\nbreak"}
    assert removed.why_missing(read, "/b/one/below/it") == "/b/one"
    assert removed.why_missing(read, "/c") == ""


def test_a_list_that_is_too_long_loses_the_deepest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".singularity.d").mkdir()
    monkeypatch.setattr(removed, "_COUNT_LIMIT", 2)
    with Root(tmp_path) as root:
        assert removed.write(root, ["/a/b/c", "/z", "/a/b"]) == 1
    assert (tmp_path / removed.FILE[1:]).read_text() == "/z\n/a/b\n"


def test_the_hook_goes_where_packages_are(tmp_path: Path) -> None:
    (tmp_path / ".singularity.d").mkdir()
    with Root(tmp_path) as root:
        python_hook.write(root, ["/usr/bin"])
        assert not list(tmp_path.glob("**/*.p*"))
        python_hook.write(root, ["/usr/bin", "/usr/lib/python3/dist-packages", "/opt/x/site-packages"])
    assert len(list(tmp_path.glob("**/singularity-removed.pth"))) == 2
    compile((tmp_path / ".singularity.d/removed.py").read_text(), "removed.py", "exec")


def line(*read: str, found: tuple[str, ...] = (), complete: bool = True) -> str:
    return json.dumps({"singularity-trace": 1, "read": read, "found": found, "complete": complete}) + "\n"


def test_runs_of_several_files_add_up(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text(line("/b", "/a", found=("/c",)) + "\n" + line("/a", "/d"))
    two.write_text(line("/\udcff", complete=False))
    trace = traces.read([one, two])
    assert (trace.names, trace.runs, trace.incomplete) == (("/b", "/a", "/c", "/d", "/\udcff"), 3, True)


def test_a_run_that_was_cut_off_does_not_count(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "trace"
    path.write_text(line("/a") + line("/b")[:-9] + "\n" + line("/c") + line("/d")[:-1][:-1])
    assert traces.read([path]).names == ("/a", "/c")
    assert [each.partition(": ")[0] for each in caplog.messages] == [f"{path}:2", f"{path}:4"]
    path.write_text(line("/a")[:-9])
    with pytest.raises(FileError, match="no run in it"):
        traces.read([path])


def test_a_run_that_goes_on_is_waited_for(tmp_path: Path) -> None:
    """As the launcher locks it: a byte where no file has any, of the open file (launcher/trace.h)."""
    path = tmp_path / "trace"
    path.write_text(line("/a"))
    fd = os.open(path, os.O_RDWR | os.O_APPEND)
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack("hhqqi", fcntl.F_RDLCK, os.SEEK_SET, 1 << 61, 1, 0))

    def end() -> None:
        time.sleep(0.3)
        os.write(fd, line("/b").encode())
        os.close(fd)

    ending = threading.Thread(target=end)
    ending.start()
    assert traces.read([path]).names == ("/a", "/b")
    ending.join()
