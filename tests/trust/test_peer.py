"""Both ways with the family's real program, Debian's apptainer: what one of the two signs is good to the other."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from signers import Person, check, descriptors, image

from singularity.image.sif import edit
from singularity.image.sif import format as sif
from singularity.image.sif.format import DataType
from singularity.trust.pem import PemSeal, by_key
from singularity.trust.pgp import PgpSeal
from singularity.trust.sign import sign
from singularity.trust.ssh import SshSeal

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.needs("apptainer", "openssl", "ssh-keygen")


class Peer:
    """The other program, with the key rings of a person of ours."""

    def __init__(self, person: Person, home: Path) -> None:
        self.home = home
        self.rings = person.home / ".singularity/keys"

    def types(self, *words: str | Path, stdin: str = "", status: int = 0) -> str:
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.home), "APPTAINER_KEYSDIR": str(self.rings)}
        argv = ["apptainer", *map(str, words)]
        done = subprocess.run(argv, env=environment, input=stdin, text=True, capture_output=True, check=False)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture
def peer(bob: Person, tmp_path: Path) -> Peer:
    (tmp_path / "home-of-the-peer").mkdir()
    return Peer(bob, tmp_path / "home-of-the-peer")


def test_it_knows_our_rings_and_signs_with_our_key(peer: Peer, bob: Person, tmp_path: Path) -> None:
    (key,) = bob.public.listed()
    assert key.fingerprint in peer.types("key", "list")
    assert key.fingerprint in peer.types("key", "list", "--secret")
    path = image(tmp_path / "theirs.sif")
    peer.types("sign", path, stdin="secret\n")
    (good,) = check(path, bob.checker)
    assert good.signer.fingerprint == key.fingerprint
    peer.types("verify", path)


def test_we_know_its_rings_and_sign_with_its_key(tmp_path: Path, bob: Person) -> None:
    person = Person(tmp_path)
    other = Peer(person, tmp_path)
    words = ["-N", "Theirs", "-E", "t@example.org", "-C", "", "-P", "word", "-b", "2048", "-U=false"]
    other.types("key", "newpair", *words)
    assert [key.user for key in person.secret.listed()] == ["Theirs <t@example.org>"]
    path = image(tmp_path / "ours.sif")
    person.types("sign", path, stdin="word\n")
    person.types("verify", "--local", path)
    other.types("verify", path)
    assert "unknown entity" in Peer(bob, tmp_path).types("verify", "--local", path, status=255)


def test_its_output_is_ours(peer: Peer, bob: Person, tmp_path: Path) -> None:
    path = image(tmp_path / "image.sif")
    peer.types("sign", path, stdin="secret\n")
    theirs, ours = peer.types("verify", path), bob.types("verify", path)
    assert theirs == ours.stdout + ours.stderr
    theirs, ours = peer.types("verify", "--json", path), bob.types("verify", "--json", path)
    assert theirs.replace("\\u003c", "<").replace("\\u003e", ">") == ours.stdout + ours.stderr


@pytest.mark.parametrize("words", [["RSA", "rsa_keygen_bits:2048"], ["EC", "ec_paramgen_curve:P-256"], ["ed25519"]])
def test_keys_in_pem(words: list[str], peer: Peer, tmp_path: Path) -> None:
    private, public = tmp_path / "pem", tmp_path / "pub"
    options = [each for word in words[1:] for each in ("-pkeyopt", word)]
    subprocess.run(
        ["openssl", "genpkey", "-algorithm", words[0], *options, "-out", private], check=True, capture_output=True
    )
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True)
    theirs, ours = image(tmp_path / "theirs.sif"), image(tmp_path / "ours.sif")
    peer.types("sign", "--key", private, theirs)
    assert check(theirs, by_key(public))
    sign(ours, PemSeal(private))
    peer.types("verify", "--key", public, ours)


def test_a_signature_of_ssh_is_no_hindrance(peer: Peer, bob: Person, tmp_path: Path) -> None:
    path = image(tmp_path / "image.sif")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    sign(path, SshSeal(str(tmp_path / "key")))
    bob.types("sign", path, stdin="secret\n")
    peer.types("verify", path)


def test_legacy_signatures(peer: Peer, alice: Person, tmp_path: Path) -> None:
    """It reads what we take for one."""
    path = image(tmp_path / "image.sif")
    seal = PgpSeal(alice.secret, None)
    with path.open("rb") as file:
        digest = hashlib.sha256(sif.read_object(file, sif.read(file).descriptors[2])).hexdigest()
    with edit.editing(path) as editor:
        extra = sif.signature_extra(1, seal.entity)
        text = seal.sign(f"SIFHASH:\n{digest}\n".encode())
        editor.add(edit.Addition(type=DataType.SIGNATURE, link=3, extra=extra), io.BytesIO(text))
    other = Peer(alice, peer.home)
    other.types("verify", "--legacy-insecure", path)
    other.types("verify", path, status=255)
    alice.types("verify", "--local", "--legacy-insecure", path)


def test_both_refuse_the_same(peer: Peer, bob: Person, tmp_path: Path) -> None:
    path = image(tmp_path / "image.sif")
    bob.types("sign", path, stdin="secret\n")
    data = path.read_bytes()
    for at in (33, 50, 4096 + 25, 4096 + 73, descriptors(path)[0].offset, descriptors(path)[2].offset, len(data) - 300):
        changed = bytearray(data)
        changed[at] ^= 1
        path.write_bytes(changed)
        bob.types("verify", "--local", path, status=255)
        if at != 33:  # a magic number that is none is told in another way
            peer.types("verify", "--local", path, status=255)


def test_keys_go_by_files(peer: Peer, bob: Person, tmp_path: Path) -> None:
    third = Peer(Person(tmp_path / "third"), peer.home)
    third.rings.mkdir(parents=True)
    third.rings.chmod(0o700)
    bob.types("key", "export", "--armor", "--secret", tmp_path / "secret")
    third.types("key", "import", tmp_path / "secret", stdin="secret\n")
    (key,) = bob.public.listed()
    assert key.fingerprint in third.types("key", "list")
    path = image(tmp_path / "image.sif")
    third.types("sign", path, stdin="secret\n")
    assert check(path, bob.checker)
