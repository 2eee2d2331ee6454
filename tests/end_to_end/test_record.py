"""exec --record: what is written down of a run, in every mode; the files are real, and so is the recorder."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mpi_roots
import pytest
from images import tool

if TYPE_CHECKING:
    from images import Images
    from launching import Launcher, Result

LIBC = str(mpi_roots.library_directory() / "libc.so.6")
pytestmark = pytest.mark.needs("installation", "busybox", "userns", "fuse")


class Runs:
    """Recorded launches of the busybox image, in the user's home directory."""

    def __init__(self, launch: Launcher, images: Images) -> None:
        self.launch, self.image, self.home = launch, images.sif, launch.home

    def put(self, name: str | bytes, content: str = "content\n") -> Path:
        path = Path(os.fsdecode(os.path.join(os.fsencode(self.home), os.fsencode(name))))
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(content)
        status = self.home.stat()
        for each in (path.parent, path):
            os.chown(each, status.st_uid, status.st_gid)
        return path

    def words(self, script: str, *options: str, name: str = "run.json") -> tuple[str | Path, ...]:
        return ("exec", "--record", name, *options, self.image, "sh", "-c", script)

    def __call__(self, script: str, *options: str, status: int = 0, **more: Any) -> dict[str, Any]:
        result = self.launch(*self.words(script, *options), **more)
        assert result.status == status, str(result)
        return self.read()

    def read(self, name: str = "run.json") -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.home / name).read_text())
        return found

    def names(self, record: dict[str, Any], part: str) -> dict[str, dict[str, Any]]:
        """Of the files in the home directory what is said, by their names there."""
        inside = f"{self.launch.home_inside if self.launch.world.private else self.home}/"
        return {each["path"].removeprefix(inside): each for each in record[part] if each["path"].startswith(inside)}


def bytes_of(path: Path) -> bytes:
    """What a file of the kernel says of a process, as long as there is one."""
    with suppress(OSError):
        return path.read_bytes()
    return b""


def sha256(text: str | bytes) -> str:
    return f"sha256:{hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()}"


@pytest.fixture
def runs(launch: Launcher, images: Images) -> Runs:
    return Runs(launch, images)


def test_what_is_read_and_written_has_its_digest(runs: Runs) -> None:
    runs.put("in.txt", "given\n")
    record = runs("cat in.txt in.txt > out.txt; exit 3", status=3)
    assert (record["format"], record["version"], record["status"]) == ("singularity-capsule", 1, 3)
    assert record["image"]["digest"] == sha256(runs.image.read_bytes())
    assert record["arguments"] == ["sh", "-c", "cat in.txt in.txt > out.txt; exit 3"]
    inputs, outputs = runs.names(record, "inputs"), runs.names(record, "outputs")
    assert {name: each["digest"] for name, each in inputs.items()} == {"in.txt": sha256("given\n")}
    assert {name: each["digest"] for name, each in outputs.items()} == {"out.txt": sha256("given\ngiven\n")}
    assert record["not_seen"] == []
    assert record["host"]["kernel"].startswith("Linux ")
    assert "name" not in record["host"]


@pytest.mark.parametrize(
    ("script", "gone"),
    [
        ("cat f > seen; echo new > f", False),
        ("cat f > seen; echo more >> f", False),
        ("cat f > seen; rm f", True),
        ("cat f > seen; echo new > g; mv g f", False),
        ("sed -i s/was/is/ f", False),
        ("echo more >> f", False),
        ("dd if=/dev/zero of=f bs=1 count=1 conv=notrunc", False),
        ("cat f > seen; : > f", False),
    ],
)
@pytest.mark.modes("userns")
def test_a_file_that_changes_has_the_digest_of_what_was_read(runs: Runs, script: str, gone: bool) -> None:
    runs.put("f", "it was\n")
    record = runs(script)
    assert runs.names(record, "inputs")["f"]["digest"] == sha256("it was\n")
    if gone:
        assert [Path(path).name for path in record["removed"]] == ["f"]
    else:
        assert runs.names(record, "outputs")["f"]["digest"] == sha256((runs.home / "f").read_bytes())


@pytest.mark.modes("userns", "suid")
def test_what_a_run_makes_for_itself_is_no_input(runs: Runs) -> None:
    record = runs("echo a > t; cat t; mv t u; mkdir d; echo b > d/x; mv d e; cat e/x; echo c > w; rm w; ln -s u link")
    assert runs.names(record, "inputs") == {}
    outputs = runs.names(record, "outputs")
    assert {name: each["kind"] for name, each in outputs.items()} == {"u": "file", "e/x": "file", "link": "link"}
    assert record["temporary"] == 3  # t, d/x and w
    assert outputs["link"]["digest"] == sha256("u")


