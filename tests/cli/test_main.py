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
from singularity.cli.verbs import NOT_HERE, OLD_SPELLINGS, VERBS
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
    ("inspect", "--json=maybe", "x"): 'option --json: "maybe" is neither true nor false',
    ("build", "x"): "build: SOURCE is missing (see: singularity help build)",
    ("build", "--dry-run=html", "x", "y"): '--dry-run=html: "text" or "json"',
    ("sif", "info", "one", "x"): "'one' is not a valid integer",
    ("completion", "csh"): "'csh' is not one of 'bash'",
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


@pytest.mark.parametrize("verb", NOT_HERE)
def test_a_verb_of_the_family_that_is_not_here_says_what_is_in_its_place(said: Said, verb: str) -> None:
    line = f"ERROR:   not in this version: {verb} ({NOT_HERE[verb]})\n"
    for words in ([verb], [verb, "list", "-x"], [verb, "--help"], ["help", verb], ["--help", verb]):
        assert said(*words) == (1, "", line), words
    assert f"\n  {verb} " not in said.out("help")


def test_the_commands_of_the_peers_are_here_or_said_not_to_be() -> None:
    """The list of the specification, A.1."""
    peers = """build cache capability caps checkpoint completion config delete exec help inspect instance key keys
        keyserver oci overlay plugin pull push registry remote run run-help search shell sif sign tag test verify
        version data buildcfg confgen apps instance.stop instance.list"""
    assert not set(peers.split()) - set(VERBS) - set(NOT_HERE) - set(OLD_SPELLINGS)
    assert not set(VERBS) & set(NOT_HERE)


@pytest.mark.parametrize("verb", ["sif", "cache", "overlay", "registry"])
def test_a_verb_with_commands_prints_its_page_when_it_stands_alone(said: Said, verb: str) -> None:
    """With status 0, as the program does without a verb."""
    assert said.out(verb) == said.out("help", verb) == said.out(verb, "--help")
    assert said(verb, "nothing-like-it")[0] == 1


