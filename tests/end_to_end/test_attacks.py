"""Attacks that once got past the starter, and their sisters: links in overlays, layers that open directories of others,
descriptors of the launcher, places that only look allowed."""

import fcntl
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from images import Images, Partition, extfs, squashfs, tool, write, write_sif
from launch_requests import request_for
from launching import Launcher, Mode
from test_starter import call

pytestmark = pytest.mark.needs("root")

EXTFS_ALLOWED = "allow setuid-mount extfs = yes\n"


def give(path: Path, launch: Launcher) -> Path:
    for place in (path, *path.rglob("*")):
        os.chown(place, launch.account.uid, launch.account.gid, follow_symlinks=False)
    return path


def linked(place: Path, links: dict[str, Path], launch: Launcher) -> Path:
    """An overlay's tree in which these names are links."""
    place.mkdir()
    for name in ("upper", "work"):
        if name in links:
            (place / name).symlink_to(links[name])
        else:
            (place / name).mkdir()
    return give(place, launch)


# ---- R-M11: links as upper and work ----

LINKED = (("upper", "work"), ("upper",), ("work",))


@pytest.mark.needs("mke2fs", "overlay", "fuse", "fuse2fs")
@pytest.mark.parametrize("names", LINKED, ids="-".join)
@pytest.mark.parametrize("readonly", [False, True], ids=["rw", "ro"])
@pytest.mark.formats("sandbox", "sif")
def test_links_in_an_overlay_image_lead_nowhere(
    launch: Launcher, image: Path, directory: Path, names: tuple[str, ...], *, readonly: bool
) -> None:
    """R-M11, R-M13: what a container writes never lands where the author of an overlay image wants it."""
    outside = {name: give(directory / f"outside-{name}", launch) for name in names if make(directory, name)}
    tree = linked(directory / "overlay", outside, launch)
    overlay = give(extfs(tree, directory / "overlay.img", mebibytes=8), launch)
    launcher = launch.configured(EXTFS_ALLOWED)
    option = f"{overlay}:ro" if readonly else str(overlay)
    result = launcher("exec", "--overlay", option, image, "sh", "-c", ": > /made; echo ran")
    assert not any(list(place.iterdir()) for place in outside.values()), str(result)
    if not readonly or "upper" in names:
        result.refused("overlay.img", "no directory")


def make(directory: Path, name: str) -> bool:
    (directory / f"outside-{name}").mkdir()
    return True


@pytest.mark.needs("overlay")
@pytest.mark.parametrize("names", LINKED, ids="-".join)
def test_links_in_an_overlay_directory_lead_nowhere(
    launch: Launcher, images: Images, directory: Path, names: tuple[str, ...]
) -> None:
    """R-M11: for root as well, whose writes would land in any directory of the host."""
    outside = {name: give(directory / f"outside-{name}", launch) for name in names if make(directory, name)}
    tree = linked(directory / "overlay", outside, launch)
    result = launch("exec", "--overlay", tree, images.sandbox, "sh", "-c", ": > /made; echo ran")
    result.refused("overlay", "no directory")
    assert not any(list(place.iterdir()) for place in outside.values())


@pytest.mark.modes("suid", "root")
@pytest.mark.needs("mke2fs", "overlay")
def test_links_in_an_overlay_partition_lead_nowhere(launch: Launcher, images: Images, directory: Path) -> None:
    """R-M11."""
    outside = {name: give(directory / f"outside-{name}", launch) for name in ("upper", "work") if make(directory, name)}
    data = extfs(linked(directory / "overlay", outside, launch), directory / "overlay.ext3", mebibytes=8).read_bytes()
    parts = [Partition(data=images.squashfs().read_bytes()), Partition(data=data, filesystem=2, kind=4)]
    sif = give(write_sif(directory / "linked.sif", parts), launch)
    for option in ([], ["--writable"]):
        result = launch.configured(EXTFS_ALLOWED)("exec", *option, sif, "sh", "-c", ": > /made; echo ran")
        result.refused("linked.sif", "no directory")
    assert not any(list(place.iterdir()) for place in outside.values())


