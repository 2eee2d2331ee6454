"""The front door as it is started, with a starter and a Python that only print what they were given."""

from __future__ import annotations

import grp
import os
import pty
import pwd
import resource
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from singularity.cli.options_table import Entry, Kind, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).parents[2]
NOBODY = 54321  # has no passwd entry
COMPILE = ["gcc", "-std=gnu17", "-D_GNU_SOURCE", '-DVERSION="5.0.0"', "-Ilauncher", "-O1", "-fPIE", "-static-pie"]
LIBRARIES = ("deflate", "z", "zstd", "lz4", "lzma", "lzo2", "hogweed", "nettle", "gmp")
PYTHON = '#!/bin/sh\nfor word; do echo "python $word"; done\n'


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a run of the front door ended."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


@dataclass(frozen=True, slots=True)
class FrontDoor:
    """An installation that can be moved: bin/singularity, libexec/singularity/sexec-suid, etc/singularity."""

    place: Path

    def __call__(
        self, *words: str | Path, name: str = "singularity", env: Mapping[str, str] | None = None, **how: object
    ) -> Ended:
        argv = [name, *map(str, words)]
        result = subprocess.run(
            argv,
            executable=self.place / "bin" / "singularity",
            env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **(env or {})},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            umask=0o022,  # so not by posix_spawn, as Python 3.13 would have it, which refuses an empty name
            **how,  # type: ignore[call-overload]
        )
        return Ended(status=result.returncode, out=result.stdout, err=result.stderr)

    def launched(self, *words: str | Path, **how: object) -> list[str]:
        """What the starter was given, one thing a line; nothing else was said."""
        ended = self(*words, **how)  # type: ignore[arg-type]
        assert (ended.status, ended.err) == (0, ""), ended
        return ended.lines


def run(argv: Sequence[str | Path]) -> None:
    environment = {
        name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MFLAGS", "MAKELEVEL"}
    }
    result = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def printed(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="session")
def built(storage: Path) -> Path:
    """The front door and a starter, linked against the archive, but for the paths that are compiled in."""
    place = storage / "front-door-built"
    place.mkdir()
    run(["flock", "build/lock", "make", "-s", "build/liblauncher.a"])
    archive = ROOT / "build/liblauncher.a"
    door = ["launcher/singularity.c", "launcher/front/installation.c"]
    printer = "tests/launcher/request_print.c"
    libraries = [
        path for name in LIBRARIES if (path := printed("gcc", f"-print-file-name=lib{name}.a")).startswith("/")
    ]
    run([*COMPILE, "-o", place / "singularity", *door, printer, archive, *libraries])
    run([*COMPILE, "-o", place / "sexec-suid", printer, archive, *libraries])
    return place


@pytest.fixture
def door(built: Path, storage: Path, request: pytest.FixtureRequest) -> Iterator[FrontDoor]:
    place = storage / f"front-door-{abs(hash(request.node.nodeid))}"
    for directory in ("bin", "libexec/singularity", "etc/singularity"):
        (place / directory).mkdir(parents=True)
    shutil.copy(built / "singularity", place / "bin")
    shutil.copy(built / "sexec-suid", place / "libexec/singularity")
    (place / "bin/python3").write_text(PYTHON)
    (place / "bin/python3").chmod(0o755)
    yield FrontDoor(place)
    shutil.rmtree(place)


as_root = pytest.mark.needs("root")


def test_a_launch_says_who_where_and_what(door: FrontDoor, tmp_path: Path) -> None:
    lines = door.launched("exec", "-B", "/a:/b:ro", "img.sif", "ls", "", "--x", cwd=tmp_path)
    assert f"image {tmp_path}/img.sif" in lines
    assert f"cwd {tmp_path}" in lines
    assert "bind /a|/b|1" in lines
    assert "level 17" in lines
    assert [line for line in lines if line.startswith("argument")] == ["argument ls", "argument ", "argument --x"]


