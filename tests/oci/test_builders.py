"""Images of real builders, against what umoci makes of them: every file, with all that a file system knows of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import ordinary_user
import pytest
from builders import by_umoci, configure, described, run, skopeo, unpacked_by_umoci
from machine import FIXTURES

from singularity.content.platform import Platform
from singularity.image.archive.unpack import unpack
from singularity.oci import layers, local, merge

pytestmark = pytest.mark.needs("root", "umoci", "busybox")
WANTED = Platform(os="linux", architecture="amd64")


def lowest(root: Path) -> None:
    for name in ("bin", "etc", "directory/sub", "opaque/sub", "file-to-be/in", "usr/lib", "closed"):
        (root / name).mkdir(parents=True)
    shutil.copy2("/bin/busybox", root / "bin")
    (root / "bin/busybox").chmod(0o4755)
    (root / "bin/sh").symlink_to("busybox")
    (root / "lib").symlink_to("usr/lib")
    for name in ("etc/secret", "etc/one", "directory/x", "directory/sub/y", "opaque/low", "opaque/sub/z", "to-be-dir"):
        (root / name).write_text(name)
    (root / "etc/two").hardlink_to(root / "etc/one")
    os.chown(root / "etc/one", 12, 34)
    os.setxattr(root / "etc/one", "user.note", b"\0binary\xff")
    os.setxattr(root / "etc/one", "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
    (root / "etc/secret").chmod(0)
    (root / "closed/inside").write_text("inside")
    os.utime(root / "etc/secret", ns=(-300_000_000_000_000_000, -300_000_000_000_000_000))
    (root / os.fsdecode(b"etc/not-utf-8-\xe4\xff")).write_text("name")
    (root / ("n" * 200)).mkdir()
    (root / ("n" * 200) / ("m" * 200)).write_text("long")
    with (root / "sparse").open("wb") as file:
        file.truncate(1 << 20)
    os.mkfifo(root / "pipe")
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)
    for place in ("usr/lib", "closed", "etc", "."):
        os.utime(root / place, (981_173_106, 981_173_106))
    (root / "closed").chmod(0)


def upper(root: Path) -> None:
    (root / "directory/x").unlink()
    shutil.rmtree(root / "opaque")
    (root / "opaque").mkdir()
    (root / "opaque/new").write_text("new")
    (root / "to-be-dir").unlink()
    (root / "to-be-dir").mkdir()
    (root / "to-be-dir/file").write_text("in it")
    shutil.rmtree(root / "file-to-be")
    (root / "file-to-be").write_text("a file now")
    (root / "etc/two").unlink()
    (root / "usr/lib/three").hardlink_to(root / "etc/one")
    (root / "bin/sh").unlink()
    (root / "bin/sh").write_text("no link any more")
    with (root / "etc/secret").open("a") as file:
        file.write(", changed")
    os.chown(root / "directory", 7, 8)


def highest(root: Path) -> None:
    """Back again."""
    shutil.rmtree(root / "to-be-dir")
    (root / "to-be-dir").symlink_to("/etc/one")
    (root / "file-to-be").unlink()
    (root / "file-to-be/in").mkdir(parents=True)
    (root / "opaque/sub").mkdir()
    (root / "opaque/sub/deep").write_text("deep")
    (root / "usr/lib/three").unlink()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("umoci")
    layout = by_umoci(directory, lowest, upper, highest)
    configure(layout, "--config.entrypoint", "/bin/busybox", "--config.env", "A=b c")
    unpacked_by_umoci(layout)
    return directory


def unpacked(transport: str, text: str | Path, root: Path) -> dict[str, tuple[object, ...]]:
    """What unpacking makes of an image; merging its layers makes the same."""
    again = root.with_name("merged")
    again.mkdir()
    with local.opened(transport, str(text), WANTED, root.parent) as found:
        layers.unpack(found, root)
        unpack(merge.merged(found), again)
    assert described(again) == described(root)
    return described(root)


def test_a_layout_is_unpacked_as_umoci_does(made: Path, root: Path) -> None:
    reference = described(made / "reference/rootfs")
    assert len(reference) > 20
    assert unpacked("oci", f"{made}/layout:t", root) == reference
    assert root.stat().st_mtime_ns == (made / "reference/rootfs").stat().st_mtime_ns


@pytest.mark.needs("skopeo")
@pytest.mark.parametrize("packed", [None, "gzip", "zstd", "xz"])
@pytest.mark.parametrize("transport", ["oci-archive", "docker-archive"])
def test_archives_of_skopeo_are_unpacked_as_umoci_does(
    made: Path, tmp_path: Path, root: Path, transport: str, packed: str | None
) -> None:
    archive = tmp_path / "image.tar"
    skopeo(f"oci:{made}/layout:t", f"{transport}:{archive}:example.org/a/b:t", tmp_path)
    if packed:
        run(packed, "-q", "-k", archive, cwd=tmp_path)
        archive.unlink()
        (archive,) = tmp_path.glob("image.tar.*")
    assert unpacked(transport, archive, root) == described(made / "reference/rootfs")


@pytest.mark.needs("skopeo")
def test_layers_compressed_by_zstd(made: Path, tmp_path: Path, root: Path) -> None:
    skopeo(f"oci:{made}/layout:t", f"oci:{tmp_path}/z:t", tmp_path, "--dest-compress", "--dest-compress-format", "zstd")
    assert b"tar+zstd" in b"".join(each.read_bytes()[:10_000] for each in (tmp_path / "z/blobs/sha256").iterdir())
    assert unpacked("oci", tmp_path / "z", root) == described(made / "reference/rootfs")


@pytest.mark.needs("buildah")
def test_an_archive_of_buildah(tmp_path: Path, root: Path) -> None:
    """Two layers, committed as a Docker archive."""
    storage = ["--storage-driver", "vfs", "--root", str(tmp_path / "storage"), "--runroot", str(tmp_path / "run")]

    def buildah(*words: str | Path) -> str:
        return run("buildah", *storage, *words, cwd=tmp_path).strip()

    (tmp_path / "one").write_text("one")
    (tmp_path / "two").write_text("two")
    first = buildah("from", "scratch")
    buildah("copy", "--chown", "5:6", first, tmp_path / "one", "/data/one")
    buildah("commit", "--quiet", first, "base")
    second = buildah("from", "localhost/base")
    buildah("copy", second, tmp_path / "two", "/data/two")
    mounted = Path(buildah("mount", second))
    (mounted / "data/one").unlink()
    buildah("config", "--cmd", '["a b", "$c"]', "--env", "E=x", "--label", "l=m", second)
    archive = tmp_path / "image.tar"
    buildah("commit", "--quiet", second, f"docker-archive:{archive}:example.org/made:here")
    assert len(unpacked("docker-archive", f"{archive}:made:here", root)) == 2
    with local.opened("docker-archive", f"{archive}:made:here", WANTED, tmp_path) as found:
        assert found.config.command == ("a b", "$c")
        assert found.config.labels["l"] == "m"
        assert len(found.layers) == 2
    assert sorted(os.listdir(root / "data")) == ["two"]
    assert (root / "data/two").read_text() == "two"


def fixture(name: str, tmp_path: Path) -> Path:
    """One of the layouts that other programs made; its image is `t`."""
    place = tmp_path / "layout"
    place.mkdir()
    run("tar", "-C", place, "-xf", FIXTURES / name, cwd=tmp_path)
    return place


@pytest.mark.needs("fixtures")
@pytest.mark.parametrize("name", ["oci-umoci-insert-0.4.7.tar", "oci-zstd-chunked-skopeo-1.22.tar"])
def test_layers_of_real_builders_are_unpacked_as_umoci_does(name: str, tmp_path: Path, root: Path) -> None:
    """umoci pads no file in the layers that it inserts, and ends none; skopeo's zstd has tables in skippable frames."""
    layout = fixture(name, tmp_path)
    found = unpacked("oci", f"{layout}:t", root)
    plain = tmp_path / "plain"
    plain.mkdir()
    if "zstd" in name:  # which umoci does not read
        skopeo(
            f"oci:{layout}:t", f"oci:{plain}/layout:t", tmp_path, "--dest-compress-format", "gzip", "--dest-compress"
        )
    else:
        layout.rename(plain / "layout")
    assert len(found) > 3
    wanted = described(unpacked_by_umoci(plain / "layout"))
    for path, (mode, owner, time, *_) in found.items():
        if not time:  # of a directory that no layer speaks of: now, says umoci
            wanted[path] = (mode, owner, time, *wanted[path][3:])
    assert found == wanted


