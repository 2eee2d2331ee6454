"""Binds: what of the host is shown in the container, where, and what is refused."""

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from images import Images
from launching import Launcher, Mode

IMAGES = ("sandbox", "squashfs", "sif", "ext3", "2.x")


@pytest.fixture
def source(directory: Path, launch: Launcher) -> Path:
    """A directory of the user with a file in it."""
    place = directory / "source"
    place.mkdir()
    (place / "file").write_text("seen\n")
    (place / "below").mkdir()
    (place / "below/deep").write_text("deep\n")
    if os.geteuid() == 0:
        for path in (place, *place.rglob("*")):
            os.chown(path, launch.account.uid, launch.account.gid)
    return place


@pytest.mark.formats(*IMAGES)
def test_a_directory_is_shown_where_asked(launch: Launcher, image: Path, source: Path) -> None:
    """The slides: shell --bind /tmp:/opt."""
    result = launch("exec", "--bind", f"{source}:/opt", image, "sh", "-c", "cat /opt/file; echo x > /opt/made").ok()
    assert result.out == "seen\n"
    assert (source / "made").stat().st_uid == launch.account.uid


@pytest.mark.formats(*IMAGES)
def test_a_directory_is_shown_under_its_own_name(launch: Launcher, image: Path, source: Path) -> None:
    assert launch("exec", "-c", "-B", source, image, "cat", source / "file").ok().out == "seen\n"


@pytest.mark.formats(*IMAGES)
def test_missing_bind_points_are_made(launch: Launcher, image: Path, source: Path) -> None:
    """2.2 skipped them with a warning."""
    words = ["-B", f"{source}:/data", "-B", f"{source}/below:/new/deep/er", "-B", f"{source}/file:/etc/new.conf"]
    script = "cat /data/file /new/deep/er/deep /etc/new.conf; cat /etc/image-name"
    assert launch("exec", *words, image, "sh", "-c", script).ok().lines == [
        "seen",
        "deep",
        "seen",
        "busybox of the tests",
    ]


@pytest.mark.formats("sandbox", "sif")
def test_making_bind_points_leaves_the_image_as_it_was(
    launch: Launcher, image: Path, source: Path, images: Images
) -> None:
    before = sorted(str(path) for path in images.sandbox.rglob("*"))
    launch("exec", "-B", f"{source}:/data/x", image, "true").ok()
    assert sorted(str(path) for path in images.sandbox.rglob("*")) == before


@pytest.mark.formats("sandbox", "sif")
def test_a_file_is_shown_over_a_file(launch: Launcher, image: Path, source: Path) -> None:
    assert launch("exec", "-B", f"{source}/file:/etc/image-name", image, "cat", "/etc/image-name").ok().out == "seen\n"


@pytest.mark.formats("sandbox", "sif")
def test_binds_lie_in_each_other(launch: Launcher, image: Path, source: Path, directory: Path) -> None:
    other = directory / "other"
    other.mkdir()
    (other / "file").write_text("other\n")
    words = ["-B", f"{source}:/data", "-B", f"{other}:/data/below"]
    assert launch("exec", *words, image, "cat", "/data/file", "/data/below/file").ok().lines == ["seen", "other"]


@pytest.mark.needs("root")
@pytest.mark.formats("sandbox", "sif")
def test_a_bind_may_lie_in_the_home_directory(launch: Launcher, image: Path, source: Path) -> None:
    """A missing point in a directory of the host is not made there."""
    (launch.home / "exists").mkdir()
    os.chown(launch.home / "exists", launch.account.uid, launch.account.gid)
    target = launch.home_inside / "exists"
    assert launch("exec", "-B", f"{source}:{target}", image, "cat", target / "file").ok().out == "seen\n"


@pytest.mark.formats("sandbox", "sif")
@pytest.mark.parametrize("target", ["/tmp", "/var/tmp", "/mnt", "/.singularity.d/env", "/etc", "/srv"])
def test_a_bind_may_cover_a_directory_of_the_system(launch: Launcher, image: Path, source: Path, target: str) -> None:
    """R-M9: what the user could do in a namespace of her own."""
    assert launch("exec", "--pwd", "/", "-B", f"{source}:{target}", image, "cat", f"{target}/file").ok().out == "seen\n"


def test_a_bind_over_bin_makes_the_container_unusable_and_nothing_else(
    launch: Launcher, images: Images, source: Path
) -> None:
    """The slides ask what happens."""
    launch("exec", "-B", f"{source}:/bin", images.sandbox, "cat", "/etc/passwd").refused("cat", status=127)


