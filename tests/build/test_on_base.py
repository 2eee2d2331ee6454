"""`build --on` and `flatten`: the difference and its base are what the ordinary build makes, to the byte."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from builds import USER, Build, as_user

import singularity
from singularity.build import layered
from singularity.errors import ImageError
from singularity.image import base as bases
from singularity.image import contents
from singularity.image.identify import identify
from singularity.image.sif import format as sif
from singularity.image.sif.format import DataType
from singularity.image.tree import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from servers import Registry

    Definition = Callable[[str], Path]

pytestmark = pytest.mark.needs("root", "busybox", "mksquashfs")

EPOCH = {"SOURCE_DATE_EPOCH": "1600000000"}
BASE = """%post
    mkdir -p /d/gone /d/stays /tmp /var && echo in >/d/gone/in && echo in >/d/stays/in
    echo one >/a && ln /a /b && ln /a /d/c
    echo 1234 >/size && echo x >/mode && chown 5:6 /mode
    echo file >/file-then-directory; mkdir /directory-then-file && echo x >/directory-then-file/x
    ln -s /nowhere /link; echo same >/same
    dd if=/dev/zero of=/zeros bs=1M count=1 && cp /zeros /zeros-too && truncate -s 1M /hole && echo x >>/hole
    cp /hole /hole-too && chmod 4755 /zeros
%environment
    export FROM=base
"""
MINE = """Bootstrap: localimage
From: base.sif
%post
    rm -r /d/gone && rm /d/stays/in
    echo more >>/a
    touch -d @1500000000 /size && echo 4321 >/size && touch -d @1500000000 /size
    chmod 600 /mode
    rm /file-then-directory && mkdir /file-then-directory && echo x >/file-then-directory/x
    rm -r /directory-then-file && echo x >/directory-then-file
    rm /link && ln -s /elsewhere /link
    mkdir /upper /new && echo up >/upper/file; echo new >/new/file && ln /new/file /new/other
    echo "odd" >"/new/a b'\\"$(printf '\\303\\251\\377\\n')c"
    mkfifo /new/fifo
    ln /same /new/same-too
    dd if=/dev/zero of=/new/zeros bs=1M count=1 && chmod 4711 /new/zeros
    truncate -s 1M /new/hole && echo x >>/new/hole && echo y >>/zeros-too && truncate -s 2M /hole-too
%environment
    export FROM=mine
%runscript
    echo "$FROM"
"""


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def files(path: Path) -> dict[bytes, tuple[object, ...]]:
    """What is in an image; of a hard link, what it is another name of."""
    with contents.tree(identify(path)) as tree:
        return {
            each.member.path: (
                each.member.kind, each.member.mode, each.member.uid, each.member.gid, each.member.mtime,
                each.member.target, b"".join(each.data),
            )
            for each in tree
        }  # fmt: skip


@pytest.fixture
def below(build: Build, definition: Definition) -> Path:
    build.ok("build", "base.sif", definition(BASE), **EPOCH)
    build.write("mine.def", MINE)
    return build.directory / "base.sif"


def test_flattened_it_is_the_ordinary_build(build: Build, below: Path) -> None:
    build.ok("build", "--on", below, "mine.sif", "mine.def", **EPOCH)
    build.ok("build", "ordinary.sif", "mine.def", **EPOCH)
    build.ok("flatten", "flat.sif", "mine.sif")
    mine, ordinary, flat = (build.directory / f"{name}.sif" for name in ("mine", "ordinary", "flat"))
    assert sha256(flat) == sha256(ordinary)
    assert mine.stat().st_size < ordinary.stat().st_size // 2
    assert files(mine) == files(ordinary)
    with contents.partition(mine, identify(mine).root) as tree:
        kept = {each.member.path for each in tree}
    assert b"upper/bin/busybox" not in kept
    assert {b"upper/a", b"upper/size", b"upper/mode", b"upper/upper/file", b"upper/new/file"} <= kept
    build.ok("build", "--on", below, "again.sif", "mine.def", **EPOCH)
    assert sha256(build.directory / "again.sif") == sha256(mine)
    assert build.leftovers() == []


def test_without_a_time_the_files_are_the_same(build: Build, below: Path) -> None:
    build.ok("build", "--on", below, "mine.sif", "mine.def")
    build.ok("flatten", "flat.sif", "mine.sif")
    assert files(build.directory / "flat.sif") == files(build.directory / "mine.sif")


@pytest.mark.needs("installation", "userns")
@pytest.mark.parametrize("ids", ["", "user:500000:65536\n"])
def test_an_ordinary_user_makes_the_same_file(build: Build, below: Path, ids: str) -> None:
    """R-B3: with emulated owners, and with ids of the user's own."""
    build.ok("build", "--on", below, "of-root.sif", "mine.def", **EPOCH)
    build.ok("build", "ordinary.sif", "mine.def", **EPOCH)
    epoch = ("--reproducible",)
    for words in (
        ("build", *epoch, "--on", "base.sif", "out/mine.sif", "mine.def"),
        ("flatten", "out/f.sif", "of-root.sif"),
    ):
        (build.directory / "out").mkdir(exist_ok=True)
        done = as_user(build, *words, ids=ids)
        assert done.returncode == 0, done.stderr
    assert sha256(build.directory / "out/f.sif") == sha256(build.directory / "ordinary.sif")
    mine = files(build.directory / "out/mine.sif")
    assert mine[b"mode"][1:4] == (0o600, 5, 6)
    assert (build.directory / "out/mine.sif").stat().st_uid == USER


