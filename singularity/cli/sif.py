"""`singularity sif`: what is in a SIF file, object by object, and changing it."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from singularity.cli import sif_listed
from singularity.cli.command import PATH, Commands, option
from singularity.console import escape
from singularity.errors import FileError, ImageError, UsageError
from singularity.image.sif import format as sif
from singularity.image.sif.format import DataType, Sif

if TYPE_CHECKING:
    from singularity.image.sif.edit import Addition

logger = logging.getLogger(__name__)

_BLOCK = 1 << 20
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

command = Commands(
    "sif",
    {
        "list": "List the objects of a file",
        "info": "Show one object's description",
        "header": "Show the header of a file",
        "dump": "Write one object's bytes to standard output",
        "new": "Make a SIF file without objects",
        "add": "Append a file to a SIF file, as an object",
        "del": "Remove an object",
        "setprim": "Make a system partition the one that containers are made from",
    },
    usage=(
        "singularity sif list|header|new FILE",
        "singularity sif info|dump|del|setprim ID FILE",
        "singularity sif add [options] FILE OBJECT",
    ),
    examples=(
        "singularity sif list debian.sif",
        "singularity sif dump 1 debian.sif",
        "singularity sif add --datatype sbom --sbomformat spdx-json debian.sif sbom.json",
    ),
)


_file = click.argument("file", type=PATH)
_object = click.argument("id_", metavar="ID", type=int)


@command.below("list", examples=("singularity sif list debian.sif",))
@_file
def list_(file: Path) -> None:
    """A table of the objects: ids, place, and what they are."""
    with _opened(file) as (_, content):
        click.echo(sif_listed.table(content))


@command.below("header", examples=("singularity sif header debian.sif",))
@_file
def header_(file: Path) -> None:
    """The global header."""
    with _opened(file) as (_, content):
        header = content.header
        architecture = sif.architecture_name(header.architecture)
        _table(
            ("Launch Script", escape(header.launch.rstrip(b"\n").decode("utf-8", "replace"))),
            ("Version", header.version.rstrip(b"\0").decode("ascii", "replace")),
            ("Primary Architecture", "" if architecture == _UNKNOWN else architecture),
            ("ID", str(header.id) if header.id.int else ""),
            ("Created At", _time(header.created)),
            ("Modified At", _time(header.modified)),
            ("Descriptors Free", str(header.free)),
            ("Descriptors Total", str(header.total)),
            ("Descriptors Offset", str(header.table_offset)),
            ("Descriptors Size", _size(header.table_size)),
            ("Data Offset", str(header.data_offset)),
            ("Data Size", _size(header.data_size)),
        )


@command.below("info", examples=("singularity sif info 1 debian.sif",))
@_object
@_file
def info(id_: int, file: Path) -> None:
    """The descriptor of one object."""
    from singularity.image.sif import edit as sif_edit

    with _opened(file) as (_, content):
        each = sif_edit.find(content, id_, file)
        rows = [
            ("Data Type", sif_listed.TYPES.get(each.type, f"Unknown ({each.type:#x})")),
            ("ID", str(each.id)),
            ("Group ID", str(each.group or "NONE")),
            ("Linked ID", f"{each.link or 'NONE'}{' (G)' if each.links_group else ''}"),
            ("Offset", str(each.offset)),
            ("Size", str(each.size)),
            ("Created At", _time(each.created)),
            ("Modified At", _time(each.modified)),
            ("Name", escape(each.name.decode("utf-8", "replace"))),
        ]
        partition = each.partition
        if partition:
            rows += [
                ("Filesystem Type", sif_listed.FILESYSTEMS.get(partition.filesystem, "Unknown")),
                ("Partition Type", sif_listed.PARTITIONS.get(partition.type, "Unknown")),
                ("Architecture", sif.architecture_name(partition.architecture)),
            ]
        elif each.type == DataType.SIGNATURE:
            rows += [
                ("Hash Type", sif_listed.hash_name(each)),
                ("Entity", each.extra[4:24].ljust(20, b"\0").hex().upper()),
            ]
        elif each.type == DataType.CRYPTOGRAPHIC_MESSAGE:
            rows += [("Format Type", sif_listed.message(each)[0]), ("Message Type", sif_listed.message(each)[1])]
        elif each.type == DataType.SBOM:
            rows += [("Format", sif_listed.bill(each))]
        elif each.type in (DataType.OCI_ROOT_INDEX, DataType.OCI_BLOB):
            rows += [("Digest", escape(each.extra.decode("utf-8", "replace")))]
        _table(*rows, gap=_INFO_GAP)


@command.below("dump", examples=("singularity sif dump 1 debian.sif > debian.def",))
@_object
@_file
def dump(id_: int, file: Path) -> None:
    """The bytes of one object, as they are."""
    from singularity.image.sif import edit as sif_edit

    with _opened(file) as (stream, content):
        each = sif_edit.find(content, id_, file)
        stream.seek(each.offset)
        left = each.size
        while left:
            data = stream.read(min(left, _BLOCK))
            if not data:
                raise ImageError(f"{file}: object {id_} is cut short")
            _put(data)
            left -= len(data)


@command.below("new", examples=("singularity sif new data.sif",))
@_file
def new(file: Path) -> None:
    """An empty SIF file, for `sif add`."""
    from singularity.image.sif import edit as sif_edit

    sif_edit.create(file)


@command.below(
    "add", examples=("singularity sif add --datatype sbom --sbomformat spdx-json debian.sif debian.spdx.json",)
)
@option("--datatype", required=True, metavar="1-11", help="What the object is; or its name, such as deffile or sbom")
@option("--partfs", default="", metavar="1-4", help="File system of a partition: squashfs, ext3, archive, raw")
@option("--parttype", default="", metavar="1-4", help="Kind of a partition: system, primsys, data, overlay")
@option("--partarch", default="", metavar="1-13", help="Architecture of a partition: 386, amd64, arm, arm64, ...")
@option("--signhash", default="", metavar="1-5", help="Hash of a signature: sha256, sha384, sha512, blake2s, blake2b")
@option("--signentity", default="", metavar="HEX", help="Fingerprint of the key that a signature was made with")
@option("--sbomformat", default="", metavar="NAME", help="Format of a bill of materials, such as spdx-json")
@option("--groupid", default="0", metavar="N", help="Group that the object joins; 0 for none")
@option("--link", default="0", metavar="N", help="Object that it belongs to; 0xf0000000 and N for a group")
@option(
    "--alignment", default="", metavar="BYTES", help="Where its data may begin; partitions begin at multiples of 4096"
)
@option("--filename", default=None, metavar="NAME", help="Name of the object; that of the file when not given")
@_file
@click.argument("object_", metavar="OBJECT", type=PATH)
def add(file: Path, object_: Path, *, filename: str | None, **given: str) -> None:
    """Appends an object; nothing else in the file moves."""
    from singularity.image.sif import edit as sif_edit

    name = os.fsencode(object_.name if filename is None else filename)
    addition = _addition(_Given(**given), name)
    with sif_edit.editing(file) as editor, _reading(object_) as source:
        editor.add(addition, source)


@command.below("del", examples=("singularity sif del 5 debian.sif",))
@_object
@_file
def delete(id_: int, file: Path) -> None:
    """Removes an object and its data; the ids of the others stay."""
    from singularity.image.sif import edit as sif_edit

    with sif_edit.editing(file) as editor:
        editor.delete(id_)


@command.below("setprim", examples=("singularity sif setprim 4 debian.sif",))
@_object
@_file
def set_primary(id_: int, file: Path) -> None:
    """Makes a system partition the primary one, and the one before an ordinary one."""
    from singularity.image.sif import edit as sif_edit

    with sif_edit.editing(file) as editor:
        if not editor.set_primary(id_):
            logger.info("%s: object %d is the primary partition already", file, id_)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    """The options of `add`, as they were typed; empty where they were not."""

    datatype: str
    partfs: str
    parttype: str
    partarch: str
    signhash: str
    signentity: str
    sbomformat: str
    groupid: str
    link: str
    alignment: str


@contextmanager
def _reading(path: Path) -> Iterator[BinaryIO]:
    try:
        with path.open("rb") as file:
            yield file
    except IsADirectoryError as error:
        raise FileError(f"{path}: a directory", hint="name a file") from error
    except FileNotFoundError as error:
        raise FileError.because(path, error) from error


def _addition(given: _Given, name: bytes) -> "Addition":
    """What the options say, checked. Raises UsageError."""
    from singularity.image.sif import edit as sif_edit

    kind = DataType(_choice("--datatype", given.datatype, _DATA_TYPES) + DataType.DEFINITION - 1)
    link = _number("--link", given.link, (1 << 32) - 1)
    default = sif.PARTITION_ALIGNMENT if kind is DataType.PARTITION else 1
    return sif_edit.Addition(
        type=kind,
        name=name,
        group=_number("--groupid", given.groupid, sif.GROUP_LIMIT - 1),
        link=link % sif.GROUP_LIMIT,
        links_group=link >= _LINKS_GROUP,
        alignment=max(1, _number("--alignment", given.alignment or str(default), 1 << 30)),
        extra=_extra(kind, given),
    )


def _extra(kind: DataType, given: _Given) -> bytes:
    for owner, options in _OPTIONS_OF.items():
        wrong = [key for key in options if getattr(given, key) and owner is not kind]
        if wrong:
            raise UsageError(f"--{wrong[0]} is for --datatype {_DATA_TYPES[owner - DataType.DEFINITION]}")
    if kind is DataType.PARTITION:
        return sif.partition_extra(
            _choice("--partfs", given.partfs, _PARTITION_FILESYSTEMS),
            _choice("--parttype", given.parttype, _PARTITION_TYPES),
            list(sif.ARCHITECTURES)[_choice("--partarch", given.partarch, tuple(sif.ARCHITECTURES)) - 1],
        )
    if kind is DataType.SIGNATURE:
        return sif.signature_extra(_choice("--signhash", given.signhash, _HASH_WORDS), _entity(given.signentity))
    if kind is DataType.SBOM:
        return _choice("--sbomformat", given.sbomformat, sif.SBOM_FORMATS).to_bytes(4, "little")
    return b""


def _entity(text: str) -> bytes:
    try:
        entity = bytes.fromhex(text)
    except ValueError:
        entity = b"-"
    if len(entity) not in (0, 20):
        raise UsageError(f'--signentity: "{text}" is no fingerprint', hint="40 hexadecimal digits")
    return entity


def _choice(name: str, word: str, words: tuple[str, ...]) -> int:
    """The place of a word among `words`, counted from 1; or that number itself. Raises UsageError."""
    if not word:
        raise UsageError(f"{name} is missing", hint=f"1 to {len(words)}: {', '.join(words)}")
    if word.lower() in words and not (word.isdecimal() and 1 <= int(word) <= len(words)):
        return words.index(word.lower()) + 1
    if word.isascii() and word.isdecimal() and 1 <= int(word) <= len(words):
        return int(word)
    raise UsageError(f'{name}: "{word}" is none', hint=f"1 to {len(words)}: {', '.join(words)}")


def _number(name: str, word: str, most: int) -> int:
    try:
        number = int(word, 0)
    except ValueError:
        number = -1
    if not 0 <= number <= most:
        raise UsageError(f'{name}: "{word}" is no number from 0 to {most}')
    return number


def _put(data: bytes) -> None:
    try:
        sys.stdout.buffer.write(data)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise FileError.because("standard output", error) from error


@contextmanager
def _opened(file: Path) -> Iterator[tuple[BinaryIO, Sif]]:
    try:
        with file.open("rb") as stream:
            with ImageError.named(file):
                content = sif.read(stream)
            yield stream, content
    except BrokenPipeError:
        raise
    except OSError as error:
        raise FileError.because(file, error) from error


_DATA_TYPES = (
    "deffile", "env", "labels", "partition", "signature", "genericjson", "generic", "crypto", "sbom", "oci-index",
    "oci-blob",
)  # fmt: skip
_PARTITION_FILESYSTEMS = ("squashfs", "ext3", "archive", "raw")
_PARTITION_TYPES = ("system", "primsys", "data", "overlay")
_HASH_WORDS = ("sha256", "sha384", "sha512", "blake2s", "blake2b")
_OPTIONS_OF = {
    DataType.PARTITION: ("partfs", "parttype", "partarch"),
    DataType.SIGNATURE: ("signhash", "signentity"),
    DataType.SBOM: ("sbomformat",),
}
_LINKS_GROUP = 0xF0000000
_UNKNOWN = "unknown"  # architecture
_INFO_GAP = 2  # blanks before the names and before the values of `info`


def _table(*rows: tuple[str, str], gap: int = 0) -> None:
    """One line for each row that has a value, all values in one column, as siftool prints them."""
    said = [(name, value) for name, value in rows if value]
    width = max(len(name) for name, _ in said) + max(gap, 1) + 1
    click.echo("\n".join(f"{'':{gap}}{name + ':':<{width}}{value}" for name, value in said))


def _time(seconds: int) -> str:
    if seconds == sif.NO_TIME:
        return ""
    try:
        time = _EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        return f"{seconds} seconds since 1970"
    return f"{time.isoformat(' ', 'seconds').removesuffix('+00:00')} +0000 UTC"


def _size(size: int) -> str:
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= factor:
            return f"{size / factor:.0f} {unit}"
    return f"{size} B"