@pytest.mark.modes("suid")
@pytest.mark.needs("mke2fs", "overlay")
def test_copying_up_makes_no_setuid_file_outside(launch: Launcher, images: Images, directory: Path) -> None:
    """R-M13: the whole attack: a root-owned 4755 program in a directory for all is moved inside the container."""
    outside = {name: give(directory / f"outside-{name}", launch) for name in ("upper", "work") if make(directory, name)}
    tree = images.bare_tree(directory / "evil")
    (tree / "d").mkdir()
    (tree / "d").chmod(0o777)
    shutil.copy(images.probe, tree / "d/prog")
    (tree / "d/prog").chmod(0o4755)
    image = squashfs(tree, directory / "evil.squashfs")
    overlay = give(extfs(linked(directory / "o", outside, launch), directory / "o.img", mebibytes=8), launch)
    launch.configured(EXTFS_ALLOWED)("exec", "--overlay", overlay, image, "mv", "/d/prog", "/d/prog2")
    assert not [path for path in (*directory.rglob("prog2"), *directory.rglob("prog")) if tree not in path.parents]


# ---- R-M12: layers of an overlay, and what others keep to themselves ----


@pytest.fixture
def others(launch: Launcher, images: Images, directory: Path) -> Path:
    """A directory image in which private/ is closed to the user, and everything below it open."""
    tree = images.modern_tree(directory / "others")
    write(tree / "private/inner/secret", "secret\n")
    (tree / "private").chmod(0o700)
    os.chown(tree / "private", 0, 0)
    del launch
    return tree


def opening(place: Path, launch: Launcher) -> Path:
    """A layer that says that private/ and private/inner/ are open."""
    (place / "private/inner").mkdir(parents=True)
    for path in (place, place / "private", place / "private/inner"):
        path.chmod(0o755)
    return give(place, launch)


def layered(kind: str, directory: Path, launch: Launcher) -> list[str]:
    """The options that put such a layer of this kind above an image."""
    if kind == "directory-over-squashfs":
        return [*layered("directory", directory, launch), *layered_below(directory, launch)]
    if kind == "tmpfs":
        return ["--writable-tmpfs"]
    tree = opening(directory / "opening", launch)
    if kind == "squashfs":
        return ["--overlay", f"{squashfs(tree, directory / 'opening.squashfs')}:ro"]
    if kind in {"ext3", "ext3-ro"}:
        both = directory / "both"
        both.mkdir()
        tree.rename(both / "upper")
        (both / "work").mkdir()
        image = give(extfs(give(both, launch), directory / "opening.img", mebibytes=8), launch)
        return ["--overlay", f"{image}{':ro' if kind == 'ext3-ro' else ''}"]
    if kind in {"directory", "directory-ro"}:
        place = directory / "overlay"
        place.mkdir()
        tree.rename(place / "upper")
        (place / "work").mkdir()
        return ["--overlay", f"{give(place, launch)}{':ro' if kind == 'directory-ro' else ''}"]
    assert kind == "plain-ro"
    return ["--overlay", f"{tree}:ro"]


def layered_below(directory: Path, launch: Launcher) -> list[str]:
    place = opening(directory / "middle", launch)
    return ["--overlay", f"{squashfs(place, directory / 'middle.squashfs')}:ro"]


LAYERS = ("squashfs", "ext3", "ext3-ro", "directory", "directory-ro", "plain-ro", "directory-over-squashfs", "tmpfs")