@pytest.mark.modes("userns")
def test_what_is_replaced_by_nothing_new_is_no_output(runs: Runs) -> None:
    """Opened to be written, and not written: an input that stays what it is."""
    runs.put("lock")
    record = runs("exec 3<>lock; read line <&3")
    assert runs.names(record, "outputs") == {}
    assert runs.names(record, "inputs")["lock"]["digest"] == sha256("content\n")


@pytest.mark.modes("userns")
def test_directories_that_are_listed_have_the_digest_of_their_names(runs: Runs) -> None:
    for name in ("data/a", "data/b"):
        runs.put(name)
    record = runs("ls data; echo > data/made")
    found = runs.names(record, "inputs")["data"]
    assert (found["kind"], found["size"], found["digest"]) == ("directory", 2, sha256("a\0b\0"))


@pytest.mark.modes("userns")
def test_names_of_any_bytes(runs: Runs) -> None:
    names = (b"new\nline", b"\xff\xfe", "gr\u00fc\u00dfe".encode(), b" ", b"tab\t", b"back\\slash", b"(deleted)")
    for name in names:
        runs.put(b"odd/" + name, "odd\n")
    record = runs('for f in odd/*; do cat "$f"; done; cp odd/* .')
    expected = {os.fsdecode(b"odd/" + name) for name in names}
    assert {name for name in runs.names(record, "inputs") if name != "odd"} == expected
    assert set(runs.names(record, "outputs")) == {os.fsdecode(name) for name in names}
    assert {each["digest"] for each in runs.names(record, "outputs").values()} == {sha256("odd\n")}


def test_threads_children_and_static_programs(runs: Runs, images: Images) -> None:
    for name in ("by-openat2", "below/by-openat", "by-child"):
        runs.put(name)
    program = runs.put("toucher")
    program.write_bytes(images.program(Path(__file__).parent / "toucher.c").read_bytes())
    program.chmod(0o755)
    result = runs.launch("exec", "--record", "run.json", runs.image, "./toucher")
    assert result.status == 0, str(result)
    assert "ring -1 ENOSYS" in result.out  # what io_uring opens is not seen, so there is none
    record = runs.read()
    assert {"by-openat2", "below/by-openat", "by-child", "toucher"} <= set(runs.names(record, "inputs"))
    assert len([name for name in runs.names(record, "outputs") if name.startswith("many/")]) == 8 * 25


def namer(runs: Runs, images: Images) -> Path:
    program = runs.put("namer")
    program.write_bytes(images.program(Path(__file__).parent / "namer.c").read_bytes())
    program.chmod(0o755)
    return program


@pytest.mark.modes("userns", "suid")
@pytest.mark.parametrize("options", [(), ("--pid",)], ids=["", "pid"])
def test_what_is_opened_by_its_descriptor(runs: Runs, images: Images, options: tuple[str, ...]) -> None:
    """Opened to be looked at, which is no reading, and then read through /proc or /dev."""
    names = ("by-self", "by-process", "by-dev", "below/by-directory", "below/by-cwd")
    for name in names:
        runs.put(name)
    os.replace(runs.home / "below/by-cwd", runs.home / "by-cwd")
    namer(runs, images)
    runs.put("by-stdin")
    record = runs("./namer descriptors && cat /dev/stdin < by-stdin > /dev/null", *options)
    assert {*names[:4], "by-cwd", "by-stdin"} <= set(runs.names(record, "inputs"))
    assert record["not_seen"] == []


@pytest.mark.modes("userns", "suid")
def test_a_descriptor_that_is_written_again_is_an_output(runs: Runs) -> None:
    runs.put("f", "it was\n")
    record = runs("exec 3< f; cat <&3 > /dev/null; echo new > /proc/self/fd/3")
    assert runs.names(record, "inputs")["f"]["digest"] == sha256("it was\n")
    assert runs.names(record, "outputs")["f"]["digest"] == sha256("new\n")