@pytest.mark.formats("sandbox", "squashfs", "sif", "ext3")
def test_a_read_only_bind_cannot_be_written(launch: Launcher, image: Path, source: Path) -> None:
    words = ["-B", f"{source}:/opt:ro", "-B", f"{source}/file:/etc/image-name:ro"]
    script = "cat /opt/file; probe open /opt/file w; probe open /etc/image-name w; echo x > /opt/made"
    result = launch("exec", *words, image, "sh", "-c", script)
    assert result.lines == ["seen", "EROFS", "EROFS"]
    assert not (source / "made").exists()


@pytest.mark.needs("root")
def test_read_only_holds_for_mounts_below_too(launch: Launcher, images: Images, source: Path) -> None:
    """R-M1: mount_setattr on the whole tree."""
    from ordinary_user import mount

    def make() -> None:
        mount("tmpfs", source / "below", "tmpfs", data="mode=0777")
        (source / "below/inner").write_text("inner\n")
        (source / "below/inner").chmod(0o666)

    there = launch.changed(as_root=[make])
    script = "cat /opt/below/inner; probe open /opt/below/inner w; grep /opt/below /proc/self/mountinfo | cut -d' ' -f6"
    result = there("exec", "-B", f"{source}:/opt:ro", images.sandbox, "sh", "-c", script).ok()
    assert result.lines[:2] == ["inner", "EROFS"]
    assert {"ro", "nosuid", "nodev"} <= set(result.lines[2].split(","))


def test_rw_is_accepted(launch: Launcher, images: Images, source: Path) -> None:
    assert (
        launch("exec", "-B", f"{source}:/opt:rw", images.sandbox, "probe", "open", "/opt/file", "w").ok().out
        == "opened\n"
    )


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("{source}:/opt:ro:more", ["ro:more"]),
        ("{source}:/opt:rx", ["rx"]),
        (":/opt", [":/opt"]),
        ("{source}:", [""]),
    ],
)
def test_a_bind_that_cannot_be_read_is_refused(
    launch: Launcher, images: Images, source: Path, spec: str, words: list[str]
) -> None:
    result = launch("exec", "-B", spec.format(source=source), images.sandbox, "true")
    if spec.endswith(":"):
        assert result.status in {0, 1, 255}
        return
    assert result.status in {1, 255}, str(result)
    assert len(result.err.splitlines()) == 1, str(result)
    assert all(word in result.err for word in words), str(result)


def test_several_binds_in_one_option(launch: Launcher, images: Images, source: Path) -> None:
    spec = f"{source}:/opt,{source}/below:/mnt:ro"
    assert launch("exec", "-B", spec, images.sandbox, "cat", "/opt/file", "/mnt/deep").ok().lines == ["seen", "deep"]


@pytest.mark.parametrize(
    "name", ["with blank", "comma,inside", "colon:inside", "back\\slash", "percent%s", "ümläut", "#", "'\""]
)
def test_odd_characters_in_paths(launch: Launcher, images: Images, directory: Path, name: str) -> None:
    """2.2 refused most of them."""
    place = directory / name
    place.mkdir()
    (place / "file").write_text("seen\n")
    escaped = str(place).replace(",", "\\,").replace(":", "\\:")
    result = launch("exec", "-B", f"{escaped}:/opt", images.sandbox, "cat", "/opt/file")
    assert result.ok().out == "seen\n"


@pytest.mark.parametrize(
    "spec",
    [
        "type=bind,source={source},target=/opt",
        "type=bind,src={source},destination=/opt",
        "dst=/opt,type=bind,src={source}",
        'type=bind,"source={source}",target=/opt',
    ],
)
def test_the_long_form_of_a_bind(launch: Launcher, images: Images, source: Path, spec: str) -> None:
    assert (
        launch("exec", "--mount", spec.format(source=source), images.sandbox, "cat", "/opt/file").ok().out == "seen\n"
    )


@pytest.mark.parametrize("word", ["ro", "readonly"])
def test_the_long_form_can_be_read_only(launch: Launcher, images: Images, source: Path, word: str) -> None:
    spec = f"type=bind,source={source},target=/opt,{word}"
    assert launch("exec", f"--mount={spec}", images.sandbox, "probe", "open", "/opt/file", "w").ok().out == "EROFS\n"


