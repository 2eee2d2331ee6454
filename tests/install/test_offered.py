"""Entries of %wrappers: what they say, that they are written as they are read, and what is wrong with others."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from singularity.definition.parse import parse as parse_definition
from singularity.errors import DefinitionError
from singularity.image.offered import Command, added, parse, text

WORDS = st.text(st.characters(min_codepoint=32, exclude_characters="\x7f", exclude_categories=("Cs",)), max_size=12)


def test_entries_are_programs_or_scripts() -> None:
    found = parse(
        "samtools, view=samtools view,\nx='a,b' \"c, d\" e\\,f\n\nrun=%runscript -x, n=%apprun count 'it'\"'\"'s'"
    )
    assert [each.words for each in found.values()] == [
        ("samtools",), ("samtools", "view"), ("a,b", "c, d", "e,f"), ("%runscript", "-x"), ("%apprun", "count", "it's"),
    ]  # fmt: skip
    assert found["view"].launch == (("exec",), ("samtools", "view"))
    assert found["run"].launch == (("run",), ("-x",))
    assert found["n"].launch == (("run", "--app", "count"), ("it's",))
    assert [each.program for each in found.values()] == ["samtools", "samtools", "a,b", "", ""]


@given(st.lists(WORDS, min_size=1, max_size=4))
def test_what_is_written_is_read(words: list[str]) -> None:
    command = Command("x", ("cat", *words))
    assert parse(text([command, Command("y", ("y",))])) == {"x": command, "y": Command("y", ("y",))}


@given(st.text(max_size=40))
def test_nothing_else_leaves_the_parser(written: str) -> None:
    try:
        found = parse(written)
    except ValueError:
        return
    assert parse(text(found.values())) == found
    assert all("/" not in name and name and name != ".." and not name.startswith("-") for name in found)


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        ("a b", "no name"), ("-x", "no name"), ("a/b", "no name"), ("..", "no name"), ("a=", "program is missing"),
        ("a='x", "quotation"), ("a,a", "named twice"), ("a=%post", "neither"), ("a=%apprun", "name of an application"),
        ("a=%apprun ../x", "name of an application"), ("a=b\tc", "control character"), ("a=''", "program is missing"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(entry: str, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        parse(entry)


def test_more_are_added_and_new_ones_count() -> None:
    more = parse("b=y, c").values()
    assert added("a, b=x", more) == "a, b=y, c"
    assert added("is no list of ours", more) == "b=y, c"


def section(body: str) -> tuple[Command, ...]:
    return parse_definition(f"Bootstrap: scratch\n{body}", "x.def").stages[0].wrappers


def test_a_section_has_comments_and_may_stand_twice() -> None:
    found = section("%wrappers\n  # these\n  a, b=cat '# x' # cat\n%WRAPPERS\n  c\n%post\n  true\n")
    assert [str(each) for each in found] == ["a", "b=cat '# x'", "c"]


def test_a_section_that_is_wrong_is_an_error_with_its_line() -> None:
    for body in ("%wrappers\n\n  a/b\n", "%wrappers\n  a\n  b,a\n"):
        with pytest.raises(DefinitionError, match=r"x\.def:[34]: %wrappers: "):
            section(body)
    with pytest.raises(DefinitionError, match='did you mean "%wrappers"'):
        section("%wrapers\n  a\n")


def test_no_quoting_lets_a_word_out() -> None:
    command = parse("x=echo '$(id)' '`id`' ';id'")["x"]
    assert shlex.split(shlex.join(command.words)) == ["echo", "$(id)", "`id`", ";id"]
