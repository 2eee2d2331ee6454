"""Hash trees of partitions: the format is that of dm-verity, and a signature covers root, tree and data."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import machine
import pytest
from signers import Person, check, descriptors, image

from singularity.errors import ImageError, SignatureError
from singularity.image.sif import edit
from singularity.image.sif import format as sif
from singularity.image.sif.format import DataType
from singularity.trust import hash_tree, seals, signed
from singularity.trust.pgp import PgpChecker, PgpSeal
from singularity.trust.sign import sign

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK = 4096


def grown(data: bytes) -> tuple[str, bytes]:
    growing = hash_tree.Growing()
    for start in range(0, len(data), 1 << 20):
        growing.update(data[start : start + (1 << 20)])
    return growing.finish()


@pytest.fixture
def no_node() -> Iterator[None]:
    """The tool makes a node for the device mapper, though the kernel has none; launches believe in it."""
    place = Path("/dev/mapper")
    there = place.exists()
    yield
    if not there:
        shutil.rmtree(place, ignore_errors=True)


@pytest.mark.parametrize("blocks", [1, 2, 127, 128, 129, 128 * 128, 128 * 128 + 1])
def test_veritysetup_takes_the_tree_and_no_other_data(blocks: int, tmp_path: Path, no_node: None) -> None:
    del no_node
    machine.require("veritysetup")
    data = os.urandom(BLOCK) * (blocks - 1) + os.urandom(BLOCK)
    root, tree = grown(data)
    assert len(tree) == hash_tree.size_for(len(data))
    (tmp_path / "data").write_bytes(data)
    (tmp_path / "tree").write_bytes(tree)
    words = ["veritysetup", "verify", str(tmp_path / "data"), str(tmp_path / "tree"), root.removeprefix("sha256:")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (tmp_path / "data").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert subprocess.run(words, capture_output=True, check=False).returncode != 0


def test_data_of_no_whole_blocks_has_none() -> None:
    for size in (0, 1, BLOCK - 1, BLOCK + 512):
        with pytest.raises(ImageError, match="no multiple of 4096"):
            hash_tree.size_for(size)


def said(path: Path) -> signed.Statement:
    with path.open("rb") as file:
        *_, signature = (each for each in sif.read(file).descriptors if each.type == DataType.SIGNATURE)
        return signed.decode(seals.opened(sif.read_object(file, signature)).document)


@pytest.fixture
def with_tree(alice: Person, tmp_path: Path) -> Path:
    path = image(tmp_path / "tree.sif", os.urandom(300 * BLOCK))
    alice.types("sign", path)
    return path


def test_signing_adds_a_tree_to_the_group_and_its_root_to_what_is_signed(alice: Person, with_tree: Path) -> None:
    _, _, partition, tree, _ = descriptors(with_tree)
    assert (tree.type, tree.group, tree.link, tree.name) == (DataType.GENERIC, 1, partition.id, b"verity")
    assert tree.offset % BLOCK == 0
    data = with_tree.read_bytes()
    root, expected = grown(data[partition.offset : partition.end])
    assert data[tree.offset : tree.end] == expected
    assert said(with_tree).trees == (signed.TreeRoot(relative_id=2, tree=3, root=root),)
    assert "4   |1       |3       |Generic/Raw" in alice.types("verify", "--local", with_tree).stdout


def test_a_second_signature_is_of_the_same_tree(alice: Person, bob: Person, with_tree: Path) -> None:
    bob.types("sign", with_tree, stdin="secret\n")
    assert [each.type for each in descriptors(with_tree)].count(DataType.GENERIC) == 1
    assert len(said(with_tree).trees) == 1
    checker = PgpChecker((alice.public, bob.public))
    assert len(check(with_tree, checker)) == 2


def test_a_group_that_is_signed_gets_no_tree(alice: Person, tmp_path: Path) -> None:
    """It would not fit the signature that is there any more."""
    path = image(tmp_path / "plain.sif", os.urandom(2 * BLOCK))
    alice.types("sign", "--no-verity", path)
    assert len(descriptors(path)) == 4
    alice.types("sign", path)
    assert len(descriptors(path)) == 5
    assert not said(path).trees
    alice.types("verify", "--local", path)


def test_a_tree_of_other_data_is_told(alice: Person, tmp_path: Path) -> None:
    path = image(tmp_path / "image.sif", os.urandom(4 * BLOCK))
    with edit.editing(path) as editor:
        stale = edit.Addition(type=DataType.GENERIC, name=b"verity", group=1, link=3, alignment=BLOCK)
        editor.add(stale, io.BytesIO(grown(b"x" * 4 * BLOCK)[1]))
    failed = alice.types("sign", path, status=255).stderr
    assert "object 4 is not the hash tree of what object 3 is now (singularity sif del 4 removes it)" in failed
    alice.types("sif", "del", "4", path)
    alice.types("sign", path)
    data, (partition, tree) = path.read_bytes(), descriptors(path)[2:4]
    assert data[tree.offset : tree.end] == grown(data[partition.offset : partition.end])[1]
    assert len(said(path).trees) == 1


class Mad:
    """Signs whatever it is told, as nobody's program does."""

    kind = PgpSeal.kind

    def __init__(self, seal: PgpSeal, change: bytes, to: bytes) -> None:
        self._seal, self._change, self._to = seal, change, to
        self.entity = seal.entity

    def sign(self, document: bytes) -> bytes:
        return self._seal.sign(document.replace(self._change, self._to))


@pytest.mark.parametrize(
    ("change", "to"),
    [(b'"root":"sha256:', b'"root":"sha256:' + b"0" * 64 + b'","x":"'), (b'"tree":3', b'"tree":1'),
     (b'"verity":[{"relativeId":2', b'"verity":[{"relativeId":1'), (b'"tree":3', b'"tree":9')],
)  # fmt: skip
def test_a_root_that_is_not_the_datas_is_refused(alice: Person, tmp_path: Path, change: bytes, to: bytes) -> None:
    """What verify has seen is what a launch by the root shows, whoever has signed it."""
    path = image(tmp_path / "image.sif", os.urandom(2 * BLOCK))
    sign(path, Mad(PgpSeal(alice.secret, None), change, to))
    with pytest.raises(SignatureError, match="hash tree"):
        check(path, alice.checker)


def test_no_byte_of_the_tree_can_change(alice: Person, with_tree: Path) -> None:
    tree, data = descriptors(with_tree)[3], with_tree.read_bytes()
    for at in (0, 600, BLOCK, BLOCK + 64, tree.size - 1):
        with_tree.write_bytes(
            data[: tree.offset + at] + bytes([data[tree.offset + at] ^ 1]) + data[tree.offset + at + 1 :]
        )
        with pytest.raises(SignatureError, match="object 4 is not the one that was signed"):
            check(with_tree, alice.checker)