def test_the_directory_has_the_callers_name(door: FrontDoor, tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.mkdir()
    link.symlink_to(real)
    assert f"cwd {link}" in door.launched("exec", "/i", "x", cwd=real, env={"PWD": str(link)})
    assert f"cwd {real}" in door.launched("exec", "/i", "x", cwd=real, env={"PWD": "/"})


def test_a_deleted_directory_is_no_directory(door: FrontDoor, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    lines = door.launched("exec", "/i", "x", cwd=gone, env={"PWD": str(gone)}, preexec_fn=gone.rmdir)
    assert not any(line.startswith("cwd ") for line in lines)


def test_an_executable_image_runs_quietly(door: FrontDoor) -> None:
    lines = door.launched("/images/x.img", "--bind", "-v", name="/usr/bin/run-singularity")
    assert {"action 1", "level 15", "image /images/x.img", "argument --bind", "argument -v"} <= set(lines)


@pytest.mark.parametrize(
    ("name", "shown"),
    [("singularity", "singularity"), ("apptainer", "apptainer"), ("/x/apptainer", "apptainer"), ("", "singularity")],
)
def test_the_version_has_the_name_it_was_started_under(door: FrontDoor, name: str, shown: str) -> None:
    assert door("--version", name=name) == Ended(status=0, out=f"{shown} version 5.0.0\n", err="")
    assert door("version", name=name) == Ended(status=0, out="5.0.0\n", err="")


def test_the_version_says_how_containers_are_started_when_asked(door: FrontDoor) -> None:
    lines = door("-v", "--version").lines
    assert lines[0] == "singularity version 5.0.0"
    assert lines[1].startswith("starter: ")
    assert "none but this program (" in lines[1]


def test_a_version_that_cannot_be_written_is_a_failure(door: FrontDoor) -> None:
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [door.place / "bin/singularity", "--version"], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert result.returncode == 255
    assert result.stderr == b"FATAL:   standard output: No space left on device\n"


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ([], ["help"]),
        (["help"], ["help"]),
        (["--help"], ["help"]),
        (["-h", "build"], ["help", "build"]),
        (["help", "exec"], ["help", "exec"]),
        (["exec", "--help"], ["help", "exec"]),
        (["exec", "-ch", "img"], ["help", "exec"]),
        (["run", "help"], ["help", "run"]),
        (["build", "--sandbox", "x", "y z"], ["build", "--sandbox", "x", "y z"]),
        (["-dq", "--nocolor", "sif", "list", "x"], ["--debug", "--quiet", "--nocolor", "sif", "list", "x"]),
        (["-x", "-vv", "frobnicate"], ["--debug", "--verbose", "--verbose", "frobnicate"]),
        (["exec", "-C", "docker://x", "ls", "-l"], ["launch", "exec", "-C", "docker://x", "ls", "-l"]),
        (["instance", "start", "--help"], ["help", "instance", "start"]),
        (["instance.run", "-h"], ["help", "instance", "run"]),
        (["-v", "instance", "list", "--json"], ["--verbose", "instance", "list", "--json"]),
        (["instance.stop", "x"], ["instance.stop", "x"]),
        (["instance"], ["instance"]),
        (["instance", "start", "docker://x", "n"], ["launch", "instance", "start", "docker://x", "n"]),
    ],
)
def test_what_python_is_asked(door: FrontDoor, words: list[str], wanted: list[str]) -> None:
    ended = door(*words)
    assert (ended.status, ended.err) == (0, "")
    assert ended.lines == [f"python {word}" for word in ["-I", "-m", "singularity", *wanted]]


def test_an_archive_goes_to_python_and_a_directory_of_that_name_does_not(door: FrontDoor, tmp_path: Path) -> None:
    archive, directory = tmp_path / "a.tar.bz2", tmp_path / "d.tar"
    archive.touch()
    (directory / "bin").mkdir(parents=True)
    assert door("run", archive).lines[-3:] == ["python launch", "python run", f"python {archive}"]
    assert f"image {directory}" in door.launched("run", directory)
    assert door("--quiet", "run", archive).lines[3:5] == ["python launch", "python --quiet"]
    assert door(archive, "x", name="run-singularity").lines[3:] == [
        f"python {word}" for word in ["launch", "--quiet", "run", archive, "x"]
    ]


def test_a_missing_part_of_the_installation_is_named(door: FrontDoor) -> None:
    (door.place / "bin/python3").unlink()
    ended = door("build", "x", "y")
    assert (ended.status, len(ended.err.splitlines())) == (255, 1)
    assert ended.err.startswith("FATAL:   ")
    assert "python3" in ended.err