def test_the_long_form_takes_commas_and_quotes_as_csv(launch: Launcher, images: Images, directory: Path) -> None:
    place = directory / 'a, "b"'
    place.mkdir()
    (place / "file").write_text("seen\n")
    quoted = str(place).replace('"', '""')
    spec = f'type=bind,"source={quoted}",target=/opt'
    assert launch("exec", "--mount", spec, images.sandbox, "cat", "/opt/file").ok().out == "seen\n"


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        ("type=tmpfs,target=/opt", "tmpfs"),
        ("type=bind,source=/tmp", "target"),
        ("type=bind,target=/opt", "source"),
        ("type=bind,source=/tmp,target=/opt,bind-propagation=shared", "bind-propagation"),
        ("type=bind,source=/tmp,target=/opt,colour=red", "colour"),
    ],
)
def test_a_long_form_that_cannot_be_honoured_is_refused(launch: Launcher, images: Images, spec: str, word: str) -> None:
    result = launch("exec", "--mount", spec, images.sandbox, "true")
    assert result.status in {1, 255}, str(result)
    assert len(result.err.splitlines()) == 1, str(result)
    assert word in result.err


def test_variables_add_to_the_options(launch: Launcher, images: Images, source: Path) -> None:
    env = {
        "SINGULARITY_BINDPATH": f"{source}:/opt",
        "SINGULARITY_MOUNT": f"type=bind,source={source}/below,target=/srv",
    }
    result = launch(
        "exec", "-B", f"{source}/below:/mnt", images.sandbox, "cat", "/opt/file", "/mnt/deep", "/srv/deep", env=env
    )
    assert result.ok().lines == ["seen", "deep", "deep"]


LINKS = {  # of the image, and where a file that is bound onto them is found then
    "absolute": ("/opt/real", "opt/real"),
    "relative": ("../opt/real", "opt/real"),
    "upwards": ("../../../../opt/real", "opt/real"),
    "nowhere": ("/gone/deep/er", "gone/deep/er"),
    "nowhere-relative": ("../run/systemd/stub", "run/systemd/stub"),
    "chain": ("chain-2", "opt/chain-3"),
    "chain-2": ("/opt/chain-3", "opt/chain-3"),
    "circle": ("circle", ""),
    "magic": ("/proc/self/root/etc/image-name", ""),
}


@pytest.fixture
def linked(images: Images, directory: Path, launch: Launcher) -> Path:
    """A sandbox of the user with links in /etc."""
    place = directory / "linked"
    shutil.copytree(images.sandbox, place, symlinks=True)
    (place / "opt/real").write_text("of the image\n")
    for name, (target, _) in LINKS.items():
        (place / "etc" / name).symlink_to(target)
    if os.geteuid() == 0:
        for path in (place, *place.rglob("*")):
            os.chown(path, launch.account.uid, launch.account.gid, follow_symlinks=False)
    return place


@pytest.mark.parametrize("way", ["", "--writable", "--writable-tmpfs", "squashfs"])
def test_a_file_bound_onto_a_link_is_shown_where_the_link_leads(
    launch: Launcher, linked: Path, source: Path, directory: Path, way: str
) -> None:
    """R-M4: inside the root, whether there is something or not; what leads nowhere at all is told."""
    image = linked
    if way == "squashfs":
        image = directory / "linked.sqfs"
        subprocess.run(["mksquashfs", linked, image, "-quiet", "-no-progress"], check=True)
    words = [way] if way.startswith("-") else []
    for name, (_, place) in LINKS.items():
        done = launch("exec", *words, "-B", f"{source}/file:/etc/{name}", image, "cat", f"/etc/{name}", f"/{place}")
        if place:
            assert (done.out, done.err, done.status) == ("seen\nseen\n", "", 0), str(done)
        else:
            assert "seen" not in done.out
            assert f"/etc/{name}" in done.err.splitlines()[0]
            assert "Too many levels of symbolic links" in done.err.splitlines()[0]
        assert (linked / "etc" / name).is_symlink()
    if way == "--writable":
        assert (linked / "gone/deep/er").read_bytes() == b""
        assert (linked / "opt/real").read_text() == "of the image\n"


