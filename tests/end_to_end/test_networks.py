"""Networks of a container's own, carried by pasta or slirp4netns: others reached, ports forwarded, nothing stays."""

from __future__ import annotations

import json
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

from singularity.cli import launched

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
            end = time.monotonic() + 10  # it says that it is ready a moment before
            while "\nSeccomp:\t2\n" not in (place / "status").read_text() and time.monotonic() < end:
                time.sleep(0.01)
            assert "\nSeccomp:\t2\n" in (place / "status").read_text()
            if more or "pasta" in request.node.name:
                assert not (place / "root/bin").exists()
        process.stdin.close()
        process.wait(20)
    wait_for_none(carried.account.uid)


def answered(address: str, port: int) -> bytes:
    """What a server says that is about to listen."""
    for _ in range(100):
        try:
            with socket.create_connection((address, port), timeout=5) as connection:
                answer = connection.recv(100)
        except OSError:
            answer = b""
        if answer:
            return answer
        time.sleep(0.1)
    return b""


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
        assert answered("127.0.0.1", 18080) == b"inside\n"
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
    none = ("exec", "--network-args", "IP=10.0.0.1", "--network", "none", images.sandbox, "ls", "/sys/class/net")
    assert launch(*none).ok().out == "lo\n"  # as singularity-compose has it
    words = ("exec", "--network", "none", "--network-args", "portmap=1:2", images.sandbox, "true")
    launch(*words).misused("network none has no ports")
    for one, other in (("none", "host"), ("host", "bridge"), ("bridge", "none")):
        both = "goes with no other network"
        launch("exec", "--network", one, "--network", other, images.sandbox, "true").misused(both)
        launch("exec", f"--network={one},{other}", images.sandbox, "true").misused(both)
    words = ("exec", "--network", "none", "--network", "none", images.sandbox, "ls", "/sys/class/net")
    assert launch(*words, env={"SINGULARITY_NETWORK": "host"}).ok().out == "lo\n"
    launch("exec", "--network-args", "x", images.sandbox, "true").misused("NAME=VALUE is wanted")
    for args in ("IP=10.0.0.1", "portmap=", "portmap=70000:1", "portmap=1:2/sctp", "portmap=1:2:3"):
        launch("exec", "--network-args", args, images.sandbox, "true").misused("portmap=HOST:CONTAINER/tcp")


# ---- root's networks: a namespace that is there, and those of plugins of CNI ----

root = pytest.mark.modes("root")
plugins = pytest.mark.needs("root", "cni")
STATES, LEASES = Path("/run/singularity/networks"), Path("/var/lib/cni/networks")


@pytest.fixture
def forwarding() -> Iterator[None]:
    """This machine forwards packets, and what a test leaves in its tables goes."""
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1\n")
    yield
    wait_for_nothing_left()


def left_behind() -> list[str]:
    found = [str(path) for path in STATES.glob("*")] + [str(path) for path in LEASES.glob("*/10.*")]
    names = [link["ifname"] for link in json.loads(shown("ip", "-json", "link"))]
    found += [name for name in names if name.startswith("veth")]
    return found + [line for line in shown("iptables-save").splitlines() if "10.22." in line or "10.23." in line]


