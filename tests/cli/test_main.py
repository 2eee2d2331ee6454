"""The command line: levels, help in all its spellings, and every failure as one line with its status."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from singularity import __version__
from singularity.cli.main import main
from singularity.cli.options_table import entries
from singularity.cli.verbs import VERBS
from singularity.errors import FileError, SingularityError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from images import Images

CHECKOUT = Path(__file__).resolve().parents[2]
FIXTURES = CHECKOUT.parent / "shared" / "fixtures"


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Said:
    monkeypatch.setenv("SINGULARITY_MESSAGELEVEL", "")
    return Said(capsys)


class Said:
    """Runs command lines in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *words: str) -> tuple[int, str, str]:
        os.environ["SINGULARITY_MESSAGELEVEL"] = ""
        status = main(words)
        out, err = self.capsys.readouterr()
        return status, out, err

    def out(self, *words: str) -> str:
        status, out, err = self(*words)
        assert (status, err) == (0, "")
        return out


def test_the_version_has_one_source_and_the_form_that_programs_read(said: Said) -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    assert project["version"] == __version__
    assert said.out("version") == f"{__version__}\n"
    assert said.out("--version") == f"singularity version {__version__}\n"


@pytest.mark.parametrize("words", [[], ["help"], ["--help"], ["-h"], ["-q", "help"]])
def test_general_help_lists_every_verb_and_global_option(said: Said, words: Sequence[str]) -> None:
    text = said.out(*words)
    assert text.startswith("Usage: singularity [global options] VERB [options] [arguments]\n")
    for verb in VERBS.values():
        assert (f"\n  {verb.name} " in text) is not verb.hidden
    for entry in entries("global"):
        if entry.names and not entry.hidden:
            assert f"--{entry.names[0]}" in text


@pytest.mark.parametrize("verb", [verb.name for verb in VERBS.values() if not verb.hidden])
def test_all_spellings_of_help_print_the_page_of_the_verb(said: Said, verb: str) -> None:
    page = said.out("help", verb)
    assert page.startswith(f"Usage: singularity {verb}")
    assert VERBS[verb].summary in page
    assert max(len(line) for line in page.splitlines()) <= 100
    spellings = [(verb, "--help"), (verb, "-h")]
    if verb != "help":
        spellings += [("--help", verb), ("-h", verb), (verb, "help")]
    for words in spellings:
        assert said.out(*words) == page, words


@pytest.mark.parametrize("verb", ["exec", "run", "shell", "test"])
def test_launch_pages_show_every_option_of_the_table(said: Said, verb: str) -> None:
    page = said.out("help", verb)
    for entry in entries(verb):
        if entry.hidden or not entry.names:
            assert entry.names == () or f"--{entry.names[0]} " not in page
        else:
            assert ", ".join(entry.spellings) in page
            assert all(f"SINGULARITY_{name}" in page for name in entry.variables)


def test_pages_below_a_verb(said: Said) -> None:
    assert said.out("help", "sif", "list").startswith("Usage: singularity sif list FILE\n")
    assert said.out("sif", "list", "--help") == said.out("help", "sif", "list")


USAGE = {
    ("bulid", "x", "y"): "unknown command bulid (did you mean build?)",
    ("frobnicate",): "unknown command frobnicate (see: singularity help)",
    ("help", "exce"): "unknown command exce (did you mean exec?)",
    ("sif", "lst"): "unknown command sif lst (did you mean list?)",
    ("help", "sif", "lst"): "unknown command sif lst (see: singularity help sif)",
    ("--quite", "help"): "unknown option --quite (did you mean --quiet?)",
    ("inspect", "--debug", "x"): "option --debug goes before the verb (singularity [global options] VERB)",
    ("-Z",): "unknown option -Z (see: singularity help)",
    ("inspect", "--labls", "x"): "unknown option --labls for inspect (did you mean --labels?)",
    ("inspect",): "inspect: IMAGE is missing (see: singularity help inspect)",
    ("inspect", "--app"): "option --app for inspect needs a value (see: singularity help inspect)",
    ("inspect", "a", "b"): "inspect: Got unexpected extra argument (b) (see: singularity help inspect)",
    ("inspect", "--json=maybe", "x"): '"--json=maybe": --json is true or false, not "maybe"',
    ("build", "x"): "build: SOURCE is missing (see: singularity help build)",
    ("build", "--dry-run=html", "x", "y"): '--dry-run=html: "text" or "json"',
    ("sif", "info", "one", "x"): "'one' is not a valid integer",
    ("completion", "csh"): "'csh' is not 'bash'",
    ("exec", "x", "y"): "exec: containers are launched by the program singularity, not by its Python half",
    ("--config", "x", "help"): "--config: the configuration file is fixed when the program is built",
}


@pytest.mark.parametrize("words", USAGE, ids=" ".join)
def test_wrong_usage_is_one_line_and_status_1(said: Said, words: Sequence[str]) -> None:
    status, out, err = said(*words)
    assert (status, out) == (1, "")
    assert err.startswith("ERROR:   ")
    assert err.count("\n") == 1
    assert USAGE[tuple(words)] in err


@pytest.mark.parametrize("level", ["-d", "--debug"])
def test_debug_messages_have_the_columns_of_the_audit_format(said: Said, level: str) -> None:
    _, _, err = said(level, "inspect", "/nowhere")
    header = (
        rf"FATAL   \[U={os.geteuid()},P={os.getpid()}\] +main.py:\d+:_end\(\) *: /nowhere: No such file or directory"
    )
    line = next(line for line in err.splitlines() if line.startswith("FATAL"))
    assert re.fullmatch(header, line)
    assert line.index(": /nowhere") == 8 + 19 + 43
    assert "Traceback" in err


