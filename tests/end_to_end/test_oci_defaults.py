"""WORKDIR and USER of an image of Docker or OCI: honoured when asked for, in every mode, and never silently dropped."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import syscalls
from images import squashfs
from launching import Launcher, Mode

if TYPE_CHECKING:
    from collections.abc import Callable

    from images import Images

pytestmark = pytest.mark.needs("root", "overlay", "userns")
CAPABILITY_SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
IDS = 'echo "$(id -u) $(id -g) $(id -un)"'


@pytest.fixture
def made(images: Images, directory: Path) -> Callable[..., Path]:
    """A sandbox of an image with this USER and WORKDIR."""

    def make(user: str, workdir: str = "/") -> Path:
        return images.oci_tree(directory / "tree", user, workdir)

    return make


def test_compat_starts_in_the_workdir_as_the_user(launch: Launcher, made: Callable[..., Path]) -> None:
    tree = made("app", "/srv/present")
    result = launch("exec", "--compat", tree, "sh", "-c", f'{IDS}; pwd; echo "$HOME"').ok()
    assert result.lines == ["1234 2345 app", "/srv/present", "/home/app"]


def test_without_being_asked_nothing_changes(launch: Launcher, made: Callable[..., Path]) -> None:
    tree = made("app", "/srv/present")
    here = launch.changed(cwd=Path("/tmp"))
    assert here("exec", tree, "sh", "-c", "id -u; pwd").ok().lines == [str(launch.account.uid), "/tmp"]
    told = here("exec", tree, "true", first=["-v"]).err
    assert "WORKDIR /srv/present of the image is not used" in told
    assert "USER app of the image is not used" in told


def test_the_administrator_can_ask_for_everybody(launch: Launcher, made: Callable[..., Path]) -> None:
    configured = launch.configured("oci defaults = yes\n")
    tree = made("app", "/srv/present")
    assert configured("exec", tree, "sh", "-c", f"{IDS}; pwd").ok().lines == ["1234 2345 app", "/srv/present"]
    words = ["exec", "--no-compat", tree, "sh", "-c", "id -u; pwd"]
    here = configured.changed(cwd=Path("/tmp"))
    assert here(*words).ok().lines == [str(launch.account.uid), "/tmp"]


def test_an_image_of_another_kind_is_as_before(launch: Launcher, images: Images) -> None:
    result = launch("exec", "--compat", images.sandbox, "sh", "-c", "id -u; pwd").ok()
    assert result.lines == [str(launch.account.uid), str(launch.home_inside)]


def test_a_workdir_that_the_image_lacks_is_made(launch: Launcher, made: Callable[..., Path]) -> None:
    tree = made("", "/new/place dir")
    assert launch("exec", "--compat", tree, "sh", "-c", "pwd; touch x; ls").ok().lines == ["/new/place dir", "x"]
    assert not (tree / "new").exists()
    configured = launch.configured("oci defaults = yes\n")  # without a layer that can be written
    assert configured("exec", tree, "pwd").ok().out == "/new/place dir\n"


def test_a_bound_workdir_shows_what_was_bound(launch: Launcher, made: Callable[..., Path], directory: Path) -> None:
    source = directory / "source"
    source.mkdir()
    (source / "seen").touch()
    tree = made("", "/new/place")
    assert launch("exec", "--compat", "-B", f"{source}:/new/place", tree, "ls").ok().out == "seen\n"
    inner = launch("exec", "--compat", "-B", f"{source}:/new/place/data", tree, "ls", ".", "data").ok()
    assert inner.lines == [".:", "data", "", "data:", "seen"]


def test_a_workdir_in_an_empty_tmp_is_made_there(launch: Launcher, made: Callable[..., Path]) -> None:
    assert launch("exec", "--compat", made("", "/tmp/deep/work"), "pwd").ok().out == "/tmp/deep/work\n"


def test_a_workdir_that_cannot_be_entered_is_told(launch: Launcher, made: Callable[..., Path]) -> None:
    tree = made("", "/etc/passwd/x")
    result = launch("exec", "--compat", tree, "true")
    result.warned("/etc/passwd/x (WORKDIR of the image) cannot be entered")


def test_cwd_goes_before_the_workdir(launch: Launcher, made: Callable[..., Path]) -> None:
    assert launch("exec", "--compat", "--cwd", "/usr", made("", "/srv/present"), "pwd").ok().out == "/usr\n"


def test_a_home_that_was_asked_for_stays(launch: Launcher, made: Callable[..., Path], directory: Path) -> None:
    home = directory / "other"
    home.mkdir()
    tree = made("app", "/")
    assert launch("exec", "--compat", "--home", f"{home}:/mine", tree, "sh", "-c", "echo $HOME").ok().out == "/mine\n"


@pytest.mark.parametrize("live", [False, True])
def test_home_and_path_are_those_of_docker(launch: Launcher, made: Callable[..., Path], *, live: bool) -> None:
    """HOME of the image's variables wins over that of its passwd file, and PATH is to the letter."""
    tree = made("app", "/")
    env = tree / ".singularity.d/env"
    (env / "10-docker2singularity.sh").write_text("PATH='/bin:/o $x'\nexport PATH\n")
    (env / "90-environment.sh").write_text(f"export SEEN={'$(echo $HOME)' if live else '$HOME'}\n")
    show = ["exec", "--compat", tree, "/bin/sh", "-c", 'echo "$HOME $SEEN $PATH"']
    assert launch(*show).ok().out == "/home/app /home/app /bin:/o $x\n"
    (env / "10-docker2singularity.sh").write_text(
        'PATH=/bin\nexport PATH\nif [ -z "${HOME:-}" ]; then HOME=/opt; fi\nexport HOME\n'
    )
    assert launch(*show).ok().out == "/opt /opt /bin\n"


