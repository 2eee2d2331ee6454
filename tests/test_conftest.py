"""The tests' own state: the same, whoever calls."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

STRANGE = {
    "PATH": "/nowhere:/usr/bin:/bin",
    "LC_ALL": "de_DE",
    "TMPDIR": "/nowhere",
    "SINGULARITY_BIND": "/nowhere",
    "SLURM_JOB_ID": "7",
    "XDG_CONFIG_HOME": "/nowhere",
    "http_proxy": "http://proxy.example:3128",
}
STATE = """
import conftest, os, subprocess, tempfile
conftest.live_as_usual()
words = ["sh", "-c", "umask; env | grep -v ^PWD= | sort; grep -E '^Sig(Blk|Ign)' /proc/self/status"]
print(tempfile.gettempdir(), subprocess.run(words, capture_output=True, text=True, check=True).stdout)
"""


OF_THE_LIBRARY = 0b11 << 31  # signals 32 and 33 are the C library's own: no program can say what becomes of them


def strange() -> None:
    os.umask(0o077)
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGPIPE, signal.SIGCHLD):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1})


def test_what_tests_start_is_as_usual_whoever_calls() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STATE],
        cwd=Path(__file__).parent,
        env=STRANGE,
        preexec_fn=strange,
        restore_signals=False,
        capture_output=True,
        text=True,
        check=False,
    )
    *words, ignored = done.stdout.split()
    assert words == [
        "/tmp",
        "0022",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "http_proxy=http://proxy.example:3128",
        *("SigBlk:", "0000000000000000", "SigIgn:"),
    ], done.stderr
    assert int(ignored, 16) & ~OF_THE_LIBRARY == 0, ignored