@pytest.mark.modes("suid", "userns")
@pytest.mark.needs("mke2fs", "overlay", "fuse", "fuse2fs", "squashfuse")
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("extfs_allowed", [True, False], ids=["extfs", "default"])
def test_no_layer_opens_a_directory_of_others(
    launch: Launcher, others: Path, directory: Path, kind: str, *, extfs_allowed: bool
) -> None:
    """R-M12: the image is a directory of the host, the layer above it the user's."""
    launcher = launch.configured(EXTFS_ALLOWED) if extfs_allowed else launch
    script = "mkdir -p /private/inner; chmod 755 /private; cat /private/inner/secret; ls /private /private/inner; true"
    result = launcher("exec", *layered(kind, directory, launch), others, "sh", "-c", script)
    assert "secret" not in result.out, str(result)


@pytest.mark.modes("suid", "userns")
@pytest.mark.needs("overlay", "squashfuse", "fuse")
@pytest.mark.formats("sif", "sandbox")
@pytest.mark.parametrize("option", [[], ["--writable-tmpfs"]], ids=["ro", "tmpfs"])
def test_no_layer_opens_an_overlay_directory_of_others(
    launch: Launcher, image: Path, directory: Path, option: list[str]
) -> None:
    """R-M12: the lower layer is a directory that the user names as an overlay, the upper one hers."""
    lower = directory / "lower"
    write(lower / "private/inner/secret", "secret\n")
    (lower / "private").chmod(0o700)
    words = ["--overlay", f"{lower}:ro", *layered_below(directory, launch), *option]
    result = launch("exec", *words, image, "sh", "-c", "cat /private/inner/secret; ls /private; true")
    assert "secret" not in result.out, str(result)


@pytest.mark.modes("suid")
@pytest.mark.needs("overlay")
def test_mount_points_that_a_directory_lacks_open_nothing(launch: Launcher, others: Path) -> None:
    """R-M12: no overlay with root's rights is made for them either."""
    for number in range(16):
        (others / f"entry{number}").mkdir()
    words = ["-B", "/usr/share:/private/inner/new", "-B", "/usr/share:/new/deep"]
    for options in (words, words[2:]):
        result = launch("exec", *options, others, "sh", "-c", "cat /private/inner/secret; ls /private; true")
        assert "secret" not in result.out, str(result)


# ---- R-L17, R-M6, R-M2: nothing to reach by descriptor ----


@pytest.mark.formats("sandbox", "sif")
@pytest.mark.parametrize("what", ["fd/{}", "task/1/../../fd/{}", "cwd", "root"])
def test_no_working_directory_leads_out(launch: Launcher, image: Path, what: str) -> None:
    """R-L17, R-M6: the class of CVE-2024-21626."""
    for number in range(3, 14) if "{}" in what else (0,):
        for start in ("/proc/self", "/proc/thread-self"):
            place = f"{start}/{what.format(number)}"
            result = launch("exec", "--cwd", place, image, "sh", "-c", "ls ..; ls; ls -d ../usr/lib")
            result.refused("the working directory")


@pytest.mark.parametrize("number", range(3, 14))
def test_no_link_of_an_image_leads_out_by_the_working_directory(
    launch: Launcher, images: Images, directory: Path, number: int
) -> None:
    """R-L17: as WORKDIR, as the caller's own directory, as the home directory."""
    tree = images.oci_tree(directory / "image", "", f"/proc/self/fd/{number}")
    (tree / "link").symlink_to(f"/proc/self/fd/{number}")
    (tree / "srv").rename(tree / "old")
    (tree / "srv").symlink_to(f"/proc/self/fd/{number}")
    script = "test -e usr/sbin/debootstrap && echo host; test -e ../usr/sbin/debootstrap && echo host; /bin/probe root"
    for words in (["--compat"], ["--contain", "--no-home"], ["--no-mount", "cwd"]):
        result = launch("exec", *words, tree, "/bin/sh", "-c", script, cwd=Path("/srv"))
        assert "host" not in result.lines, str(result)
        assert result.status in {0, 255}, str(result)
    launch("exec", "--cwd", "/link", tree, "true").refused("/link")


