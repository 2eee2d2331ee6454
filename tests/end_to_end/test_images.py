"""Every format launches in every mode; what is no image, or a damaged one, is one clear line within seconds."""

import os
import resource
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest
from images import COMPRESSIONS, Images, Partition, extfs, tool, write_sif
from launching import Launcher, Mode

ALL = ("sandbox", "squashfs", "sif", "ext3", "sif-ext3", "2.x")


@pytest.mark.formats(*ALL)
def test_the_root_file_system_is_the_images(launch: Launcher, image: Path) -> None:
    result = launch("exec", image, "sh", "-c", "cat /etc/image-name; test ! -e /etc/debian_version; probe root").ok()
    assert result.lines == ["busybox of the tests", "closed"]


@pytest.mark.formats(*ALL)
def test_an_image_is_read_only(launch: Launcher, image: Path) -> None:
    result = launch("exec", image, "probe", "open", "/etc/image-name", "w").ok()
    assert result.out in {"EROFS\n"} if launch.mode is Mode.ROOT else {"EROFS\n", "EACCES\n"}


@pytest.mark.parametrize("line", [False, True])
@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.modes("suid", "root")
def test_squashfs_of_every_compression_through_the_kernel(
    launch: Launcher, images: Images, compression: str, line: bool
) -> None:
    image = images.squashfs(compression, line=line)
    assert launch("exec", image, "cat", "/etc/image-name").ok().out == "busybox of the tests\n"


@pytest.mark.needs("fuse")
@pytest.mark.parametrize("line", [False, True])
@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.modes("userns")
def test_squashfs_of_every_compression_through_fuse(
    launch: Launcher, images: Images, compression: str, line: bool
) -> None:
    image = images.squashfs(compression, line=line)
    assert launch("exec", image, "cat", "/etc/image-name").ok().out == "busybox of the tests\n"


@pytest.mark.needs("fuse", "fuse2fs")
@pytest.mark.parametrize("kind", ["ext2", "ext3", "ext4"])
def test_extended_file_systems_of_every_generation(launch: Launcher, images: Images, kind: str) -> None:
    assert launch("exec", images.extfs(kind), "cat", "/etc/image-name").ok().out == "busybox of the tests\n"


@pytest.mark.modes("suid")
@pytest.mark.formats("ext3", "sif-ext3", "2.x")
def test_the_kernel_mounts_ext3_where_the_administrator_lets_it(launch: Launcher, image: Path) -> None:
    """R-I4: off unless allowed, and then without another process."""
    allowed = launch.configured("allow setuid-mount extfs = yes\n")
    root = "grep -E '^[0-9]+ [0-9]+ [0-9:]+ [^ ]+ / ' /proc/self/mountinfo"
    script = f"{root} | sed 's/.* - //' | cut -d' ' -f 1; cat /etc/image-name"
    result = allowed("exec", "--no-mount", "cwd", image, "sh", "-c", script).ok()
    assert result.lines == ["ext4", "busybox of the tests"]
    mounts = allowed("exec", image, "cat", "/proc/self/mountinfo").ok().lines
    assert not any(line.split(" - ")[1].split(" ")[0] in {"fuse", "fuse.ext4"} for line in mounts)


@pytest.mark.modes("suid")
@pytest.mark.needs("fuse", "fuse2fs", "userns")
@pytest.mark.formats("ext3", "sif-ext3", "2.x")
def test_the_kernel_does_not_mount_ext3_by_default(launch: Launcher, image: Path) -> None:
    """R-I4: the other way is taken without a word, and with its reason at -v."""
    result = launch("exec", image, "cat", "/proc/self/mountinfo").ok()
    assert not any(" - ext" in line and " / / " in line for line in result.lines)
    result = launch("exec", image, "true", first=["-v"])
    assert "allow setuid-mount extfs" in result.err


