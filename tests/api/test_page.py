"""docs/python.md: each of its programs runs, one after the other, as a reader would type them."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs/python.md"


@pytest.mark.needs("root", "installation", "mksquashfs")
def test_the_programs_of_the_page_run(tool: Path, directory: Path) -> None:
    shutil.copy(tool, "tool.sif")
    Path("data").mkdir()
    Path("data/numbers").write_text("1 2 3\n")
    blocks = list(re.finditer(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL))
    assert len(blocks) > 10
    names: dict[str, object] = {"__name__": "__main__"}
    for block in blocks:
        line = PAGE.read_text()[: block.start()].count("\n") + 1
        exec(compile("\n" * line + block[1], str(PAGE), "exec"), names)  # noqa: S102 - our own page
    assert Path("new.sif").exists()
    assert Path("pulled.sif").exists()
    assert directory == Path.cwd()
