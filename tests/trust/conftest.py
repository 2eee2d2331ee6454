"""People with keys of OpenPGP, made once for all tests."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import machine
import pytest
from signers import Person, gpg_key, image

from singularity.trust.pgp import PgpSeal
from singularity.trust.sign import sign

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(scope="session")
def alice(tmp_path_factory: pytest.TempPathFactory) -> Person:
    """Has a key of Ed25519 without a passphrase."""
    machine.require("gpg")
    person = Person(tmp_path_factory.mktemp("alice"))
    public, secret = gpg_key("ed25519", "Alice <alice@example.org>")
    person.public.add(public)
    person.secret.add(secret)
    return person


@pytest.fixture(scope="session")
def bob(tmp_path_factory: pytest.TempPathFactory) -> Person:
    """The same, of RSA, locked by the word `secret`."""
    machine.require("gpg")
    person = Person(tmp_path_factory.mktemp("bob"))
    person.types(
        "key", "newpair", "--name", "Bob", "--email", "bob@example.org", "--comment", "tests", "--bit-length", "2048",
        stdin="secret\n",
    )  # fmt: skip
    return person


@pytest.fixture(scope="session")
def signed_once(alice: Person, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = image(tmp_path_factory.mktemp("signed") / "image.sif")
    assert sign(path, PgpSeal(alice.secret, None)) == 1
    return path


@pytest.fixture
def signed(signed_once: Path, tmp_path: Path) -> Path:
    """A small image that Alice has signed."""
    return Path(shutil.copy(signed_once, tmp_path / "image.sif"))


@pytest.fixture
def fresh(tmp_path: Path) -> Callable[[str], Path]:
    """Makes unsigned images by name."""
    return lambda name: image(tmp_path / name)
