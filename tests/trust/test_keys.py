"""Keys: rings as the family keeps them, and key servers."""

from __future__ import annotations

import json
import os
import stat
from typing import TYPE_CHECKING

import pytest
from key_server import guarded, sks
from signers import Person, check, gpg_key

from singularity.errors import FileError, SignatureError, UsageError
from singularity.trust import keyring, openpgp
from singularity.trust.keyring import Ring
from singularity.trust.pgp import PgpChecker, PgpSeal
from singularity.trust.sign import sign

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def carol(tmp_path: Path) -> Person:
    """Has no keys."""
    (tmp_path / "carol").mkdir()
    return Person(tmp_path / "carol")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with sks(tmp_path_factory.mktemp("sks")) as url:
        yield url


def test_a_new_key_is_in_both_rings_and_nobody_else_reads_them(bob: Person) -> None:
    (key,), (secret,) = bob.public.listed(), bob.secret.listed()
    assert key.fingerprint == secret.fingerprint
    assert (key.user, key.bits, key.algorithm) == ("Bob (tests) <bob@example.org>", 2048, "1")
    for ring in (bob.public, bob.secret):
        assert stat.S_IMODE(ring.path.stat().st_mode) == 0o600
        assert stat.S_IMODE(ring.path.parent.stat().st_mode) == 0o700
    listed = bob.types("key", "list", "--secret").stdout
    assert listed == (
        f"Private key listing ({bob.secret.path}):\n\n"
        "0)  User:              Bob (tests) <bob@example.org>\n"
        f"    Creation time:     {key.created_at}\n"
        f"    Fingerprint:       {key.fingerprint}\n"
        "    Length (in bits):  2048\n\n"
    )


def test_a_key_is_made_by_answers(carol: Person) -> None:
    carol.types("key", "newpair", "-b", "2048", stdin="Carol\ncarol@example.org\n\nword\n")
    assert [key.user for key in carol.secret.listed()] == ["Carol <carol@example.org>"]
    assert "unlocked" not in carol.types("key", "list").stdout
    assert carol.types("key", "newpair", "-b", "1024", "-N", "x", "-E", "x@x.org", status=1)
    assert "no name for a key" in carol.types("key", "newpair", "-N", "a<b", "-E", "x@x.org", status=1).stderr


