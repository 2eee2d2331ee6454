"""Writing: into the image, into memory, into overlays; and what keeps two writers apart."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from images import Images, Partition, extfs, squashfs, tool, write_sif
from launching import Launcher, Mode

pytestmark = pytest.mark.needs("mke2fs")


def give(path: Path, launch: Launcher) -> Path:
    """Hands a file or tree to the user of this mode."""
    if os.geteuid() == 0:
        for place in (path, *path.rglob("*")):
            os.chown(place, launch.account.uid, launch.account.gid, follow_symlinks=False)
    return path


@pytest.fixture
def own_sandbox(launch: Launcher, images: Images, directory: Path) -> Path:
    return give(images.modern_tree(directory / "sandbox"), launch)


@pytest.fixture
def own_ext3(launch: Launcher, images: Images, directory: Path) -> Path:
    """A 2.x image whose files belong to the user."""
    tree = give(images.old_tree(directory / "tree"), launch)
    return give(extfs(tree, directory / "own.img", line=True, mebibytes=16), launch)


def check_clean(image: Path, offset: int) -> None:
    """The file system in the image is whole."""
    plain = image.with_suffix(".plain")
    plain.write_bytes(image.read_bytes()[offset:])
    tool("e2fsck", "-fn", plain)
    plain.unlink()


@pytest.mark.parametrize("option", ["-w", "--writable"])
def test_a_sandbox_can_be_written(launch: Launcher, own_sandbox: Path, option: str) -> None:
    launch("exec", option, own_sandbox, "sh", "-c", "echo x > /made; rm /opt/data").ok()
    assert (own_sandbox / "made").read_text() == "x\n"
    assert (own_sandbox / "made").stat().st_uid == launch.account.uid
    assert not (own_sandbox / "opt/data").exists()


@pytest.mark.needs("fuse", "fuse2fs")
def test_an_ext3_image_can_be_written(launch: Launcher, own_ext3: Path) -> None:
    launch("exec", "--writable", own_ext3, "sh", "-c", "echo x > /made; sync").ok()
    assert launch("exec", own_ext3, "cat", "/made").ok().out == "x\n"
    check_clean(own_ext3, 31)


@pytest.mark.modes("suid")
def test_an_ext3_image_can_be_written_through_the_kernel(launch: Launcher, own_ext3: Path) -> None:
    allowed = launch.configured("allow setuid-mount extfs = yes\n")
    allowed("exec", "--writable", own_ext3, "sh", "-c", "echo x > /made").ok()
    assert allowed("exec", own_ext3, "cat", "/made").ok().out == "x\n"
    check_clean(own_ext3, 31)


@pytest.mark.formats("squashfs", "sif")
def test_what_cannot_be_written_says_so(launch: Launcher, image: Path) -> None:
    result = launch("exec", "-w", image, "true")
    result.refused("--writable-tmpfs", "overlay create", "--writable")
    if launch.mode is Mode.ROOT:  # others may not write to the file at all
        assert "(--writable: " in result.err
        launch("exec", image, "true", env={"SINGULARITY_WRITABLE": "1"}).refused("(SINGULARITY_WRITABLE: ")


@pytest.mark.needs("fuse", "fuse2fs")
@pytest.mark.modes("suid", "userns")
def test_an_overlay_of_another_owner_says_which_one_to_use(launch: Launcher, images: Images) -> None:
    """It was told to use --fakeroot, which had been given. With all the ids of the site root may write for each."""
    alone = launch.showing(Path("/etc/subuid"), Path("/dev/null"))
    singularity = launch.prefix / "bin/singularity"
    launch.command(singularity, "overlay", "create", "--size", "64", launch.home_inside / "own.img").ok()
    launch.command(singularity, "overlay", "create", "--fakeroot", "--size", "64", launch.home_inside / "root.img").ok()
    for name, words, said in (
        ("own.img", ["-f"], "overlay create --fakeroot"),
        ("root.img", [], "with --fakeroot where"),
    ):
        alone("exec", *words, "--overlay", launch.home_inside / name, images.sandbox, "true").refused(name, said)
    for name, words in (("own.img", []), ("root.img", ["-f"])):
        launch("exec", *words, "--overlay", launch.home_inside / name, images.sandbox, "true").ok()


@pytest.mark.needs("fuse", "fuse2fs")
@pytest.mark.modes("suid", "userns")
@pytest.mark.parametrize("options", [[], ["--writable-tmpfs"]], ids=["read-only", "memory"])
def test_what_was_removed_is_gone_for_readers(launch: Launcher, own_sandbox: Path, options: list[str]) -> None:
    """An ext3 overlay that FUSE shows: marks of removal are those of who wrote it."""
    overlay = launch.home_inside / "o.img"
    launch.command(launch.prefix / "bin/singularity", "overlay", "create", "--size", "64", overlay).ok()
    remove = "busybox rm /etc/image-name && busybox rm -r /scif/apps && mkdir /scif/apps && ls -A /scif/apps"
    assert launch("exec", "--overlay", overlay, own_sandbox, "/bin/busybox", "sh", "-c", remove).ok().out == ""
    look = "ls -A /scif/apps; cat /etc/image-name 2>/dev/null || echo gone"
    done = launch("exec", *options, "--overlay", f"{overlay}:ro", own_sandbox, "/bin/busybox", "sh", "-c", look)
    assert done.ok().out == "gone\n"


@pytest.mark.needs("root")
@pytest.mark.modes("suid", "userns")
def test_an_image_that_the_user_may_not_write_is_refused(launch: Launcher, images: Images) -> None:
    """R-I2."""
    launch("exec", "-w", images.extfs(), "touch", "/made").refused("bare.ext3")
    result = launch("exec", "-w", images.sandbox, "touch", "/made")
    assert result.status != 0
    assert not (images.sandbox / "made").exists()


@pytest.mark.needs("fuse", "fuse2fs")
def test_a_writer_keeps_others_out(launch: Launcher, own_ext3: Path) -> None:
    """R-I2: a clear error within a second, or one file system for all; data is never lost."""
    hold = launch.argv("exec", "-w", own_ext3, "sh", "-c", "echo one > /one; echo $$ $PPID; read line; echo two > /two")
    with launch.start(*hold, stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        holders = process.stdout.readline().decode().split()
        second = launch("exec", "-w", own_ext3, "sh", "-c", "echo three > /three", timeout=10)
        reader = launch("exec", own_ext3, "true", timeout=10)
        expand = launch.command(launch.prefix / "bin/singularity", "expand", own_ext3)
        process.communicate(b"\n", timeout=20)
    assert process.returncode == 0
    said_by = (
        (second, "is in use by process "),
        (reader, "is being written by process "),
        (expand, "in use by process "),
    )
    for result, said in said_by:
        assert result.refused("own.img", said).err.partition(said)[2].split()[0].rstrip(":") in holders
    assert len(launch("exec", own_ext3, "cat", "/one", "/two").ok().lines) == 2
    check_clean(own_ext3, 31)


@pytest.mark.needs("fuse", "fuse2fs")
def test_readers_keep_a_writer_out_and_not_each_other(launch: Launcher, own_ext3: Path) -> None:
    """R-I2."""
    hold = launch.argv("exec", own_ext3, "sh", "-c", "echo $$ $PPID; read line")
    with launch.start(*hold, stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        holders = process.stdout.readline().decode().split()
        launch("exec", own_ext3, "true").ok()
        writer = launch("exec", "-w", own_ext3, "sh", "-c", "echo x > /made", timeout=10)
        process.communicate(b"\n", timeout=20)
    said = "is in use by process "
    assert writer.refused("own.img", said).err.partition(said)[2].split()[0].rstrip(":") in holders
    launch("exec", "-w", own_ext3, "sh", "-c", "echo x > /made").ok()
    check_clean(own_ext3, 31)


@pytest.mark.needs("overlay")
@pytest.mark.formats("sandbox", "squashfs", "sif", "ext3")
def test_writable_tmpfs_takes_writes_and_forgets_them(launch: Launcher, image: Path) -> None:
    script = "echo x > /home/made && echo y > /tmp/../opt/made; cat /opt/made; rm /opt/script; ls /opt"
    result = launch("exec", "--writable-tmpfs", image, "sh", "-c", "echo y > /made; cat /made")
    if launch.mode is Mode.ROOT:
        assert result.ok().out == "y\n"
        assert "script" not in launch("exec", "--writable-tmpfs", image, "sh", "-c", script).out
    assert launch("exec", image, "ls", "/").ok().out.count("made") == 0


@pytest.mark.needs("overlay")
@pytest.mark.modes("suid", "userns")
def test_writable_tmpfs_is_the_users_where_the_image_is(launch: Launcher, own_sandbox: Path) -> None:
    result = launch(
        "exec", "--writable-tmpfs", own_sandbox, "sh", "-c", "echo x > /made; rm /opt/data; cat /made; ls /opt"
    ).ok()
    assert result.lines[0] == "x"
    assert "data" not in result.lines
    assert not (own_sandbox / "made").exists()
    assert (own_sandbox / "opt/data").exists()


@pytest.mark.needs("overlay")
def test_the_memory_for_writes_is_bounded(launch: Launcher, own_sandbox: Path) -> None:
    configured = launch.configured("sessiondir max size = 2\n")
    script = "dd if=/dev/zero of=/made bs=1M count=4"
    result = configured("exec", "--writable-tmpfs", own_sandbox, "sh", "-c", script)
    assert result.status == 1, str(result)
    assert "No space left" in result.err


def empty(directory: Path, name: str) -> Path:
    (directory / name).mkdir()
    return directory / name


def until(done: Callable[[], bool]) -> None:
    """Waits for what comes after the end of a program; five seconds at most."""
    deadline = time.monotonic() + 5
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def layer(directory: Path, name: str, launch: Launcher) -> Path:
    place = directory / name
    (place / "upper").mkdir(parents=True)
    (place / "work").mkdir()
    (place / "upper/who").write_text(f"{name}\n")
    return give(place, launch)


@pytest.mark.needs("overlay", "userns")
@pytest.mark.formats("sandbox", "squashfs", "sif")
def test_an_overlay_directory_keeps_what_is_written(launch: Launcher, image: Path, directory: Path) -> None:
    over = directory / "over"
    over.mkdir()
    give(over, launch)
    for _ in range(2):
        script = "mkdir -p /kept 2>/dev/null; echo x >> /kept/lines; wc -l < /kept/lines"
        result = launch("exec", "--overlay", over, image, "sh", "-c", script)
        assert result.status == 0, str(result)
    assert result.out == "2\n"
    assert (over / "upper/kept/lines").read_text() == "x\nx\n"


@pytest.mark.needs("overlay", "userns")
def test_an_overlay_directory_has_one_writer(launch: Launcher, images: Images, directory: Path) -> None:
    """The kernel says nothing of a second one, and mixes what both write; also a process that is left behind is one."""
    over = give(empty(directory, "over"), launch)
    leave = "sh -c 'read line; echo two > /two' <&3 & echo $$ $PPID"
    hold = launch.argv("exec", "--overlay", over, images.sandbox, "sh", "-c", f"exec 3<&0; echo one > /one; {leave}")
    with launch.start(*hold, stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        holders = process.stdout.readline().decode().split()
        second = launch("exec", "--overlay", over, images.sandbox, "touch", "/three", timeout=10)
        said = "over is in use by process "
        assert second.refused(said).err.partition(said)[2].split()[0].rstrip(":") in holders
        process.communicate(b"\n", timeout=20)
    assert process.returncode == 0
    until(lambda: launch("exec", "--overlay", over, images.sandbox, "cat", "/one", "/two").out == "one\ntwo\n")


@pytest.mark.needs("overlay")
def test_memory_for_writes_is_not_scarce_by_default(launch: Launcher, own_sandbox: Path) -> None:
    script = "dd if=/dev/zero of=/made bs=1M count=80 2>/dev/null && wc -c < /made"
    assert launch("exec", "--writable-tmpfs", own_sandbox, "sh", "-c", script).ok().out == f"{80 << 20}\n"


@pytest.mark.needs("overlay", "userns")
@pytest.mark.parametrize("end", ["exit", "killed", "left"])
def test_what_is_written_goes_to_disk_with_workdir(
    launch: Launcher, own_sandbox: Path, directory: Path, end: str
) -> None:
    """And is gone when the last process of the container is, however it ended."""
    work = give(empty(directory, "work"), launch)
    program = {"exit": "read line", "killed": "read line", "left": "exec 3<&0; read line <&3 &"}[end]
    script = f"echo x > /made; mkdir -p /closed/in; chmod 0 /closed; echo ready; {program}"
    words = ["--writable-tmpfs", "--workdir", work, own_sandbox, "sh", "-c", script]
    with launch.start(*launch.argv("exec", *words), stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert [each.read_text() for each in work.glob("writable.*/upper/made")] == ["x\n"]
        assert launch("exec", "--writable-tmpfs", "--workdir", work, own_sandbox, "sh", "-c", "echo >> /other").ok()
        if end == "left":
            assert process.wait(10) == 0
            assert list(work.iterdir()) != []
        if end == "killed":
            process.kill()
        process.communicate(b"\n", timeout=20)
    until(lambda: list(work.iterdir()) == [])
    assert not (own_sandbox / "made").exists()


@pytest.mark.needs("overlay", "userns")
@pytest.mark.modes("suid", "userns")
def test_files_of_other_ids_are_gone_from_disk_as_well(launch: Launcher, own_sandbox: Path, directory: Path) -> None:
    work = give(empty(directory, "work"), launch)
    script = f"mkdir /d && chown 5:5 /d && stat -c %u /d; ls {work}"
    words = ["--fakeroot", "--writable-tmpfs", "--workdir", work, own_sandbox, "sh", "-c", script]
    assert launch("exec", "-B", work, *words).ok().lines[0] == "5"
    until(lambda: list(work.iterdir()) == [])


@pytest.mark.needs("overlay", "userns")
def test_what_a_killed_launch_left_is_removed_by_the_next(launch: Launcher, own_sandbox: Path, directory: Path) -> None:
    """R-F6: one's own, and nothing that lies elsewhere; root's launch removes nothing of whose directory it is."""
    old, new, foreign = (directory / f"work/writable.{number}.0" for number in (1, 2, 3))
    kept = directory / "kept/file"
    kept.parent.mkdir()
    kept.touch()
    for place in (old, new, foreign):
        (place / "upper/in").mkdir(parents=True)
        (place / "upper/in/elsewhere").symlink_to(kept.parent)
        (place / "lock").touch()
    (old / "upper/closed/in").mkdir(parents=True)
    (old / "upper/closed").chmod(0)
    for place in (old, foreign):
        os.utime(place / "lock", (1, 1))
    work = give(directory / "work", launch)
    os.chown(foreign, 10002, 10002)
    launch("exec", "--writable-tmpfs", "--workdir", work, own_sandbox, "true").ok()
    until(lambda: sorted(work.iterdir()) == [new, foreign])
    assert (foreign / "lock").exists()
    assert kept.exists()


@pytest.mark.needs("overlay")
@pytest.mark.modes("userns")
def test_memory_takes_what_the_disk_of_workdir_does_not(launch: Launcher, own_sandbox: Path) -> None:
    said = "no local disk"
    words = ["--writable-tmpfs", "--workdir", "/dev/shm", own_sandbox, "sh", "-c", "echo x > /made; cat /made"]
    result = launch("exec", *words, first=["-v"])
    assert (result.status, result.out) == (0, "x\n"), str(result)
    assert said in result.err


@pytest.mark.needs("overlay")
@pytest.mark.formats("sandbox", "sif")
def test_a_read_only_overlay_directory_is_not_written(launch: Launcher, image: Path, directory: Path) -> None:
    over = layer(directory, "over", launch)
    result = launch("exec", "--overlay", f"{over}:ro", image, "sh", "-c", "cat /who; probe open /who w").ok()
    assert result.lines[0] == "over"
    assert result.lines[1] in {"EROFS", "EACCES"}
    assert (over / "upper/who").read_text() == "over\n"


@pytest.mark.needs("overlay")
@pytest.mark.formats("sandbox", "sif")
def test_the_first_of_several_overlays_is_on_top(launch: Launcher, image: Path, directory: Path) -> None:
    over = [layer(directory, name, launch) for name in ("one", "two", "three")]
    (over[2] / "upper/only-three").write_text("three\n")
    words = [f"--overlay={over[0]}:ro", f"--overlay={over[1]}:ro,{over[2]}:ro"]
    assert launch("exec", *words, image, "cat", "/who", "/only-three").ok().lines == ["one", "three"]


@pytest.mark.needs("overlay", "fuse", "fuse2fs")
@pytest.mark.parametrize("kind", ["squashfs", "ext3"])
@pytest.mark.formats("sandbox", "sif")
def test_an_overlay_may_be_an_image(launch: Launcher, image: Path, directory: Path, kind: str) -> None:
    tree = directory / "tree"
    if kind == "squashfs":
        tree.mkdir()
        (tree / "who").write_text("overlay image\n")
        over = squashfs(tree, directory / "over.squashfs")
    else:
        layer(directory, "tree", launch)
        (tree / "upper/who").write_text("overlay image\n")
        over = give(extfs(tree, directory / "over.ext3", mebibytes=8), launch)
    assert launch("exec", "--overlay", f"{over}:ro", image, "cat", "/who").ok().out == "overlay image\n"


@pytest.mark.needs("overlay", "fuse", "fuse2fs", "userns")
@pytest.mark.formats("sandbox", "squashfs", "sif")
def test_an_overlay_image_keeps_what_is_written(launch: Launcher, image: Path, directory: Path) -> None:
    layer(directory, "tree", launch)
    over = give(extfs(directory / "tree", directory / "over.ext3", mebibytes=8), launch)
    for count in (1, 2):
        result = launch("exec", "--overlay", over, image, "sh", "-c", "echo x >> /who; wc -l < /who")
        assert result.ok().out == f"{count + 1}\n"
    check_clean(over, 0)


@pytest.mark.needs("overlay")
def test_two_writable_overlays_are_refused(launch: Launcher, images: Images, directory: Path) -> None:
    one, two = layer(directory, "one", launch), layer(directory, "two", launch)
    launch("exec", "--overlay", f"{one},{two}", images.sandbox, "true").refused("overlay", "writable")
    launch("exec", "--overlay", one, "--writable-tmpfs", images.sandbox, "true").refused("overlay")


def test_writable_does_not_go_with_an_overlay(launch: Launcher, own_sandbox: Path, directory: Path) -> None:
    over = layer(directory, "over", launch)
    for other in (["--overlay", over], ["--writable-tmpfs"], ["--compat"]):
        said = f"--writable does not go with {other[0]}"
        launch("exec", "-w", *other, own_sandbox, "true").misused(said)


def test_a_missing_overlay_is_named(launch: Launcher, images: Images, directory: Path) -> None:
    launch("exec", "--overlay", directory / "missing", images.sandbox, "true").refused(
        f"overlay {directory}/missing: no such image"
    )


@pytest.mark.needs("overlay", "fuse", "fuse2fs")
def test_a_whole_image_may_lie_on_top(launch: Launcher, images: Images, directory: Path) -> None:
    """Its root directory, which nothing has looked at before, becomes the container's."""
    tree = images.old_tree(directory / "tree")
    (tree / "here").write_text("two")
    top = extfs(tree, directory / "top.img", line=True, mebibytes=16)
    assert launch("exec", "--overlay", f"{top}:ro", images.sif, "cat", "/here").ok().out == "two"


