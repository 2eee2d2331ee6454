"""One version, wherever it is said."""

from __future__ import annotations

import re
import tomllib

from machine import CHECKOUT

import singularity


def test_package_launcher_and_changelog_have_one_version() -> None:
    version = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["version"]
    launcher = re.search(r'^#define VERSION "(.*)"$', (CHECKOUT / "launcher/singularity.c").read_text(), re.MULTILINE)
    changes = re.search(r"^## (\S+)$", (CHECKOUT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert launcher is not None
    assert changes is not None
    assert singularity.__version__ == launcher[1] == changes[1] == version
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)  # cwltool reads digits and dots, and cannot read "5.0.0."