@pytest.mark.modes("suid")
@pytest.mark.needs("fuse", "userns")
@pytest.mark.parametrize(
    ("text", "kernel"),
    [
        ("", True),
        ("allow setuid-mount squashfs = yes\n", True),
        ("allow setuid-mount squashfs = no\n", False),
        ("allow setuid-mount squashfs = iflimited\n", False),
        ("allow setuid-mount squashfs = iflimited\nlimit container owners = root\n", True),
    ],
)
def test_who_mounts_squashfs_is_the_administrators_choice(
    launch: Launcher, images: Images, text: str, kernel: bool
) -> None:
    result = launch.configured(text)(
        "exec", images.sif, "sh", "-c", "readlink /proc/self/ns/user; cat /etc/image-name"
    ).ok()
    own = str(Path("/proc/self/ns/user").readlink())
    assert (result.lines[0] == own) is kernel
    assert result.lines[1] == "busybox of the tests"


@pytest.mark.modes("userns")
@pytest.mark.needs("fuse", "fuse2fs")
@pytest.mark.formats("squashfs", "ext3")
def test_the_file_system_server_ends_with_the_program(launch: Launcher, image: Path) -> None:
    """One server while the program runs; that it is gone afterwards every test of this folder checks."""
    argv = launch.argv("exec", image, "sh", "-c", "echo ready; read line")
    with launch.start(*argv, stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.communicate(b"\n", timeout=10)
    assert process.returncode == 0


@pytest.mark.modes("userns")
@pytest.mark.needs("root")
@pytest.mark.formats("squashfs", "ext3")
def test_without_the_fuse_device_one_line_says_so(launch: Launcher, image: Path) -> None:
    launch.changed(fuse=False)("exec", image, "true").refused("/dev/fuse")


@pytest.mark.modes("userns")
@pytest.mark.needs("root", "fuse2fs")
def test_without_the_file_system_server_one_line_names_its_package(
    launch: Launcher, images: Images, directory: Path
) -> None:
    nothing = directory / "nothing"
    nothing.write_text("")
    nothing.chmod(0o644)
    world = launch
    for place in ("/usr/bin", "/usr/local/bin", "/usr/sbin"):
        if Path(place, "fuse2fs").exists():
            world = world.showing(Path(place, "fuse2fs"), nothing)
    world("exec", images.of_format("ext3"), "true").refused("fuse2fs")


@pytest.mark.formats("2.x")
def test_a_2x_image_lies_31_bytes_into_its_file(launch: Launcher, image: Path) -> None:
    assert image.read_bytes()[:31] == b"#!/usr/bin/env run-singularity\n"
    assert launch("exec", image, "sh", "-c", "echo $GREETING").ok().out == "hello from the old image\n"


def test_a_sif_of_another_architecture_is_named(launch: Launcher, images: Images) -> None:
    launch("exec", images.sif_of_another_machine, "true").refused("arm64", "amd64")


def test_a_sif_without_a_root_file_system_is_named(launch: Launcher, images: Images) -> None:
    launch("exec", images.sif_without_a_root, "true").refused("no-root.sif")


@pytest.mark.needs("fuse", "fuse2fs")
def test_the_overlay_partition_of_a_sif_is_used(launch: Launcher, images: Images) -> None:
    result = launch("exec", images.sif_with_overlay, "cat", "/overlaid", "/etc/image-name").ok()
    assert result.lines == ["from the overlay partition", "busybox of the tests"]


@pytest.mark.needs("fuse")
@pytest.mark.formats("sif")
@pytest.mark.parametrize("offset", [512, 4096, 1 << 20])
def test_a_root_partition_may_lie_at_any_offset(
    launch: Launcher, images: Images, directory: Path, form: str, offset: int
) -> None:
    del form
    image = directory / "odd.sif"
    write_sif(image, [Partition(data=images.squashfs().read_bytes())], alignment=offset, definition=b"x" * 3001)
    assert launch("exec", image, "echo", "here").ok().out == "here\n"


@pytest.mark.needs("fuse")
def test_a_root_partition_may_lie_at_an_odd_offset(launch: Launcher, images: Images, directory: Path) -> None:
    """Loop devices take whole sectors only: the way out is found or named."""
    image = directory / "odd.sif"
    write_sif(image, [Partition(data=images.squashfs().read_bytes())], alignment=1, definition=b"x" * 3001)
    assert launch("exec", image, "echo", "here").ok().out == "here\n"


@pytest.mark.needs("fuse")
def test_the_root_partition_may_come_after_many_others(launch: Launcher, images: Images, directory: Path) -> None:
    image = directory / "many.sif"
    data = [Partition(data=b"data object", kind=3) for _ in range(40)]
    write_sif(image, [*data, Partition(data=images.squashfs().read_bytes())])
    assert launch("exec", image, "echo", "here").ok().out == "here\n"


def test_damaged_images_are_one_clear_line(launch: Launcher, images: Images) -> None:
    """R-I7, R-P1."""
    for name, path in images.damaged().items():
        begin = time.monotonic()
        result = launch("exec", path, "true", timeout=10)
        assert time.monotonic() - begin < 5, name
        if "cut-in-half" in name or "behind-the-line-cut" in name:
            assert result.status != 0, f"{name}: {result}"
            assert result.status > 0, f"{name}: {result}"
        else:
            assert result.status == 255, f"{name}: {result}"
            assert len(result.err.splitlines()) == 1, f"{name}: {result}"
            assert result.err.startswith("FATAL:   "), f"{name}: {result}"


def test_what_is_no_image_is_one_clear_line(launch: Launcher, directory: Path) -> None:
    """R-I1: and never waits."""
    os.mkfifo(directory / "fifo")
    (directory / "fifo").chmod(0o666)
    (directory / "loop").symlink_to("loop")
    (directory / "empty").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(directory / "socket"))
        places = [directory / "fifo", directory / "loop", directory / "socket", directory / "missing"]
        places += [
            Path("/dev/null"),
            Path("/dev/zero"),
            Path("/proc/self/maps"),
            Path("/proc/version"),
            Path("/etc/passwd"),
        ]
        for place in places:
            launch("exec", place, "true", timeout=5).refused(str(place))


