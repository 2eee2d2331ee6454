"""Instances: containers that stay under a name, entered as the ranks of a job step enter theirs."""

from __future__ import annotations

import base64
import json
import os
import pty
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import machine
import pytest
from job_steps import INSTANCES, UID, Node, ended, wait_until
from launching import Mode, Result

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from images import Images

STARTED = "INFO:    instance started successfully\n"
STRANGER = UID + 7
SCRIPT = "/.singularity.d/startscript"
WAITING = "#!/bin/sh\necho started with $#: $*\necho to the error log >&2\nexec sleep 3000\n"


BACKGROUND = "exec >/dev/null 2>&1; (setsid sleep 2999 &); (setsid sh -c 'trap : INT TERM; sleep 2998; sleep 2998' &)"


def words(node: Node, verb: str, *more: str | Path, options: Sequence[str | Path] = ()) -> list[str]:
    mode = ["-u"] if node.launcher.mode is Mode.USERNS and verb in ("start", "run") else []
    return [str(word) for word in (node.launcher.prefix / "bin/singularity", "instance", verb, *mode, *options, *more)]


def instance(node: Node, verb: str, *more: str | Path, options: Sequence[str | Path] = ()) -> Result:
    return ended(node.start(*words(node, verb, *more, options=options)))


def start(node: Node, image: Path, name: str = "web", *more: str, options: Sequence[str | Path] = ()) -> None:
    result = instance(node, "start", image, name, *more, options=options)
    assert (result.status, result.err, result.out) == (0, STARTED, ""), str(result)


def listed(node: Node, *more: str) -> list[dict[str, Any]]:
    result = instance(node, "list", "--json", *more).ok()
    found: list[dict[str, Any]] = json.loads(result.out)["instances"]
    return found


def inside(node: Node, *program: str, name: str = "web", options: Sequence[str] = ()) -> Result:
    return node.command("exec", *options, f"instance://{name}", *program)


def states(node: Node) -> Path:
    """As this process sees it."""
    user = node.launcher.account.name
    return node.launcher.home / ".singularity/instances/app" / os.uname().nodename / user


def log(node: Node, name: str = "web", suffix: str = "out") -> str:
    user = node.launcher.account.name
    place = node.launcher.home / ".singularity/instances/logs" / os.uname().nodename / user
    return (place / f"{name}.{suffix}").read_text()


@pytest.fixture(autouse=True)
def stopped_at_the_end(node: Node) -> Iterator[None]:
    yield
    with suppress(AssertionError, subprocess.TimeoutExpired):
        instance(node, "stop", "--all", "--force")


@pytest.fixture
def script(directory: Path) -> Path:
    """A startscript that waits, to be bound into the image."""
    path = directory / "startscript"
    path.write_text(WAITING)
    path.chmod(0o755)
    return path


def waiting(script: Path) -> list[str]:
    return ["--bind", f"{script}:{SCRIPT}"]


# ---- what it is ----


def test_an_instance_stays_until_it_is_stopped(node: Node, image: Path, script: Path) -> None:
    start(node, image, "web", "two", "words", options=waiting(script))
    (found,) = listed(node)
    assert list(found) == ["instance", "pid", "img", "ip", "logErrPath", "logOutPath"]
    assert (found["instance"], found["img"], found["ip"]) == ("web", str(image), "")
    wait_until(lambda: log(node) == "started with 2: two words\n")
    wait_until(lambda: log(node, suffix="err") == "to the error log\n")
    assert "sleep 3000" in inside(node, "ps").ok().out
    assert inside(node, "sh", "-c", "echo $SINGULARITY_INSTANCE $SINGULARITY_COMMAND").ok().out == "web exec\n"
    look = "for name in mnt pid user ipc; do readlink /proc/self/ns/$name; done"
    spaces = [inside(node, "sh", "-c", look).ok().lines for _ in range(2)]
    assert spaces[0] == spaces[1]
    if os.geteuid() == 0:
        assert spaces[0][1] == os.readlink(f"/proc/{found['pid']}/ns/pid")
    result = instance(node, "stop", "web")
    assert (result.status, result.out) == (0, "")
    assert result.err == f"INFO:    Stopping web instance of {image} (PID={found['pid']})\n"
    assert listed(node) == []
    assert not list(states(node).glob("web*"))


