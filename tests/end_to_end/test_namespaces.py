"""PID, IPC, network and host name: separate when asked for, the host's otherwise."""

import ctypes
import os
import signal
import subprocess
from pathlib import Path

import pytest
from images import Images
from launching import Launcher, Mode
from ordinary_user import unshare
from syscalls import CLONE_NEWUSER

NAMES = ("mnt", "pid", "ipc", "net", "uts", "user")


def namespaces(text: str) -> dict[str, str]:
    return dict(line.split(":", 1) for line in text.split())


def inside(launch: Launcher, images: Images, *options: str) -> dict[str, str]:
    script = "for n in mnt pid ipc net uts user; do readlink /proc/self/ns/$n; done"
    return namespaces(launch("exec", *options, images.sandbox, "sh", "-c", script).ok().out)


@pytest.fixture
def outside() -> dict[str, str]:
    return namespaces("\n".join(str(Path(f"/proc/self/ns/{name}").readlink()) for name in NAMES))


@pytest.mark.parametrize(
    ("option", "separate"),
    [
        ("", ()),
        ("--contain", ()),
        ("-p", ("pid",)),
        ("--pid", ("pid",)),
        ("-i", ("ipc",)),
        ("--ipc", ("ipc",)),
        ("-n", ("net",)),
        ("--network=none", ("net",)),
        ("--uts", ("uts",)),
        ("--hostname=inside", ("uts",)),
        ("--containall", ("pid", "ipc")),
    ],
)
def test_only_what_was_asked_for_is_separate(
    launch: Launcher, images: Images, outside: dict[str, str], option: str, separate: tuple[str, ...]
) -> None:
    seen = inside(launch, images, *([option] if option else []))
    expected = {"mnt", *separate} | ({"user"} if launch.mode is Mode.USERNS else set())
    assert {name for name in NAMES if seen[name] != outside[name]} == expected


@pytest.mark.formats("sandbox", "sif")
def test_ps_shows_only_the_processes_of_the_container(launch: Launcher, image: Path) -> None:
    """The slides: exec -p IMG ps auxf."""
    result = launch("exec", "-p", image, "ps", "-o", "pid,comm").ok()
    assert 2 <= len(result.lines) <= 3, str(result)
    assert int(result.lines[1].split()[0]) == 1


@pytest.mark.formats("sandbox", "sif")
@pytest.mark.parametrize("status", [0, 7, 127, 255])
def test_the_status_passes_through_init(launch: Launcher, image: Path, status: int) -> None:
    result = launch("exec", "--pid", image, "probe", "exit", str(status))
    assert (result.status, result.err) == (status, "")


def test_a_signal_in_a_pid_namespace_is_passed_on(launch: Launcher, images: Images) -> None:
    result = launch("exec", "--pid", images.sandbox, "probe", "die", "15")
    assert result.status in {-signal.SIGTERM, 128 + signal.SIGTERM}, str(result)
    assert result.err == ""


def test_a_missing_program_in_a_pid_namespace_is_127(launch: Launcher, images: Images) -> None:
    launch("exec", "--pid", images.sandbox, "no-such-program").refused("executable file not found in", status=127)


def test_the_program_is_not_process_one_unless_asked(launch: Launcher, images: Images) -> None:
    assert launch("exec", "--pid", images.sandbox, "sh", "-c", "echo $$").ok().out != "1\n"
    assert launch("exec", "--pid", "--no-init", images.sandbox, "sh", "-c", "echo $$").ok().out == "1\n"


