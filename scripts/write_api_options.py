"""Writes singularity/api/options.pyi: the options of the command line as keywords that type checkers know.

    write_api_options.py [--check]

From the two places where options are: launcher/options.def for launches, the modules in singularity/cli/ for the rest.
"""

import argparse
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from singularity.api.callee import OWN
from singularity.api.words import is_keyword, keyword
from singularity.api.worker import command_of, options_of
from singularity.cli.fetching import _KEYS as FETCHING
from singularity.cli.options_table import Kind, entries

TARGET = Path(__file__).resolve().parent.parent / "singularity" / "api" / "options.pyi"
HEAD = '''"""The options of commands as keywords, by their types.

Written by scripts/write_api_options.py, which reads the tables of options.
"""

import os
from collections.abc import Iterable, Mapping
from typing import TypeAlias, TypedDict

Text: TypeAlias = str | int | float | os.PathLike[str]
"""One value: as it would be typed; a path is just that path, whatever letters are in it."""
Texts: TypeAlias = Text | Iterable[Text]
"""One value or several."""
'''
TYPES = {
    Kind.FLAG: "bool",
    Kind.COUNT: "int",
    Kind.TEXT: "Text",
    Kind.LIST_CSV: "Texts",
    Kind.LIST_RAW: "Texts",
    Kind.OPTIONAL: "bool | str",
}
MAPPINGS = ("env", "build_arg", "annotation")
ASKING = ("docker_login", "passphrase")  # somebody, at a terminal


def launch(name: str, verb: str, about: str, only: tuple[str, ...] = ()) -> Iterator[str]:
    """The class of the options of a launch verb."""
    found = {keyword(each.names[0]): (each.kind, each.help) for each in entries(verb) if is_keyword(each)}
    left = {key: value for key, value in found.items() if key in only or (not only and key != "join")}
    hidden = {keyword(each.names[0]) for each in entries(verb) if each.names and each.hidden}
    yield from written(name, about, {key: value for key, value in left.items() if key not in hidden})


def command(
    name: str, verb: str, about: str, only: tuple[str, ...] = (), without: tuple[str, ...] = ()
) -> Iterator[str]:
    """The class of the options of a command."""
    made = command_of(verb)
    helps = {each: param.help or "" for param in made.params if isinstance(param, click.Option) for each in param.opts}
    found = {key: (each.kind, helps[f"--{each.name}"]) for key, each in options_of(made).items()}
    chosen = {key: value for key, value in found.items() if (not only or key in only) and key not in without}
    yield from written(name, about, chosen)


WRITTEN: dict[str, dict[str, tuple[Kind, str]]] = {}


def written(name: str, about: str, options: dict[str, tuple[Kind, str]]) -> Iterator[str]:
    """A class, sorted by keywords; what an earlier one has whole is that one's."""
    bases = [each for each, theirs in WRITTEN.items() if theirs.items() <= options.items()]
    base = max(bases, key=lambda each: len(WRITTEN[each]), default="TypedDict")
    WRITTEN[name] = options
    yield f'\n\nclass {name}({base}, total=False):\n    """{about}"""\n'
    for key, (kind, text) in sorted(options.items()):
        if key in ASKING or key in WRITTEN.get(base, ()):
            continue
        kinds = TYPES[kind] + (" | Mapping[str, Text]" if key in MAPPINGS else "")
        lines = textwrap.wrap(text.replace("\\", "\\\\").replace('"', "'"), 110)
        yield f"    {key}: {kinds}\n" + '    """' + "\n    ".join(lines) + '"""'


def text() -> str:
    """The whole module."""
    verify = (
        "key",
        "certificate",
        "certificate_intermediates",
        "certificate_roots",
        "ocsp_verify",
        "ssh",
        "url",
        "local",
    )
    parts = [
        *launch("CallOptions", "exec", "Those that each call in a container may have its own of.", OWN),
        *launch("ExecOptions", "exec", "Those of `singularity exec`."),
        *launch("RunOptions", "run", "Those of `singularity run`."),
        *launch("InstanceOptions", "instance start", "Those of `singularity instance start`."),
        *command("FetchOptions", "pull", "Those of fetching an image.", FETCHING),
        *command("PullOptions", "pull", "Those of `singularity pull`.", without=("name",)),
        *command("BuildOptions", "build", "Those of `singularity build`."),
        *command("PushOptions", "push", "Those of `singularity push`."),
        *command(
            "VerifyOptions",
            "verify",
            "Those of `singularity verify` that say whose signatures count.",
            (*verify, "keysdir"),
        ),
    ]
    made = HEAD + "\n".join(parts) + "\n"
    ruff = [Path(sys.executable).with_name("ruff"), "format", "--quiet", "--stdin-filename", TARGET, "-"]
    return subprocess.run(ruff, input=made, capture_output=True, text=True, check=True).stdout


def main() -> None:
    """Writes the module, or says whether it is as it would be written."""
    parser = argparse.ArgumentParser(description="The options of the command line as keywords.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when it is out of date")
    wanted = text()
    if not parser.parse_args().check:
        TARGET.write_text(wanted, encoding="utf-8")
    elif TARGET.read_text(encoding="utf-8") != wanted:
        sys.exit(f"{TARGET}: out of date: python scripts/write_api_options.py")


if __name__ == "__main__":
    main()
