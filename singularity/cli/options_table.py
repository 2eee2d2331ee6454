"""The launch options as Python sees them: `launcher/options.def`, the one table that the C parser is made from too."""

import re
from collections.abc import Iterator, Mapping
from enum import Enum
from functools import cache
from pathlib import Path
from typing import NamedTuple

from singularity.cli.page import Option, Page
from singularity.cli.verbs import VERBS
from singularity.errors import FileError, SingularityError

_PACKAGE = Path(__file__).parent.parent
PLACES = (_PACKAGE / "data" / "options.def", _PACKAGE.parent / "launcher" / "options.def")  # installed; source tree


class Kind(Enum):
    """How an option takes its value; explained in the head of the table."""

    FLAG = "FLAG"
    COUNT = "COUNT"
    TEXT = "TEXT"
    LIST_CSV = "LIST_CSV"
    LIST_RAW = "LIST_RAW"
    OPTIONAL = "OPTIONAL"
    NONE_HERE = "NONE_HERE"

    @property
    def takes_word(self) -> bool:
        """Whether the value may be the next word of the command line."""
        return self in (Kind.TEXT, Kind.LIST_CSV, Kind.LIST_RAW)


class Entry(NamedTuple):
    """One entry of the table; without names it is a variable that has no option."""

    identifier: str
    short: str  # one character, or empty
    names: tuple[str, ...]  # long names without dashes, today's first
    kind: Kind
    metavar: str
    variables: tuple[str, ...]  # without prefix
    verbs: frozenset[str]  # "global", "exec", "run", "shell", "test", "instance"
    group: str
    help: str

    @property
    def hidden(self) -> bool:
        """Accepted, and left out of help."""
        return self.group == "hidden"

    @property
    def spellings(self) -> tuple[str, ...]:
        """The option as typed: `-B`, `--bind`, synonyms."""
        return (*([f"-{self.short}"] if self.short else []), *(f"--{name}" for name in self.names))


@cache
def table() -> tuple[Entry, ...]:
    """Every entry, in the order of the table. Raises SingularityError when the installation lacks the table."""
    for place in PLACES:
        try:
            return tuple(parse(place.read_text(encoding="utf-8")))
        except FileNotFoundError:
            continue
        except OSError as error:
            raise FileError.because(place, error) from error
    raise SingularityError(f"{PLACES[0]} is missing", hint="the installation is incomplete: install again")


def entries(verb: str) -> tuple[Entry, ...]:
    """The entries of a launch verb (`exec`, `instance start`), or of "global"."""
    word = "instance" if verb in LAUNCHES_OF_INSTANCES else verb
    return tuple(entry for entry in table() if word in entry.verbs)


def takes_next(word: str, by_name: Mapping[str, Entry]) -> bool:
    """Whether the word after an option word is its value: `--bind`, `-B`, `-ceB`; not `--bind=x`, `-Bx`."""
    if word.startswith("--"):
        return word in by_name and by_name[word].kind.takes_word
    for number, letter in enumerate(word[1:], 2):
        entry = by_name.get(f"-{letter}")
        if entry is not None and entry.kind.takes_word:
            return number == len(word)
    return False


LAUNCHES_OF_INSTANCES = ("instance start", "instance run")
_FOREGROUND = ("exec", "run", "shell", "test")
_TOGETHER = {"FOREGROUND": _FOREGROUND, "ACTIONS": (*_FOREGROUND, "instance")}
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_ENTRY = re.compile(r'^(OPTION|VARIABLE)\(((?:"(?:\\.|[^"\\])*"|[^")])*)\)', re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r'(?:"(?:\\.|[^"\\])*"|[^,"])+', re.DOTALL)
_STRING = re.compile(r'"((?:\\.|[^"\\])*)"', re.DOTALL)


def parse(text: str) -> Iterator[Entry]:
    """The entries of a table's text. Raises SingularityError for an entry that breaks the rules in its head."""
    for match in _ENTRY.finditer(_COMMENT.sub("", text)):
        fields = [_value(field) for field in _FIELD.findall(match[2])]
        if match[1] == "VARIABLE":
            fields[1:1] = ["0", ""]
        if len(fields) != 9 or fields[3] not in Kind.__members__:
            raise SingularityError(f"options.def: {match[1]}({fields[0]}, ...) cannot be understood")
        identifier, short, names, kind, metavar, variables, verbs, group, explanation = fields
        yield Entry(
            identifier=identifier,
            short="" if short == "0" else short.strip("'"),
            names=tuple(filter(None, names.split(","))),
            kind=Kind[kind],
            metavar=metavar,
            variables=tuple(filter(None, variables.split(","))),
            verbs=frozenset(_verbs(verbs)),
            group=group,
            help=explanation,
        )