def test_init_buries_orphans(launch: Launcher, images: Images) -> None:
    script = "(sleep 0.05 &) ; sleep 0.3; ps -o pid,stat,comm | grep -c Z"
    result = launch("exec", "--pid", images.sandbox, "sh", "-c", script)
    assert result.out == "0\n", str(result)


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2]
)
def test_signals_reach_the_program_behind_init(launch: Launcher, images: Images, number: int) -> None:
    """R-B1, and once only."""
    script = f"trap 'echo caught' {int(number)}; echo ready; for i in 1 2 3 4 5 6 7 8 9 10; do sleep 0.02; done; exit 9"
    with launch.start(*launch.argv("exec", "--pid", images.sandbox, "sh", "-c", script)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (9, b"caught\n", b"")


def test_a_plain_program_behind_init_ends_by_the_signal(launch: Launcher, images: Images) -> None:
    """2.2: as process 1 it ignored them."""
    with launch.start(
        *launch.argv("exec", "--pid", images.sandbox, "sh", "-c", "echo ready; exec sleep 60")
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.terminate()
        process.communicate(timeout=10)
    assert process.returncode in {-signal.SIGTERM, 128 + signal.SIGTERM}


def test_the_whole_namespace_ends_with_the_program(launch: Launcher, images: Images, directory: Path) -> None:
    fifo = directory / "fifo"
    os.mkfifo(fifo, 0o666)
    fifo.chmod(0o666)
    script = f"(exec 8<>{fifo}; sleep 60) & sleep 0.05; exit 4"
    result = launch("exec", "--pid", images.sandbox, "sh", "-c", script, timeout=20)
    assert result.status == 4, str(result)


def test_killing_the_front_process_ends_the_namespace(launch: Launcher, images: Images) -> None:
    """R-B1, R-L16: what is left is looked for after each test."""
    with launch.start(*launch.argv("exec", "--pid", images.sandbox, "sh", "-c", "echo ready; sleep 60")) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
        process.communicate(timeout=10)
    assert process.returncode == -signal.SIGKILL


def test_no_pid_undoes_containall(launch: Launcher, images: Images, outside: dict[str, str]) -> None:
    assert inside(launch, images, "-C", "--no-pid")["pid"] == outside["pid"]


def test_a_network_namespace_has_a_loopback_interface_that_is_up(launch: Launcher, images: Images) -> None:
    result = launch(
        "exec", "--net", "--network", "none", images.sandbox, "sh", "-c", "ls /sys/class/net; ip addr show lo"
    ).ok()
    assert result.lines[0] == "lo"
    assert "127.0.0.1" in result.out
    assert "UP" in result.out


@pytest.mark.parametrize("name", ["calico", "none,calico"])
def test_other_networks_are_refused_in_one_line(launch: Launcher, images: Images, name: str) -> None:
    result = launch("exec", "--network", name, images.sandbox, "true")
    assert result.status in {1, 255}, str(result)
    assert len(result.err.splitlines()) == 1


def test_the_host_name_can_be_set(launch: Launcher, images: Images) -> None:
    script = "hostname; cat /etc/hostname"
    assert (
        launch("exec", "--hostname", "node-7.inside", images.sandbox, "sh", "-c", script).ok().lines
        == ["node-7.inside"] * 2
    )
    assert os.uname().nodename != "node-7.inside"


@pytest.mark.parametrize("name", ["with blank", "-dash", "a" * 65, "", "under_score!", "a..b"])
def test_a_host_name_that_is_none_is_refused(launch: Launcher, images: Images, name: str) -> None:
    result = launch("exec", f"--hostname={name}", images.sandbox, "hostname")
    if name == "":
        assert result.status in {0, 1, 255}
        return
    assert result.status in {1, 255}, str(result)
    assert len(result.err.splitlines()) == 1


def test_name_servers_can_be_set(launch: Launcher, images: Images) -> None:
    text = launch("exec", "--dns", "192.0.2.1,2001:db8::1", images.sandbox, "cat", "/etc/resolv.conf").ok().out
    assert text == "nameserver 192.0.2.1\nnameserver 2001:db8::1\n"


@pytest.mark.parametrize("value", ["not-an-address", "192.0.2.1,", "192.0.2.256", "192.0.2.1\nsearch evil"])
def test_a_name_server_that_is_no_address_is_refused(launch: Launcher, images: Images, value: str) -> None:
    result = launch("exec", f"--dns={value}", images.sandbox, "cat", "/etc/resolv.conf")
    if value.endswith(","):
        assert result.status in {0, 1, 255}
        return
    assert result.status in {1, 255}, str(result)


@pytest.mark.parametrize(
    ("key", "option", "name"), [("pid", "-p", "pid"), ("ipc", "-i", "ipc"), ("uts", "--uts", "uts")]
)
def test_the_administrator_can_forbid_a_namespace(
    launch: Launcher, images: Images, outside: dict[str, str], key: str, option: str, name: str
) -> None:
    configured = launch.configured(f"allow {key} ns = no\n")
    result = configured("exec", option, images.sandbox, "readlink", f"/proc/self/ns/{name}")
    assert result.status == 0, str(result)
    assert result.out.strip() == f"{name}:{outside[name]}"
    assert result.err.startswith("WARNING: ")
    assert f"allow {key} ns" in result.err


@pytest.mark.formats("sandbox", "sif")
@pytest.mark.parametrize("options", [["--contain"], ["--containall"]])
def test_contain_stages_a_small_dev(launch: Launcher, image: Path, options: list[str]) -> None:
    names = set(launch("exec", *options, image, "ls", "/dev").ok().out.split())
    assert {
        "null",
        "zero",
        "random",
        "urandom",
        "shm",
        "pts",
        "ptmx",
        "fd",
        "stdin",
        "stdout",
        "stderr",
        "tty",
    } <= names
    assert not names & {"sda", "vda", "loop0", "loop-control", "kmsg", "mem", "fuse"}
    script = "echo x > /dev/null; head -c 4 /dev/zero | wc -c; head -c 4 /dev/urandom | wc -c; stat -c %a /dev/shm"
    assert launch("exec", *options, image, "sh", "-c", script).ok().lines == ["4", "4", "1777"]


def test_the_hosts_dev_is_inside_otherwise(launch: Launcher, images: Images) -> None:
    names = set(launch("exec", images.sandbox, "ls", "/dev").ok().out.split())
    assert names >= {"null", "zero", "shm", "pts"}
    assert "loop0" in names or not Path("/dev/loop0").exists()


def test_the_administrator_can_make_dev_small(launch: Launcher, images: Images) -> None:
    """2.2 aborted without overlay."""
    names = set(launch.configured("mount dev = minimal\n")("exec", images.sandbox, "ls", "/dev").ok().out.split())
    assert {"null", "zero", "urandom"} <= names
    assert "kmsg" not in names
    assert launch.configured("mount dev = no\n")("exec", images.sandbox, "ls", "/dev").ok().out == ""


@pytest.mark.parametrize("key", ["proc", "sys"])
def test_the_administrator_can_leave_kernel_file_systems_out(launch: Launcher, images: Images, key: str) -> None:
    assert launch.configured(f"mount {key} = no\n")("exec", images.sandbox, "ls", "-A", f"/{key}").ok().out == ""


@pytest.mark.parametrize("options", [[], ["--pid"], ["--net"], ["-C"]])
def test_kernel_settings_do_not_become_writable(launch: Launcher, images: Images, options: list[str]) -> None:
    """R-M7."""
    if launch.mode is Mode.ROOT:
        pytest.skip("root may write them outside as well")
    for name in ("/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/sys/kernel/uevent_helper"):
        if Path(name).exists():
            assert launch("exec", *options, images.sandbox, "probe", "open", name, "w").ok().out in {
                "EACCES\n",
                "EROFS\n",
                "EPERM\n",
            }


def test_a_pseudo_terminal_can_be_made_in_a_contained_run(launch: Launcher, images: Images) -> None:
    assert launch("exec", "-c", images.sandbox, "probe", "open", "/dev/ptmx", "r").ok().out == "opened\n"


def test_terminals_do_not_matter(launch: Launcher, images: Images) -> None:
    """R-L14: on a terminal that hangs up the program gets its signal and we leave nothing."""
    controller, terminal = os.openpty()
    try:
        argv = launch.argv("exec", images.sandbox, "sh", "-c", "tty; read line; echo got $line")
        with launch.start(*argv, stdin=terminal, stdout=terminal, stderr=terminal) as process:
            os.close(terminal)
            seen = b""
            while b"\n" not in seen:
                seen += os.read(controller, 1000)
            os.write(controller, b"word\n")
            while b"got word" not in seen:
                seen += os.read(controller, 1000)
            assert process.wait(timeout=10) == 0
    finally:
        os.close(controller)
    assert b"\x1b" not in seen


def test_devices_of_standard_streams(launch: Launcher, images: Images, directory: Path) -> None:
    """R-L3: /dev/null and files as streams."""
    with (directory / "out").open("wb") as out:
        argv = launch.argv("exec", images.sandbox, "echo", "to the file")
        with launch.start(*argv, stdout=out, stderr=subprocess.DEVNULL) as process:
            assert process.wait(timeout=20) == 0
    assert (directory / "out").read_text() == "to the file\n"


@pytest.mark.modes("userns")
@pytest.mark.needs("root", "fuse")
@pytest.mark.formats("sandbox", "squashfs", "sif")
@pytest.mark.parametrize("option", [[], ["-u"], ["--fakeroot"]], ids=["default", "userns", "fakeroot"])
def test_root_of_a_user_namespace_is_no_real_root(launch: Launcher, image: Path, option: list[str]) -> None:
    """`unshare -r` gives no loop device: what it may not do is done as for any user."""
    program = launch.prefix / "bin/singularity"
    argv = ["unshare", "-Urm", str(program), "exec", *option, str(image), "sh", "-c", "id -u; cat /etc/image-name"]
    assert launch.command(*argv).ok().lines == ["0", "busybox of the tests"]


def enter_user_namespace_with_all_ids() -> None:
    """As containers have it: every id, and no right over the machine."""
    told, tell = os.pipe()
    helper = os.fork()
    if helper == 0:
        os.read(told, 1)
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{os.getppid()}/{name}").write_text("0 0 4294967295")
        os._exit(0)
    unshare(CLONE_NEWUSER)
    os.write(tell, b"x")
    assert os.waitpid(helper, 0)[1] == 0


@pytest.mark.modes("suid", "root")
@pytest.mark.needs("root", "fuse", "userns", "setuid")
@pytest.mark.formats("sandbox", "squashfs")
def test_who_may_not_mount_here_does_without(launch: Launcher, image: Path) -> None:
    """The setuid program mounts there what is no image."""
    there = launch.changed(as_root=[*launch.world.as_root, enter_user_namespace_with_all_ids])
    assert there("exec", image, "cat", "/etc/image-name").ok().lines == ["busybox of the tests"]
    said = there("exec", "--dry-run", image, "true").ok().out
    assert ("the kernel mounts no images" in said) is (launch.mode is Mode.SUID and image.is_file())
    assert ("run by root of a user namespace" in said) is (launch.mode is Mode.ROOT)


def drop_the_right_to_mount() -> None:
    """PR_CAPBSET_DROP of CAP_SYS_ADMIN, as Docker does."""
    assert ctypes.CDLL(None).prctl(24, 21, 0, 0, 0) == 0


@pytest.mark.modes("suid")
@pytest.mark.needs("root", "fuse", "userns", "setuid")
@pytest.mark.formats("sandbox", "squashfs")
def test_without_the_right_to_mount_users_have_user_namespaces(launch: Launcher, image: Path) -> None:
    there = launch.changed(as_root=[*launch.world.as_root, drop_the_right_to_mount])
    assert there("exec", image, "cat", "/etc/image-name").ok().lines == ["busybox of the tests"]
    assert "a container without the right to mount" in there("exec", "--dry-run", image, "true").ok().out


@pytest.mark.modes("suid", "userns")
def test_the_init_shows_nothing_of_the_caller(launch: Launcher, images: Images) -> None:
    """R-L8: it is process 1 of a launch, with the variables that --cleanenv keeps from the program."""
    words = ["--containall", "--cleanenv", images.sif, "cat", "/proc/1/environ"]
    result = launch("exec", *words, env={"HIDDEN": "a-secret"})
    assert result.status != 0, str(result)
    assert result.out == ""
