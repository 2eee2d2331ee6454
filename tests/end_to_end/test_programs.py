"""exec, run, shell and test: the program runs as if it had been started natively."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from images import Images
from launching import Launcher, Mode

AWKWARD = [
    "plain", "two words", "", " ", "'single'", '"double"', "*", "?", "$HOME", "$(id)", "`id`", "back\\slash",
    "tab\there", "line\nbreak", "-x", "--", "--bind", "=", "a=b", "ümläut", "#", ";", "&", "|", "%s%n", "\x01\x1b[31m",
]  # fmt: skip


@pytest.mark.formats("sandbox", "squashfs", "sif", "ext3", "sif-ext3", "2.x")
def test_exec_runs_a_program_and_says_nothing_of_its_own(launch: Launcher, image: Path) -> None:
    assert launch("exec", image, "cat", "/etc/image-name").ok().out == "busybox of the tests\n"


@pytest.mark.parametrize("status", [0, 1, 2, 42, 126, 127, 254, 255])
def test_the_programs_status_is_ours(launch: Launcher, images: Images, status: int) -> None:
    """R-B5."""
    result = launch("exec", images.sandbox, "probe", "exit", str(status))
    assert (result.status, result.err) == (status, "")


@pytest.mark.formats("sandbox", "sif")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGUSR1, signal.SIGPIPE])
def test_the_signal_that_ends_the_program_ends_us(launch: Launcher, image: Path, number: int) -> None:
    """R-B5: 2.2 reported success."""
    result = launch("exec", image, "probe", "die", str(int(number)))
    assert (result.status, result.err) == (-number, "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1])
def test_a_signal_to_the_front_process_reaches_the_program(launch: Launcher, images: Images, number: int) -> None:
    """R-B1."""
    script = f"trap 'echo caught; exit 9' {int(number)}; echo ready; while :; do sleep 0.02; done"
    with launch.start(*launch.argv("exec", images.sandbox, "sh", "-c", script)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (9, b"caught\n", b"")


@pytest.mark.formats("sandbox", "sif")
def test_no_process_of_ours_stays_beside_the_program(launch: Launcher, image: Path) -> None:
    """The launcher is replaced by the program: the process started is the program."""
    with launch.start(*launch.argv("exec", image, "sh", "-c", "echo $$; read line"), stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"{process.pid}\n".encode()
        assert Path(f"/proc/{process.pid}/comm").read_text() in {"sh\n", "busybox\n"}
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert children == [] or launch.mode is Mode.USERNS
        process.communicate(b"\n", timeout=10)


@pytest.mark.parametrize("name", ["singularity", "", "x"])
def test_who_waits_shows_the_programs_words_and_no_option(launch: Launcher, images: Images, name: str) -> None:
    """Anybody can read a command line, and options may hold secrets (proc_pid_cmdline(5))."""
    words = ["exec", "--pid", "--env", "TOKEN=geheim", images.sandbox, "sh", "-c", "echo ready; read line", "a b"]
    program, *rest = launch.argv(*words)
    with launch.start(name, *rest, executable=program, stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        shown = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        assert Path(f"/proc/{process.pid}/comm").read_text().startswith("sexec")
        process.communicate(b"\n", timeout=10)
    assert shown.startswith(b"sexec\0"), shown
    assert shown.rstrip(b"\0").endswith(b"\0sh\0-c\0echo ready; read line\0a b"), shown
    assert not any(word in shown for word in (b"geheim", b"--env", b"--pid")), shown
    assert process.returncode == 0


@pytest.mark.parametrize("word", ["no-such-program", "/bin/no-such-program", "./no-such-program"])
def test_a_missing_program_is_127(launch: Launcher, images: Images, word: str) -> None:
    launch("exec", images.sandbox, word).refused(word, "executable file not found in", status=127)


@pytest.mark.parametrize("way", ["option", "variable", "site"])
@pytest.mark.parametrize(("program", "status"), [("no-such-program", 127), ("/etc/passwd", 126)])
def test_scripts_may_ask_for_255(launch: Launcher, images: Images, program: str, status: int, way: str) -> None:
    """As other programs of the family end; of the program's own statuses none is another."""
    words, env = (["--exit-statuses=family"], {}) if way == "option" else ([], {"SINGULARITY_EXIT_STATUSES": "family"})
    family = launch.configured("exit statuses = family\n") if way == "site" else launch
    env = {} if way == "site" else env
    assert family("exec", *words, images.sandbox, program, env=env).status == 255
    for number in (126, 127):
        assert family("exec", *words, images.sandbox, "sh", "-c", f"exit {number}", env=env).status == number
    assert family("exec", "--exit-statuses=shell", images.sandbox, program, env=env).status == status


