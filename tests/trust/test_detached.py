"""Signatures beside images that have no room for them, and over directories."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING

import machine
import pytest

from singularity.errors import SignatureError
from singularity.trust import detached
from singularity.trust.pgp import PgpSeal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from signers import Person


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "image.squashfs"
    path.write_bytes(b"hsqs" + b"d" * 3000)
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    top = tmp_path / "tree"
    (top / "bin").mkdir(parents=True)
    (top / "bin/sh").write_bytes(b"#!" + b"s" * 200_000)
    (top / "bin/sh").chmod(0o755)
    (top / "bin/bash").symlink_to("sh")
    os.link(top / "bin/sh", top / "bin/zsh")
    with (top / "holes").open("wb") as sparse:
        sparse.truncate(3 << 20)
        sparse.seek(1 << 20)
        sparse.write(b"x")
    (top / "empty").touch()
    return top


def test_a_file_is_signed_beside_it(alice: Person, file: Path) -> None:
    alice.types("sign", file)
    done = alice.types("verify", "--local", file)
    assert done.stdout.startswith("[LOCAL]            Signing entity: Alice")
    assert done.stdout.splitlines()[-1] == "-   |NONE    |NONE    |Image"
    kept = json.loads((file.parent / "image.squashfs.sig").read_text())
    assert kept["version"] == 1
    assert '"size":3004}' in kept["signatures"][0]
    found = json.loads(alice.types("verify", "--local", "--json", file).stdout)
    assert found["SignerKeys"][0]["Signer"]["Partition"] == "Image"
    for words in (["-g", "1"], ["-i", "1"], ["--legacy-insecure"]):
        alice.types("verify", *words, file, status=1)


@pytest.mark.parametrize("at", [0, 3, 1500, 3003])
def test_a_file_that_was_changed_is_refused(at: int, alice: Person, file: Path) -> None:
    detached.sign(file, PgpSeal(alice.secret, None))
    assert detached.verify(file, [alice.checker])
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(data)
    with pytest.raises(SignatureError, match="not the one that was signed"):
        detached.verify(file, [alice.checker])
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(SignatureError):
        detached.verify(file, [alice.checker])


CHANGES: dict[str, Callable[[Path], object]] = {
    "content": lambda top: (top / "bin/sh").write_bytes(b"#!" + b"t" * 200_000),
    "mode": lambda top: (top / "bin/sh").chmod(0o4755),
    "a new file": lambda top: (top / "bin/new").touch(),
    "a file less": lambda top: (top / "empty").unlink(),
    "another name": lambda top: (top / "empty").rename(top / "emptier"),
    "another place": lambda top: (top / "empty").rename(top / "bin/empty"),
    "a link's text": lambda top: ((top / "bin/bash").unlink(), (top / "bin/bash").symlink_to("zsh")),
    "a link that becomes a file": lambda top: (
        (top / "bin/bash").unlink(),
        shutil.copy(top / "bin/sh", top / "bin/bash"),
    ),
    "a hole": lambda top: os.pwrite(os.open(top / "holes", os.O_WRONLY), b"y", 5000),
    "a longer hole": lambda top: os.truncate(top / "holes", (3 << 20) + 1),
    "an attribute": lambda top: os.setxattr(top / "empty", "user.a", b"b"),
    "the mode of the root": lambda top: top.chmod(0o700),
    "a directory more": lambda top: (top / "bin/d").mkdir(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_directory_that_was_changed_is_refused(change: str, alice: Person, tree: Path) -> None:
    target = detached.sign(tree, PgpSeal(alice.secret, None))
    assert target == tree.parent / "tree.sig"
    assert detached.verify(tree, [alice.checker])
    CHANGES[change](tree)
    with pytest.raises(SignatureError, match="not the one that was signed"):
        detached.verify(tree, [alice.checker])


def test_a_copy_of_a_directory_is_as_good(tree: Path, tmp_path: Path) -> None:
    """Whoever owns it, however its holes are kept, and whenever it was made."""
    other = tmp_path / "other"
    shutil.copytree(tree, other, symlinks=True)
    (other / "bin/zsh").unlink()
    os.link(other / "bin/sh", other / "bin/zsh")
    (other / "holes").write_bytes((tree / "holes").read_bytes())
    os.utime(other / "empty", (1, 1))
    if os.geteuid() == 0:
        os.chown(other / "empty", 1000, 1000)
    assert detached.tree_digest(other) == detached.tree_digest(tree)


def test_several_people_sign_one_directory(alice: Person, bob: Person, tree: Path) -> None:
    alice.types("sign", tree)
    bob.types("sign", tree, stdin="secret\n")
    assert len(json.loads((tree.parent / "tree.sig").read_text())["signatures"]) == 2
    refused = alice.types("verify", "--local", tree, status=255)
    assert "signature 2 of " in refused.stderr


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"version":2,"signatures":[]}', '{"version":1,"signatures":[1]}', "x" * 9]
)
def test_what_is_no_file_of_signatures_is_refused(text: str, alice: Person, file: Path) -> None:
    with pytest.raises(SignatureError, match="not found"):
        detached.verify(file, [alice.checker])
    detached.place(file).write_text(text)
    with pytest.raises(SignatureError, match="not a file of signatures"):
        detached.verify(file, [alice.checker])
    with pytest.raises(SignatureError, match="not a file of signatures"):
        detached.sign(file, PgpSeal(alice.secret, None))
    detached.place(file).write_text('{"version":1,"signatures":[]}')
    with pytest.raises(SignatureError, match="none by a key"):
        detached.verify(file, [alice.checker])


def test_a_statement_about_a_sif_file_is_none_about_another(alice: Person, signed: Path, file: Path) -> None:
    """The text of one signature in the place of another."""
    from singularity.image.sif import format as sif

    with signed.open("rb") as opened:
        (text,) = (sif.read_object(opened, each) for each in sif.read(opened).descriptors if each.id == 4)
    detached.place(file).write_text(json.dumps({"version": 1, "signatures": [text.decode()]}))
    with pytest.raises(SignatureError, match="not the one that was signed"):
        detached.verify(file, [alice.checker])


# ---- builds ----------------------------------------------------------------------------------------------------------
@pytest.fixture
def base(alice: Person, tree: Path, tmp_path: Path) -> Path:
    """A SIF file that Alice has signed when it was built."""
    machine.require("mksquashfs")
    path = tmp_path / "base.sif"
    alice.types("build", "--disable-cache", "--sign", path, tree)
    return path


def test_build_signs(alice: Person, base: Path, tree: Path, tmp_path: Path) -> None:
    assert "Alice" in alice.types("verify", "--local", base).stdout
    alice.types("build", "--disable-cache", "--sign", tmp_path / "new.sqfs", tree)
    assert "Alice" in alice.types("verify", "--local", tmp_path / "new.sqfs").stdout
    alice.types("build", "--disable-cache", "--sandbox", "--sign=0", tmp_path / "box", base)
    assert "Alice" in alice.types("verify", "--local", tmp_path / "box").stdout
    missing = alice.types("build", "--sign=7", tmp_path / "none.sif", tree, status=1)
    assert "no such key" in missing.stderr
    assert not (tmp_path / "none.sif").exists()


def test_build_signs_with_other_keys(alice: Person, tree: Path, tmp_path: Path) -> None:
    machine.require("mksquashfs", "openssl", "ssh-keygen")
    import subprocess

    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "ssh"], check=True)
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", tmp_path / "pem"], check=True)
    subprocess.run(["openssl", "pkey", "-in", tmp_path / "pem", "-pubout", "-out", tmp_path / "pub"], check=True)
    (tmp_path / "allowed").write_text(f"me {(tmp_path / 'ssh.pub').read_text()}")
    for key, words in (("ssh", ["--ssh", tmp_path / "allowed"]), ("pem", ["--key", tmp_path / "pub"])):
        path = tmp_path / f"{key}.sif"
        alice.types("build", "--disable-cache", f"--sign={tmp_path / key}", path, tree)
        alice.types("verify", *words, path)


def test_fingerprints_of_a_definition_file_count(alice: Person, bob: Person, base: Path, tmp_path: Path) -> None:
    machine.require("root", "mksquashfs")
    ours, others = (person.public.listed()[0].fingerprint for person in (alice, bob))
    definition, target = tmp_path / "x.def", tmp_path / "new.sif"

    def build(fingerprints: str, status: int, source: Path = base) -> str:
        definition.write_text(f"Bootstrap: localimage\nFrom: {source}\nFingerprints: {fingerprints}\n")
        return alice.types("build", "--force", "--notest", target, definition, status=status).stderr

    assert f"signed with {ours}" in build(ours, 0)
    assert target.exists()
    target.unlink()
    assert f"not signed with the key {others}" in build(f"{ours}, {others}", 255)
    assert "x.def:3: Fingerprints: " in build("12", 255)
    assert "x.def:3: Fingerprints: " in build("", 255)
    assert "tree: " in build(ours, 255, base.parent / "tree")  # a directory
    definition.write_text(f"Bootstrap: localimage\nFrom: {base}\n")
    assert f"signed with {ours}" in alice.types("build", "--force", "--notest", target, definition).stderr
    warned = bob.types("build", "--force", "--notest", target, definition).stderr
    assert "is signed, and could not be verified; the build goes on" in warned
    target.unlink()
    data = bytearray(base.read_bytes())
    data[40_000] ^= 1
    base.write_bytes(data)
    assert "not valid" in build(ours, 255)
    assert not target.exists()