@pytest.mark.parametrize("number", range(3, 14))
def test_no_descriptor_of_the_launcher_is_a_bind_source(launch: Launcher, images: Images, number: int) -> None:
    """R-M2, R-L17: /proc/self is the starter's own when it looks a source up."""
    for option in ("-B", "--mount"):
        for start in ("/proc/self/fd", "/proc/thread-self/fd", "/dev/fd"):
            text = f"{start}/{number}:/mnt" if option == "-B" else f"type=bind,src={start}/{number},dst=/mnt"
            result = launch("exec", option, text, images.sandbox, "ls", "/mnt")
            assert result.status == 255, str(result)
    for text in (f"/proc/self/fd/{number}:/root", f"/dev/fd/{number}:/mnt"):
        assert launch("exec", "-H", text, images.sandbox, "true").status == 255


@pytest.mark.parametrize("number", range(3, 12))
def test_no_descriptor_of_the_launcher_is_an_image(launch: Launcher, images: Images, number: int) -> None:
    """R-I1, R-L17."""
    launch("exec", f"/proc/self/fd/{number}", "true").refused()
    launch("exec", "--overlay", f"/proc/self/fd/{number}:ro", images.sandbox, "true").refused()


@pytest.mark.needs("strace")
@pytest.mark.modes("root", "userns")
@pytest.mark.formats("sandbox", "sif")
def test_everything_is_closed_before_the_working_directory_is_entered(
    launch: Launcher, image: Path, directory: Path
) -> None:
    """R-L17: in the order of system calls, the last descriptors go before the directory is looked up."""
    trace = directory / "trace"
    trace.touch()
    trace.chmod(0o666)
    argv = launch.argv("exec", "--cwd", "/usr/share", image, "true")
    launch.command("strace", "-f", "-o", trace, "-e", "trace=close_range,openat2,pivot_root,execve", *argv).ok()
    lines = trace.read_text().splitlines()
    pivoted = next(i for i, line in enumerate(lines) if "pivot_root(" in line)
    entered = next(i for i, line in enumerate(lines) if i > pivoted and '"/usr/share"' in line)
    closed = [line for line in lines[pivoted:entered] if "close_range(3, 4294967295, 0)" in line and "= 0" in line]
    assert closed, "\n".join(lines)


# ---- R-I5, R-I6, R-I8, R-I9: places that only look allowed ----


@pytest.mark.modes("suid")
def test_the_hosts_root_is_no_overlay(launch: Launcher, images: Images, directory: Path) -> None:
    """R-I6: by any name."""
    (directory / "link").symlink_to("/")
    for name in ("/", "/.", "/usr/..", str(directory / "link")):
        for option in (":ro", ""):
            launch("exec", "--overlay", f"{name}{option}", images.sandbox, "ls", "/").refused("root directory")


@pytest.mark.modes("suid")
def test_a_limit_on_paths_is_not_got_round_by_another_mount_namespace(
    launch: Launcher, images: Images, directory: Path
) -> None:
    """R-I5, R-I8: an image that a namespace of the user's own shows in an allowed place."""
    allowed = directory / "allowed"
    allowed.mkdir()
    limited = launch.configured(f"limit container paths = {allowed}\n")
    mine = directory / "mine.sif"
    shutil.copy(images.sif, mine)
    mine.chmod(0o755)
    limited("exec", mine, "true").refused("limit container paths")
    mark = directory / "ready"
    mark.touch()
    mark.chmod(0o666)
    script = f"mount --bind {directory} {allowed} && echo $$ > {mark} && exec sleep 60"
    with launch.start("unshare", "-Urm", "sh", "-c", script) as process:
        try:
            deadline = time.monotonic() + 20
            while not mark.read_text().strip():
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.01)
            there = f"/proc/{mark.read_text().strip()}/root{allowed}/mine.sif"
            result = limited("exec", there, "echo", "ran")
        finally:
            process.kill()
            process.communicate()
    assert result.out == "", str(result)
    assert result.status == 255, str(result)