def test_without_debug_no_traceback_is_shown(said: Said) -> None:
    status, _, err = said("inspect", "/nowhere")
    assert (status, err) == (255, "FATAL:   /nowhere: No such file or directory\n")


def test_each_class_of_failure_has_its_status() -> None:
    assert [each.exit_status for each in (SingularityError, UsageError, FileError)] == [255, 1, 255]


def test_control_characters_in_messages_are_shown_and_not_obeyed(said: Said) -> None:
    """R-P3."""
    _, _, err = said("inspect", "/no\x1b[31mwhere\n")
    assert err == "FATAL:   /no\\x1b[31mwhere\\x0a: No such file or directory\n"


def test_the_level_is_handed_to_nested_runs(said: Said) -> None:
    expected = {("-d",): "5", ("-v",): "4", ("-vvv",): "4", ("-vvvv",): "5", ("-q",): "-1", ("-s",): "-3", (): "1"}
    for words, level in {**expected, ("-q", "-d"): "5"}.items():
        said(*words, "version")
        assert os.environ["SINGULARITY_MESSAGELEVEL"] == level, words


def test_colour_is_for_terminals_only() -> None:
    """Through a pseudo-terminal, with --nocolor and without."""
    for words, coloured in ([], True), (["--nocolor"], False):
        script = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)"
        argv = [sys.executable, "-c", script, sys.executable, "-I", "-m", "singularity", *words, "inspect", "/nowhere"]
        done = subprocess.run(argv, capture_output=True, stdin=subprocess.DEVNULL, check=False)
        assert done.returncode == 255
        assert (b"\x1b[31m" in done.stdout) is coloured, done.stdout


OUTPUTS = (
    ["help", "exec"],
    ["completion", "bash"],
    ["cache", "list"],
    ["inspect", "--json", "IMAGE"],
    ["sif", "list", "IMAGE"],
)


@pytest.mark.parametrize("words", OUTPUTS)
def test_a_reader_that_leaves_is_no_failure_of_ours(words: list[str], images: Images) -> None:
    """It ends as other tools do: quietly, with the status of SIGPIPE."""
    argv = [sys.executable, "-I", "-m", "singularity", *(word.replace("IMAGE", str(images.sif)) for word in words)]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(argv, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("words", OUTPUTS)
def test_output_that_cannot_be_written_is_one_line(words: list[str], images: Images) -> None:
    argv = [sys.executable, "-I", "-m", "singularity", *(word.replace("IMAGE", str(images.sif)) for word in words)]
    with open("/dev/full", "w", encoding="ascii") as full:
        done = subprocess.run(argv, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 255
    assert done.stderr.startswith("FATAL:   ")
    assert done.stderr.endswith(": No space left on device\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.usefixtures("no_proxy")
@pytest.mark.parametrize(("line", "message"), [
    (["exec", "docker://host.invalid/x", "true"], "https://host.invalid/v2/x/manifests/latest: dial tcp: lookup host."),
    (["exec", "-B", "/a:/b", "--env", "A=b", "-ceB", "/c", "oras://host.invalid/y", "ls"], "https://host.invalid/v2/y/"),
    (["run", "--bind=/a", "-C", "docker-archive:x.tar"], "x.tar: No such file or directory"),
    (["shell", "https://host.invalid/x.sif"], "https://host.invalid/x.sif: dial tcp: lookup host.invalid: no such"),
    (["exec", "docker://A B", "true"], '"A B" names no image'),
    (["exec", "instance://web", "true"], "instance://web: instances are not supported by this version"),
    (["-v", "run", "instance.tar"], "instance.tar: No such file or directory"),
])  # fmt: skip
def test_a_launch_of_what_cannot_be_launched_is_one_line(said: Said, line: Sequence[str], message: str) -> None:
    status, out, err = said("launch", *line)
    assert (status, out) == (255, "")
    assert err.startswith(f"FATAL:   {message}")
    assert err.count("\n") == 1


def test_a_launch_of_a_damaged_archive_is_one_line_and_leaves_nothing(
    said: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SINGULARITY_CACHEDIR", str(tmp_path))
    archive = tmp_path / "x.tar.gz"
    archive.write_bytes(b"\x1f\x8b" + b"\0" * 60)
    status, out, err = said("launch", "-q", "exec", str(archive), "true")
    assert (status, out) == (255, "")
    assert err.startswith(f"FATAL:   {archive}: ")
    assert err.count("\n") == 1
    assert not list(tmp_path.rglob("*.sif"))


def test_a_launch_of_what_is_only_named_as_an_archive_says_so(said: Said, tmp_path: Path) -> None:
    (tmp_path / "x.tar").mkdir()
    status, _, err = said("launch", "exec", str(tmp_path / "x.tar"), "true")
    assert status == 255
    assert err == f"FATAL:   {tmp_path}/x.tar: a directory, but named as an archive (give it another name)\n"


def test_it_starts_quickly_and_imports_little() -> None:
    """What an inspect of a SIF file does not need is not imported: it should feel instant."""
    script = "import sys; from singularity.cli.main import main; main(['version']); print(*sys.modules)"
    loaded = set(subprocess.check_output([sys.executable, "-I", "-c", script], text=True).split())
    assert "click" in loaded
    heavy = {
        "subprocess",
        "ctypes",
        "json",
        "tempfile",
        "shutil",
        "urllib.request",
        "email",
        "hashlib",
        "pydoc",
        "asyncio",
    }
    assert loaded & heavy == set()
    assert not any(
        name.startswith(("singularity.build", "singularity.definition", "singularity.image")) for name in loaded
    )