def test_a_missing_source_is_fatal(launch: Launcher, images: Images, directory: Path) -> None:
    launch("exec", "-B", f"{directory}/missing:/opt", images.sandbox, "true").refused(f"{directory}/missing")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("{source}:/etc/image-name", ["{source}", "/etc/image-name", "a file there", "--bind", "name a directory"]),
        ("{source}/file:/bin", ["{source}/file", "/bin", "a directory there", "--bind", "name a file"]),
        ("{source}:/proc/here", ["{source}", "/proc/here", "--bind"]),
        ("{source}/file:/dev", ["{source}/file", "/dev", "--bind"]),
    ],
)
def test_a_bind_that_cannot_be_made_ends_the_launch(
    launch: Launcher, images: Images, source: Path, spec: str, words: list[str]
) -> None:
    """It was a warning and status 0: the job then ran without its data."""
    result = launch("exec", "-B", spec.format(source=source), images.sandbox, "true")
    result.refused(*(word.format(source=source) for word in words))
    assert len(result.err.splitlines()) == 1, str(result)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--home", "{source}:/etc/image-name"], "--home"),
        (["--contain", "--workdir", "{source}", "--home", "{source}:/bin/sh"], "--home"),
        (["--scratch", "/etc/image-name"], "--scratch"),
        (["--mount", "type=bind,src={source},dst=/etc/image-name"], "--mount"),
    ],
)
def test_other_mounts_that_were_asked_for_end_the_launch_too(
    launch: Launcher, images: Images, source: Path, words: list[str], said: str
) -> None:
    options = [word.format(source=source) for word in words]
    launch("exec", *options, images.sandbox, "true").refused(said, "the image has a file there")


@pytest.mark.formats("sandbox", "squashfs")
def test_what_nobody_asked_for_is_left_out_with_a_warning(launch: Launcher, image: Path, source: Path) -> None:
    configured = launch.configured(f"bind path = {source}:/etc/image-name\n")
    configured("exec", image, "true").warned(str(source), "/etc/image-name", "bind path, line")


def test_without_any_layer_a_missing_mount_point_ends_the_launch(
    launch: Launcher, images: Images, source: Path
) -> None:
    bare = launch.configured("enable overlay = no\nenable underlay = no\n").changed(cwd=Path("/"))
    bare("exec", "-B", f"{source}:/data/deep", images.sandbox, "true").refused("/data/deep", "--bind", "enable overlay")
    assert bare("exec", "-B", f"{source}:/opt", images.sandbox, "cat", "/opt/file").out == "seen\n"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SINGULARITY_BIND", "/no/such/place"),
        ("SINGULARITY_BINDPATH", "{source}:/etc/image-name"),
        ("APPTAINER_BIND", "/no/such/place:/opt:ro"),
        ("SINGULARITY_MOUNT", "type=bind,src=/no/such/place,dst=/opt"),
        ("SINGULARITY_HOME", "/no/such/place"),
        ("APPTAINER_SCRATCH", "/etc/image-name"),
        ("APPTAINER_PWD", "/no/such/place"),
    ],
)
def test_what_a_variable_asked_for_is_blamed_on_the_variable(
    launch: Launcher, images: Images, source: Path, name: str, value: str
) -> None:
    result = launch("exec", images.sandbox, "true", env={name: value.format(source=source)})
    assert name in result.refused().err
    assert "--" not in result.err, str(result)
    plan = launch("exec", "--dry-run", images.sandbox, "true", env={"SINGULARITY_BINDPATH": f"{source}:/opt"}).ok()
    assert f"bind: {source} -> /opt [rw,nosuid,nodev] (SINGULARITY_BINDPATH)" in plan.lines


@pytest.mark.parametrize(
    "words",
    [
        ["-B", "/opt:relative"],
        ["--mount", "type=bind,src=/opt,dst=relative"],
        ["-S", "relative"],
        ["-H", "/opt:relative"],
    ],
)
def test_a_relative_path_in_the_container_is_refused(launch: Launcher, images: Images, words: list[str]) -> None:
    launch("exec", *words, images.sandbox, "true").misused("must begin with", "relative")


def test_a_file_can_be_shown_as_a_passwd_file_that_the_image_lacks(
    launch: Launcher, images: Images, source: Path, directory: Path
) -> None:
    """The one of ours, which is left out for want of the image's, does not stand in its way."""
    image = directory / "no-passwd"
    shutil.copytree(images.sandbox, image, symlinks=True)
    (image / "etc/passwd").unlink()
    for name in ("hosts", "localtime", "resolv.conf"):  # else what is made for them has room for one more
        (image / "etc" / name).touch()
    assert launch("exec", "-B", f"{source}/file:/etc/passwd", image, "cat", "/etc/passwd").ok().out == "seen\n"


