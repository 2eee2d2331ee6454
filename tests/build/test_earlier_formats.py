"""Definition files of every age become images: what their lines say is done, in their order, and failures name them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from builds import Build

pytestmark = pytest.mark.needs("root", "busybox")

FIRST = """\
PLACE=/opt
if [ "${1:-none}" = none ]; then
    WORDS="a  b"
fi
DistType "busybox"
MirrorURL "/bin/busybox"
Setup
Bootstrap
InstallFile early $PLACE/early
RunCmd sh -c 'cat /opt/early /opt/late* >/opt/before; rm /opt/early' 2>/dev/null
InstallFile "late file" "$PLACE/late file"
RunCmd cp -p "/opt/late file" $PLACE/copy
RunCmd echo "$WORDS" '$HOME' \\
    >"$SINGULARITY_ROOTFS"/etc/note
RunScript for word in "$@"; do
RunScript     echo "[$word]"
RunScript done
Cleanup
"""


def test_the_first_format_is_built_in_the_order_of_its_lines(build: Build) -> None:
    build.write("early", "early\n")
    build.write("late file", "late\n")
    text = FIRST.replace("cat /opt/early /opt/late* >/opt/before", "cat /opt/early /opt/late* >/opt/before || true")
    build.write("old.def", text)
    build.ok("build", "--sandbox", "old", "old.def")
    root = build.directory / "old"
    assert (root / "opt/before").read_text() == "early\n"
    assert not (root / "opt/early").exists()
    assert (root / "opt/copy").read_text() == "late\n"
    assert (root / "etc/note").read_text() == "a  b $HOME\n"
    assert not (root / ".singularity.d/install").exists()
    assert (root / ".singularity.d/runscript").read_text().endswith('for word in "$@"; do\necho "[$word]"\ndone\n')
    assert (root / ".singularity.d/Singularity").read_text() == text
    assert build.leftovers() == []


def test_a_command_of_the_first_format_that_fails_ends_the_build_at_its_line(build: Build) -> None:
    build.write(
        "old.def", "DistType busybox\nMirrorURL /bin/busybox\nBootstrap\nRunCmd true\n\nRunCmd false\nRunCmd true\n"
    )
    done = build("build", "--sandbox", "old", "old.def")
    assert done.returncode == 255
    assert "FATAL:   old.def:6: %post failed with status 1" in done.stderr
    assert not (build.directory / "old").exists()


def test_nothing_of_the_first_format_is_run_on_the_host(build: Build, tmp_path: Path) -> None:
    """R-P4."""
    for line in (f"touch {tmp_path}/ran", f"X=$(touch {tmp_path}/ran)", f"RunCmd true; touch {tmp_path}/ran"):
        build.write("old.def", f"DistType busybox\nBootstrap\n{line}\n")
        assert build.fails("build", "--sandbox", "old", "old.def").startswith("old.def:3: ")
    assert not (tmp_path / "ran").exists()


def test_here_documents_with_percent_signs_arrive_whole(build: Build, definition: Callable[[str], Path]) -> None:
    lines = "%_topdir /root/rpmbuild\n%%\n%post\n%s\n"
    path = definition(
        f"%post\ncat >/macros <<'EOF'\n{lines}EOF\ncat >/after <<-EOF\n\t%x\n\tEOF\n%Test:\ntest -s /after\n"
    )
    done = build.ok("build", "--sandbox", "x", path)
    assert (build.directory / "x/macros").read_text() == lines
    assert (build.directory / "x/after").read_text() == "%x\n"
    assert "%Test has no colon" in done.stderr


def test_labels_as_people_write_them_arrive(build: Build, definition: Callable[[str], Path]) -> None:
    path = definition(
        '%labels\nAuthor "Some Body"\nVERSION=1.0\nKind: tool\n%post\necho \'A="b c"\' >>$SINGULARITY_LABELS\n'
    )
    build.ok("build", "--sandbox", "x", path)
    shown = build.ok("inspect", "x").stdout.splitlines()
    assert {"A: b c", 'Author: "Some Body"', "Kind: tool", "VERSION: 1.0"} <= set(shown)


def test_letters_that_end_lines_elsewhere_end_none_in_a_script(build: Build, definition: Callable[[str], Path]) -> None:
    path = definition("%post\n  printf 'a\x0cb\u2028c' >/x\n  false # \x85\n")
    assert "x.def:5: %post failed with status 1" in build.fails("build", "--sandbox", "x", path)
    path = definition("%post\n  printf 'a\x0cb\u2028c' >/x\n")
    build.ok("build", "--sandbox", "x", path)
    assert (build.directory / "x/x").read_text() == "a\x0cb\u2028c"