@pytest.mark.parametrize("word", ["/etc/passwd", "/etc", "/opt/data"])
def test_a_program_that_cannot_be_executed_is_126(launch: Launcher, images: Images, word: str) -> None:
    launch("exec", images.sandbox, word).refused(word, status=126)


def test_a_missing_interpreter_is_named(launch: Launcher, directory: Path, images: Images) -> None:
    script = directory / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    result = launch("exec", "-B", f"{script}:/opt/data", images.sandbox, "/opt/data")
    assert result.status in {126, 127}, str(result)
    assert "/opt/data" in result.err


def test_a_script_without_an_interpreter_line_runs_under_the_containers_shell(launch: Launcher, images: Images) -> None:
    assert (
        launch("exec", images.sandbox, "/opt/no-interpreter", "a", "b").ok().out == "no interpreter line, 2 arguments\n"
    )


def test_a_program_is_looked_up_on_the_containers_path(launch: Launcher, images: Images) -> None:
    """A program of the host that the image lacks is not found, one of the image is, whatever the caller's PATH."""
    env = {"PATH": f"{launch.prefix}/bin:/usr/bin:/usr/local/bin"}
    assert launch("exec", images.sandbox, "probe", "argv", env=env).ok().out == ""
    launch("exec", images.sandbox, "mksquashfs", env=env).refused("mksquashfs", status=127)


def test_arguments_arrive_byte_by_byte(launch: Launcher, images: Images) -> None:
    result = launch("exec", images.sandbox, "probe", "argv", *AWKWARD).ok()
    assert result.stdout == b"".join(word.encode() + b"\0" for word in AWKWARD)


def test_arguments_of_the_runscript_arrive_byte_by_byte(launch: Launcher, images: Images, directory: Path) -> None:
    script = directory / "runscript"
    script.write_text('#!/bin/sh\nexec probe argv "$@"\n')
    script.chmod(0o755)
    result = launch("run", "-B", f"{script}:/.singularity.d/runscript", images.sandbox, *AWKWARD).ok()
    assert result.stdout == b"".join(word.encode() + b"\0" for word in AWKWARD)


def test_options_after_the_image_belong_to_the_program(launch: Launcher, images: Images) -> None:
    result = launch("exec", images.sandbox, "probe", "argv", "--help", "-c", "--version", "--no-such-option").ok()
    assert result.stdout == b"--help\0-c\0--version\0--no-such-option\0"


@pytest.mark.formats("sandbox", "sif")
def test_standard_input_and_output_are_the_programs(launch: Launcher, image: Path) -> None:
    octets = os.urandom(1 << 20)
    assert launch("exec", image, "cat", stdin=octets).ok().stdout == octets


def test_standard_error_is_the_programs(launch: Launcher, images: Images) -> None:
    result = launch("exec", images.sandbox, "sh", "-c", "echo out; echo err >&2")
    assert (result.status, result.out, result.err) == (0, "out\n", "err\n")


