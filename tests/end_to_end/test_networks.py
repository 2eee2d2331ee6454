"""Networks of a container's own, carried by pasta or slirp4netns: others reached, ports forwarded, nothing stays."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import machine
import pytest
from ordinary_user import CLONE_NEWNET, setns, unshare

if TYPE_CHECKING:
    from collections.abc import Iterator

    from images import Images
    from launching import Launcher

pytestmark = [pytest.mark.needs("root", "installation", "ip"), pytest.mark.modes("suid", "userns")]
CARRIERS = {"pasta": "/usr/bin/pasta", "slirp4netns": "/usr/bin/slirp4netns"}
ANSWER = "while true; do printf 'HTTP/1.0 200 OK\\r\\n\\r\\nother\\n' | busybox nc -l -p 80 >/dev/null; done"
OTHER, OURS = "10.99.7.1", "10.99.7.2"  # addresses of another machine, and of this one there


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture(scope="module", autouse=True)
def other_machine() -> Iterator[None]:
    """This process gets a network with another machine in it, which answers "other" on port 80."""
    ours = os.open("/proc/self/ns/net", os.O_RDONLY)
    try:
        unshare(CLONE_NEWNET)
        ip("link", "set", "lo", "up")
        script = "read x; ip link set lo up; ip addr add 10.99.7.1/24 dev w1; ip link set w1 up; echo ready; " + ANSWER
        with subprocess.Popen(
            ["unshare", "--net", "sh", "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        ) as other:
            assert other.stdin is not None
            assert other.stdout is not None
            time.sleep(0.2)
            ip("link", "add", "w0", "type", "veth", "peer", "name", "w1", "netns", str(other.pid))
            ip("addr", "add", f"{OURS}/24", "dev", "w0")
            ip("link", "set", "w0", "up")
            ip("route", "add", "default", "via", OTHER)
            other.stdin.write(b"\n")
            other.stdin.flush()
            assert other.stdout.readline() == b"ready\n"
            yield
            os.killpg(other.pid, signal.SIGKILL)  # the server too
    finally:
        setns(ours)
        os.close(ours)


@pytest.fixture(params=list(CARRIERS))
def carried(request: pytest.FixtureRequest, launch: Launcher, directory: Path) -> Launcher:
    """A machine that has this carrier alone, and a device for it as udev makes it."""
    machine.require(request.param)
    tun = directory / "tun"
    os.mknod(tun, 0o666 | 0o020000, os.makedev(10, 200))
    tun.chmod(0o666)
    missing = directory / "missing"
    missing.write_text("")
    missing.chmod(0o644)
    changed = launch.showing(Path("/dev/net/tun"), tun)
    for name, path in CARRIERS.items():
        if name != request.param and Path(path).exists():
            changed = changed.showing(Path(path), missing)
    return changed


def carriers_of(user: int) -> list[str]:
    return [name for _, name in carriers(user)]


def carriers(user: int) -> list[tuple[Path, str]]:
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            text = status.read_text()
        except OSError:
            continue
        name = text.split("\n", 1)[0].split("\t")[1]
        if (
            f"\nUid:\t{user}\t" in text
            and "\nState:\tZ" not in text
            and name.startswith(("pasta", "passt", "slirp4netns", "sexec-network"))
        ):
            found.append((status.parent, name))
    return found


def wait_for_none(user: int) -> None:
    end = time.monotonic() + 20
    while carriers_of(user) and time.monotonic() < end:
        time.sleep(0.05)
    assert carriers_of(user) == []


def test_another_machine_is_reached(carried: Launcher, images: Images) -> None:
    result = carried("exec", "--network", "bridge", images.sandbox, "wget", "-qO-", f"http://{OTHER}/")
    assert result.ok().out == "other\n"
    wait_for_none(carried.account.uid)
    assert carried("exec", "--network=fakeroot", "--fakeroot", images.sandbox, "id", "-u").ok().out == "0\n"
    seen = carried("exec", "--network", "bridge", images.sandbox, "cat", "/etc/resolv.conf").ok().out
    assert seen == "nameserver 10.0.2.3\n"


def test_the_hosts_loopback_is_not_reached(carried: Launcher, images: Images) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        for address in ("127.0.0.1", "10.0.2.2", OTHER):
            words = ["wget", "-T", "2", "-qO-", f"http://{address}:{port}/"]
            assert carried("exec", "--network", "bridge", images.sandbox, *words).status != 0
        server.settimeout(0.1)
        with pytest.raises(TimeoutError):
            server.accept()


def answers(server: socket.socket) -> None:
    """Names, to a server which says that each is OTHER (RFC 1035, 4.1), until it is told to end."""
    while True:
        question, asker = server.recvfrom(512)
        if question == b"end":
            return
        end = question.index(b"\0", 12) + 5
        known = question[end - 4 : end - 2] == b"\0\1"  # an address of IPv4 is asked for
        answer = b"\xc0\x0c" + question[end - 4 : end] + b"\0\0\0\x3c\0\4" + socket.inet_aton(OTHER) if known else b""
        counts = b"\0\1\0" + (b"\1" if known else b"\0") + b"\0\0\0\0"
        server.sendto(question[:2] + b"\x81\x80" + counts + question[12:end] + answer, asker)


def test_names_are_asked_for_where_the_host_asks(carried: Launcher, images: Images, directory: Path) -> None:
    """Also of a server on the host's loopback interface, which the container cannot reach by itself."""
    resolvers = directory / "resolv.conf"
    resolvers.write_text("nameserver 127.0.0.1\n")
    resolvers.chmod(0o644)
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as server:
        server.bind(("127.0.0.1", 53))
        thread = threading.Thread(target=answers, args=(server,))
        thread.start()
        try:
            world = carried.showing(Path("/etc/resolv.conf"), resolvers)
            words = ("exec", "--network", "bridge", images.sandbox, "nslookup", "-type=a", "some.where.example")
            result = world(*words)
        finally:
            server.sendto(b"end", ("127.0.0.1", 53))
            thread.join()
    assert f"Address: {OTHER}" in result.ok().out


