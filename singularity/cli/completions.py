"""Completion of the command line for four shells, made from the pages that `help` shows.

Each script has the same three tables (which options a verb has, which of these take the next word, which verbs are
below it) and the same walk over the words that are there: past options and their values, down the verbs, to the word at
the cursor. `python -m singularity.cli.completions DIRECTORY` is what installing runs: one file a shell, named after it.
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from singularity.cli.options_table import entries
from singularity.cli.page import Option, Page
from singularity.cli.pages import pages

Table = dict[str, list[str]]

_PROGRAMS = ("singularity", "run-singularity")
_TAKES_THOSE_OF = {"check": "exec"}

_BASH = """\
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

complete -F _singularity @PROGRAMS@
"""

_ZSH = """\
#compdef @PROGRAMS@
# Completion of singularity for zsh, made from the tables of its verbs and options.
_singularity()
{
    local verb=global verbs
    local -i at=1
    local -A options=(
@OPTIONS@
    )
    local -A valued=(
@VALUED@
    )
    local -A below=(
@BELOW@
    )
    verbs=${below[global]}

    _singularity_skip_options
    while ((at < CURRENT)) && [[ -n $verbs ]]; do
        verb="$verb ${words[at]}"
        verb=${verb#global }
        verbs=${below[$verb]:-}
        _singularity_skip_options
    done

    if ((at > CURRENT)); then
        _files
    elif ((at == CURRENT)) && [[ ${words[CURRENT]} == -* ]]; then
        compadd -- ${=options[$verb]:-}
    elif [[ -n $verbs ]]; then
        compadd -- ${=verbs}
    elif ((at < CURRENT)) && [[ $verb == exec ]]; then
        shift $at words
        ((CURRENT -= at))
        _normal
    else
        _files
    fi
}

# Moves `at` on to the first word that is neither an option of `verb` nor the value of one.
_singularity_skip_options()
{
    while ((++at < CURRENT)) && [[ ${words[at]} == -* ]]; do
        [[ " ${valued[$verb]:-} " == *" ${words[at]} "* ]] && ((++at))
    done
}

if [[ ${funcstack[1]} == _singularity ]]; then
    _singularity "$@"
elif (($+functions[compdef])); then
    compdef _singularity @PROGRAMS@
fi
"""

_FISH = """\
# Completion of singularity for fish, made from the tables of its verbs and options.
function __singularity_options
    switch $argv
@OPTIONS@
    end
end

function __singularity_valued
    switch $argv
@VALUED@
    end
end

function __singularity_below
    switch $argv
@BELOW@
    end
end

# The verbs that are complete, and whether the next word is a value of an option, or behind the last verb.
function __singularity_walk
    set --local words (commandline --current-process --tokenize --cut-at-cursor)[2..]
    set --local verb global
    set --local value no
    set --local behind no
    for word in $words
        if test $value = yes
            set value no
        else if string match --quiet -- '-*' $word
            contains -- $word (__singularity_valued $verb); and set value yes
        else if test -n "$(__singularity_below $verb)"
            set verb (string replace --regex '^global ' '' -- "$verb $word")
        else
            set behind yes
            break
        end
    end
    echo $verb
    echo $value
    echo $behind
end

function __singularity_words
    set --local found (__singularity_walk)
    test $found[2] = yes; or test $found[3] = yes; and return
    if string match --quiet -- '-*' (commandline --current-token)
        __singularity_options $found[1]
    else
        __singularity_below $found[1]
    end
end

function __singularity_wants_file
    set --local found (__singularity_walk)
    test $found[2] = yes; or test $found[3] = yes; or test -z "$(__singularity_below $found[1])"
end

for program in @PROGRAMS@
    complete --command $program --erase
    complete --command $program --no-files --arguments '(__singularity_words)'
    complete --command $program --condition __singularity_wants_file --force-files
end
"""

_POWERSHELL = """\
# Completion of singularity for PowerShell, made from the tables of its verbs and options.
Register-ArgumentCompleter -Native -CommandName @PROGRAMS@ -ScriptBlock {
    param($word, $line, $cursor)
    $options = @{
@OPTIONS@
    }
    $valued = @{
@VALUED@
    }
    $below = @{
@BELOW@
    }
    $verb = 'global'
    $value = $false
    $behind = $false
    $there = @($line.CommandElements | Where-Object { $_.Extent.EndOffset -lt $cursor } | Select-Object -Skip 1)
    foreach ($each in $there) {
        $text = $each.ToString()
        if ($value) { $value = $false }
        elseif ($text.StartsWith('-')) { $value = @($valued[$verb]) -ccontains $text }
        elseif ($below.ContainsKey($verb)) { $verb = "$verb $text" -replace '^global ', '' }
        else { $behind = $true; break }
    }
    if ($value -or $behind) { return }
    $(if ($word.StartsWith('-')) { $options[$verb] } else { $below[$verb] }) |
        Where-Object { $_ -and $_.StartsWith($word) } |
        ForEach-Object { [System.Management.Automation.CompletionResult]::new($_, $_, 'ParameterValue', $_) }
}
"""


def _row_of_keys(verb: str, words: list[str]) -> str:
    return f'        ["{verb}"]="{" ".join(words)}"'


def _row_of_pairs(verb: str, words: list[str]) -> str:
    return f'        "{verb}" "{" ".join(words)}"'


def _row_of_cases(verb: str, words: list[str]) -> str:
    return f"        case '{verb}'\n            printf '%s\\n' {' '.join(words)}"


def _row_of_lists(verb: str, words: list[str]) -> str:
    return f"        '{verb}' = {', '.join(repr(word) for word in words)}"


_SHELLS: Mapping[str, tuple[str, Callable[[str, list[str]], str], str]] = {  # script, row of a table, between programs
    "bash": (_BASH, _row_of_keys, " "),
    "zsh": (_ZSH, _row_of_pairs, " "),
    "fish": (_FISH, _row_of_cases, " "),
    "powershell": (_POWERSHELL, _row_of_lists, ", "),
}
SHELLS = tuple(_SHELLS)


def completion(shell: str) -> str:
    """The script for one of SHELLS."""
    script, row, between = _SHELLS[shell]
    for mark, table in _tables().items():
        rows = (row(verb or "global", words) for verb, words in table.items() if words)
        script = script.replace(mark, "\n".join(rows))
    return script.replace("@PROGRAMS@", between.join(_PROGRAMS))


def _tables() -> Mapping[str, Table]:
    found = pages()
    below = {verb: [name for _, group in subject.verbs for name, _ in group] for verb, subject in found.items()}
    return {
        "@OPTIONS@": {
            verb: [name for each in (*subject.options, *_more(verb, found)) for name in each.names]
            for verb, subject in found.items()
        },
        "@VALUED@": {verb: _valued(verb, subject) for verb, subject in found.items()},
        "@BELOW@": below | {"help": below[""]},
    }


def _more(verb: str, found: Mapping[str, Page]) -> tuple[Option, ...]:
    """Options that a verb takes beside those of its own page."""
    return found[_TAKES_THOSE_OF[verb]].options if verb in _TAKES_THOSE_OF else ()


def _valued(verb: str, subject: Page) -> list[str]:
    """The options of a verb whose value is the next word, hidden ones of the table too."""
    shown = [each for each in subject.options if each.metavar and not each.metavar.startswith("[")]
    table = [entry for entry in entries(_TAKES_THOSE_OF.get(verb, verb) or "global") if entry.kind.takes_word]
    names = [*(name for each in shown for name in each.names), *(name for entry in table for name in entry.spellings)]
    return list(dict.fromkeys(names))


def write(directory: Path) -> None:
    """All of them."""
    directory.mkdir(parents=True, exist_ok=True)
    for shell in SHELLS:
        (directory / shell).write_text(completion(shell), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