@pytest.mark.needs("root")
@pytest.mark.modes("suid", "userns")
@pytest.mark.formats("sandbox", "sif")
def test_what_the_user_cannot_reach_she_cannot_bind(launch: Launcher, image: Path, directory: Path) -> None:
    """R-M2: sources are opened as the user."""
    locked = directory / "locked"
    (locked / "below").mkdir(parents=True)
    (locked / "below/file").write_text("secret\n")
    locked.chmod(0o700)
    for path in (locked / "below", locked / "below/file"):
        launch("exec", "-B", f"{path}:/opt", image, "cat", "/opt/file", "/opt").refused(str(path))
    link = directory / "link"
    link.symlink_to(locked / "below")
    launch("exec", "-B", f"{link}:/opt", image, "cat", "/opt/file").refused(str(link))


@pytest.mark.needs("root")
@pytest.mark.modes("suid", "userns")
def test_a_directory_she_may_not_read_stays_unreadable(launch: Launcher, images: Images, directory: Path) -> None:
    locked = directory / "locked"
    locked.mkdir()
    (locked / "file").write_text("secret\n")
    locked.chmod(0o700)
    result = launch("exec", "-B", f"{locked}:/opt", images.sandbox, "cat", "/opt/file")
    assert "secret" not in result.out
    assert result.status != 0


@pytest.mark.needs("root")
@pytest.mark.modes("suid", "userns")
def test_other_peoples_processes_are_no_source(launch: Launcher, images: Images) -> None:
    """R-M2: /proc/1/root would show the machine as root sees it."""
    for path in ("/proc/1/root", "/proc/1/root/etc", "/proc/1/cwd"):
        launch("exec", "-B", f"{path}:/opt", images.sandbox, "ls", "/opt").refused(path)


def test_a_socket_can_be_bound(launch: Launcher, images: Images, directory: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(directory / "socket"))
        (directory / "socket").chmod(0o777)
        result = launch("exec", "-B", f"{directory}/socket:/mnt/socket", images.sandbox, "test", "-S", "/mnt/socket")
        assert result.status == 0, str(result)


@pytest.mark.formats("sandbox", "sif")
def test_a_link_as_source_is_followed_by_the_user(launch: Launcher, image: Path, source: Path, directory: Path) -> None:
    (directory / "link").symlink_to(source)
    assert launch("exec", "-B", f"{directory}/link:/opt", image, "cat", "/opt/file").ok().out == "seen\n"


def test_the_mounts_inside_carry_the_callers_targets_for_nesting(
    launch: Launcher, images: Images, source: Path
) -> None:
    result = launch("exec", "-B", f"{source}:/opt,{source}/below:/mnt", images.sandbox, "probe", "env").ok()
    env = dict(entry.split("=", 1) for entry in result.out.split("\0") if entry)
    assert env["SINGULARITY_BIND"].split(",") == ["/opt", "/mnt"]
    assert env["APPTAINER_BIND"] == env["SINGULARITY_BIND"]


@pytest.mark.parametrize(
    "word", ["proc", "sys", "dev", "tmp", "home", "cwd", "bind-paths", "/etc/hosts", "/etc/localtime"]
)
def test_a_mount_can_be_left_out(launch: Launcher, images: Images, word: str) -> None:
    empty = {"proc": "/proc", "sys": "/sys", "dev": "/dev", "tmp": "/tmp"}
    away = launch.changed(cwd=Path("/"))
    if word in empty:
        result = away("exec", "--no-mount", word, "--no-home", "--pwd", "/", images.sandbox, "ls", "-A", empty[word])
        assert result.ok().out == ""
    elif word == "/etc/hosts":
        assert away("exec", "--no-mount", word, images.sandbox, "cat", "/etc/hosts").ok().out == ""
    else:
        assert away("exec", "--no-mount", word, images.sandbox, "true").status == 0


def test_an_unknown_mount_to_leave_out_is_a_warning(launch: Launcher, images: Images) -> None:
    launch("exec", "--no-mount", "prok", images.sandbox, "true").warned("prok")


def test_the_usual_files_of_the_host_are_inside(launch: Launcher, images: Images) -> None:
    assert launch("exec", images.sandbox, "cat", "/etc/hosts").ok().out == Path("/etc/hosts").read_text()
    assert launch("exec", images.sandbox, "cat", "/etc/resolv.conf").ok().out == Path("/etc/resolv.conf").read_text()
    if Path("/etc/localtime").exists():
        localtime = launch("exec", images.sandbox, "cat", "/etc/localtime").ok().stdout
        assert localtime == Path("/etc/localtime").read_bytes()


