"""What docs/signing.md says can be typed, typed: in its order, in one directory, with a key server on loopback."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import machine
from key_server import sks
from signers import Person, image

GUIDE = (Path(__file__).resolve().parents[2] / "docs/signing.md").read_text()
FINGERPRINT = "6E0B23AC2796A947269B299936EF72906FF159CC"
SETTING = """
openssl ecparam -name prime256v1 -genkey -noout -out private.pem
openssl req -x509 -newkey ed25519 -nodes -keyout /dev/null -out roots.pem -subj /CN=other
openssl req -x509 -key private.pem -out leaf.pem -subj /CN=leaf -days 2 \
    -addext keyUsage=digitalSignature -addext extendedKeyUsage=codeSigning 2>&1
cp leaf.pem roots.pem; cp leaf.pem chain.pem
mkdir -p ~/.ssh; ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519; cp ~/.ssh/id_ed25519.pub alice.pub
mkdir -p sandbox/bin; echo >sandbox/bin/true; echo hsqs >tool.sqfs
"""


def lines() -> list[str]:
    return [
        line
        for block in re.findall(r"^```sh\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
        for line in block.splitlines()
    ]


def test_the_guide_can_be_typed(tmp_path: Path, alice: Person, bob: Person) -> None:
    machine.require("sks", "openssl", "ssh-keygen", "mksquashfs", "root")
    home, work = tmp_path / "home", tmp_path / "work"
    for place in (home, work, tmp_path / "bin"):
        place.mkdir(mode=0o700)
    program = tmp_path / "bin/singularity"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -I -m singularity "$@"\n')
    program.chmod(0o755)
    environment = {"PATH": f"{program.parent}:{os.environ['PATH']}", "HOME": str(home)}
    bob.types("key", "export", "--armor", work / "bob.asc")
    (theirs,) = bob.public.listed()

    def types(line: str, status: int = 0) -> None:
        done = subprocess.run(
            ["bash", "-c", line], cwd=work, env=environment, input="word\n", capture_output=True, text=True, check=False
        )
        assert done.returncode == status, f"{line}\n{done.stdout}{done.stderr}"

    image(work / "tool.sif")
    with sks(tmp_path / "sks") as server:
        types(SETTING)
        (work / "tool.def").write_text("Bootstrap: scratch\n")
        alice_key = alice.public.listed()[0].fingerprint
        alice.types("key", "push", "--url", server, alice_key)
        bob.types("key", "push", "--url", server, theirs.fingerprint)
        types(
            f"singularity keyserver add --insecure --order 1 {server}; singularity keyserver remove https://keys.openpgp.org"
        )
        for line in lines():
            if "keyserver add" in line:  # the last of its block, and of a server that there is not
                types(line)
                types("singularity keyserver remove https://keys.example.org")
                continue
            if line.startswith(("singularity sign", "singularity build")) and ".sif" in line:
                (work / "tool.sif").unlink()
                if line.startswith("singularity sign"):
                    image(work / "tool.sif")
            types(line.replace(FINGERPRINT, theirs.fingerprint))
