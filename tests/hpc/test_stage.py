"""`stage`: an image gets to many nodes by one read, past strangers and accidents; launches find it; it goes again.

Nodes are processes with staging directories of their own; where their network counts, in network namespaces that are
joined by a bridge, with the kernel's token bucket filter (tc-tbf) on both ends of each link.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from singularity import paths
from singularity.errors import FileError
from singularity.stage import copies, meeting
from singularity.stage.stage import nodes_of
from singularity.stage.tree import DEEPEST, Tree

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

ARGV = [sys.executable, "-I", "-m", "singularity"]
SIZE = 16 << 20
RATE = "24mbit"
TIMEOUT = 120


@pytest.fixture(scope="module")
def image(storage: Path) -> Path:
    path = storage / "stage" / "tool.sif"
    path.parent.mkdir()
    path.write_bytes(random.Random(7).randbytes(SIZE))  # noqa: S311
    return path


@pytest.fixture
def nodes(tmp_path: Path) -> Path:
    """A directory that has those of the nodes."""
    place = tmp_path / "nodes"
    place.mkdir()
    return place


class Nodes:
    """Processes that stage, each on a node of its own."""

    def __init__(self, place: Path, count: int, before: Sequence[Sequence[str]] = ()) -> None:
        self.place, self.count = place, count
        self.before = before or [()] * count
        self.running: list[subprocess.Popen[str]] = []

    def start(self, number: int, image: Path, *words: str, nodes: int = 0) -> subprocess.Popen[str]:
        environment = {
            **os.environ, "SINGULARITY_STAGEDIR": str(self.place / str(number)),
            "SLURM_STEP_NUM_NODES": str(nodes or self.count),
        }  # fmt: skip
        process = subprocess.Popen(
            [*self.before[number], *ARGV, "stage", *words, image],
            env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.running.append(process)
        return process

    def all(self, image: Path) -> float:
        """Stages on all of them; the seconds that it took."""
        begin = time.monotonic()
        for number in range(self.count):
            self.start(number, image)
        said = [ended(each) for each in self.running]
        took = time.monotonic() - begin
        assert sum(f"is on {self.count} of {self.count} nodes" in err for _, err in said) == 1, said
        for number in range(self.count):
            self.is_whole(number, image)
        return took

    def is_whole(self, number: int, image: Path) -> None:
        (path,) = (self.place / str(number)).glob(f"*/{image.name}")
        assert path.read_bytes() == image.read_bytes()
        assert [each.name for each in path.parent.iterdir()] == [path.name]
        assert path.stat().st_mode & 0o777 == 0o700

    def came(self, number: int) -> int:
        """The bytes that are there."""
        return sum(each.stat().st_size for each in (self.place / str(number)).glob("*/part-*"))

    def comes(self, number: int, least: int) -> None:
        end = time.monotonic() + 60
        while self.came(number) < least:
            assert time.monotonic() < end
            time.sleep(0.02)


def ended(process: subprocess.Popen[str], status: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=TIMEOUT)
    assert process.returncode == status, err
    return out, err


@contextmanager
def network(count: int, rate: str = RATE) -> Iterator[list[list[str]]]:
    """Namespaces on a bridge; the words before a command that run it in each."""
    mark = f"sg{os.getpid() % 100000}"

    def ip(*words: str) -> None:
        subprocess.run(words, check=True, capture_output=True)

    with ExitStack() as stack:
        ip("ip", "netns", "add", f"{mark}s")  # the switch, so that nothing of the host is touched
        stack.callback(ip, "ip", "netns", "del", f"{mark}s")
        switch = ["ip", "netns", "exec", f"{mark}s"]
        ip(*switch, "ip", "link", "add", "br0", "type", "bridge")
        ip(*switch, "ip", "link", "set", "br0", "up")
        for number in range(count):
            name = f"{mark}n{number}"
            ip("ip", "netns", "add", name)
            stack.callback(ip, "ip", "netns", "del", name)
            inside = ["ip", "netns", "exec", name]
            ip(
                "ip",
                "-n",
                name,
                "link",
                "add",
                "eth0",
                "type",
                "veth",
                "peer",
                "name",
                f"v{number}",
                "netns",
                f"{mark}s",
            )
            ip(*switch, "ip", "link", "set", f"v{number}", "master", "br0", "up")
            ip(*inside, "ip", "addr", "add", f"10.9.0.{number + 1}/24", "dev", "eth0")
            ip(*inside, "ip", "link", "set", "eth0", "up")
            ip(*inside, "ip", "link", "set", "lo", "up")
            limit = ["root", "tbf", "rate", rate, "burst", "64kb", "latency", "100ms"]
            ip(*inside, "tc", "qdisc", "add", "dev", "eth0", *limit)
            ip(*switch, "tc", "qdisc", "add", "dev", f"v{number}", *limit)
        yield [["ip", "netns", "exec", f"{mark}n{number}"] for number in range(count)]


# ---- to many nodes ---------------------------------------------------------------------------------------------------
@pytest.mark.needs("root")
def test_sixteen_nodes_take_less_than_twice_as_long_as_one(image: Path, nodes: Path) -> None:
    """Issue 17, 7: one node's copy is that of the second of two, over the same limited network."""
    with network(16) as before:
        one = Nodes(nodes / "two", 2, before).all(image)
        many = Nodes(nodes / "many", 16, before).all(image)
    assert one > SIZE * 8 / 24e6
    assert many < 2.0 * one
    assert [*meeting.place().iterdir()] == [meeting.place() / ".lock"]