def test_the_administrators_binds_are_inside(launch: Launcher, images: Images, source: Path) -> None:
    text = f"bind path = {source}:/global\nbind path = {source}/file : /etc/image-name\nbind path = /etc/hosts\n"
    configured = launch.configured(text)
    result = configured("exec", images.sandbox, "cat", "/global/file", "/etc/image-name").ok()
    assert result.lines == ["seen", "seen"]
    assert configured("exec", "-c", images.sandbox, "ls", "/global").status != 0, "contain leaves them out"
    assert configured("exec", "--no-mount", "bind-paths", images.sandbox, "ls", "/global").status != 0


def test_a_missing_source_of_the_administrators_is_a_warning(launch: Launcher, images: Images) -> None:
    configured = launch.configured("bind path = /no/such/directory\n")
    configured("exec", images.sandbox, "true").warned("/no/such/directory")


@pytest.mark.modes("suid")
def test_the_administrator_can_forbid_binds(launch: Launcher, images: Images, source: Path) -> None:
    forbidden = launch.configured("user bind control = no\n").changed(cwd=Path("/"))
    result = forbidden("exec", "-B", f"{source}:/opt", images.sandbox, "cat", "/opt/file")
    assert "seen" not in result.out
    assert "user bind control" in result.err
    forbidden("exec", "-H", source, images.sandbox, "true").refused("user bind control")
    assert forbidden("exec", images.sandbox, "true").ok()


@pytest.mark.modes("suid")
def test_binds_forbidden_before_another_key_stay_forbidden(launch: Launcher, images: Images, source: Path) -> None:
    """2.2 read the file onwards from the last key found, so the order of lines undid the policy."""
    for text in ("user bind control = no\nmount home = yes\n", "mount home = yes\nuser bind control = no\n"):
        result = launch.configured(text)("exec", "-B", f"{source}:/opt", images.sandbox, "cat", "/opt/file")
        assert "seen" not in result.out, str(result)


def test_a_file_system_of_the_host_is_inside_where_the_administrator_wants(launch: Launcher, images: Images) -> None:
    from ordinary_user import mount

    def make() -> None:
        mount("tmpfs", "/srv", "tmpfs", data="mode=0755")
        Path("/srv/of-the-host").write_text("x\n")

    there = launch.configured("mount hostfs = yes\n").changed(as_root=[make])
    assert there("exec", images.sandbox, "ls", "/srv").ok().out == "of-the-host\n"
    assert there("exec", "--no-mount", "hostfs", images.sandbox, "ls", "/srv").ok().out == ""


@pytest.mark.modes("suid", "root")
def test_a_thousand_binds_are_one_clear_line(launch: Launcher, images: Images, source: Path) -> None:
    """R-L11: at most 256; no truncation."""
    spec = ",".join(f"{source}:/many/{number}" for number in range(1000))
    result = launch("exec", "-B", spec, images.sandbox, "true")
    assert result.status in {1, 255}, str(result)
    assert len(result.err.splitlines()) == 1, str(result)


def test_two_hundred_binds_work(launch: Launcher, images: Images, source: Path) -> None:
    spec = ",".join(f"{source}:/many/{number}" for number in range(200))
    assert (
        launch("exec", "-B", spec, images.sandbox, "cat", "/many/0/file", "/many/199/file").ok().lines == ["seen"] * 2
    )


@pytest.mark.parametrize("where", ["source", "target"])
def test_paths_at_the_limit(launch: Launcher, images: Images, directory: Path, where: str) -> None:
    """R-B4: components of 255 work; a path that is too long is said to be, never cut."""
    name = "n" * 255
    place = directory / name
    place.mkdir()
    (place / "file").write_text("seen\n")
    target = f"/{name}/{name}"
    assert launch("exec", "-B", f"{place}:{target}", images.sandbox, "cat", f"{target}/file").ok().out == "seen\n"
    long = "/" + "/".join(["x" * 250] * 17)
    spec = f"{long}:/opt" if where == "source" else f"{place}:{long}"
    result = launch("exec", "-B", spec, images.sandbox, "true")
    assert result.status in {1, 255}, str(result)
    assert len(result.err.splitlines()) == 1


def test_mode_specific_text_is_absent(launch: Launcher, images: Images, source: Path) -> None:
    """The same plan of binds in every mode: what a bind shows does not depend on it."""
    result = launch("exec", "-B", f"{source}:/opt", images.sandbox, "stat", "-c", "%u", "/opt/file").ok()
    assert result.out == f"{launch.account.uid}\n" or launch.mode is Mode.ROOT