def test_the_list_is_as_peers_print_it(node: Node, image: Path) -> None:
    assert instance(node, "list").ok().out == "INSTANCE NAME    PID    IP    IMAGE\n"
    assert json.loads(instance(node, "list", "--json").ok().out) == {"instances": []}
    start(node, image, "b.1")
    start(node, image, "a-longer_name")
    first, second = listed(node)
    lines = instance(node, "list").ok().lines
    assert [line.split() for line in lines] == [
        ["INSTANCE", "NAME", "PID", "IP", "IMAGE"],
        ["a-longer_name", str(first["pid"]), str(image)],
        ["b.1", str(second["pid"]), str(image)],
    ]
    assert lines[0].index("PID") == len("a-longer_name") + 4 == lines[2].index(str(second["pid"]))
    assert [each["instance"] for each in listed(node, "b*")] == ["b.1"]
    shown = instance(node, "list", "--logs", "b.1").ok().lines
    assert shown[1].split() == ["b.1", str(second["pid"]), second["logErrPath"]]
    assert shown[2].split() == [second["logOutPath"]]
    assert instance(node, "list", "--json", "--logs").status == 255
    assert all(Path(second[key]).name == f"b.1.{end}" for key, end in (("logErrPath", "err"), ("logOutPath", "out")))


def test_the_runscript_is_what_run_starts(node: Node, image: Path) -> None:
    result = instance(node, "run", image, "web", "one", "two")
    assert result.err == STARTED, str(result)
    wait_until(lambda: log(node) == "runscript got 2 arguments: one two\n")
    assert listed(node), "the script has ended, and the instance stays"
    assert instance(node, "logs", "web").ok().out == "runscript got 2 arguments: one two\n"


def test_what_is_written_in_memory_is_there_for_all_that_enter(node: Node, image: Path) -> None:
    start(node, image, options=["--writable-tmpfs", "--contain"])
    inside(node, "sh", "-c", "echo kept >/tmp/file").ok()
    assert inside(node, "cat", "/tmp/file").ok().out == "kept\n"
    assert node.command("run", "instance://web", "x").ok().out == "runscript got 1 arguments: x\n"
    assert node.command("test", "instance://web").ok().out.startswith("test got 0")
    shell = ended(node.launch("shell", "instance://web"), stdin=b"cat /tmp/file; echo $HOME\n").ok()
    assert shell.out == f"kept\n{inside(node, 'sh', '-c', 'echo $HOME').ok().out}"
    assert inside(node, "sh", "-c", "exit 7").status == 7
    assert inside(node, "sh", "-c", "kill -KILL $$").status == -signal.SIGKILL


def test_the_image_may_be_gone(node: Node, images: Images, directory: Path, mode: Mode) -> None:
    if mode is Mode.USERNS:
        machine.require("fuse")
    own = directory / "own.sif"
    own.write_bytes(images.sif.read_bytes())
    own.chmod(0o755)
    start(node, own)
    own.unlink()
    assert inside(node, "cat", "/etc/image-name").ok().out == "busybox of the tests\n"
    assert [each["img"] for each in listed(node)] == [str(own)]


def test_options_that_make_a_container_are_not_used(node: Node, image: Path) -> None:
    start(node, image)
    inside(node, "true", options=["--bind", "/opt:/mnt"]).warned("--bind", "instance://web", "already")
    inside(node, "true", options=["--cleanenv", "--env", "A=b"]).ok()
    node.command("exec", "--dry-run", "instance://web", "true").misused("--dry-run", "instance://web")


NO_DIRECTORIES = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}],
}


@pytest.mark.needs("landlock", "libseccomp")
def test_what_a_program_is_to_do_without_it_does_without(node: Node, image: Path, directory: Path) -> None:
    """R-L9: whether the instance was started so, or the program that enters is, by an option or its variable."""
    profile = directory / "profile.json"
    profile.write_text(json.dumps(NO_DIRECTORIES))
    profile.chmod(0o644)
    start(node, image, "web")
    start(node, image, "closed", options=["--security", f"seccomp:{profile}", "--allow-paths", "/tmp"])
    filters = ("grep", "Seccomp:", "/proc/self/status")
    assert inside(node, *filters).ok().out.split() == ["Seccomp:", "0"]
    denied = inside(node, *filters, options=["--deny-net"]).ok()
    assert (denied.out.split(), denied.err) == (["Seccomp:", "2"], "")
    denied = ended(node.start(*inside_words(node, *filters), env={"SINGULARITY_DENY_NET": "1"})).ok()
    assert denied.out.split() == ["Seccomp:", "2"]
    assert inside(node, "mkdir", "/tmp/made", options=["--security", f"seccomp:{profile}"]).status == 1
    assert "ermission denied" in inside(node, "ls", "/dev/shm", options=["--allow-paths", "/tmp"]).err
    assert "not permitted" in inside(node, "mkdir", "/tmp/made", name="closed").err
    assert "ermission denied" in inside(node, "ls", "/dev/shm", name="closed").err
    inside(node, "ls", "/dev/shm", name="closed", options=["--allow-paths", "/dev/shm"]).ok()
    assert "not permitted" in inside(node, "mkdir", "/tmp/made", name="closed", options=["--deny-net"]).err
    profile.unlink()
    inside(node, "true", name="closed").refused(str(profile))


