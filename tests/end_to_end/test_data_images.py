"""Images that hold data: made, bound as a whole or in part, and what launches within learn of binds."""

import subprocess
from pathlib import Path

import pytest
from images import Images, Partition, extfs, squashfs, write_sif
from launching import Launcher, Mode

pytestmark = pytest.mark.needs("fuse", "userns", "mksquashfs")
KINDS = ("squashfs", "ext3", "sif", "sif with a system")


@pytest.fixture
def tree(directory: Path) -> Path:
    place = directory / "tree"
    (place / "below").mkdir(parents=True)
    (place / "file").write_text("seen\n")
    (place / "below/deep").write_text("deep\n")
    return place


def data_image(kind: str, tree: Path, images: Images) -> Path:
    packed = squashfs(tree, tree.parent / "data.sqsh")
    part = Partition(data=packed.read_bytes(), kind=3)
    if kind == "ext3":
        return extfs(tree, tree.parent / "data.ext3", mebibytes=8)
    if kind == "sif":
        return write_sif(tree.parent / "data.sif", [part])
    if kind == "sif with a system":
        return write_sif(tree.parent / "both.sif", [Partition(data=images.squashfs().read_bytes()), part])
    return packed


@pytest.mark.parametrize("kind", KINDS)
def test_data_of_an_image_is_bound(launch: Launcher, images: Images, tree: Path, kind: str) -> None:
    image = data_image(kind, tree, images)
    script = "cat /data/file /data/below/deep; touch /data/new"
    for words in (["-B", f"{image}:/data:image-src=/"], ["--data", f"{image}:/data"]):
        result = launch("exec", *words, images.sandbox, "sh", "-c", script)
        assert (result.out, result.status) == ("seen\ndeep\n", 1), str(result)
        assert "Read-only file system" in result.err
    assert (launch.directory / "data").exists() is False


def test_a_part_of_an_image_is_bound(launch: Launcher, images: Images, tree: Path) -> None:
    """The definition is object 1 of the file."""
    image = data_image("sif with a system", tree, images)
    spec = f"type=bind,src={image},dst=/one/two,image-src=/below,id=3"
    words = ["--mount", spec, "-B", f"{image}:/root:image-src=/etc,id=2,ro"]
    result = launch("exec", *words, images.sif, "cat", "/one/two/deep", "/root/image-name").ok()
    assert result.lines == ["deep", "busybox of the tests"]


def test_a_bind_may_lie_in_the_data(launch: Launcher, images: Images, tree: Path) -> None:
    image = data_image("squashfs", tree, images)
    words = ["-B", f"{tree}/below:/data/below", "-B", f"{image}:/data:image-src=/"]
    (tree / "below/deep").write_text("of the host\n")
    assert launch("exec", *words, images.sandbox, "cat", "/data/below/deep", "/data/file").ok().lines == [
        "of the host",
        "seen",
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("image-src=/missing", "/missing"),
        ("id=7", "no partition 7"),
    ],
)
def test_what_is_not_in_the_image_is_named(
    launch: Launcher, images: Images, tree: Path, options: str, said: str
) -> None:
    image = data_image("sif", tree, images)
    launch("exec", "-B", f"{image}:/data:{options}", images.sandbox, "true").refused(said, "data.sif")


def test_what_cannot_be_meant_is_wrong_usage(launch: Launcher, images: Images, tree: Path) -> None:
    image = data_image("squashfs", tree, images)
    for option, said in (
        (f"--bind={image}:/data:image-src=/,rw", "read-only"),
        (f"--mount=type=bind,src={image},dst=/data,image-src=/,ro=false", "read-only"),
        (f"--bind={image}:/data:id=x", "id=x"),
        (f"--bind={image}:/data:image=/", "nonested"),
        (f"--data={image}", "IMAGE:TARGET"),
        (f"--mount=type=bind,src={image},dst=/data,bind-propagation=shared", "mount slave"),
    ):
        launch("exec", option, images.sandbox, "true").misused(said)
    launch("exec", f"--bind={tree}:/data:image-src=/", images.sandbox, "true").refused("without image-src")
    launch("exec", f"--bind={image}:/data:id=1", images.sandbox, "true").refused("only SIF files")


def test_an_ext3_image_that_is_bound_is_not_written(launch: Launcher, images: Images, tree: Path) -> None:
    """R-I2."""
    image = data_image("ext3", tree, images)
    image.chmod(0o666)
    hold = launch.argv("exec", "--data", f"{image}:/data", images.sandbox, "sh", "-c", "echo ready; read line")
    with launch.start(*hold, stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        launch("exec", "--overlay", image, images.sandbox, "true", timeout=10).refused("in use by process")
        process.communicate(b"\n", timeout=20)


def test_a_launch_within_is_told_of_binds_but_for_some(launch: Launcher, images: Images, tree: Path) -> None:
    image = data_image("squashfs", tree, images)
    words = ["-B", f"{tree}:/a:nonested,ro", "--mount", f"type=bind,src={tree},dst=/b,nonested", "-B", f"{tree}:/c"]
    words += ["--data", f"{image}:/d", "-B", f"{image}:/e:image-src=/,nonested"]
    assert launch("exec", *words, images.sandbox, "sh", "-c", "echo $SINGULARITY_BIND").ok().out == "/c,/d\n"


@pytest.mark.parametrize("kind", ["directory", "squashfs", "ext3"])
def test_build_makes_data_images(launch: Launcher, images: Images, tree: Path, kind: str) -> None:
    source = tree if kind == "directory" else data_image(kind, tree, images)
    target = launch.home_inside / "made.sif"
    build = [launch.prefix / "bin/singularity", "build", "--data", target, source]
    result = launch.command(*build)
    assert result.status == 0, str(result)
    assert launch("exec", "--data", f"{target}:/data", images.sandbox, "cat", "/data/file").ok().out == "seen\n"
    launch.command(*build).refused("exists")
    launch("exec", target, "true").refused("data only")


def test_build_makes_no_data_of_what_is_none(launch: Launcher, images: Images, tree: Path) -> None:
    command = [launch.prefix / "bin/singularity", "build", "--data"]
    target = launch.home_inside / "made.sif"
    launch.command(*command, target, images.sif).refused("a SIF file, and no data")
    launch.command(*command, "--sandbox", target, tree).misused("--data")
    launch.command(*command, target, tree / "missing").refused("missing")


@pytest.mark.modes("suid")
def test_the_user_namespace_is_said(launch: Launcher, images: Images, tree: Path) -> None:
    image = data_image("squashfs", tree, images)
    assert launch.mode is Mode.SUID
    result = launch("exec", "--dry-run", "--data", f"{image}:/data", images.sandbox, "true").ok()
    assert "user namespace" in result.out
    assert f"{image} -> /data [ro,nosuid,nodev] (/ of this image)" in result.out
