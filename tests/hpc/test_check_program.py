"""`check`: the program, its interpreters and libraries, the kernel and the processor that they want, and binds."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest
from check_images import V2, V3, Report, base, bound, compiled, library, machine, report
from images import Partition, extfs, squashfs, write, write_sif

from singularity.check import elf, loader
from singularity.check.finding import Subject, Verdict
from singularity.check.report import document, table
from singularity.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from singularity.check.host import Host

pytestmark = [
    pytest.mark.needs("gcc", "mksquashfs", "mke2fs"),
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="the programs here are for x86-64"),
]
HELLO = '#include <stdio.h>\nint main(void) { puts("hello"); return 0; }\n'
CALLS = "int number(void);\nint main(void) { return number(); }\n"
SHELL = "#!/bin/sh\n"


@pytest.fixture(scope="session")
def template(storage: Path) -> Path:
    """With programs: one that starts, and one that needs libnumber.so, which is not there."""
    tree = base(storage / "check-template")
    compiled(tree / "usr/bin/hello", HELLO)
    there = library(storage / "check-elsewhere/libnumber.so")
    compiled(tree / "usr/bin/calls", CALLS, there)
    write(tree / "usr/bin/script", "#!/usr/bin/hello\n", 0o755)
    return tree


@pytest.fixture
def tree(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "tree", symlinks=True))


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return machine(tmp_path / "host")


FORMATS: dict[str, Callable[[Path, Path], Path]] = {
    "directory": lambda tree, _: tree,
    "squashfs": lambda tree, place: squashfs(tree, place / "x.sqfs", compression="zstd"),
    "squashfs of gzip": lambda tree, place: squashfs(tree, place / "x.sqfs"),
    "version 2": lambda tree, place: extfs(tree, place / "x.img", line=True),
    "ext4": lambda tree, place: extfs(tree, place / "x.img", kind="ext4"),
    "SIF": lambda tree, place: write_sif(place / "x.sif", [Partition(data=squashfs(tree, place / "x").read_bytes())]),
}


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_is_looked_into_and_says_the_same(form: str, tree: Path, tmp_path: Path, host: Host) -> None:
    library(tree / "usr/lib/libnumber.so")
    (tree / "usr/bin/link").symlink_to("../../usr/bin/calls")
    plain = report(tree, "link", host=host)
    found = report(FORMATS[form](tree, tmp_path), "link", host=host)
    assert found == plain
    assert found.failing() == []
    assert [each.found for each in found.of(Subject.LIBRARIES)] == ["all 3"]


@pytest.mark.parametrize("form", FORMATS)
def test_a_library_that_is_missing_is_named_with_who_wants_it(
    form: str, tree: Path, tmp_path: Path, host: Host
) -> None:
    found = report(FORMATS[form](tree, tmp_path), "calls", host=host)
    assert found.failing() == [("libraries", "libnumber.so")]
    assert found.of(Subject.LIBRARIES)[0].needed == "by /usr/bin/calls"


def test_a_bind_that_brings_the_library_is_seen(tree: Path, tmp_path: Path, host: Host) -> None:
    library(tmp_path / "host-lib/libnumber.so")
    steps = (bound(tmp_path / "host-lib", "/usr/lib"),)
    assert report(tree, "calls", host=host, steps=steps).failing() == []


def test_a_bind_that_covers_the_library_is_seen(tree: Path, tmp_path: Path, host: Host) -> None:
    library(tree / "usr/lib/libnumber.so")
    (tmp_path / "empty").mkdir()
    steps = (bound(tmp_path / "empty", "/usr/lib"),)
    assert report(tree, "calls", host=host, steps=steps).failing() == [("libraries", "libnumber.so")]


def rpath(tree: Path, *, old: bool, path: str) -> None:
    tags = "--disable-new-dtags" if old else "--enable-new-dtags"
    elsewhere = library(tree / "opt/build/libnumber.so")
    compiled(tree / "usr/bin/calls", CALLS, elsewhere, f"-Wl,{tags},-rpath,{path}")
    (tree / "opt/lib").mkdir(exist_ok=True)
    elsewhere.rename(tree / "opt/lib/libnumber.so")


@pytest.mark.parametrize("old", [True, False], ids=["RPATH", "RUNPATH"])
@pytest.mark.parametrize("path", ["/opt/lib", "$ORIGIN/../../opt/lib", "${ORIGIN}/../../opt/lib"])
def test_paths_in_the_program_are_followed(tree: Path, host: Host, path: str, old: bool) -> None:
    rpath(tree, old=old, path=path)
    assert report(tree, "calls", host=host).failing() == []


@pytest.mark.parametrize(("old", "failing"), [(True, []), (False, [("libraries", "libbelow.so")])])
def test_only_rpath_is_inherited_by_libraries(tree: Path, host: Host, old: bool, failing: list[object]) -> None:
    tags = "--disable-new-dtags" if old else "--enable-new-dtags"
    below = library(tree / "opt/lib/libbelow.so", "int below(void) { return 1; }")
    calls = "int below(void); int number(void) { return below(); }"
    number = library(tree / "opt/lib/libnumber.so", calls, below)
    compiled(tree / "usr/bin/calls", CALLS, number, f"-Wl,{tags},-rpath,/opt/lib", "-Wl,--allow-shlib-undefined",
             "-Wl,--unresolved-symbols=ignore-all")  # fmt: skip
    assert report(tree, "calls", host=host).failing() == failing


@pytest.mark.parametrize(
    ("script", "caller", "options"),
    [
        ("export LD_LIBRARY_PATH=/opt/lib:$LD_LIBRARY_PATH\n", {}, ()),
        ("LIB=/opt\nLD_LIBRARY_PATH=$LIB/lib\nexport LD_LIBRARY_PATH\n", {}, ()),
        ("", {"SINGULARITYENV_LD_LIBRARY_PATH": "/opt/lib"}, ()),
        ("export LD_LIBRARY_PATH=/nowhere\n", {}, ("--env", "LD_LIBRARY_PATH=/opt/lib")),
    ],
)
def test_library_paths_of_the_environment_count(
    tree: Path, host: Host, script: str, caller: dict[str, str], options: tuple[str, ...]
) -> None:
    library(tree / "opt/lib/libnumber.so")
    write(tree / ".singularity.d/env/90-environment.sh", script)
    assert report(tree, "calls", host=host, environment=caller, options=options).failing() == []
    assert report(tree, "calls", host=host, environment={"LD_LIBRARY_PATH": "/opt/lib"}).failing() == (
        [("libraries", "libnumber.so")] if not script or "nowhere" in script else []
    )


def test_a_library_path_that_only_a_start_knows_is_told(tree: Path, host: Host) -> None:
    write(tree / ".singularity.d/env/90-environment.sh", "export LD_LIBRARY_PATH=$(cat /etc/paths)\n")
    found = report(tree, "calls", host=host)
    assert "is set by code, which is not run here" in found.of(Subject.LIBRARIES)[0].advice


def test_the_cache_of_the_loader_counts_and_its_configuration_alone_does_not(tree: Path, host: Host) -> None:
    library(tree / "opt/number/libnumber.so")
    write(tree / "etc/ld.so.conf", "include /etc/ld.so.conf.d/*.conf\n")
    write(tree / "etc/ld.so.conf.d/number.conf", "# ours\n/opt/number\n")
    missing = report(tree, "calls", host=host)
    assert missing.failing() == [("libraries", "libnumber.so")]
    assert "/opt/number/libnumber.so is not in the loader's cache: run ldconfig" in missing.text()
    subprocess.run(["/sbin/ldconfig", "-r", tree], check=True, capture_output=True)
    assert report(tree, "calls", host=host).failing() == []


def test_a_library_for_a_better_processor_is_taken_where_that_is(tree: Path, tmp_path: Path, host: Host) -> None:
    library(tree / "usr/lib/libnumber.so")
    better = "usr/lib/glibc-hwcaps/x86-64-v4/libnumber.so"
    library(tree / better, "int other(void) { return 2; }", "-Wl,-z,x86-64-v4")
    found = {flags: report(tree, "calls", host=machine(tmp_path / flags[-3:], flags=flags)) for flags in (V2, V3)}
    assert [each.failing() for each in found.values()] == [[], []]
    assert "x86-64-v4, by /usr/lib/glibc-hwcaps" in report(tree, "calls", host=host).text()


def versioned(target: Path, *versions: str) -> Path:
    script = write(
        target.parent / f"{target.name}.map", "".join(f"{name} {{ global: number; }};\n" for name in versions)
    )
    made = library(target, "int number(void) { return 1; }", f"-Wl,--version-script={script}")
    script.unlink()
    return made


@pytest.mark.parametrize(("there", "failing"), [("NUMBER_2.0", []), ("NUMBER_1.0", [("libraries", "libnumber.so")])])
def test_versions_of_symbols_that_a_library_lacks(tree: Path, host: Host, there: str, failing: list[object]) -> None:
    compiled(tree / "usr/bin/calls", CALLS, versioned(tree / "usr/lib/libnumber.so", "NUMBER_2.0"))
    versioned(tree / "usr/lib/libnumber.so", there)
    found = report(tree, "calls", host=host)
    assert found.failing() == failing
    if failing:
        assert "/usr/lib/libnumber.so, up to NUMBER_1.0 / NUMBER_2.0, by /usr/bin/calls" in found.text()


def test_a_library_without_versions_is_good_enough_for_the_loader(tree: Path, host: Host) -> None:
    compiled(tree / "usr/bin/calls", CALLS, versioned(tree / "usr/lib/libnumber.so", "NUMBER_2.0"))
    library(tree / "usr/lib/libnumber.so")
    assert report(tree, "calls", host=host).failing() == []


def test_a_program_for_a_newer_glibc_is_told_apart(tree: Path, host: Host) -> None:
    program = tree / "usr/bin/hello"
    program.write_bytes(program.read_bytes().replace(b"GLIBC_2.34\0", b"GLIBC_2.99\0"))
    found = report(tree, "hello", host=host)
    assert found.failing() == [("libraries", "libc.so.6")]
    assert "GLIBC_2.99, by /usr/bin/hello" in found.text()
    assert "up to GLIBC_2." in found.text()


def test_a_library_of_another_machine_is_no_library(tree: Path, host: Host) -> None:
    path = library(tree / "usr/lib/libnumber.so")
    data = bytearray(path.read_bytes())
    data[18:20] = (183).to_bytes(2, "little")
    path.write_bytes(data)
    found = report(tree, "calls", host=host)
    assert found.failing() == [("libraries", "libnumber.so")]
    assert "unfit: /usr/lib/libnumber.so: arm64" in found.text()


def test_a_program_of_another_machine(tree: Path, tmp_path: Path, host: Host) -> None:
    path = tree / "usr/bin/hello"
    data = bytearray(path.read_bytes())
    data[18:20] = (183).to_bytes(2, "little")
    path.write_bytes(data)
    assert report(tree, "hello", host=host).failing() == [("program", "hello: architecture")]
    there = {"proc/sys/fs/binfmt_misc/qemu-aarch64": "enabled\ninterpreter /usr/bin/qemu-aarch64-static\n"}
    found = report(tree, "hello", host=machine(tmp_path / "qemu", files=there))
    assert found.failing() == []
    assert "runs through qemu-aarch64, slowly" in found.text()


@pytest.mark.parametrize(
    ("name", "content", "mode", "expected"),
    [
        ("nosuch", None, 0, "nosuch: not in the container"),
        ("/usr/bin/tool", HELLO, 0o644, "/usr/bin/tool: not executable for you (mode 0644)"),
        ("/usr/bin", None, 0, "/usr/bin: a directory"),
        ("/usr/bin/tool", "#!/opt/perl\n", 0o755, "/usr/bin/tool: its interpreter /opt/perl: not in the container"),
        ("/usr/bin/tool", "#!/usr/bin/env perl\n", 0o755, "its interpreter perl: not in the container"),
        ("/usr/bin/tool", "echo\n", 0o755, "its interpreter /bin/sh: not in the container"),
        ("/usr/bin/tool", "#!/bin/\0sh\n", 0o755, "its interpreter /bin/"),
        ("/usr/bin/tool", "\0\1\2", 0o755, "/usr/bin/tool: neither a program nor a script"),
        ("/usr/bin/tool", "#!/usr/bin/tool\n", 0o755, "more than 5 interpreters"),
        ("/usr/bin/tool", "\x7fELF damaged", 0o755, "an unknown machine"),
    ],
)
def test_programs_that_cannot_start(
    tree: Path, host: Host, name: str, content: str | None, mode: int, expected: str
) -> None:
    if content is not None:
        write(tree / "usr/bin/tool", content, mode)
    found = report(tree, name, host=host)
    assert [each.subject for each in found.findings if each.verdict is Verdict.FAILS] == [Subject.PROGRAM]
    assert expected in found.text()


def test_scripts_lead_to_what_interprets_them(tree: Path, host: Host) -> None:
    found = report(tree, "script", host=host)
    assert found.failing() == []
    assert "script: its interpreter /usr/bin/hello: /usr/bin/hello, for amd64" in found.text()
    assert [each.what for each in found.of(Subject.LIBRARIES)] == ["libraries of /usr/bin/hello"]


def test_without_a_program_the_runscript_is_looked_at(tree: Path, host: Host) -> None:
    assert "the image has no runscript: name one, -- PROGRAM" in report(tree, host=host).text()
    write(tree / ".singularity.d/runscript", SHELL, 0o755)
    assert report(tree, host=host).failing() == [
        ("program", "/.singularity.d/runscript: its interpreter /bin/sh"),
    ]


def test_a_program_for_glibc_in_an_image_without_it(tree: Path, host: Host) -> None:
    shutil.rmtree(tree / "lib64")
    found = report(tree, "hello", host=host)
    assert found.failing() == [("libraries", "loader of /usr/bin/hello")]
    assert "take an image with glibc" in found.text()


@pytest.mark.parametrize("configured", [False, True])
def test_musl_searches_in_its_own_places_and_knows_its_own_names(tree: Path, host: Host, configured: bool) -> None:
    shutil.copy(library(tree / "lib/libc.musl-x86_64.so.1"), tree / "lib/ld-musl-x86_64.so.1")
    number = library(tree / ("opt/musl" if configured else "usr/local/lib") / "libnumber.so")
    itself = library(tree / "opt/build/libm.so.6")
    options = ("-nostdlib", "-Wl,--no-as-needed", "-Wl,--dynamic-linker=/lib/ld-musl-x86_64.so.1")
    compiled(tree / "usr/bin/calls", CALLS, number, itself, tree / "lib/libc.musl-x86_64.so.1", *options)
    if configured:
        assert report(tree, "calls", host=host).failing() == [("libraries", "libnumber.so")]
        write(tree / "etc/ld-musl-x86_64.path", "/lib\n/opt/musl\n")
    assert report(tree, "calls", host=host).failing() == []


def test_a_kernel_that_is_too_old(tree: Path, tmp_path: Path) -> None:
    found = report(tree, "hello", host=machine(tmp_path / "old", release="2.6.32-754.el6.x86_64"))
    assert found.failing() == [("kernel", "Linux")]
    assert "2.6.32-754.el6.x86_64 / 3.2.0, by " in found.text()
    assert report(tree, "hello", host=machine(tmp_path / "new", release="3.2.0")).failing() == []


@pytest.mark.parametrize(("level", "flags", "lacks"), [(2, "sse2", 1), (3, V2, 2), (4, V3, 3)])
@pytest.mark.parametrize("where", ["program", "library"])
def test_a_processor_that_lacks_what_was_built_for(
    tree: Path, tmp_path: Path, host: Host, level: int, flags: str, lacks: int, where: str
) -> None:
    marked = f"-Wl,-z,x86-64-v{level}"
    number = library(
        tree / "usr/lib/libnumber.so", "int number(void) { return 1; }", *([marked] * (where == "library"))
    )
    compiled(tree / "usr/bin/calls", CALLS, number, *([marked] * (where == "program")))
    assert report(tree, "calls", host=host).failing() == []
    found = report(tree, "calls", host=machine(tmp_path / "lesser", flags=flags))
    assert found.failing() == [("cpu", "processor")]
    assert f"x86-64{f'-v{lacks}' if lacks > 1 else ''} / x86-64-v{level}, by /usr/" in found.text()


def test_only_what_is_chosen_is_told(tree: Path, host: Host) -> None:
    found = report(tree, "calls", host=host, chosen=frozenset({Subject.KERNEL, Subject.CPU}), only=True)
    assert {each.subject for each in found.findings} == {Subject.BINDS, Subject.PROGRAM, Subject.KERNEL, Subject.CPU}


def test_a_bind_that_was_asked_for_and_is_left_out_fails(tree: Path, tmp_path: Path, host: Host) -> None:
    missing = "the image lacks it, and overlays and underlays are off"
    steps = (bound(tmp_path, "/scratch", skipped=missing), bound(tmp_path, "/etc/localtime", "bind path", missing))
    found = report(tree, "hello", host=host, steps=steps)
    assert found.failing() == [("binds", "/scratch")]
    assert [each.verdict for each in found.of(Subject.BINDS)] == [Verdict.FAILS, Verdict.WARNING, Verdict.OK]
    assert f"{missing}: make /scratch in the image, or bind elsewhere" in found.text()


def test_a_launch_that_would_be_refused_fails_and_the_rest_is_still_told(tree: Path, host: Host) -> None:
    found = report(tree, "hello", host=host, refusal="mount source /scratch doesn't exist")
    assert found.failing() == [("launch", "launch")]
    assert found.of(Subject.LIBRARIES)


# ---- hostile images ----


def test_links_of_an_image_end_inside_it_or_nowhere(tree: Path, host: Host) -> None:
    (tree / "usr/bin/loop").symlink_to("loop")
    (tree / "usr/bin/outside").symlink_to("../../../../../../../../../usr/bin/gcc")
    (tree / "usr/bin/absolute").symlink_to("/usr/bin/env")
    (tree / "usr/bin/up").symlink_to("../../../../../../usr/bin/hello")
    for name in ("loop", "outside", "absolute"):
        assert report(tree, name, host=host).failing() == [("program", name)]
    assert report(tree, "up", host=host).failing() == []


def test_devices_and_pipes_are_not_opened(tree: Path, host: Host) -> None:
    (tree / "usr/lib").mkdir()
    os.mkfifo(tree / "usr/lib/libnumber.so")
    os.mkfifo(tree / "usr/bin/pipe", 0o755)
    assert report(tree, "calls", host=host).failing() == [("libraries", "libnumber.so")]
    assert report(tree, "pipe", host=host).failing() == [("program", "pipe")]


def test_a_search_without_end_is_given_up(tree: Path, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "_LOOKUPS_LIMIT", 20)
    found = report(tree, "calls", host=host)
    assert found.failing() == [("program", "/usr/bin/calls")]
    assert "more places to look for libraries than can be meant" in found.text()


def test_no_damage_to_a_program_makes_more_than_an_error_of_it(template: Path, tmp_path: Path) -> None:
    good = (template / "usr/bin/hello").read_bytes()
    chance = Random(5)  # noqa: S311 - the same each time
    start = time.monotonic()
    path = tmp_path / "damaged"
    outcomes = set()
    for _ in range(250):
        data = bytearray(good)
        for _ in range(chance.randrange(1, 12)):
            at = chance.randrange(4, 0x1000 if chance.random() < 0.8 else len(data))
            data[at] = chance.choice((0, 0xFF, 0x7F, 0x80, chance.randrange(256)))
        path.write_bytes(data[: chance.randrange(64, len(data))] if chance.random() < 0.2 else data)
        with path.open("rb") as file:
            try:
                elf.read(file)
                outcomes.add("read")
            except ImageError:
                outcomes.add("refused")
    assert outcomes == {"read", "refused"}
    assert time.monotonic() - start < 60


def test_a_table_without_end_is_given_up(template: Path, tmp_path: Path) -> None:
    data = bytearray((template / "usr/bin/hello").read_bytes())
    data += b"\x01" * (8 << 20)
    place = len(data) - (8 << 20)
    headers = int.from_bytes(data[32:40], "little")
    for at in range(headers, headers + 56 * int.from_bytes(data[56:58], "little"), 56):
        if data[at] == 2:  # the dynamic segment, now of tags without an end
            data[at + 8 : at + 16] = place.to_bytes(8, "little")
    path = tmp_path / "endless"
    path.write_bytes(data)
    with path.open("rb") as file, pytest.raises(ImageError):
        elf.read(file)


@pytest.mark.parametrize("form", ["squashfs", "ext4", "version 2"])
def test_a_damaged_file_system_is_one_error_that_names_the_image(
    form: str, tree: Path, tmp_path: Path, host: Host
) -> None:
    path = FORMATS[form](tree, tmp_path)
    good = path.read_bytes()
    chance = Random(7)  # noqa: S311 - the same each time
    refused = 0
    for _ in range(40):
        data = bytearray(good)
        for _ in range(40):
            data[chance.randrange(4096 if form != "squashfs" else 96, len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
        try:
            report(path, "calls", host=host)
        except ImageError as error:
            assert str(error).startswith(str(path))
            refused += 1
    assert refused < 40 or form == "squashfs"


def test_foreign_names_do_not_drive_the_terminal(tree: Path, host: Host) -> None:
    write(tree / "usr/bin/tool", "#!/opt/\x1b[31mred\n", 0o755)
    found = report(tree, "tool", host=host)
    assert "\x1b" not in table(found.findings, colour=False)
    assert "\\x1b[31mred" in table(found.findings, colour=False)
    assert "\x1b" not in document(found.findings, image=str(tree), program=["tool"])


def test_a_table_says_the_same_with_and_without_colour(tree: Path, host: Host) -> None:
    found: Report = report(tree, "calls", host=host)
    plain, coloured = (table(found.findings, colour=colour) for colour in (False, True))
    assert "\x1b" not in plain
    assert "\x1b[31mfails\x1b[0m" in coloured
    for code in ("\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[0m"):
        coloured = coloured.replace(code, "")
    assert coloured == plain
    assert plain.splitlines()[-1] == "1 would fail."