@pytest.mark.parametrize(("user", "ids"), [("app:extra", "1234 3456"), ("4321", "4321 0")])
def test_names_and_numbers_mean_what_docker_takes_them_for(
    launch: Launcher, made: Callable[..., Path], user: str, ids: str
) -> None:
    assert launch("exec", "--compat", made(user), "sh", "-c", 'echo "$(id -u) $(id -g)"').ok().out == f"{ids}\n"


def test_a_user_of_the_image_has_no_right_more(launch: Launcher, made: Callable[..., Path]) -> None:
    """R-L5, R-L6: also in the user namespace that shows her as another."""
    tree = made("app")
    text = launch("exec", "--compat", tree, "cat", "/proc/self/status").ok().out
    fields = dict(line.split(":\t", 1) for line in text.splitlines())
    assert {name: int(fields[name], 16) for name in CAPABILITY_SETS} == dict.fromkeys(CAPABILITY_SETS, 0)
    assert fields["NoNewPrivs"] == "1"
    assert fields["Uid"].split() == ["1234"] * 4
    assert fields["Gid"].split() == ["2345"] * 4
    if launch.mode is Mode.ROOT:
        assert fields["Groups"].split() == ["3456"]
    result = launch("exec", "--compat", tree, "probe", "become-root").ok()
    assert result.lines[0] in {"setuid EPERM", "setuid EINVAL"}


@pytest.mark.modes("suid", "userns")
def test_files_written_are_the_callers(launch: Launcher, made: Callable[..., Path], directory: Path) -> None:
    shared = directory / "shared"
    shared.mkdir()
    os.chown(shared, launch.account.uid, launch.account.gid)
    result = launch(
        "exec", "--compat", "-B", f"{shared}:/mnt", made("app"), "sh", "-c", "touch /mnt/x; stat -c %u /mnt/x"
    )
    assert result.ok().out == "1234\n"
    assert (shared / "x").stat().st_uid == launch.account.uid
    locked = directory / "locked"
    locked.write_text("secret\n")
    os.chown(locked, 1234, 2345)
    locked.chmod(0o600)
    refused = launch("exec", "--compat", "-B", f"{locked}:/mnt/l", directory / "tree", "cat", "/mnt/l")
    assert (refused.status, refused.out) == (1, "")


@pytest.mark.modes("suid", "userns")
def test_root_is_left_to_fakeroot(launch: Launcher, made: Callable[..., Path]) -> None:
    tree = made("root")
    (tree / "root").chmod(0o755)
    result = launch("exec", "--compat", tree, "id", "-u")
    assert (result.status, result.out) == (0, f"{launch.account.uid}\n")
    assert result.err == (
        "INFO:    USER root of the image is root: the program runs as you (--fakeroot makes you appear as root)\n"
    )
    assert launch("exec", "--compat", "--fakeroot", tree, "id", "-u").ok().out == "0\n"
    (tree / ".singularity.d/oci-start").write_text("USER=app\nWORKDIR=/\n")
    assert launch("exec", "--compat", "--fakeroot", tree, "id", "-u").ok().out == "0\n"