def test_the_variable_image_stands_for_the_word(door: FrontDoor) -> None:
    env = {"SINGULARITY_IMAGE": "/preset.img"}
    lines = door.launched("exec", "ls", "-l", env=env)
    assert {"image /preset.img", "argument ls", "argument -l"} <= set(lines)
    lines = door.launched("exec", "/preset.img", "ls", env=env)
    assert {"image /preset.img", "argument ls"} <= set(lines)
    assert "argument /preset.img" not in lines
    assert "image /preset.img" in door.launched("run", env=env)
    assert door("exec", env=env).status == 1
    lines = door.launched("/x.img", "a", env=env, name="run-singularity")
    assert {"image /x.img", "argument a"} <= set(lines), "an executable image is itself"


@pytest.mark.parametrize("words", [["exec"], ["exec", "-c"], ["exec", "/i"], ["run"], ["shell", "-C"], ["test"]])
def test_missing_words_are_wrong_usage(door: FrontDoor, words: list[str]) -> None:
    ended = door(*words)
    assert (ended.status, ended.out, len(ended.err.splitlines())) == (1, "", 1)
    assert ended.err.startswith("ERROR:   ")
    assert f"singularity {words[0]}" in ended.err


BIND, TERMINAL = "--bind SOURCE[:TARGET]", "leave it out, a program has your terminal"
DOCKER = {
    "-v /a:/b /i x": f"unknown option -v for exec (it is Docker's; here: {BIND})",
    "-v/a:/b /i x": f"unknown option -v/a:/b for exec (it is Docker's; here: {BIND})",
    "--volume /a:/b /i x": f"unknown option --volume for exec (it is Docker's; here: {BIND})",
    "--volume=/a:/b /i x": f"unknown option --volume for exec (it is Docker's; here: {BIND})",
    "--gpus all /i x": "unknown option --gpus for exec (it is Docker's; here: --nv, or --rocm)",
    "-it /i x": f"unknown option -it for exec (it is Docker's; here: {TERMINAL})",
    "-ti /i x": f"unknown option -ti for exec (it is Docker's; here: {TERMINAL})",
    "--rm /i x": "(it is Docker's; here: leave it out, nothing of a container stays)",
    "-m 4g /i x": "unknown option -m for exec (it is Docker's; here: --memory SIZE)",
    "--shm-size 1g /i x": "(it is Docker's; here: leave it out, /dev/shm is the host's)",
    "--ulimit nofile=9 /i x": "(it is Docker's; here: leave it out, the limits of your shell hold inside)",
    "--pull always /i x": "(it is Docker's; here: leave it out, docker://NAME:TAG is asked for each time)",
    "--privileged /i x": "(it is Docker's; here: --fakeroot to appear as root)",
    "--entrypoint sh /i": '(it is Docker\'s; here: "singularity exec IMAGE PROGRAM" in place of run)',
    "-p 8080:80 /i x": "8080:80: no such image (-p is --pid here: ports need no option,",
    "-p 53:53/udp /i x": "53:53/udp: no such image (-p is --pid here: ports need no option,",
    "-p 80:80/tcp /i x": "80:80/tcp: no such image (-p is --pid here: ports need no option,",
    "-e A=b /i x": "A=b: no such image (-e is --cleanenv here: --env NAME=VALUE sets a variable)",
    "-w /no/such /i x": "/no/such: no such image (-w is --writable here: --cwd DIR starts in a directory)",
    "-u alice /i x": "alice: no such image (-u is --userns here: programs run as you,",
    "--user 1000:100 /i x": "1000:100: no such image (-u is --userns here: programs run as you,",
    "-v /i x": "option -v goes before the verb (see: singularity help exec)",
    "-d /i x": "option -d goes before the verb (see: singularity help exec)",
}


@pytest.mark.parametrize("words", DOCKER)
def test_options_of_docker_are_answered_with_ours(door: FrontDoor, words: str) -> None:
    ended = door("exec", *words.split())
    assert (ended.status, ended.out, ended.err.count("\n")) == (1, "", 1)
    assert ended.err.startswith("ERROR:   ")
    assert DOCKER[words] in ended.err


def test_a_flag_before_an_image_that_is_there_is_a_flag(door: FrontDoor, tmp_path: Path) -> None:
    image = tmp_path / "x"
    image.touch()
    for flag in ("-e", "-p", "-w", "-u"):
        assert f"image {image}" in door.launched("exec", flag, image, "x")
        assert f"image {tmp_path}/gone.sif" in door.launched("exec", flag, "gone.sif", "x", cwd=tmp_path)
    assert f"image {tmp_path}/gone" in door.launched("exec", "-e", "-c", tmp_path / "gone", "x")


