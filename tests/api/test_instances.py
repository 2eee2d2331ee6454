"""`Instance`: a container that stays under a name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import singularity
from singularity import FileError, Instance, LaunchError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.needs("installation"), pytest.mark.usefixtures("directory")]


def test_it_stays_until_the_block_ends(tool: Path) -> None:
    with Instance.start(tool, "one", env={"A": "1"}) as one:
        assert one.exec(["echo", "in"], capture_output=True, check=True).stdout == "in\n"
        assert one.run(["x"], capture_output=True).stdout == "ran x\n"
        state, usage = one.state, one.usage()
        assert state is not None
        assert usage is not None
        assert (state.image, usage.processes > 0) == (str(tool), True)
        assert [each.name for each in Instance.running()] == ["one"]
        assert [each.name for each in Instance.running("t*")] == []
        with Instance("one").popen(["cat"], stdin=singularity.PIPE, stdout=singularity.PIPE) as process:
            assert process.communicate(b"x")[0] == b"x"
        assert one.logs() == "started\n"
    assert one.state is None
    assert one.usage() is None
    one.stop()  # has ended already
    with pytest.raises(LaunchError, match="no instance found"):
        one.exec("true")


def test_without_a_name_it_gets_one(tool: Path) -> None:
    with Instance.start(tool) as one, Instance.start(tool) as two:
        assert one.name != two.name
        assert {each.name for each in Instance.running()} == {one.name, two.name}


def test_what_cannot_be_started_says_why(tool: Path) -> None:
    with pytest.raises(LaunchError, match="no such image"):
        Instance.start("none.sif", "one")
    with pytest.raises(LaunchError, match="name"):
        Instance.start(tool, "no/name")
    with Instance.start(tool, "one"), pytest.raises(LaunchError, match="one"):
        Instance.start(tool, "one")
    for name in ("*", "a b", "", "..", "a/b"):
        with pytest.raises(UsageError):
            Instance(name)
    with Instance.start(tool, "one") as one:
        Instance("--all").stop()  # a name that an instance may have, and no option
        assert one.state is not None
    with pytest.raises(FileError, match=r"nobody\.out"):
        Instance("nobody").logs()
    with pytest.raises(TypeError, match="did you mean 'bind'"):
        Instance.start(tool, binds="x")  # type: ignore[call-arg]
