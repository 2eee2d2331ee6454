"""Home, current directory, /tmp and scratch space."""

import os
from pathlib import Path

import pytest
from images import Images
from launching import Launcher, Mode

IMAGES = ("sandbox", "squashfs", "sif", "ext3")


def own(path: Path, launch: Launcher) -> Path:
    """Makes a directory that belongs to the user of this mode."""
    path.mkdir(mode=0o755, parents=True)
    if os.geteuid() == 0:
        os.chown(path, launch.account.uid, launch.account.gid)
    return path


@pytest.mark.needs("root")
@pytest.mark.formats(*IMAGES)
def test_the_home_directory_is_the_callers(launch: Launcher, image: Path) -> None:
    (launch.home / "data").write_text("from outside\n")
    result = launch("exec", image, "sh", "-c", "pwd; echo $HOME; cat ~/data; echo from inside > ~/made").ok()
    assert result.lines == [str(launch.home_inside), str(launch.home_inside), "from outside"]
    assert (launch.home / "made").read_text() == "from inside\n"
    assert (launch.home / "made").stat().st_uid == launch.account.uid


@pytest.mark.needs("root")
@pytest.mark.formats("sandbox", "sif")
def test_other_peoples_homes_are_not_inside(launch: Launcher, image: Path) -> None:
    listing = launch("exec", image, "ls", str(launch.home_inside.parent)).ok()
    if launch.mode is not Mode.ROOT:
        assert listing.lines == [launch.home_inside.name]


@pytest.mark.needs("root")
@pytest.mark.formats("sandbox", "sif")
def test_no_home_leaves_it_out(launch: Launcher, image: Path) -> None:
    (launch.home / "data").write_text("from outside\n")
    away = launch.changed(cwd=Path("/"))
    assert away("exec", "--no-home", image, "ls", "-A", str(launch.home_inside)).status != 0 or launch.mode is Mode.ROOT
    result = away("exec", "--no-home", image, "cat", str(launch.home_inside / "data"))
    assert result.status != 0, str(result)


@pytest.mark.needs("root")
def test_the_administrator_can_leave_the_home_out(launch: Launcher, images: Images) -> None:
    (launch.home / "data").write_text("from outside\n")
    configured = launch.configured("mount home = no\n").changed(cwd=Path("/"))
    assert configured("exec", images.sandbox, "cat", str(launch.home_inside / "data")).status != 0


@pytest.mark.needs("root")
@pytest.mark.formats("sandbox", "sif")
def test_another_directory_can_be_the_home(launch: Launcher, image: Path) -> None:
    """The slides: shell --contain --home ~/git. Today's meaning: HOME is that directory."""
    git = own(launch.home / "git", launch)
    (git / "project").write_text("seen\n")
    named = launch.home_inside / "git"
    result = launch(
        "exec", "--contain", "--home", str(named), image, "sh", "-c", "echo $HOME; cat ~/project; echo x > ~/made"
    )
    assert result.ok().lines == [str(named), "seen"]
    assert (git / "made").exists()


@pytest.mark.needs("root")
@pytest.mark.formats("sandbox", "sif")
def test_the_home_can_be_shown_elsewhere(launch: Launcher, image: Path, directory: Path) -> None:
    source = own(directory / "source", launch)
    (source / "data").write_text("seen\n")
    result = launch("exec", "-H", f"{source}:/people/me", image, "sh", "-c", "echo $HOME; cat ~/data").ok()
    assert result.lines == ["/people/me", "seen"]


def test_a_missing_home_source_is_fatal(launch: Launcher, images: Images, directory: Path) -> None:
    launch("exec", "-H", directory / "missing", images.sandbox, "true").refused(str(directory / "missing"))


@pytest.mark.needs("root")
@pytest.mark.formats("sandbox", "sif")
def test_a_home_source_that_is_a_file_is_fatal(launch: Launcher, images: Images) -> None:
    launch("exec", "--home", images.sif, images.sandbox, "true").refused(f"{images.sif} (--home): Not a directory")