@pytest.mark.needs("installation", "userns")
def test_a_base_of_roots_where_anybody_writes_is_no_strangers(build: Build, below: Path, tmp_path: Path) -> None:
    """In the user namespace of a build nobody could say whose it is."""
    build.ok("build", "--on", below, "mine.sif", "mine.def", **EPOCH)
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    for path in (below, build.directory / "mine.sif"):
        shutil.copy(path, shared / path.name)
    os.chown(shared / "mine.sif", USER, USER)
    below.unlink()
    for words in (("flatten", "f.sif", str(shared / "mine.sif")), ("build", "b.sif", str(shared / "mine.sif"))):
        done = as_user(build, *words)
        assert done.returncode == 0, done.stderr


def test_what_arguments_and_orders_were_is_kept(build: Build, below: Path) -> None:
    words = ("--compression", "gzip", "--mksquashfs-args", "-b 64K")
    build.ok("build", *words, "--on", below, "mine.sif", "mine.def", **EPOCH)
    build.ok("build", *words, "ordinary.sif", "mine.def", **EPOCH)
    build.ok("flatten", "flat.sif", "mine.sif", SOURCE_DATE_EPOCH="7")  # what was then counts
    assert sha256(build.directory / "flat.sif") == sha256(build.directory / "ordinary.sif")


def test_an_image_gives_mksquashfs_no_commands(build: Build, below: Path) -> None:
    """Arguments are data of whoever made the image: those that execute, read or write something are not taken."""
    ran, mine = build.directory / "ran", build.directory / "mine.sif"
    build.ok("build", "--mksquashfs-args", f"-b {65536:0200d}", "--on", below, mine, "mine.def")
    data = mine.read_bytes()
    begin = data.index(b'{\n "digest"')
    end = data.index(b"\n}", begin) + 2
    words = ["-action", f'no-fragments@exec("touch {ran}")']
    forged = json.dumps(json.loads(data[begin:end]) | {"arguments": words}).encode()
    assert len(forged) <= end - begin
    mine.write_bytes(data[:begin] + forged.ljust(end - begin) + data[end:])
    assert "left out" in build.ok("flatten", "flat.sif", "mine.sif").stderr
    assert not ran.exists()
    assert layered._packing(["-b", "64K", "-nopad", "-p", "-noI", "-b", "-log", "/x", "-b", "/x"], below) == [
        "-b", "64K", "-nopad", "-noI",
    ]  # fmt: skip


@pytest.mark.usefixtures("below")
def test_zeros_are_filled_in_no_file_of_the_host(build: Build, definition: Definition) -> None:
    """Where the base has a directory of files of zeros, the image may have a link to a directory of the host."""
    host = build.directory / "host"
    host.mkdir()
    with (host / "zeros").open("wb") as file:
        file.truncate(4 << 20)
    text = "%post\n    mkdir /a-directory && dd if=/dev/zero of=/a-directory/zeros bs=1M count=4"
    build.ok("build", "base-of-zeros.sif", definition(text))
    build.write(
        "link.def",
        f"""Bootstrap: localimage
From: base-of-zeros.sif
%post
    rm -r /a-directory && ln -s {host} /a-directory
""",
    )
    build.ok("build", "--on", "base-of-zeros.sif", "link.sif", "link.def")
    build.ok("flatten", "flat.sif", "link.sif")
    assert (host / "zeros").stat().st_blocks == 0