def inside_words(node: Node, *program: str, name: str = "web") -> list[str]:
    return [str(node.launcher.prefix / "bin/singularity"), "exec", f"instance://{name}", *program]


def test_a_network_that_an_instance_has_not_is_refused(node: Node, image: Path) -> None:
    """R-L9: less isolation than was asked for is no launch."""
    start(node, image, "web")
    start(node, image, "alone", options=["--net"])
    inside(node, "true", options=["--net"]).refused("another network")
    inside(node, "true", name="alone", options=["--net"]).ok()


def test_a_pid_file_is_ones_own_and_no_link(node: Node, image: Path) -> None:
    """R-F6: what another has put there chooses no file that is overwritten."""
    place = node.launcher.home / "run"
    ended(node.start("mkdir", place)).ok()
    start(node, image, "web", options=["--pid-file", place / "pid"])
    (found,) = listed(node)
    assert (place / "pid").read_text() == f"{found['pid']}\n"
    ended(node.start("ln", "-s", place / "pid", place / "link")).ok()
    ended(node.start("cp", place / "pid", place / "kept")).ok()
    ended(node.start("ln", place / "kept", place / "other")).ok()
    for name in ("link", "other"):
        result = instance(node, "start", image, "second", options=["--pid-file", place / name])
        result.refused(str(place / name))
    assert [each["instance"] for each in listed(node)] == ["web"]
    assert (place / "pid").read_text() == f"{found['pid']}\n"


def test_wrong_names_are_one_line(node: Node, image: Path) -> None:
    for name in ("../x", "a/b", "", ".", "..", "a b", "\u00e4", "x" * 201, "a\nb", "$(id)", "*"):
        instance(node, "start", image, name).refused("is no name of an instance")
        inside(node, "true", name=name).refused("is no name of an instance")
    inside(node, "true", name="nobody").refused("no instance found with name nobody")
    instance(node, "stop", "nobody").misused("no instance found with name nobody")
    instance(node, "stop", "--all").misused("no instance found")
    instance(node, "stop").misused("--all")
    instance(node, "logs", "../../x").misused("is no name")
    instance(node, "stats", "nobody").refused("no instance found")
    instance(node, "start", image).misused("no name given")
    node.command("exec", "instance://web", "true").refused("no instance found with name web")
    ended(node.start(node.launcher.prefix / "bin/singularity", "inspect", "instance://web")).refused("no image")
    assert not states(node).exists() or not [each for each in states(node).iterdir() if each.is_dir()]


def test_a_set_up_that_fails_leaves_nothing(node: Node, image: Path) -> None:
    instance(node, "start", image, "web", options=["--bind", "/not/there"]).refused("/not/there")
    instance(node, "start", "/no/such.sif", "web").refused("/no/such.sif")
    instance(node, "start", image, "web", options=["--pid-file", "/no/such/file"]).refused("/no/such/file")
    assert listed(node) == []
    start(node, image)


def test_a_name_is_taken_once(node: Node, image: Path) -> None:
    """Also by those who start at the same moment."""
    tries = [node.start(*words(node, "start", image, "web")) for _ in range(8)]
    results = [ended(each) for each in tries]
    assert sorted(each.status for each in results) == [0] + [255] * 7, "\n".join(map(str, results))
    assert all("instance web already exists" in each.err for each in results if each.status)
    assert len(listed(node)) == 1
    instance(node, "start", image, "web").refused("instance web already exists")
    inside(node, "true").ok()


def test_many_one_after_the_other(node: Node, image: Path) -> None:
    for number in range(25):
        start(node, image, "web")
        assert inside(node, "echo", str(number)).ok().out == f"{number}\n"
        assert instance(node, "stop", "web").status == 0


# ---- how it ends ----


