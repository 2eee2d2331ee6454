"""What docs/registries.md says can be typed and written."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import ssl
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import servers
from pulls import client
from servers import PASSWORD, USER, Certificates, Fault

from singularity.errors import NetworkError
from singularity.registry import mirrors
from singularity.registry.access import Access
from singularity.registry.reference import parse

if TYPE_CHECKING:
    from servers import Registry

GUIDE = (Path(__file__).resolve().parents[2] / "docs/registries.md").read_text()
pytestmark = pytest.mark.usefixtures("no_proxy")


def section(heading: str) -> str:
    return GUIDE.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def blocks(text: str, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_names_mean_what_the_guide_says() -> None:
    rows = re.findall(r"^\| `([^`]*)` \| `([^`]*)` \|$", GUIDE, re.MULTILINE)
    assert len(rows) >= 3
    for written, meant in rows:
        assert str(parse(written)) == meant


def test_logging_in_as_the_guide_says(basic_registry: Registry, tmp_path: Path, private_home: Path) -> None:
    """At registries of the tests, and without a terminal."""
    (block,) = blocks(section("Logging in"), "sh")
    program = tmp_path / "bin/singularity"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -I -m singularity "$@"\n')
    program.chmod(0o755)
    (tmp_path / "token").write_text(f"{PASSWORD}\n")
    variables = {"SINGULARITY_NOHTTPS": "1", "PATH": f"{program.parent}:{os.environ['PATH']}"}
    lines = [line.replace("ghcr.io", basic_registry.host) for line in block.splitlines()]
    lines = [
        line.replace("docker://docker.io", basic_registry.host.replace("localhost", "127.0.0.1")) for line in lines
    ]
    for number, line in enumerate(lines):
        asked = {"SINGULARITY_LOGIN_USERNAME": USER, "SINGULARITY_LOGIN_PASSWORD": PASSWORD} if number == 0 else {}
        done = subprocess.run(
            ["sh", "-c", line], cwd=tmp_path, env={**os.environ, **variables, **asked}, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert len(lines) == 4
    kept = (private_home / ".singularity/docker-config.json").read_text()
    assert "127.0.0.1" in kept
    assert "localhost" not in kept


def test_an_authority_without_key_usage_is_issued_anew_as_the_guide_says(
    tmp_path: Path, private_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many sites have one. Python 3.13 and newer refuse it; here every Python does."""
    place = tmp_path / "site"
    certificates = Certificates.make(place, usage=False)
    as_usual = ssl.create_default_context

    def strictly() -> ssl.SSLContext:
        context = as_usual()
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", strictly)
    (block,) = blocks(section("https, and certificates"), "sh")
    with servers.front("", certificates) as front:
        front.faults.append(Fault(status=200, times=99))
        trusted = private_home / ".singularity/certs.d" / front.host
        trusted.mkdir(parents=True)
        shutil.copy(certificates.authority, trusted)
        wanted = r"not trusted: .* key usage extension \(the authority must issue it anew.*registries.md: certificates"
        with pytest.raises(NetworkError, match=wanted):
            client(front.host, Access()).ping()
        subprocess.run(["sh", "-ec", block], cwd=place, capture_output=True, check=True)
        shutil.copy(place / "ca-new.crt", trusted / "ca.crt")
        client(front.host, Access()).ping()


def test_the_mirrors_of_the_guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = blocks(section("Mirrors"), "toml")
    assert tomllib.loads(block)
    path = tmp_path / "registries.conf"
    path.write_text(block)
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(path))
    found = mirrors.for_reference(parse("debian"), no_https=False)
    assert [str(each) for each in found] == ["mirror.example:5000/hub/library/debian", "docker.io/library/debian"]