@pytest.mark.modes("userns", "suid")
def test_interpreters_and_loaders_are_read_by_the_kernel(runs: Runs, images: Images) -> None:
    home = runs.launch.home_inside if runs.launch.world.private else runs.home
    for name, source in (("busybox", "/bin/busybox"), ("ld.so", str(mpi_roots.loader())), ("libc.so.6", LIBC)):
        runs.put(name)
        shutil.copyfile(source, runs.home / name)
        (runs.home / name).chmod(0o755)
    for name, text in (("first", f"#!{home}/second word\n"), ("second", f"#! {home}/busybox sh\necho ran > made\n")):
        runs.put(name, text).chmod(0o755)
    program = runs.put("program")
    options = (f"-Wl,--dynamic-linker={home}/ld.so", f"-Wl,-rpath={home}")
    tool("gcc", "-x", "c", "-o", program, *options, "-", stdin=b"int main(void) { return 0; }")
    namer(runs, images)
    record = runs("./first && ./program")
    assert {"first", "second", "busybox", "program", "ld.so", "libc.so.6"} <= set(runs.names(record, "inputs"))
    assert (runs.home / "made").read_text() == "ran\n"
    for name in ("program", "first"):
        record = runs(f"./namer execute {name}")
        assert {name, "ld.so" if name == "program" else "busybox"} <= set(runs.names(record, "inputs"))


@pytest.mark.modes("userns", "suid")
def test_another_name_is_of_what_was_there(runs: Runs) -> None:
    """A file that is linked or renamed, and not opened, is read by whoever reads its new name."""
    for name in ("linked", "moved", "twice", "changed", "gone"):
        runs.put(name, f"{name}\n")
    runs.put("below/inner", "inner\n")
    record = runs(
        "ln linked l; mv moved m; mv twice t; mv t t2; mv changed c; echo more >> c; mv gone g; rm g;"
        "cat below/inner > /dev/null; mv below b; mv b c2; echo x > c2/new"
    )
    inputs, outputs = runs.names(record, "inputs"), runs.names(record, "outputs")
    names = ("linked", "moved", "twice", "changed", "gone")
    assert {name: inputs[name]["digest"] for name in names} == {name: sha256(f"{name}\n") for name in names}
    assert inputs["below/inner"]["digest"] == sha256("inner\n")
    assert {name: each["digest"] for name, each in outputs.items()} == {
        "l": sha256("linked\n"), "m": sha256("moved\n"), "t2": sha256("twice\n"), "c": sha256("changed\nmore\n"),
        "c2/inner": sha256("inner\n"), "c2/new": sha256("x\n"),
    }  # fmt: skip
    assert {Path(path).name for path in record["removed"]} == {"moved", "twice", "changed", "gone", "below"}


@pytest.mark.modes("userns")
def test_many_threads_of_several_processes(runs: Runs, images: Images) -> None:
    namer(runs, images)
    result = runs.launch("exec", "--record", "run.json", runs.image, "./namer", "many", timeout=120)
    assert result.status == 0, str(result)
    record = runs.read()
    assert len([name for name in runs.names(record, "outputs") if name.startswith("many/")]) == 3 * 12 * 833
    assert record["not_seen"] == []


def self_served(runs: Runs, images: Images) -> None:
    """A program that waits for a server of its own, which asks the recorder, which waits for the server."""
    runs.put("backing")
    runs.put("mnt/x")
    runs.put("after")
    program = runs.put("self_served")
    program.write_bytes(images.program(Path(__file__).parent / "self_served.c").read_bytes())
    program.chmod(0o755)


@pytest.mark.modes("userns", "suid")
def test_a_file_system_that_the_run_serves_itself_does_not_hang_it(runs: Runs, images: Images) -> None:
    """Calls are let go after some seconds, and the record says so; then all is seen again."""
    self_served(runs, images)
    begun = time.monotonic()
    record = runs("./self_served mnt mnt/a mnt/b mnt/c; cat after; echo x > made")
    assert time.monotonic() - begun < 20
    (gap,) = record["not_seen"]
    assert re.fullmatch(r"\d+ calls that named files, .* did not answer", gap), gap
    assert "after" in runs.names(record, "inputs")
    assert "made" in runs.names(record, "outputs")


@pytest.mark.modes("userns")
def test_a_server_that_never_answers_does_not_keep_the_record(runs: Runs, images: Images) -> None:
    """The recorder cannot be woken; what it has seen is written down, and other processes of the run go on."""
    self_served(runs, images)
    record = runs(
        "cat after > before; ./self_served mnt mnt/never > /dev/null 2>&1 & echo $! > pid; sleep 1; echo x > made;"
        "(sleep 3; cat after > later) > /dev/null 2>&1 & exit 3",
        status=3,
    )
    assert record["status"] == 3
    assert any("did not answer" in gap for gap in record["not_seen"])
    assert "after" in runs.names(record, "inputs")
    deadline = time.monotonic() + 10
    while not (runs.home / "later").exists() or (runs.home / "later").read_text() != "content\n":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        if bytes_of(each).startswith(b"./self_served\0mnt\0"):
            os.kill(int(each.parent.name), signal.SIGKILL)


