"""The definition files in the guide to bootstrap agents."""

from __future__ import annotations

import re

import machine
import pytest

from singularity.build import agents
from singularity.definition.parse import parse

GUIDE = (machine.CHECKOUT / "docs" / "bootstrap-agents.md").read_text()
SHOWN = re.findall(r"^```singularity\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("number", range(len(SHOWN)))
def test_definition_files_in_the_guide_are_understood(number: int) -> None:
    definition = parse(SHOWN[number], "guide.def")
    assert definition.warnings == ()
    for stage in definition.stages:
        agents.find(stage, "guide.def")


def test_each_agent_that_installs_packages_has_an_example() -> None:
    shown = {parse(text, "guide.def").stages[0].agent for text in SHOWN}
    assert shown == {"arch", "busybox", "debootstrap", "dnf", "mmdebstrap", "zypper"}
