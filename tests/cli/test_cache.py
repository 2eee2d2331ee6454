"""`singularity cache`: what it shows, and what it removes."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from singularity.cli.cache_listed import age, size

if TYPE_CHECKING:
    from pathlib import Path

ARGV = [sys.executable, "-I", "-m", "singularity", "cache"]


@pytest.fixture
def place(private_home: Path) -> Path:
    """A cache with two images, a layer of OCI and a package."""
    directory = private_home / "cache" / "cache"
    for name, count in (
        ("archive/aa.sif", 3 << 20),
        ("library/bb.sif", 0),
        ("blob/blobs/sha256/cc", 1536),
        ("debootstrap/d.deb", 5),
    ):
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(count))
    os.utime(directory / "blob/blobs/sha256/cc", (time.time() - 10 * 86400,) * 2)
    return directory


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*ARGV, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60
    )


def left(place: Path) -> list[str]:
    return sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.is_file())


def test_counts_and_sizes(place: Path) -> None:
    assert run("list").stdout == (
        "There are 2 container file(s) using 3.00 MiB and 1 oci blob file(s) using 1.50 KiB of space\n"
        "There are 0 build layer(s) using 0.00 KiB and 1 package file(s) using 0.00 KiB of space\n"
        "Total space used: 3.00 MiB\n"
    )
    lines = run("list", "-v", "--type", "blob,oras").stdout.splitlines()
    assert (
        lines[0] == "NAME                     DATE CREATED           SIZE             TYPE         LAST USED    USED BY"
    )
    assert lines[1].startswith("cc                       ")
    assert lines[1].endswith("    1.50 KiB         blob         10 days ago")
    assert lines[1][25:44] == time.strftime(
        "%Y-%m-%d %H:%M:%S", time.localtime((place / "blob/blobs/sha256/cc").stat().st_mtime)
    )
    assert lines[2:] == [
        "",
        "There are 0 container file(s) using 0.00 KiB and 1 oci blob file(s) using 1.50 KiB of space",
        "Total space used: 1.50 KiB",
    ]


def test_a_terminal_gets_the_table_and_programs_a_document(place: Path) -> None:
    main, other = pty.openpty()
    with subprocess.Popen([*ARGV, "list"], stdin=subprocess.DEVNULL, stdout=other) as process:
        os.close(other)
        shown = b""
        with suppress(OSError):
            while piece := os.read(main, 4096):
                shown += piece
        assert process.wait(timeout=60) == 0
    os.close(main)
    assert shown.startswith(b"NAME ")
    assert b"now" in shown
    found = json.loads(run("list", "--json", "--type", "blob").stdout)
    assert [(each["name"], each["size"], each["used_by"]) for each in found] == [("cc", 1536, [])]
    assert found[0]["used"] == int((place / "blob/blobs/sha256/cc").stat().st_mtime)


def test_blobs_belong_to_the_images_whose_documents_name_them(place: Path) -> None:
    blobs = place / "blob/blobs/sha256"

    def put(document: object) -> dict[str, object]:
        data = json.dumps(document).encode()
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"digest": f"sha256:{digest}", "size": len(data)}

    layer, content = "1" * 64, "2" * 64
    config = put(
        {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [f"sha256:{content}"]}}
    )
    kind = "application/vnd.oci.image."
    manifest = {"schemaVersion": 2, "mediaType": f"{kind}manifest.v1+json"}
    manifest |= {
        "config": {"mediaType": f"{kind}config.v1+json", **config},
        "layers": [{"mediaType": f"{kind}layer.v1.tar+gzip", "digest": f"sha256:{layer}", "size": 3}],
    }
    index = put({"schemaVersion": 2, "manifests": [{"mediaType": f"{kind}manifest.v1+json", **put(manifest)}]})
    name = {"org.opencontainers.image.ref.name": "quay.io/a/b:1"}
    loop = {"mediaType": f"{kind}index.v1+json", "digest": f"sha256:{'3' * 64}", "size": 1, "annotations": name}
    entries = [{"mediaType": f"{kind}index.v1+json", "annotations": name, **index}, loop]
    (place / "blob/index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))
    (blobs / ("3" * 64)).write_text(json.dumps({"schemaVersion": 2, "manifests": [loop]}))  # which names itself
    (blobs / layer).write_text("abc")
    (place / "packed").mkdir()
    (place / f"packed/sha256-{content}.gzip").write_text("abc")
    found = {each["name"]: each["used_by"] for each in json.loads(run("list", "--json").stdout)}
    assert found[layer] == found[f"sha256-{content}.gzip"] == ["quay.io/a/b:1"]
    assert found["cc"] == []
    assert sum(bool(each) for each in found.values()) == 6


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0, "now"), (-5, "now"), (61, "1 min ago"), (7200, "2 hours ago"), (90000, "1 day ago")]
)
def test_ages_have_one_unit(seconds: float, expected: str) -> None:
    assert age(seconds) == expected


def test_an_empty_cache_is_not_made_by_looking(private_home: Path) -> None:
    assert run("list", "-v").stdout.endswith("Total space used: 0.00 KiB\n")
    assert run("clean", "--force").returncode == 0
    assert not (private_home / "cache").exists()


@pytest.mark.parametrize(
    ("number", "expected"),
    [(0, "0.00 KiB"), (1023, "1.00 KiB"), (1 << 20, "1.00 MiB"), (1536 << 20, "1.50 GiB"), (3 << 50, "3072.00 TiB")],
)
def test_sizes_have_two_decimals(number: int, expected: str) -> None:
    assert size(number) == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], []),
        (["--all"], []),
        (["--type", "all"], []),
        (["--type", "blob,library"], ["archive/aa.sif", "debootstrap/d.deb"]),
        (["--days", "5"], ["archive/aa.sif", "debootstrap/d.deb", "library/bb.sif"]),
        (
            ["-T", "archive", "-D", "5"],
            ["archive/aa.sif", "blob/blobs/sha256/cc", "debootstrap/d.deb", "library/bb.sif"],
        ),
    ],
)
def test_what_was_chosen_is_removed(place: Path, words: list[str], expected: list[str]) -> None:
    before = left(place)
    dry = run("clean", "--dry-run", *words)
    assert left(place) == before
    done = run("clean", "--force", *words)
    assert done.returncode == 0
    assert left(place) == expected
    assert dry.stderr.replace("Would remove", "Removing") == done.stderr
    assert len(done.stderr.splitlines()) == len(before) - len(expected)


def test_nothing_is_removed_where_nobody_can_be_asked(place: Path) -> None:
    done = run("clean")
    assert done.returncode == 1
    assert done.stderr.startswith("ERROR:   cache clean: there is nobody to ask (--force cleans without asking)")
    assert len(left(place)) == 4


@pytest.mark.parametrize(("answer", "count"), [("y\n", 0), ("n\n", 4), ("\n", 4)])
def test_a_terminal_is_asked(place: Path, answer: str, count: int) -> None:
    main, other = pty.openpty()
    with subprocess.Popen([*ARGV, "clean"], stdin=other, stdout=subprocess.DEVNULL, stderr=other) as process:
        os.close(other)
        seen = b""
        while b"[y/N]" not in seen:
            seen += os.read(main, 4096)
        os.write(main, answer.encode())
        assert process.wait(timeout=60) == 0
    os.close(main)
    assert b"This will delete everything in your cache." in seen
    assert len(left(place)) == count


def test_unknown_types_and_commands_are_usage_errors(place: Path) -> None:
    del place
    assert "--type: bulk (known are library, " in run("clean", "-f", "--type", "bulk").stderr
    assert run("list", "--type", "oci").returncode == 0
    assert "unknown command cache lst (did you mean list?)" in run("lst").stderr
    assert "blob, archive, build, bases, mounts, debootstrap; or all" in " ".join(run("list", "--help").stdout.split())


def test_names_from_elsewhere_do_not_drive_the_terminal(place: Path) -> None:
    """R-P3."""
    (place / "archive" / "\x1b[2J").write_bytes(b"")
    assert "\x1b" not in run("list", "-v").stdout
    assert "\x1b" not in run("clean", "-n").stderr
