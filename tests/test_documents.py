"""Dataclasses of documents that strangers may have written."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import pytest

from singularity import documents
from singularity.errors import ImageError


class Kind(Enum):
    A = "a"
    B = "b"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    place: Path
    kind: Kind = Kind.A


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    name: Annotated[str, re.compile("[a-z]+")] = field(metadata={"key": "about.name"})
    count: Annotated[int, range(10)] = 3
    maybe: str | None = None
    sure: bool = False
    several: tuple[Inner, ...] = ()
    words: Mapping[str, str | None] = field(default_factory=dict)
    rest: Any = None


def test_each_member_becomes_what_its_field_is() -> None:
    document = {
        "about": {"name": "abc"}, "count": 9, "several": [{"place": "/x", "kind": "b"}, {"place": "y"}],
        "words": {"a": None, "b": "c"}, "rest": [1, {}], "unknown": 1,
    }  # fmt: skip
    assert documents.decoded(document, Outer) == Outer(
        name="abc",
        count=9,
        several=(Inner(place=Path("/x"), kind=Kind.B), Inner(place=Path("y"))),
        words={"a": None, "b": "c"},
        rest=[1, {}],
    )


@pytest.mark.parametrize(
    ("member", "fault"),
    [
        ({"about": {}}, "about.name: missing, and no text"),
        ({"about": []}, "about.name: [] is no object"),
        ({"about": {"name": "A"}}, "about.name: 'A' is none that makes sense"),
        ({"about": {"name": "a\0"}}, r"about.name: 'a\x00' is no text"),
        ({"count": 10}, "count: 10 is none that makes sense"),
        ({"count": True}, "count: True is no number"),
        ({"count": -1}, "count: -1 is no number"),
        ({"count": 1 << 62}, f"count: {1 << 62} is no number"),
        ({"maybe": 1}, "maybe: 1 is no text"),
        ({"sure": 1}, "sure: 1 is neither true nor false"),
        ({"several": {}}, "several: {} is no list"),
        ({"several": [{"place": "x"}, {}]}, "several: entry 1: place: missing, and no text"),
        ({"several": [{"place": "x", "kind": "c"}]}, "several: entry 0: kind: 'c' is none of a, b"),
        ({"words": []}, "words: [] is no object"),
        ({"words": {"a": 1}}, "words: 1 is no text"),
        ({"maybe": 1, "rest": "x"}, "maybe: 1 is no text"),
    ],
)
def test_what_is_none_is_named(member: dict[str, object], fault: str) -> None:
    with pytest.raises(ImageError) as caught:
        documents.decoded({"about": {"name": "x"}} | member, Outer)
    assert str(caught.value) == fault
    with pytest.raises(ImageError, match="is no object"):
        documents.decoded([], Outer)


def test_messages_stay_short() -> None:
    with pytest.raises(ImageError) as caught:
        documents.decoded({"about": {"name": "A" * 100_000}}, Outer)
    assert len(str(caught.value)) < 200


def test_what_is_usual_is_not_written() -> None:
    assert documents.encoded(Outer(name="x")) == {"about": {"name": "x"}}
    outer = Outer(name="x", count=4, words={"a": "b"}, several=(Inner(place=Path("/a"), kind=Kind.B),))
    assert documents.encoded(outer) == {
        "about": {"name": "x"}, "count": 4, "words": {"a": "b"}, "several": [{"place": "/a", "kind": "b"}],
    }  # fmt: skip
    assert documents.decoded(documents.encoded(outer), Outer) == outer
