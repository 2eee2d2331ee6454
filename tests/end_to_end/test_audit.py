"""What the launcher says about itself: the audit trail, the plan, and silence otherwise."""

import json
import re
import socket
from pathlib import Path

import pytest
from images import Images
from launching import Launcher, Mode

LINE = re.compile(r"(DEBUG|VERBOSE|INFO|WARNING|ERROR|LOG) +\[U=(\d+),P=(\d+)\] +\S+\.[ch]:\d+:\w+\(\) *: .+")


def audit(text: str) -> list[tuple[str, int, str]]:
    """Level, effective uid and text of each line; every line must have the form."""
    found = []
    for line in text.splitlines():
        match = LINE.fullmatch(line)
        assert match, line
        found.append((match[1], int(match[2]), line.split(": ", 1)[1] if ": " in line else ""))
    return found


@pytest.mark.formats("sandbox", "sif")
def test_debug_is_the_audit_format_on_standard_error(launch: Launcher, image: Path) -> None:
    """The slides: LEVEL [U=..,P=..] file:line:function() : text."""
    result = launch("exec", "--bind", "/opt", image, "echo", "here", first=["--debug"])
    assert (result.status, result.out) == (0, "here\n"), str(result)
    lines = audit(result.err)
    assert len(lines) > 20
    assert any("/opt" in line for line in result.err.splitlines())


@pytest.mark.modes("suid")
def test_each_raise_of_privilege_is_a_line_and_each_drop(launch: Launcher, images: Images) -> None:
    """The uid shown is the effective one: what runs with privilege is seen."""
    result = launch("exec", images.sif, "true", first=["-d"])
    raised = [line for line in result.err.splitlines() if "aising privilege" in line or "scalating" in line]
    dropped = [line for line in result.err.splitlines() if "ropped privilege" in line or "ropping privilege" in line]
    assert raised
    assert len(dropped) >= len(raised)
    assert any(uid == launch.account.uid for _, uid, _ in audit(result.err))
    calls = [line.rpartition(": ")[2] for line in raised]
    as_root = [text.rpartition(": ")[2] for _, uid, text in audit(result.err) if uid == 0]
    assert as_root == calls, "the slides: U=0 on the lines of what was done with privilege"


@pytest.mark.modes("userns")
def test_user_namespace_mode_never_has_root(launch: Launcher, images: Images) -> None:
    result = launch("exec", images.sandbox, "true", first=["-d"])
    assert not any(uid == 0 for _, uid, _ in audit(result.err))


def test_configuration_values_and_variables_are_lines(launch: Launcher, images: Images) -> None:
    result = launch("exec", images.sandbox, "true", first=["-d"], env={"SINGULARITY_BINDPATH": "/opt"})
    for word in ("user bind control", "allow setuid", "mount home", "SINGULARITY_BINDPATH", "/opt"):
        assert word in result.err, word


def test_verbose_shows_decisions(launch: Launcher, images: Images) -> None:
    result = launch("exec", images.sandbox, "true", first=["-v"])
    assert result.status == 0
    assert all(line.startswith(("VERBOSE: ", "INFO:    ")) for line in result.err.splitlines())


@pytest.mark.parametrize("variable", ["SINGULARITY_MESSAGELEVEL", "APPTAINER_MESSAGELEVEL"])
def test_the_level_can_come_from_a_variable(launch: Launcher, images: Images, variable: str) -> None:
    assert audit(launch("exec", images.sandbox, "true", env={variable: "5"}).err)


@pytest.mark.formats("sandbox", "sif", "ext3")
def test_dry_run_prints_the_plan_with_reasons_and_does_nothing(launch: Launcher, image: Path, directory: Path) -> None:
    mark = directory / "mark"
    directory.chmod(0o777)
    (directory / "data").mkdir()
    result = launch("exec", "--dry-run", "-B", f"{directory}/data:/opt", image, "touch", mark).ok()
    assert not mark.exists()
    assert f"{directory}/data" in result.out
    assert "--bind" in result.out
    assert "mount proc" in result.out
    assert "mode:" in result.out


