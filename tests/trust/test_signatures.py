"""Signatures of OpenPGP over SIF files: who signs, what is covered, and what is not taken for a signature."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import machine
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from signers import Person, check, descriptors, gpg_key, image

from singularity.errors import SignatureError, SingularityError
from singularity.image.sif import edit
from singularity.image.sif import format as sif
from singularity.image.sif.format import DataType
from singularity.trust import clearsign, openpgp, seals
from singularity.trust import signed as statements
from singularity.trust.keyring import Ring
from singularity.trust.pgp import PgpChecker, PgpSeal
from singularity.trust.seals import Kind, Sealed, Signer
from singularity.trust.sign import sign

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

STRIDE = 1 if os.environ.get("EXHAUSTIVE") else 13
WHOLE = {1, 2, 3}


@pytest.fixture(scope="module")
def real_image() -> Path:
    path = machine.FIXTURES / "busybox-signed.sif"
    if not path.exists():
        pytest.skip("no ../shared/fixtures beside the checkout")
    return path


def test_a_signature_of_the_other_program_is_good(real_image: Path, tmp_path: Path) -> None:
    ring = Ring(tmp_path / "ring")
    ring.add(openpgp.dearmored((machine.FIXTURES / "fixture-public-key.asc").read_bytes()))
    (good,) = check(real_image, PgpChecker((ring,)))
    assert good.signer.fingerprint == "6E0B23AC2796A947269B299936EF72906FF159CC"
    assert good.signer.name == "Fixture Key (test only) <fixture@example.org>"
    assert {each.id for each in good.objects} == WHOLE


def test_what_is_signed_is_what_the_other_program_signs(real_image: Path) -> None:
    with real_image.open("rb") as file:
        source = statements.Source(file)
        (signature,) = (each for each in source.content.descriptors if each.type == DataType.SIGNATURE)
        document = seals.opened(sif.read_object(file, signature)).document
        assert source.statement(1, source.groups[1]).encode() == document
        assert statements.decode(document).encode() == document


def test_verify_prints_who_has_signed_what(alice: Person, signed: Path) -> None:
    (key,) = alice.public.listed()
    done = alice.types("verify", "--local", signed)
    assert done.stdout == (
        f"[LOCAL]            Signing entity: Alice <alice@example.org>\n"
        f"[LOCAL]            Fingerprint: {key.fingerprint}\n"
        "Objects verified:\n"
        "ID  |GROUP   |LINK    |TYPE\n"
        "------------------------------------------------\n"
        "1   |1       |NONE    |Def.FILE\n"
        "2   |1       |NONE    |JSON.Generic\n"
        "3   |1       |NONE    |FS\n"
    )
    assert f"Verified signature(s) from image '{signed}'" in done.stderr


def test_verify_prints_json(alice: Person, signed: Path, fresh: Callable[[str], Path]) -> None:
    (key,) = alice.public.listed()
    found = json.loads(alice.types("verify", "--local", "--json", signed).stdout)
    assert found["Signatures"] == 1
    assert found["SignerKeys"][2] == {
        "Signer": {
            "Partition": "FS",
            "Name": "Alice <alice@example.org>",
            "Fingerprint": key.fingerprint.lower(),
            "KeyLocal": True,
            "KeyCheck": True,
            "DataCheck": True,
        }
    }
    failed = alice.types("verify", "--local", "--json", fresh("unsigned.sif"), status=255)
    assert json.loads(failed.stdout) == {"Signatures": 0, "SignerKeys": None}
    assert "FATAL:   Failed to verify container: " in failed.stderr
    assert "signature not found for object group 1" in failed.stderr
    data = bytearray(signed.read_bytes())
    data[descriptors(signed)[2].offset] ^= 1
    signed.write_bytes(data)
    failed = alice.types("verify", "--local", "--json", signed, status=255)
    assert json.loads(failed.stdout) == {"Signatures": 1, "SignerKeys": None}


def test_a_locked_key_signs_with_its_passphrase_only(bob: Person, fresh: Callable[[str], Path]) -> None:
    path = fresh("image.sif")
    before = path.read_bytes()
    failed = bob.types("sign", path, stdin="wrong\n", status=255)
    assert failed.stderr.splitlines()[-1] == "FATAL:   the passphrase is wrong"
    assert "nobody to ask" in bob.types("sign", path, status=1).stderr
    assert path.read_bytes() == before
    bob.types("sign", path, stdin="secret\n")
    assert "Bob (tests) <bob@example.org>" in bob.types("verify", "--local", path).stdout


def test_passphrases_are_seen_by_nobody(bob: Person, fresh: Callable[[str], Path], tmp_path: Path) -> None:
    """Every program that is started, with all its words and variables."""
    machine.require("strace")
    trace = tmp_path / "trace"
    words = ["strace", "-f", "-v", "-s", "4000", "-e", "trace=execve", "-o", str(trace)]
    environment = {"PATH": os.environ["PATH"], "HOME": str(bob.home)}
    subprocess.run(
        [*words, sys.executable, "-m", "singularity", "sign", str(fresh("image.sif"))],
        input="secret\n", env=environment, text=True, check=True, cwd=bob.home, capture_output=True,
    )  # fmt: skip
    assert "--clearsign" in trace.read_text()
    assert "secret\\n" not in trace.read_text()
    assert '"secret' not in trace.read_text().replace('"pgp-secret', "")


def test_nothing_runs_on_after_a_signature(bob: Person, fresh: Callable[[str], Path]) -> None:
    machine.adopt_orphans()
    before = machine.children()
    bob.types("sign", fresh("image.sif"), stdin="secret\n")
    deadline = time.monotonic() + 10
    while (left := machine.children() - before) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert [machine.command_of(each) for each in left] == []


def test_every_group_is_signed(alice: Person, fresh: Callable[[str], Path]) -> None:
    path = fresh("image.sif")
    with edit.editing(path) as editor:
        editor.add(edit.Addition(type=DataType.GENERIC, group=7), io.BytesIO(b"more"))
    assert sign(path, PgpSeal(alice.secret, None)) == 2
    found = check(path, alice.checker)
    assert [{one.id for one in each.objects} for each in found] == [WHOLE, {4}]
    (only,) = check(path, alice.checker, group=7)
    assert only.objects[0].id == 4
    with pytest.raises(SignatureError, match="there is no group 3"):
        check(path, alice.checker, group=3)


def test_one_object_can_be_signed_and_verified(alice: Person, fresh: Callable[[str], Path]) -> None:
    path = fresh("image.sif")
    sign(path, PgpSeal(alice.secret, None), number=2)
    (good,) = check(path, alice.checker, object=2)
    assert [each.id for each in good.objects] == [2]
    with pytest.raises(SignatureError, match="not found for object 3"):
        check(path, alice.checker, object=3)
    with pytest.raises(SignatureError, match="object 1 is not signed; object 3 is not signed"):
        check(path, alice.checker)


def test_a_key_that_nobody_has_taken_does_not_count(alice: Person, bob: Person, signed: Path, tmp_path: Path) -> None:
    with pytest.raises(SignatureError, match="in no ring here"):
        check(signed, bob.checker)
    with pytest.raises(SignatureError, match="in no ring here"):
        check(signed, PgpChecker((Ring(tmp_path / "nowhere"),)))
    both = PgpChecker((bob.public, alice.public))
    assert len(check(signed, both)) == 1
    with pytest.raises(SignatureError, match="does not count here"):
        check(signed, replace(both, allowed=frozenset({bob.public.listed()[0].fingerprint})))


def test_each_signature_of_a_group_must_be_good(alice: Person, bob: Person, signed: Path) -> None:
    bob.types("sign", signed, stdin="secret\n")
    with pytest.raises(SignatureError, match="signature object 5 not valid"):
        check(signed, alice.checker)
    found = check(signed, PgpChecker((alice.public, bob.public)))
    assert [each.signer.name[:3] for each in found] == ["Ali", "Bob"]


# ---- what signatures cover -------------------------------------------------------------------------------------------
class Remembering:
    """Alice's checker, which asks GnuPG once for each signature: most of what follows leaves it alone."""

    kind = Kind.OPENPGP

    def __init__(self, checker: PgpChecker) -> None:
        self._checker = checker
        self._known: dict[tuple[bytes, bytes, bytes], Signer] = {}

    def check(self, sealed: Sealed, entity: bytes) -> Signer:
        key = (sealed.document, sealed.signature, entity)
        if key not in self._known:
            self._known[key] = self._checker.check(sealed, entity)
        return self._known[key]


