"""Manual pages, made from the pages that `help` shows.

`python -m singularity.cli.pages DIRECTORY` is what installing runs.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from singularity import __version__
from singularity.cli.help import page, program_page
from singularity.cli.page import Option, Page, spelling
from singularity.cli.verbs import VERBS

EXIT_STATUSES = (
    ("0", "done; of check: nothing would fail; of diff and rerun --check: all is the same"),
    ("the program's own", "exec, run, shell and test end as the program in the container does, by its signal too"),
    ("the command's own", "copy ends as cp does, mount as the shell that it starts, export --command as COMMAND"),
    ("1", "wrong usage: of a command, an option, or its variable; of check, diff and rerun: as their pages say"),
    ("126", "the program in the image cannot be executed"),
    ("127", "the program is not in the image"),
    ("128 + the number of a signal", "stopped by INT, TERM or HUP, or by PIPE where nobody reads what is printed"),
    ("255", "everything else, with one line that says what, where and what to do"),
)


def pages() -> dict[str, Page]:
    """Every page by the words that it is about: "" for the program, "exec", "sif list"."""
    found = {"": program_page()}
    for verb in VERBS.values():
        if verb.hidden:
            continue
        found[verb.name] = page(verb.name)
        for below, _ in (entry for _, group in found[verb.name].verbs for entry in group):
            found[f"{verb.name} {below}"] = page(verb.name, below)
    return found


def manual(subject: Page, others: Sequence[str]) -> str:
    """The page in roff, with the `man` macros; `others` are the manual pages it names at its end."""
    return "\n".join(_manual_lines(subject, others)) + "\n"


def manual_name(subject: Page) -> str:
    """The name of its manual page: `singularity-sif-list`."""
    return "-".join(["singularity", *subject.verb.split()])


def _manual_lines(subject: Page, others: Sequence[str]) -> Iterator[str]:
    name = manual_name(subject)
    yield f'.TH "{name.upper()}" 1 "" "singularity {__version__}" "Containers for science"'
    yield ".SH NAME"
    yield f"{_roff(name)} \\- {_roff(subject.summary[0].lower() + subject.summary[1:].rstrip('.'))}"
    yield ".SH SYNOPSIS"
    for usage in subject.usage:
        yield ".nf"
        yield _roff(usage)
        yield ".fi"
    if subject.description:
        yield ".SH DESCRIPTION"
    for paragraph in subject.description:
        yield ".PP"
        yield _roff(paragraph)
    for group, verbs in subject.verbs:
        yield f".SH {group.upper()}"
        for verb, summary in verbs:
            yield from (".TP", f"\\fB{_roff(verb)}\\fR", _roff(summary))
    for group, options in subject.groups().items():
        yield f".SH {group.upper()}"
        for option in options:
            yield from _manual_option(option)
    if not subject.verb:
        yield from _manual_statuses()
    if subject.examples:
        yield ".SH EXAMPLES"
        yield ".nf"
        yield from map(_roff, subject.examples)
        yield ".fi"
    yield ".SH SEE ALSO"
    yield ", ".join(f"\\fB{_roff(other)}\\fR(1)" for other in others if other != name)


def _manual_option(option: Option) -> Iterator[str]:
    yield ".TP"
    yield f"\\fB{_roff(spelling(option))}\\fR"
    yield _roff(option.help.rstrip(".")) + "."
    if option.variables:
        yield f"Variables: {_roff(', '.join(option.variables))}."


def _manual_statuses() -> Iterator[str]:
    yield ".SH EXIT STATUS"
    for status, meaning in EXIT_STATUSES:
        yield from (".TP", f"\\fB{_roff(status)}\\fR", _roff(meaning[0].upper() + meaning[1:]) + ".")


def _roff(text: str) -> str:
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped[:1] in (".", "'") else escaped


def write(directory: Path) -> None:
    """All of them, as `singularity-exec.1` and so on."""
    found = pages()
    names = [manual_name(subject) for subject in found.values()]
    directory.mkdir(parents=True, exist_ok=True)
    for subject in found.values():
        (directory / f"{manual_name(subject)}.1").write_text(manual(subject, names), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