def test_a_pipeline_of_containers(launch: Launcher, images: Images) -> None:
    front = " ".join(launch.argv("exec", images.sandbox, "seq", "1", "100000"))
    back = " ".join(launch.argv("exec", images.sandbox, "head", "-n", "1"))
    assert launch.command("sh", "-c", f"{front} | {back}").ok().out == "1\n"


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1), (0, 1, 2)])
def test_closed_standard_streams_do_not_matter(
    launch: Launcher, images: Images, directory: Path, closed: tuple[int, ...]
) -> None:
    """R-L3: nothing of ours lands on them, and the program sees /dev/null there."""
    seen = directory / "seen"
    seen.mkdir()
    seen.chmod(0o777)

    def close() -> None:
        for number in closed:
            os.close(number)

    inner = ["sh", "-c", "probe fds > /mnt/fds"]
    result = launch.command(*launch.argv("exec", "-B", f"{seen}:/mnt", images.sandbox, *inner), before=[close])
    assert result.status == 0, str(result)
    targets = dict(line.split(" ", 1) for line in (seen / "fds").read_text().splitlines())
    assert set(targets) == {"0", "1", "2"}
    for number in closed:
        if number != 1:
            assert targets[str(number)] in {"/dev/null", "/null"}, targets


def test_no_descriptor_beyond_the_standard_streams_is_inside(launch: Launcher, images: Images, directory: Path) -> None:
    """R-L3: not ours, not the caller's."""
    with (directory / "secret").open("w") as secret:
        os.set_inheritable(secret.fileno(), True)
        argv = launch.argv("exec", images.sandbox, "probe", "fds")
        with launch.start(*argv, pass_fds=[secret.fileno()]) as process:
            out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, b"")
    assert [line.split()[0] for line in out.splitlines()] == [b"0", b"1", b"2"], out


def test_a_named_descriptor_of_the_caller_is_kept(launch: Launcher, images: Images) -> None:
    """What process managers of parallel programs rely on."""
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as pipe:
        argv = launch.argv("exec", "--keep-fd", str(writer), images.sandbox, "sh", "-c", f"echo through >&{writer}")
        with launch.start(*argv, pass_fds=[writer]) as process:
            os.close(writer)
            assert pipe.read() == b"through\n"
            assert process.communicate(timeout=20) == (b"", b"")


@pytest.mark.formats("sandbox", "squashfs", "sif", "2.x")
def test_run_executes_the_runscript_with_the_arguments(launch: Launcher, image: Path, form: str) -> None:
    said = "old image, 2 arguments: a b\n" if form == "2.x" else "runscript got 2 arguments: a b\n"
    assert launch("run", image, "a", "b").ok().out == said


def test_run_without_a_runscript_starts_a_shell_and_says_so(launch: Launcher, images: Images) -> None:
    result = launch("run", images.bare_sandbox, "-c", "echo from the shell")
    assert result.status == 0, str(result)
    assert result.out == "from the shell\n"
    assert result.err.startswith("INFO:    "), str(result)


def test_shell_reads_commands_from_standard_input(launch: Launcher, images: Images) -> None:
    result = launch("shell", images.sandbox, stdin=b"cat /etc/image-name\nexit 7\n")
    assert (result.status, result.out, result.err) == (7, "busybox of the tests\n", "")


@pytest.mark.parametrize("words", [["-s", "/bin/ash"], ["--shell", "/bin/ash"], ["--shell=/bin/ash"], ["-s/bin/ash"]])
def test_the_shell_can_be_chosen(launch: Launcher, images: Images, words: list[str]) -> None:
    result = launch(
        "shell", *words, images.sandbox, stdin=b"readlink /proc/$$/exe; tr '\\0' ' ' < /proc/$$/cmdline\n"
    ).ok()
    assert "ash" in result.lines[1], str(result)


def test_the_shell_can_be_chosen_by_variable(launch: Launcher, images: Images) -> None:
    result = launch(
        "shell", images.sandbox, stdin=b"tr '\\0' ' ' < /proc/$$/cmdline\n", env={"SINGULARITY_SHELL": "/bin/ash"}
    )
    assert "ash" in result.ok().out


def test_a_chosen_shell_that_is_missing_is_named(launch: Launcher, images: Images) -> None:
    result = launch("shell", "-s", "/bin/no-such-shell", images.sandbox, stdin=b"echo here\n")
    assert result.warned("/bin/no-such-shell").out == "here\n"