def test_processes_in_the_background_end_with_it(node: Node, image: Path) -> None:
    start(node, image)
    inside(node, "sh", "-c", BACKGROUND).ok()
    wait_until(lambda: "sleep 2998" in inside(node, "ps").ok().out)
    begun = time.monotonic()
    assert instance(node, "stop", "web").status == 0
    assert time.monotonic() - begun < 5


def test_a_script_has_time_to_end(node: Node, image: Path, script: Path) -> None:
    script.write_text(
        "#!/bin/sh\ntrap 'echo told; sleep 0.3; echo done; exit 0' USR2 INT\necho ready\nwhile :; do sleep 0.05; done\n"
    )
    start(node, image, options=waiting(script))
    wait_until(lambda: "ready" in log(node))
    assert instance(node, "stop", "web").status == 0
    assert log(node) == "ready\ntold\ndone\n"


def test_a_script_that_does_not_end_is_killed(node: Node, image: Path, script: Path) -> None:
    script.write_text("#!/bin/sh\ntrap 'echo told' INT TERM\necho ready\nwhile :; do sleep 0.05; done\n")
    start(node, image, options=waiting(script))
    wait_until(lambda: "ready" in log(node))
    begun = time.monotonic()
    assert instance(node, "stop", "-s", "TERM", "-t", "1", "web").status == 0
    assert 0.9 < time.monotonic() - begun < 6
    assert log(node) == "ready\ntold\n"
    instance(node, "stop", "-s", "NOSUCH", "web").misused("NOSUCH")


def test_a_signal_for_the_script_is_no_end(node: Node, image: Path, script: Path) -> None:
    script.write_text("#!/bin/sh\ntrap 'echo again' HUP\necho ready\nwhile :; do sleep 0.05; done\n")
    start(node, image, options=waiting(script))
    wait_until(lambda: "ready" in log(node))
    (found,) = listed(node)
    os.kill(found["pid"], signal.SIGHUP)
    wait_until(lambda: "again" in log(node))
    assert listed(node) == [found]


def members(before: set[int]) -> dict[int, str]:
    return {child: machine.command_of(child) for child in machine.children() - before}


@pytest.mark.parametrize("which", range(4))
def test_whoever_is_killed_takes_all_along(node: Node, images: Images, script: Path, which: int) -> None:
    """R-B1. The script alone may end by itself."""
    before = machine.children()
    start(node, images.of_format("sandbox"), options=waiting(script))
    wait_until(lambda: "started" in log(node))
    keepers = [child for child, command in sorted(members(before).items()) if "sleep 3000" not in command]
    keepers += [each["pid"] for each in listed(node) if each["pid"] not in keepers]
    if which >= len(keepers):
        pytest.skip(f"there are {len(keepers)}")
    os.kill(keepers[which], signal.SIGKILL)
    wait_until(lambda: not members(before))
    assert listed(node) == []
    assert not list(states(node).glob("web*"))
    start(node, images.of_format("sandbox"))


def test_the_script_ends_and_the_instance_stays(node: Node, image: Path, script: Path) -> None:
    start(node, image, options=waiting(script))
    wait_until(lambda: "started" in log(node))
    inside(node, "killall", "sleep").ok()
    wait_until(lambda: "sleep 3000" not in inside(node, "ps").ok().out)
    assert len(listed(node)) == 1


