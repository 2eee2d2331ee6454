"""The C unit programs, as they are built for use and with sanitizers: each check they print is one result here."""

from __future__ import annotations

import os
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
BUILDS = {"plain": CHECKOUT / "build", "sanitized": CHECKOUT / "build/sanitize"}
SANITIZERS = {"ASAN_OPTIONS": "detect_leaks=1", "UBSAN_OPTIONS": "print_stacktrace=1"}


def programs() -> list[str]:
    """Every unit program that has a source, by its path below the build directory, without the suffix."""
    sources = sorted((CHECKOUT / "tests/launcher").rglob("*_test.c"))
    return [str(source.relative_to(CHECKOUT).with_suffix("")) for source in sources]


@cache
def output(program: Path) -> tuple[int, str]:
    environment = {**os.environ, **SANITIZERS}
    result = subprocess.run(
        [program], capture_output=True, text=True, errors="replace", timeout=120, check=False, env=environment
    )
    return result.returncode, result.stdout + result.stderr


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("name", programs())
def test_every_check_of_a_unit_program_holds(build: str, name: str) -> None:
    program = BUILDS[build] / name
    if not program.exists():
        message = f"{program.relative_to(CHECKOUT)} is not built (make test builds it)"
        (pytest.fail if os.environ.get("TESTS_STRICT") else pytest.skip)(message)
    status, text = output(program)
    held = re.findall(r"^ok \d+", text, re.MULTILINE)
    broken = re.findall(r"^not ok \d+ - .*", text, re.MULTILINE)
    plan = re.findall(r"^1\.\.(\d+)$", text, re.MULTILINE)
    assert not broken, "\n".join(broken)
    assert status == 0, text[-4000:]
    assert plan == [str(len(held))], f"planned {plan}, held {len(held)}"
    assert held