def test_a_directory_that_is_no_image_is_said_to_be_none(door: FrontDoor, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "tool").touch()
    for words in (["exec", tmp_path, "tool"], ["exec", tmp_path, "/no"], ["run", tmp_path], ["shell", tmp_path]):
        ended = door(*words)
        assert (ended.status, ended.out, ended.err.count("\n")) == (255, "", 1)
        assert f"{tmp_path}: a directory, but no image" in ended.err
        assert "build --sandbox" in ended.err
    ended = door("exec", "-w", tmp_path, "/i", "x")
    assert (ended.status, "--cwd DIR" in ended.err) == (1, True), ended
    assert f"image {tmp_path}" in door.launched("exec", tmp_path, "/tool"), "the program is in it"
    (tmp_path / "bin").mkdir()
    assert f"image {tmp_path}" in door.launched("run", tmp_path)


def test_a_profile_is_compiled_by_python_before_the_launch(door: FrontDoor, tmp_path: Path) -> None:
    """Its answer is open in the launch, which is told by which number."""
    lines = door.launched("exec", "--security", f"seccomp:{tmp_path}/p", "--fakeroot", "--drop-caps=chown", "/i", "x")
    restriction = next(line for line in lines if line.startswith("restriction "))
    number = int(restriction.rpartition("|")[2])
    assert restriction.startswith(f"restriction {tmp_path}/p|--security|")
    assert number & 0xFF == 4
    assert f"keep_fd ||{number >> 8}" in lines
    (door.place / "bin/python3").write_text("#!/bin/sh\necho 'FATAL:   p: wrong' >&2; exit 255\n")
    ended = door("exec", "--security", f"seccomp:{tmp_path}/p", "/i", "x")
    assert (ended.status, ended.out, ended.err) == (255, "", "FATAL:   p: wrong\n")
    (door.place / "bin/python3").write_text(PYTHON)


VALUED = [entry for entry in table() if entry.kind not in {Kind.FLAG, Kind.COUNT} and entry.identifier != "config"]
WRONG = {
    "bind": "/a:relative",
    "mount": "type=tmpfs,dst=/a",
    "data": "/a",
    "fusemount": "container:program",
    "home": "/a:relative",
    "scratch": "relative",
    **({} if os.geteuid() == 0 else {"network": "calico", "network_args": "IP=10.0.0.1"}),
    "hostname": "under_score",
    "dns": "foo",
    "join": "@",
    "linger": "soon",
    "exit_statuses": "maybe",
    "host_cmd": "/bin/sbatch",
    "keep_fd": "foo",
    "env": "FOO",
    "app": "a/b",
    "add_caps": "foo",
    "drop_caps": "foo",
    "security": "foo",
    "containlibs": "/a/",
    "fabric": "foo",
    "mpi": "foo",
    "dry_run": "foo",
    "target_uid": "-1",
    "target_gid": "foo",
    "messagelevel": "foo",
}
NEVER_WRONG = {
    "paths, of which any may exist": {
        "workdir", "overlay", "env_file", "cwd", "shell", "tmpdir", "authfile", "image", "pid_file", "pem_path",
        "allow_paths", "cdi_dirs", "trace",
    },
    "an unknown word is a warning, as elsewhere in the family": {"no_mount"},
    "judged by Python, and only where something is fetched": {
        "docker_host", "library_url", "platform", "arch", "arch_variant",
    },
    "limits, judged by Python": {
        "cpus", "cpu_shares", "cpuset_cpus", "cpuset_mems", "memory", "memory_reservation", "memory_swap", "pids_limit",
        "blkio_weight", "blkio_weight_device", "apply_cgroups",
    },
    "judged by Python, which records": {"record", "record_limit"},
    "judged by Python": {"device", "netns_path", *(("network", "network_args") if os.geteuid() == 0 else ())},
    "has no effect here": {"runscript_timeout"},
}  # fmt: skip


def test_every_option_with_a_value_has_a_wrong_one_or_none() -> None:
    known = set(WRONG).union(*NEVER_WRONG.values())
    assert {entry.identifier for entry in VALUED if entry.kind is not Kind.NONE_HERE} == known