def everything_below(*places: Path) -> dict[Path, tuple[int, int, int]]:
    """Mode, size and time of change of each file."""
    files = [path for place in places for path in (place, *place.rglob("*"))]
    return {path: (status.st_mode, status.st_size, status.st_ctime_ns) for path in files for status in [path.lstat()]}


@pytest.mark.formats("sandbox", "sif", "ext3")
def test_dry_run_writes_nothing_on_the_host(launch: Launcher, image: Path, directory: Path, home: Path) -> None:
    """Directories of --workdir are in the plan as if they were there; that they are not yet is no error."""
    work = directory / "work"
    work.mkdir(mode=0o777)
    work.chmod(0o777)
    (directory / "data").mkdir()
    options = ("--contain", "--workdir", str(work), "--scratch", "/scratch", "-B", f"{directory}/data:/opt", "--pid")
    places = (directory, home, image if image.is_dir() else image.parent)
    before = everything_below(*places)
    plan = launch("exec", "--dry-run", *options, image, "true").ok().out
    assert everything_below(*places) == before
    assert f"bind: {work}/tmp -> /tmp" in plan
    assert f"bind: {work}/scratch/scratch -> /scratch" in plan
    launch("exec", *options, image, "true").ok()
    assert (work / "scratch/scratch").is_dir(), "the launch itself makes them"


@pytest.mark.modes("suid", "userns")
def test_dry_run_of_a_directory_makes_no_namespace_and_no_mount(launch: Launcher, images: Images) -> None:
    """Nothing is asked of the kernel that needs a right: not one privilege is raised, or would be."""
    result = launch("exec", "--dry-run", images.sandbox, "true", first=["-d"])
    assert result.status == 0
    assert "Layer:" not in result.err
    assert "aising privilege" not in result.err


@pytest.mark.modes("suid")
def test_a_dry_run_says_each_warning_once(launch: Launcher, images: Images) -> None:
    """The setuid program plans, and sexec-judge again, which prints."""
    launcher = launch.configured("allow pid ns = no\n")
    for image in (images.sandbox, images.sif):
        result = launcher("exec", "--dry-run", "--pid", image, "true")
        assert "mode:" in result.out
        assert result.err.count("no PID namespace") == 1, str(result)


@pytest.mark.formats("sandbox", "sif", "ext3")
def test_dry_run_for_programs_is_json_with_a_reason_for_every_step(
    launch: Launcher, image: Path, directory: Path
) -> None:
    (directory / 'da"ta\n\x01').mkdir()
    odd = str(directory / 'da"ta\n\x01')
    plan = json.loads(launch("exec", "--dry-run=json", "-B", f"{odd}:/opt", "-S", "/scratch", image, "true").ok().out)
    assert plan["mode"] in {"setuid", "root", "user namespace"}
    steps = plan["steps"]
    assert all(step["reason"] for step in steps)
    assert any(step["target"] == "/opt" and step["source"] == odd for step in steps)
    assert any(step["target"] == "/scratch" for step in steps)
    if launch.mode is Mode.USERNS or ("ext3" in image.name and launch.mode is Mode.SUID):
        assert plan["mode"] == "user namespace"


def test_the_plan_is_the_same_each_time(launch: Launcher, images: Images) -> None:
    first = launch("exec", "--dry-run", images.sandbox, "true").ok().out
    assert all(launch("exec", "--dry-run", images.sandbox, "true").ok().out == first for _ in range(3))


@pytest.mark.parametrize("way", ["text", "json"])
def test_a_plan_that_cannot_be_written_is_told(launch: Launcher, images: Images, way: str) -> None:
    argv = launch.argv("exec", f"--dry-run={way}", images.sandbox, "true")
    launch.command("sh", "-c", '"$@" >/dev/full', "sh", *argv).refused("standard output: No space left on device")


