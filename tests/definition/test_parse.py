"""The parser of definition files: text in, a Definition or one line with file and line number out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from singularity.build.scripts import executable
from singularity.definition.parse import APP_SECTIONS, KEYWORDS, SECTIONS, SIZE_LIMIT, parse, parse_label
from singularity.definition.sections import normal
from singularity.errors import DefinitionError

if TYPE_CHECKING:
    from singularity.definition.model import Stage

WHOLE = """\
# A comment before anything
BootStrap: debootstrap   # the agent
OSVersion: stable
MIRRORURL: http://mirror.example/debian#fragment
include: perl \\
    python3
Include: gawk

%setup -u
    echo on the host

%files
    # what, and where to
    /etc/hosts /opt/hosts
    "name with blanks" 'another name'
    data/*.txt

%environment
    export GREETING="hello"   # comments of sections are their own

%post -c /bin/bash
    echo 100%
    printf '
  %s lines
  %d numbers
' a 1
    cat <<END
Key: value
END

%Post
    echo a second part

%runscript

#!/usr/bin/python3
print("hello")

%labels
    Maintainer  Somebody Else
    # none
    Empty

%help
    Read this.

%apprun hello
    echo hello
%appenv other
    export A=1
%applabels hello
    Kind example
"""


def only(text: str) -> Stage:
    (stage,) = parse(text, "x.def").stages
    return stage


def test_header_keywords_are_of_any_case_with_comments_and_continuation_lines() -> None:
    stage = only(WHOLE)
    assert stage.agent == "debootstrap"
    assert stage.value("osversion") == "stable"
    assert stage.value("mirrorurl") == "http://mirror.example/debian#fragment"
    assert stage.value("include").split() == ["perl", "python3", "gawk"]
    assert stage.header["osversion"].line == 3


def test_scripts_keep_their_text_and_their_arguments() -> None:
    stage = only(WHOLE)
    assert stage.setup is not None
    assert stage.setup.body == "    echo on the host\n"
    assert stage.setup.arguments == ("-u",)
    assert stage.post is not None
    assert stage.post.arguments == ("-c", "/bin/bash")
    assert stage.post.body.startswith("    echo 100%\n    printf '\n  %s lines\n  %d numbers\n' a 1\n")
    assert stage.post.body.endswith("Key: value\nEND\n    echo a second part\n")
    assert stage.runscript is not None
    assert stage.runscript.interpreter_line == "#!/usr/bin/python3"
    assert stage.test is None


def test_an_interpreter_line_may_be_indented_as_its_section_is() -> None:
    script = only("Bootstrap: scratch\n%runscript -u\n    #!/usr/bin/python3\n    print(1)\n").runscript
    assert script is not None
    assert script.interpreter_line == "#!/usr/bin/python3"
    assert executable(script) == "#!/usr/bin/python3 -u\n    print(1)\n"


def test_every_line_of_a_script_knows_its_place_in_the_file() -> None:
    text = WHOLE.split("\n")
    stage = only(WHOLE)
    for script in (stage.setup, stage.post, stage.runscript, *(app.run for app in stage.apps)):
        if script is not None:
            lines = script.body.removesuffix("\n").split("\n")
            assert [text[number - 1] for number in script.lines] == lines
            assert [(text[number - 1] + "\n", number) for number in script.lines] == list(script.numbered)
    assert stage.post is not None
    assert stage.post.lines[0] == 22
    assert stage.post.lines[-1] == text.index("    echo a second part") + 1


def test_only_line_feeds_end_the_lines_of_a_script() -> None:
    script = only("Bootstrap: scratch\n%post\n a\x0c\x0b b\u2028c\x85\r d\n e\n").post
    assert script is not None
    assert script.numbered == ((" a\x0c\x0b b\u2028c\x85\r d\n", 3), (" e\n", 4))


def test_files_labels_help_and_environment() -> None:
    stage = only(WHOLE)
    assert [(copy.source, copy.target, copy.stage) for copy in stage.files] == [
        ("/etc/hosts", "/opt/hosts", ""),
        ("name with blanks", "another name", ""),
        ("data/*.txt", "", ""),
    ]
    assert stage.files[0].line == 14
    assert stage.labels == {"Maintainer": "Somebody Else", "Empty": ""}
    assert stage.help == "    Read this.\n"
    assert stage.environment == '    export GREETING="hello"   # comments of sections are their own\n'


def test_applications_come_in_the_order_of_their_first_mention() -> None:
    hello, other = only(WHOLE).apps
    assert (hello.name, other.name) == ("hello", "other")
    assert hello.run is not None
    assert hello.run.body == "    echo hello\n"
    assert hello.labels == {"Kind": "example"}
    assert other.environment == "    export A=1\n"


def test_a_further_bootstrap_line_begins_a_further_stage() -> None:
    build = "OSVersion: stable\nBootstrap: debootstrap\nStage: build\n%post\n  make\n"
    first, second = parse(build + "Bootstrap: scratch\n%files from build\n /x\n", "x.def").stages
    assert (first.agent, first.name, second.agent, second.name) == ("debootstrap", "build", "scratch", "")
    assert second.files[0].stage == "build"
    assert second.line == 6


def test_line_ends_of_other_systems_do_not_matter() -> None:
    assert only("Bootstrap: scratch\r\n%post\r\n  true\r\n").post == only("Bootstrap: scratch\n%post\n  true\n").post


@pytest.mark.parametrize("word", ["OSBuild", "osType"])
def test_the_old_name_of_bootstrap_is_accepted_with_a_warning(word: str) -> None:
    definition = parse(f"{word}: debootstrap\n", "x.def")
    assert definition.stages[0].agent == "debootstrap"
    assert definition.warnings == (f"x.def:1: {word} is the old name of Bootstrap",)


def test_a_keyword_given_twice_warns_and_the_last_counts() -> None:
    definition = parse("Bootstrap: localimage\nFrom: a\nFrom: b\n", "x.def")
    assert definition.stages[0].value("from") == "b"
    assert definition.warnings == ("x.def:3: From is given twice: the last one counts",)


BAD = {
    "": "x.def: empty (a definition file begins with a line Bootstrap: AGENT)",
    "# only\n\n# comments": "x.def: empty (a definition file begins with a line Bootstrap: AGENT)",
    "%post\n  true\n": "x.def:1: a section before any header (begin with a line Bootstrap: AGENT)",
    "Bootstrap: x\n%pots\n": 'x.def:2: unknown section "%pots" (did you mean "%post"?)',
    "Bootstrap: x\n%post\n  true\n  %tset\n": 'x.def:4: unknown section "%tset" (did you mean "%test"?)',
    "Bootstrap: x\n%post\n%inside\n": 'x.def:3: unknown section "%inside" (did you mean "%post"?)',
    "Bootstrap: x\n%environments\n": 'x.def:2: unknown section "%environments" (did you mean "%environment"?)',
    "Bootstrap: x\n%appinstal a\n": 'x.def:2: unknown section "%appinstal" (did you mean "%appinstall"?)',
    "Bootstrap: x\n%xyzzy\n": 'x.def:2: unknown section "%xyzzy"',
    "Bootstrap: x\n%post\n%xyzzy\n": 'x.def:3: unknown section "%xyzzy" (indent a line of text that begins with %)',
    "Bootstrap: x\n% post\n": 'x.def:2: "% post" is no section (write "%post", or indent the line)',
    "Bootstrap: yum\nMirrorURL: http://x/%{OSVERSION}\n": (
        "x.def:2: MirrorURL names %{OSVERSION}, but OSVersion is not given (add a line OSVersion: VERSION)"
    ),
    "Bootstrp: x\n": 'x.def:1: unknown header keyword "Bootstrp" (did you mean "Bootstrap"?)',
    "Bootstrap: x\nno header\n": 'x.def:2: "no header" is no header line (expected Keyword: value, or %section)',
    "From: x\n%post\n": "x.def:1: no bootstrap agent (a definition file begins with a line Bootstrap: AGENT)",
    "Bootstrap:\n": "x.def:1: no bootstrap agent (a definition file begins with a line Bootstrap: AGENT)",
    "Bootstrap: x\n%files\n  a b c\n": "x.def:3: %files: 3 words (SOURCE [TARGET]; quote names with blanks)",
    "Bootstrap: x\n%files\n  'a\n": "x.def:3: no closing quotation",
    "Bootstrap: x\n%files of y\n  a\n": "x.def:2: %files of y: not understood (%files, or %files from STAGE)",
    "Bootstrap: x\n%runscript exec a\n": (
        'x.def:2: %runscript is followed by options of its shell, not by "exec" (its script begins in the next line)'
    ),
    "ARG X=1\nFROM debian\n": (
        'x.def:1: "ARG X=1" is no header line'
        " (a Dockerfile? SOURCE may be one, with a name like Dockerfile, or after --file)"
    ),
    "<!DOCTYPE html>\n<html>": ('x.def:1: "<!DOCTYPE html>" is no header line (a web page? download the file itself)'),
    "Bootstrap: x\n%apprun\n  a\n": 'x.def:2: %apprun needs the name of an application, not ""',
    "Bootstrap: x\n%apprun a/b\n  a\n": 'x.def:2: %apprun needs the name of an application, not "a/b"',
    "Bootstrap: x\n\0": "x.def:2: a NUL byte: no definition file",
    "B" * (SIZE_LIMIT + 1): "x.def: more than 4 MiB: no definition file",
}


@pytest.mark.parametrize("text", BAD, ids=[message[:60] for message in BAD.values()])
def test_what_is_wrong_is_one_line_with_file_and_line_number(text: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        parse(text, "x.def")
    assert str(caught.value) == BAD[text]


def test_a_container_that_is_there_needs_no_header() -> None:
    stage = parse("%post\n  true\n", "x.def", header_optional=True).stages[0]
    assert (stage.agent, stage.header) == ("", {})
    assert stage.post is not None
    stage = parse("OSVersion: 7\n%post\n  true\n", "x.def", header_optional=True).stages[0]
    assert (stage.agent, stage.value("osversion")) == ("", "7")


@pytest.mark.parametrize(
    ("agent", "keyword"),
    [("yum", "MirrorURL"), ("yum", "UpdateURL"), ("zypper", "OtherURL3"), ("zypper", "Product")],
)
@pytest.mark.parametrize("written", ["%{OSVERSION}", "%{osversion}", "%OSVersion"])
def test_the_version_is_filled_in_where_the_mirror_names_it(agent: str, keyword: str, written: str) -> None:
    stage = only(f"{keyword}: http://m/{written}/os/$releasever/$basearch/#a\nBootStrap: {agent}\nOSVersion: 7\n")
    assert stage.value(keyword.lower()) == "http://m/7/os/$releasever/$basearch/#a"


def test_the_version_is_filled_in_nowhere_else() -> None:
    stage = only("Bootstrap: yum\nOSVersion: 7\nMirrorURL: http://m/%OSVERSIONS\nInclude: a%{OSVERSION}\n")
    assert stage.value("mirrorurl") == "http://m/%OSVERSIONS"
    assert stage.value("include") == "a%{OSVERSION}"


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("Maintainer Somebody Else", "Maintainer", "Somebody Else"),
        ("Version\tv1.0", "Version", "v1.0"),
        ('Author "Some Body"', "Author", '"Some Body"'),
        ("Author 'Some Body'", "Author", "'Some Body'"),
        ('Author: "Some Body"', "Author", "Some Body"),
        ('Say "a" and "b"', "Say", '"a" and "b"'),
        ("Version: 1.0", "Version", "1.0"),
        ("Version : 1.0", "Version", "1.0"),
        ("VERSION=1.0", "VERSION", "1.0"),
        ('VERSION = "1 0"', "VERSION", "1 0"),
        ("org.example:key value", "org.example:key", "value"),
        ("Url https://example.org/?a=b", "Url", "https://example.org/?a=b"),
        ('"two words" value', "two words", "value"),
        ("Empty", "Empty", ""),
        ("=x", "=x", ""),
    ],
)
def test_labels_are_understood_as_people_write_them(line: str, name: str, value: str) -> None:
    assert parse_label(line) == (name, value)


def test_comments_after_files_end_the_line() -> None:
    text = "Bootstrap: scratch\n%files\n a b # c\n 'a # b' c\\ #d\n x#y\n"
    assert [(copy.source, copy.target) for copy in only(text).files] == [("a", "b"), ("a # b", "c #d"), ("x#y", "")]


words = st.one_of(
    st.sampled_from([f"%{name}" for name in SECTIONS + APP_SECTIONS]),
    st.sampled_from([f"{word}:" for word in KEYWORDS]),
    st.sampled_from(
        [
            "\n",
            "\n",
            "\n",
            " ",
            "#",
            "\\\n",
            "from",
            "hello",
            "<<EOF",
            "EOF",
            "<<-'E F'",
            "DistType a\n",
            "'",
            '"',
            "{{ A }}",
            "A=1",
            "\0",
            "%",
            "\r\n",
        ]
    ),
    st.text(max_size=8),
)


@given(st.lists(words, max_size=40).map("".join))
@example("Bootstrap: a\n%files\n \\")
@example("Bootstrap: a\\")
@example("Bootstrap: a\n%post \\\n")
def test_only_the_documented_exception_leaves_the_parser(text: str) -> None:
    """R-P5."""
    try:
        definition = parse(text, "x.def")
    except DefinitionError as error:
        assert "\n" not in str(error)
        return
    assert definition.stages
    assert all(stage.agent for stage in definition.stages)
    lines = normal(text).split("\n")
    for stage in definition.stages:
        for script in (stage.pre, stage.setup, stage.post, stage.test, stage.runscript, stage.startscript):
            if script:
                own = script.body.removesuffix("\n").split("\n")
                assert [lines[number - 1].rstrip() for number in script.lines] == [line.rstrip() for line in own]


@given(st.lists(words, max_size=40).map("".join))
def test_what_is_accepted_means_the_same_when_it_is_parsed_again(text: str) -> None:
    try:
        first = parse(text, "x.def")
    except DefinitionError:
        return
    assert parse(first.text, "x.def") == first
