"""`exec`, `run` and `popen`: what they are given arrives, what comes back is the program's, and errors are typed."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import machine
import pytest

import singularity
from singularity import LaunchError
from singularity.api.words import of_launches, spelled

pytestmark = pytest.mark.needs("installation")

SHOW = ["sh", "-c", 'printf "%s\\n" "$@"', "show"]


def test_words_streams_and_status_are_those_of_the_program(sif: Path) -> None:
    words = ["a b", "", "*", "$HOME", "'\"", "\n", "-x", "é", os.fsdecode(b"\xff")]
    done = singularity.exec(sif, [*SHOW, *words], capture_output=True, check=True)
    assert done.stdout == "".join(f"{word}\n" for word in words)
    done = singularity.exec(sif, ["sh", "-c", "cat; echo err >&2; exit 7"], input=b"\xfe\n", capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (7, "\udcfe\n", "err\n")


def test_what_is_not_captured_goes_where_ours_goes(sif: Path, capfd: pytest.CaptureFixture[str]) -> None:
    done = singularity.exec(sif, "pwd", cwd="/etc")
    assert (done.returncode, done.stdout) == (0, None)
    assert capfd.readouterr().out == "/etc\n"


def test_run_runs_the_runscript(tool: Path) -> None:
    assert singularity.run(tool, ["a", "b c"], capture_output=True).stdout == "ran a b c\n"
    with pytest.raises(TypeError, match="a list of words"):
        singularity.run(tool, "abc")


def test_check_and_timeout_are_as_in_subprocess(sif: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        singularity.exec(sif, "false", check=True)
    assert caught.value.returncode == 1
    with pytest.raises(subprocess.TimeoutExpired):
        singularity.exec(sif, ["sleep", "600"], timeout=0.3)
    for wrong in ({"input": "a", "stdin": subprocess.PIPE}, {"capture_output": True, "stderr": subprocess.PIPE}):
        with pytest.raises(ValueError, match="exclude"):
            singularity.exec(sif, "true", **wrong)  # type: ignore[arg-type]


def test_a_program_that_is_not_there_has_the_status_of_shells(sif: Path) -> None:
    done = singularity.exec(sif, "no-such-program", capture_output=True)
    assert done.returncode == 127
    assert "no-such-program" in done.stderr


def test_a_status_of_255_of_the_program_is_no_failure_of_ours(sif: Path) -> None:
    assert singularity.exec(sif, ["sh", "-c", "exit 255"], capture_output=True).returncode == 255


def test_a_container_that_cannot_be_is_a_launch_error(sif: Path, directory: Path) -> None:
    (directory / "empty").write_bytes(b"")
    for image in ("missing.sif", "empty", "docker://", "instance://nobody"):
        with pytest.raises(LaunchError) as caught:
            singularity.exec(image, "true", capture_output=True)
        assert "\n" not in str(caught.value)
    with pytest.raises(LaunchError, match="too long"):
        singularity.exec(sif, ["echo"] * 500_000)
    with pytest.raises(LaunchError, match="memory"):
        singularity.exec(sif, "true", memory="much", capture_output=True)
    assert singularity.exec("missing.sif", "true", stderr=subprocess.DEVNULL).returncode == 255


def test_keywords_that_are_none_and_values_of_other_types_are_type_errors(sif: Path) -> None:
    wrong: list[dict[str, Any]] = [
        {"bnd": "/a"},
        {"nv": "yes"},
        {"nv": 1},
        {"bind": [1.5j]},
        {"cwd": True},
        {"cwd": ["/a"]},
    ]
    for options in wrong:
        with pytest.raises(TypeError, match=r"exec\(\)"):
            singularity.exec(sif, "true", **options)
    with pytest.raises(TypeError, match="did you mean 'bind'"):
        singularity.exec(sif, "true", binds="/a")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="empty"):
        singularity.exec(sif, [])


def test_variables_arrive_as_they_are(sif: Path) -> None:
    values = {
        "PLAIN": "1",
        "COMMA": "a,b",
        "QUOTE": 'say "x"',
        "BLANK": "",
        "LINES": "a\nb",
        "DOLLAR": "$HOME `id`",
        "NUMBER": 5,
    }
    script = "".join(f'printf "%s\\0" "${name}";' for name in values)
    done = singularity.exec(sif, ["sh", "-c", script], env=values, no_eval=True, capture_output=True, check=True)
    assert done.stdout.split("\0")[:-1] == [str(value) for value in values.values()]


@pytest.mark.parametrize("name", ["plain", "a b", "a,b", "a:b", "a\\b", "a\\,b", 'a"b', "é"])
def test_a_path_object_is_just_that_path(sif: Path, directory: Path, name: str) -> None:
    place = directory / name
    place.mkdir()
    (place / "file").write_text("here")
    done = singularity.exec(
        sif, ["cat", place / "file"], bind=[place], no_mount=["tmp", "cwd"], contain=True, capture_output=True
    )
    assert done.stdout == "here", done.stderr


def test_images_of_odd_names(sif: Path, directory: Path) -> None:
    for name in ("-x.sif", "a b.sif", "a:b.sif", "--nv"):
        (directory / name).symlink_to(sif)
        assert singularity.exec(name, ["echo", "ok"], capture_output=True).stdout == "ok\n", name
        assert singularity.exec(Path(name), ["echo", "ok"], capture_output=True).stdout == "ok\n"


def test_popen_is_the_program(sif: Path) -> None:
    with singularity.popen(sif, ["cat"], stdin=singularity.PIPE, stdout=singularity.PIPE) as process:
        assert Path(f"/proc/{process.pid}").exists()
        assert process.communicate(b"\xff\x00")[0] == b"\xff\x00"
    with singularity.popen(sif, ["sleep", "600"]) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait() == -signal.SIGTERM


def test_descriptors_that_are_kept_get_to_the_program(sif: Path) -> None:
    reading, writing = os.pipe()
    try:
        program = ["sh", "-c", f"echo through >&{writing}"]
        for given in (writing, str(writing), [writing]):
            singularity.exec(sif, program, keep_fd=given, check=True)
            assert os.read(reading, 100) == b"through\n"
        with singularity.popen(sif, program, keep_fd=writing) as process:
            assert process.wait() == 0
        with singularity.Container(sif) as c:
            c.exec(program, keep_fd=writing, check=True)
        assert os.read(reading, 100) == b"through\n" * 2
        with pytest.raises(TypeError, match="numbers of descriptors"):
            singularity.exec(sif, program, keep_fd="all")
    finally:
        os.close(reading)
        os.close(writing)


def test_options_become_the_words_that_would_be_typed() -> None:
    known = of_launches("exec")
    given: dict[str, Any] = {
        "nv": True, "cleanenv": False, "bind": ["/a", "/b:/c:ro"], "cwd": Path("/x,y"), "memory": 10,
        "overlay": Path("/a,b"),
        "no_mount": "tmp,home", "env": {"A": 1}, "home": None, "cpus": 1.5,
    }  # fmt: skip
    assert spelled("exec", known, given) == [
        "--nv", "--cleanenv=false", "--bind=/a", "--bind=/b:/c:ro", "--cwd=/x,y", "--memory=10", '--overlay="/a,b"',
        "--no-mount=tmp,home", "--env=A=1", "--cpus=1.5",
    ]  # fmt: skip


def test_another_program_can_launch(sif: Path, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SINGULARITY_PROGRAM, which must be one."""
    other = directory / "other"
    other.write_text('#!/bin/sh\necho other "$@"\n')
    other.chmod(0o755)
    monkeypatch.setenv("SINGULARITY_PROGRAM", str(other))
    assert singularity.exec(sif, "true", capture_output=True).stdout == f"other exec {sif} true\n"
    for wrong in (directory, directory / "none"):
        monkeypatch.setenv("SINGULARITY_PROGRAM", str(wrong))
        with pytest.raises(LaunchError, match="SINGULARITY_PROGRAM"):
            singularity.exec(sif, "true")