@pytest.mark.needs("overlay")
@pytest.mark.parametrize("overlay", ["sandbox", "sandbox/inner"])
def test_an_overlay_in_the_image_is_named_as_the_fault(
    launch: Launcher, images: Images, directory: Path, overlay: str
) -> None:
    images.modern_tree(directory / "sandbox")
    (directory / "sandbox/inner").mkdir()
    overlay = f"{directory / overlay}:ro"
    launch("exec", "--overlay", overlay, directory / "sandbox", "true").refused("lie in one another")


@pytest.mark.needs("overlay", "fuse", "fuse2fs")
def test_the_overlay_partition_of_a_sif_can_be_written(launch: Launcher, images: Images, directory: Path) -> None:
    layer(directory, "tree", launch)
    over = extfs(directory / "tree", directory / "over.ext3", mebibytes=8)
    root = Partition(data=images.squashfs().read_bytes())
    parts = [root, Partition(data=over.read_bytes(), filesystem=2, kind=4)]
    image = give(write_sif(directory / "own.sif", parts), launch)
    launch("exec", "-w", image, "sh", "-c", "echo x > /made").ok()
    assert launch("exec", image, "cat", "/made").ok().out == "x\n"


@pytest.mark.needs("overlay", "fuse", "fuse2fs", "userns", "mksquashfs")
def test_a_sealed_overlay_is_what_was_written(launch: Launcher, images: Images) -> None:
    """Also what was removed, and directories that took the place of others; a further overlay lies over it."""
    image, singularity = launch.home_inside / "own.sif", launch.prefix / "bin/singularity"
    fakeroot = ["-f"] if launch.mode is not Mode.ROOT else []
    launch.command("cp", images.sif, image).ok()
    launch.command("chmod", "u+w", image).ok()
    launch.command(singularity, "overlay", "create", "--sparse", *fakeroot, image).ok()
    script = "mkdir /new && echo x > /new/file && ln /new/file /new/name && ln -s file /new/link; rm /etc/image-name;"
    script += "rm -r /opt && mkdir /opt && echo y > /opt/only; truncate -s 1M /new/hole"
    launch("exec", "-w", *fakeroot, image, "sh", "-c", script).ok()
    assert launch.command(singularity, "overlay", "seal", image).status == 0
    look = "cat /new/name /new/link; ls /opt; ls /etc/image-name; stat -c '%s %h' /new/hole /new/file"
    for words in ([], ["-u"], fakeroot):
        result = launch("exec", *words, image, "sh", "-c", look)
        assert result.lines == ["x", "x", "only", "1048576 1", "2 2"], str(result)
        assert "/etc/image-name" in result.err
    launch("exec", "-w", image, "true").refused("no SIF writable overlay partition")
    launch.command(singularity, "overlay", "seal", image).refused("sealed")
    launch.command(singularity, "overlay", "create", "--sparse", *fakeroot, image).ok()
    launch("exec", "-w", *fakeroot, image, "sh", "-c", "rm /new/file; echo z > /new/more").ok()
    assert launch.command(singularity, "overlay", "seal", image).status == 0
    assert launch("exec", image, "sh", "-c", "cd /new; echo *").ok().out == "hole link more name\n"


