"""Images made to lead out of the container: links in place of the directories that mounts go to."""

import os
from pathlib import Path

import pytest
from images import Images, squashfs
from launching import Launcher

pytestmark = [pytest.mark.needs("root"), pytest.mark.formats("sandbox", "squashfs")]

LINKS = {
    "etc-up": [("etc", "../../../../../../etc")],
    "etc-absolute": [("etc", "/etc")],
    "etc-loop": [("etc", "etc")],
    "etc-proc": [("etc", "/proc/self/root/etc")],
    "tmp-up": [("tmp", "../../../../../../usr")],
    "tmp-descriptors": [("tmp", "/proc/self/fd")],
    "tmp-cwd": [("tmp", "/proc/self/cwd")],
    "home-up": [("home", "../../../../../../root")],
    "home-root": [("home", "/")],
    "proc-elsewhere": [("proc", "/usr")],
    "sys-elsewhere": [("sys", "../../../../..")],
    "dev-elsewhere": [("dev", "/tmp")],
    "var-tmp-is-tmp": [("var/tmp", "/tmp")],
    "passwd-up": [("etc/passwd", "../../../../../../../etc/passwd")],
    "group-host": [("etc/group", "/proc/1/root/etc/group")],
    "resolv-run": [("etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf")],
    "resolv-up": [("etc/resolv.conf", "../../../../../../../etc/resolv.conf")],
    "hosts-dangling": [("etc/hosts", "/nowhere/hosts")],
    "opt-up": [("opt", "../../../../../../opt")],
    "mnt-descriptor": [("mnt", "/proc/self/fd/3")],
    "environment": [(".singularity.d/env", "/proc/self/root/etc")],
    "runscript": [(".singularity.d/runscript", "../../../../../../bin/id")],
    "everything": [("etc", "../.."), ("tmp", "../.."), ("home", ".."), ("opt", "/"), ("mnt", "//")],
}
TOPS = ("etc", "tmp", "home", "opt", "mnt", "var/tmp", "root")


def strays(name: str, launch: Launcher) -> list[str]:
    """Where on the host a bind point of this name has been made; in her /tmp the user may make some of her own."""
    found = []
    for place in ("", "etc", "root", "usr", "opt", "mnt", "srv", "tmp", "home", "var", "var/tmp", "run", "dev"):
        path = Path("/", place, name)
        if os.path.lexists(path):
            own = path.lstat().st_uid == launch.account.uid and place in {"tmp", "var/tmp"}
            path.rmdir() if path.is_dir() else path.unlink()
            found += [] if own else [str(path)]
    return found


@pytest.fixture
def marked(directory: Path) -> Path:
    """A directory that is bound at /opt and /new: whatever shows it outside the container has been led there."""
    place = directory / "marked"
    place.mkdir()
    (place / "mark").write_text("mark\n")
    return place


@pytest.mark.parametrize("name", LINKS)
def test_links_of_the_image_stay_in_the_image(
    launch: Launcher, images: Images, form: str, name: str, marked: Path, directory: Path
) -> None:
    """R-M4: they resolve inside or are refused; nothing appears on the host, nothing of it inside."""
    tree = images.hostile_sandbox(name, LINKS[name])
    image = tree if form == "sandbox" else squashfs(tree, directory / "hostile.squashfs")
    table = Path("/proc/self/mountinfo").read_text()
    stray = f"stray-{directory.name}"
    through = [word for top in TOPS for word in ("-B", f"{marked}:/{top}/{stray}")]
    words = ["-B", f"{marked}:/opt", "-B", f"{marked}:/new/deep", "-S", "/scratch", "-H", f"{launch.home}:/home/me"]
    script = (
        "/bin/probe root; test -e /etc/debian_version && echo host; test -e /usr/sbin/debootstrap && echo host; true"
    )
    for options in ([], words, ["--contain", *words], through, ["--contain", *through]):
        result = launch("exec", *options, image, "/bin/sh", "-c", script)
        assert result.status in {0, 126, 127, 255}, str(result)
        assert result.out in {"closed\n", ""}, str(result)
        assert result.status != 0 or result.out == "closed\n"
        assert strays(stray, launch) == []
    assert Path("/proc/self/mountinfo").read_text() == table


@pytest.mark.formats("sandbox")
def test_a_bind_through_a_link_of_the_image_lands_inside(
    launch: Launcher, images: Images, form: str, marked: Path
) -> None:
    """R-M4: /opt -> /srv inside the image means the image's own /srv."""
    del form
    tree = images.hostile_sandbox("opt-srv", [("opt", "/srv")])
    result = launch("exec", "-B", f"{marked}:/opt", tree, "cat", "/srv/mark").ok()
    assert result.out == "mark\n"
    assert not Path("/srv/mark").exists()


@pytest.mark.modes("suid", "userns")
@pytest.mark.formats("sandbox")
def test_missing_points_are_not_made_as_root_in_a_users_directory(
    launch: Launcher, images: Images, form: str, marked: Path, directory: Path
) -> None:
    """R-M5: 2.2 with overlay made root-owned files anywhere on the host."""
    del form
    tree = images.modern_tree(directory / "tree")
    for path in (tree, *tree.rglob("*")):
        os.chown(path, launch.account.uid, launch.account.gid, follow_symlinks=False)
    (tree / "out").symlink_to("../../../../../../../../etc")
    os.chown(tree / "out", launch.account.uid, launch.account.gid, follow_symlinks=False)
    for options in ([], ["--writable"]):
        launch("exec", *options, "-B", f"{marked}:/out/made-by-bind", tree, "true")
        launch("exec", *options, "-B", f"{marked}/mark:/out/made-too", tree, "true")
    assert strays("made-by-bind", launch) == strays("made-too", launch) == []
    assert all(path.lstat().st_uid == launch.account.uid for path in tree.rglob("*"))


@pytest.mark.formats("sandbox")
def test_an_image_that_is_a_link_changes_nothing(launch: Launcher, images: Images, form: str, directory: Path) -> None:
    """R-I1: what was opened is what runs, though the name points elsewhere a moment later."""
    del form
    name = directory / "name"
    name.symlink_to(images.sandbox)
    swap = f"while :; do ln -sfn / {name}; ln -sfn {images.sandbox} {name}; done"
    directory.chmod(0o777)
    with launch.start("sh", "-c", swap) as process:
        try:
            for _ in range(40):
                result = launch("exec", name, "cat", "/etc/image-name")
                assert result.status in {0, 127, 255}, str(result)
                assert result.status != 0 or result.out == "busybox of the tests\n", str(result)
        finally:
            process.kill()
            process.communicate(timeout=10)


@pytest.mark.formats("sandbox")
def test_hostile_names_in_messages_are_escaped(launch: Launcher, form: str, directory: Path) -> None:
    """R-P3: no control character of a name reaches the terminal; R-L1: no format string either."""
    del form
    for name in ("\x1b[2J", "a\nFATAL:   forged", "%s%s%n", "\r", "\x07"):
        result = launch("exec", directory / f"missing{name}", "true").refused("missing")
        assert not set("\x1b\r\x07") & set(result.err)