def test_an_ordinary_user_launches_from_the_private_environment(as_user: Any, tool: Path, front_door: Path) -> None:
    """In each mode, with the Python that `make install` brings, in which there is nothing of this checkout."""
    script = as_user.home / "script.py"
    script.write_text(
        "import os, singularity\n"
        f"done = singularity.exec({str(tool)!r}, ['id', '-u'], capture_output=True, check=True)\n"
        "assert done.stdout == f'{os.getuid()}\\n', done\n"
        f"with singularity.Container({str(tool)!r}, cwd='/') as c:\n"
        "    space = ['readlink', '/proc/self/ns/mnt']\n"
        "    told = {c.exec(space, capture_output=True, check=True).stdout for _ in range(3)}\n"
        "    assert len(told) == 1, told\n"
        f"with singularity.Instance.start({str(tool)!r}, 'mine') as i:\n"
        "    assert i.exec(['echo', 'in'], capture_output=True).stdout == 'in\\n'\n"
        f"image = singularity.build({str(tool)!r}, 'copy', sandbox=True)\n"
        "assert image.format == 'sandbox' and image.labels['Colour'] == 'blue'\n"
        "print('well')\n"
    )
    script.chmod(0o644)
    python = front_door.parent.parent / "libexec/singularity/python/bin/python3"
    env = {"PATH": "/usr/bin:/bin", "HOME": str(as_user.home_inside), "PWD": str(as_user.home_inside)}
    env |= {"SINGULARITY_USERNS": "1"} if as_user.mode.value == "userns" else {}
    told = subprocess.run(
        [python, "-I", as_user.home_inside / "script.py"], env=env, capture_output=True, text=True, check=False,
        preexec_fn=as_user.world.enter,
    )  # fmt: skip
    assert told.stdout == "well\n", told.stderr
    assert not machine.loops_of(as_user.directory)
