"""Manual pages and completion: made from the same tables as help, and accepted by the programs that read them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import machine
import pytest

from singularity.cli.options_table import Kind, entries, parse, table
from singularity.cli.pages import EXIT_STATUSES
from singularity.cli.verbs import VERBS
from singularity.errors import SingularityError

GUIDE = Path(__file__).resolve().parents[2] / "docs/running.md"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pages")
    words = [
        "-m",
        "singularity.cli.pages",
        "--man",
        str(directory / "man"),
        "--completion",
        str(directory / "completion"),
    ]
    subprocess.run([sys.executable, "-I", *words], check=True)
    return directory


def test_every_verb_has_a_manual_page_without_warnings(written: Path) -> None:
    names = {path.name for path in (written / "man").iterdir()}
    assert {"singularity.1", "singularity-exec.1", "singularity-build.1", "singularity-sif-list.1"} <= names
    assert {f"singularity-{verb.name}.1" for verb in VERBS.values() if not verb.hidden} <= names
    machine.require("groff")
    for path in sorted((written / "man").iterdir()):
        done = subprocess.run(["groff", "-man", "-Tutf8", "-ww", path], capture_output=True, text=True, check=True)
        assert done.stderr == "", path.name
        assert "SYNOPSIS" in done.stdout.replace("\x08", "").replace("SSYYNNOOPPSSIISS", "SYNOPSIS")


def complete(written: Path, *words: str, directory: Path | None = None) -> list[str]:
    """What bash offers for the last of `words`."""
    script = (
        'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); compopt() { :; };'
        'complete() { :; }; _singularity; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    argv = ["/bin/bash", "-c", script, "bash", str(written / "completion"), *words]
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


def test_the_completion_verb_prints_the_same_script(written: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-m", "singularity", "completion", "bash"], capture_output=True, check=True
    )
    assert done.stdout == (written / "completion").read_bytes()


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
    manual = (written / "man/singularity.1").read_text()
    assert [line for line in manual.splitlines() if line.startswith("\\fB128 +")]