@pytest.mark.modes("suid")
@pytest.mark.needs("fuse", "squashfuse")
@pytest.mark.parametrize("limit", ["owners = root", "groups = root", "paths = /"])
def test_where_images_are_limited_none_lies_in_a_file_system_of_a_user(
    launch: Launcher, images: Images, directory: Path, limit: str
) -> None:
    """R-I8: its server says that everything is root's."""
    tree = directory / "tree"
    tree.mkdir()
    shutil.copy(images.sif, tree / "rooted.sif")
    outer = squashfs(tree, directory / "outer.squashfs")
    place = directory / "mounted"
    place.mkdir()

    def serve() -> None:
        subprocess.run(["squashfuse", "-o", "allow_other", outer, place], check=True, timeout=20)

    served = launch.changed(as_root=[serve])
    inside = launch.configured(f"limit container {limit}\n").changed(as_root=[serve])
    try:
        seen = served("exec", place / "rooted.sif", "readlink", "/proc/self/ns/user").ok().out.strip()
        assert seen != os.readlink("/proc/self/ns/user"), "a user's server must not be what the kernel waits for"
        inside("exec", place / "rooted.sif", "true").refused("FUSE", "limit container")
    finally:
        tool("sh", "-c", f"umount -l {place} 2>/dev/null || true")


@pytest.mark.modes("suid")
@pytest.mark.parametrize("kind", ["sif", "sandbox"])
@pytest.mark.parametrize("name", ["the image", "the limit", "neither"])
def test_a_limit_on_paths_goes_by_identity(
    launch: Launcher, images: Images, directory: Path, kind: str, name: str
) -> None:
    """R-I5: one directory, two names: /srv shows it; the program that a name leads to does not count."""
    allowed = directory / "allowed"
    (allowed / "deep").mkdir(parents=True)
    copy = allowed / "deep/image"
    shutil.copytree(images.sandbox, copy, symlinks=True) if kind == "sandbox" else shutil.copy(images.sif, copy)
    shown = launch.showing(Path("/srv"), allowed)
    limit = {"the image": allowed, "the limit": Path("/srv"), "neither": allowed / "deep/other"}[name]
    limited = shown.configured(f"limit container paths = {limit}\n")
    for image in (copy, Path("/srv/deep/image")):
        result = limited("exec", image, "true")
        result.refused("limit container paths") if name == "neither" else result.ok()
    limited("exec", images.sif, "true").refused("limit container paths")


@pytest.mark.modes("suid")
def test_a_limit_holds_for_overlays(launch: Launcher, images: Images, directory: Path) -> None:
    """R-I5, R-I9."""
    overlay = squashfs(give(images.bare_tree(directory / "tree"), launch), directory / "over.squashfs")
    limited = launch.configured(f"limit container paths = {images.directory}\n")
    limited("exec", images.sif, "true").ok()
    limited("exec", "--overlay", f"{overlay}:ro", images.sif, "true").refused("limit container paths")


def test_modes_are_what_the_tests_say(launch: Launcher, images: Images) -> None:
    """The attacks above mean something only where the setuid starter itself is at work."""
    seen = launch("exec", images.sif, "readlink", "/proc/self/ns/user").ok().out.strip()
    own = os.readlink("/proc/self/ns/user")
    assert (seen == own) == (launch.mode is not Mode.USERNS)


@pytest.mark.modes("suid", "userns")
@pytest.mark.needs("fuse", "fuse2fs")
@pytest.mark.formats("ext3", "sif")
def test_a_readers_lock_keeps_nobody_out(launch: Launcher, image: Path) -> None:
    """R-I9: who can only read an image can lock it, as far as flock(2) goes, and blocks no launch of others."""
    with image.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        begin = time.monotonic()
        launch("exec", image, "true").ok()
        assert time.monotonic() - begin < 20