def shown(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def wait_for_nothing_left() -> None:
    end = time.monotonic() + 20
    while left_behind() and time.monotonic() < end:
        time.sleep(0.05)
    assert left_behind() == []


@root
@plugins
@pytest.mark.parametrize("network", ["bridge", "ptp"])
def test_plugins_carry_roots_network(launch: Launcher, images: Images, forwarding: None, network: str) -> None:
    """Another machine is reached, /sys shows the container's devices, the status is the program's, nothing stays."""
    del forwarding
    words = ("exec", "--network", network, images.sandbox, "sh", "-c")
    script = f"wget -qO- http://{OTHER}/; ls /sys/class/net; test -d /sys/fs/cgroup; exit 7"
    result = launch(*words, script)
    assert (result.status, sorted(result.out.split())) == (7, ["eth0", "lo", "other"]), str(result)
    plan = launch("exec", "--dry-run", "--network", network, images.sandbox, "true").ok().out
    assert "namespaces: mount" in plan


@root
@plugins
def test_plugins_forward_ports(launch: Launcher, images: Images, forwarding: None) -> None:
    """And give the address that is asked for."""
    del forwarding
    args = ["--network-args", "portmap=18081:8000/tcp", "--network-args", "IP=10.22.0.77"]
    script = "ip -4 addr show eth0; echo up; echo inside | timeout 20 nc -l -p 8000"
    with launch.start(*launch.argv("exec", *args, images.sandbox, "sh", "-c", script)) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, b"up\n")
        assert any(b"10.22.0.77/16" in line for line in lines)
        assert answered(OURS, 18081) == b"inside\n"
        assert process.wait(20) == 0


@root
@plugins
def test_an_instance_keeps_its_network(launch: Launcher, images: Images, forwarding: None) -> None:
    del forwarding
    assert launch("instance", "start", "--network", "bridge", images.sandbox, "carried").status == 0
    try:
        script = f"ip -4 addr show eth0; wget -qO- http://{OTHER}/"
        seen = launch("exec", "instance://carried", "sh", "-c", script).ok().out
        listed = json.loads(launch("instance", "list", "--json").ok().out)["instances"][0]
        assert f"inet {listed['ip']}/16" in seen
        assert seen.endswith("other\n")
        launch("exec", "--network", "bridge", "instance://carried", "true").refused("has another network")
        assert left_behind()
    finally:
        assert launch("instance", "stop", "carried").status == 0


@root
@plugins
def test_a_killed_launch_and_a_killed_keeper_leave_nothing(launch: Launcher, images: Images, forwarding: None) -> None:
    """What nobody could take down any more the next launch takes down."""
    del forwarding
    words = launch.argv("exec", "--network", "bridge", images.sandbox, "sh", "-c", "echo up; sleep 60")
    for keeper in (False, True):  # in this mount namespace, which stays
        with subprocess.Popen(words, stdout=subprocess.PIPE, process_group=0) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"up\n"
            state = next(each for each in STATES.iterdir() if not each.suffix)
            if keeper:
                links = [fd for fd in Path("/proc").glob("[0-9]*/fd/*") if is_link(fd, state)]
                assert len(links) == 1
                os.kill(int(links[0].parts[2]), signal.SIGKILL)
            os.killpg(process.pid, signal.SIGKILL)
        if keeper:
            assert left_behind()
            subprocess.run(launch.argv("exec", "--network", "ptp", images.sandbox, "true"), check=True)
        wait_for_nothing_left()


def is_link(link: Path, target: Path) -> bool:
    try:
        return os.readlink(link) == str(target)
    except OSError:
        return False


