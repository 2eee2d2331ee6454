"""bench/scale: what it counts in a trace, and what it computes of the counts."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"
sys.path[:0] = [str(BENCH), str(BENCH / "scale")]

import model  # noqa: E402
import operations  # noqa: E402
import pages  # noqa: E402
from operations import Owner  # noqa: E402


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "usr/lib/libc.so.6").write_bytes(b"x" * 5000)
    (tmp_path / "lib").symlink_to("usr/lib")
    (tmp_path / "absolute").symlink_to("/usr/lib/libc.so.6")
    return tmp_path


def layout(image: str, tree: Path | None) -> operations.Layout:
    return operations.Layout(
        image=image,
        tree=tree,
        stages=("/opt/rt/mnt/part0",),
        scratch=("/opt/rt/mnt",),
        runtime=("/opt/rt",),
        shown=("/home",),
    )


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/usr/lib/libc.so.6", ["usr", "usr/lib", "usr/lib/libc.so.6"]),
        ("/lib/libc.so.6", ["lib", "usr", "usr/lib", "usr/lib/libc.so.6"]),
        ("/absolute", ["absolute", "usr", "usr/lib", "usr/lib/libc.so.6"]),
        ("/usr/none/below", ["usr", "usr/none"]),
        ("/usr/../lib/none", ["usr", "lib", "usr", "usr/lib", "usr/lib/none"]),
        ("/", []),
    ],
)
def test_names_are_those_that_a_walk_asks_for(tree: Path, path: str, asked: list[str]) -> None:
    assert operations.names_asked(tree, path) == asked


def test_links_that_lead_in_circles_end(tree: Path) -> None:
    (tree / "a").symlink_to("b")
    (tree / "b").symlink_to("a")
    assert set(operations.names_asked(tree, "/a")) == {"a", "b"}


DIRECTORY_TRACE = """\
1 execve("/opt/rt/bin/run", ["run"], 0x1 /* 1 var */) = 0
1 openat(AT_FDCWD</home>, "/opt/rt/etc/conf", O_RDONLY) = 3</opt/rt/etc/conf>
1 read(3</opt/rt/etc/conf>, "x", 100) = 1
1 openat(AT_FDCWD</home>, "/etc/hosts", O_RDONLY) = 3</etc/hosts>
1 openat(AT_FDCWD</home>, "/proc/self/maps", O_RDONLY) = 3</proc/1/maps>
1 openat(AT_FDCWD</home>, "/srv/root", O_RDONLY|O_PATH) = 4</srv/root>
1 openat2(4</opt/rt/mnt/part0>, "/lib", {flags=O_PATH, resolve=RESOLVE_IN_ROOT}, 24) = 5</opt/rt/mnt/part0/usr/lib>
1 openat(8</opt/rt/mnt>, "passwd", O_WRONLY|O_CREAT, 0644) = 9</opt/rt/mnt/passwd>
1 openat(AT_FDCWD</home>, "/lib/libc.so.6", O_RDONLY) = 6</lib/libc.so.6>
1 pivot_root(".", ".") = 0
1 clone(child_stack=NULL, flags=SIGCHLD) = 2
2 openat(AT_FDCWD</home>, "/lib/libc.so.6", O_RDONLY <unfinished ...>
1 openat(AT_FDCWD</home>, "/usr/none", O_RDONLY) = -1 ENOENT (No such file or directory)
2 <... openat resumed>) = 6</usr/lib/libc.so.6>
2 pread64(6</usr/lib/libc.so.6>, "x", 832, 0) = 832
2 newfstatat(AT_FDCWD</home>, "/usr/lib", {st_mode=S_IFDIR|0755}, 0) = 0
2 openat(AT_FDCWD</home>, "/home/data", O_RDONLY) = 6</home/data>
2 getdents64(7</usr/lib>, 0x1 /* 3 entries */, 4096) = 80
2 getdents64(7</usr/lib>, 0x1 /* 0 entries */, 4096) = 0
2 +++ exited with 0 +++
"""


def test_calls_are_counted_for_the_owner_of_their_file(tree: Path) -> None:
    found = operations.count(DIRECTORY_TRACE, layout("/srv/root", tree))
    image = found[Owner.IMAGE]
    assert (image.opens, image.looks, image.lists, image.reads, image.bytes) == (1, 4, 2, 1, 832)
    assert image.names == {"lib", "usr", "usr/lib", "usr/lib/libc.so.6", "usr/none"}
    runtime = found[Owner.RUNTIME]
    assert (runtime.opens, runtime.reads, runtime.bytes) == (2, 1, 1)
    assert runtime.files == {"/opt/rt/bin/run", "/opt/rt/etc/conf"}
    assert found[Owner.HOST].opens == 3  # before the change of root the host's library, and what is shown after it


def test_what_is_inside_of_an_image_file_asks_nothing_of_its_file_system() -> None:
    trace = """\
