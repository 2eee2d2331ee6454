"""`singularity sif list|info|header|dump`: what is in a SIF file, object by object."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

import click

from singularity.cli.command import Explained
from singularity.cli.main import suggestion
from singularity.cli.page import Page, text
from singularity.console import escape
from singularity.errors import FileError, ImageError, UsageError
from singularity.image import sif
from singularity.image.sif import DataType, Descriptor, Sif

_BLOCK = 1 << 20
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_COMMANDS = {
    "list": "List the objects of a file",
    "info": "Show one object's description",
    "header": "Show the header of a file",
    "dump": "Write one object's bytes to standard output",
}


class Commands(click.Group):
    """The commands below `sif`."""

    def page(self, path: str) -> Page:
        """What there is below `sif`."""
        return Page(
            verb=path,
            summary="Look into a SIF file",
            usage=("singularity sif list|header FILE", "singularity sif info|dump ID FILE"),
            verbs=(("Commands", tuple(_COMMANDS.items())),),
            examples=("singularity sif list debian.sif", "singularity sif dump 1 debian.sif"),
        )

    def get_help(self, ctx: click.Context) -> str:
        """The page, for `sif --help`."""
        del ctx
        return text(self.page("sif")).rstrip("\n")

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that `args` begin with."""
        if args[0] not in self.commands:
            raise UsageError(
                f"unknown command sif {args[0]}",
                hint=suggestion(args[0], list(_COMMANDS)) or "see: singularity help sif",
            )
        return super().resolve_command(ctx, args)


command = Commands(name="sif", context_settings={"help_option_names": ["-h", "--help"]})


def _below(name: str) -> Callable[[Callable[..., None]], click.Command]:
    return command.command(cls=Explained, name=name, short_help=_COMMANDS[name])


_file = click.argument("file", type=click.Path(path_type=Path))
_object = click.argument("id_", metavar="ID", type=int)


@_below("list")
@_file
def list_(file: Path) -> None:
    """A table of the objects: ids, place, and what they are."""
    with _opened(file) as (_, content):
        lines = ["-" * 78, f"{'ID':<5}|{'GROUP':<8}|{'LINK':<8}|{'SIF POSITION (start-end)':<26}|TYPE", "-" * 78]
        for each in content.descriptors:
            link = "NONE" if not each.link else f"{each.link}   (G)" if each.links_group else str(each.link)
            place = f"{each.offset}-{each.end}"
            lines.append(f"{each.id:<5}|{each.group or 'NONE':<8}|{link:<8}|{place:<26}|{kind(each)}")
        click.echo("\n".join(lines))


@_below("header")
@_file
def header_(file: Path) -> None:
    """The global header."""
    with _opened(file) as (_, content):
        header = content.header
        _table(
            ("Launch Script", escape(header.launch.rstrip(b"\n").decode("utf-8", "replace"))),
            ("Version", header.version.rstrip(b"\0").decode("ascii", "replace")),
            ("Primary Architecture", sif.architecture_name(header.architecture)),
            ("ID", str(header.id)),
            ("Created At", _time(header.created)),
            ("Modified At", _time(header.modified)),
            ("Descriptors Free", str(header.free)),
            ("Descriptors Total", str(header.total)),
            ("Descriptors Offset", str(header.table_offset)),
            ("Descriptors Size", _size(header.table_size)),
            ("Data Offset", str(header.data_offset)),
            ("Data Size", _size(header.data_size)),
        )


@_below("info")
@_object
@_file
def info(id_: int, file: Path) -> None:
    """The descriptor of one object."""
    with _opened(file) as (_, content):
        each = _find(content, id_, file)
        rows = [
            ("Data Type", _TYPES.get(each.type, f"Unknown ({each.type:#x})")),
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
                ("Filesystem Type", _FILESYSTEMS.get(partition.filesystem, "Unknown")),
                ("Partition Type", _PARTITIONS.get(partition.type, "Unknown")),
                ("Architecture", sif.architecture_name(partition.architecture)),
            ]
        elif each.type == DataType.SIGNATURE:
            rows += [("Hash Type", _hash(each)), ("Entity", each.extra[4:24].hex().upper())]
        _table(*rows)