@pytest.mark.parametrize("words", [["exec", "DIRECTORY", "true"], ["run", "DIRECTORY"], ["shell", "DIRECTORY"]])
def test_a_directory_that_is_no_image_is_said_to_be_none(launch: Launcher, directory: Path, words: list[str]) -> None:
    (directory / "data").mkdir()
    (directory / "data/results").write_text("1\n")
    result = launch(*(word.replace("DIRECTORY", str(directory / "data")) for word in words))
    result.refused("a directory, but no image", "build --sandbox")


def test_a_directory_with_nothing_but_its_program_is_an_image(
    launch: Launcher, images: Images, directory: Path
) -> None:
    (directory / "small").mkdir()
    shutil.copy(images.sandbox / "bin/busybox", directory / "small/echo")
    assert launch("exec", directory / "small", "/echo", "here").ok().out == "here\n"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("x.def", "# one day\n", "a definition file, not an image (build it first: singularity build IMAGE.sif x.def)"),
        (
            "recipe",
            "# of mine\nBootstrap: docker\nFrom: debian\n",
            "build it first: singularity build IMAGE.sif recipe",
        ),
        ("Dockerfile", "ARG X=1\nFROM debian\n", "a Dockerfile, not an image (build it first: singularity build"),
        ("Dockerfile.gpu", "# none\n", "a Dockerfile, not an image"),
        ("notes", "where it came FROM is unknown\n", "unknown format"),
    ],
)
def test_what_an_image_is_built_from_is_to_be_built(
    launch: Launcher, directory: Path, name: str, text: str, said: str
) -> None:
    """In the words of `inspect`: see tests/cli/test_main.py."""
    (directory / name).write_text(text)
    launch("exec", directory / name, "true").refused(said)