@root
@plugins
def test_several_launches_and_several_networks(launch: Launcher, images: Images, forwarding: None) -> None:
    del forwarding
    words = ("exec", "--network", "bridge,ptp", images.sandbox, "ip", "-4", "addr")
    seen = launch(*words).ok().out
    assert "eth0" in seen
    assert "10.22." in seen
    assert "eth1" in seen
    assert "10.23." in seen
    results: list[str] = []
    threads = [threading.Thread(target=lambda: results.append(launch(*words).ok().out)) for _ in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    taken = [line.split()[1] for result in results for line in result.splitlines() if "inet 10." in line]
    assert len(taken) == len(set(taken)) == 12


@root
@plugins
def test_networks_of_the_site(launch: Launcher, images: Images, directory: Path) -> None:
    """What is wrong with them, or with a plugin, is one line, and nothing has been started."""
    site = directory / "network"
    site.mkdir()
    (site / "1.conflist").write_text('{"name": "lab", "cniVersion": "1.0.0", "plugins": [{"type": "nosuch"}]}')
    (site / "2.conf").write_text('{"name": "old", "cniVersion": "0.4.0", "type": "failing"}')
    (site / "3.conflist").write_text("{")
    programs = directory / "programs"
    programs.mkdir()
    failing = programs / "failing"
    failing.write_text(
        '#!/bin/sh\ncat >/dev/null\n[ $CNI_COMMAND = DEL ] || { echo \'{"code": 11, "msg": "no room"}\'; exit 1; }\n'
    )
    failing.chmod(0o755)
    own = launch.configured(f"cni configuration path = {site}\ncni plugin path = {programs}\n")
    result = own("exec", "--network", "lab", images.sandbox, "true")
    result.refused("nosuch, a plugin of networks, not found", "containernetworking-plugins")
    assert "3.conflist" in result.err
    (site / "3.conflist").unlink()
    own("exec", "--network", "old", images.sandbox, "true").refused("network old: failing: no room")
    own("exec", "--network", "other", images.sandbox, "true").refused("there is no such network", "has lab, old")
    words = ("exec", "--network", "old", "--network-args")
    own(*words, "portmap=1:2", images.sandbox, "true").misused("has no plugin that forwards ports")
    own(*words, "x", images.sandbox, "true").misused("NAME=VALUE is wanted")
    own(*words, "lab:x=1", images.sandbox, "true").misused("network lab is not asked for")
    wait_for_nothing_left()


def site_of(directory: Path, script: str) -> str:
    """A configuration with a network "lab", whose plugin notes what it is told and goes on as this script."""
    site, programs, told = directory / "network", directory / "programs", directory / "told"
    site.mkdir()
    programs.mkdir()
    (site / "lab.conflist").write_text('{"name": "lab", "cniVersion": "1.0.0", "plugins": [{"type": "own"}]}')
    (programs / "own").write_text(f"#!/bin/sh\ncat >/dev/null\necho $CNI_COMMAND >>{told}\n{script}")
    (programs / "own").chmod(0o755)
    return f"cni configuration path = {site}\ncni plugin path = {programs}\n"


def wait_for_told(directory: Path, words: list[str]) -> None:
    end = time.monotonic() + 20
    told = directory / "told"
    while time.monotonic() < end and (told.read_text().split() if told.exists() else []) != words:
        time.sleep(0.05)
    assert told.read_text().split() == words


def wait_for_no_state() -> None:
    end = time.monotonic() + 20
    while any(STATES.glob("*")) and time.monotonic() < end:
        time.sleep(0.05)
    assert not list(STATES.glob("*"))


@root
def test_a_plugin_that_hangs_ends_with_the_launch(launch: Launcher, images: Images, directory: Path) -> None:
    """And what it has done is taken down; whoever reads the launch's output is not kept waiting."""
    own = launch.configured(site_of(directory, "[ $CNI_COMMAND = DEL ] || sleep 3217"))
    with own.start(*own.argv("exec", "--network", "lab", images.sandbox, "true")) as process:
        wait_for_told(directory, ["ADD"])
        os.killpg(process.pid, signal.SIGKILL)
        assert process.communicate(timeout=20) == (b"", b"")
    wait_for_told(directory, ["ADD", "DEL"])
    wait_for_no_state()
    assert not any(b"3217" in path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if is_there(path))


def is_there(path: Path) -> bool:
    try:
        return bool(path.read_bytes())
    except OSError:
        return False


@root
def test_a_launch_killed_meanwhile_has_its_network_taken_down(
    launch: Launcher, images: Images, directory: Path
) -> None:
    """By a plugin that is done before anybody looks."""
    own = launch.configured(site_of(directory, "[ $CNI_COMMAND = DEL ] || { trap '' TERM; sleep 0.4; }; echo '{}'"))
    with own.start(*own.argv("exec", "--network", "lab", images.sandbox, "true")) as process:
        wait_for_told(directory, ["ADD"])
        os.killpg(process.pid, signal.SIGKILL)
    wait_for_told(directory, ["ADD", "DEL"])
    wait_for_no_state()


@root
@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("head -c 3000000 /dev/zero", ""),
        ("""printf '{"msg": "'; head -c 3000000 /dev/zero | tr '\\0' x; echo '"}'; exit 1""", "network lab: own: xxx"),
        ("""[ $CNI_COMMAND = DEL ] || echo '{"ips": 5, "dns": {"nameservers": ["--help", 5]}}'""", ""),
        ("""[ $CNI_COMMAND = DEL ] || echo '{"ips": [5, {"address": []}], "dns": [5]}'""", ""),
        ("kill -9 $$", "killed by SIGKILL"),
    ],
    ids=["zeros", "long", "servers", "types", "killed"],
)
def test_what_plugins_print_is_one_line_at_most(
    launch: Launcher, images: Images, directory: Path, script: str, said: str
) -> None:
    own = launch.configured(site_of(directory, script))
    result = own("exec", "--network", "lab", images.sandbox, "true")
    if said:
        result.refused(said)
    assert "Traceback" not in result.err
    assert len(result.err) < 10000
    wait_for_told(directory, ["ADD", "DEL"])
    wait_for_no_state()


