"""`sif` as it is typed: files made, changed and looked into."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from sif_checker import check

from singularity.cli.main import main

FIXTURES = Path(__file__).resolve().parents[3] / "shared" / "fixtures"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "x.sif"
    assert main(["sif", "new", str(path)]) == 0
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "object.bin"
    path.write_bytes(b"some data")
    return path


def sif(*words: str | Path) -> int:
    return main(["sif", *map(str, words)])


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        (["--datatype", "1", "--groupid", "1"], "1       |NONE    |32176-32185               |Def.FILE"),
        (["--datatype", "env"], "NONE    |NONE    |32176-32185               |Env.Vars"),
        (["--datatype", "3"], "NONE    |NONE    |32176-32185               |JSON.Labels"),
        (
            ["--datatype", "4", "--partfs", "2", "--parttype", "4", "--partarch", "4", "--groupid", "7"],
            "7       |NONE    |32768-32777               |FS (Ext3/Overlay/arm64)",
        ),
        (
            ["--datatype=partition", "--partfs=squashfs", "--parttype=data", "--partarch=386", "--alignment=1024"],
            "NONE    |NONE    |32768-32777               |FS (Squashfs/Data/386)",
        ),
        (
            ["--datatype", "5", "--signhash", "2", "--signentity", "0A" * 20],
            "NONE    |NONE    |32176-32185               |Signature (SHA-384)",
        ),
        (["--datatype", "6"], "NONE    |NONE    |32176-32185               |JSON.Generic"),
        (["--datatype", "7"], "NONE    |NONE    |32176-32185               |Generic/Raw"),
        (["--datatype", "8"], "NONE    |NONE    |32176-32185               |Cryptographic Message (Unknown/Unknown)"),
        (
            ["--datatype", "9", "--sbomformat", "spdx-json"],
            "NONE    |NONE    |32176-32185               |SBOM (spdx-json)",
        ),
        (["--datatype", "10"], "NONE    |NONE    |32176-32185               |OCI.RootIndex"),
        (["--datatype", "oci-blob"], "NONE    |NONE    |32176-32185               |OCI.Blob"),
    ],
)
def test_every_type_of_object(
    capsys: pytest.CaptureFixture[str], file: Path, data: Path, options: list[str], shown: str
) -> None:
    assert sif("add", *options, file, data) == 0
    assert sif("list", file) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"1    |{shown}"
    (found,) = check(file).objects
    assert (found.data, found.name) == (b"some data", b"object.bin")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--datatype", "12"], '--datatype: "12" is none (1 to 11: deffile, env,'),
        (["--datatype", "4"], "--partfs is missing (1 to 4: squashfs, ext3, archive, raw)"),
        (["--datatype", "4", "--partfs", "5"], '--partfs: "5" is none'),
        (["--datatype", "1", "--partfs", "1"], "--partfs is for --datatype partition"),
        (["--datatype", "5", "--signhash", "1", "--signentity", "xy"], '--signentity: "xy" is no fingerprint'),
        (["--datatype", "9", "--sbomformat", "pdf"], '--sbomformat: "pdf" is none'),
        (["--datatype", "1", "--groupid", "-1"], '--groupid: "-1" is no number from 0 to 268435455'),
        ([], "sif add: --datatype is missing"),
    ],
)
def test_options_without_sense_are_refused(
    capsys: pytest.CaptureFixture[str], file: Path, data: Path, options: list[str], message: str
) -> None:
    before = file.read_bytes()
    assert sif("add", *options, file, data) == 1
    assert capsys.readouterr().err.startswith(f"ERROR:   {message}")
    assert file.read_bytes() == before


def test_links_to_an_object_and_to_a_group(capsys: pytest.CaptureFixture[str], file: Path, data: Path) -> None:
    assert sif("add", "--datatype", "1", "--groupid", "3", "--filename", "", file, data) == 0
    assert sif("add", "--datatype", "7", "--link", "1", file, data) == 0
    assert sif("add", "--datatype", "7", "--link", "0xf0000003", "--filename", "other", file, data) == 0
    assert sif("add", "--datatype", "7", "--link", "9", file, data) == 255
    assert [(each.link, each.name) for each in check(file).objects] == [
        (0, b""),
        (1, b"object.bin"),
        (0xF0000003, b"other"),
    ]
    sif("list", file)
    assert "|3   (G) |" in capsys.readouterr().out


def test_an_object_goes_and_another_partition_becomes_the_primary_one(
    capsys: pytest.CaptureFixture[str], file: Path, data: Path
) -> None:
    for use in ("2", "1"):
        words = ["--datatype", "4", "--partfs", "1", "--partarch", "2", "--parttype", use]
        assert sif("add", *words, file, data) == 0
    assert sif("setprim", "2", file) == 0
    assert sif("del", "1", file) == 0
    capsys.readouterr()
    sif("list", file)
    assert capsys.readouterr().out.splitlines()[3:] == [
        "2    |NONE    |NONE    |36864-36873               |FS (Squashfs/*System/amd64)"
    ]
    assert sif("setprim", "2", file) == 0
    assert capsys.readouterr().err == f"INFO:    {file}: object 2 is the primary partition already\n"
    assert sif("del", "1", file) == 255
    assert capsys.readouterr().err == f"FATAL:   {file}: no object 1 (objects: 2)\n"


def test_an_object_may_come_from_a_pipe(file: Path) -> None:
    argv = [sys.executable, "-I", "-m", "singularity", "sif", "add", "--datatype", "7", str(file), "/dev/stdin"]
    subprocess.run(argv, input=b"from a pipe", check=True)
    assert check(file).objects[0].data == b"from a pipe"


def test_what_cannot_be_added_to_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path, data: Path) -> None:
    cases = {
        data: f"{data}: not a SIF file",
        tmp_path: f"{tmp_path}: Is a directory",
        tmp_path / "none": f"{tmp_path}/none: No such file or directory",
    }
    for path, message in cases.items():
        assert sif("add", "--datatype", "7", path, data) == 255
        assert capsys.readouterr().err == f"FATAL:   {message}\n"
    assert sif("new", data) == 255
    assert capsys.readouterr().err == f"FATAL:   {data}: exists (--force replaces it)\n"


def test_the_objects_of_a_written_file_are_dumped_as_they_are(tmp_path: Path, file: Path) -> None:
    """Every object of a file goes through dump and add, and comes out the same in the new file."""
    for number, size in enumerate((0, 1, 4096, 3_000_000)):
        part = tmp_path / f"part{number}"
        part.write_bytes(bytes([number]) * size)
        assert sif("add", "--datatype", "7", file, part) == 0
        argv = [sys.executable, "-I", "-m", "singularity", "sif", "dump", str(number + 1), str(file)]
        assert subprocess.run(argv, check=True, capture_output=True).stdout == part.read_bytes()


def siftool(*words: str | Path) -> str:
    return subprocess.run(["siftool", *words], check=True, capture_output=True, text=True).stdout


def assert_shown_alike(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    """`list`, `header` and `info` of each object print what siftool prints."""
    capsys.readouterr()
    ids = [line.split()[0] for line in siftool("list", file).splitlines()[3:]]
    for words in (["list"], ["header"], *(["info", id_] for id_ in ids)):
        assert sif(*words, file) == 0
        assert capsys.readouterr().out == siftool(*words, file)


OBJECTS = (
    ("--datatype=1", "--groupid=1"),
    ("--datatype=2",),
    ("--datatype=3", "--link=1"),
    ("--datatype=4", "--partfs=1", "--parttype=1", "--partarch=2", "--groupid=1"),
    ("--datatype=4", "--partfs=2", "--parttype=4", "--partarch=4", "--groupid=1"),
    ("--datatype=5", "--signhash=1", f"--signentity={'0A' * 20}", "--link=0xf0000001"),
    ("--datatype=6",),
    ("--datatype=7", "--filename="),
    ("--datatype=8",),
    ("--datatype=9", "--sbomformat=spdx-json"),
)


@pytest.mark.needs("siftool")
@pytest.mark.parametrize("epoch", ["", "1600000000"])
def test_another_tool_shows_our_files_as_we_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, data: Path, epoch: str
) -> None:
    """Files without a time too, whose empty fields neither shows."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
    file = tmp_path / "ours.sif"
    assert sif("new", file) == 0
    assert_shown_alike(capsys, file)
    for options in OBJECTS:
        assert sif("add", *options, file, data) == 0
    assert_shown_alike(capsys, file)
    assert sif("setprim", "4", file) == 0
    assert sif("del", "2", file) == 0
    assert_shown_alike(capsys, file)
    assert siftool("dump", "4", file) == data.read_text()


@pytest.mark.needs("siftool")
def test_another_tool_and_we_change_one_file_in_turn(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, data: Path
) -> None:
    file = tmp_path / "theirs.sif"
    siftool("new", file)
    siftool("add", "--datatype=4", "--partfs=1", "--parttype=1", "--partarch=2", "--groupid=1", file, data)
    siftool("add", "--datatype=7", file, data)
    assert sif("setprim", "1", file) == 0
    assert sif("del", "2", file) == 0
    siftool("add", "--datatype=6", file, data)
    assert sif("add", "--datatype=9", "--sbomformat=spdx-json", file, data) == 0
    siftool("del", "2", file)
    assert [line.rpartition("|")[2] for line in siftool("list", file).splitlines()[3:]] == [
        "FS (Squashfs/*System/amd64)",
        "SBOM (spdx-json)",
    ]
    assert_shown_alike(capsys, file)


@pytest.mark.needs("fixtures")
def test_fixture_files_pass_the_checker() -> None:
    """The checker that judges our files takes those of another program for what they are."""
    for name in ("busybox-apptainer-1.4.sif", "busybox-signed.sif"):
        found = check(FIXTURES / name)
        assert [each.type for each in found.objects][:3] == [0x4001, 0x4006, 0x4004]
