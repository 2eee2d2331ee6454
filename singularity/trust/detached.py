"""Signatures beside an image that has no room for any: `IMAGE.sig` for squashfs, ext3 and other files, and directories.

The file is JSON, `{"version":1,"signatures":[TEXT,...]}`, each TEXT an envelope as in a SIF file. What is signed is one
line of JSON: `{"version":1,"file":"sha256:HEX","size":BYTES}`, or `{"version":1,"tree":"sha256:HEX"}` for a directory.

The digest of a tree is the SHA-256 of one line of JSON and a newline for each file and directory, the root first, in
the order of the names' bytes, each directory before what is in it:
`[PATH,TYPE,MODE,TARGET,DEVICE,SIZE,DIGEST,{NAME:VALUE,...}]`. Bytes of paths, targets, names and values are in
hexadecimal; types are those of st_mode, 0 for a hard link, whose target is the name that came first; the digest is that
of the data, holes as zeros, and attributes are in the order of their names. Owners and times are not signed: copies of
a directory, which belong to who has copied it, are as good as the first.
"""

import hashlib
import json
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from singularity import files
from singularity.errors import FileError, ImageError, SignatureError
from singularity.foreign_json import parse_json
from singularity.image import directory
from singularity.image.identify import open_path
from singularity.image.tree import Entry, Kind
from singularity.trust import seals
from singularity.trust.seals import Checker, Seal, Signer

_LIMIT = 64 << 20  # bytes of a file of signatures
_BLOCK = 1 << 20
_ZEROS = bytes(_BLOCK)


def place(image: Path) -> Path:
    """Where the signatures of an image are."""
    path = Path(os.path.abspath(image))  # of a directory that is named "." too
    return path.with_name(f"{path.name}.sig")


def sign(image: Path, seal: Seal) -> Path:
    """Adds a signature beside the image; returns the file."""
    target = place(image)
    known: list[str] = []
    with suppress(FileNotFoundError):
        known = _read(target)
    made = seal.sign(statement(image)).decode("ascii")
    text = json.dumps({"version": 1, "signatures": [*known, made]}, separators=(",", ":")) + "\n"
    files.write(target, text.encode(), overwrite=True)
    return target


def verify(image: Path, checkers: Sequence[Checker]) -> list[tuple[int, Signer]]:
    """The signers, with the number of each one's signature. Raises SignatureError unless all are good that can be
    checked, and one is.
    """
    try:
        known = _read(place(image))
    except FileNotFoundError as error:
        raise SignatureError(f"signature not found: there is no {place(image)}") from error
    by_kind = {each.kind: each for each in checkers}
    document, good = statement(image), []
    for number, text in enumerate(known, 1):
        try:
            sealed = seals.opened(text.encode("ascii"))
            if sealed.kind not in by_kind:
                continue
            signer = by_kind[sealed.kind].check(sealed, b"")
            if sealed.document.rstrip(b"\n") != document:
                raise SignatureError("the image is not the one that was signed")
        except (SignatureError, UnicodeEncodeError) as error:
            raise SignatureError(f"signature {number} of {place(image)} not valid: {error}") from error
        good.append((number, signer))
    if not good:
        raise SignatureError(f"signature not found: {place(image)} has none by a key of this kind")
    return good


def statement(image: Path) -> bytes:
    """What is signed of an image as it is now. Raises FileError and ImageError."""
    with files.closing(open_path(image)) as fd:
        try:
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                said: dict[str, object] = {"version": 1, "tree": f"sha256:{tree_digest(image)}"}
            else:
                with open(fd, "rb", closefd=False) as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                    said = {"version": 1, "file": f"sha256:{digest}", "size": file.tell()}
        except OSError as error:
            raise FileError.because(image, error) from error
    return json.dumps(said, separators=(",", ":")).encode()


def tree_digest(path: Path) -> str:
    """The digest of a directory with all that is in it, as the head of this file has it."""
    digest = hashlib.sha256()
    for entry in directory.read(path):
        member = entry.member
        attributes = {name.hex(): member.xattrs[name].hex() for name in sorted(member.xattrs)}
        size, data = _data(entry) if member.kind is Kind.FILE else (0, "")
        what = [member.path.hex(), member.kind.value, member.mode, member.target.hex(), member.device]
        line = [*what, size, data, attributes]
        digest.update(json.dumps(line, separators=(",", ":")).encode() + b"\n")
    return digest.hexdigest()


def _data(entry: Entry) -> tuple[int, str]:
    """The size and the digest of a file's data, holes as zeros."""
    digest, at = hashlib.sha256(), 0
    segments = entry.member.segments
    ends = (
        [(0, entry.member.size)] if segments is None else [(each.offset, each.offset + each.size) for each in segments]
    )
    pieces = iter(entry.data)
    piece = b""
    for start, end in [*ends, (entry.member.size, entry.member.size)]:
        while at < start:
            zeros = _ZEROS[: min(start - at, _BLOCK)]
            digest.update(zeros)
            at += len(zeros)
        while at < end:
            piece = piece or next(pieces, b"")
            if not piece:
                raise ImageError(f"{os.fsdecode(entry.member.path)}: became shorter while it was read")
            digest.update(piece[: end - at])
            at, piece = at + min(len(piece), end - at), piece[end - at :]
    return entry.member.size, digest.hexdigest()


def _read(path: Path) -> list[str]:
    """The signatures in a file. Raises FileNotFoundError, FileError, SignatureError."""
    try:
        with path.open("rb") as file:
            data = _whole(file)
        found = parse_json(data)
        if found["version"] != 1 or not all(isinstance(each, str) for each in found["signatures"]):
            raise ValueError
        return list(found["signatures"])
    except FileNotFoundError:
        raise
    except OSError as error:
        raise FileError.because(path, error) from error
    except (ImageError, ValueError, KeyError, TypeError) as error:
        raise SignatureError(f"{path}: not a file of signatures", hint="is it another program's? rename it") from error


def _whole(file: BinaryIO) -> bytes:
    data = file.read(_LIMIT + 1)
    if len(data) > _LIMIT:
        raise ValueError
    return data