1 openat(AT_FDCWD</home>, "/srv/a.sif", O_RDONLY) = 3</srv/a.sif>
1 openat(AT_FDCWD</home>, "/proc/self/fd/3", O_RDONLY) = 4</srv/a.sif>
1 pread64(4</srv/a.sif>, "x", 4096, 0) = 4096
1 openat2(5</opt/rt/mnt/part0>, "/lib", {flags=O_RDONLY, resolve=RESOLVE_IN_ROOT}, 24) = 6</opt/rt/mnt/part0/lib>
1 pivot_root(".", ".") = 0
1 openat(AT_FDCWD</home>, "/usr/lib/libc.so.6", O_RDONLY) = 6</usr/lib/libc.so.6>
"""
    image = operations.count(trace, layout("/srv/a.sif", None))[Owner.IMAGE]
    assert image.summary() == {"opens": 2, "looks": 0, "lists": 0, "reads": 1, "bytes": 4096, "names": 1}


def test_the_loader_of_a_program_is_found() -> None:
    found = operations.loader_of(Path(sys.executable).resolve())
    assert found is None or Path(found).exists()
    assert operations.loader_of(Path(__file__)) is None


def test_pages_that_a_read_has_fetched_are_resident(tree: Path) -> None:
    path = tree / "usr/lib/libc.so.6"
    assert list(pages.files_of(tree)) == [path]
    path.read_bytes()
    assert pages.resident(path) == 8192
    (tree / "empty").touch()
    assert pages.resident(tree / "empty") == 0
    pages.forget([path])  # a tmpfs keeps what it has: the call itself must not fail


LAUNCH = model.Launch(
    image=model.Asked(names=30, opens=5, files=4, lists=2, bytes=1000),
    runtime=model.Asked(names=10, opens=3, files=3, lists=0, bytes=200),
    next_image_opens=1,
    next_runtime_opens=2,
)


@pytest.mark.parametrize(
    ("cluster", "asked", "data"),
    [
        (model.Cluster(nodes=1, launches=1), 37, 1000),
        (model.Cluster(nodes=10, launches=1), 370, 10000),
        (model.Cluster(nodes=10, launches=64), 10 * (37 + 63), 10000),
        (model.Cluster(nodes=10, launches=64, shared_runtime=True), 10 * (37 + 13 + 63 * 3), 12000),
        (model.Cluster(nodes=10, launches=64, opens_cached=True), 360, 10000),
        (model.Cluster(nodes=10, launches=64, shared_runtime=True, opens_cached=True), 10 * (36 + 13), 12000),
    ],
)
def test_a_node_asks_names_and_data_once_and_opens_each_time(cluster: model.Cluster, asked: int, data: int) -> None:
    assert model.demand(LAUNCH, cluster) == model.Demand(operations=asked, bytes=data)


def test_the_slower_of_metadata_and_data_decides() -> None:
    demand = model.Demand(operations=1000, bytes=500)
    assert demand.seconds(model.FileSystem(operations=100, bandwidth=1000)) == 10
    assert demand.seconds(model.FileSystem(operations=10000, bandwidth=100)) == 5


def test_staging_takes_one_copy_and_a_block_for_each_node_of_a_chain_and_two_copies_of_many() -> None:
    from singularity.stage import node, tree

    assert (model.DEEPEST, model.BLOCK) == (tree.DEEPEST, node._BLOCK)
    network = model.Network(bandwidth=1e9, hop=0.001)
    system = model.FileSystem(operations=1, bandwidth=1e11)
    assert model.staging(10**10, 1, network, system) == pytest.approx(10)
    assert model.staging(10**10, 16, network, system) == pytest.approx(10 + 15 * (0.001 + 262144e-9))
    assert 20 < model.staging(10**10, 10_000, network, system) < 20.1
    slow = model.FileSystem(operations=1, bandwidth=1e8)
    assert model.staging(10**9, 2, network, slow) == pytest.approx(10, rel=0.001)
