"""SIF files changed in place: what comes out is what the format says, and a kill at any write leaves a valid file."""

from __future__ import annotations

import io
import os
import random
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from images import hold
from sif_checker import check

from singularity.errors import FileError, ImageError
from singularity.image.sif import edit as sif_edit
from singularity.image.sif import format as sif
from singularity.image.sif.edit import Addition
from singularity.image.sif.format import DataType, Filesystem, PartitionType

FIXTURES = Path(__file__).resolve().parents[3] / "shared" / "fixtures"
GENERIC = Addition(type=DataType.GENERIC, name=b"some data", group=1)


def partition(use: PartitionType, architecture: str = "amd64") -> Addition:
    return Addition(
        type=DataType.PARTITION,
        group=1,
        alignment=4096,
        extra=sif.partition_extra(Filesystem.SQUASHFS, use, architecture),
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "x.sif"
    sif_edit.create(path)
    return path


def add(path: Path, new: Addition, data: bytes) -> int:
    with sif_edit.editing(path) as editor:
        return editor.add(new, io.BytesIO(data)).id


def test_an_empty_file_is_one_of_the_format(file: Path) -> None:
    assert check(file).objects == []
    assert file.stat().st_size == 32176
    with pytest.raises(FileError, match="exists"):
        sif_edit.create(file)


def test_objects_come_one_behind_the_other_each_at_its_alignment(file: Path) -> None:
    add(file, GENERIC, b"123")
    add(file, partition(PartitionType.PRIMARY, "arm64"), b"P" * 5000)
    add(file, GENERIC, b"")
    add(file, partition(PartitionType.OVERLAY, "arm64"), b"O")
    found = check(file)
    assert found.architecture == b"04\0"
    assert [(each.offset, each.data) for each in found.objects] == [
        (32176, b"123"),
        (32768, b"P" * 5000),
        (37768, b""),
        (40960, b"O"),
    ]
    padded = struct.unpack_from("<q", file.read_bytes(), 4096 + 3 * 585 + 33)[0]
    assert padded == 40960 - 37768 + 1


def test_a_removed_object_leaves_zeros_and_its_id_to_the_next(file: Path) -> None:
    for word in (b"one", b"two", b"three"):
        add(file, GENERIC, word * 1000)
    with sif_edit.editing(file) as editor:
        editor.delete(2)
    found = check(file)
    assert [each.id for each in found.objects] == [1, 3]
    start = found.objects[0].offset + 3000
    assert file.read_bytes()[start : start + 3000] == bytes(3000)
    assert add(file, GENERIC, b"new") == 2
    assert [each.data[:5] for each in check(file).objects] == [b"oneon", b"new", b"three"]


def test_the_last_object_gives_its_space_back(file: Path) -> None:
    add(file, GENERIC, b"kept")
    size = file.stat().st_size
    add(file, partition(PartitionType.PRIMARY), b"x" * 100_000)
    with sif_edit.editing(file) as editor:
        editor.delete(2)
    assert file.stat().st_size == size
    assert check(file).architecture == b"00\0"


def test_another_partition_becomes_the_primary_one(file: Path) -> None:
    add(file, partition(PartitionType.PRIMARY, "amd64"), b"one")
    for _ in range(8):  # so that the two descriptors are in different pages of the file
        add(file, GENERIC, b"between")
    add(file, partition(PartitionType.SYSTEM, "arm64"), b"two")
    with sif_edit.editing(file) as editor:
        assert editor.set_primary(10)
        assert not editor.set_primary(10)
        with pytest.raises(ImageError, match="object 2 is no system partition"):
            editor.set_primary(2)
    found = check(file)
    assert found.architecture == b"04\0"
    assert [struct.unpack_from("<i", each.extra, 4)[0] for each in found.of_type(0x4004)] == [1, 2]
    with sif_edit.editing(file) as editor:
        assert editor.set_primary(1)
    assert check(file).architecture == b"02\0"


def test_what_does_not_fit_the_rest_is_refused_and_changes_nothing(file: Path) -> None:
    add(file, partition(PartitionType.PRIMARY), b"one")
    before = file.read_bytes()
    cases = {
        "has a primary system partition already": partition(PartitionType.PRIMARY),
        "no object 9 to link to": Addition(type=DataType.GENERIC, link=9),
        "no group 2 to link to": Addition(type=DataType.GENERIC, link=2, links_group=True),
        "at most 128": Addition(type=DataType.GENERIC, name=b"n" * 129),
    }
    for message, new in cases.items():
        with pytest.raises(ImageError, match=message):
            add(file, new, b"data")
        assert file.read_bytes() == before
    with pytest.raises(ImageError, match="no object 7"), sif_edit.editing(file) as editor:
        editor.delete(7)
    assert file.read_bytes() == before


def test_a_full_table_is_refused(file: Path) -> None:
    with sif_edit.editing(file) as editor:
        for number in range(48):
            editor.add(GENERIC, io.BytesIO(b"%d" % number))
        with pytest.raises(ImageError, match="all 48 are used"):
            editor.add(GENERIC, io.BytesIO(b"one more"))
    assert check(file).free == 0


def test_holes_of_a_file_that_is_added_stay_holes(file: Path, tmp_path: Path) -> None:
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as out:
        out.truncate(200 << 20)
        out.seek(100 << 20)
        out.write(b"middle")
    with sif_edit.editing(file) as editor, sparse.open("rb") as source:
        editor.add(partition(PartitionType.SYSTEM), source)
    (found,) = check(file).objects
    assert found.data == sparse.read_bytes()
    assert file.stat().st_blocks * 512 < 1 << 20


def test_the_digest_of_an_oci_object_is_in_its_descriptor(file: Path) -> None:
    add(file, Addition(type=DataType.OCI_BLOB), b"hello\n")
    (found,) = check(file).objects
    assert found.extra.rstrip(b"\0") == b"sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"


def test_a_file_in_use_is_refused(file: Path) -> None:
    """R-I2: under the lock that launches hold."""
    with file.open("rb") as other:
        hold(other, writable=False)
        with pytest.raises(FileError, match="is in use"), sif_edit.editing(file):
            pass


def test_a_file_that_is_open_elsewhere_loses_no_object(file: Path) -> None:
    add(file, GENERIC, b"mounted")
    with file.open("rb"), pytest.raises(FileError, match="is in use: another program has it open"):  # noqa: SIM117
        with sif_edit.editing(file) as editor:
            editor.delete(1)
    assert len(check(file).objects) == 1
    with file.open("rb"):
        add(file, GENERIC, b"harmless")
    assert len(check(file).objects) == 2


def test_a_full_disk_leaves_the_file_as_it_was(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """R-F4."""
    add(file, GENERIC, b"kept")
    before = file.read_bytes()
    real = os.pwrite

    def full(fd: int, data: bytes, offset: int) -> int:
        if offset > 40_000:
            raise OSError(28, "No space left on device")
        return real(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(FileError, match=r"x\.sif: No space left on device"):
        add(file, GENERIC, b"x" * (3 << 20))
    assert file.read_bytes() == before


WRITES = """
import io, os, signal, sys
from pathlib import Path
from singularity.image.sif import edit as sif_edit
from singularity.image.sif import format as sif
from singularity.image.sif.format import DataType
left = int(sys.argv[2])
def dying(real):
    def call(*arguments):
        global left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return real(*arguments)
    return call
for name in ("pwrite", "ftruncate", "fsync"):
    setattr(os, name, dying(getattr(os, name)))
with sif_edit.editing(Path(sys.argv[1])) as editor:
    match sys.argv[3]:
        case "add":
            new = sif_edit.Addition(type=DataType.GENERIC, group=1, alignment=4096)
            editor.add(new, io.BytesIO(b"n" * 3_000_000))
        case "delete":
            editor.delete(1)
        case "setprim":
            editor.set_primary(3)
"""


@pytest.mark.parametrize("what", ["add", "delete", "setprim"])
def test_a_kill_at_any_write_leaves_a_valid_file(file: Path, tmp_path: Path, what: str) -> None:
    """R-F3: all objects are there as they were, or the new state is; the next change mends the counts."""
    add(file, GENERIC, b"first" * 1000)
    add(file, partition(PartitionType.PRIMARY, "amd64"), b"one")
    add(file, partition(PartitionType.SYSTEM, "arm64"), b"two")
    states = []
    for step in range(30):
        copy = tmp_path / f"{step}.sif"
        shutil.copy(file, copy)
        argv = [sys.executable, "-c", WRITES, str(copy), str(step), what]
        status = subprocess.run(argv, check=False).returncode
        with copy.open("rb") as opened:
            content = sif.read(opened)
            data = [sif.read_object(opened, each) for each in content.descriptors]
        states.append([(each.id, each.extra, text[:8]) for each, text in zip(content.descriptors, data, strict=True)])
        assert content.primary() is not None
        add(copy, GENERIC, b"after")
        check(copy) if what != "setprim" else sif.read(io.BytesIO(copy.read_bytes()))
        if status == 0:
            break
        assert status == -9
    else:
        pytest.fail("it never ended")
    assert len(states) > 4
    before, after = states[0], states[-1]
    assert before != after
    assert all(state in (before, after) for state in states)


@pytest.mark.needs("fixtures")
def test_a_signed_file_is_changed_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "signed.sif"
    path.write_bytes((FIXTURES / "busybox-signed.sif").read_bytes())
    add(path, GENERIC, b"more")
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}: group 1 is signed: its signatures do not fit any more after this"
    ]
    caplog.clear()
    with sif_edit.editing(path) as editor:
        editor.delete(4)
        editor.delete(5)
    assert caplog.records == []
    original = (FIXTURES / "busybox-apptainer-1.4.sif").read_bytes()
    assert path.read_bytes()[32176:] == original[32176:]  # the objects; header and times differ
    check(path)


def test_many_changes_in_any_order(file: Path) -> None:
    """A run of random edits against a plain list of what should be there."""
    choose = random.Random(7)  # noqa: S311 - the same run each time
    expected: dict[int, bytes] = {}
    with sif_edit.editing(file) as editor:
        for number in range(120):
            if expected and (len(expected) == 48 or choose.random() < 0.4):
                gone = choose.choice(sorted(expected))
                editor.delete(gone)
                del expected[gone]
            else:
                data = bytes([number]) * choose.randrange(0, 9000)
                new = Addition(type=DataType.GENERIC, alignment=choose.choice([1, 8, 512, 4096]))
                expected[editor.add(new, io.BytesIO(data)).id] = data
    assert {each.id: each.data for each in check(file).objects} == expected
