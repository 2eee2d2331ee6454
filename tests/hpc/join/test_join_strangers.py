"""What is in the way of a shared container: old kernels, false keepers, strangers."""

from __future__ import annotations

import array
import errno
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import machine
import pytest
from job_steps import UID, Node, ended, line_of, meetings, open_mpi, show, spaces_of, wait_until
from launching import Launcher, Mode
from ordinary_user import Account
from syscalls import Refusal, before_6_5, before_6_16

if TYPE_CHECKING:
    from collections.abc import Callable

    from images import Images

pytestmark = pytest.mark.needs("installation")


# ---- what is in the way ----


@pytest.mark.needs("root")
def test_kernels_before_5_3_have_containers_of_their_own(launcher: Launcher, image: Path) -> None:
    old = Node.boot(launcher.changed(refusals=(*before_6_5(), Refusal("pidfd_open"))))
    try:
        words = ["exec", image, "readlink", "/proc/self/ns/mnt"]
        result = old.command(*words, first=["-v"], env=open_mpi(0, 2))
        assert result.status == 0, result
        assert "a container of its own" in result.err, result
        assert "Linux 5.3" in result.err, result
        old.command("exec", "--join=yes", image, "true", env=open_mpi(0, 2)).warned("--join=yes", "Linux 5.3")
    finally:
        old.shut_down()


@pytest.mark.needs("root")
@pytest.mark.parametrize("refusals", [before_6_16(), before_6_5()], ids=["6.15", "6.4"])
def test_older_kernels_share_too(launcher: Launcher, image: Path, refusals: tuple[Refusal, ...]) -> None:
    """Where it is the guest that says which process it is."""
    old = Node.boot(launcher.changed(refusals=refusals))
    try:
        told = spaces_of([show(old, image, env=open_mpi(rank, 3)) for rank in range(3)])
        assert len(set(told)) == 1, told
    finally:
        old.shut_down()


@pytest.mark.needs("root")
def test_where_namespaces_cannot_be_entered_there_are_containers_of_their_own(launcher: Launcher, image: Path) -> None:
    kept_out = Node.boot(launcher.changed(refusals=(Refusal("setns", errno.EPERM),)))
    try:
        for option, word in (("auto", "VERBOSE"), ("yes", "WARNING")):
            words = ["exec", f"--join={option}", image, "echo", "through"]
            result = kept_out.command(*words, first=["-v"], env=open_mpi(0, 2))
            assert (result.status, result.out) == (0, "through\n"), result
            assert any(line.startswith(word) and "container of" in line for line in result.err.splitlines()), result
    finally:
        kept_out.shut_down()


def name_of_meeting(node: Node, image: Path) -> bytes:
    """The name at which these ranks meet."""
    before = meetings()
    rank = show(node, image, env=open_mpi(0, 2))
    line_of(rank)
    (name,) = meetings() - before
    ended(rank).ok()
    wait_until(lambda: name not in meetings())
    return b"\0" + name.removeprefix("@").encode()


def serve(node: Node, name: bytes, respond: Callable[[socket.socket], None], *, root: bool) -> int:
    """A process of the user on this node, or of root, that has taken the name and answers in its own way."""
    ready, done = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if not root:
                node.enter()
            place = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            place.bind(name)
            place.listen()
            os.write(done, b"!")
            while True:
                respond(place.accept()[0])
        finally:
            os._exit(1)
    os.close(done)
    assert os.read(ready, 1) == b"!"
    os.close(ready)
    return child


def offer_namespaces_of(pid: int, node: Node) -> Callable[[socket.socket], None]:
    def respond(connection: socket.socket) -> None:
        connection.recv(1 << 16)
        spaces = ["user", "mnt"] if node.launcher.mode is Mode.USERNS else ["mnt"]
        fds = array.array("i", [os.open(f"/proc/{pid}/ns/{space}", os.O_RDONLY) for space in spaces])
        connection.sendmsg([b"y"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])

    return respond


