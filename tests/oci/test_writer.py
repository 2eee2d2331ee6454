"""`push` to layouts and archives on disk: what other programs unpack there is what is in the image, file by file."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import ordinary_user
import pytest
from builders import Layout, described, layer, skopeo
from builders import run as run_tool
from images import Partition, extfs, write, write_sif

from singularity.image import elf, identify
from singularity.image.archive import tar
from singularity.image.tree import Entry, Kind, Member, Segment
from singularity.push import writer

pytestmark = pytest.mark.needs("busybox", "umoci", "skopeo")
FORMATS = ["directory", "squashfs", "sif", "ext3", "tar", "tar.zst"]
DATE = 1_400_000_000


def push(*words: str | Path, cwd: Path, user: bool = False, **more: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-I", "-m", "singularity", "push", *map(str, words)]
    if user:
        argv = [sys.executable, ordinary_user.__file__, "--", "sh", "-c", f'cd {cwd} && exec "$@"', "sh", *argv]
    (cwd / "tmp").mkdir(exist_ok=True)
    (cwd / "tmp").chmod(0o777)
    environment = {**os.environ, "TMPDIR": str(cwd / "tmp"), **more}
    where = "/" if user else cwd
    return subprocess.run(argv, cwd=where, env=environment, capture_output=True, text=True, check=False, timeout=120)


def pushed(*words: str | Path, cwd: Path, **more: Any) -> str:
    """The digest of what was pushed."""
    done = push(*words, cwd=cwd, **more)
    assert done.returncode == 0, done.stderr
    assert [*(cwd / "tmp").iterdir()] == []
    return done.stdout.strip()


def config_of(layout: Path, digest: str) -> dict[str, Any]:
    manifest = json.loads((layout / "blobs" / digest.replace(":", "/")).read_bytes())
    content: dict[str, Any] = json.loads(
        (layout / "blobs" / manifest["config"]["digest"].replace(":", "/")).read_bytes()
    )
    return content


@pytest.fixture(scope="module")
def tree(storage: Path) -> Path:
    """A root file system with everything that a layer can hold."""
    root = storage / "tree-to-push"
    for name in ("bin", "etc", "opt/empty", "usr/share", "tmp", "dev"):
        (root / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    for name in ("sh", "cat", "echo", "env"):
        (root / "bin" / name).symlink_to("busybox")
    (root / "tmp").chmod(0o1777)
    write(root / "etc/secret", "secret\n", 0o000)
    write(root / "bin/suid", "x", 0o4755)
    (root / "opt/same").hardlink_to(root / "bin/suid")
    (root / "opt/dangling").symlink_to("/no/where")
    (root / ("usr/share/" + "long" * 40)).write_text("a long name\n")
    (root / "usr/share/ü €").write_text("letters\n")
    os.mkfifo(root / "opt/fifo", 0o640)
    with (root / "opt/sparse").open("wb") as file:
        file.truncate(3 << 20)
        file.seek(1 << 20)
        file.write(b"in the middle")
    place = root / ".singularity.d"
    script = '#!/bin/sh\necho "$GREETING|$#|$*"\n'
    write(place / "runscript", script, 0o755)
    write(place / "env/90-environment.sh", "#!/bin/sh\nexport GREETING='hello you'\n", 0o755)
    write(place / "labels.json", '{"who": "tests", "org.opencontainers.image.created": "2024-02-03T04:05:06Z"}')
    if os.geteuid() == 0:
        os.mknod(root / "dev/null", 0o20666, os.makedev(1, 3))
        os.chown(root / "opt/same", 1234, 56)
        (root / "opt/same").chmod(0o4755)
        os.chown(root / "opt/dangling", 77, 88, follow_symlinks=False)
        os.setxattr(root / "bin/suid", "user.note", b"\0binary=%\xff")
    for path in sorted(root.rglob("*"), reverse=True):
        os.utime(path, (DATE, DATE), follow_symlinks=False)
    os.utime(root, (DATE, DATE))
    return root


@pytest.fixture(scope="module")
def in_each_format(storage: Path, tree: Path) -> dict[str, Path]:
    place = storage / "to-push"
    place.mkdir()
    found = {"directory": tree, **{name: place / f"image.{name}" for name in FORMATS[1:]}}
    run_tool("mksquashfs", tree, found["squashfs"], "-quiet", "-no-progress", "-comp", "gzip", cwd=place)
    write_sif(found["sif"], [Partition(data=found["squashfs"].read_bytes())])
    extfs(tree, found["ext3"])
    run_tool("tar", "-c", "--format=pax", "--xattrs", "-C", tree, "-f", found["tar"], ".", cwd=place)
    run_tool("zstd", "-q", found["tar"], "-o", found["tar.zst"], cwd=place)
    return found


@pytest.mark.needs("root")
@pytest.mark.parametrize("kind", FORMATS)
def test_an_image_of_every_format_is_unpacked_as_it_is(
    in_each_format: dict[str, Path], tree: Path, tmp_path: Path, kind: str
) -> None:
    pushed(in_each_format[kind], "oci:layout:t", cwd=tmp_path)
    run_tool("umoci", "unpack", "--image", "layout:t", "bundle", cwd=tmp_path)
    wanted, found = described(tree), described(tmp_path / "bundle/rootfs")
    entrypoint = found.pop(".singularity.d/entrypoint")
    assert entrypoint == (*wanted[".singularity.d/runscript"][:5], (".singularity.d/entrypoint",))
    assert found == wanted


@pytest.mark.needs("root")
def test_the_same_files_are_the_same_image_whatever_the_format(in_each_format: dict[str, Path], tmp_path: Path) -> None:
    digests = {kind: pushed(in_each_format[kind], f"oci:layout:{kind}", cwd=tmp_path) for kind in ("directory", "sif")}
    digests["again"] = pushed(in_each_format["sif"], "oci:other", cwd=tmp_path)
    digests["squashfs"] = pushed(in_each_format["squashfs"], "oci:other", cwd=tmp_path)
    assert len(set(digests.values())) == 1
    index = json.loads((tmp_path / "layout/index.json").read_text())
    assert [each["annotations"]["org.opencontainers.image.ref.name"] for each in index["manifests"]] == [
        "directory",
        "sif",
    ]
    assert len(json.loads((tmp_path / "other/index.json").read_text())["manifests"]) == 1


def test_the_configuration_says_what_the_image_says(in_each_format: dict[str, Path], tmp_path: Path) -> None:
    digest = pushed("--annotation", "a=b=c", "-D", "it's a tool", in_each_format["sif"], "oci:layout:t", cwd=tmp_path)
    found = config_of(tmp_path / "layout", digest)
    assert found.pop("rootfs")["type"] == "layers"
    assert found == {
        "created": "2024-02-03T04:05:06Z",
        "architecture": elf.architecture(Path("/bin/busybox").read_bytes()[:64]),
        "os": "linux",
        "config": {
            "Entrypoint": ["/.singularity.d/entrypoint"],
            "Env": ["GREETING=hello you"],
            "Labels": {"org.opencontainers.image.created": "2024-02-03T04:05:06Z", "who": "tests"},
        },
        "history": [{"created": "2024-02-03T04:05:06Z", "created_by": "singularity push"}],
    }
    manifest = json.loads((tmp_path / "layout/blobs" / digest.replace(":", "/")).read_bytes())
    assert manifest["annotations"] == {"a": "b=c", "org.opencontainers.image.description": "it's a tool"}
    inspected = json.loads(run_tool("skopeo", "inspect", "oci:layout:t", cwd=tmp_path))
    assert (inspected["Digest"], inspected["Labels"]["who"]) == (digest, "tests")


def test_no_file_is_younger_than_source_date_epoch(tree: Path, tmp_path: Path) -> None:
    pushed("--layer-format", "tar", tree, "docker-archive:d.tar", cwd=tmp_path, SOURCE_DATE_EPOCH=str(DATE - 1000))
    with tarfile.open(tmp_path / "d.tar") as outer:
        (name,) = [each for each in outer.getnames() if each.endswith(".tar")]
        (config,) = [each for each in outer.getnames() if each.endswith(".json") and "manifest" not in each]
        assert json.load(outer.extractfile(config) or io.BytesIO())["created"] == "2014-05-13T16:36:40Z"
        with tarfile.open(fileobj=outer.extractfile(name)) as layer_:
            assert {each.mtime for each in layer_} == {DATE - 1000}


@pytest.mark.parametrize(("layer_format", "end"), [("gzip", "+gzip"), ("zstd", "+zstd"), ("tar", "")])
def test_layers_are_compressed_as_asked(
    in_each_format: dict[str, Path], tmp_path: Path, layer_format: str, end: str
) -> None:
    digest = pushed("--layer-format", layer_format, in_each_format["sif"], "oci:layout:t", cwd=tmp_path)
    assert digest == pushed(in_each_format["sif"], "oci:again", cwd=tmp_path, SINGULARITY_LAYER_FORMAT=layer_format)
    (found,) = json.loads((tmp_path / "layout/blobs" / digest.replace(":", "/")).read_bytes())["layers"]
    assert found["mediaType"] == f"application/vnd.oci.image.layer.v1.tar{end}"
    blob = tmp_path / "layout/blobs" / found["digest"].replace(":", "/")
    content = {"gzip": lambda: gzip.decompress(blob.read_bytes()), "tar": blob.read_bytes}.get(
        layer_format, lambda: subprocess.run(["zstd", "-dc", blob], capture_output=True, check=True).stdout
    )()
    diff = config_of(tmp_path / "layout", digest)["rootfs"]["diff_ids"]
    assert diff == ["sha256:" + hashlib.sha256(content).hexdigest()]
    if layer_format == "gzip":
        assert blob.read_bytes()[3:8] == bytes(5)  # neither a name nor a time
    skopeo("oci:layout:t", f"dir:{tmp_path}/copy", tmp_path)


def test_no_layer_has_holes(tmp_path: Path) -> None:
    """Docker keeps layers in a form that cannot give files with holes back as they were."""
    segments = (Segment(offset=4096, size=5), Segment(offset=8192, size=3))
    member = Member(path=b"f", kind=Kind.FILE, mode=0o644, size=9000, segments=segments)
    image = identify.Image(
        path=tmp_path, format=identify.Format.DIRECTORY, root=identify.Partition(format=identify.Format.DIRECTORY)
    )
    tree = iter([Entry(member, (b"abc", b"defg", b"h"))])
    made = writer.pack(image, tree, tmp_path, writer.LayerFormat.TAR, {})
    with made.layer.open() as file:
        (entry,) = [Entry(each.member, [*each.data]) for each in tar.read(file, "layer")]
    assert entry.member.segments is None
    content = bytearray(9000)
    content[4096:4101], content[8192:8195] = b"abcde", b"fgh"
    assert b"".join(entry.data) == bytes(content)


@pytest.mark.needs("root")
def test_programs_of_oci_run_it_as_run_does(in_each_format: dict[str, Path], tmp_path: Path) -> None:
    digest = pushed(in_each_format["sif"], "oci:layout:t", cwd=tmp_path)
    run_tool("umoci", "unpack", "--image", "layout:t", "bundle", cwd=tmp_path)
    assert started(tmp_path, digest, "a b", "c") == "hello you|2|a b c\n"


def started(place: Path, digest: str, *arguments: str) -> str:
    """What the entry point prints, in the root that umoci has unpacked, with the variables of the configuration."""
    config = config_of(place / "layout", digest)["config"]
    argv = [*config.get("Entrypoint", []), *(arguments or config.get("Cmd", []))]
    environment = {"PATH": "/bin", **dict(each.split("=", 1) for each in config.get("Env", []))}
    words = ["/usr/sbin/chroot", str(place / "bundle/rootfs"), *argv]
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout


@pytest.mark.needs("root")
def test_what_is_code_is_said_and_runs_before_the_runscript(tree: Path, tmp_path: Path) -> None:
    root = tmp_path / "box"
    shutil.copytree(tree / "bin", root / "bin", symlinks=True)
    write(root / ".singularity.d/runscript", '#!/bin/sh\necho "$A|$B|$*"\n', 0o755)
    write(root / ".singularity.d/env/90-environment.sh", "export A=$(echo made)\nexport B=2\n", 0o755)
    done = push(root, "oci:layout:t", cwd=tmp_path)
    assert "WARNING: " in done.stderr
    assert "90-environment.sh:1 (A)" in done.stderr
    run_tool("umoci", "unpack", "--image", "layout:t", "bundle", cwd=tmp_path)
    assert started(tmp_path, done.stdout.strip(), "x y") == "made|2|x y\n"


@pytest.mark.needs("root", "mksquashfs")
def test_what_was_pushed_is_built_from_again_and_runs(in_each_format: dict[str, Path], tmp_path: Path) -> None:
    """Whoever pulls it writes another runscript, which must not start itself."""
    first = pushed(in_each_format["sif"], "oci:layout:t", cwd=tmp_path)
    argv = [sys.executable, "-I", "-m", "singularity", "build", "--sandbox", "box", "oci:layout:t"]
    subprocess.run(argv, cwd=tmp_path, check=True, capture_output=True)
    script = 'for s in /.singularity.d/env/*.sh; do . $s; done; exec /.singularity.d/runscript "$@"'
    words = ["/usr/sbin/chroot", tmp_path / "box", "/bin/sh", "-c", script, "sh", "a b"]
    out = subprocess.run(words, capture_output=True, text=True, check=True, timeout=20, env={}).stdout
    assert out == "hello you|1|a b\n"
    second = pushed("box", "oci:layout:again", cwd=tmp_path)
    assert config_of(tmp_path / "layout", second)["config"] == config_of(tmp_path / "layout", first)["config"]
    write(tmp_path / "box/.singularity.d/runscript", '#!/bin/sh\necho "other $GREETING"\n', 0o755)
    third = pushed("box", "oci:layout:third", cwd=tmp_path)
    run_tool("umoci", "unpack", "--image", "layout:third", "bundle", cwd=tmp_path)
    assert started(tmp_path, third) == "other hello you\n"


def test_an_image_of_oci_comes_back_with_its_configuration(layout: Layout, tmp_path: Path) -> None:
    config = {
        "Entrypoint": ["/bin/x", "a b"],
        "Env": ["A=$x 'y'"],
        "WorkingDir": "/w",
        "User": "7",
        "Labels": {"l": "m"},
    }
    layout.add(layout.image([layer(("bin", None), ("bin/x", b"x"))], config=config), "t")
    argv = [sys.executable, "-I", "-m", "singularity", "build", "x.sif", f"oci:{layout.path}:t"]
    subprocess.run(argv, cwd=tmp_path, check=True, capture_output=True)
    digest = pushed("x.sif", "oci:made:t", cwd=tmp_path)
    assert config_of(tmp_path / "made", digest)["config"] == config


def test_archives_are_what_other_programs_read(in_each_format: dict[str, Path], tmp_path: Path) -> None:
    sif = in_each_format["sif"]
    digest = pushed(sif, "oci-archive:a.tar:1.0", cwd=tmp_path)
    assert json.loads(run_tool("skopeo", "inspect", "oci-archive:a.tar:1.0", cwd=tmp_path))["Digest"] == digest
    pushed(sif, "docker-archive:d.tar:some/name:1.0", cwd=tmp_path)
    skopeo("docker-archive:d.tar:some/name:1.0", f"oci:{tmp_path}/from:1", tmp_path)
    with tarfile.open(tmp_path / "d.tar") as archive:
        assert all(each.isreg() for each in archive)
    done = push(sif, "oci-archive:a.tar", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (255, 1)
    assert "a.tar: exists (--force replaces it)" in done.stderr
    pushed("--force", sif, "oci-archive:a.tar:2", cwd=tmp_path)
    run_tool("skopeo", "inspect", "oci-archive:a.tar:2", cwd=tmp_path)


def test_names_that_would_delete_others_are_left_out_with_a_word(tmp_path: Path) -> None:
    for name in ("etc/.wh.passwd", "etc/passwd", ".wh..wh..opq"):
        write(tmp_path / "box" / name, "x")
    done = push("box", "oci:layout:t", cwd=tmp_path)
    assert done.returncode == 0
    assert "box: 2 files are left out, whose names would delete others in a layer: " in done.stderr
    run_tool("skopeo", "copy", "-q", "--insecure-policy", "oci:layout:t", "dir:copy", cwd=tmp_path)
    (found,) = json.loads((tmp_path / "copy/manifest.json").read_text())["layers"]
    with tarfile.open(tmp_path / "copy" / found["digest"].partition(":")[2]) as archive:
        assert [name for name in archive.getnames() if name != "."] == ["./etc", "./etc/passwd"]


@pytest.mark.needs("root", "userns")
@pytest.mark.parametrize("kind", ["directory", "sif"])
def test_an_ordinary_user_pushes_the_same(storage: Path, tree: Path, kind: str) -> None:
    """What is hers in a directory of hers is root's in the image; in an image file owners are what they are."""
    place = storage / f"push-of-a-user-{kind}"
    place.mkdir()
    shutil.copytree(tree / "bin", place / "box/bin", symlinks=True)
    write(place / "box/closed", "x", 0o000)
    digest = ""
    if kind == "sif":
        run_tool("mksquashfs", "box", "box.squashfs", "-quiet", "-no-progress", "-comp", "gzip", cwd=place)
        write_sif(place / "box.sif", [Partition(data=(place / "box.squashfs").read_bytes())])
        digest = pushed("box.sif", "oci:of-root:t", cwd=place)
    else:
        digest = pushed("box", "oci:of-root:t", cwd=place)
    shutil.rmtree(place / "of-root")
    for path in (place, *place.rglob("*")):
        os.chown(path, 10001, 10001, follow_symlinks=False)
    (place / "box/bin/suid").chmod(0o4755)  # which chown takes away
    assert pushed("box.sif" if kind == "sif" else "box", "oci:layout:t", cwd=place, user=True) == digest


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (("none.sif", "oci:layout"), 255, "none.sif: no such image"),
        (("text", "oci:layout"), 255, "text: unknown format"),
        (("text", "text"), 1, 'No transport type URI supplied: "text" (docker://HOST/NAME:TAG'),
        (("text", "ftp://x/y"), 1, "nothing is pushed to ftp:"),
        (("text", "library://a/b/c"), 255, "only those are pushed by oras:// and library://"),
        (("text", "docker:debian"), 1, '"docker:debian" names no image'),
        (("text", "oci:layout:a/b"), 1, '"a/b" is no tag'),
        (("text", "docker-archive:f:no-tag"), 1, "is no tag (NAME:TAG)"),
        (("text", "oci:"), 1, "names no directory"),
        (("--annotation", "x", "text", "oci:layout"), 1, '--annotation "x" says nothing (KEY=VALUE)'),
        (("--layer-format", "squashfs", "text", "oci:layout"), 1, "squashfs"),
        (("text",), 1, "push: URI is missing"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path: Path, words: tuple[str, ...], status: int, message: str) -> None:
    (tmp_path / "text").write_text("no image\n" * 100)
    done = push(*words, cwd=tmp_path)
    assert done.returncode == status
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert (done.stdout, [*(tmp_path / "tmp").iterdir()]) == ("", [])
    assert not (tmp_path / "layout").exists()


@pytest.mark.needs("root")
@pytest.mark.parametrize("layer_format", ["gzip", "zstd", "tar"])
def test_a_full_disk_is_one_line_and_leaves_nothing(
    in_each_format: dict[str, Path], tmp_path: Path, layer_format: str
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    ordinary_user.mount("none", small, "tmpfs", data="size=256k")
    try:
        words = ("--tmpdir", small, "--layer-format", layer_format, in_each_format["sif"], "oci:layout:t")
        done = push(*words, cwd=tmp_path)
        assert done.returncode == 255
        assert done.stderr.count("\n") == 1
        assert "No space left on device" in done.stderr
        assert [*small.iterdir()] == []
    finally:
        subprocess.run(["umount", small], check=True)
    assert not (tmp_path / "layout").exists()
