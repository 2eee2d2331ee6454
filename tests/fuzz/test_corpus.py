"""The fuzz targets over their corpora: every seed and every input that once failed keeps its property."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
BUILD = CHECKOUT / "build/sanitize/fuzz"
TARGETS = sorted(path.stem for path in (CHECKOUT / "fuzz").glob("*_fuzz.c"))


@pytest.mark.parametrize("target", TARGETS)
def test_the_property_holds_for_the_corpus(target: str) -> None:
    program = BUILD / target
    if not program.exists():
        message = f"{program.relative_to(CHECKOUT)} is not built (make test builds it)"
        (pytest.fail if os.environ.get("TESTS_STRICT") else pytest.skip)(message)
    seeds = sorted(
        path for path in (CHECKOUT / "fuzz/corpus" / target.removesuffix("_fuzz")).rglob("*") if path.is_file()
    )
    assert seeds, f"fuzz/corpus/{target.removesuffix('_fuzz')} has no seed"
    result = subprocess.run(
        [program, *seeds], capture_output=True, text=True, errors="replace", timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr[-4000:]
