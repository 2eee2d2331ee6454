"""Kernels that lack something: each call refused by a filter has a tested way around it, or one clear line."""

import errno
from pathlib import Path

import pytest
import syscalls
from images import Images
from launching import Launcher, Mode
from ordinary_user import mount
from syscalls import Refusal

pytestmark = pytest.mark.needs("root")

LACKING = {
    "openat2": (Refusal("openat2"),),
    "openat2-eperm": (Refusal("openat2", errno.EPERM),),
    "open_tree": (Refusal("open_tree"),),
    "move_mount": (Refusal("move_mount"),),
    "fsopen": (Refusal("fsopen"),),
    "mount_setattr": (Refusal("mount_setattr"),),
    "mount-api": syscalls.before_the_new_mount_api(),
    "close_range": (Refusal("close_range"),),
    "clone3": (Refusal("clone3"),),
    "loop-configure": (syscalls.without_loop_configure(),),
    "statx": (Refusal("statx"),),
    "pidfd_open": (Refusal("pidfd_open"),),
    "listmount": (Refusal("statmount"), Refusal("listmount")),
    "initramfs": (Refusal("pivot_root", errno.EINVAL),),
    "linux-4.18": syscalls.before_5_6(),
}


@pytest.mark.parametrize("lacking", LACKING)
@pytest.mark.formats("sandbox", "squashfs", "sif", "ext3")
def test_an_older_kernel_launches_the_same_container(
    launch: Launcher, image: Path, directory: Path, lacking: str
) -> None:
    (directory / "file").write_text("seen\n")
    (directory / "file").chmod(0o666)
    words = [
        "-B",
        f"{directory}:/data",
        "-B",
        f"{directory}/file:/etc/new:ro",
        "-B",
        f"{directory}:/mnt:ro",
        "-S",
        "/scratch",
    ]
    script = (
        "cat /etc/image-name /data/file /etc/new; touch /scratch/x; "
        "probe open /mnt/file w; probe open /etc/new w; probe root; probe fds | wc -l; pwd; "
        "grep ' /mnt ' /proc/self/mountinfo | tail -n 1 | cut -d' ' -f6 | cut -c1-2; "
        "grep ' /data ' /proc/self/mountinfo | cut -d' ' -f6"
    )
    result = launch.changed(refusals=LACKING[lacking])("exec", *words, image, "sh", "-c", script)
    if image.suffix == ".ext3" and launch.mode is not Mode.ROOT and lacking in {"open_tree", "mount-api", "linux-4.18"}:
        result.refused("needs Linux 5.2 or newer")  # the server's mount cannot be taken over by descriptor
        return
    result.ok()
    assert result.lines[:3] == ["busybox of the tests", "seen", "seen"]
    assert result.lines[3:6] == ["EROFS", "EROFS", "closed"]
    assert result.lines[6:9] == ["3", str(launch.home_inside), "ro"]
    assert {"nosuid", "nodev"} <= set(result.lines[9].split(","))


@pytest.mark.parametrize("lacking", ["openat2", "mount-api", "linux-4.18"])
@pytest.mark.formats("sandbox", "sif")
def test_an_older_kernel_contains_too(launch: Launcher, image: Path, lacking: str) -> None:
    older = launch.changed(refusals=LACKING[lacking])
    script = "ls -A /tmp; ls /dev | grep -c loop; echo x > /dev/null; touch ~/x; cat /etc/image-name"
    assert older("exec", "-C", image, "sh", "-c", script).ok().lines == ["0", "busybox of the tests"]


@pytest.mark.parametrize("lacking", ["openat2", "mount-api", "linux-4.18"])
def test_links_of_a_hostile_image_stay_inside_on_older_kernels(
    launch: Launcher, images: Images, directory: Path, lacking: str
) -> None:
    """R-M4: the walk by components is no weaker than openat2."""
    tree = images.hostile_sandbox(
        "old-kernel", [("opt", "../../../../../srv"), ("mnt", "/proc/self/fd/3"), ("etc", "/etc")]
    )
    (directory / "mark").write_text("mark\n")
    older = launch.changed(refusals=LACKING[lacking])
    result = older("exec", "-B", f"{directory}:/opt", "-B", f"{directory}:/mnt", tree, "probe", "root")
    assert result.status in {0, 126, 127, 255}, str(result)
    assert result.out in {"closed\n", ""}
    assert not Path("/srv/mark").exists()