@pytest.mark.modes("suid")
def test_a_forged_home_is_not_shown_where_binds_are_not_allowed(
    launch: Launcher, images: Images, directory: Path
) -> None:
    """R-I9: `account_home` of a request is any directory of the host; only the one that /etc/passwd names is shown."""
    limited = launch.configured("user bind control = no\n")
    (directory / "roots").mkdir()
    (directory / "own").mkdir()
    os.chown(directory / "own", launch.account.uid, launch.account.gid)
    for home in (launch.home_inside, directory / "own", directory / "roots", Path("/usr/share"), Path("/etc")):
        octets = request_for(images.sif, ("account_home", os.fsencode(home)))
        result = call(limited, [b"sexec", b"5", b"cat", b"/proc/self/mountinfo"], octets=octets)
        assert "proc" in result.out, str(result)
        assert (f" {home} rw," in result.out) == (home == launch.home_inside), str(result)


NV, FABRIC, MPI = 0, 2, 3
LIBS = "/.singularity.d/libs"
FORGED_LIBRARIES = {
    "the root directory": (NV, "/", "/x"),
    "a directory under a library's name": (NV, "/etc", f"{LIBS}/libcuda.so.1"),
    "a file under a library's name": (NV, "/etc/hostname", f"{LIBS}/libcuda.so.1"),
    "a link of the user's own": (NV, "HOME/libcuda.so.1", f"{LIBS}/libcuda.so.1"),
    "a file under a program's name": (NV, "/etc/hostname", "/usr/bin/nvidia-smi"),
    "a link under a program's name": (NV, "HOME/nvidia-smi", "/usr/bin/nvidia-smi"),
    "a path beside the lists": (FABRIC, "/etc/hostname", "/etc/hostname"),
    "a path out of the lists": (FABRIC, "/etc/libibverbs.d/../hostname", "/etc/libibverbs.d/../hostname"),
    "settings of an MPI": (MPI, "/etc", "/etc"),
    "a link as an MPI": (MPI, "HOME/libmpi.so.40", f"{LIBS}/libmpi.so.40"),
    "a link as settings of an MPI": (MPI, "HOME/openmpi", f"{LIBS}/openmpi"),
    "a family that is none": (9, "/etc/hostname", f"{LIBS}/libcuda.so.1"),
}


@pytest.mark.modes("suid")
@pytest.mark.parametrize("case", FORGED_LIBRARIES)
def test_a_forged_library_is_not_shown_where_binds_are_not_allowed(
    launch: Launcher, images: Images, directory: Path, case: str
) -> None:
    """R-I9: what the site's lists do not name stays out, whoever asks for it."""
    home = directory / "links"
    home.mkdir()
    for name, to in (("libcuda.so.1", "/etc/hostname"), ("nvidia-smi", "/bin/ls"), ("libmpi.so.40", "/etc/hostname")):
        (home / name).symlink_to(to)
    (home / "openmpi").symlink_to("/etc")
    number, source, target = FORGED_LIBRARIES[case]
    first, second = (os.fsencode(text.replace("HOME", str(home))) for text in (source, target))
    for limited in (True, False):
        launcher = launch.configured("user bind control = no\n") if limited else launch
        octets = request_for(images.sif, ("library", (number, first, second)))
        result = call(launcher, [b"sexec", b"5", b"cat", b"/proc/self/mountinfo"], octets=octets)
        points = [line.split()[4] for line in result.lines]
        assert "/proc" in points or not limited, str(result)
        shown = [point for point in points if point == target.replace("HOME", str(home)) or point == "/x"]
        assert not (limited and shown), str(result)
        if case == "a file under a library's name":
            assert limited or shown, "what is forged here works where users may bind"