def test_it_survives_its_terminal(node: Node, image: Path) -> None:
    controller, terminal = pty.openpty()
    command = " ".join(words(node, "start", image, "web"))
    shell = node.start(
        "setsid",
        "--ctty",
        "sh",
        "-c",
        f"{command}; echo status $?; read x",
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    shown = b""
    while b"status" not in shown:
        shown += os.read(controller, 4096)
    assert b"status 0" in shown
    os.close(controller)
    shell.wait(timeout=10)
    time.sleep(0.2)
    assert len(listed(node)) == 1
    inside(node, "true").ok()


def test_nobody_waits_for_its_streams(node: Node, image: Path, script: Path) -> None:
    """`$(singularity instance start ...)` returns."""
    result = instance(node, "start", image, "web", options=waiting(script))
    assert result.err == STARTED
    (found,) = listed(node)
    for stream in ("0", "1", "2"):
        with suppress(PermissionError):
            assert "pipe" not in os.readlink(f"/proc/{found['pid']}/fd/{stream}")


# ---- what is told of it ----


def test_numbers_are_the_kernels(node: Node, image: Path, script: Path, directory: Path, mode: Mode) -> None:
    script.write_text("#!/bin/sh\nwhile :; do :; done\n")
    place = node.launcher.home if mode is not Mode.ROOT else directory
    start(node, image, options=[*waiting(script), "--pid-file", str(node.launcher.account.home / "pid")])
    (found,) = listed(node)
    assert (place / "pid").read_text() == f"{found['pid']}\n" if mode is not Mode.ROOT else True
    lines = instance(node, "stats", "--no-stream", "web").ok().lines
    heading = "INSTANCE NAME  CPU USAGE  MEM USAGE / LIMIT  MEM %  BLOCK I/O  PIDS"
    assert lines[0].split() == heading.split()
    assert float(lines[1].split()[1].rstrip("%")) > 5
    counters = json.loads(instance(node, "stats", "--json", "web").ok().out)
    assert counters["cpu"]["usage_usec"] > 500_000
    assert counters["pids"]["current"] >= 2
    assert 0 < counters["memory"]["usage"] < counters["memory"]["usage_limit"]


def test_logs_are_followed_to_the_end(node: Node, image: Path, script: Path) -> None:
    script.write_text("#!/bin/sh\necho first\nsleep 0.5\necho last\nsleep 3000\n")
    start(node, image, options=waiting(script))
    following = node.start(*words(node, "logs", "web", options=["--follow"]))
    wait_until(lambda: "last" in log(node))
    instance(node, "stop", "--force", "web")
    assert ended(following).ok().out == "first\nlast\n"
    assert instance(node, "logs", "-e", "web").ok().out == ""


# ---- whom it believes ----


def forge(node: Node, **changes: object) -> None:
    """Changes what is written down of the instance `web`."""
    path = states(node) / "web/web.json"
    document = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(document, indent="\t", separators=(",", ": ")) + "\n")


def test_another_process_of_that_number_is_no_instance(node: Node, image: Path) -> None:
    start(node, image)
    (found,) = listed(node)
    document = json.loads((states(node) / "web/web.json").read_text())
    other = node.start("sleep", "60")
    forge(node, pid=other.pid)
    assert listed(node) == []  # as if its number had been given away
    assert not (states(node) / "web/web.json").exists()
    (states(node) / "web").mkdir()
    start_of_other = (Path(f"/proc/{other.pid}/stat").read_text().rpartition(")")[2].split())[19]
    identity = " ".join([*document["started"].split()[:2], start_of_other])
    (states(node) / "web/web.json").write_text(json.dumps(document | {"pid": other.pid, "started": identity}))
    if node.launcher.mode is not Mode.ROOT:
        os.chown(states(node) / "web", UID, UID)
        os.chown(states(node) / "web/web.json", UID, UID)
    assert listed(node) == []
    instance(node, "stop", "--all").misused("no instance found")
    assert other.poll() is None
    os.kill(found["pid"], signal.SIGKILL)
    (states(node) / "web/web.json").unlink()