@pytest.mark.parametrize("entry", VALUED, ids=lambda entry: entry.identifier)
def test_a_wrong_value_is_wrong_usage_whoever_gives_it(door: FrontDoor, entry: Entry) -> None:
    """Status 1 and one line that names the option, or the variable that stood for it."""
    absent = entry.kind is Kind.NONE_HERE
    usual = entry.verbs & {"exec", "global"}
    verb = ["exec"] if usual else ["shell"] if "shell" in entry.verbs else ["instance", "start"]
    value = WRONG.get(entry.identifier, "foo")
    if not absent and entry.identifier not in WRONG:
        assert door(*verb, *(f"{name}={value}" for name in entry.spellings), "/i", "x").status in {0, 255}
        return
    for name in entry.spellings:
        words = [f"{name}={value}"] if name.startswith("--") and not absent else [name, value]
        ended = door(*verb, *([name] if entry.kind is Kind.NONE_HERE else words), "/i", "x")
        assert (ended.status, ended.out, ended.err.count("\n")) == (1, "", 1), (name, ended)
        assert ended.err.startswith("ERROR:   ")
        assert f"--{entry.names[0]}" in ended.err or name in ended.err, ended
    for variable in entry.variables:
        for prefix in ("SINGULARITY_", "APPTAINER_"):
            ended = door(*verb, "/i", "x", env={prefix + variable: value})
            if entry.identifier.startswith("target_") and os.geteuid() != 0:
                assert ended.status == 0, "for root only"
                continue
            assert (ended.status, ended.out, ended.err.count("\n")) == (1, "", 1), (variable, ended)
            assert f"{prefix}{variable}" in ended.err, ended


@pytest.mark.parametrize(
    ("words", "env", "coloured"),
    [
        ([], {"TERM": "xterm"}, True),
        ([], {}, True),
        ([], {"TERM": "xterm", "NO_COLOR": ""}, True),
        (["--nocolor"], {"TERM": "xterm"}, False),
        ([], {"TERM": "xterm", "NO_COLOR": "1"}, False),
        ([], {"TERM": "dumb"}, False),
        ([], {"TERM": "xterm", "APPTAINER_NOCOLOR": "1"}, False),
    ],
)
def test_colour_is_for_terminals_that_take_it(
    door: FrontDoor, words: list[str], env: dict[str, str], *, coloured: bool
) -> None:
    """Of the front door's own messages, and of the starter's, which it is told."""
    master, slave = pty.openpty()
    argv = ["singularity", *words, "exec", "-B", "/a", "--env-file", "/no/such", "/i", "x"]
    program = door.place / "bin/singularity"
    environment = {"HOME": "/nonexistent", **env}
    subprocess.run(argv, executable=program, env=environment, stderr=slave, check=False)
    said = os.read(master, 1000)
    assert (b"\x1b[31m" in said) is coloured, said
    assert b"/no/such" in said
    argv[-4:-2] = []
    done = subprocess.run(argv, executable=program, env=environment, stdout=subprocess.PIPE, stderr=slave, check=False)
    assert (b"colour\n" in done.stdout) is coloured, done.stdout
    os.close(master)
    os.close(slave)


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_closed_standard_streams_are_opened_on_nothing(
    door: FrontDoor, tmp_path: Path, closed: tuple[int, ...]
) -> None:
    def close() -> None:
        for number in closed:
            os.close(number)

    door("exec", "/i", "x", preexec_fn=close, env={"TEST_STREAMS": f"{tmp_path}/streams"})
    streams = (tmp_path / "streams").read_text().splitlines()
    assert [streams[number] for number in closed] == ["/dev/null"] * len(closed)


def test_descriptors_that_were_asked_for_are_kept(door: FrontDoor) -> None:
    one, other = socket.socketpair()
    with one, other, Path("/dev/null").open() as file:
        numbers = [one.fileno(), file.fileno()]
        lines = door.launched("exec", f"--keep-fd={numbers[0]},{numbers[1]}", "/i", "x", pass_fds=numbers)
        assert [line for line in lines if line.startswith("keep_fd")] == [f"keep_fd ||{number}" for number in numbers]
        lines = door.launched("exec", "--keep-fd", "all", "/i", "x", pass_fds=numbers)
        assert {f"keep_fd ||{number}" for number in numbers} == {line for line in lines if line.startswith("keep_fd")}
        env = {"PMI_FD": str(one.fileno())}
        assert f"keep_fd ||{one.fileno()}" in door.launched("exec", "/i", "x", pass_fds=numbers, env=env)
        env = {"PMI_FD": str(file.fileno())}
        assert "keep_fd" not in "".join(door.launched("exec", "/i", "x", pass_fds=numbers, env=env))
    directory = os.open("/", os.O_RDONLY)
    ended = door("exec", f"--keep-fd={directory}", "/i", "x", pass_fds=[directory])
    os.close(directory)
    assert (ended.status, len(ended.err.splitlines())) == (255, 1)
    assert "directory" in ended.err


