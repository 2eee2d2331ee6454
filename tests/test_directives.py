"""The configuration file and files of subordinate ids, changed without losing a word of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from singularity import directives
from singularity.directives import Configuration, ids_added, ids_changed
from singularity.errors import SingularityError, UsageError

SHIPPED = (Path(__file__).resolve().parents[1] / "etc/singularity.conf").read_text()


def names() -> list[str]:
    heads = (directives._HEAD.fullmatch(line) for line in SHIPPED.splitlines())
    return [" ".join(head[1].lower().split()) for head in heads if head]


@pytest.mark.parametrize("name", names())
def test_each_directive_of_the_file_is_known_with_its_default(name: str) -> None:
    """As the launcher knows it: `config_test` compares those with the file."""
    found = Configuration(SHIPPED).find(name)
    if found.kind == "STRING" or (found.kind != "LIST" and not found.default):
        return
    if found.kind != "LIST":
        found.check(found.default)
        assert Configuration(SHIPPED).values(name) == [found.default]
    unchanged = Configuration(SHIPPED)
    unchanged.set(name, unchanged.values(name) if found.kind == "LIST" else [found.default])
    assert unchanged.text == SHIPPED


def test_a_value_is_replaced_where_it_stands() -> None:
    configuration = Configuration(SHIPPED)
    configuration.set("Mount  HOME", ["no"])
    assert configuration.text == SHIPPED.replace("\nmount home = yes\n", "\nmount home = no\n")
    assert configuration.values("mount home") == ["no"]
    configuration.unset("mount home")
    assert "\nmount home" not in configuration.text
    assert configuration.values("mount home") == ["yes"]
    configuration.set("mount home", ["yes"])
    assert configuration.text == SHIPPED


def test_lists_grow_and_shrink() -> None:
    configuration = Configuration(SHIPPED)
    configuration.set("bind path", ["/scratch", "/etc/hosts", "/data:/data"])
    assert configuration.values("bind path") == ["/etc/localtime", "/etc/hosts", "/scratch", "/data:/data"]
    configuration.unset("bind path", ["/etc/localtime", "/data:/data"])
    assert "\nbind path = /etc/hosts\nbind path = /scratch\n" in configuration.text
    configuration.set("limit container owners", ["root", "software"])
    example = "#limit container owners = root, software\n"
    assert f"{example}limit container owners = root\nlimit container owners = software\n" in configuration.text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mount home", "perhaps"), ("max loop devices", "many"), ("mount dev", "maximal"), ("bind path", ""),
        ("bind path", "/x\nallow setuid = yes"), ("container dir", "\n"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_value_is_refused(name: str, value: str) -> None:
    configuration = Configuration(SHIPPED)
    with pytest.raises(UsageError, match=name):
        configuration.set(name, [value])
    assert configuration.text == SHIPPED


def test_unknown_names_and_wrong_kinds_are_refused() -> None:
    configuration = Configuration(SHIPPED)
    with pytest.raises(UsageError, match="no directive 'mount hme'"):
        configuration.values("mount hme")
    with pytest.raises(UsageError, match="no list"):
        configuration.unset("mount home", ["yes"])
    with pytest.raises(UsageError, match="one value"):
        configuration.set("mount home", ["yes", "no"])


def test_ranges_of_ids_do_not_meet() -> None:
    text = ids_added("alice:100000:65536\n# note\n!carol:300000:1000", "bob")
    assert text == "alice:100000:65536\n# note\n!carol:300000:1000\nbob:301000:65536\n"
    assert ids_added(text, "bob") == text
    assert ids_added(text, "carol") == text
    assert ids_added("", "bob") == "bob:100000:65536\n"


def test_ranges_of_ids_are_put_out_of_force_and_into_it() -> None:
    text = "alice:100000:65536\nbob:165536:65536\n"
    disabled = ids_changed(text, "bob", "disable")
    assert disabled == "alice:100000:65536\n!bob:165536:65536\n"
    assert ids_changed(disabled, "bob", "disable") == disabled
    assert ids_changed(disabled, "bob", "enable") == text
    assert ids_changed(disabled, "bob", "remove") == "alice:100000:65536\n"
    with pytest.raises(SingularityError, match="no subordinate ids"):
        ids_changed(text, "carol", "enable")