@pytest.mark.modes("suid")
@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOSPC, errno.ENOSYS, errno.EINVAL])
def test_suid_mode_needs_no_user_namespace(launch: Launcher, images: Images, error: int) -> None:
    without = launch.changed(refusals=syscalls.without_user_namespaces(error))
    for image in (images.sandbox, images.sif):
        without("exec", image, "true").ok()


@pytest.mark.modes("userns")
@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOSPC, errno.ENOSYS])
def test_without_user_namespaces_one_line_names_the_setting(launch: Launcher, images: Images, error: int) -> None:
    """An errno that misleads is explained: EPERM, and ENOSPC for user.max_user_namespaces = 0."""
    without = launch.changed(refusals=syscalls.without_user_namespaces(error))
    without("exec", images.sandbox, "true").refused("user namespace")
    if error == errno.ENOSPC:
        without("exec", images.sandbox, "true").refused("max_user_namespaces")


@pytest.mark.modes("suid")
@pytest.mark.formats("ext3")
def test_an_image_kept_from_the_kernel_needs_a_user_namespace(launch: Launcher, image: Path) -> None:
    """One line names the config key or the kernel setting that would let it."""
    without = launch.changed(user_namespaces=False)
    result = without("exec", image, "true").refused("user namespace")
    assert "allow setuid-mount extfs" in result.err, str(result)


@pytest.mark.needs("overlay")
def test_a_sandbox_on_stacked_overlays_takes_no_further_one(launch: Launcher, images: Images, directory: Path) -> None:
    """Overlayfs refuses a third level: bind points are made without it."""
    places = [directory / name for name in ("one", "two", "data")]
    for place in places:
        place.mkdir()
    (places[2] / "file").write_text("seen\n")
    (directory / "empty").mkdir()

    def stack() -> None:
        mount("overlay", places[0], "overlay", data=f"lowerdir={images.sandbox}:{directory}/empty")
        mount("overlay", places[1], "overlay", data=f"lowerdir={places[0]}:{directory}/empty")

    there = launch.changed(as_root=[stack])
    script = "cat /data/deep/file /etc/image-name"
    result = there("exec", "-B", f"{places[2]}:/data/deep", places[1], "sh", "-c", script).ok()
    assert result.lines == ["seen", "busybox of the tests"]


@pytest.mark.needs("overlay")
def test_an_overlay_that_was_asked_for_and_cannot_be_is_one_line(
    launch: Launcher, images: Images, directory: Path
) -> None:
    places = [directory / name for name in ("one", "two")]
    for place in places:
        place.mkdir()
    (directory / "empty").mkdir()

    def stack() -> None:
        mount("overlay", places[0], "overlay", data=f"lowerdir={images.sandbox}:{directory}/empty")
        mount("overlay", places[1], "overlay", data=f"lowerdir={places[0]}:{directory}/empty")

    result = launch.changed(as_root=[stack])("exec", "--writable-tmpfs", places[1], "true")
    if result.status != 0:
        result.refused("overlay")


@pytest.mark.modes("suid", "root")
def test_without_loop_devices_the_way_out_is_taken_or_named(launch: Launcher, images: Images, directory: Path) -> None:
    node = directory / "node"
    node.write_text("")
    without = launch.showing(Path("/dev/loop-control"), node)
    result = without("exec", images.sif, "echo", "here")
    if result.status == 0:
        assert result.out == "here\n"
    else:
        result.refused("loop")


@pytest.mark.modes("suid")
def test_a_mount_table_of_thousands_of_lines_does_not_matter(launch: Launcher, images: Images, directory: Path) -> None:
    """R-M10: with blanks and odd characters in it."""
    places = [directory / f"mount point {number} \\ with\ttab" for number in range(500)]

    def make() -> None:
        for place in places:
            place.mkdir()
            mount("tmpfs", place, "tmpfs", data="size=4k")

    launch.changed(as_root=[make])("exec", images.sandbox, "echo", "here").ok()


@pytest.mark.needs("unsanitized")
def test_without_proc_one_line_says_so(launch: Launcher, images: Images) -> None:
    """R-L9, R-L3: a missing /proc fails loudly or not at all."""

    def cover() -> None:
        mount("tmpfs", "/proc", "tmpfs")

    result = launch.changed(as_root=[cover])("exec", images.sandbox, "echo", "here")
    if result.status == 0:
        assert result.out == "here\n"
    else:
        result.refused("/proc")
    assert launch.mode is not Mode.SUID or result.status == 255, "a false /proc is not trusted"