# Fields that no signature of the family covers and that nothing reads: descriptors say what is where in the file.
HEADER = [(64, 88), (112, 128)]  # times, free entries; where data begins, and how much there is
DESCRIPTOR = [(33, 41), (49, 57)]  # size with padding, time of change
SIGNATURE = [(5, 9), (41, 201)]  # of the descriptor of a signature besides: its id, times, owner, name


def is_irrelevant(path: Path, at: int) -> bool:
    """Whether a byte is one that nobody reads."""
    objects = descriptors(path)
    if at < 128:
        return any(start <= at < end for start, end in HEADER)
    row, place = divmod(at - 4096, 585)
    if 0 <= row < len(objects) and at >= 4096:
        fields = DESCRIPTOR + (SIGNATURE if objects[row].type == DataType.SIGNATURE else [])
        return any(start <= place < end for start, end in fields)
    if 4096 <= at < 4096 + 48 * 585:
        return place != 4  # of an unused entry, all but the byte that says so
    return not any(each.offset <= at < each.end for each in objects)


def flips(at: int) -> list[int]:
    """Bits to turn in the byte at this place."""
    return list(range(8)) if STRIDE == 1 else [at % 8]


def test_every_byte_that_counts_is_covered(alice: Person, signed: Path) -> None:
    """Header, table, objects and signature: no bit of them can change. The rest is listed above, and in the docs."""
    checker = Remembering(alice.checker)
    assert len(check(signed, checker)) == 1
    data = signed.read_bytes()
    (signature,) = (each for each in descriptors(signed) if each.type == DataType.SIGNATURE)
    places = [*range(128), *range(4096, 4096 + 5 * 585)]  # four are used
    for each in descriptors(signed):
        places += range(each.offset, each.end)
    places = [at for at in places if (at < 200 or at % STRIDE == 0) and not is_irrelevant(signed, at)]
    wrong = []
    for at in places:
        for bit in flips(at):
            changed = bytearray(data)
            changed[at] ^= 1 << bit
            signed.write_bytes(changed)
            try:
                check(signed, checker)
            except SingularityError:
                continue
            wrong.append((at, at - signature.offset, bit))
    assert wrong == []


