"""Templates: values from the command line, else from %arguments; every one filled in, none left over."""

from __future__ import annotations

import pytest

from singularity.definition.template import expand, parse_arguments
from singularity.errors import DefinitionError

TEXT = """\
Bootstrap: {{ AGENT }}
%arguments
    AGENT=scratch
    VERSION = 1.0
    FULL=tool-{{ VERSION }}
%post
    # {{ NOTHING }} stays in a comment
    echo {{VERSION}} {{ FULL }} '{{ .Go }}' {{ two words }}
"""


def test_defaults_fill_in_and_may_name_each_other() -> None:
    lines = expand(TEXT, "x.def", {}).text.split("\n")
    assert lines[0] == "Bootstrap: scratch"
    assert lines[6] == "    # {{ NOTHING }} stays in a comment"
    assert lines[7] == "    echo 1.0 tool-1.0 '{{ .Go }}' {{ two words }}"


def test_given_values_go_before_defaults_also_within_them() -> None:
    expanded = expand(TEXT, "x.def", {"VERSION": "2.0"})
    assert "echo 2.0 tool-2.0" in expanded.text
    assert expanded.unused == ()


def test_values_that_nothing_asks_for_are_named() -> None:
    assert expand(TEXT, "x.def", {"VERSION": "2", "OTHER": "x"}).unused == ("OTHER",)


def test_each_stage_has_defaults_of_its_own() -> None:
    text = "Bootstrap: a\n%arguments\n X=1\n%post\n {{X}}\nBootstrap: b\n%arguments\n X=2\n%post\n {{X}}\n"
    lines = expand(text, "x.def", {}).text.split("\n")
    assert (lines[4], lines[9]) == (" 1", " 2")


def test_a_missing_value_names_the_line_and_the_way_out() -> None:
    with pytest.raises(DefinitionError) as caught:
        expand("Bootstrap: scratch\n%post\n  {{ X }}\n", "x.def", {})
    hint = "give it with --build-arg X=VALUE, or in an %arguments section"
    assert str(caught.value) == f"x.def:3: {{{{ X }}}} has no value ({hint})"


def test_a_file_of_values_has_comments_and_names_its_bad_lines() -> None:
    assert parse_arguments("# values\nA=1\n\n B = two words \n", "values") == {"A": "1", "B": "two words"}
    with pytest.raises(DefinitionError, match=r'^values:2: "no value" is no KEY=VALUE$'):
        parse_arguments("A=1\nno value\n", "values")