@pytest.mark.needs("overlay", "fuse", "fuse2fs", "userns")
def test_what_was_deleted_in_an_overlay_is_given_back(launch: Launcher, images: Images) -> None:
    image, singularity = launch.home_inside / "own.img", launch.prefix / "bin/singularity"
    launch.command(singularity, "overlay", "create", "--sparse", image).ok()
    script = "dd if=/dev/urandom of={0}/big bs=1M count=20 2>/dev/null; echo x > {0}/kept; rm {0}/big".format("/home")
    launch("exec", "--overlay", image, images.sandbox, "sh", "-c", script)
    before = int(launch.command("du", "-k", image).ok().out.split()[0])
    result = launch.command(singularity, "overlay", "sync", image)
    assert (result.status, result.err.count("\n")) == (0, 1), str(result)
    after = int(launch.command("du", "-k", image).ok().out.split()[0])
    assert after <= before
    assert after < 10 << 10
    launch("exec", "--overlay", image, images.sandbox, "true").ok()


@pytest.mark.needs("root")
@pytest.mark.modes("suid", "userns")
@pytest.mark.formats("sandbox", "sif")
def test_an_underlay_can_be_asked_for(launch: Launcher, image: Path, directory: Path) -> None:
    (directory / "file").write_text("seen\n")
    script = "cat /data/file; cat /etc/image-name; grep -c '^overlay' /proc/mounts"
    result = launch("exec", "--underlay", "-B", f"{directory}:/data", image, "sh", "-c", script)
    assert result.lines == ["seen", "busybox of the tests", "0"], str(result)