@pytest.mark.parametrize("more", [[], ["--fakeroot"]], ids=["user", "root"])
def test_who_carries_is_confined(
    carried: Launcher, images: Images, more: list[str], request: pytest.FixtureRequest
) -> None:
    """Packets of a hostile program are read outside of its container: under filters, and without files if it can."""
    words = ("exec", "--network", "bridge", *more, images.sandbox, "sh", "-c", "echo up; read x")
    with carried.start(*carried.argv(*words), stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"up\n"
        found = [place for place, name in carriers(carried.account.uid) if name != "sexec-network"]
        assert found
        for place in found:
            assert "\nSeccomp:\t2\n" in (place / "status").read_text()
            if more or "pasta" in request.node.name:
                assert not (place / "root/bin").exists()
        process.stdin.close()
        process.wait(20)
    wait_for_none(carried.account.uid)


@pytest.mark.parametrize("more", [[], ["--pid"]], ids=["plain", "pid"])
def test_ports_are_forwarded(
    carried: Launcher, images: Images, more: list[str], request: pytest.FixtureRequest
) -> None:
    words = ["--network-args", "portmap=18080:8000/tcp", *more, images.sandbox]
    if "slirp4netns" in request.node.name:
        carried("exec", *words, "true").refused("pasta not found", "install passt")
        return
    with carried.start(*carried.argv("exec", *words, "sh", "-c", "echo up; echo inside | nc -l -p 8000")) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        answer = b""
        for _ in range(100):
            try:
                with socket.create_connection(("127.0.0.1", 18080), timeout=5) as connection:
                    answer = connection.recv(100)
            except OSError:
                pass
            if answer:
                break
            time.sleep(0.1)
        assert answer == b"inside\n"
        assert process.wait(20) == 0
    wait_for_none(carried.account.uid)


def test_a_killed_launch_leaves_no_carrier(carried: Launcher, images: Images) -> None:
    with carried.start(
        *carried.argv("exec", "--network", "bridge", images.sandbox, "sh", "-c", "echo up; sleep 60")
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        assert carriers_of(carried.account.uid)
        os.killpg(process.pid, 9)
        process.wait()
    wait_for_none(carried.account.uid)


def test_many_at_once(carried: Launcher, images: Images) -> None:
    results = []
    words = ("exec", "--network", "bridge", images.sandbox, "wget", "-qO-", f"http://{OTHER}/")
    threads = [threading.Thread(target=lambda: results.append(carried(*words).status)) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(results) == 4
    wait_for_none(carried.account.uid)


def test_what_cannot_be_carried_is_refused(launch: Launcher, images: Images, directory: Path) -> None:
    nothing = directory / "nothing"
    nothing.write_text("")
    bare = launch
    for path in CARRIERS.values():
        if Path(path).exists():
            bare = bare.showing(Path(path), nothing)
    bare("exec", "--network", "bridge", images.sandbox, "true").refused(
        "pasta not found", "install passt, or slirp4netns"
    )
    launch("exec", "--network", "calico", images.sandbox, "true").misused("--network calico: not available here")
    for args in ("IP=10.0.0.1", "portmap=", "portmap=70000:1", "portmap=1:2/sctp", "portmap=1:2:3"):
        launch("exec", "--network-args", args, images.sandbox, "true").misused("portmap=HOST:CONTAINER/tcp")


@pytest.mark.modes("root")
def test_root_is_told_what_there_is(launch: Launcher, images: Images) -> None:
    launch("exec", "--network", "bridge", images.sandbox, "true").misused("not available to root")
    assert launch("exec", "--network", "host", images.sandbox, "echo", "here").ok().out == "here\n"