def test_contain_gives_an_empty_home_that_is_gone_afterwards(launch: Launcher, image: Path) -> None:
    (launch.home / "data").write_text("from outside\n")
    result = launch("exec", "--contain", image, "sh", "-c", "pwd; ls -A ~; echo x > ~/made; cat ~/made").ok()
    assert result.lines == [str(launch.home_inside), "x"]
    assert sorted(path.name for path in launch.home.iterdir()) == ["data"]


@pytest.mark.needs("root")
@pytest.mark.modes("suid", "userns")
@pytest.mark.formats("sandbox", "sif")
def test_a_read_only_home_works(launch: Launcher, image: Path) -> None:
    (launch.home / "data").write_text("from outside\n")
    readonly = launch.changed(home_readonly=True)
    assert readonly("exec", image, "cat", str(launch.home_inside / "data")).ok().out == "from outside\n"
    assert readonly("exec", image, "touch", str(launch.home_inside / "made")).status == 1


@pytest.mark.needs("root")
@pytest.mark.formats("sandbox", "sif")
def test_the_current_directory_is_kept(launch: Launcher, image: Path, directory: Path) -> None:
    project = own(directory / "project with blank/deep", launch)
    (project / "data").write_text("seen\n")
    result = launch.changed(cwd=project)("exec", image, "sh", "-c", "pwd; cat data; echo x > made").ok()
    assert result.lines == [str(project), "seen"]
    assert (project / "made").exists()


@pytest.mark.needs("root")
def test_a_current_directory_outside_tmp_and_home_is_kept(launch: Launcher, images: Images) -> None:
    """2.2 without overlay started elsewhere in silence."""
    world = launch.changed(cwd=Path("/usr/share/doc"))
    assert world("exec", images.sandbox, "sh", "-c", "pwd; ls | wc -l").ok().lines[0] == "/usr/share/doc"


@pytest.mark.needs("root")
@pytest.mark.parametrize("name", ["/etc", "/usr", "/proc", "/var"])
def test_a_system_directory_shows_the_containers(launch: Launcher, images: Images, name: str) -> None:
    result = launch.changed(cwd=Path(name))(
        "exec", images.sandbox, "sh", "-c", "pwd; test ! -e /etc/debian_version"
    ).ok()
    assert result.out == f"{name}\n"


@pytest.mark.needs("root")
@pytest.mark.formats("sandbox", "sif")
def test_a_deleted_current_directory_is_left_with_a_warning(launch: Launcher, image: Path, directory: Path) -> None:
    """R-M6."""
    gone = own(directory / "gone", launch)
    os.chown(directory, launch.account.uid, launch.account.gid)
    launch.changed(cwd=gone, before=[gone.rmdir])("exec", image, "true").warned()


@pytest.mark.needs("root")
@pytest.mark.modes("suid", "userns")
def test_an_unreadable_current_directory_is_left_with_a_warning(
    launch: Launcher, images: Images, directory: Path
) -> None:
    """R-M6: the user may stand where she may not look."""
    locked = directory / "locked"
    locked.mkdir(mode=0o700)
    there = launch.changed(cwd=locked, cwd_as_root=True)
    result = there("exec", images.sandbox, "pwd")
    assert result.status == 0, str(result)
    assert result.out.strip() in {str(launch.home_inside), "/"}
    assert result.err.startswith("WARNING: ")


@pytest.mark.parametrize("option", ["--pwd", "--cwd"])
def test_the_start_directory_can_be_chosen(launch: Launcher, images: Images, option: str) -> None:
    assert launch("exec", option, "/opt", images.sandbox, "pwd").ok().out == "/opt\n"
    assert launch("exec", f"{option}=/opt", images.sandbox, "pwd").ok().out == "/opt\n"


@pytest.mark.needs("root")
def test_the_start_directory_may_exist_through_a_bind_only(launch: Launcher, images: Images, directory: Path) -> None:
    source = own(directory / "work", launch)
    assert (
        launch("exec", "-B", f"{source}:/data/work", "--pwd", "/data/work", images.sandbox, "pwd").ok().out
        == "/data/work\n"
    )


