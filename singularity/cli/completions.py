"""Completion of the command line for four shells, made from the pages that `help` shows.

Each script has the same tables (which options a verb has, which of these take the next word, which verbs are below it,
what its argument is) and the same walk over the words that are there: past options and their values, down the verbs, to
the word at the cursor; bash and zsh as one text. Names that change are asked for (`completed`).
`python -m singularity.cli.completions DIRECTORY` is what installing runs: one file a shell, named after it.
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
_KINDS = {  # of arguments that are more than files: whether a file is one, too, and what is asked for
    **dict.fromkeys(("exec", "run", "shell", "test", "check"), "image launchable"),
    **dict.fromkeys(("instance start", "instance run", "pull", "cache seed"), "image uris"),
    **dict.fromkeys(("instance stop", "instance stats", "instance logs"), "names instances"),
    "uninstall": "names installed",
}

_WALK = """\
# Completion of singularity for @SHELL@, made from the tables of its verbs and options.
# `typed` are the words that are there, counted from 0, and `cursor` is which of them is being completed. Says `how`
# it is: offer what is `found`, files, or what a program at the word `at` would.
_singularity_complete()
{
    @MODE@
    local word=${typed[cursor]} verb=global
    local -A options=(
@OPTIONS@
    )
    local -A valued=(
@VALUED@
    )
    local -A below=(
@BELOW@
    )
    local -A kinds=(
@KINDS@
    )
    local verbs=${below[global]}

    _singularity_skip_options
    while ((at < cursor)) && [[ -n $verbs ]]; do
        verb="$verb ${typed[at]}"
        verb=${verb#global }
        verbs=${below[$verb]:-}
        _singularity_skip_options
    done

    local kind=${kinds[$verb]:-}
    if ((at > cursor)); then
        [[ ${typed[cursor - 1]} == --app ]] || return 0
        how=offer # of the image, which stands behind the cursor
        found=$(command singularity complete apps "${typed[@]:$((cursor + 1))}" 2>/dev/null)
    elif ((at == cursor)) && [[ $word == -* ]]; then
        how=offer
        found=${options[$verb]:-}
    elif [[ -n $verbs ]]; then
        how=offer
        found=$verbs
    elif ((at < cursor)) && [[ $verb == exec ]]; then
        how=program
    elif [[ $kind == names* ]] || { ((at == cursor)) && [[ -n $kind && $word == *://* ]]; }; then
        how=offer
        found=$(command singularity complete "${kind#* }" 2>/dev/null)
    fi
}

# Moves `at` on to the first word that is neither an option of `verb` nor the value of one.
_singularity_skip_options()
{
    while ((++at < cursor)) && [[ ${typed[at]} == -* ]]; do
        [[ " ${valued[$verb]:-} " == *" ${typed[at]} "* ]] && ((++at))
    done
}
"""

_MODES = {"bash": ": # indices begin at 0", "zsh": "emulate -L ksh # indices begin at 0"}

_BASH = """
_singularity()
{
    local -a typed=("${COMP_WORDS[@]}")
    local cursor=$COMP_CWORD at=0 how=files found=
    if declare -F _get_comp_words_by_ref >/dev/null; then # a colon separates no words of ours
        _get_comp_words_by_ref -n : -w typed -i cursor
    fi
    _singularity_complete
    local word=${typed[cursor]}
    if [[ $how == offer ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$found" -- "$word")
        if declare -F __ltrim_colon_completions >/dev/null; then
            __ltrim_colon_completions "$word"
        fi
    elif [[ $how == program ]] && declare -F _command_offset >/dev/null; then
        _command_offset "$((at + 1))"
    else
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
    fi
}

complete -F _singularity @PROGRAMS@
"""

_ZSH = """
_singularity()
{
    local -a typed
    typed=("${words[@]}")
    local cursor=$((CURRENT - 1)) at=0 how=files found=
    _singularity_complete
    if [[ $how == offer ]]; then
        compadd -- ${=found}
    elif [[ $how == program ]]; then
        shift $at words
        ((CURRENT -= at))
        _normal
    else
        _files
    fi
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

function __singularity_kind
    switch $argv
@KINDS@
    end
end

# The names that follow a verb, and the images that are no files.
function __singularity_names
    set --local found (__singularity_walk)
    set --local kind (__singularity_kind $found[1])
    if test $found[2] = yes
        set --local words (commandline --current-process --tokenize)
        set --local before (commandline --current-process --tokenize --cut-at-cursor)
        test "$before[-1]" = --app; and command singularity complete apps $words 2>/dev/null
    else if test "$kind[1]" = names
        command singularity complete $kind[2] 2>/dev/null
    else if test "$kind[1]" = image; and test $found[3] = no
        string match --quiet '*:*' -- (commandline --current-token)
        and command singularity complete $kind[2] 2>/dev/null
    end
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
    string match --quiet '*://*' -- (commandline --current-token); and return 1
    set --local found (__singularity_walk)
    test $found[2] = yes; or test $found[3] = yes; or test -z "$(__singularity_below $found[1])"
end

for program in @PROGRAMS@
    complete --command $program --erase
    complete --command $program --no-files --arguments '(__singularity_words)'
    complete --command $program --arguments '(__singularity_names)'
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


def _row_of_cases(verb: str, words: list[str]) -> str:
    return f"        case '{verb}'\n            printf '%s\\n' {' '.join(words)}"


def _row_of_lists(verb: str, words: list[str]) -> str:
    return f"        '{verb}' = {', '.join(repr(word) for word in words)}"


_SHELLS: Mapping[str, tuple[str, Callable[[str, list[str]], str], str]] = {  # script, row of a table, between programs
    "bash": (_WALK + _BASH, _row_of_keys, " "),
    "zsh": ("#compdef @PROGRAMS@\n" + _WALK + _ZSH, _row_of_keys, " "),
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
    return (
        script.replace("@PROGRAMS@", between.join(_PROGRAMS))
        .replace("@SHELL@", shell)
        .replace("@MODE@", _MODES.get(shell, ""))
    )


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
        "@KINDS@": {verb: kind.split() for verb, kind in _KINDS.items()},
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