def test_bytes_that_do_not_count_may_change(alice: Person, signed: Path) -> None:
    """The other side of the list: nothing in it is covered by chance."""
    checker = Remembering(alice.checker)
    data = signed.read_bytes()
    for start, end, base in [(*HEADER[0], 0), (*HEADER[1], 0), (*DESCRIPTOR[0], 4096), (*DESCRIPTOR[1], 4096)]:
        changed = bytearray(data)
        changed[base + start : base + end] = bytes(each ^ 1 for each in data[base + start : base + end])
        signed.write_bytes(changed)
        assert len(check(signed, checker)) == 1, (start, end)


@settings(max_examples=60)
@given(st.data())
def test_no_change_of_several_bytes_is_overlooked(signed_once: Path, alice: Person, data: st.DataObject) -> None:
    original = signed_once.read_bytes()
    objects = descriptors(signed_once)
    changed = bytearray(original)
    for _ in range(data.draw(st.integers(1, 4))):
        each = data.draw(st.sampled_from(objects[:3]))
        at = data.draw(st.integers(each.offset, each.end - 1))
        changed[at] = data.draw(st.integers(0, 255))
    path = signed_once.with_name("changed.sif")
    path.write_bytes(changed)
    if changed == original:
        assert check(path, alice.checker)
    else:
        with pytest.raises(SignatureError):
            check(path, alice.checker)


def rewritten(path: Path, change: Callable[[list[sif.Descriptor]], list[sif.Descriptor]]) -> None:
    """Gives the table of an image other descriptors."""
    changed = change(list(descriptors(path)))
    data = bytearray(path.read_bytes())
    table = b"".join(map(sif.encode_descriptor, changed)).ljust(48 * 585, b"\0")
    data[4096 : 4096 + len(table)] = table
    path.write_bytes(data)


