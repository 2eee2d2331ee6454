"""Definitions as objects: what is read and not changed is written as it was, and what is changed is what was meant."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from singularity import Definition, DefinitionError, FileError, Section, Stage
from singularity.definition import dockerfile, parse, version1

CHECKOUT = Path(__file__).resolve().parents[2]
FILES = [
    path
    for path in sorted(
        [*CHECKOUT.glob("examples/**/*.def"), *CHECKOUT.glob("tests/**/*.def"), *CHECKOUT.glob("bench/*.def")]
    )
    if not version1.recognise(text := path.read_text(errors="surrogateescape"))
    and not dockerfile.recognise(path.name, text)
]


def meant(text: str) -> object:
    """What the parser of builds makes of it, without where it stands."""
    found = parse.parse(text, "x")

    def plain(value: object) -> object:
        if hasattr(value, "__dataclass_fields__"):
            return {
                key: plain(getattr(value, key))
                for key in value.__dataclass_fields__
                if key not in ("line", "lines", "text", "warnings")
            }
        if isinstance(value, tuple | list):
            return [plain(each) for each in value]
        return {key: plain(each) for key, each in value.items()} if isinstance(value, dict) else value

    return plain(found)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_files_of_the_tree_go_through_unchanged(path: Path, tmp_path: Path) -> None:
    text = path.read_bytes().decode("utf-8", "surrogateescape")
    try:
        definition = Definition.parse(text, name=str(path))
    except DefinitionError:
        with pytest.raises(DefinitionError):  # one that is meant to be wrong
            parse.parse(text, str(path))
        return
    assert str(definition) == text
    definition._read = None  # now it is written anew
    assert meant(str(definition)) == meant(text)
    definition.write(tmp_path / "x.def")
    assert Definition.read(tmp_path / "x.def") == definition


_LINES = st.text(
    st.characters(codec="utf-8", exclude_characters="\n\r\0\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029%"), max_size=20
)
_BODIES = st.lists(_LINES, min_size=1, max_size=4).map(lambda lines: "\n".join(lines)).filter(str.strip)
_SECTIONS = st.dictionaries(
    st.sampled_from(["post", "setup", "environment", "runscript", "help", "test", "apprun a", "files from one"]),
    _BODIES,
)


@given(
    _SECTIONS, st.dictionaries(st.sampled_from(["From", "OSVersion", "MirrorURL"]), _LINES.map(str.strip).filter(bool))
)
def test_what_is_made_says_what_was_meant_or_is_refused(sections: dict[str, str], header: dict[str, str]) -> None:
    definition = Definition(Bootstrap="debootstrap", **header)
    for key, text in sections.items():
        definition[key] = text
    try:
        text = str(definition)
    except DefinitionError:
        return
    again = Definition.parse(text) if _is_parsed(text) else None
    if again is not None:
        assert again == definition
        assert {key: again[key].strip("\n") for key in sections} == {
            key: text.strip("\n") for key, text in sections.items()
        }


def _is_parsed(text: str) -> bool:
    try:
        parse.parse(text, "x")
    except DefinitionError:  # words of %files, for one, are the parser's to judge
        return False
    return True


def test_sections_are_attributes_and_stages_have_their_own() -> None:
    definition = Definition(
        Stage({"Bootstrap": "docker", "From": "golang", "Stage": "one"}, [Section("post", "go build\n")]),
        Stage({"Bootstrap": "docker", "From": "debian"}),
    )
    definition.post = "apt-get update"
    definition.post += "apt-get upgrade\n"
    definition.copy("/go/bin/x", "/usr/bin/x", stage="one")
    definition.copy("a b")
    definition.labels = {"A": "1", "b c": "2"}
    definition["apprun hello"] = "echo hello"
    assert str(definition) == (
        "Bootstrap: docker\nFrom: golang\nStage: one\n\n%post\ngo build\n\n"
        "Bootstrap: docker\nFrom: debian\n\n%post\napt-get update\napt-get upgrade\n\n"
        "%files from one\n/go/bin/x /usr/bin/x\n\n"
        '%files\n"a b"\n\n%labels\nA 1\n"b c" 2\n\n%apprun hello\necho hello\n'
    )
    parsed = parse.parse(str(definition), "x")
    assert parsed.stages[1].files[0].stage == "one"
    assert parsed.stages[1].files[1].source == "a b"
    assert definition.labels == {"A": "1", "b c": "2"} == parsed.stages[1].labels
    assert definition.stages[0].post == "go build\n"
    del definition["post"]
    assert definition.post == ""
    assert definition.warnings == ()


def test_comments_and_templates_stay_where_nothing_is_changed() -> None:
    text = "# first\nBootstrap: docker   # why\nFrom: debian:{{ VERSION }}\n\n"
    text += "%arguments\n  VERSION=12\n\n%post\n  # in it\n  true\n"
    definition = Definition.parse(text)
    assert str(definition) == text
    definition.help = "Help\n"
    assert "# in it" in str(definition)
    assert "{{ VERSION }}" in str(definition)
    assert str(definition).endswith("%help\nHelp\n")


def test_lines_of_include_add_up() -> None:
    text = "Bootstrap: debootstrap\nOSVersion: stable\nMirrorURL: http://x/\nInclude: a b\nInclude: c\n"
    definition = Definition.parse(text)
    definition.post = "true"
    assert definition.header["Include"] == "a b c"
    assert parse.parse(str(definition), "x").stages[0].value("include") == "a b c"


def test_what_would_say_something_else_is_refused(tmp_path: Path) -> None:
    definition = Definition(Bootstrap="scratch")
    definition.post = "true\n%labels\nA 1\n"
    with pytest.raises(DefinitionError, match="read as something else"):
        definition.write(tmp_path / "x.def")
    assert not (tmp_path / "x.def").exists()
    for text, words in (
        ("FROM debian\nRUN true\n", "Dockerfile|no header line"), ("%post\ntrue\n", "header"), ("", "empty"),
        ("DistType debian\nBootstrap\n", "first format"),
    ):  # fmt: skip
        with pytest.raises(DefinitionError, match=words):
            Definition.parse(text)
    with pytest.raises(FileError):
        Definition.read(tmp_path / "none.def")
    with pytest.raises(TypeError):
        Definition()
