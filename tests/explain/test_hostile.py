"""Damaged images, and hostile ones: every command that looks into one says what is wrong, or shows what can be read,
and ends soon, with memory that a login node gives a user.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from random import Random
from typing import TYPE_CHECKING

import pytest
from images import erofs, extfs, squashfs

from singularity.errors import SingularityError
from singularity.explain import diff, page, page_data, why
from singularity.image.identify import identify
from singularity.packages import bill
from singularity.packages.bill import Standard

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FORMATS: dict[str, Callable[[Path, Path], Path]] = {
    "gzip": lambda tree, path: squashfs(tree, path, compression="gzip"),
    "zstd": lambda tree, path: squashfs(tree, path, compression="zstd"),
    "ext3": lambda tree, path: extfs(tree, path, kind="ext3", mebibytes=4),
    "erofs": lambda tree, path: erofs(tree, path, "-zlz4"),
}
NOTHING = page_data.Table(text="")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = tmp_path_factory.mktemp("hostile") / "tree"
    for directory in ("bin", "lib/apk/db", "var/lib/dpkg/info", "srv/node_modules/x", "opt/env/conda-meta"):
        (tree / directory).mkdir(parents=True)
    shutil.copy("/bin/true", tree / "bin/true")
    (tree / "lib/apk/db/installed").write_text("P:tool\nV:1\nF:bin\nR:true\n\n")
    (tree / "var/lib/dpkg/status").write_text("Package: a\nStatus: install ok installed\nVersion: 1\n")
    (tree / "var/lib/dpkg/info/a.list").write_text("/.\n/bin\n")
    (tree / "srv/node_modules/x/package.json").write_text('{"name": "x", "version": "1"}')
    (tree / "opt/env/conda-meta/y.json").write_text(json.dumps({"name": "y", "version": "1", "files": ["a"]}))
    for number in range(40):
        (tree / f"srv/f{number}").write_bytes(bytes([number]) * 700 * number)
    (tree / "bin/sh").symlink_to("true")
    return tree


def looked_at(path: Path, other: Path) -> None:
    """All that commands do with an image; raises what is no failure of the image's."""
    for use in (
        lambda: bill.of_image(identify(path), Standard.SPDX, epoch=0),
        lambda: diff.compare(identify(path), identify(other)),
        lambda: diff.compare(identify(other), identify(path)),
        lambda: why.explain(identify(path), "/bin/sh"),
        lambda: page.html(
            page_data.collect(
                page_data.Asked(image=identify(path), name="x", signatures=NOTHING, check=NOTHING, epoch=0)
            )
        ),
    ):
        try:
            use()
        except SingularityError as error:
            assert str(path) in str(error) or "/bin/sh" in str(error), error
            assert str(other) not in str(error).replace(str(path), ""), error