TABLES: dict[str, Callable[[list[sif.Descriptor]], list[sif.Descriptor]]] = {
    "an object goes": lambda all_: all_[1:],
    "another object goes": lambda a: [a[0], *a[2:]],
    "the signature goes": lambda all_: all_[:3],
    "two objects change places": lambda a: [a[0]._replace(offset=a[1].offset, size=a[1].size),
                                            a[1]._replace(offset=a[0].offset, size=a[0].size), *a[2:]],
    "two objects change ids": lambda a: [a[0]._replace(id=2), a[1]._replace(id=1), *a[2:]],
    "one object twice": lambda a: [*a, a[2]._replace(id=5, type=DataType.GENERIC, size=0)],
    "one object twice, with its id": lambda a: [*a, a[1]._replace(size=0)],
    "one object over another": lambda a: [a[0], a[1]._replace(offset=a[0].offset), *a[2:]],
    "an object in no group": lambda a: [a[0]._replace(group=0), *a[1:]],
    "an object in a group of its own": lambda a: [*a[:2], a[2]._replace(group=2), a[3]],
    "an object linked to another": lambda a: [a[0]._replace(link=3), *a[1:]],
    "a partition that is not the primary one": lambda a: [
        *a[:2], a[2]._replace(extra=sif.partition_extra(1, sif.PartitionType.DATA, "amd64")), a[3]],
    "a partition of another architecture": lambda a: [
        *a[:2], a[2]._replace(extra=sif.partition_extra(1, sif.PartitionType.PRIMARY, "arm64")), a[3]],
    "the group has another number, the signature has not": lambda a: [
        *(each._replace(group=2) for each in a[:3]), a[3]],
    "a new object at the end": lambda a: [*a, a[1]._replace(id=5, size=0, name=b"x")],
    "a new object in another group": lambda a: [*a, a[1]._replace(id=5, size=0, name=b"x", group=2)],
    "a signature in a group": lambda a: [*a[:3], a[3]._replace(group=1)],
    "a signature of another key": lambda a: [*a[:3], a[3]._replace(extra=sif.signature_extra(1, b"k" * 20))],
    "a signature of another hash": lambda a: [
        *a[:3], a[3]._replace(extra=sif.signature_extra(2, a[3].extra[4:24]))],
    "a signature of no key": lambda a: [*a[:3], a[3]._replace(extra=sif.signature_extra(1, b""))],
    "a signature that is linked to nothing": lambda a: [*a[:3], a[3]._replace(link=0, links_group=False)],
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_was_changed_is_refused(name: str, alice: Person, signed: Path) -> None:
    rewritten(signed, lambda all_: all_)
    assert len(check(signed, alice.checker)) == 1
    rewritten(signed, TABLES[name])
    with pytest.raises(SignatureError):
        check(signed, alice.checker)


def test_an_object_in_no_group_is_seen_whatever_is_verified(alice: Person, signed: Path) -> None:
    rewritten(signed, lambda a: [*a, a[1]._replace(id=5, size=0, group=0)])
    for wanted in ({}, {"group": 1}, {"object": 2}):
        with pytest.raises(SignatureError, match="object 5 is in no group"):
            check(signed, alice.checker, **wanted)


def test_the_signature_of_another_image_is_refused(alice: Person, signed: Path, tmp_path: Path) -> None:
    other = image(tmp_path / "other.sif", b"Q" * 300)
    sign(other, PgpSeal(alice.secret, None))
    data, more = bytearray(signed.read_bytes()), other.read_bytes()
    place = descriptors(signed)[3]
    assert place.size == descriptors(other)[3].size
    data[place.offset : place.end] = more[place.offset : place.end]
    signed.write_bytes(data)
    with pytest.raises(SignatureError, match="object 3 is not the one that was signed"):
        check(signed, alice.checker)


def test_an_object_that_joins_a_signed_group_is_seen(alice: Person, signed: Path) -> None:
    with edit.editing(signed) as editor:
        editor.add(edit.Addition(type=DataType.GENERIC, group=1), io.BytesIO(b"more"))
    with pytest.raises(SignatureError, match="object 5 is not signed"):
        check(signed, alice.checker)


# ---- keys that do not count ------------------------------------------------------------------------------------------
def test_a_revoked_key_signs_nothing_any_more(fresh: Callable[[str], Path], tmp_path: Path) -> None:
    ring, keys = Ring(tmp_path / "ring"), Ring(tmp_path / "secret")
    with openpgp.home() as gpg:
        gpg.call(
            "--quick-generate-key", "R <r@example.org>", "ed25519", "sign,cert", "never", purpose="test", secret=""
        )
        keys.add(openpgp._exported(gpg, "--export-secret-keys", ""))
        ring.add(openpgp._exported(gpg, "--export", ""))
        (certificate,) = (gpg.path / "openpgp-revocs.d").glob("*.rev")
        certificate.write_text(certificate.read_text().replace(":-----BEGIN", "-----BEGIN"))
        assert gpg.call("--import", certificate, purpose="test").status == 0
        revoked = openpgp._exported(gpg, "--export", "")
    path = fresh("image.sif")
    sign(path, PgpSeal(keys, None))
    assert check(path, PgpChecker((ring,)))
    site = Ring(tmp_path / "site")
    (unrevoked,) = ring.blocks()
    site.add(unrevoked)
    assert check(path, PgpChecker((ring, site)))
    site.add(revoked)
    for rings in ((ring, site), (site, ring)):
        with pytest.raises(SignatureError, match="a key that is revoked"):
            check(path, PgpChecker(rings))
    assert ring.add(revoked)[0][1] is False
    assert ring.add(unrevoked)[0][1] is False
    assert ring.listed()[0].refused == "revoked"
    with pytest.raises(SignatureError, match="a key that is revoked"):
        check(path, PgpChecker((ring,)))


def test_an_expired_key_signs_nothing_any_more(fresh: Callable[[str], Path], tmp_path: Path) -> None:
    with openpgp.home() as gpg:
        made = gpg.call(
            "--faked-system-time", "20200101T000000", "--quick-generate-key", "Old <o@example.org>", "ed25519",
            "sign,cert", "2d", purpose="test", secret="",
        )  # fmt: skip
        assert made.status == 0, made.complaints
        public, secret = (openpgp._exported(gpg, what, "") for what in ("--export", "--export-secret-keys"))
        (gpg.path / "text").write_bytes(b"{}")
        gpg.call("--faked-system-time", "20200101T010000", "--output", gpg.path / "signed", "--clearsign",
                 gpg.path / "text", purpose="test", secret="")  # fmt: skip
        message = clearsign.decode((gpg.path / "signed").read_bytes())
    ring, keys = Ring(tmp_path / "ring"), Ring(tmp_path / "secret")
    ring.add(public)
    keys.add(secret)
    with pytest.raises(SignatureError, match="has expired"):
        openpgp.verify(message.text, message.signature, [ring.path])
    with pytest.raises(SignatureError, match="expired signs nothing"):
        sign(fresh("image.sif"), PgpSeal(keys, None))


@pytest.mark.parametrize(
    ("algorithm", "digest", "why"), [("rsa1024", "SHA256", "weak key of 1024"), ("rsa2048", "SHA1", "")]
)
def test_weak_keys_and_hashes_prove_nothing(algorithm: str, digest: str, why: str, tmp_path: Path) -> None:
    with openpgp.home() as gpg:
        made = gpg.call(
            "--quick-generate-key", "W <w@example.org>", algorithm, "sign,cert", "never", purpose="t", secret=""
        )
        if made.status != 0:
            pytest.skip(f"gpg makes no {algorithm}")
        public = openpgp._exported(gpg, "--export", "")
        (gpg.path / "text").write_bytes(b"{}")
        words = [
            "--digest-algo",
            digest,
            "--textmode",
            "--output",
            gpg.path / "sig",
            "--detach-sign",
            gpg.path / "text",
        ]
        assert gpg.call(*words, purpose="test", secret="").status == 0
        signature = (gpg.path / "sig").read_bytes()
    ring = Ring(tmp_path / "ring")
    ring.add(public)
    with pytest.raises(SignatureError, match=why or "weak hash|none that GnuPG"):
        openpgp.verify(b"{}", signature, [ring.path])


def test_two_signatures_in_one_message_are_refused(alice: Person, signed: Path) -> None:
    with signed.open("rb") as file:
        content = sif.read(file)
        message = clearsign.decode(sif.read_object(file, content.descriptors[3]))
    with pytest.raises(SignatureError):
        openpgp.verify(message.text, message.signature * 2, [alice.public.path])
    assert openpgp.verify(message.text, message.signature, [alice.public.path])


MESSAGES = {
    "text before": lambda m: b"x\n" + m,
    "text behind": lambda m: m + b"x\n",
    "a second message": lambda m: m + m,
    "another header": lambda m: m.replace(b"Hash: SHA256\n", b"Hash: SHA256\nX: y\n"),
    "a weak hash": lambda m: m.replace(b"Hash: SHA256\n", b"Hash: SHA1\n"),
    "blanks at the end of a line": lambda m: m.replace(b"}\n", b"} \n", 1),
    "a carriage return": lambda m: m.replace(b"}\n", b"}\r\n", 1),
    "a line more": lambda m: m.replace(b"}\n-----", b"}\n\n-----", 1),
    "dashes": lambda m: m.replace(b"}\n-----", b"}\n-x\n-----", 1),
    "armor in other lines": lambda m: m.replace(b"\n\n", b"\n\n\n", 2),
    "no ASCII": lambda m: m.replace(b"version", "versioñ".encode()),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_has_one_spelling(name: str, alice: Person, signed: Path) -> None:
    with signed.open("rb") as file:
        content = sif.read(file)
        data = sif.read_object(file, content.descriptors[3])
    changed = MESSAGES[name](data)
    assert changed != data
    with pytest.raises(SignatureError):
        alice.checker.check(seals.opened(changed), descriptors(signed)[3].extra[4:24])


HEX = b"a" * 64
OBJECT = b'{"relativeId":0,"descriptorDigest":"sha256:%b","objectDigest":"sha256:%b"}' % (HEX, HEX)
STATEMENT = b'{"version":1,"header":{"digest":"sha256:%b"},"objects":[%b]}' % (HEX, OBJECT)
DOCUMENTS = [
    b"",
    b"[]",
    b"{}",
    b"[" * 100_000,
    STATEMENT.replace(b'"version":1', b'"version":2'),
    STATEMENT.replace(b'"version":1', b'"version":1,"version":1'),
    STATEMENT.replace(OBJECT, b""),
    STATEMENT.replace(OBJECT, OBJECT + b"," + OBJECT),
    STATEMENT.replace(b'"sha256:', b'"sha1:'),
    STATEMENT.replace(b'"sha256:', b'"sha512:'),
    STATEMENT.replace(b'"relativeId":0', b'"relativeId":true'),
    STATEMENT.replace(b'"relativeId":0', b'"relativeId":-1'),
    STATEMENT.replace(b'"relativeId":0,', b""),
]


def test_a_statement_is_read() -> None:
    assert statements.decode(STATEMENT).encode() == STATEMENT
    more = STATEMENT.replace(b'"version":1', b'"version":1,"more":[]')  # of programs to come
    assert statements.decode(more) == statements.decode(STATEMENT)


@pytest.mark.parametrize("document", DOCUMENTS, ids=range(len(DOCUMENTS)))
def test_what_is_no_statement_is_refused(document: bytes) -> None:
    with pytest.raises(SignatureError):
        statements.decode(document)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_signature_or_refused(data: bytes) -> None:
    for head in (b"", b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n", b"{\n-----BEGIN SSH SIGNATURE-----\n"):
        try:
            seals.opened(head + data)
        except SignatureError:
            continue


# ---- signatures of before 2020 ---------------------------------------------------------------------------------------
def test_legacy_signatures_count_only_where_that_is_wanted(alice: Person, fresh: Callable[[str], Path]) -> None:
    path = fresh("image.sif")
    seal = PgpSeal(alice.secret, None)
    with path.open("rb") as file:
        content = sif.read(file)
        digest = hashlib.sha256(sif.read_object(file, content.descriptors[2])).hexdigest()
    text = seal.sign(f"SIFHASH:\n{digest}\n".encode())
    with edit.editing(path) as editor:
        extra = sif.signature_extra(1, seal.entity)
        editor.add(edit.Addition(type=DataType.SIGNATURE, link=3, extra=extra), io.BytesIO(text))
    with pytest.raises(SignatureError, match="not found for object group 1"):
        check(path, alice.checker)
    (good,) = check(path, alice.checker, legacy=True)
    assert [each.id for each in good.objects] == [3]
    with pytest.raises(SignatureError, match="not found for object 1, 2"):
        check(path, alice.checker, legacy=True, all_objects=True)
    data = bytearray(path.read_bytes())
    data[descriptors(path)[2].offset] ^= 1
    path.write_bytes(data)
    with pytest.raises(SignatureError, match="not what was signed"):
        check(path, alice.checker, legacy=True)


def test_a_file_that_answers_differently_each_time_is_read_once(alice: Person, signed: Path) -> None:
    """What is hashed for one signature is not read again for another."""
    sign(signed, PgpSeal(alice.secret, None))
    reads: list[int] = []

    class Watched(io.FileIO):
        def read(self, size: int = -1) -> bytes:
            reads.append(self.tell())
            return super().read(size)

    from singularity.trust.verify import Wanted, verify

    with Watched(signed) as file:
        assert len(verify(file, Wanted(), [alice.checker])) == 2  # type: ignore[arg-type]
    assert reads.count(descriptors(signed)[2].offset) == 1


def test_other_curves_than_ours_sign_too(fresh: Callable[[str], Path], tmp_path: Path) -> None:
    public, secret = gpg_key("nistp256", "N <n@example.org>")
    ring, keys = Ring(tmp_path / "p"), Ring(tmp_path / "s")
    ring.add(public)
    keys.add(secret)
    path = fresh("image.sif")
    sign(path, PgpSeal(keys, None))
    assert check(path, PgpChecker((ring,)))