@pytest.mark.formats("sandbox", "sif")
def test_test_runs_the_test_of_the_image(launch: Launcher, image: Path) -> None:
    assert launch("test", image, "x").ok().out == "test got 1 arguments: x\n"
    assert launch("test", image, env={"SINGULARITYENV_TEST_STATUS": "3"}).status == 3


def test_test_without_a_test_succeeds(launch: Launcher, images: Images) -> None:
    result = launch("test", images.bare_sandbox)
    assert result.status == 0, str(result)


def test_an_app_has_its_own_runscript_path_and_environment(launch: Launcher, images: Images) -> None:
    assert launch("run", "--app", "hello", images.sandbox, "x").ok().out == "hello from the app x\n"
    assert launch("exec", "--app", "hello", images.sandbox, "app-tool").ok().out == "tool of the app\n"
    assert (
        launch("exec", "--app=hello", images.sandbox, "sh", "-c", "echo $APP_GREETING $SCIF_APPNAME").ok().out
        == "hi hello\n"
    )
    assert launch("test", "--app", "hello", images.sandbox).ok().out == "test of the app\n"


def test_an_unknown_app_is_named(launch: Launcher, images: Images) -> None:
    result = launch("run", "--app", "goodbye", images.sandbox)
    assert result.status in {1, 255}, str(result)
    assert "goodbye" in result.err


@pytest.mark.needs("fuse")
@pytest.mark.modes("suid", "userns")
@pytest.mark.formats("squashfs", "2.x")
def test_an_executable_image_runs_by_its_name(launch: Launcher, images: Images, form: str) -> None:
    """./image args: the kernel reads the first line and starts run-singularity."""
    image, said = (images.image_2x, "old image") if form == "2.x" else (images.squashfs(line=True), "runscript got")
    env = {"SINGULARITY_USERNS": "1"} if launch.mode is Mode.USERNS else {}
    result = launch.command(f"./{image.name}", "a", "b c", env=env, cwd=image.parent).ok()
    assert result.out in {f"{said}, 2 arguments: a b c\n", f"{said} 2 arguments: a b c\n"}


@pytest.mark.needs("fuse")
def test_an_executable_sif_runs_by_its_name(launch: Launcher, images: Images) -> None:
    env = {"SINGULARITY_USERNS": "1"} if launch.mode is Mode.USERNS else {}
    assert launch.command(images.sif, "a", "b", env=env).ok().out == "runscript got 2 arguments: a b\n"


def test_an_image_without_a_shell_runs(launch: Launcher, images: Images) -> None:
    """Its environment is made of plain assignments, so no shell is needed."""
    result = launch("exec", images.shellless_sandbox, "probe", "env").ok()
    assert b"GREETING=hello from the image\0" in result.stdout
    assert b"SENTENCE=hello from the image, again\0" in result.stdout


@pytest.mark.needs("fuse")
def test_the_image_that_workflow_engines_probe_with(launch: Launcher, images: Images) -> None:
    """A squashfs behind the line with neither shell nor /etc/passwd: its program runs, `true` is not found."""
    assert launch("exec", images.shellless_squashfs, "/hello", "argv", "x").ok().stdout == b"x\0"
    launch("exec", images.shellless_squashfs, "true").refused("executable file not found in", status=127)


def test_the_image_can_be_named_by_variable(launch: Launcher, images: Images) -> None:
    result = launch("exec", "cat", "/etc/image-name", env={"SINGULARITY_IMAGE": str(images.sandbox)})
    assert result.ok().out == "busybox of the tests\n"


@pytest.mark.needs("fuse")
def test_an_image_may_have_any_name(launch: Launcher, images: Images, directory: Path) -> None:
    for name in ("with blank.sif", "a:b@c,d.simg", "100%s%n.img", "ümläut", "-dash", "quote'\"", "new\nline"):
        link = directory / name
        link.symlink_to(images.sif)
        assert launch("exec", link, "echo", "here").ok().out == "here\n"


def test_a_relative_image_is_looked_up_in_the_callers_directory(launch: Launcher, images: Images) -> None:
    argv = launch.argv("exec", images.sandbox.name, "echo", "here")
    assert launch.command(*argv, cwd=images.sandbox.parent).ok().out == "here\n"