STATE = {"name": "x", "version": "1", "plugins": [], "interface": "eth0", "ports": [], "arguments": ""}


@root
@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"container": "x", "results": 5}',
        '{"container": "x", "results": [[1, 2, 3]]}',
        json.dumps({"container": "x", "results": [[{**STATE, "plugins": ["x"]}, []]]}),
    ],
)
def test_a_damaged_state_is_swept_and_hinders_nobody(
    launch: Launcher, images: Images, directory: Path, text: str
) -> None:
    own = launch.configured(site_of(directory, "echo '{}'"))
    STATES.mkdir(mode=0o700, parents=True, exist_ok=True)
    number = os.stat("/proc/self/ns/net").st_ino
    (STATES / str(number)).write_text(text)
    assert own("instance", "start", images.sandbox, "beside").status == 0
    try:
        assert json.loads(own("instance", "list", "--json").ok().out)["instances"][0]["ip"] == ""
    finally:
        assert own("instance", "stop", "beside").status == 0
    own("exec", "--network", "lab", images.sandbox, "true").ok()
    wait_for_no_state()


@root
def test_nobody_can_write_where_states_are(launch: Launcher, images: Images, directory: Path) -> None:
    """Whatever the umask of who launches is."""
    own = launch.configured(site_of(directory, f"umask >>{directory}/umask; echo '{{}}'"))
    words = own.argv("exec", "--network", "lab", images.sandbox, "true")
    own.command("sh", "-c", 'umask 0; exec "$@"', "sh", *words).ok()
    wait_for_told(directory, ["ADD", "DEL"])
    assert set((directory / "umask").read_text().split()) == {"0022"}
    assert not (STATES.parent.stat().st_mode | STATES.stat().st_mode) & 0o022


@root
def test_a_keeper_keeps_nothing_of_the_caller(launch: Launcher, images: Images, directory: Path) -> None:
    own = launch.configured(site_of(directory, "echo '{}'"))
    words = own.argv("exec", "--network", "lab", images.sandbox, "sh", "-c", "echo up; read x")
    read, write = os.pipe()
    far = os.dup2(write, 1000)
    with own.start(*words, stdin=subprocess.PIPE, pass_fds=(write, far)) as process:
        os.close(write)
        os.close(far)
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        state = next(each for each in STATES.iterdir() if not each.suffix)
        keeper = next(fd for fd in Path("/proc").glob("[0-9]*/fd/*") if is_link(fd, state)).parents[1]
        found = sorted(os.readlink(fd) for fd in (keeper / "fd").iterdir())
        assert set(found) <= {"/dev/null", str(state), "anon_inode:[pidfd]"}
        assert os.readlink(keeper / "cwd") == "/"
        process.communicate(b"\n", timeout=20)
    os.close(read)
    wait_for_no_state()


