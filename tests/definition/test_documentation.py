"""What the documentation and the examples show is what the parser understands."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from singularity.build import agents
from singularity.definition import keywords
from singularity.definition.parse import SECTIONS, parse
from singularity.definition.source import read
from singularity.definition.template import expand

CHECKOUT = Path(__file__).resolve().parents[2]
GUIDE = (CHECKOUT / "docs" / "definition-files.md").read_text()
HEADER = GUIDE.split("## The sections")[0]
BLOCK = re.compile(r"^```singularity\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHOWN = BLOCK.findall(GUIDE)
OTHERS = [
    pytest.param(text, id=f"{path.stem}-{number}")
    for path in sorted((CHECKOUT / "docs").rglob("*.md"))
    if path.name != "definition-files.md"
    for number, text in enumerate(BLOCK.findall(path.read_text()))
]
FIRST_FORMAT = re.findall(r"^```\n([^`]*^DistType [^`]*)^```$", GUIDE, re.MULTILINE | re.DOTALL)
EXAMPLES = sorted((CHECKOUT / "examples").rglob("*.def"))


@pytest.mark.parametrize("number", range(len(SHOWN)))
def test_definition_files_in_the_guide_are_understood(number: int) -> None:
    text = expand(SHOWN[number], "guide.def", {}).text
    definition = parse(text, "guide.def")
    assert definition.warnings == ()
    for stage in definition.stages:
        agents.find(stage, "guide.def")


@pytest.mark.parametrize("text", OTHERS)
def test_definition_files_in_other_pages_are_understood(text: str) -> None:
    definition = parse(text, "page.def", header_optional=text.startswith("%"))
    assert definition.warnings == ()
    for stage in definition.stages:
        if stage.header and stage.agent != "dockerfile":  # which becomes stages of others
            agents.find(stage, "page.def")


def test_the_guide_shows_something() -> None:
    assert len(SHOWN) >= 12
    for name in (*SECTIONS, *agents.AGENTS):
        assert name in GUIDE


def test_the_first_format_in_the_guide_is_understood() -> None:
    (text,) = FIRST_FORMAT
    stage = parse(text, "guide.def").stages[0]
    assert stage.agent == "yum"
    assert stage.value("include") == "yum vim-minimal"
    assert stage.post is not None


def test_the_table_of_keywords_says_what_the_agents_use() -> None:
    shown: dict[str, set[str]] = {}
    for row in re.findall(r"^\| `(\w+)`([^|]*)\| ([^|]+) \| ", HEADER, re.MULTILINE):
        for keyword in (row[0], *re.findall(r"`(\w+)`", row[1])):
            named = set(re.findall(r"`([\w-]+)`", row[2]))
            shown[keyword] = named or set(agents.AGENTS)
    for agent in agents.AGENTS:
        for keyword in (*keywords.ANY, *keywords.USED[agent]):
            assert agent in shown[keyword], (agent, keyword)
    for keyword, named in shown.items():
        for agent in named:
            assert keywords.is_used(keyword.lower(), agent), (agent, keyword)
    assert set(keywords.KEYWORDS) <= set(re.findall(r"`(\w+)`", HEADER)) | {"OtherURL0"}


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.name for path in EXAMPLES])
def test_examples_are_understood_and_their_steps_are_shown(path: Path, tmp_path: Path) -> None:
    definition = read(str(path), {}, unused_allowed=False)
    assert definition.warnings == ()
    for stage in definition.stages:
        agents.find(stage, path.name)
    place = tmp_path / "project"
    place.mkdir()
    argv = [sys.executable, "-I", "-m", "singularity", "build", "--dry-run=json", place / "new.sif", path]
    done = subprocess.run(argv, check=True, stdout=subprocess.PIPE, cwd=place, text=True)
    actions = [step["do"] for step in json.loads(done.stdout)["steps"]]
    assert actions.count("bootstrap") == len(definition.stages)
    assert list(place.iterdir()) == []


def test_there_is_an_example_for_every_agent_that_needs_a_mirror() -> None:
    used = {stage.agent for path in EXAMPLES for stage in read(str(path), {}, unused_allowed=False).stages}
    assert used >= {"debootstrap", "yum", "dnf", "zypper", "arch", "busybox", "localimage", "scratch"}