def test_names_of_one_file_are_of_one_layer(build: Build, below: Path, definition: Definition) -> None:
    """A file with several names that all stay is not kept; of one that loses or gains a name, all are."""
    build.write("links.def", "Bootstrap: localimage\nFrom: base.sif\n%post\n    rm /b\n")
    build.ok("build", "--on", below, "links.sif", "links.def", **EPOCH)
    found = files(build.directory / "links.sif")
    assert b"b" not in found
    kinds = {found[b"a"][0], found[b"d/c"][0]}
    assert kinds == {Kind.FILE, Kind.HARD_LINK} or kinds == {Kind.FILE}
    assert found[b"a"][6] or found[b"d/c"][6] == b"one\n"
    build.write("none.def", "Bootstrap: localimage\nFrom: base.sif\n")
    build.ok("build", "--on", below, "none.sif", "none.def", **EPOCH)
    path = build.directory / "none.sif"
    with contents.partition(path, identify(path).root) as tree:
        assert b"upper/a" not in {each.member.path for each in tree}
    del definition


def test_commands_that_look_see_both(build: Build, below: Path) -> None:
    build.ok("build", "--on", below, "mine.sif", "mine.def", **EPOCH)
    build.ok("build", "ordinary.sif", "mine.def", **EPOCH)
    assert build.ok("diff", "--files", "mine.sif", "ordinary.sif").stdout == "Files: the same\n"
    assert "base: it is in" in build.ok("why", "mine.sif", "/bin/busybox").stdout
    assert "base" not in build.ok("why", "mine.sif", "/new/file").stdout
    assert f"on base:sha256:{sha256(below)}" in build.ok("sif", "list", "mine.sif").stdout
    assert 'echo "$FROM"' in build.ok("inspect", "-r", "mine.sif").stdout
    listed = json.loads(build.ok("sbom", "mine.sif").stdout)
    assert {each["fileName"] for each in listed.get("files", ())} == {
        each["fileName"] for each in json.loads(build.ok("sbom", "ordinary.sif").stdout).get("files", ())
    }
    for target in ("out.sqfs", "out.tar", "out.sif", "out/"):
        build.ok("build", *(("--sandbox",) if target == "out/" else ()), target, "mine.sif")
    assert (build.directory / "out/new/file").read_text() == "new\n"
    assert files(build.directory / "out.sqfs")[b"a"][6] == b"one\nmore\n"
    image = singularity.Image(build.directory / "mine.sif")
    assert image.files.read("/bin/busybox") == Path("/bin/busybox").read_bytes()
    assert image.files.read_text("/new/file") == "new\n"
    assert not image.files.exists("/d/gone")
    assert "in" not in image.files.names("/d/stays")
    assert {str(each.path).lstrip("/") for each in image.files if b"\xff" not in os.fsencode(each.path)} >= {"a", "bin"}


def test_commands_for_whole_images_say_what_to_do(build: Build, below: Path) -> None:
    build.ok("build", "--on", below, "mine.sif", "mine.def", **EPOCH)
    assert "singularity flatten" in build.fails("mount", "mine.sif")
    assert "singularity flatten" in build.fails("overlay", "create", "mine.sif")
    assert "whole, and on no base" in build.fails("flatten", "x.sif", "base.sif")
    assert "exists" in build.fails("flatten", "base.sif", "mine.sif")
    assert "--on is for SIF files" in build.fails("build", "--on", below, "--data", "x.sif", "base", status=1)
    below.rename(below.with_name("away"))
    (build.directory / "out").mkdir()
    shutil.move(build.directory / "mine.sif", build.directory / "out/mine.sif")
    below.with_name("away").unlink()
    for words in (("flatten", "x.sif"), ("diff", "base"), ("build", "x.sif")):
        told = build.fails(*words, "out/mine.sif", SINGULARITY_CACHEDIR=str(build.directory / "c"))
        assert "its base base.sif (sha256:" in told
    assert "Author" not in build.ok("inspect", "out/mine.sif").stdout  # says what it knows by itself
    assert build.leftovers() == []


