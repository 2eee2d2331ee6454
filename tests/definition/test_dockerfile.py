"""Dockerfiles become stages, or one line that says what is wrong and where."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from singularity.definition import dockerfile
from singularity.definition.dockerfile import ignore, lines, words
from singularity.definition.dockerfile.state import State, after
from singularity.definition.dockerfile.words import WordError
from singularity.definition.model import Recipe, Stage
from singularity.errors import DefinitionError

VALUES = {"A": "one", "EMPTY": "", "P": "a/b/c.tar.gz"}


def parse(text: str, **more: object) -> tuple[Stage, ...]:
    asked = dockerfile.Asked(name="Dockerfile", context=Path("ctx"), architecture="amd64", host="arm64", **more)  # type: ignore[arg-type]
    return dockerfile.parse(text, asked).stages


def final(text: str, **more: object) -> State:
    recipe = parse(text, **more)[-1].recipe
    assert recipe is not None
    return after({}, recipe, recipe.instructions)


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("$A", "one"),
        ("${A}x", "onex"),
        ("$Ax", ""),
        ("a$", "a$"),
        ("\\$A", "$A"),
        ("'$A'", "$A"),
        ('"$A b"', "one b"),
        ('"\\"$A\\""', '"one"'),
        ("a\\ b", "a b"),
        ("${NONE:-x}", "x"),
        ("${EMPTY:-x}", "x"),
        ("${EMPTY-x}", ""),
        ("${A:+x}", "x"),
        ("${NONE:+x}", ""),
        ("${EMPTY+x}", "x"),
        ("${NONE:-${A}-$A}", "one-one"),
        ("${NONE:-'a b'}", "a b"),
        ("${P#*/}", "b/c.tar.gz"),
        ("${P##*/}", "c.tar.gz"),
        ("${P%.*}", "a/b/c.tar"),
        ("${P%%.*}", "a/b/c"),
        ("${P/b/X}", "a/X/c.tar.gz"),
        ("${P//./-}", "a/b/c-tar-gz"),
        ("${A:?needed}", "one"),
        ("$1$?", ""),
    ],
)
def test_words_are_filled_in_as_by_docker(word: str, meant: str) -> None:
    assert words.fill(word, VALUES, "\\") == meant


@pytest.mark.parametrize("word", ["${", "${A", "${A!}", "'a", '"a', "${NONE:?needed}", "${NONE?}", "${N:-" * 100])
def test_words_that_cannot_be_filled_in_are_errors(word: str) -> None:
    with pytest.raises(WordError):
        words.fill(word, VALUES, "\\")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "Dockerfile: no FROM: no stage begins (FROM scratch begins with nothing)"),
        ("RUN x\n", "Dockerfile:1: RUN: comes before the first FROM (only ARG may stand there)"),
        ("FROM a\nRUM x\n", 'Dockerfile:2: unknown instruction "RUM" (did you mean RUN?)'),
        ("FROM a\n\n# c\nXYZZY\n", 'Dockerfile:4: unknown instruction "XYZZY" (known are '),
        ("FROM\n", "Dockerfile:1: FROM: nothing stands behind it"),
        ("FROM a b\n", 'Dockerfile:1: FROM: "a b": not understood (FROM IMAGE [AS NAME])'),
        ("ARG B\nFROM $B\n", "Dockerfile:2: FROM: $B is empty (give the value with --build-arg,"),
        ("FROM a AS x\nFROM b AS X\n", 'Dockerfile:2: FROM: a stage "x" is there already, in line 1'),
        ("FROM a AS ~\n", 'Dockerfile:1: FROM: "~" is no name of a stage'),
        ("FROM a AS x\nCOPY --from=x a b\n", 'Dockerfile:2: COPY: "x" is the stage itself'),
        (
            "FROM a\nCOPY --from=y a b\nFROM b AS y\nCOPY --from=0 a b\n",
            'Dockerfile:2: COPY: "y" names a stage that begins',
        ),
        ("FROM a\nCOPY a\n", "Dockerfile:2: COPY: a source and a target are expected (COPY SOURCE... TARGET)"),
        ("FROM a\nCOPY --form=x a b\n", "Dockerfile:2: COPY: unknown option --form (known are --chmod, "),
        ("FROM a\nCOPY --chown=1 --chown=2 a b\n", "Dockerfile:2: COPY: --chown is given twice"),
        ("FROM a\nCOPY --parents a b\n", "Dockerfile:2: COPY: --parents is not supported"),
        ("FROM a\nENV A\n", "Dockerfile:2: ENV: A has no value (NAME=VALUE)"),
        ("FROM a\nENV A=b C\n", 'Dockerfile:2: ENV: "C" is no NAME=VALUE'),
        ("FROM a\nRUN <<X\nx\n", "Dockerfile:2: the here-document <<X has no end (a line X ends it)"),
        ("FROM a\nSHELL sh\n", "Dockerfile:2: SHELL: a list in the form of JSON is expected"),
        ("FROM a\nHEALTHCHECK maybe\n", 'Dockerfile:2: HEALTHCHECK: "maybe": not understood'),
        (
            "FROM a\nHEALTHCHECK --interval=fast CMD x\n",
            "Dockerfile:2: HEALTHCHECK: --interval=fast: a time is expected",
        ),
        ("FROM a\nONBUILD FROM x\n", "Dockerfile:2: ONBUILD: FROM cannot be a trigger"),
        ("FROM a\nONBUILD ONBUILD RUN x\n", "Dockerfile:2: ONBUILD: ONBUILD cannot be a trigger"),
        (
            "FROM a\nRUN --mount=type=ssh x\n",
            "Dockerfile:2: RUN: --mount=type=ssh: keys of an SSH agent are not handed on",
        ),
        ("FROM a\nRUN --mount=type=cache x\n", "Dockerfile:2: RUN: --mount=type=cache: no target"),
        ("FROM a\nRUN --mount=type=bind,target=/x,size=3 x\n", 'bind has no "size"'),
        ("FROM a\nRUN --mount=type=secret x\n", "a secret needs an id"),
        ("FROM a\nRUN --network=mine x\n", "Dockerfile:2: RUN: --network=mine (default, host or none)"),
        ("FROM a\nRUN --security=insecure x\n", "Dockerfile:2: RUN: --security=insecure: a build has no more rights"),
        ("FROM --platform=windows/amd64 a\n", "Dockerfile:1: FROM: --platform=windows/amd64: no platform of Linux"),
        ("# escape=x\nFROM a\n", 'Dockerfile:1: escape=x: "\\" or "`"'),
        ("# syntax=a\n# syntax=b\nFROM a\n", "Dockerfile:2: syntax is said twice"),
        ("FROM a\nRUN \0\n", "Dockerfile:2: a NUL byte: no Dockerfile"),
        ("FROM a\n" + "#" * (5 << 20), "Dockerfile: more than 4 MiB: no Dockerfile"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(text: str, said: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        parse(text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_only_the_stages_that_are_needed_are_built() -> None:
    text = "FROM a AS one\nFROM b AS two\nFROM one AS three\nCOPY --from=img:1 x y\nFROM two\nFROM three AS last\n"
    stages = parse(text)
    assert [(each.name, each.value("from")) for each in stages] == [
        ("img:1", "img:1"),
        ("one", "a"),
        ("three", "Dockerfile"),
        ("last", "Dockerfile"),
    ]
    assert [each.recipe.base for each in stages if each.recipe] == ["", "", "one", "three"]
    assert [each.name for each in parse(text, target="TWO")] == ["two"]
    assert [each.name for each in parse(text, target="1")] == ["two"]
    with pytest.raises(DefinitionError, match='Dockerfile: no stage "four"'):
        parse(text, target="four")


def test_names_of_images_may_have_transports() -> None:
    def header(image: str) -> tuple[str, str]:
        (stage,) = parse(f"FROM {image}\n")
        return stage.agent, stage.value("from")

    assert header("debian:12") == ("docker", "debian:12")
    assert header("oci:latest") == ("docker", "oci:latest")
    assert header("oci:./layout:x") == ("oci", "./layout:x")
    assert header("docker-archive:/a.tar") == ("docker-archive", "/a.tar")
    assert header("docker://host:5000/x") == ("docker", "host:5000/x")
    assert header("SCRATCH") == ("scratch", "")


def test_arguments_of_platforms_have_values() -> None:
    state = final(
        "FROM --platform=$BUILDPLATFORM a\nARG TARGETARCH\nARG BUILDPLATFORM\nENV X=$TARGETARCH Y=$BUILDPLATFORM\n"
    )
    assert (state.environment["X"], state.environment["Y"]) == ("amd64", "linux/arm64")
    (stage,) = parse("FROM --platform=$BUILDPLATFORM a\n")
    assert stage.architecture == "arm64"


def test_shell_is_that_of_later_commands() -> None:
    state = final('FROM a\nCMD one\nSHELL ["/bin/bash", "-c"]\nENTRYPOINT two\n')
    assert (state.raw.get("Cmd"), state.raw["Entrypoint"]) == (["/bin/sh", "-c", "one"], ["/bin/bash", "-c", "two"])


def test_triggers_are_kept_as_text() -> None:
    state = final("FROM a\nONBUILD RUN a \\\n  b\nONBUILD COPY <<X /y\nz\nX\n")
    assert state.raw["OnBuild"] == ["RUN a   b", "COPY <<X /y\nz\nX"]


def test_what_is_not_used_is_told() -> None:
    asked = dockerfile.Asked(
        name="D", context=Path(), architecture="amd64", host="amd64", arguments={"A": "1", "B": "2", "http_proxy": "x"}
    )
    assert dockerfile.parse("FROM x\nARG A\n", asked).unused == ("B",)


@pytest.mark.parametrize(
    ("name", "text", "is_one"),
    [
        ("Dockerfile", "RUN x\n", True),
        ("Containerfile.gpu", "", True),
        ("tool.Dockerfile", "# c\n", True),
        ("x", "# syntax=docker/dockerfile:1\n", True),
        ("x", "\n# c\nfrom a\n", True),
        ("x", "ARG A=1\n", True),
        ("x.def", "Bootstrap: docker\nFrom: a\n", False),
        ("x.def", "From: a\nBootstrap: docker\n", False),
        ("Dockerfile", "Bootstrap: docker\n", False),
        ("notes", "hello\n", False),
    ],
)
def test_dockerfiles_are_recognised(name: str, text: str, is_one: bool) -> None:
    assert dockerfile.recognise(name, text) == is_one


@pytest.mark.parametrize(
    ("patterns", "out", "seen"),
    [
        ("*.log", ["a.log"], ["sub/a.log", "log"]),
        ("**/*.log", ["a.log", "x/y/a.log"], ["a.logs"]),
        ("/build", ["build", "build/x/y"], ["sub/build"]),
        ("a/*/c", ["a/b/c", "a/b/c/d"], ["a/c", "a/b/d"]),
        ("a/**", ["a/b", "a/b/c"], ["b/a"]),
        ("*\n!keep\nkeep/not", ["x", "keep/not"], ["keep", "keep/yes"]),
        ("file?.[ch]", ["file1.c", "file2.h"], ["file.c", "file1.d"]),
        ("[!a]x", ["bx"], ["ax"]),
        ("# no\n\\#yes", ["#yes"], ["# no"]),
        ("./a/../b/", ["b"], ["a"]),
    ],
)
def test_dockerignore(patterns: str, out: list[str], seen: list[str]) -> None:
    found = ignore.read(patterns, ".dockerignore")
    assert [path for path in out if not found.leaves_out(path)] == []
    assert [path for path in seen if found.leaves_out(path)] == []


def test_ten_thousand_stages_are_read_in_seconds() -> None:
    chain = "FROM a AS s0\n" + "".join(f"FROM s{n} AS s{n + 1}\nCOPY --from=s{n} x y\n" for n in range(10_000))
    start = time.monotonic()
    stages = parse(chain)
    assert (len(stages), stages[-1].name) == (10_001, "s10000")
    assert time.monotonic() - start < 20


def test_hostile_texts_end_in_an_error_or_a_stage() -> None:
    for text in (
        "FROM a\nRUN " + "<<A " * 10_000,
        "FROM a\nENV " + "${A:-" * 10_000,
        "FROM a\nCOPY " + "[" * 100_000 + " x",
        "FROM a\n" + "\\\n" * 100_000,
        "FROM a\nENV A='" + "x" * 100_000,
        "FROM " + "$" * 10_000,
    ):
        try:
            parse(text)
        except DefinitionError as error:
            assert "\n" not in str(error)


def test_lines_are_those_of_the_file() -> None:
    found = lines.read(
        "# escape=`\n\nFROM a\nRUN x `\n # c\n  y\n\nRUN <<A <<B\n1\nA\n2\nB\nUSER z\n", "D"
    ).instructions
    assert [(each.name, each.line, each.text) for each in found] == [
        ("FROM", 3, "a"),
        ("RUN", 4, "x   y"),
        ("RUN", 8, "<<A <<B"),
        ("USER", 13, "z"),
    ]
    assert [(each.name, each.body) for each in found[2].documents] == [("A", "1\n"), ("B", "2\n")]


def test_an_inherited_trigger_is_not_inherited_again() -> None:
    recipe = Recipe(file="D", instructions=(), context=Path())
    assert "OnBuild" not in State.begin({"OnBuild": ["RUN x"], "User": "u"}, recipe).raw