@pytest.mark.parametrize("text", ["enable overlay = no\n", "enable underlay = preferred\n"])
@pytest.mark.formats("sandbox", "sif")
def test_bind_points_are_made_without_an_overlay(launch: Launcher, image: Path, directory: Path, text: str) -> None:
    (directory / "file").write_text("seen\n")
    words = ["-B", f"{directory}:/data/deep/er", "-B", f"{directory}/file:/etc/new"]
    result = launch.configured(text)(
        "exec", *words, image, "cat", "/data/deep/er/file", "/etc/new", "/etc/image-name"
    ).ok()
    assert result.lines == ["seen", "seen", "busybox of the tests"]


def test_an_underlay_keeps_links_and_permissions(launch: Launcher, images: Images, directory: Path) -> None:
    configured = launch.configured("enable overlay = no\n")
    words = ["-B", f"{directory}:/newdir", "-B", f"{directory}:/bin/newdir"]
    result = configured(
        "exec", *words, images.sandbox, "sh", "-c", "readlink /bin/sh; stat -c '%a %n' /tmp /bin; ls /bin | wc -l"
    ).ok()
    assert result.lines[0] == "busybox"
    assert result.lines[1:3] == ["1777 /tmp", "755 /bin"]
    assert int(result.lines[3]) == len(list((images.sandbox / "bin").iterdir())) + 1


def test_without_overlay_and_underlay_a_missing_point_is_a_warning(
    launch: Launcher, images: Images, directory: Path
) -> None:
    text = f"enable overlay = no\nenable underlay = no\nbind path = {directory}:/data\n"
    world = launch.configured(text).changed(cwd=Path("/"))
    result = world("exec", "--no-home", images.sandbox, "cat", "/etc/image-name")
    assert (result.status, result.out) == (0, "busybox of the tests\n"), str(result)
    assert [line for line in result.err.splitlines() if "/data" in line and line.startswith("WARNING: ")], str(result)


def test_an_overlay_can_be_switched_off_by_variable(launch: Launcher, images: Images, directory: Path) -> None:
    env = {"SINGULARITY_DISABLE_OVERLAYFS": "1"}
    result = launch(
        "exec", "-B", f"{directory}:/data", images.sandbox, "grep", "-c", "^overlay", "/proc/mounts", env=env
    )
    assert result.out == "0\n", str(result)