@root
@pytest.mark.parametrize("room", ["0", "4096"], ids=["no-file", "no-text"])
def test_a_full_disk_is_one_line(launch: Launcher, images: Images, directory: Path, room: str) -> None:
    """Where states are written down; what was set up before is taken down."""
    own = launch.configured(site_of(directory, "echo '{}'"))
    STATES.mkdir(mode=0o700, parents=True, exist_ok=True)
    inodes = "1" if room == "0" else "9"
    script = (
        f"mount -t tmpfs -o size=4096,nr_inodes={inodes} none {STATES} && head -c {room} /dev/zero >{STATES}/x.full; "
        'exec "$@"'
    )
    words = own.argv("exec", "--network", "lab", images.sandbox, "true")
    result = own.command("unshare", "--mount", "sh", "-c", script, "sh", *words)
    assert result.status == 255, str(result)
    assert "a network for the container: /run/singularity/networks" in result.err
    assert "No space left on device" in result.err


@root
def test_only_an_option_makes_a_dry_run(launch: Launcher, images: Images, directory: Path) -> None:
    """And neither what says no, nor the value of another, nor a word of the program."""
    own = launch.configured(site_of(directory, "echo '{}'"))
    show = (images.sandbox, "ls", "/sys/class/net")
    for more, env in (
        (["--dry-run=no"], {}),
        (["--dry-run=no"], {"SINGULARITY_DRY_RUN": "yes"}),
    ):
        assert own("exec", "--network", "lab", *more, *show, env=env).ok().out == "lo\n"
        wait_for_no_state()
    assert not launched.read(["exec", "--hostname", "--dry-run", "x.sif", "true"]).is_dry_run
    by_variable = {"SINGULARITY_IMAGE": str(images.sandbox)}
    script = "ls /sys/class/net"
    words = ("exec", "--network", "lab", "sh", "-c", script, "--dry-run", "--network=host")
    assert own(*words, env=by_variable).ok().out == "lo\n"
    wait_for_told(directory, ["ADD", "DEL"] * 3)
    own("exec", "--network", "lab", *show, env={"SINGULARITY_DRY_RUN": "json"}).ok()
    wait_for_told(directory, ["ADD", "DEL"] * 3)


@root
def test_an_image_is_fetched_by_the_hosts_network(launch: Launcher, directory: Path) -> None:
    """What the container's network reaches is the program's."""
    own = launch.configured(site_of(directory, "echo '{}'"))
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        server.settimeout(30)
        port = server.getsockname()[1]
        words = own.argv("exec", "--network", "lab", "--memory=64M", f"http://127.0.0.1:{port}/x.sif", "true")
        with own.start(*words) as process:
            server.accept()[0].close()
            os.killpg(process.pid, signal.SIGKILL)
    assert not (directory / "told").exists()


@root
def test_a_namespace_that_is_there_is_entered(launch: Launcher, images: Images, directory: Path) -> None:
    ip("netns", "add", "lab")
    try:
        space = Path("/run/netns/lab")
        ip("-n", "lab", "link", "add", "lab0", "type", "bridge")
        assert launch("exec", "--netns-path", space, images.sandbox, "ls", "/sys/class/net").ok().out == "lab0\nlo\n"
        assert launch("instance", "start", "--netns-path", space, images.sandbox, "there").status == 0
        assert "lab0" in launch("exec", "instance://there", "ip", "link").ok().out
        assert launch("instance", "stop", "there").status == 0
        launch("exec", "--netns-path", space, "--network", "bridge", images.sandbox, "true").misused(
            "leave --network out"
        )
    finally:
        ip("netns", "delete", "lab")
    ours = launch("exec", "--network", "host", images.sandbox, "ls", "/sys/class/net").ok().out
    assert launch("exec", "--netns-path", "/proc/self/ns/net", images.sandbox, "ls", "/sys/class/net").ok().out == ours
    launch("exec", "--netns-path", directory, images.sandbox, "true").refused("no network namespace")
    launch("exec", "--netns-path", directory / "x", images.sandbox, "true").refused("No such file")


def test_only_root_enters_a_namespace(launch: Launcher, images: Images) -> None:
    launch("exec", "--netns-path", "/proc/1/ns/net", images.sandbox, "true").refused("only root", "--network bridge")