def test_the_plan_can_come_from_a_variable(launch: Launcher, images: Images) -> None:
    assert "mode:" in launch("exec", images.sandbox, "true", env={"SINGULARITY_DRY_RUN": "text"}).ok().out


@pytest.mark.parametrize("verb", ["exec", "run", "shell", "test"])
def test_every_launch_verb_has_a_plan(launch: Launcher, images: Images, verb: str) -> None:
    words = ["true"] if verb == "exec" else []
    assert "mode:" in launch(verb, "--dry-run", images.sandbox, *words).ok().out


def test_a_skipped_mount_is_in_the_plan_with_its_reason(launch: Launcher, images: Images) -> None:
    configured = launch.configured("bind path = /no/such/directory\n")
    plan = json.loads(configured("exec", "--dry-run=json", images.sandbox, "true").out)
    step = next(step for step in plan["steps"] if step["source"] == "/no/such/directory")
    assert step["skipped"]
    assert "line 1" in step["reason"]


@pytest.mark.needs("root")
@pytest.mark.modes("suid")
def test_refusals_and_launches_reach_syslog(launch: Launcher, images: Images, directory: Path) -> None:
    """R-A1: identity, user, image, verdict; no arguments and no environment."""
    from ordinary_user import bind

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(str(directory / "log"))
        (directory / "log").chmod(0o666)
        log.settimeout(5)

        def place() -> None:
            target = Path("/dev/log")
            if not target.exists():
                bind_over_dev()
            bind(directory / "log", target)

        def bind_over_dev() -> None:
            """A /dev of this command alone, so that a missing /dev/log can be given to it."""
            from ordinary_user import MS_BIND, MS_REC, mount

            (directory / "dev").mkdir(exist_ok=True)
            mount("tmpfs", directory / "dev", "tmpfs", data="mode=0755")
            for name in ("null", "zero", "full", "random", "urandom", "tty", "fuse", "loop-control"):
                if Path("/dev", name).exists():
                    (directory / "dev" / name).write_text("")
                    mount(Path("/dev", name), directory / "dev" / name, flags=MS_BIND)
            for name in ("pts", "shm"):
                (directory / "dev" / name).mkdir()
                mount(Path("/dev", name), directory / "dev" / name, flags=MS_BIND | MS_REC)
            (directory / "dev/log").write_text("")
            mount(directory / "dev", "/dev", flags=MS_BIND | MS_REC)

        quiet = launch.changed(as_root=[place])
        quiet("exec", images.sandbox, "true", "secret-argument").ok()
        log.setblocking(False)
        with pytest.raises(BlockingIOError):
            log.recv(4096)
        log.settimeout(5)
        audited = launch.configured("audit log = yes\n").changed(as_root=[place])
        audited("exec", images.sandbox, "true", "secret-argument", env={"SECRET": "secret-value"}).ok()
        text = log.recv(4096).decode()
        assert str(launch.account.uid) in text
        assert str(images.sandbox) in text
        assert "secret" not in text
        refusing = launch.configured("allow container dir = no\n").changed(as_root=[place])
        refusing("exec", images.sandbox, "true").refused()
        text = log.recv(4096).decode()
        assert re.match(r"<8\d>", text), "facility authpriv"
        assert "refused" in text
        assert "allow container dir" in text
        deep = directory.joinpath("x file=1:1", *["\n" * 200] * 4)  # a name that says something else, and is long
        deep.mkdir(parents=True)
        (deep / "link").symlink_to(images.sandbox)
        known = images.sandbox.stat()
        for launcher in (audited, refusing):
            launcher("exec", deep / "link", "true")
            text = log.recv(4096).decode()
            assert re.search(r"file=(\S+?:\d+)", text).group(1) == f"{known.st_dev}:{known.st_ino}", text  # type: ignore[union-attr]


@pytest.mark.needs("root")
@pytest.mark.modes("suid")
def test_a_log_that_does_not_answer_holds_nothing_up(launch: Launcher, images: Images) -> None:
    """R-A1."""
    launch.configured("audit log = yes\n")("exec", images.sandbox, "true").ok()