@pytest.mark.modes("userns")
def test_streams_that_are_files_are_read_and_written(runs: Runs) -> None:
    given, taken = runs.put("given", "text\n"), runs.put("taken", "")
    with given.open() as stdin, taken.open("w") as stdout:
        line = runs.launch.argv(*runs.words("tr a-z A-Z"))
        with runs.launch.start(*line, stdin=stdin, stdout=stdout) as process:
            assert process.wait(30) == 0
    record = runs.read()
    assert [record["streams"][name].partition(" ")[0] for name in ("stdin", "stdout", "stderr")] == [
        "file",
        "file",
        "pipe",
    ]
    found = {Path(each["path"]).name: each["digest"] for part in ("inputs", "outputs") for each in record[part]}
    assert (found["given"], found["taken"]) == (sha256("text\n"), sha256("TEXT\n"))


@pytest.mark.modes("userns")
def test_pipes_and_connections_are_named(runs: Runs) -> None:
    runs.put("x")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        record = runs(f"mkfifo p; cat p & echo a > p; wait; nc 127.0.0.1 {port} < /dev/null & sleep 0.3; kill $!; true")
    assert runs.names(record, "inputs")["p"]["kind"] == "other"
    assert f"127.0.0.1:{port}" in record["connections"]


@pytest.mark.modes("userns", "suid")
def test_variables_are_those_of_the_program_and_secrets_are_withheld(runs: Runs) -> None:
    env = {"PLAIN": "a 'b' \"c\" $d", "MY_TOKEN": "s3cret", "APPTAINERENV_GIVEN": "yes"}
    record = runs("true", "--env", "DB_PASSWORD=s3cret", env=env)
    assert record["variables"]["PLAIN"] == env["PLAIN"]
    assert record["variables"]["GIVEN"] == "yes"
    assert record["variables"]["MY_TOKEN"] is None
    assert record["variables"]["DB_PASSWORD"] is None
    assert "s3cret" not in (runs.home / "run.json").read_text()


@pytest.mark.modes("userns")
def test_files_above_a_limit_have_no_digest(runs: Runs) -> None:
    runs.put("large", "x" * 5000)
    runs.put("small", "x")
    record = runs("cat large small > both; echo >> large", "--record-limit", "1K")
    inputs = runs.names(record, "inputs")
    assert (inputs["large"]["digest"], inputs["small"]["digest"]) == ("", sha256("x"))
    assert "limit" in inputs["large"]["note"]
    assert runs.names(record, "outputs")["both"]["digest"] == ""


@pytest.mark.modes("userns")
def test_a_large_file_is_read_before_it_changes_while_others_go_on(runs: Runs) -> None:
    """By a process of its own: the file of 64 MiB is one that others need not wait for."""
    content = b"0123456789abcdef" * (4 << 20)
    path = runs.put("large")
    path.write_bytes(content)
    record = runs("head -c1 large >/dev/null; echo > large")
    assert runs.names(record, "inputs")["large"]["digest"] == sha256(content)


@pytest.mark.modes("userns")
def test_files_of_a_directory_image_are_the_images(runs: Runs, images: Images) -> None:
    runs.image = images.sandbox
    record = runs("cat /etc/image-name; cat /etc/hosts > /dev/null")
    assert [each for each in record["inputs"] if each["path"].startswith(str(images.sandbox))] == []
    assert record["image"]["digest"] == ""  # /root of it is not hers to read
    assert "digest" in record["not_seen"][0]


@pytest.mark.modes("userns")
def test_binds_are_named_as_the_host_has_them(runs: Runs, directory: Path) -> None:
    (directory / "shared/deep").mkdir(parents=True)
    (directory / "shared/deep/f").write_text("bound\n")
    record = runs("cat /data/f", "--bind", f"{directory}/shared/deep:/data")
    (found,) = (each for each in record["inputs"] if each["inside"] == "/data/f")
    assert (found["path"], found["digest"]) == (f"{directory}/shared/deep/f", sha256("bound\n"))


def test_the_status_is_the_programs_and_signals_reach_it(runs: Runs) -> None:
    assert runs("kill -9 $$", status=137)["status"] == 137
    script = "trap 'echo got > caught; kill $!; exit 9' TERM; sleep 20 & echo > ready; wait"
    line = runs.launch.argv(*runs.words(script))
    with runs.launch.start(*line) as process:
        for _ in range(200):
            if (runs.home / "ready").exists():
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 9
    assert "caught" in runs.names(runs.read(), "outputs")


