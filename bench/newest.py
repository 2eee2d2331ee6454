"""The newest peers: a Debian sid of their own, whose /usr is shown in place of the machine's while it is measured."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PACKAGES = {  # program: package
    "bwrap": "bubblewrap",
    "ch-run": "charliecloud",
    "squashfuse_ll": "squashfuse",
    "crun": "crun",
    "runc": "runc",
    "apptainer": "apptainer",
}
SESSIONS = "usr/lib/var/lib/apptainer/mnt/session"  # where its build looks for them, and the package has none
TIMEOUT = 1800


def newest(directory: Path) -> Path | None:
    """Its /usr, made where it is not there and can be; None: this machine's programs are measured."""
    root, made = directory / "newest", directory / "newest.made"
    if not made.is_file():
        print("Fetching the newest peers", flush=True)
        shutil.rmtree(root, ignore_errors=True)
        words = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES.values())}", "sid", str(root)]
        try:
            subprocess.run(words, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=TIMEOUT)
        except (OSError, subprocess.SubprocessError) as error:
            print(f"Measuring this machine's own peers: no Debian sid ({error})", flush=True)
            return None
        made.write_text("sid\n")
    (root / SESSIONS).mkdir(parents=True, exist_ok=True)
    return root / "usr"


def versions(usr: Path | None) -> Mapping[str, str]:
    """Of the peers that are measured."""
    words = ["dpkg-query", "--show", "--showformat=${Package} ${Version}\n"]
    if usr:
        words.insert(1, f"--admindir={usr.parent / 'var/lib/dpkg'}")
    said = subprocess.run([*words, *PACKAGES.values()], capture_output=True, text=True, check=False).stdout
    return dict(line.split(maxsplit=1) for line in said.splitlines() if len(line.split()) == 2)