def test_the_stack_limit_is_carried(door: FrontDoor) -> None:
    hard = resource.getrlimit(resource.RLIMIT_STACK)[1]

    def limited(soft: int) -> list[str]:
        return door.launched(
            "exec", "/i", "x", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_STACK, (soft, hard))
        )

    assert "stack_soft 4194305" in limited(4 << 20)
    if hard == resource.RLIM_INFINITY:
        assert f"stack_soft {2**64 - 1}" in limited(resource.RLIM_INFINITY)


@as_root
def test_many_words_pass_and_too_many_are_one_line(door: FrontDoor) -> None:
    words = ["y" * 1000] * 1500
    assert door.launched("exec", "/i", *words).count(f"argument {words[0]}") == 1500
    (door.place / "libexec/singularity/sexec-suid").chmod(0o4755)
    assert door.launched("exec", "/i", *words, user=NOBODY).count(f"argument {words[0]}") == 1500
    file = door.place / "file.env"
    file.write_text("".join(f"V{number}={'z' * 100_000}\n" for number in range(6)))

    def quarter_of_a_mebibyte() -> None:
        resource.setrlimit(resource.RLIMIT_STACK, (1 << 20, resource.getrlimit(resource.RLIMIT_STACK)[1]))

    ended = door("exec", "--env-file", file, "/i", "x", preexec_fn=quarter_of_a_mebibyte, user=NOBODY)
    assert (ended.status, len(ended.err.splitlines())) == (255, 1)
    assert "longer than the system allows" in ended.err


@as_root
def test_the_starter_is_chosen(door: FrontDoor) -> None:
    starters = door.place / "libexec/singularity"

    def chosen(*words: str, user: int = NOBODY, env: Mapping[str, str] | None = None) -> str:
        ended = door("-v", "exec", *words, "/i", "x", user=user, group=user, env=env)
        return ended.err.split(": ")[1].removeprefix(" " * 2).removeprefix("starting ").split("/")[-1]

    assert chosen() == "without the setuid program", "a starter without the setuid bit"
    (starters / "sexec-suid").chmod(0o4755)
    assert chosen() == "sexec-suid"
    assert chosen(user=0) == "without the setuid program"
    assert chosen("-u") == "without the setuid program"
    assert chosen("--userns=false") == "sexec-suid"
    assert chosen(env={"SINGULARITY_NOSUID": "1"}) == "without the setuid program"
    os.chown(starters / "sexec-suid", NOBODY, 0)
    (starters / "sexec-suid").chmod(0o4755)
    assert chosen() == "without the setuid program", "a setuid starter of another owner than root"


@as_root
def test_no_new_privs_leaves_the_setuid_starter_alone(door: FrontDoor) -> None:
    starters = door.place / "libexec/singularity"
    (starters / "sexec-suid").chmod(0o4755)
    words: list[str | Path] = ["setpriv", "--no-new-privs", door.place / "bin/singularity", "-v", "exec", "/i", "x"]
    result = subprocess.run(words, capture_output=True, text=True, check=False, user=NOBODY, group=NOBODY)
    assert "no_new_privs" in result.stderr
    assert "sexec-suid" not in result.stderr


@as_root
def test_a_user_without_an_account_is_nobody_in_particular(door: FrontDoor) -> None:
    lines = door.launched("exec", "/i", "x", user=NOBODY, group=NOBODY, extra_groups=[])
    assert not any(line.startswith(("account_", "group ")) for line in lines)


@as_root
def test_groups_have_their_names_in_the_callers_order(door: FrontDoor) -> None:
    lines = door.launched("exec", "/i", "x", user=NOBODY, group=4, extra_groups=[2, 4, NOBODY])
    names = [f"group {grp.getgrgid(number).gr_name}||{number}" for number in (4, 2)]
    assert [line for line in lines if line.startswith("group ")] == names


