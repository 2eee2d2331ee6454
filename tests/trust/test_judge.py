"""No byte of a signed image that counts can change; one that changes all the time is read as signed or not at all.

The C reader of launches, over images that the Python half has signed.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import machine
import pytest
from signers import image

from singularity.trust import signers
from singularity.trust.sign import sign
from singularity.trust.ssh import SshSeal

CHECKOUT = Path(__file__).resolve().parents[2]
BUILDS = {"plain": CHECKOUT / "build", "sanitized": CHECKOUT / "build/sanitize"}
BLOCKS = 300  # two levels of digests


@pytest.mark.parametrize("build", BUILDS)
def test_no_byte_that_counts_can_change(build: str, tmp_path: Path) -> None:
    machine.require("ssh-keygen")
    program = BUILDS[build] / "tests/launcher/signature_test"
    if not program.exists():
        pytest.skip(f"{program} is not built (make test builds it)")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "a", "-f", tmp_path / "key"], check=True)
    path = image(tmp_path / "image.sif", os.urandom(BLOCKS * 4096))
    sign(path, SshSeal(str(tmp_path / "key")))
    (tmp_path / "signers").write_text("\n".join(signers.lines(tmp_path / "key.pub")) + "\n")
    stride = "1" if build == "plain" else "23"  # sanitizers take their time
    done = subprocess.run(
        [program, path, tmp_path / "signers"],
        env={**os.environ, "STRIDE": stride}, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "not ok" not in done.stdout