def test_a_chosen_start_directory_that_is_missing_is_fatal(launch: Launcher, images: Images) -> None:
    launch("exec", "--pwd", "/no/such", images.sandbox, "true").refused("/no/such")


@pytest.mark.formats(*IMAGES)
def test_tmp_is_the_hosts(launch: Launcher, image: Path, storage: Path, directory: Path) -> None:
    shared = own(directory / "shared", launch)
    assert str(storage).startswith("/tmp/")
    launch("exec", image, "sh", "-c", f"echo x > {shared}/made").ok()
    assert (shared / "made").read_text() == "x\n"


@pytest.mark.formats("sandbox", "sif")
def test_contain_gives_empty_tmp_directories_for_all(launch: Launcher, image: Path) -> None:
    script = (
        "ls -A /tmp /var/tmp; stat -c %a /tmp /var/tmp; echo x > /tmp/a; echo y > /var/tmp/b; cat /tmp/a /var/tmp/b"
    )
    result = launch("exec", "-c", image, "sh", "-c", script).ok()
    assert [line for line in result.lines if line] == ["/tmp:", "/var/tmp:", "1777", "1777", "x", "y"]


def test_contained_runs_do_not_share_their_tmp(launch: Launcher, images: Images) -> None:
    """2.2 shared it between runs of one user."""
    launch("exec", "-c", images.sandbox, "touch", "/tmp/made").ok()
    assert launch("exec", "-c", images.sandbox, "ls", "-A", "/tmp").ok().out == ""


def test_the_administrator_can_leave_tmp_out(launch: Launcher, images: Images) -> None:
    configured = launch.configured("mount tmp = no\n")
    assert configured("exec", "--no-home", "--pwd", "/", images.sandbox, "ls", "/tmp").ok().out == ""


@pytest.mark.needs("root")
@pytest.mark.formats("sandbox", "sif")
def test_workdir_backs_what_contain_makes_empty(launch: Launcher, image: Path, directory: Path) -> None:
    work = own(directory / "work", launch)
    script = "echo 1 > /tmp/a; echo 2 > /var/tmp/b; echo 3 > ~/c; echo 4 > /scratch/d"
    launch("exec", "-c", "-W", work, "-S", "/scratch", image, "sh", "-c", script).ok()
    found = {str(path.relative_to(work)): path.read_text() for path in work.rglob("*") if path.is_file()}
    assert found == {"tmp/a": "1\n", "var_tmp/b": "2\n", "home/c": "3\n", "scratch/scratch/d": "4\n"}


@pytest.mark.formats(*IMAGES)
def test_scratch_directories_are_empty_writable_and_gone_afterwards(launch: Launcher, image: Path) -> None:
    script = "for d in /scratch /deep/er /mnt; do ls -A $d; echo $d > $d/made; cat $d/made; done"
    words = ["-S", "/scratch,/deep/er", "--scratch", "/mnt"]
    for _ in range(2):
        assert launch("exec", *words, image, "sh", "-c", script).ok().lines == ["/scratch", "/deep/er", "/mnt"]


def test_scratch_directories_with_one_last_name_are_two(launch: Launcher, images: Images) -> None:
    """2.2 mixed them up."""
    result = launch(
        "exec", "-S", "/a/data", "-S", "/b/data", images.sandbox, "sh", "-c", "touch /a/data/x; ls -A /b/data"
    ).ok()
    assert result.out == ""


def test_scratch_space_is_bounded_by_the_administrator(launch: Launcher, images: Images) -> None:
    configured = launch.configured("sessiondir max size = 2\n")
    result = configured(
        "exec", "-S", "/scratch", images.sandbox, "dd", "if=/dev/zero", "of=/scratch/x", "bs=1M", "count=4"
    )
    assert result.status == 1, str(result)
    assert "No space left" in result.err