@as_root
def test_root_may_launch_for_another_user(door: FrontDoor) -> None:
    env = {"SINGULARITY_TARGET_UID": "1", "SINGULARITY_TARGET_GID": "4"}
    lines = door.launched("exec", "/i", "x", env=env)
    names = {f"account_name {pwd.getpwuid(1).pw_name}", f"group {grp.getgrgid(4).gr_name}||4"}
    assert {"target_uid 2", "target_gid 5", *names} <= set(lines)
    assert sum(line.startswith("group ") for line in lines) == 1
    assert not any(line.startswith("target_") for line in door.launched("exec", "/i", "x", env=env, user=NOBODY))


def test_init_scripts_come_before_everything(door: FrontDoor, tmp_path: Path) -> None:
    (door.place / "etc/singularity/init").write_text("export TEST_SITE=1 SINGULARITY_BINDPATH=/global\n")
    script = 'export TEST_USER="$TEST_SITE+1"\nLD_LIBRARY_PATH=/opt/cuda; export LD_LIBRARY_PATH\n'
    (tmp_path / ".singularity-init").write_text(script)
    lines = door.launched("exec", "/i", "x", env={"HOME": str(tmp_path)})
    assert {
        "bind /global|/global|256",
        "environment TEST_SITE=1",
        "environment TEST_USER=1+1",
        "environment SINGULARITYENV_LD_LIBRARY_PATH=/opt/cuda",
    } <= set(lines)


@as_root
def test_the_init_script_of_another_user_is_left_out(door: FrontDoor, tmp_path: Path) -> None:
    script = tmp_path / ".singularity-init"
    script.write_text("export TEST_USER=1\n")
    os.chown(script, NOBODY, NOBODY)
    ended = door("exec", "/i", "x", env={"HOME": str(tmp_path)})
    assert ended.err == f"WARNING: {script}: not read, it belongs to uid {NOBODY}\n"
    assert "environment TEST_USER=1" not in ended.lines


def test_variables_of_the_options_reach_the_starter(door: FrontDoor, tmp_path: Path) -> None:
    file = tmp_path / "file.env"
    file.write_text("A=file\nB=file\n")
    ended = door("exec", "--env-file", file, "--env", "B=option", "/i", "x", env={"APPTAINERENV_A": "caller"})
    assert ended.err == "WARNING: variable B is set by --env and by --env-file: --env counts\n"
    assert sorted(line for line in ended.lines if line.startswith("environment")) == [
        "environment SINGULARITYENV_A=file",
        "environment SINGULARITYENV_B=option",
    ]


def test_the_debug_level_is_an_audit_trail(door: FrontDoor) -> None:
    ended = door("-d", "exec", "--pid", "/i", "x", env={"SINGULARITY_BINDPATH": "/opt,"})
    assert "level 21" in ended.lines
    assert "variable SINGULARITY_BINDPATH = '/opt,'" in ended.err
    assert "option --pid = ''" in ended.err
    assert all(line.startswith(("DEBUG", "VERBOSE")) and "[U=" in line for line in ended.err.splitlines())


def test_drivers_that_are_not_there_are_one_warning(door: FrontDoor) -> None:
    (door.place / "etc/singularity/nvliblist.conf").write_text("libsurely-not-here.so\n")
    ended = door("exec", "--nv", "/i", "x")
    assert ended.err == "WARNING: Could not find any nv files on this host\n"
    assert "nv" in ended.lines


def test_libraries_of_the_host_are_found(door: FrontDoor) -> None:
    (door.place / "etc/singularity/nvliblist.conf").write_text("libc.so\nsh\n/etc/passwd\n")
    lines = door.launched("exec", "--nv", "/i", "x")
    libraries = [line for line in lines if line.startswith("library ")]
    asked, judged = 1 << 8, 1 << 8 | 1 << 4
    assert any(line.endswith(f"|/.singularity.d/libs/libc.so.6|{judged}") for line in libraries)
    assert any(line.endswith(f"|/usr/bin/sh|{judged}") for line in libraries)
    assert f"library /etc/passwd|/etc/passwd|{asked}" in libraries


def test_the_version_is_answered_at_once(door: FrontDoor) -> None:
    program = door.place / "bin/singularity"
    best = 1.0
    for _ in range(30):
        begin = time.perf_counter()
        subprocess.run([program, "--version"], stdout=subprocess.DEVNULL, check=True)
        best = min(best, time.perf_counter() - begin)
    assert best < 0.05, "no interpreter is started for it"