UNPACK = """
import sys
from pathlib import Path
from singularity.content.platform import Platform
from singularity.namespaces import fakeroot
from singularity.oci import layers, local
fakeroot.become_root()
with local.opened("oci", sys.argv[1], Platform(os="linux", architecture="amd64"), Path(sys.argv[2]).parent) as found:
    layers.unpack(found, Path(sys.argv[2]))
"""


@pytest.mark.needs("userns")
def test_an_ordinary_user_with_subordinate_ids_gets_the_same(made: Path, storage: Path) -> None:
    """Owners are the mapped ones; files that nobody may read arrive whole."""
    place = storage / "oci-user"
    shutil.copytree(made / "layout", place / "layout")
    (place / "root").mkdir()
    for path in (place, *place.rglob("*")):
        os.chown(path, 10001, 10001)
    argv = [sys.executable, ordinary_user.__file__, "--", sys.executable, "-c", UNPACK]
    source = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": source}
    words = [f"{place}/layout:t", str(place / "root")]
    subprocess.run([*argv, *words], check=True, env=environment, cwd="/", capture_output=True)

    def mapped(number: int) -> int:
        return 0 if number == 10001 else number - 1_000_000 + 1

    found = {}
    for name, (mode, owner, time, attributes, content, *more) in described(place / "root").items():
        assert isinstance(owner, tuple)
        assert isinstance(attributes, dict)
        if "security.capability" in attributes:  # the kernel notes there whose root it is for
            attributes["security.capability"] = b"\1\0\0\2" + attributes["security.capability"][4:20]
        found[name] = (mode, tuple(map(mapped, owner)), time, attributes, content, *more)
    assert found == described(made / "reference/rootfs")