def _value(field: str) -> str:
    """A field's text: adjacent strings joined and unescaped, or the bare word."""
    strings = _STRING.findall(field)
    return re.sub(r"\\(.)", r"\1", "".join(strings)) if strings else field.strip()


def _verbs(field: str) -> Iterator[str]:
    for word in field.split("|"):
        yield from _TOGETHER.get(word.strip(), (word.strip().lower(),))


_USAGE = {
    "exec": "singularity exec [options] IMAGE PROGRAM [ARGUMENT...]",
    "run": "singularity run [options] IMAGE [ARGUMENT...]",
    "shell": "singularity shell [options] IMAGE",
    "test": "singularity test [options] IMAGE [ARGUMENT...]",
    "instance start": "singularity instance start [options] IMAGE NAME [ARGUMENT...]",
    "instance run": "singularity instance run [options] IMAGE NAME [ARGUMENT...]",
}
_SUMMARIES = {
    "instance start": "Start a container that stays under a name, with its startscript",
    "instance run": "Start a container that stays under a name, with its runscript",
}
_INSTANCE = (
    'The container runs in the background under NAME (letters, digits, ".", "_", "-") until it is stopped, also when '
    "the script has ended or the image has none. What it writes is appended to logs: singularity instance logs NAME."
)
_IMAGE = (
    "IMAGE is a SIF or squashfs file, an image of version 2, an ext3 file or a directory; or a URI, such as "
    "docker://debian:stable, whose image is fetched once into the cache. Options end at IMAGE: "
    "what follows belongs to the program. The program runs as you, in your current directory, with your home "
    "directory, /tmp and devices."
)
_EXAMPLES = {
    "exec": (
        "singularity exec debian.sif cat /etc/os-release",
        "singularity exec --bind /data:/mnt:ro debian.sif perl analyse.pl /mnt/run1",
        "singularity exec --dry-run debian.sif true",
    ),
    "run": ("singularity run debian.sif --help", "./debian.sif --help"),
    "shell": ("singularity shell --contain debian.sif", "echo 'id -un' | singularity shell debian.sif"),
    "test": ("singularity test debian.sif",),
    "instance start": ("singularity instance start postgres.sif db", "singularity exec instance://db psql -l"),
    "instance run": ("singularity instance run notebook.sif nb --port 8888", "singularity instance stop nb"),
}
_HEADINGS = {
    "files": "Files and mounts",
    "isolation": "Isolation",
    "restrictions": "Restrictions",
    "environment": "Environment",
    "program": "Program",
    "identity": "Identity and privileges",
    "limits": "Limits, in a control group of version 2",
    "devices": "Devices",
    "fetching": "Images that are fetched",
    "output": "Output",
    "global": "Global options, before the verb",
}


def launch_page(verb: str) -> Page:
    """The help page of `exec`, `run`, `shell`, `test`, `instance start` or `instance run`."""
    order = list(_HEADINGS)
    shown = [entry for entry in entries(verb) if not entry.hidden and entry.names and entry.identifier != "help"]
    shown.sort(key=lambda entry: order.index(entry.group) if entry.group in order else len(order))
    options = [described(entry) for entry in shown]
    options.append(Option(names=("-h", "--help"), help="Show this page", group=_HEADINGS["output"]))
    return Page(
        verb=verb,
        summary=_SUMMARIES.get(verb) or VERBS[verb].summary,
        usage=(_USAGE[verb],),
        description=(_IMAGE, _INSTANCE) if verb in LAUNCHES_OF_INSTANCES else (_IMAGE,),
        options=tuple(options),
        examples=_EXAMPLES[verb],
    )


def described(entry: Entry) -> Option:
    """An entry as help pages show it."""
    metavar = f"[={entry.metavar}]" if entry.kind is Kind.OPTIONAL else entry.metavar
    return Option(
        names=entry.spellings,
        metavar=metavar,
        help=entry.help,
        variables=tuple(f"SINGULARITY_{name}" for name in entry.variables),
        group=_HEADINGS.get(entry.group, entry.group),
    )