@pytest.mark.needs("root")
@pytest.mark.parametrize("killed", ["a member", "the root"])
def test_who_is_killed_is_done_without_and_goes_on_where_it_was(image: Path, nodes: Path, killed: str) -> None:
    with network(5) as before:
        group = Nodes(nodes, 5, before)
        group.start(0, image)
        while not [*meeting.place().glob("[!.]*")]:  # so that the first is the root
            time.sleep(0.02)
        for number in range(1, 5):
            group.start(number, image)
        for number in range(5):
            group.comes(number, SIZE // 8)
        number = 0 if killed == "the root" else 2
        group.running[number].send_signal(signal.SIGKILL)
        group.running[number].communicate()
        assert killed == "the root" or 0 < group.came(number) < SIZE
        begin = time.monotonic()
        again = group.start(number, image)
        for process in (*(each for each in group.running if each.returncode is None), again):
            ended(process)
        assert time.monotonic() - begin < 60
        for each in range(5):
            group.is_whole(each, image)


def test_the_image_is_read_once(image: Path, nodes: Path) -> None:
    strace = shutil.which("strace")
    if not strace:
        pytest.skip("no strace")
    log = nodes / "log"
    words = [strace, "-f", "-qq", "-e", "trace=read,pread64,copy_file_range,sendfile,mmap", "-P", str(image), "-A"]
    group = Nodes(nodes, 3, [[*words, "-o", str(log)]] * 3)
    group.all(image)
    read = [int(found) for found in re.findall(r" = (\d+)$", log.read_text(), re.MULTILINE)]
    assert sum(read) == SIZE


def test_ranks_of_one_node_make_one_copy(image: Path, nodes: Path) -> None:
    group = Nodes(nodes, 2)
    processes = [group.start(number % 2, image) for number in range(8)]
    for each in processes:
        out, _ = ended(each)
        assert out.endswith("/tool.sif\n")
    group.is_whole(0, image)
    group.is_whole(1, image)
    # Who comes later finds it, and waits for nobody.
    begin = time.monotonic()
    ended(group.start(0, image, nodes=99))
    assert time.monotonic() - begin < 5


def test_without_a_job_it_is_a_copy(image: Path, nodes: Path) -> None:
    group = Nodes(nodes, 1)
    ended(group.start(0, image))
    group.is_whole(0, image)


def test_a_part_of_an_earlier_boot_counts_for_nothing(
    image: Path, nodes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SINGULARITY_STAGEDIR", str(nodes / "0"))
    copy = copies.of(image, image.stat())
    copy.part.write_bytes(image.read_bytes()[: SIZE // 2])
    (copy.directory / "part-earlier").write_bytes(b"x" * SIZE)
    ended(Nodes(nodes, 1).start(0, image))
    assert copy.path.read_bytes() == image.read_bytes()
    assert [*copy.directory.iterdir()] == [copy.path]


@pytest.mark.needs("root")
def test_a_node_whose_disk_is_full_says_so_and_the_others_go_on(image: Path, nodes: Path) -> None:
    (nodes / "1").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", nodes / "1"], check=True)
    try:
        group = Nodes(nodes, 3)
        group.start(0, image)
        while not [*meeting.place().glob("[!.]*")]:
            time.sleep(0.02)
        full, last = group.start(1, image), group.start(2, image)
        _, err = ended(full, 255)
        assert err.count("FATAL: ") == err.count("\n") == 1
        assert err.endswith("No space left on device\n")
        ended(last)
        ended(group.running[0])
        group.is_whole(2, image)
        assert [*(nodes / "1").glob("*/*")] == []
    finally:
        subprocess.run(["umount", nodes / "1"], check=True)


# ---- strangers -------------------------------------------------------------------------------------------------------
def test_strangers_neither_get_nor_give_anything(image: Path, nodes: Path, tmp_path: Path) -> None:
    group = Nodes(nodes, 2)
    root = group.start(0, image)
    end = time.monotonic() + 20
    while not (files := [*meeting.place().glob("[!.]*")]):
        assert time.monotonic() < end
        time.sleep(0.02)
    (file,) = files
    assert file.stat().st_mode & 0o777 == 0o600
    assert meeting.place().stat().st_mode & 0o777 == 0o700
    host, port = json.loads(file.read_bytes())["addresses"][0]
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=stage"]
    subprocess.run([*words, "-keyout", tmp_path / "k", "-out", tmp_path / "c"], check=True, capture_output=True)
    for mine in (False, True):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if mine:
            context.load_cert_chain(tmp_path / "c", tmp_path / "k")
        came = b""
        with (
            suppress(OSError),
            socket.create_connection((host, port)) as plain,
            context.wrap_socket(plain) as connection,
        ):
            connection.sendall(b'{"offset": 0}\n')
            came = connection.recv(1)
        assert came == b""
    for junk in (b"GET / HTTP/1.0\r\n\r\n", os.urandom(5000), b""):
        with socket.create_connection((host, port)) as plain:
            plain.settimeout(5)
            with suppress(OSError):
                plain.sendall(junk)
                plain.shutdown(socket.SHUT_WR)
                assert image.read_bytes()[:16] not in plain.recv(1 << 16)
    ended(group.start(1, image))
    ended(root)
    assert not file.exists()
    # A stranger's server, to which a member is sent, is not believed: there is no image from it.
    known = meeting.held(file, port)
    assert known is not None
    with socket.create_server(("127.0.0.1", 0)) as server:
        other = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        other.load_cert_chain(tmp_path / "c", tmp_path / "k")

        def answer() -> None:
            with suppress(OSError), server.accept()[0] as plain:
                other.wrap_socket(plain, server_side=True)

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(ssl.SSLError):
            known.connect((("127.0.0.1", server.getsockname()[1]),))
    meeting.forget(known)
    assert not file.exists()


def test_clocks_of_nodes_may_differ(tmp_path: Path) -> None:
    """A certificate of tomorrow is as good, since the key is what counts."""
    (tmp_path / "index").touch()
    (tmp_path / "serial").write_text("01\n")
    lines = ["[ca]", "default_ca=d", "[d]", "database=index", "serial=serial", "new_certs_dir=.", "default_md=sha256"]
    (tmp_path / "ca.cnf").write_text("\n".join([*lines, "policy=p", "[p]", "commonName=supplied", ""]))
    key = [
        "openssl",
        "req",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-subj",
        "/CN=stage",
    ]
    sign = ["openssl", "ca", "-config", "ca.cnf", "-batch", "-selfsign", "-keyfile", "key", "-in", "request"]
    dates = ["-startdate", "20490101000000Z", "-enddate", "20491231000000Z"]
    for words in ([*key, "-keyout", "key", "-out", "request"], [*sign, "-out", "certificate", "-notext", *dates]):
        subprocess.run(words, cwd=tmp_path, check=True, capture_output=True)
    pem = (tmp_path / "key").read_text() + (tmp_path / "certificate").read_text()
    known = meeting.Meeting(tmp_path, pem, ())
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with known.server().wrap_socket(server.accept()[0], server_side=True) as connection:
                connection.sendall(b"ok")

        thread = threading.Thread(target=answer)
        thread.start()
        with known.connect((("127.0.0.1", server.getsockname()[1]),)) as connection:
            assert connection.recv(2) == b"ok"
        thread.join()


def test_a_meeting_whose_root_is_gone_is_taken_over(image: Path, nodes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SINGULARITY_STAGEDIR", str(nodes / "0"))
    path = meeting.place() / copies.of(image, image.stat()).directory.name
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert meeting.held(path, port)
    assert not meeting.held(path, port)
    group = Nodes(nodes, 2)
    processes = [group.start(number, image) for number in range(2)]
    for each in processes:
        ended(each)
    for number in range(2):
        group.is_whole(number, image)


# ---- launches --------------------------------------------------------------------------------------------------------
def test_a_place_that_others_can_write_to_is_refused(image: Path, tmp_path: Path, nodes: Path) -> None:
    (nodes / "0").symlink_to(tmp_path)
    _, err = ended(Nodes(nodes, 1).start(0, image), 255)
    assert err == (
        f"FATAL:   {nodes}/0: a link, which anybody could have made (name another in SINGULARITY_STAGEDIR)\n"
    )


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        ([], 1, "IMAGE is missing"),
        (["--clean", "x.sif"], 1, "--clean goes with --job and --days alone"),
        (["--clean", "--job", ""], 1, "--job: an empty ID"),
        (["--job", "1", "x.sif"], 1, "--job and --days are for --clean"),
        (["--nodes", "0", "x.sif"], 1, "0 is not in the range"),
        (["/tmp"], 1, "/tmp is no file"),
        (["none.sif"], 255, "none.sif: "),
        (["--for-job", __file__], 255, "no job is running here"),
    ],
)
def test_mistakes_are_one_line(words: list[str], status: int, told: str, nodes: Path) -> None:
    environment = {**os.environ, "SINGULARITY_STAGEDIR": str(nodes / "0")}
    done = subprocess.run([*ARGV, "stage", *words], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    assert told in done.stderr
    assert done.stdout == ""


# ---- they go again ---------------------------------------------------------------------------------------------------
def stage(*words: str | Path, place: Path, **more: str) -> str:
    environment = {**os.environ, "SINGULARITY_STAGEDIR": str(place), **more}
    return subprocess.run([*ARGV, "stage", *words], env=environment, capture_output=True, text=True, check=True).stderr


def test_copies_go_by_job_age_and_size(tmp_path: Path) -> None:
    place = tmp_path / "place"
    images = []
    for number in range(3):
        images.append(tmp_path / f"{number}.sif")
        images[-1].write_bytes(os.urandom(3 << 20))
    stage("--for-job", images[0], place=place, SLURM_JOB_ID="77")
    stage(images[1], place=place)
    assert "0 copies removed" in stage("--clean", "--job", "78", place=place)
    assert "1 copies removed" in stage("--clean", "--job", "77", place=place)
    assert [each.name for each in place.glob("*/*")] == ["1.sif"]
    assert "0 copies removed" in stage("--clean", "--days", "1", place=place)
    (first,) = place.glob("*/1.sif")
    os.utime(first, (time.time() - 15 * 86400,) * 2)
    stage(images[2], place=place)  # and what nobody used for two weeks goes
    assert [each.name for each in place.glob("*/*")] == ["2.sif"]
    stage(images[0], place=place, SINGULARITY_STAGE_LIMIT="5")
    assert [each.name for each in place.glob("*/*")] == ["0.sif"]
    assert "1 copies removed" in stage("--clean", place=place, SINGULARITY_STAGE_NODES="4")
    assert [*place.iterdir()] == []


def test_an_image_may_be_called_as_parts_of_ours_are(tmp_path: Path) -> None:
    place = tmp_path / "place"
    for name in ("job", "part-1", "1-2-3"):
        image = tmp_path / name
        image.write_bytes(os.urandom(1 << 20))
        stage("--for-job", image, place=place, SLURM_JOB_ID="77")
        stage(image, place=place)
        (copy,) = place.glob(f"*/{name}")
        assert copy.read_bytes() == image.read_bytes()


def test_what_else_is_in_the_place_stays(tmp_path: Path) -> None:
    """SINGULARITY_STAGEDIR may name a directory that is in use already."""
    place, image = tmp_path / "place", tmp_path / "x.sif"
    image.write_bytes(os.urandom(1 << 20))
    results = place / "results"
    results.mkdir(parents=True)
    (results / "data").write_text("mine")
    (place / "1-2-3").symlink_to(results)
    for each in (results / "data", results):
        os.utime(each, (time.time() - 100 * 86400,) * 2)
    stage(image, place=place, SINGULARITY_STAGE_LIMIT="1")
    assert "1 copies removed" in stage("--clean", place=place)
    assert sorted(each.name for each in place.iterdir()) == ["1-2-3", "results"]
    assert (results / "data").read_text() == "mine"


def test_a_link_that_comes_just_then_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody can put one into /tmp, between the look at it and the making of the directory."""
    place, mine = tmp_path / "place", tmp_path / "mine"
    mine.mkdir()
    monkeypatch.setenv("SINGULARITY_STAGEDIR", str(place))
    private = paths.private

    def late(path: Path) -> Path:
        place.symlink_to(mine)
        return private(path)

    monkeypatch.setattr(paths, "private", late)
    with pytest.raises(FileError, match="a link"):
        copies.place()


# ---- who asks whom ---------------------------------------------------------------------------------------------------
def test_a_few_are_a_chain_and_many_a_tree() -> None:
    tree = Tree(("", 0))
    for number in range(1, 1001):
        assert tree.add(("host", number)) == number
        assert tree.place(number)
    assert [tree.members[number].depth for number in range(1, DEEPEST + 1)] == [*range(1, DEEPEST + 1)]
    assert max(each.depth for each in tree.members.values()) <= DEEPEST + 1
    assert max(len(each.children) for each in tree.members.values()) <= 2


def test_who_lost_the_one_above_never_asks_one_below_nor_the_same_again() -> None:
    tree = Tree(("", 0))
    for number in range(1, 6):
        tree.add(("host", number))
        tree.place(number)
    assert tree.place(2) == ("host", 0) or tree.members[2].parent is tree.members[0]
    asked = set()
    while (address := tree.place(3)) is not None:
        assert address not in asked
        assert address[1] not in (3, 4, 5) or address == ("", 0)
        asked.add(address)
    assert len(asked) == 2
    tree.remove(4)
    assert tree.members[5].parent is None
    assert tree.place(5)


@pytest.mark.parametrize(
    ("environment", "count"),
    [
        ({}, 1),
        ({"SLURM_JOB_NUM_NODES": "8", "SLURM_STEP_NUM_NODES": "4"}, 4),
        ({"OMPI_COMM_WORLD_SIZE": "10", "OMPI_COMM_WORLD_LOCAL_SIZE": "4"}, 3),
        ({"PMI_SIZE": "4", "MPI_LOCALNRANKS": "2"}, 2),
        ({"SLURM_JOB_NUM_NODES": "8"}, 1),  # a batch script, which runs on one of them
        ({"SLURM_STEP_NUM_NODES": "many"}, 1),
    ],
)
def test_how_many_nodes_take_part(environment: dict[str, str], count: int) -> None:
    assert nodes_of(environment) == count


def test_what_is_handed_on_is_checked_at_its_end(tmp_path: Path) -> None:
    from singularity.stage.node import Part

    data = os.urandom(100_000)
    with (tmp_path / "part").open("w+b") as file:
        part = Part(file.fileno(), tmp_path / "part", len(data), lambda _: None)
        part.add(data[:50_000])
        part.add(bytes(50_000))
        assert not part.finish(hashlib.sha256(data).digest())
        part.restart()
        part.add(data)
        assert part.finish(hashlib.sha256(data).digest())