def test_what_cannot_be_a_base_is_said_before_the_work(build: Build, below: Path) -> None:
    for word in ("base", "none.sif", "mine.def"):
        start = time.monotonic()
        build.fails("build", "--on", word, "x.sif", "mine.def")
        assert time.monotonic() - start < 10
    assert not (build.directory / "x.sif").exists()
    assert "--on" in build.ok("build", "--dry-run", "--on", below, "x.sif", "mine.def").stdout


def test_a_killed_build_leaves_nothing(build: Build, below: Path) -> None:
    """At some moments of the comparison and the packing."""
    started = build.argv("build", "--on", below, "mine.sif", "mine.def")
    for wait in (0.4, 0.8, 1.2):
        with subprocess.Popen(started, cwd=build.directory, env=build.env(), stderr=subprocess.DEVNULL) as process:
            time.sleep(wait)
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)
        made = build.directory / "mine.sif"
        if made.exists():
            bases.chain(identify(made))
            made.unlink()
    assert build.leftovers() == []


def test_forged_descriptions(below: Path) -> None:
    """Neither names nor numbers of somebody else's making are believed."""
    digest = sha256(below)
    good = {"digest": f"sha256:{digest}", "size": 1, "name": "base.sif"}
    assert bases._decoded(json.dumps(good).encode()) is not None
    for key, value in (
        ("digest", "sha256:../../x"), ("digest", digest.upper()), ("digest", 7), ("size", "1"), ("name", "../x"),
        ("name", "a\x1b[31m"), ("name", 5), ("uri", ["x"]), ("uri", "a\nb"), ("epoch", "1"), ("first", "abc"),
        ("arguments", [1]),
    ):  # fmt: skip
        assert bases._decoded(json.dumps(good | {key: value}).encode()) is None, (key, value)
    for name in (".profile", "-rf", "Makefile", "x.sif"):
        said = bases._decoded(json.dumps(good | {"name": name}).encode())
        assert said is not None
        assert said.file_name.endswith(".sif")
        assert not said.file_name.startswith((".", "-"))
    with pytest.raises(ImageError):
        bases._decoded(b"[" * 100_000)


@pytest.mark.needs("docker-registry")
@pytest.mark.usefixtures("no_proxy")
def test_pull_brings_the_base_where_that_is_asked(build: Build, below: Path, plain_registry: Registry) -> None:
    """From where it was when the image was made; another file by that name is none."""
    where = f"oras://{plain_registry.host}/bases"
    build.ok("push", "--no-https", below, f"{where}/base:1")
    build.ok("build", "--no-https", "--on", f"{where}/base:1", "mine.sif", "mine.def", **EPOCH)
    build.ok("push", "--no-https", "mine.sif", f"{where}/mine:1")
    below.unlink()
    away = {"SINGULARITY_CACHEDIR": str(build.directory / "elsewhere")}
    told = build.ok("pull", "--no-https", "--dir", "one", f"{where}/mine:1", **away).stderr
    assert f"singularity pull base_1.sif {where}/base:1" in told
    build.ok("pull", "--no-https", "--base", "--dir", "two", f"{where}/mine:1", **away)
    assert sorted(each.name for each in (build.directory / "two").iterdir()) == ["base_1.sif", "mine_1.sif"]
    assert (
        "Its base" not in build.ok("pull", "--no-https", "--base", "--force", "--dir", "two", f"{where}/mine:1").stderr
    )
    build.write("other.def", MINE.replace("echo new", "echo newer"))
    shutil.copy(build.directory / "two/base_1.sif", below)
    build.ok("build", "other.sif", "other.def")
    build.ok("push", "--no-https", "other.sif", f"{where}/base:1")
    away = {"SINGULARITY_CACHEDIR": str(build.directory / "third")}
    below.unlink()
    shutil.rmtree(build.directory / "two")
    told = build.fails("pull", "--no-https", "--base", "--dir", "three", f"{where}/mine:1", **away)
    assert "another image by now" in told


def test_objects_of_the_file(build: Build, below: Path) -> None:
    build.ok("build", "--on", below, "mine.sif", "mine.def", **EPOCH)
    with (build.directory / "mine.sif").open("rb") as file:
        content = sif.read(file)
        found = content.find(DataType.GENERIC_JSON, bases.OBJECT_NAME)
        assert found is not None
        said = json.loads(sif.read_object(file, found))
    assert said["digest"] == f"sha256:{sha256(below)}"
    assert (said["size"], said["name"], said["epoch"]) == (below.stat().st_size, "base.sif", 1600000000)
