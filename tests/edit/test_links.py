"""Where the paths of an archive lead: as in the kernel, and never out of the root."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from singularity.edit import links
from singularity.errors import ImageError
from singularity.image.root import Root
from singularity.image.tree import Entry, Kind, Member

NAMES = st.sampled_from(["a", "b", "c"])
TARGETS = st.lists(st.sampled_from(["a", "b", "c", "..", ".", ""]), min_size=1, max_size=4).map("/".join).filter(bool)


def directory(path: str) -> Entry:
    return Entry(Member(path=path.encode(), kind=Kind.DIRECTORY, mode=0o755))


def link(path: str, target: str) -> Entry:
    return Entry(Member(path=path.encode(), kind=Kind.LINK, mode=0o777, target=target.encode()))


def file(path: str) -> Entry:
    return Entry(Member(path=path.encode(), kind=Kind.FILE, mode=0o644))


def followed(before: list[Entry], *entries: Entry) -> list[tuple[str, str]]:
    found = links.of(iter(before)).followed(iter(entries))
    return [(each.member.path.decode(), each.member.target.decode()) for each in found]


USR = [
    directory("usr"),
    directory("usr/lib"),
    link("lib", "usr/lib"),
    link("abs", "/usr/lib"),
    link("up", "../../../usr"),
]


def test_members_below_a_link_to_a_directory_are_in_that_directory() -> None:
    assert followed(USR, file("lib/x"), file("abs/deep/y"), file("up/z")) == [
        ("usr/lib/x", ""),
        ("usr/lib/deep/y", ""),
        ("usr/z", ""),
    ]


def test_a_directory_that_is_a_link_there_is_the_one_it_leads_to() -> None:
    assert followed(USR, directory("lib"), directory("new")) == [("usr/lib", ""), ("new", "")]


def test_hard_links_are_to_what_their_target_is_there() -> None:
    hard = Entry(Member(path=b"opt", kind=Kind.HARD_LINK, mode=0, target=b"lib/x"))
    assert followed(USR, file("lib/x"), hard)[1] == ("opt", "usr/lib/x")


def test_links_of_the_archive_count_from_then_on() -> None:
    assert followed([directory("a")], file("new/x"), link("way", "new"), file("way/y")) == [
        ("new/x", ""),
        ("way", "new"),
        ("new/y", ""),
    ]


def test_a_link_that_leads_to_no_directory_gives_way() -> None:
    assert followed([link("way", "nowhere")], file("way/x"), file("way/y")) == [("way/x", ""), ("way/y", "")]


def test_what_replaces_a_directory_takes_all_in_it_away() -> None:
    entries = (link("usr", "other"), file("usr/lib/x"), directory("other"))
    assert followed([directory("usr/lib"), link("usr/l", "lib")], *entries)[1] == ("usr/lib/x", "")


def test_links_in_a_circle_are_an_error() -> None:
    with pytest.raises(ImageError, match="links in a circle"):
        followed([link("a", "b"), link("b", "a")], file("a/x"))


@settings(max_examples=150)
@given(
    st.lists(st.lists(NAMES, min_size=1, max_size=3).map("/".join), max_size=6),
    st.dictionaries(st.lists(NAMES, min_size=1, max_size=3).map("/".join), TARGETS, max_size=5),
    st.lists(NAMES, min_size=1, max_size=3).map("/".join),
)
def test_directories_are_found_as_the_kernel_finds_them(made: list[str], made_links: dict[str, str], path: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        for each in made:
            os.makedirs(os.path.join(place, each), exist_ok=True)
        for name, target in made_links.items():
            path_of_link = Path(place, name)
            above = path_of_link.parent
            inside = above.is_dir() and above.resolve().is_relative_to(place)
            if inside and not os.path.lexists(path_of_link):
                path_of_link.symlink_to(target)
        found = links.of_directory(Path(place))
        with Root(place) as root:
            try:
                there = root.real_path(path) if root.is_directory(path) else None
            except OSError:
                return
        if there is not None:
            assert found.leads(path.encode()) == there.strip("/").encode()
            assert found.is_directory(found.leads(path.encode()))