@pytest.mark.formats("sif", "sandbox", "ext3")
@pytest.mark.parametrize("option", [(), ("--writable-tmpfs",)], ids=["ro", "tmpfs"])
def test_what_the_starter_works_in_is_no_bind_source(launch: Launcher, image: Path, option: tuple[str, ...]) -> None:
    """R-L17, R-M2: by its plain path, where it is mounted, and below a directory that is bound as a whole."""
    place = launch.prefix / "var/singularity/mnt"
    script = f"ls /mnt /mnt/mnt /mnt/{place.name} /mnt/var/singularity/mnt 2>/dev/null; : > /mnt/new && rm /mnt/new"
    binds = [("-B", f"{source}:/mnt") for source in (place, place.parent, launch.prefix)]
    for words in (*binds, ("-H", f"{place}:/mnt")):
        result = launch("exec", *option, *words, image, "sh", "-c", script)
        assert not {"part0", "upper", "under", "layer", "root"} & set(result.lines), str(result)


@pytest.mark.modes("suid", "userns")
def test_what_the_starter_works_in_is_no_image(launch: Launcher) -> None:
    """R-L17: nor is a directory above it, with the programs of the host."""
    words = [word for name in ("lib", "lib64", "usr") for word in ("-B", f"/{name}:/{name}:ro")]
    result = launch("exec", *words, launch.prefix, "/usr/bin/ls", "/var/singularity", "/var/singularity/mnt").ok()
    assert "mnt" in result.lines, str(result)
    assert "part0" not in result.lines, str(result)


# ---- R-I4, R-C4: what the kernel may mount goes by the partition that is mounted ----


@pytest.mark.modes("suid")
@pytest.mark.needs("mke2fs", "overlay", "fuse", "fuse2fs")
@pytest.mark.parametrize("readonly", [False, True], ids=["rw", "ro"])
def test_the_kernel_mounts_no_ext3_of_an_overlay_that_is_a_sif(
    launch: Launcher, images: Images, directory: Path, *, readonly: bool
) -> None:
    """R-I4: the squashfs beside it, which the kernel may mount, does not speak for the partition that is used."""
    tree = linked(directory / "overlay", {}, launch)
    write(tree / "upper/mark", "of the overlay\n")
    data = extfs(give(tree, launch), directory / "overlay.ext3", mebibytes=8).read_bytes()
    parts = [Partition(data=images.squashfs().read_bytes()), Partition(data=data, filesystem=2, kind=4)]
    sif = give(write_sif(directory / "overlay.sif", parts), launch)
    option = f"{sif}:ro" if readonly else str(sif)
    script = "readlink /proc/self/ns/user; cat /mark"
    for text, allowed in (("", False), (EXTFS_ALLOWED, True)):
        result = launch.configured(text)("exec", "--overlay", option, images.sif, "sh", "-c", script).ok()
        namespace, mark = result.lines
        assert mark == "of the overlay"
        assert (namespace == os.readlink("/proc/self/ns/user")) == allowed, str(result)


@pytest.mark.modes("suid")
@pytest.mark.needs("mke2fs", "overlay", "fuse", "fuse2fs", "squashfuse")
def test_the_kernel_mounts_no_squashfs_partition_where_only_ext3_is_allowed(
    launch: Launcher, images: Images, directory: Path
) -> None:
    """R-I4: an overlay partition that is a squashfs, in a SIF whose root file system is an ext3."""
    root = extfs(images.sandbox, directory / "root.ext3", mebibytes=24).read_bytes()
    parts = [
        Partition(data=root, filesystem=2),
        Partition(data=images.squashfs().read_bytes(), kind=4),
    ]
    sif = write_sif(directory / "both.sif", parts)
    for squash, allowed in (("no", False), ("yes", True)):
        limited = launch.configured(f"{EXTFS_ALLOWED}allow setuid-mount squashfs = {squash}\n")
        result = limited("exec", sif, "readlink", "/proc/self/ns/user").ok()
        assert (result.out.strip() == os.readlink("/proc/self/ns/user")) == allowed, str(result)