@pytest.mark.needs("root")
@pytest.mark.parametrize("mode", [Mode.SUID, Mode.ROOT], indirect=True, ids=["suid", "root"])
def test_a_container_that_the_user_offers_is_not_entered(node: Node, image: Path) -> None:
    """The kernel tells who listens: where root is wanted, it must be root."""
    if node.launcher.mode is Mode.ROOT:
        stranger = Node(
            launcher=node.launcher.changed(account=Account(uid=UID, gid=UID), cwd=Path("/")), holder=node.holder
        )
    else:
        stranger = node
    server = serve(stranger, name_of_meeting(node, image), offer_namespaces_of(node.holder.pid, node), root=False)
    try:
        result = node.command("exec", image, "readlink", "/proc/self/ns/mnt", first=["-v"], env=open_mpi(0, 2))
        assert result.status == 0, result
        assert "has taken the name" in result.err, result
        assert result.out.strip() != os.readlink(f"/proc/{node.holder.pid}/ns/mnt")
    finally:
        os.kill(server, signal.SIGKILL)
        os.waitpid(server, 0)


@pytest.mark.needs("root", "userns")
@pytest.mark.parametrize("mode", [Mode.SUID, Mode.ROOT], indirect=True, ids=["suid", "root"])
def test_namespaces_of_a_users_making_are_not_entered(node: Node, image: Path) -> None:
    """Not even when root itself hands them over."""
    made = node.start("unshare", "-Ur", "-m", "sh", "-c", "echo made; read wait")
    line_of(made)
    server = serve(node, name_of_meeting(node, image), offer_namespaces_of(made.pid, node), root=True)
    try:
        node.command("exec", image, "id", env=open_mpi(0, 2)).refused("not of this program's making")
    finally:
        os.kill(server, signal.SIGKILL)
        os.waitpid(server, 0)
        ended(made)


@pytest.mark.needs("root", "gcc")
@pytest.mark.parametrize("mode", [Mode.USERNS], indirect=True, ids=["userns"])
def test_a_program_in_a_container_does_not_pass_for_a_keeper(
    node: Node, image: Path, images: Images, directory: Path
) -> None:
    """R-J2: it has the user's id, and a user namespace that the user has made. It knows the name by having seen it."""
    forged = images.modern_tree(directory / "forged")
    (forged / "etc/image-name").write_text("forged\n")
    poser = images.program(Path(__file__).parents[2] / "end_to_end/poser.c")
    name = name_of_meeting(node, image)[1:].decode()
    words = ["exec", "--containall", "--join=no", "-B", f"{poser}:/opt/data", forged, "/opt/data", "pose", name]
    jailed = node.launch(*words, env={})
    assert line_of(jailed) == "ready"
    try:
        result = node.command("exec", image, "cat", "/etc/image-name", first=["-v"], env=open_mpi(0, 2))
    finally:
        os.killpg(jailed.pid, signal.SIGKILL)
    assert (result.status, result.out) == (0, "busybox of the tests\n"), str(result)
    assert "has taken the name" in result.err, str(result)


@pytest.mark.needs("root")
@pytest.mark.parametrize("mode", [Mode.SUID, Mode.USERNS], indirect=True, ids=["suid", "userns"])
def test_a_keeper_answers_its_own_user_only(node: Node, image: Path) -> None:
    """R-J2: somebody else, root too, is shown out before a byte or a descriptor of his is read, however many he is."""
    before = meetings()
    rank = show(node, image, env=open_mpi(0, 2))
    line_of(rank)
    (name,) = meetings() - before
    strangers = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(500)]
    try:
        for stranger in strangers:
            stranger.settimeout(20)
            stranger.connect(b"\0" + name.removeprefix("@").encode())
        show_second = show(node, image, env=open_mpi(1, 2))
        assert line_of(show_second)
        ended(show_second).ok()
        for stranger in strangers:
            assert stranger.recv(16) == b""
    finally:
        for stranger in strangers:
            stranger.close()
    ended(rank).ok()


