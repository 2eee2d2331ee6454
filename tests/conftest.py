"""What all tests share: a state that does not depend on the caller's, a private home and cache, what the machine must
have, and a word on everything skipped.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import machine
import pytest
from hypothesis import HealthCheck, settings
from images import TOOL_ENVIRONMENT, Images
from ordinary_user import CLONE_NEWNS, MS_PRIVATE, MS_REC, mount, unshare

if TYPE_CHECKING:
    from collections.abc import Iterator


pytest_plugins = ["package_sources", "registry_sources"]

# What the tests see of the caller's environment, in upper case: how this machine trusts servers and gets packages, how
# C is compiled, what is asked of the tests, and how pytest writes.
KEPT = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_", "PIP_", "CURL_CA_", "REQUESTS_CA_")
KEPT += ("NODE_EXTRA_CA_", "MAKE", "CC", "CFLAGS", "CPPFLAGS", "LDFLAGS")
KEPT += ("CORPUS", "WITHOUT_OPENAT2", "MUTATION_", "EXHAUSTIVE")
KEPT += (
    "SINGULARITY_TEST_PREFIX",
    "SANITIZE",
    "TESTS_STRICT",
    "TESTS_UNTIL",
    "UPDATE_PLANS",
    "FUZZ_EXAMPLES",
    "HYPOTHESIS_",
    "CI",
    "GUEST",
)
KEPT += ("PYTEST_", "TERM", "COLUMNS")
UNTIL = float(os.environ.get("TESTS_UNTIL", "inf"))  # seconds since 1970: no test begins later


def pytest_configure(config: pytest.Config) -> None:
    live_alone()
    live_as_usual()
    be_patient()
    config.addinivalue_line("markers", "needs(*names): what the machine must have (tests/machine.py); else skipped")
    config.addinivalue_line("markers", "long: tests of minutes, which come last, and may find no time left")
    config.addinivalue_line("markers", "modes(*names): the launch modes of an end-to-end test: suid, userns, root")
    config.addinivalue_line("markers", "client(name, *packages): a program of the field, of these packages of Python's")
    config.addinivalue_line("markers", "formats(*names): the image formats of an end-to-end test")


def live_alone() -> None:
    """A mount namespace of the tests' own, where they may: what is mounted on the machine meanwhile is not theirs."""
    if os.geteuid() == 0:
        with suppress(OSError):  # in a container, most likely
            unshare(CLONE_NEWNS)
            mount("none", "/", flags=MS_REC | MS_PRIVATE)


def be_patient() -> None:
    """No example fails for the time that it takes: the machine may be busy."""
    settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("patient")


def live_as_usual() -> None:
    """The same environment, umask and signals for all who call: from cron, by nohup, in a job of Slurm."""
    for name in [name for name in os.environ if not name.upper().startswith(KEPT)]:
        del os.environ[name]
    os.environ["PATH"] = TOOL_ENVIRONMENT["PATH"]
    tempfile.tempdir = None  # known from TMPDIR
    os.umask(0o022)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}:  # ignored by Python, not by what it starts
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)  # the tests go on as they were told to; what they start is as usual


def pytest_report_header() -> list[str]:
    there = [need for need in machine.MISSING if not machine.MISSING[need]]
    lacking = [f"{need} ({machine.MISSING[need]})" for need in machine.MISSING if machine.MISSING[need]]
    lines = [f"machine has: {', '.join(there)}"]
    if lacking:
        lines.append(f"machine lacks: {'; '.join(lacking)}")
    lines.append(f"installation: {machine.prefix() or 'none'}")
    return lines


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("long") is not None)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if time.time() > UNTIL:
        pytest.skip("no time was left")
    for mark in item.iter_markers("needs"):
        machine.require(*mark.args)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reasons: dict[str, int] = {}
    for report in terminalreporter.stats.get("skipped", []):
        if isinstance(report, pytest.TestReport) and isinstance(report.longrepr, tuple):
            reason = report.longrepr[2].removeprefix("Skipped: ")
            reasons[reason] = reasons.get(reason, 0) + 1
    terminalreporter.section("skipped, and why")
    if not reasons:
        terminalreporter.write_line("nothing was skipped")
    for reason, count in sorted(reasons.items()):
        terminalreporter.write_line(f"{count} skipped: {reason}")


@pytest.fixture(scope="session")
def storage() -> Iterator[Path]:
    """A directory of the session that any user can enter; gone at the end."""
    directory = Path(tempfile.mkdtemp(prefix="singularity-tests-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(autouse=True)
def private_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or writes the home, cache or settings of whoever runs it."""
    home = tmp_path / "home-of-the-test"
    home.mkdir(mode=0o700)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("SINGULARITY_CACHEDIR", str(home / "cache"))
    return home


@pytest.fixture(autouse=True)
def messages_as_they_were() -> Iterator[None]:
    """Verbs that a test calls in this process say for all of it which messages are shown, and how."""
    root = logging.getLogger()
    level = root.level
    yield
    root.setLevel(level)
    root.handlers[:] = [each for each in root.handlers if not type(each).__module__.startswith("singularity")]


@pytest.fixture(scope="session")
def images(storage: Path) -> Images:
    machine.require("busybox", "gcc", "mksquashfs", "mke2fs")
    directory = storage / "images"
    directory.mkdir(mode=0o755)
    return Images(directory)
