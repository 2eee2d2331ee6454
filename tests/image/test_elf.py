"""What a program needs to start, as its headers say."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from singularity.image import elf

SELF = Path(sys.executable).resolve().read_bytes()


def of(data: bytes) -> elf.Needs | None:
    return elf.needs(lambda size, offset: data[offset : offset + size])


@pytest.mark.needs("gcc")
def test_the_loader_and_the_libraries_of_a_program(tmp_path: Path) -> None:
    program = tmp_path / "program"
    source = tmp_path / "program.c"
    source.write_text("#include <math.h>\nint main(int argc, char **argv) { (void)argv; return (int)cos(argc); }\n")
    subprocess.run(["gcc", "-fno-builtin", "-o", program, source, "-lm"], check=True)
    found = of(program.read_bytes())
    assert found is not None
    assert found.loader.startswith("/lib")
    assert {name.split(".so")[0] for name in found.libraries} == {"libm", "libc"}


def test_of_a_large_program_little_is_read() -> None:
    read: list[int] = []
    with Path(sys.executable).open("rb") as file:

        def part(size: int, offset: int) -> bytes:
            data = os.pread(file.fileno(), size, offset)
            read.append(len(data))
            return data

        found = elf.needs(part)
    assert found is not None
    assert found == of(SELF)
    assert sum(read) < 128 << 10 < len(SELF)


def test_offsets_that_no_file_has_are_damage() -> None:
    data = bytearray(SELF)
    data[32:40] = (2**63 - 1).to_bytes(8, "little")  # of the program headers
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        assert elf.needs(lambda size, offset: os.pread(file.fileno(), size, offset)) is None


def test_what_is_no_elf_file_needs_nothing() -> None:
    assert of(b"#!/bin/sh\n") is None
    assert of(b"") is None


@given(st.integers(0, 64), st.binary(max_size=16), st.integers(0, 4096))
def test_damaged_files_are_no_elf_files(place: int, new: bytes, size: int) -> None:
    data = bytearray(SELF[:4096])
    data[place : place + len(new)] = new
    of(bytes(data[:size]))


@pytest.mark.parametrize(
    ("ident", "machine", "name"),
    [
        ((2, 1), b"\x3e\x00", "amd64"),
        ((2, 1), b"\xb7\x00", "arm64"),
        ((1, 1), b"\x28\x00", "arm"),
        ((2, 2), b"\x00\x15", "ppc64"),
        ((2, 1), b"\x15\x00", "ppc64le"),
        ((2, 2), b"\x00\x16", "s390x"),
        ((1, 1), b"\x3e\x00", ""),
        ((3, 1), b"\x3e\x00", ""),
    ],
)
def test_the_machine_is_named_as_sif_files_name_it(ident: tuple[int, int], machine: bytes, name: str) -> None:
    head = b"\x7fELF" + bytes(ident) + bytes(12) + machine
    assert elf.architecture(head) == name
    assert elf.architecture(head[:-1]) == ""