@pytest.mark.needs("root")
@pytest.mark.parametrize("mode", [Mode.SUID, Mode.USERNS], indirect=True, ids=["suid", "userns"])
def test_a_keeper_tells_a_wrong_key_no(node: Node, image: Path) -> None:
    """Also the user herself, who asks for a container of other options."""
    before = meetings()
    rank = show(node, image, env=open_mpi(0, 2))
    line_of(rank)
    (name,) = meetings() - before
    script = (
        "import array, os, socket\n"
        "asking = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
        f"asking.connect({(chr(0) + name.removeprefix('@')).encode()!r})\n"
        "mine = array.array('i', [os.pidfd_open(os.getpid())])\n"
        "try:\n"
        "    asking.sendmsg([b'whatever'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, mine)])\n"
        "except PermissionError:\n"  # from Linux 6.16 on nobody sends a keeper descriptors
        "    asking.send(b'whatever')\n"
        "print(asking.recvmsg(16, 1024)[:2])\n"
    )
    asked = node.start("/usr/bin/python3", "-c", script)
    assert line_of(asked).strip() == "(b'n', [])"
    ended(asked).ok()
    ended(rank).ok()


@pytest.mark.needs("root", "unsanitized")
@pytest.mark.parametrize("mode", [Mode.SUID], indirect=True, ids=["suid"])
def test_a_keeper_has_no_privilege_and_cannot_be_traced(node: Node, image: Path) -> None:
    """R-L6, R-L8."""
    before = machine.children()
    rank = show(node, image, env=open_mpi(0, 2))
    line_of(rank)
    (keeper,) = [child for child in machine.children() - before if machine.command_of(child).startswith("sexec ")]
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{keeper}/status").read_text().splitlines())
    assert status["Uid"].split() == [str(UID)] * 4
    assert {status[name] for name in ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
    assert Path(f"/proc/{keeper}/mem").stat().st_uid == 0  # not dumpable
    assert sorted(os.readlink(f"/proc/{keeper}/fd/{fd}").split(":")[0] for fd in range(3)) == ["/memfd"] * 3
    ended(rank).ok()


# ---- strangers ----

ONLY_SUID = pytest.mark.parametrize("mode", [Mode.SUID], indirect=True, ids=["suid"])
STRANGER = UID + 7

LINGERING = """
import array, os, socket, struct, sys
server = socket.socket()
server.bind(("127.0.0.1", 0))
server.listen()
client = socket.socket()
client.connect(server.getsockname())
peer, _ = server.accept()
client.setblocking(False)
try:
    while True:
        client.send(b"x" * 65536)
except BlockingIOError:
    pass
client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 1000))

def leave(connection):
    try:
        connection.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [client.fileno()]))])
    except OSError:
        return  # and keeps it, for who closes it last waits
    client.close()

meeting = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
name = chr(0) + sys.argv[1]
try:
    meeting.bind(name)
except OSError:
    meeting.connect(name)
    leave(meeting)
    print("ready", flush=True)
else:
    meeting.listen()
    print("ready", flush=True)
    leave(meeting.accept()[0])
sys.stdin.read()
"""

SQUATTING = """
import socket, sys
name = chr(0) + sys.argv[1]
place = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
place.bind(name)
place.listen(0)
callers = []
try:
    while True:
        callers.append(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        callers[-1].setblocking(False)
        callers[-1].connect(name)
except BlockingIOError:
    pass
print("full", flush=True)
sys.stdin.read()
"""


def stranger(script: str, name: str) -> subprocess.Popen[bytes]:
    words = ["setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups", "/usr/bin/python3", "-c"]
    process = subprocess.Popen([*words, script, name.removeprefix("@")], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline()
    return process


def traced(node: Node, image: Path, *options: str) -> None:
    """One rank under strace of root's, who can trace the starter."""
    groups = ",".join(str(group) for group in node.launcher.account.groups.values())
    words = ["strace", "-f", *options, "nsenter", f"--mount=/proc/{node.holder.pid}/ns/mnt",
             "setpriv", f"--reuid={UID}", f"--regid={UID}", f"--groups={groups}",
             "env", f"--chdir={node.launcher.account.home}", *node.launcher.argv("exec", image, "true")]  # fmt: skip
    environment = node.launcher.environment(open_mpi(1, 2))
    subprocess.run(words, env=environment, stdin=subprocess.DEVNULL, check=True, cwd="/", timeout=30)


@pytest.mark.needs("root", "closed-sockets")
@ONLY_SUID
def test_what_a_stranger_leaves_with_a_keeper_stalls_nobody(node: Node, image: Path) -> None:
    """R-J2: a TCP socket that lingers is closed by whoever lets it go last, and for as long as its owner likes."""
    before = meetings()
    rank = show(node, image, env=open_mpi(0, 2))
    line_of(rank)
    (name,) = meetings() - before
    with stranger(LINGERING, name) as other:
        try:
            time.sleep(0.5)
            begin = time.monotonic()
            second = show(node, image, env=open_mpi(1, 2))
            line_of(second)
            took = time.monotonic() - begin
        finally:
            other.kill()
    ended(second).ok()
    ended(rank).ok()
    assert took < 10


@pytest.mark.needs("root", "strace", "closed-sockets")
@ONLY_SUID
def test_what_a_stranger_leaves_under_a_name_stalls_nobody(node: Node, image: Path, directory: Path) -> None:
    """R-J2: the same to a rank that finds the name taken; strace gives the stranger the time he needs."""
    before = meetings()
    rank = show(node, image, env=open_mpi(0, 2))
    line_of(rank)
    (name,) = meetings() - before
    ended(rank).ok()
    wait_until(lambda: not meetings() - before)
    with stranger(LINGERING, name) as other:
        try:
            traced(node, image, "-o", str(directory / "trace"), "-e", "inject=connect:delay_exit=500000")
        finally:
            other.kill()


@pytest.mark.needs("root")
@ONLY_SUID
def test_who_takes_a_name_and_never_accepts_stalls_nobody(node: Node, image: Path) -> None:
    """R-J2: names are read in /proc/net/unix; a rank waited for a minute in a stranger's full queue."""
    before = meetings()
    rank = show(node, image, env=open_mpi(0, 2))
    line_of(rank)
    (name,) = meetings() - before
    ended(rank).ok()
    wait_until(lambda: not meetings() - before)
    with stranger(SQUATTING, name) as other:
        try:
            begin = time.monotonic()
            second = node.command("exec", image, "true", first=["-v"], env=open_mpi(0, 2))
            took = time.monotonic() - begin
        finally:
            other.kill()
    assert second.status == 0, str(second)
    assert "accepts nobody" in second.err, str(second)
    assert took < 10


def question_of(node: Node, image: Path, directory: Path) -> str:
    """What a rank sends to the keeper, in hexadecimal digits."""
    trace = directory / "trace"
    traced(node, image, "-xx", "-s", "200000", "-e", "trace=sendmsg", "-o", str(trace))
    found = re.search(r'iov_base="((?:\\x[0-9a-f]{2}){40,})"', trace.read_text())
    assert found
    return found.group(1).replace("\\x", "")


FORGED = """
import array, os, socket, sys
asking = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
asking.connect(chr(0) + sys.argv[1])
never = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [os.eventfd(0)]))]
try:
    asking.sendmsg([bytes.fromhex(sys.argv[2])], never)
except PermissionError:
    asking.send(bytes.fromhex(sys.argv[2]))
print(asking.recvmsg(16, 1024)[0], flush=True)
sys.stdin.read()
"""


@pytest.mark.needs("root", "strace", "closed-sockets")
@ONLY_SUID
def test_a_guest_is_the_process_that_connected(node: Node, image: Path, directory: Path) -> None:
    """R-B1, R-J2: the user's own forged rank hands over a descriptor that never ends in the place of its process. It is
    let in all the same, and forgotten when it ends."""
    before = meetings()
    first = show(node, image, env=open_mpi(0, 2))
    line_of(first)
    (name,) = meetings() - before
    question = question_of(node, image, directory)
    guest = node.start("/usr/bin/python3", "-c", FORGED, name.removeprefix("@"), question)
    assert line_of(guest) == "b'y'"
    ended(first).ok()
    assert meetings() - before == {name}, "a guest that lives keeps its container"
    ended(guest).ok()
    try:
        wait_until(lambda: not meetings() - before)
    finally:
        for left in machine.children():
            if machine.command_of(left).startswith("sexec "):
                os.kill(left, signal.SIGKILL)
