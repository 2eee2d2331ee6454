"""Manual pages and completion: made from the same tables as help, and accepted by the programs that read them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import machine
import pytest

from singularity.cli.completions import SHELLS
from singularity.cli.options_table import Kind, entries, parse, table
from singularity.cli.pages import EXIT_STATUSES
from singularity.cli.verbs import NOT_HERE, VERBS
from singularity.errors import SingularityError

if TYPE_CHECKING:
    from collections.abc import Callable

GUIDE = Path(__file__).resolve().parents[2] / "docs/running.md"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pages")
    for module in ("pages", "completions"):
        words = ["-m", f"singularity.cli.{module}", directory / module]
        subprocess.run([sys.executable, "-I", *words], check=True)
    return directory


def test_every_verb_has_a_manual_page_without_warnings(written: Path) -> None:
    names = {path.name for path in (written / "pages").iterdir()}
    assert {"singularity.1", "singularity-exec.1", "singularity-build.1", "singularity-sif-list.1"} <= names
    assert {f"singularity-{verb.name}.1" for verb in VERBS.values() if not verb.hidden} <= names
    machine.require("groff")
    for path in sorted((written / "pages").iterdir()):
        done = subprocess.run(["groff", "-man", "-Tutf8", "-ww", path], capture_output=True, text=True, check=True)
        assert done.stderr == "", path.name
        assert "SYNOPSIS" in done.stdout.replace("\x08", "").replace("SSYYNNOOPPSSIISS", "SYNOPSIS")


def complete(written: Path, *words: str, directory: Path | None = None) -> list[str]:
    """What bash offers for the last of `words`."""
    script = (
        'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); compopt() { :; };'
        'complete() { :; }; _singularity; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    argv = ["/bin/bash", "-c", script, "bash", str(written / "completions/bash"), *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=directory)
    assert done.stderr == ""
    return done.stdout.split()


def test_bash_completes_verbs_options_and_files(written: Path, tmp_path: Path) -> None:
    (tmp_path / "image.sif").touch()
    assert complete(written, "singularity", "exe") == ["exec"]
    assert set(complete(written, "singularity", "")) == {verb.name for verb in VERBS.values() if not verb.hidden}
    assert complete(written, "singularity", "--deb") == ["--debug"]
    assert complete(written, "singularity", "-v", "exec", "--writable-") == ["--writable-tmpfs"]
    assert complete(written, "singularity", "help", "insp") == ["inspect"]
    assert complete(written, "singularity", "sif", "he") == ["header"]
    assert complete(written, "singularity", "exec", "im", directory=tmp_path) == ["image.sif"]
    assert complete(written, "singularity", "exec", "-B", "im", directory=tmp_path) == ["image.sif"]
    assert complete(written, "singularity", "run", "-B", "/a", "im", directory=tmp_path) == ["image.sif"]
    assert complete(written, "singularity", "build", "--san") == ["--sandbox"]
    assert complete(written, "singularity", "check", "--writable-") == ["--writable-tmpfs"]
    assert complete(written, "singularity", "check", "--ker") == ["--kernel"]
    assert complete(written, "singularity", "instance", "st") == ["start", "stop", "stats"]
    assert complete(written, "singularity", "instance", "start", "--pid-") == ["--pid-file"]
    assert complete(written, "singularity", "instance", "run", "-B", "/a", "im", directory=tmp_path) == ["image.sif"]
    assert complete(written, "singularity", "instance", "stop", "--ti") == ["--timeout"]
    assert complete(written, "singularity", "check", "-B", "/a", "im", directory=tmp_path) == ["image.sif"]


def zsh(written: Path, *words: str, directory: Path) -> list[str]:
    """What zsh offers: compadd, _files and _normal are those of its completion system, and print here."""
    script = (
        'source "$1"; shift; words=("$@"); CURRENT=$#; compadd() { [[ $1 == -- ]] && shift; print -l -- '
        "${(M)@:#${words[CURRENT]}*}; }; _files() { print -l -- ${words[CURRENT]}*(N); }; "
        "_normal() { print normal $words; }; _singularity"
    )
    argv = ["zsh", "-f", "-c", script, "zsh", str(written / "completions/zsh"), *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=directory)
    assert done.stderr == ""
    return done.stdout.split()


def fish(written: Path, *words: str, directory: Path) -> list[str]:
    line = " ".join(words)
    argv = ["fish", "--no-config", "-c", f"source {written}/completions/fish; complete --do-complete {line!r}"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=directory, env={"HOME": str(directory)})
    assert done.stderr == ""
    return [word.split("\t")[0] for word in done.stdout.splitlines()]


@pytest.mark.parametrize("shell", [zsh, fish])
def test_other_shells_complete_the_same(written: Path, tmp_path: Path, shell: Callable[..., list[str]]) -> None:
    machine.require(shell.__name__)
    (tmp_path / "image.sif").touch()
    for words in (
        ("exe",), ("--deb",), ("-v", "exec", "--writable-"), ("help", "insp"), ("sif", "he"), ("exec", "im"),
        ("exec", "-B", "im"), ("run", "-B", "/a", "im"), ("instance", "st"), ("instance", "start", "--pid-"),
        ("check", "-B", "/a", "im"), ("completion", "z"),
    ):  # fmt: skip
        offered = shell(written, "singularity", *words, directory=tmp_path)
        assert sorted(offered) == sorted(complete(written, "singularity", *words, directory=tmp_path)), words


@pytest.mark.parametrize("shell", SHELLS)
def test_the_completion_verb_prints_the_same_script(written: Path, shell: str) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-m", "singularity", "completion", shell], capture_output=True, check=True
    )
    assert done.stdout == (written / "completions" / shell).read_bytes()


def test_the_table_of_options_is_read_as_its_head_says() -> None:
    by_name = {entry.identifier: entry for entry in table()}
    bind = by_name["bind"]
    assert (bind.short, bind.names, bind.kind, bind.variables) == ("B", ("bind",), Kind.LIST_RAW, ("BIND", "BINDPATH"))
    assert bind.verbs == {"exec", "run", "shell", "test", "instance"}
    assert by_name["pid"].verbs == {"exec", "run", "shell", "test"}
    assert by_name["pid_file"].verbs == {"instance"}
    assert '"\\:" and "\\,"' in bind.help
    assert by_name["shell"].verbs == {"shell"}
    assert by_name["verbose"].verbs == {"global"}
    assert by_name["image"].names == ()
    assert len({entry.identifier for entry in table()}) == len(table())
    for verb in ("exec", "shell", "global"):
        spellings = [name for entry in entries(verb) for name in entry.spellings]
        assert len(spellings) == len(set(spellings))


@pytest.mark.parametrize(
    "text", ['OPTION(a, 0, "x", FLAG)', 'OPTION(a, 0, "x", SOMETHING, "", "", EXEC, files, "help")']
)
def test_an_entry_that_breaks_the_rules_is_an_error(text: str) -> None:
    with pytest.raises(SingularityError, match=r"options\.def"):
        list(parse(text))


@pytest.mark.parametrize(
    ("words", "not_needed"),
    [
        (
            "build --help",
            ("singularity.build.perform", "singularity.definition", "singularity.image", "logging.handlers"),
        ),
        ("sif list /dev/null", ("singularity.image.sif.edit", "hashlib", "ctypes")),
        ("check --help", ("elftools", "singularity.image", "singularity.registry", "singularity.process")),
        ("inspect /dev/null", ("singularity.build", "hashlib", "ctypes")),
    ],
)
def test_no_verb_imports_what_another_needs(words: str, not_needed: tuple[str, ...]) -> None:
    argv = [sys.executable, "-I", "-X", "importtime", "-m", "singularity", *words.split()]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "singularity.cli.main" in imported
    assert not [name for name in imported if any(name == each or name.startswith(f"{each}.") for each in not_needed)]


def test_the_guide_has_the_exit_statuses_of_the_manual(written: Path) -> None:
    rows = "".join(f"| {status} | {meaning} |\n" for status, meaning in EXIT_STATUSES)
    assert f"| exit status | when |\n|---|---|\n{rows}\n" in GUIDE.read_text()
    manual = (written / "pages/singularity.1").read_text()
    assert [line for line in manual.splitlines() if line.startswith("\\fB128 +")]


def test_the_page_on_compatibility_names_what_is_not_here() -> None:
    page = GUIDE.with_name("compatibility.md").read_text()
    rows = "".join(f"| `{verb}` | {instead} |\n" for verb, instead in NOT_HERE.items())
    assert f"| verb | in its place |\n|---|---|\n{rows}\n" in page