@pytest.mark.needs("root")
@pytest.mark.modes("suid", "userns")
def test_an_image_that_the_user_cannot_read_is_refused(launch: Launcher, images: Images, directory: Path) -> None:
    """R-I1, R-L7."""
    image = directory / "locked.sif"
    shutil.copy(images.sif, image)
    image.chmod(0o600)
    launch("exec", image, "true").refused("locked.sif", "Permission denied")
    tree = directory / "locked"
    tree.mkdir(mode=0o700)
    launch("exec", tree, "true").refused("locked", "Permission denied")


@pytest.mark.parametrize("name", ["/", "//", "/.", "/./", "/tmp/..", "/proc/self/root", "/../..", "/usr/../"])
def test_the_hosts_root_is_no_container(launch: Launcher, images: Images, name: str) -> None:
    """R-I6: by whatever name; 2.2 compared the text."""
    del images
    launch("exec", name, "true").refused()


def test_the_hosts_root_behind_a_link_is_no_container(launch: Launcher, directory: Path) -> None:
    """R-I6."""
    (directory / "link").symlink_to("/")
    launch("exec", directory / "link", "true").refused()


@pytest.mark.needs("root")
def test_the_hosts_root_behind_a_bind_is_no_container(launch: Launcher, directory: Path) -> None:
    """R-I6: device and inode tell, not the path."""
    from ordinary_user import MS_BIND, mount

    (directory / "again").mkdir()
    there = launch.changed(as_root=[lambda: mount("/", directory / "again", flags=MS_BIND)])
    there("exec", directory / "again", "true").refused()


@pytest.mark.needs("fuse")
@pytest.mark.modes("suid", "userns")
def test_an_image_can_be_read_only_and_a_link(launch: Launcher, images: Images, directory: Path) -> None:
    image = directory / "stored"
    shutil.copy(images.sif, image)
    image.chmod(0o444)
    (directory / "name.sif").symlink_to(image)
    assert launch("exec", directory / "name.sif", "echo", "here").ok().out == "here\n"


@pytest.mark.needs("mke2fs", "unsanitized")
@pytest.mark.modes("suid", "root")
def test_a_launch_needs_little_memory(launch: Launcher, images: Images, directory: Path) -> None:
    """R-I7: also for an image that says it is large."""
    image = extfs(images.sandbox, directory / "large.ext3", mebibytes=4096)
    limit = 64 << 20

    def bound() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    launcher = launch.configured("allow setuid-mount extfs = yes\n")
    result = launcher.command(*launcher.argv("exec", image, "echo", "here"), before=[bound])
    assert result.ok().out == "here\n"


@pytest.mark.needs("fixtures", "xz", "fuse", "fuse2fs")
class TestImagesOfOtherPrograms:
    """Images made by Singularity 2.2 and Apptainer 1.4.5."""

    def test_an_image_of_2_2(self, launch: Launcher, directory: Path) -> None:
        image = unpacked("busybox-2.2.img.xz", directory)
        assert launch("run", image, "a", "b").ok().out.startswith("old image, 2 arguments")
        assert launch("exec", image, "echo", "here").ok().out == "here\n"

    @pytest.mark.parametrize("name", ["busybox-apptainer-1.4.sif", "busybox-signed.sif", "busybox-overlay.sif.xz"])
    def test_a_sif_of_apptainer(self, launch: Launcher, directory: Path, name: str) -> None:
        image = unpacked(name, directory)
        assert launch("run", image, "a", "b").ok().out == "runscript got 2 arguments: a b\n"
        assert launch("run", "--app", "hello", image, "x").ok().out == "hello from the app x\n"
        assert launch("exec", image, "probe-missing").status == 127


def unpacked(name: str, directory: Path) -> Path:
    import machine

    source = machine.FIXTURES / name
    target = directory / name.removesuffix(".xz")
    if name.endswith(".xz"):
        shutil.copy(source, directory / name)
        tool("xz", "-d", directory / name)
    else:
        shutil.copy(source, target)
    target.chmod(0o755)
    return target
