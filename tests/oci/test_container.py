"""What an image's configuration becomes: commands and variables as Docker hands them to programs, in every shell."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from singularity.content import digest, document
from singularity.content.document import Config
from singularity.content.platform import Platform
from singularity.errors import ImageError
from singularity.image.root import Root
from singularity.oci import container
from singularity.oci.image import Image

SHOW = """#!/bin/sh
for word in "$@"; do printf '<%s>' "$word"; done
"""
AWKWARD = [
    "plain",
    "two words",
    "",
    "$HOME",
    "${HOME}x",
    "`id`",
    "$(id)",
    'a "q" b',
    "it's",
    "back\\slash\\n",
    "\\",
    "*",
]
AWKWARD += ["new\nline", "-n", "a=b", "ü€", "tab\there", "'\"'\"'", "!x", "~", "#", "trailing\\\\"]
SHELLS = [shell for shell in (["dash"], ["bash"], ["bash", "--posix"], ["busybox", "sh"]) if shutil.which(shell[0])]


@pytest.fixture
def show(tmp_path: Path) -> str:
    path = tmp_path / "show"
    path.write_text(SHOW)
    path.chmod(0o755)
    return str(path)


def run(shell: list[str], script: str, *arguments: str, **variables: str) -> str:
    path = Path(variables.pop("SCRIPT"))
    path.write_text(script)
    environment = {"PATH": os.environ["PATH"], **variables}
    done = subprocess.run([*shell, str(path), *arguments], env=environment, capture_output=True, check=False)
    assert done.stderr == b""
    return done.stdout.decode()


def shown(words: list[str]) -> str:
    return "".join(f"<{word}>" for word in words)


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_words_of_the_configuration_arrive_to_the_letter(shell: list[str], tmp_path: Path, show: str) -> None:
    script, place = container.runscript([show, *AWKWARD], ["default", *AWKWARD]), str(tmp_path / "script")
    assert run(shell, script, SCRIPT=place) == shown([*AWKWARD, "default", *AWKWARD])
    assert run(shell, script, "given", SCRIPT=place) == shown([*AWKWARD, "given"])


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_arguments_follow_the_entry_point_or_replace_the_command(shell: list[str], tmp_path: Path, show: str) -> None:
    place = str(tmp_path / "script")
    assert run(shell, container.runscript([], [show, "default"]), SCRIPT=place) == "<default>"
    assert run(shell, container.runscript([], ["no", "default"]), show, "x y", SCRIPT=place) == "<x y>"
    assert run(shell, container.runscript([show], []), SCRIPT=place) == ""
    assert run(shell, container.runscript([], []), show, "a", SCRIPT=place) == "<a>"
    assert run(shell, container.runscript([""], [show, "default"]), SCRIPT=place) == "<default>"


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_arguments_are_evaluated_unless_that_is_not_wanted(shell: list[str], tmp_path: Path, show: str) -> None:
    """As out of double quotes, in which a double quote stands for itself; with --no-eval as they are."""
    script, place = container.runscript([show], []), str(tmp_path / "script")
    given_ = ["$A", '"$A"', "\\$A", "\\\\", "a\\", "${A}b", "x  y", '\\"', "it's", "5$ off"]
    evaluated = ["1 2", '"1 2"', "$A", "\\", "a\\", "1 2b", "x  y", '"', "it's", "5$ off"]
    assert run(shell, script, *given_, SCRIPT=place, A="1 2") == shown(evaluated)
    assert run(shell, script, *AWKWARD, SCRIPT=place, SINGULARITY_NO_EVAL="1") == shown(AWKWARD)
    many = [str(number) for number in range(30)]
    assert run(shell, script, *many, SCRIPT=place, SINGULARITY_NO_EVAL="1") == shown(many)


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_variables_arrive_to_the_letter(shell: list[str], tmp_path: Path) -> None:
    names = [f"V{number}" for number in range(len(AWKWARD))]
    text = container.environment([f"{name}={value}" for name, value in zip(names, AWKWARD, strict=True)])
    place = tmp_path / "env.sh"
    place.write_text(text)
    show = "".join(f"printf '<%s>' \"${name}\";" for name in names)
    done = subprocess.run([*shell, "-c", f"set -eu; . {place}; {show}"], capture_output=True, check=True, env={})
    assert done.stdout.decode() == shown(AWKWARD)


def test_the_image_sets_path_always_and_others_when_nothing_has(tmp_path: Path) -> None:
    place = tmp_path / "env.sh"
    place.write_text(container.environment(["PATH=/a:/b", "A=image", "A=later", "B=x=y", "1x=no", "no-name=no", "C"]))
    argv = ["/bin/sh", "-c", f'. {place}; echo "$PATH|$A|$B|${{C-unset}}"']
    out = subprocess.run(argv, capture_output=True, text=True, check=True, env={"A": "", "PATH": "/x"}).stdout
    assert out == "/a:/b|later|x=y|unset\n"
    out = subprocess.run(argv, capture_output=True, text=True, check=True, env={"A": "host", "PATH": "/x"}).stdout
    assert out == "/a:/b|host|x=y|unset\n"


@settings(max_examples=60)
@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8), max_size=4))
def test_any_words_arrive(words: list[str]) -> None:
    script = container.runscript(["printf", "<%s>", "x", *words], [])
    done = subprocess.run(["/bin/sh", "-s"], input=script.encode(), capture_output=True, check=True)
    assert done.stdout.decode() == shown(["x", *words])


def image_of(config: Config) -> Image:
    return Image(name="x", digest=digest.of(b""), config=config, layers=())


def test_the_files_of_a_configuration(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    raw = {"Env": ["A=b"], "Cmd": ["x"], "Labels": {"l": "m", "ü": "\ud800"}, "WorkingDir": "/w", "User": "7"}
    raw |= {"ExposedPorts": {"80/tcp": {}}, "Healthcheck": {"Test": ["CMD", "true"]}, "Volumes": {}}
    data = json.dumps({"config": raw, "os": "linux", "architecture": "amd64"}).encode()
    config = document.parse_config(data, "x")
    assert (config.platform, config.working_directory) == (Platform(os="linux", architecture="amd64"), "/w")
    (tmp_path / "etc").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / ".singularity.d").symlink_to("/etc")  # R-B6: of the image, not of the host
    with caplog.at_level(15), Root(tmp_path) as root:
        container.write(root, image_of(config))
    place = tmp_path / "etc"
    assert json.loads((place / "oci-config.json").read_text())["WorkingDir"] == "/w"
    assert json.loads((place / "labels.json").read_text()) == {"l": "m", "ü": "\N{REPLACEMENT CHARACTER}"}
    assert stat.S_IMODE((place / "runscript").stat().st_mode) == 0o755
    assert (place / "env/10-docker2singularity.sh").read_text().count("\n") == 4
    assert (place / "oci-start").read_text() == "USER=7\nWORKDIR=/w\n"
    assert [record.getMessage().partition(" of ")[0] for record in caplog.records] == ["ExposedPorts", "Healthcheck"]


@pytest.mark.parametrize(
    ("user", "directory", "written"),
    [
        ("", "", "USER=\nWORKDIR=/\n"),
        ("app:staff", "/srv//a b/", "USER=app:staff\nWORKDIR=/srv/a b\n"),
        ("7", "relative/../x", "USER=7\nWORKDIR=/x\n"),
        ("0", "//../..", "USER=0\nWORKDIR=/\n"),
        ("a\nWORKDIR=/b", "/new\nline", "USER=a WORKDIR=/b\nWORKDIR=/new\nline\n"),
    ],
)
def test_where_and_as_whom_the_program_starts(user: str, directory: str, written: str) -> None:
    assert container.start(user, directory) == written


@pytest.mark.parametrize("key", ["WorkingDir", "User"])
def test_a_zero_byte_is_refused(key: str) -> None:
    data = json.dumps({"config": {key: "a\0b"}, "os": "linux", "architecture": "amd64"}).encode()
    with pytest.raises(ImageError, match=f"{key} holds a zero byte"):
        document.parse_config(data, "x")


def test_an_empty_configuration_runs_a_shell(tmp_path: Path) -> None:
    with Root(tmp_path) as root:
        container.write(root, image_of(Config(platform=Platform(), diff_ids=())))
    done = subprocess.run(
        [str(tmp_path / ".singularity.d/runscript")], input=b"echo it is", capture_output=True, check=True
    )
    assert done.stdout == b"it is\n"