@pytest.mark.modes("userns")
def test_a_process_that_goes_on_is_not_disturbed(runs: Runs) -> None:
    """With nobody to answer, each call of it would fail."""
    runs("(sleep 1; echo late > late; cat late > later) >/dev/null 2>&1 & true")
    for _ in range(100):
        if (runs.home / "later").exists() and (runs.home / "later").read_text():
            break
        time.sleep(0.05)
    assert (runs.home / "later").read_text() == "late\n"


@pytest.mark.modes("userns")
def test_a_launch_within_is_recorded_by_its_own_mounts_and_leaves_nothing(runs: Runs, directory: Path) -> None:
    """Each has mounts of its own, with numbers of the last one's, and a server of its image, which is recorded too."""
    door = runs.launch.prefix / "bin/singularity"
    (directory / "a").mkdir()
    (directory / "b").mkdir()
    for name in "ab":
        (directory / name / "in").write_text(f"{name}\n")
    inside = "cd /mnt; cat in /mnt/in > /dev/null"
    launch = f"{door} exec --bind {directory}/$i:/mnt {runs.image} sh -c '{inside}'"
    binds = [
        word
        for each in ("/usr", "/lib", "/lib64", "/etc", "/opt", runs.launch.prefix)
        for word in ("--bind", str(each))
    ]
    record = runs(f"for i in a b; do {launch}; done", *binds)
    read = {each["path"]: each["digest"] for each in record["inputs"]}
    assert [read[f"{directory}/{name}/in"] for name in "ab"] == [sha256("a\n"), sha256("b\n")]
    deadline = time.monotonic() + 10
    while left := [each for each in Path("/proc").glob("[0-9]*/cmdline") if str(runs.image).encode() in bytes_of(each)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


@pytest.mark.modes("userns")
def test_two_at_once(runs: Runs) -> None:
    results: list[Result] = []

    def one(number: int) -> None:
        script = f"for i in 1 2 3 4 5 6 7 8 9; do echo {number} > made-{number}-$i; done"
        results.append(runs.launch(*runs.words(script, name=f"run{number}.json")))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert [result.status for result in results] == [0] * 4
    for number in range(4):
        names = set(runs.names(runs.read(f"run{number}.json"), "outputs"))
        assert names == {f"made-{number}-{i}" for i in range(1, 10)}


@pytest.mark.modes("userns")
def test_what_cannot_be_recorded_is_refused_before_anything_runs(runs: Runs) -> None:
    for target in ("missing/run.json", "/proc/run.json", "."):
        result = runs.launch("exec", "--record", target, runs.image, "sh", "-c", "echo > ran")
        assert result.status == 255, str(result)
        assert len(result.err.splitlines()) == 1, str(result)
    assert not (runs.home / "ran").exists()
    runs.launch("shell", "--record", "run.json", runs.image).misused("exec, run and test")
    runs.launch("exec", "--record", "r.json", "--record-limit", "x", runs.image, "true").misused("--record-limit")
    runs.launch("exec", "--record", "r.json", "instance://none", "true").misused("none")


@pytest.mark.modes("userns")
def test_a_recorder_that_is_killed_leaves_no_record(runs: Runs) -> None:
    """And the program does not go on unrecorded: each call that names a file fails then."""
    line = runs.launch.argv(*runs.words("kill -9 $(cat /proc/$PPID/stat | cut -d' ' -f4) $PPID; sleep 1; echo > after"))
    result = runs.launch.command(*line)
    assert result.status != 0, str(result)
    assert not (runs.home / "run.json").exists()


@pytest.mark.modes("userns", "suid")
def test_a_dry_run_records_nothing(runs: Runs) -> None:
    assert runs.launch("exec", "--dry-run", "--record", "run.json", runs.image, "true").status == 0
    assert not (runs.home / "run.json").exists()


@pytest.mark.modes("userns")
def test_ranks_have_a_record_each(runs: Runs) -> None:
    """Imitated by the variables that launchers of ranks set."""
    for rank in ("0", "1"):
        env = {"OMPI_COMM_WORLD_RANK": rank, "OMPI_COMM_WORLD_SIZE": "2"}
        assert runs.launch(*runs.words(f"echo > made-{rank}"), env=env).status == 0
        assert set(runs.names(runs.read(f"run.{rank}.json"), "outputs")) == {f"made-{rank}"}
    assert not (runs.home / "run.json").exists()