@pytest.mark.parametrize("armor", [True, False])
def test_keys_go_from_one_person_to_another(armor: bool, bob: Person, carol: Person, tmp_path: Path) -> None:
    more = ["--armor"] if armor else []
    public, secret = tmp_path / "public", tmp_path / "secret"
    bob.types("key", "export", *more, public)
    bob.types("key", "export", *more, "--secret", secret)
    assert public.read_bytes().startswith(b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n") is armor
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    (key,) = bob.public.listed()
    done = carol.types("key", "import", public)
    assert done.stdout == f"Key with fingerprint {key.fingerprint} successfully added to the public keyring\n"
    assert carol.public.listed() == bob.public.listed()
    assert not carol.secret.listed()
    carol.types("key", "import", secret)
    assert carol.secret.blocks() == bob.secret.blocks()
    assert "exists" in bob.types("key", "export", public, status=255).stderr


def test_a_key_gets_another_passphrase_on_the_way(bob: Person, carol: Person, fresh: Callable[[str], Path]) -> None:
    path = carol.home / "secret"
    bob.types("key", "export", "--secret", path)
    carol.types("key", "import", "--new-password", path, stdin="secret\nother\n")
    carol.types("sign", fresh("image.sif"), stdin="secret\n", status=255)
    carol.types("sign", fresh("image.sif"), stdin="other\n")
    assert carol.public.listed() == bob.public.listed()


def test_removed_keys_do_not_count_any_more(alice: Person, bob: Person, carol: Person, signed: Path) -> None:
    for person in (alice, bob):
        carol.public.add(person.public.blocks()[0])
    assert check(signed, carol.checker)
    (key,) = alice.public.listed()
    assert "no key" in carol.types("key", "remove", "0" * 40, status=1).stderr
    assert "no fingerprint" in carol.types("key", "remove", "alice", status=1).stderr
    carol.types("key", "remove", key.fingerprint.lower())
    assert carol.public.listed() == bob.public.listed()
    with pytest.raises(SignatureError, match="in no ring"):
        check(signed, carol.checker)


def test_a_ring_that_others_can_write_to_is_refused(alice: Person, tmp_path: Path, signed: Path) -> None:
    ring = Ring(tmp_path / "ring")
    ring.add(alice.public.blocks()[0])
    ring.path.chmod(0o660)
    with pytest.raises(FileError, match="others may write"):
        check(signed, PgpChecker((ring,)))
    ring.path.chmod(0o600)
    assert check(signed, PgpChecker((ring,)))
    if os.geteuid() == 0:
        os.chown(ring.path, 1000, -1)
        with pytest.raises(FileError, match="others may write"):
            check(signed, PgpChecker((ring,)))


@pytest.mark.parametrize("data", [b"x", b"\xc6", b"\x99\x01\x0dxx", b"\xb0\x02ab", b"\xc6\xe0ab"])
def test_a_damaged_ring_is_an_error(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "ring").write_bytes(data)
    with pytest.raises(SignatureError):
        Ring(tmp_path / "ring").listed()


def test_several_secret_keys_have_to_be_told_apart(alice: Person, tmp_path: Path, fresh: Callable[[str], Path]) -> None:
    ring = Ring(tmp_path / "secret")
    ring.add(alice.secret.blocks()[0])
    ring.add(gpg_key("ed25519", "Second <s@example.org>")[1])
    with pytest.raises(UsageError, match="2 secret keys"):
        PgpSeal(ring, None)
    with pytest.raises(UsageError, match="no such key"):
        PgpSeal(ring, 2)
    sign(fresh("image.sif"), PgpSeal(ring, 0))
    assert PgpSeal(ring, 1).key.user == "Second <s@example.org>"
    with pytest.raises(SignatureError, match="newpair"):
        PgpSeal(Ring(tmp_path / "empty"), None)


def test_keys_of_the_site_count(alice: Person, signed: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("singularity.paths.site_directory", lambda: tmp_path)
    ring = keyring.site()
    ring.add(alice.public.blocks()[0])
    assert stat.S_IMODE(ring.path.stat().st_mode) == 0o644
    assert check(signed, PgpChecker((ring,)))


# ---- key servers -----------------------------------------------------------------------------------------------------
def test_a_key_goes_by_a_server(alice: Person, carol: Person, server: str, signed: Path) -> None:
    (key,) = alice.public.listed()
    missing = carol.types("verify", "--url", server, signed, status=255)
    assert "no key server knows this key" in missing.stderr
    alice.types("key", "push", "--url", server, key.fingerprint)
    found = carol.types("key", "search", "--url", server, "alice@example.org").stdout
    assert found.splitlines()[0] == "Showing 1 results"
    assert "Alice <alice@example.org>" in found
    remote = carol.types("verify", "--url", server, signed)
    assert remote.stdout.startswith("[REMOTE]           Signing entity: Alice")
    assert "nobody here has said whose it is" in remote.stderr
    signer = json.loads(carol.types("verify", "--json", "--url", server, signed).stdout)["SignerKeys"][0]["Signer"]
    assert (signer["KeyLocal"], signer["KeyCheck"]) == (False, True)
    assert not carol.public.listed()
    carol.types("verify", "--local", "--url", server, signed, status=255)
    carol.types("key", "pull", "--url", server, key.fingerprint)
    assert carol.types("verify", "--local", signed).stdout.startswith("[LOCAL]")


def test_a_new_key_is_pushed(carol: Person, server: str) -> None:
    words = ["-N", "Carol", "-E", "carol@example.org", "-b", "2048", "--push", "--url", server]
    carol.types("key", "newpair", *words, stdin="word\n")
    (key,) = carol.public.listed()
    assert key.fingerprint in carol.types("key", "search", "-l", "--url", server, key.fingerprint).stdout


def test_servers_are_listed_and_asked_in_their_order(alice: Person, carol: Person, server: str) -> None:
    (key,) = alice.public.listed()
    alice.types("key", "push", "--url", server, key.fingerprint)
    assert "1  https://keys.openpgp.org" in carol.types("keyserver", "list").stdout
    assert "--insecure" in carol.types("keyserver", "add", server, status=1).stderr
    carol.types("keyserver", "add", "--insecure", "--order", "1", server)
    carol.types("keyserver", "remove", "https://keys.openpgp.org")
    listed = carol.types("keyserver", "list").stdout.splitlines()
    assert listed[1].split() == ["1", server, "no", "no"]
    assert len(listed) == 2
    carol.types("key", "pull", key.fingerprint)
    carol.types("keyserver", "add", server, status=1)
    carol.types("keyserver", "remove", "https://keys.openpgp.org", status=1)


def test_a_server_gets_the_login_that_there_is_for_it(alice: Person, carol: Person, server: str) -> None:
    (key,) = alice.public.listed()
    alice.types("key", "push", "--url", server, key.fingerprint)
    with guarded(server, "carol", "rabbit: hole") as url:
        refused = carol.types("key", "pull", "--url", url, key.fingerprint, status=255)
        assert "status 401" in refused.stderr
        carol.types("keyserver", "add", "--insecure", "--order", "1", url)
        carol.types("keyserver", "login", "-u", "carol", url, stdin="wrong\n", status=255)
        carol.types("keyserver", "login", "-u", "carol", url, stdin="rabbit: hole\n")
        kept = carol.home / ".singularity/keyservers.json"
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        assert "yes" in carol.types("keyserver", "list").stdout.splitlines()[1]
        carol.types("key", "pull", key.fingerprint)
        carol.types("keyserver", "logout", url)
        carol.types("keyserver", "remove", "https://keys.openpgp.org")
        carol.types("key", "pull", key.fingerprint, status=255)
        kept.chmod(0o644)
        assert "others may read it" in carol.types("keyserver", "list", status=255).stderr


def test_a_server_that_gives_another_key_is_not_believed(
    alice: Person, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    from singularity.trust import keyserver

    text = openpgp.armored(bob.public.blocks()[0] + alice.public.blocks()[0], secret=False)
    monkeypatch.setattr(keyserver, "_first", lambda *_: text)
    (wanted,) = alice.public.listed()
    assert keyserver.fetch(wanted.fingerprint, []) == alice.public.blocks()[0]
    with pytest.raises(SignatureError, match="no key server knows"):
        keyserver.fetch("0" * 40, [])