# ---- R-I9: devices ----


@pytest.mark.modes("suid")
@pytest.mark.parametrize("name", ["openmpi", "ucx"])
def test_a_forged_library_of_an_mpi_is_not_shown_as_a_device(
    launch: Launcher, images: Images, directory: Path, name: str
) -> None:
    """R-I9: below /dev, too, it must be root who has named it; a link of the user's leads anywhere."""
    mine = directory / "mine"
    mine.mkdir()
    write(mine / "secret", "shown\n")
    place = Path(f"/dev/shm/attack-{os.getpid()}")
    place.mkdir()
    try:
        (place / name).symlink_to(mine)
        give(place, launch)
        there = os.fsencode(place / name)
        limited = launch.configured("user bind control = no\n")
        octets = request_for(images.sif, ("contain", True), ("library", (MPI, there, there)))
        result = call(limited, [b"sexec", b"5", b"cat", b"/proc/self/mountinfo", there + b"/secret"], octets=octets)
        assert "/dev/shm" in result.out, str(result)
        assert "shown" not in result.lines, str(result)
    finally:
        shutil.rmtree(place)


# ---- R-I8: overlays in a mount namespace of the user's own ----


def stand_in_an_own_namespace(image: Path, home: Path) -> None:
    """As the user: serves the image, lays an overlay over it in a namespace of her own, and stands in there."""
    for name in ("served", "lower", "seen"):
        (home / name).mkdir()
    subprocess.run(["squashfuse", image, home / "served"], check=True, timeout=20)
    (home / "served").stat()  # an overlay takes its mode from what is known of it
    command = f"mount -t overlay overlay -o lowerdir={home}/served:{home}/lower {home}/seen && echo && exec sleep 3"
    words = ["unshare", "-Urm", "--propagation", "private", "sh", "-c", command]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(1) == b"\n"
        os.chdir(f"/proc/{process.pid}/root{home}/seen")
        process.returncode = 0  # it goes on, and is not waited for here


@pytest.mark.modes("suid")
@pytest.mark.needs("fuse", "squashfuse", "overlay")
@pytest.mark.parametrize("limit", ["", "limit container owners = root\n", "limit container groups = root\n"])
def test_no_overlay_is_found_by_the_current_directory(
    launch: Launcher, images: Images, directory: Path, limit: str
) -> None:
    """R-I8: a name without its place is looked up where the caller stands, in another mount namespace, and there lies
    as root's, and in no FUSE file system, what a server of the user's makes up."""
    for name in ("inner", "outer"):
        (directory / name).mkdir()
    write(directory / "inner/mark", "of the overlay\n")
    squashfs(directory / "inner", directory / "outer/rooted")
    outer = squashfs(directory / "outer", directory / "outer.squashfs")
    octets = request_for(images.sif, ("overlay", (1, b"rooted", b"")))
    before = [lambda: stand_in_an_own_namespace(outer, launch.home_inside)]
    result = call(launch.configured(limit), [b"sexec", b"5", b"cat", b"/mark"], octets=octets, before=before)
    result.refused("rooted")


@pytest.mark.parametrize("options", [["--no-privs"], ["-u"], []])
def test_no_process_of_ours_shows_a_program_of_the_host(launch: Launcher, images: Images, options: list[str]) -> None:
    """CVE-2019-5736: the one that waits executes a file of the installation."""
    if launch.mode is Mode.ROOT and options == []:
        pytest.skip("root with all capabilities is root of the host")
    if launch.mode is not Mode.ROOT and options == ["--no-privs"]:
        pytest.skip("for root alone")
    look = "for each in exe environ; do head -c 1 /proc/1/$each; done; ls /proc/1/root/; readlink /proc/1/fd/*"
    result = launch("exec", "--pid", *options, images.sandbox, "sh", "-c", f"({look}) 2>/dev/null; true")
    assert result.ok().out == "", str(result)