@_below("dump")
@_object
@_file
def dump(id_: int, file: Path) -> None:
    """The bytes of one object, as they are."""
    with _opened(file) as (stream, content):
        each = _find(content, id_, file)
        stream.seek(each.offset)
        left = each.size
        while left:
            data = stream.read(min(left, _BLOCK))
            if not data:
                raise ImageError(f"{file}: object {id_} is cut short")
            sys.stdout.buffer.write(data)
            left -= len(data)


@contextmanager
def _opened(file: Path) -> Iterator[tuple[BinaryIO, Sif]]:
    try:
        with file.open("rb") as stream:
            try:
                content = sif.read(stream)
            except ImageError as error:
                raise ImageError(f"{file}: {error}") from error
            yield stream, content
    except BrokenPipeError:
        raise
    except OSError as error:
        raise FileError.because(file, error) from error


def _find(content: Sif, number: int, file: Path) -> Descriptor:
    for each in content.descriptors:
        if each.id == number:
            return each
    known = ", ".join(str(each.id) for each in content.descriptors)
    raise ImageError(f"{file}: no object {number}", hint=f"objects: {known}" if known else "it has none")


_TYPES: dict[int, str] = {
    DataType.DEFINITION: "Def.FILE",
    DataType.ENVIRONMENT: "Env.Vars",
    DataType.LABELS: "JSON.Labels",
    DataType.PARTITION: "FS",
    DataType.SIGNATURE: "Signature",
    DataType.GENERIC_JSON: "JSON.Generic",
    DataType.GENERIC: "Generic/Raw",
    DataType.CRYPTOGRAPHIC_MESSAGE: "Cryptographic Message",
    DataType.SBOM: "SBOM",
    DataType.OCI_ROOT_INDEX: "OCI.RootIndex",
    DataType.OCI_BLOB: "OCI.Blob",
}
_FILESYSTEMS: dict[int, str] = {
    sif.Filesystem.SQUASHFS: "Squashfs",
    sif.Filesystem.EXT3: "Ext3",
    sif.Filesystem.ARCHIVE: "Archive",
    sif.Filesystem.RAW: "Raw",
    sif.Filesystem.ENCRYPTED_SQUASHFS: "Encrypted squashfs",
    sif.Filesystem.GOCRYPTFS_SQUASHFS: "Gocryptfs squashfs",
}
_PARTITIONS: dict[int, str] = {
    sif.PartitionType.SYSTEM: "System",
    sif.PartitionType.PRIMARY: "*System",
    sif.PartitionType.DATA: "Data",
    sif.PartitionType.OVERLAY: "Overlay",
}
_HASHES = {1: "SHA-256", 2: "SHA-384", 3: "SHA-512", 4: "BLAKE2S-256", 5: "BLAKE2B-256"}


def kind(descriptor: Descriptor) -> str:
    """What an object is, in one column: `FS (Squashfs/*System/amd64)`."""
    name = _TYPES.get(descriptor.type, f"Unknown ({descriptor.type:#x})")
    partition = descriptor.partition
    if partition:
        filesystem = _FILESYSTEMS.get(partition.filesystem, "Unknown")
        use = _PARTITIONS.get(partition.type, "Unknown")
        return f"{name} ({filesystem}/{use}/{sif.architecture_name(partition.architecture)})"
    return f"{name} ({_hash(descriptor)})" if descriptor.type == DataType.SIGNATURE else name


def _hash(descriptor: Descriptor) -> str:
    return _HASHES.get(int.from_bytes(descriptor.extra[:4], "little"), "Unknown")


def _table(*rows: tuple[str, str]) -> None:
    width = max(len(name) for name, _ in rows) + 2
    click.echo("\n".join(f"{name + ':':<{width}}{value}".rstrip() for name, value in rows))


def _time(seconds: int) -> str:
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