def test_an_argument_list_at_the_limit_of_the_kernel(launch: Launcher, images: Images) -> None:
    """R-B4: works, or one clear line; never cut."""
    words = ["x" * 100_000] * 15
    result = launch("exec", images.sandbox, "probe", "argv", *words).ok()
    assert result.stdout == b"".join(word.encode() + b"\0" for word in words)


def test_a_large_environment_arrives(launch: Launcher, images: Images) -> None:
    """R-B4."""
    env: dict[str, str | None] = {f"VARIABLE_{number}": f"value {number}" for number in range(10_000)}
    result = launch("exec", images.sandbox, "probe", "env", env=env).ok()
    seen = dict(entry.split("=", 1) for entry in result.out.split("\0") if "=" in entry)
    assert all(seen.get(name) == value for name, value in env.items())


def test_umask_nice_and_affinity_are_the_callers(launch: Launcher, images: Images) -> None:
    """R-L12."""
    nice = min(os.nice(0) + 3, 19)

    def set_state() -> None:
        os.umask(0o027)
        os.nice(3)
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

    result = launch.command(*launch.argv("exec", images.sandbox, "probe", "state"), before=[set_state]).ok()
    assert result.lines[:2] == ["umask 027", f"nice {nice}"]
    assert "cpus 1" in result.lines


def test_no_umask_gives_the_usual_one(launch: Launcher, images: Images) -> None:
    argv = launch.argv("exec", "--no-umask", images.sandbox, "probe", "state")
    assert launch.command(*argv, before=[lambda: os.umask(0o077) and None]).ok().lines[0] == "umask 022"


def test_signal_dispositions_and_timers_are_the_callers(launch: Launcher, images: Images) -> None:
    """R-L12: none disturbs the set-up, and the program has them as if it had been started natively."""

    def set_state() -> None:
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGCHLD])
        signal.setitimer(signal.ITIMER_REAL, 500)

    result = launch.command(*launch.argv("exec", images.sandbox, "probe", "state"), before=[set_state]).ok()
    fields = dict(line.partition(" ")[::2] for line in result.lines)
    assert str(int(signal.SIGUSR2)) in fields["ignored"].split()
    assert str(int(signal.SIGPIPE)) not in fields["ignored"].split()
    assert {str(int(signal.SIGUSR1)), str(int(signal.SIGCHLD))} <= set(fields["blocked"].split())
    assert 400 < int(fields["timer"]) <= 500


def test_the_program_starts_in_the_callers_session_and_group(launch: Launcher, images: Images) -> None:
    """Job control: the terminal's signals reach the program because nothing moved it."""
    with launch.start(
        *launch.argv("exec", images.sandbox, "sh", "-c", "echo ready; read x"), stdin=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert os.getpgid(process.pid) == os.getsid(process.pid) == process.pid
        process.communicate(b"\n", timeout=10)


def test_a_new_session_can_be_asked_for(launch: Launcher, images: Images) -> None:
    """R-L14."""
    argv = launch.argv("exec", "--new-session", images.sandbox, "sh", "-c", "cut -d' ' -f 6 /proc/self/stat; echo $$")
    session, process = launch.command(*argv).ok().lines
    assert session == process
    inner = " ".join(f"'{word}'" if " " in word else word for word in argv[:-1])
    lines = launch.command("sh", "-c", f"{inner} 'cut -d\" \" -f 6 /proc/self/stat; echo $$'; true").ok().lines
    assert lines[0] == lines[1]


def test_stopping_and_continuing_works(launch: Launcher, images: Images) -> None:
    with launch.start(
        *launch.argv("exec", images.sandbox, "sh", "-c", "echo ready; read x; echo $x"), stdin=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGSTOP)
        deadline = time.monotonic() + 5
        while "T" not in Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]:
            assert time.monotonic() < deadline
        process.send_signal(signal.SIGCONT)
        assert process.communicate(b"again\n", timeout=10) == (b"again\n", b"")