@pytest.mark.needs("mksquashfs", "mke2fs", "mkfs.erofs")
@pytest.mark.parametrize("form", FORMATS)
def test_damage_anywhere_is_an_error_of_that_image(form: str, tree: Path, tmp_path: Path) -> None:
    good = FORMATS[form](tree, tmp_path / "good")
    looked_at(good, good)
    data = good.read_bytes()
    chance = Random(form)  # noqa: S311 - the same each time
    used = [at for at in range(0, len(data), 16) if any(data[at : at + 16])]
    for number in range(60):
        broken = bytearray(data)
        for _ in range(chance.randrange(1, 6)):
            broken[chance.choice(used) + chance.randrange(16)] = chance.randrange(256)
        path = tmp_path / f"broken{number}"
        path.write_bytes(broken[: chance.randrange(len(broken) // 2, len(broken))] if number % 10 == 0 else broken)
        before = time.monotonic()
        looked_at(path, good)
        assert time.monotonic() - before < 20, number
        path.unlink()


MIB = 1 << 20
SECONDS, MEMORY, COPIES = 120, 3 << 29, 99
METADATA = b"Name: x\nVersion: 1\n"
CONDA = b'{"name": "a", "version": "1", "files": ['
# A command, what is said, and files: one with {} in its name has many, which take no room in the image.
HOSTILE: dict[str, tuple[str, str, dict[str, bytes]]] = {
    "paths of apk": (
        "sbom",
        "more files",
        {"lib/apk/db/installed": b"P:a\nF:" + b"d" * MIB + b"\n" + b"R:x\n" * 4 * MIB},
    ),
    "packages of apk": ("sbom", "more than 200000 packages", {"lib/apk/db/installed": b"P:a\n\n" * 5 * MIB}),
    "paths of conda": (
        "sbom",
        "more files",
        {f"opt/{'e' * 99}/conda-meta/a.json": CONDA + b'"a",' * 3 * MIB + b'""]}'},
    ),
    "a long path": ("sbom", "", {"opt/e/conda-meta/a.json": CONDA + b'"' + b"../e/" * 2 * MIB + b'a/b"]}'}),
    "lists in JSON": ("sbom", "File too large", {"opt/e/conda-meta/a.json": b"[" + b"[]," * 20 * MIB + b"0]"}),
    "the same notes": (
        "sbom",
        "more than 512 MiB",
        {"opt/node_modules/a{}/package.json": b'{"name":"' + b"y" * 15 * MIB + b'"}'},
    ),
    "headers of Python": ("sbom", "", {"opt/x.dist-info/METADATA": METADATA + b"a: b\n" * 5 * MIB}),
    "files of Python": (
        "sbom",
        "more files",
        {"opt/x.dist-info/METADATA": METADATA, "opt/x.dist-info/RECORD": b"a\n" * 15 * MIB},
    ),
    "lines of dpkg": ("sbom", "", {"var/lib/dpkg/status": b"Package: a\nDescription: x\n" + b" y\n" * 5 * MIB}),
    "a release": ("sbom", "File too large", {"etc/os-release": b"a=b\n" * 15 * MIB}),
    "bases of a Dockerfile": (
        "why",
        "a199999",
        {".singularity.d/Singularity": b"".join(b"FROM a%d\n" % number for number in range(200_000))},
    ),
    "many scripts": ("inspect", "more than 64 MiB", {".singularity.d/env/90-environment{}.sh": b"x" * 15 * MIB}),
}


@pytest.mark.needs("mksquashfs")
@pytest.mark.parametrize("what", HOSTILE)
def test_what_a_stranger_has_written_takes_neither_hours_nor_all_memory(what: str, tmp_path: Path) -> None:
    verb, said, files = HOSTILE[what]
    for name, data in {"bin/sh": b"x", **files}.items():
        first = tmp_path / "tree" / name.format("")
        first.parent.mkdir(parents=True, exist_ok=True)
        first.write_bytes(data)
        for number in range(COPIES if "{}" in name else 0):
            path = tmp_path / "tree" / name.format(number)
            path.parent.mkdir(exist_ok=True)
            path.hardlink_to(first)
    image = squashfs(tmp_path / "tree", tmp_path / "x.sqfs")
    shutil.rmtree(tmp_path / "tree")
    words = [verb, str(image), *(["/bin/sh"] if verb == "why" else [])]
    done = subprocess.run(
        [sys.executable, "-I", "-m", "singularity", *words],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY)),
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=SECONDS,
    )  # fmt: skip
    assert done.returncode in (0, 255)
    assert "internal fault" not in done.stderr
    assert said in done.stdout[:MIB] + done.stderr


@pytest.mark.needs("mksquashfs")
def test_programs_of_holes_are_not_read_to_their_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("singularity.packages.inventory._READ_LIMIT", 2 * MIB)
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(5):
        shutil.copy("/bin/true", tree / f"x{number}")
        os.truncate(tree / f"x{number}", MIB)
    document = json.loads(bill.of_image(identify(squashfs(tree, tmp_path / "x.sqfs")), Standard.SPDX, epoch=0))
    assert [each["fileName"] for each in document["files"]] == ["./x0", "./x1"]
    assert "/x2 in the image, and 2 other files: not looked at" in caplog.text