def test_what_is_no_state_is_passed_over(node: Node, image: Path) -> None:
    start(node, image)
    path = states(node) / "web/web.json"
    good = path.read_text()
    for text in ("", "{", "[]", "null", '{"pid": "x"}', good[: len(good) // 2], "x" * 5_000_000):
        path.write_text(text)
        assert listed(node) == []
        inside(node, "true").refused("no instance found")
    path.write_text(good.replace('"config": "', '"config": "AAAA'))
    inside(node, "true").refused("cannot be read")
    document = json.loads(good)
    bytes_ = bytearray(base64.b64decode(document["config"]))
    for position in range(0, len(bytes_), 97):
        changed = bytes_.copy()
        changed[position] ^= 0x15
        path.write_text(good.replace(document["config"], base64.b64encode(changed).decode()))
        assert inside(node, "true").status in (0, 255)
    for name in ("pid", "pidNamespace"):  # what JSON calls a number may be none that fits
        path.write_text(json.dumps({**document, name: "INFINITE"}).replace('"INFINITE"', "1e400"))
        assert listed(node) == []
    path.write_text(json.dumps({**document, "image": "\033]0;title\a"}))  # R-P3: root may be looking
    assert "\\x1b]0;title\\x07" in instance(node, "list").ok().out
    path.write_text(good)
    inside(node, "true").ok()


@pytest.mark.needs("root")
def test_places_that_others_can_write_are_refused(node: Node, image: Path) -> None:
    top = node.launcher.home / ".singularity"
    start(node, image)
    assert instance(node, "stop", "web").status == 0
    (top / "instances").chmod(0o777)
    instance(node, "start", image, "web").refused("not yours alone")
    assert instance(node, "list").status == 255
    (top / "instances").chmod(0o700)
    os.chown(states(node), STRANGER, STRANGER)
    instance(node, "start", image, "web").refused("instances")
    os.chown(states(node), *((0, 0) if node.launcher.mode is Mode.ROOT else (UID, UID)))
    (top / "instances/app").rename(top / "elsewhere")
    (top / "instances/app").symlink_to(top / "elsewhere")
    instance(node, "start", image, "web").refused("instances")
    (top / "instances/app").unlink()
    (top / "elsewhere").rename(top / "instances/app")
    start(node, image)
    (logs,) = (top / "instances/logs").glob("*/*")
    (logs / "evil.out").symlink_to("/etc/passwd")
    instance(node, "logs", "evil").refused("evil.out")
    logs.rename(logs.with_name("moved"))
    logs.symlink_to("moved")
    instance(node, "logs", "web").refused(logs.name)


@pytest.mark.needs("root")
def test_a_stranger_at_the_socket_gets_nothing(node: Node, image: Path) -> None:
    """R-J2. Nor can he take the name before, which nobody knows."""
    start(node, image)
    (name,) = {line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines() if INSTANCES in line}
    document = json.loads((states(node) / "web/web.json").read_text())
    asking = (
        "import socket, sys\n"
        "s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
        "s.settimeout(5)\n"
        "s.connect(chr(0) + sys.argv[1])\n"
        "try:\n"
        "    s.send(sys.argv[2].encode())\n"
        "    print(s.recvmsg(64, 1024)[:2])\n"
        "except OSError as error:\n"
        "    print(type(error).__name__)\n"
    )
    who = ["setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups", "python3", "-c", asking]
    asked = subprocess.run([*who, name.removeprefix("@"), document["name"]], capture_output=True, text=True, check=True)
    assert asked.stdout.strip() in ("(b'', [])", "ConnectionResetError", "BrokenPipeError")
    start(node, image, "other")
    inside(node, "true").ok()


def test_two_hundred_connections_hold_nobody_up(node: Node, image: Path) -> None:
    start(node, image)
    lines = Path("/proc/net/unix").read_text().splitlines()
    (name,) = {line.split()[-1] for line in lines if INSTANCES in line}
    connections = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(200)]
    for connection in connections:
        connection.connect("\0" + name.removeprefix("@"))
    inside(node, "true").ok()
    for connection in connections:
        connection.close()


@pytest.mark.parametrize("mode", [Mode.ROOT], indirect=True, ids=["root"])
def test_a_full_disk_is_one_line(node: Node, image: Path, directory: Path) -> None:
    place = directory / "small"
    place.mkdir()
    ended(node.start("mount", "-t", "tmpfs", "-o", "size=16k,mode=0700", "none", place)).ok()
    fill = "i=0; while echo 0123456789abcdef >$0/fill$i 2>/dev/null; do i=$((i+1)); [ $i -lt 64 ] || break; done"
    ended(node.start("sh", "-c", fill, place)).status  # noqa: B018 - it ends as it likes
    process = node.start(*words(node, "start", image, "web"), env={"SINGULARITY_CONFIGDIR": str(place)})
    ended(process).refused("No space left on device")


@pytest.mark.parametrize("mode", [Mode.ROOT], indirect=True, ids=["root"])
def test_a_system_is_started_by_root(node: Node, images: Images) -> None:
    image = images.of_format("sandbox")
    script = "#!/bin/sh\necho $$ is the first\nexec sleep 3000\n"
    init = node.launcher.directory / "init"
    init.write_text(script)
    init.chmod(0o755)
    start(node, image, options=["--boot", "--bind", f"{init}:/sbin/init"])
    wait_until(lambda: log(node) == "1 is the first\n")
    (found,) = listed(node)
    status = Path(f"/proc/{found['pid']}/status").read_text()
    bounding = int(next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff")), 16)
    assert bounding & (1 << 22 | 1 << 17) == 0
    inside(node, "true").ok()
    assert instance(node, "stop", "-t", "0", "web").status == 0


@pytest.mark.parametrize("mode", [Mode.SUID, Mode.USERNS], indirect=True)
def test_users_start_no_system(node: Node, image: Path) -> None:
    result = instance(node, "start", image, "web", options=["--boot"])
    assert result.status == 255
    assert "only root" in result.err
