"""Manual pages and the bash completion, made from the pages that `help` shows.

`python -m singularity.cli.pages --man DIRECTORY --completion FILE` is what installing runs.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import click

from singularity import __version__
from singularity.cli.help import page, program_page
from singularity.cli.options_table import entries
from singularity.cli.page import Option, Page, spelling
from singularity.cli.verbs import VERBS

EXIT_STATUSES = (
    ("0", "done; of check: nothing would fail"),
    ("the program's own", "exec, run, shell and test end as the program in the container does, by its signal too"),
    ("the command's own", "copy ends as cp does, mount as the shell that it starts, export --command as COMMAND"),
    ("1", "wrong usage: of a command, an option, or the variable in its place; of check: something would fail"),
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


_COMPLETION = """\
# Completion of singularity for bash, made from the tables of its verbs and options.
_singularity()
{
    local word=${COMP_WORDS[COMP_CWORD]} verb=global at=0
    local -A options=(
@OPTIONS@
    )
    local -A valued=(
@VALUED@
    )
    local -A below=(
@BELOW@
    )
    local verbs=${below[global]}

    _singularity_skip_options
    while ((at < COMP_CWORD)) && [[ -n $verbs ]]; do
        verb="$verb ${COMP_WORDS[at]}"
        verb=${verb#global }
        verbs=${below[$verb]:-}
        _singularity_skip_options
    done

    if ((at > COMP_CWORD)); then
        _singularity_files
    elif ((at == COMP_CWORD)) && [[ $word == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "${options[$verb]:-}" -- "$word")
    elif [[ -n $verbs ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$verbs" -- "$word")
    elif ((at < COMP_CWORD)) && [[ $verb == exec ]] && declare -F _command_offset >/dev/null; then
        _command_offset "$((at + 1))"
    else
        _singularity_files
    fi
}

# Moves `at` on to the first word that is neither an option of `verb` nor the value of one.
_singularity_skip_options()
{
    while ((++at < COMP_CWORD)) && [[ ${COMP_WORDS[at]} == -* ]]; do
        [[ " ${valued[$verb]:-} " == *" ${COMP_WORDS[at]} "* ]] && ((++at))
    done
}

_singularity_files()
{
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen -f -- "$word")
}

complete -F _singularity singularity run-singularity
"""


_TAKES_THOSE_OF = {"check": "exec"}


def completion() -> str:
    """The completion script for bash."""
    found = pages()
    below = {verb: [name for _, group in subject.verbs for name, _ in group] for verb, subject in found.items()}
    tables = {
        "@OPTIONS@": {
            verb: [name for each in (*subject.options, *_more(verb, found)) for name in each.names]
            for verb, subject in found.items()
        },
        "@VALUED@": {verb: _valued(verb, subject) for verb, subject in found.items()},
        "@BELOW@": below | {"help": below[""]},
    }
    script = _COMPLETION
    for mark, words in tables.items():
        rows = (f'        ["{verb or "global"}"]="{" ".join(each)}"' for verb, each in words.items() if each)
        script = script.replace(mark, "\n".join(rows))
    return script


def _more(verb: str, found: Mapping[str, Page]) -> tuple[Option, ...]:
    """Options that a verb takes beside those of its own page."""
    return found[_TAKES_THOSE_OF[verb]].options if verb in _TAKES_THOSE_OF else ()


def _valued(verb: str, subject: Page) -> list[str]:
    """The options of a verb whose value is the next word, hidden ones of the table too."""
    shown = [each for each in subject.options if each.metavar and not each.metavar.startswith("[")]
    table = [entry for entry in entries(_TAKES_THOSE_OF.get(verb, verb) or "global") if entry.kind.takes_word]
    names = [*(name for each in shown for name in each.names), *(name for entry in table for name in entry.spellings)]
    return list(dict.fromkeys(names))


@click.command()
@click.option("--man", type=click.Path(path_type=Path), help="Directory for the manual pages.")
@click.option("--completion", "script", type=click.Path(path_type=Path), help="File for the bash completion.")
def write(man: Path | None, script: Path | None) -> None:
    """Writes the manual pages and the completion script."""
    found = pages()
    names = [manual_name(subject) for subject in found.values()]
    if man:
        man.mkdir(parents=True, exist_ok=True)
        for subject in found.values():
            (man / f"{manual_name(subject)}.1").write_text(manual(subject, names), encoding="utf-8")
    if script:
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_text(completion(), encoding="utf-8")


if __name__ == "__main__":
    write()
