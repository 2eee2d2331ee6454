"""The world of the end-to-end tests is what it claims to be."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import syscalls
from ordinary_user import STAGE

pytestmark = pytest.mark.needs("root")
SCRIPT = Path(__file__).parent / "ordinary_user.py"
LOOP_CHANGE_FD = 0x4C06


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *argv]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, cwd="/")


def test_the_user_has_her_ids_groups_name_and_home() -> None:
    script = "id -u; id -G; id -un; pwd; touch file; stat -c %U file"
    result = run("--cwd", str(STAGE / "alice"), "--", "sh", "-c", script)
    assert result.stdout.split() == ["10001", "10001", "10002", "10003", "alice", str(STAGE / "alice"), "alice"]


@pytest.mark.parametrize("status", [0, 1, 127, 255])
def test_the_status_is_the_commands_own(status: int) -> None:
    assert run("--", "sh", "-c", f"exit {status}").returncode == status


def test_a_signal_is_the_commands_own() -> None:
    assert run("--", "sh", "-c", "kill -KILL $$").returncode == -signal.SIGKILL


def test_she_has_no_capability_and_setuid_programs_would_work() -> None:
    text = run("--", "cat", "/proc/self/status").stdout
    fields = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    assert int(fields["CapEff"], 16) == int(fields["CapPrm"], 16) == 0
    assert fields["NoNewPrivs"] == "0"


def test_the_machine_keeps_its_accounts_and_mounts() -> None:
    before = [Path(name).read_text() for name in ("/etc/passwd", "/etc/group", "/proc/self/mountinfo")]
    run("--", "true")
    assert before == [Path(name).read_text() for name in ("/etc/passwd", "/etc/group", "/proc/self/mountinfo")]


def test_an_account_can_be_missing_from_passwd() -> None:
    assert run("--no-passwd-entry", "--", "id", "-un").returncode != 0


def test_people_of_the_machine_are_not_there(tmp_path: Path) -> None:
    """Her name and her number may be somebody's, and useradd has given him subordinate ids."""
    lines = {
        "passwd": "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/:/bin/sh\nvisitor:x:10001:10001::/:/bin/sh\n",
        "group": "root:x:0:\nscience:x:1002:\nvisitor:x:10001:\n",
        "subuid": "alice:100000:65536\nvisitor:165536:65536\n",
        "subgid": "alice:100000:65536\nvisitor:165536:65536\n",
    }
    words = ["--root"]
    for name, text in lines.items():
        (tmp_path / name).write_text(text)
        words += ["--replace", f"/etc/{name}={tmp_path / name}"]
    script = "id; cat /etc/subuid /etc/subgid"
    shown = run(*words, "--", sys.executable, str(SCRIPT), "--", "sh", "-c", script).stdout.splitlines()
    assert shown[0] == "uid=10001(alice) gid=10001(alice) groups=10001(alice),10002(science),10003(storage)"
    assert shown[1:] == ["alice:1000000:65536"] * 2


@pytest.mark.needs("fuse")
def test_the_fuse_device_opens_unless_told_otherwise() -> None:
    assert run("--", "sh", "-c", "exec 3<>/dev/fuse").returncode == 0
    assert run("--no-fuse", "--", "sh", "-c", "exec 3<>/dev/fuse").returncode != 0


@pytest.mark.needs("userns")
def test_user_namespaces_can_be_taken_away() -> None:
    assert run("--", "unshare", "-U", "true").returncode == 0
    assert run("--no-user-namespaces", "--", "unshare", "-U", "true").returncode != 0


def test_a_refused_call_answers_with_its_error_and_others_go_on() -> None:
    program = (
        "import ctypes, syscalls\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "syscalls.refuse([syscalls.Refusal('openat2'), syscalls.Refusal('close_range', 5)])\n"
        "for name in ('openat2', 'close_range', 'pidfd_open'):\n"
        "    libc.syscall(ctypes.c_long(syscalls.number_of(name)), -1, 0, 0, 0)\n"
        "    print(ctypes.get_errno())\n"
    )
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, cwd=SCRIPT.parent)
    assert [int(word) for word in result.stdout.split()] == [errno.ENOSYS, errno.EIO, errno.EINVAL], result.stderr


@pytest.mark.parametrize(
    ("command", "expected"), [(syscalls.LOOP_CONFIGURE, errno.EINVAL), (LOOP_CHANGE_FD, errno.EBADF)]
)
def test_a_refusal_can_look_at_an_argument(command: int, expected: int) -> None:
    child = os.fork()
    if child == 0:
        number = 0
        try:
            import fcntl

            syscalls.refuse([syscalls.without_loop_configure()])
            fcntl.ioctl(1023, command, 0)
        except OSError as error:
            number = error.errno or 0
        os._exit(number)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == expected