@pytest.mark.parametrize("user", ["app:nosuch", "4294967295"])
def test_a_user_whom_the_image_does_not_know_is_told(launch: Launcher, made: Callable[..., Path], user: str) -> None:
    """R-L6: ids are parsed strictly."""
    result = launch("exec", "--compat", made(user), "id", "-u").warned(f"USER {user} of the image", "account files")
    assert result.out == f"{launch.account.uid}\n"


@pytest.mark.modes("suid")
@pytest.mark.parametrize("why", ["kernel", "configuration", "no /proc"])
def test_a_user_who_cannot_be_had_is_told(launch: Launcher, made: Callable[..., Path], why: str) -> None:
    options: list[str] = []
    if why == "kernel":
        launch = launch.changed(refusals=syscalls.without_user_namespaces(1))
    elif why == "configuration":
        launch = launch.configured("allow user ns = no\n")
    else:
        options = ["--no-mount", "proc"]
    words = {"kernel": "no user namespace", "configuration": "allow user ns", "no /proc": "needs /proc"}[why]
    image = made("app", "/srv/present")
    if not options:  # over a directory there is no overlay without a user namespace
        image = squashfs(image, image.with_name("tree.squashfs"))
    result = launch("exec", "--compat", *options, image, "sh", "-c", "id -u; pwd; echo $HOME")
    assert result.warned("USER app of the image", words).lines == [
        str(launch.account.uid), "/srv/present", str(launch.home_inside)
    ]  # fmt: skip


def test_a_dry_run_shows_both_with_their_reasons(launch: Launcher, made: Callable[..., Path]) -> None:
    tree = made("app", "/new")
    plan = launch("exec", "--compat", "--dry-run", tree, "true").ok().lines
    way = "setuid" if launch.mode is Mode.ROOT else "a user namespace"
    assert "place: - -> /new [rw,nosuid,nodev] (WORKDIR of the image)" in plan
    assert "directory: /new (WORKDIR of the image)" in plan
    assert f"identity: uid 1234, gid 2345, no_new_privs on (USER app of the image, by {way})" in plan
    data = json.loads(launch("exec", "--compat", "--dry-run=json", tree, "true").ok().out)
    assert (data["directory"], data["directory_reason"]) == ("/new", "WORKDIR of the image")
    assert (data["user"], data["uid"], data["gid"]) == ("app", 1234, 2345)


@pytest.mark.modes("suid")
def test_an_image_cannot_write_to_the_terminal(launch: Launcher, made: Callable[..., Path]) -> None:
    plan = launch("exec", "--compat", "--dry-run", made("1\x1b[2J", "/a\nb\x1b]0;x"), "true")
    assert plan.status == 0
    assert "directory: /a\\x0ab\\x1b]0;x (WORKDIR of the image)" in plan.lines
    assert "\x1b" not in plan.out + plan.err


@pytest.mark.modes("suid")
@pytest.mark.parametrize("text", ["", "USER=app", "nothing of the kind\n" * 100, "USER=app\nWORKDIR=/../../etc\n"])
def test_a_hostile_file_changes_nothing(launch: Launcher, made: Callable[..., Path], text: str) -> None:
    tree = made("", "/")
    (tree / ".singularity.d/oci-start").write_text(text)
    result = launch("exec", "--compat", tree, "pwd")
    assert (result.status, result.out) == (0, f"{launch.home_inside}\n")


def test_the_file_of_the_image_is_read_inside_it(launch: Launcher, made: Callable[..., Path], directory: Path) -> None:
    """Links of the image, here to files of the host, are followed in the image."""
    outside = directory / "outside"
    outside.write_text("USER=\nWORKDIR=/usr\n")
    tree = made("", "/")
    for name, target in {".singularity.d/oci-start": outside, "etc/passwd": "/etc/shadow"}.items():
        (tree / name).unlink()
        (tree / name).symlink_to(target)
    assert launch("exec", "--compat", tree, "pwd").ok().out == f"{launch.home_inside}\n"
