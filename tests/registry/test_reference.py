"""What references name: every part of them, what stands for parts that are missing, and what is none."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from singularity.errors import ImageError
from singularity.registry.reference import Reference, parse

DIGEST = "sha256:" + "0f" * 32


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("debian", "docker.io/library/debian:latest"),
        ("debian:12", "docker.io/library/debian:12"),
        ("alice/tools", "docker.io/alice/tools:latest"),
        ("index.docker.io/debian:12", "docker.io/library/debian:12"),
        ("registry-1.docker.io/alice/tools", "docker.io/alice/tools:latest"),
        ("ghcr.io/a/b/c:v1.0_x-2", "ghcr.io/a/b/c:v1.0_x-2"),
        ("GHCR.io/a/b", "ghcr.io/a/b:latest"),
        ("localhost/x", "localhost/x:latest"),
        ("localhost:5000/x:1", "localhost:5000/x:1"),
        ("[::1]:5000/x", "[::1]:5000/x:latest"),
        ("reg:5000/a__b/c.d-e--f", "reg:5000/a__b/c.d-e--f:latest"),
        (f"debian@{DIGEST}", f"docker.io/library/debian@{DIGEST}"),
        (f"localhost:5000/x:1@{DIGEST}", f"localhost:5000/x:1@{DIGEST}"),
        ("x@sha512:" + "a" * 128, "docker.io/library/x@sha512:" + "a" * 128),
    ],
)
def test_what_is_left_out_has_its_usual_value(text: str, whole: str) -> None:
    assert str(parse(text)) == whole
    assert parse(whole) == parse(text)


@pytest.mark.parametrize(
    ("text", "registry", "namespace", "whole"),
    [
        ("debian", "ghcr.io", "", "ghcr.io/debian:latest"),
        ("debian", "ghcr.io", "team", "ghcr.io/team/debian:latest"),
        ("debian", "", "team", "docker.io/team/debian:latest"),
        ("debian:9", "http://localhost:5000/", "a/b", "localhost:5000/a/b/debian:9"),
        ("debian", "localhost:5000/mirror", "", "localhost:5000/mirror/debian:latest"),
        ("quay.io/x/y", "ghcr.io", "team", "quay.io/x/y:latest"),
        ("x/y", "ghcr.io", "team", "ghcr.io/x/y:latest"),
    ],
)
def test_registry_and_namespace_hold_where_the_text_names_none(
    text: str, registry: str, namespace: str, whole: str
) -> None:
    assert str(parse(text, registry=registry, namespace=namespace)) == whole


def test_the_digest_says_which_before_the_tag() -> None:
    reference = parse(f"x:1@{DIGEST}")
    assert (reference.tag, reference.target) == ("1", DIGEST)
    assert parse("x:1").target == "1"


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "@",
        "x:",
        "x:a/b",
        "x:-a",
        "x:" + "a" * 129,
        "X",
        "a/../b",
        "a//b",
        "/a",
        "a/",
        "a b",
        "a\n",
        "a?b",
        "a%2fb",
        "a#b",
        "-a/b",
        "a:1:2/b",
        "host:0/a",
        "host:99999/a",
        "host:x/a",
        "user@host.org/a",
        "user:secret@host.org/a",
        "x@sha256:0f",
        "x@sha256:" + "0F" * 32,
        f"x@{DIGEST}@{DIGEST}",
        f"x@{DIGEST}:1",
        "x@md5:" + "0" * 32,
        "a/" * 130 + "b",
        "ho st.org/a",
        "héllo.org/a",
        "x:\uff11",
    ],
)
def test_r_n4_what_does_not_fit_the_grammar_whole_is_refused(text: str) -> None:
    with pytest.raises(ImageError):
        parse(text)


@example("A/0")
@example("LOCALHOST/a")
@given(st.text(max_size=60) | st.text("a:/@.-_[]0A", max_size=20))
def test_r_n4_any_text_is_a_reference_that_can_be_written_again_or_an_image_error(text: str) -> None:
    try:
        reference: Reference = parse(text)
    except ImageError:
        return
    assert parse(str(reference)) == reference
    assert reference.target