def test_a_wrong_variable_is_not_blamed_on_the_option(said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SINGULARITY_NOHTTPS", "perhaps")
    status, _, err = said("pull", "docker://127.0.0.1:1/x")
    wanted = 'ERROR:   pull: variable SINGULARITY_NOHTTPS: "perhaps" is neither true nor false (see: '
    assert (status, err.startswith(wanted)) == (1, True), err
    monkeypatch.delenv("SINGULARITY_NOHTTPS")
    monkeypatch.setenv("APPTAINER_PLATFORM", "a/b/c")
    status, _, err = said("pull", "docker://127.0.0.1:1/x")
    assert (status, err.partition(":  ")[2].partition(" a/b/c")[0].strip()) == (1, "APPTAINER_PLATFORM"), err
    monkeypatch.delenv("APPTAINER_PLATFORM")
    status, _, err = said("pull", "--platform", "a/b/c", "docker://127.0.0.1:1/x")
    assert (status, "--platform a/b/c" in err) == (1, True)


@pytest.mark.parametrize(
    "words",
    [
        ["inspect"], ["run-help"], ["export"], ["mount"], ["expand"], ["sif", "list"], ["sif", "header"],
        ["copy", "IMAGE", "/etc/hosts", "/x"], ["push", "IMAGE", "oras://127.0.0.1:1/x"],
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "name", ["docker://debian:12", "oras://host/x", "oci-archive:x.tar", "library://a", "docker:x"]
)
def test_an_image_that_is_named_where_a_file_is_wanted_is_to_be_pulled(said: Said, words: list[str], name: str) -> None:
    line = [word.replace("IMAGE", name) for word in words]
    status, out, err = said(*line, *([] if name in line else [name]))
    hint = f"pull it first: singularity pull {name}"
    assert (status, out) == (255, "")
    assert err == f"FATAL:   {name}: an image's name, and no file of this machine ({hint})\n"


def test_an_unknown_transport_is_not_to_be_pulled(said: Said) -> None:
    wanted = 'FATAL:   dockr://debian: unknown transport "dockr" (did you mean docker://debian?)\n'
    assert said("inspect", "dockr://debian") == (255, "", wanted)


@pytest.mark.parametrize(
    ("name", "text", "said_so"),
    [
        (
            "x.def",
            "# nothing yet\n",
            "a definition file, not an image (build it first: singularity build IMAGE.sif x.def)",
        ),
        ("recipe", "# a\nBootStrap: docker\nFrom: debian\n", "(build it first: singularity build IMAGE.sif recipe)"),
        (
            "Dockerfile",
            "ARG X=1\nFROM debian\n",
            "a Dockerfile, not an image (build it first: singularity build IMAGE.sif Dockerfile)",
        ),
        ("Dockerfile.gpu", "", "an empty file"),
        ("notes", "From here on: FROM debian\n", "unknown format"),
    ],
)
def test_what_an_image_is_built_from_is_to_be_built(
    said: Said, tmp_path: Path, name: str, text: str, said_so: str
) -> None:
    (tmp_path / name).write_text(text)
    status, _, err = said("inspect", str(tmp_path / name))
    assert (status, err.count("\n"), said_so in err) == (255, 1, True), err


@pytest.mark.parametrize("verb", ["inspect", "run-help"])
@pytest.mark.parametrize("name", [".", "./"])
def test_a_directory_without_an_image_is_told(
    said: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, err = said(verb, name)
    assert (status, out, err.count("\n"), "a directory, but no image: it has no bin" in err) == (255, "", 1, True), err
    (tmp_path / "etc").mkdir()
    assert said(verb, name)[0] == 0


def test_an_empty_name_is_wrong_usage(said: Said) -> None:
    assert said("inspect", "") == (1, "", "ERROR:   the name of the image is empty\n")
    assert said("create", "")[0] == 1


@pytest.mark.parametrize("level", ["-d", "--debug"])
def test_debug_messages_have_the_columns_of_the_audit_format(said: Said, level: str) -> None:
    _, _, err = said(level, "inspect", "/nowhere")
    header = rf"FATAL   \[U={os.geteuid()},P={os.getpid()}\] +main.py:\d+:_end\(\) *: /nowhere: no such image"
    line = next(line for line in err.splitlines() if line.startswith("FATAL"))
    assert re.fullmatch(header, line)
    assert line.index(": /nowhere") == 8 + 19 + 43
    assert "Traceback" in err


def test_without_debug_no_traceback_is_shown(said: Said) -> None:
    status, _, err = said("inspect", "/nowhere")
    assert (status, err) == (255, "FATAL:   /nowhere: no such image\n")


def test_each_class_of_failure_has_its_status() -> None:
    assert [each.exit_status for each in (SingularityError, UsageError, FileError)] == [255, 1, 255]


def test_control_characters_in_messages_are_shown_and_not_obeyed(said: Said) -> None:
    """R-P3."""
    _, _, err = said("inspect", "/no\x1b[31mwhere\n")
    assert err == "FATAL:   /no\\x1b[31mwhere\\x0a: no such image\n"


def test_the_level_is_handed_to_nested_runs(said: Said) -> None:
    expected = {("-d",): "5", ("-v",): "4", ("-vvv",): "4", ("-vvvv",): "5", ("-q",): "-1", ("-s",): "-3", (): "1"}
    for words, level in {**expected, ("-q", "-d"): "5"}.items():
        said(*words, "version")
        assert os.environ["SINGULARITY_MESSAGELEVEL"] == level, words


@pytest.mark.parametrize(
    ("words", "env", "coloured"),
    [
        ([], {"TERM": "xterm"}, True),
        ([], {"TERM": "xterm", "NO_COLOR": ""}, True),
        (["--nocolor"], {"TERM": "xterm"}, False),
        ([], {"TERM": "xterm", "NO_COLOR": "1"}, False),
        ([], {"TERM": "dumb"}, False),
        ([], {"TERM": "xterm", "SINGULARITY_NOCOLOR": "1"}, False),
    ],
)
def test_colour_is_for_terminals_that_take_it(words: list[str], env: dict[str, str], *, coloured: bool) -> None:
    """Through a pseudo-terminal; progress, too, has no colour then."""
    script = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)"
    argv = [sys.executable, "-c", script, sys.executable, "-I", "-m", "singularity", *words, "inspect", "/nowhere"]
    done = subprocess.run(argv, capture_output=True, stdin=subprocess.DEVNULL, check=False, env={**os.environ, **env})
    assert done.returncode == 255
    assert (b"\x1b[31m" in done.stdout) is coloured, done.stdout
    assert coloured or b"\x1b[" not in done.stdout


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
    assert done.stderr == "FATAL:   standard output: No space left on device\n"


@pytest.mark.usefixtures("no_proxy")
@pytest.mark.parametrize(("line", "message"), [
    (["exec", "docker://host.invalid/x", "true"], "https://host.invalid/v2/x/manifests/latest: dial tcp: lookup host."),
    (["exec", "-B", "/a:/b", "--env", "A=b", "-ceB", "/c", "oras://host.invalid/y", "ls"], "https://host.invalid/v2/y/"),
    (["run", "--bind=/a", "-C", "docker-archive:x.tar"], "x.tar: No such file or directory"),
    (["shell", "https://host.invalid/x.sif"], "https://host.invalid/x.sif: dial tcp: lookup host.invalid: no such"),
    (["exec", "docker://A B", "true"], '"A B" names no image'),
    (["exec", "Instance://web", "true"], "Instance://web: an instance is no image (exec, run, shell and test"),
    (["inspect", "instance://web"], "instance://web: an instance is no image (exec, run, shell and test take it"),
    (["-v", "run", "instance.tar"], "instance.tar: no such image"),
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


@pytest.mark.parametrize("verb", ["pull", "build", "help"])
def test_a_variable_of_an_option_that_is_not_here_is_wrong_usage(
    said: Said, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """In the words of the front door, which has it for launches."""
    monkeypatch.setenv("SINGULARITY_CONFIG_FILE", "/x")
    why = "another configuration file: its path is fixed when the program is built"
    assert said(verb) == (1, "", f"ERROR:   variable SINGULARITY_CONFIG_FILE is not available here ({why})\n")
