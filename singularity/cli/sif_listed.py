"""What `sif list` prints, and the short way to it: a plain command line goes without all that options need."""

import os
from collections.abc import Sequence

from singularity.image.sif import format as sif
from singularity.image.sif.format import DataType, Descriptor, Sif

TYPES: dict[int, str] = {
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
FILESYSTEMS: dict[int, str] = {
    sif.Filesystem.SQUASHFS: "Squashfs",
    sif.Filesystem.EXT3: "Ext3",
    sif.Filesystem.ARCHIVE: "Archive",
    sif.Filesystem.RAW: "Raw",
    sif.Filesystem.ENCRYPTED_SQUASHFS: "Encrypted squashfs",
    sif.Filesystem.GOCRYPTFS_SQUASHFS: "Gocryptfs squashfs",
}
PARTITIONS: dict[int, str] = {
    sif.PartitionType.SYSTEM: "System",
    sif.PartitionType.PRIMARY: "*System",
    sif.PartitionType.DATA: "Data",
    sif.PartitionType.OVERLAY: "Overlay",
}
_HASHES: dict[int, str] = {1: "SHA-256", 2: "SHA-384", 3: "SHA-512", 4: "BLAKE2S-256", 5: "BLAKE2B-256"}
_MESSAGE_FORMATS = {1: "OpenPGP", 2: "PEM"}
_MESSAGE_TYPES = {0x100: "Clear Signature", 0x200: "RSA-OAEP"}


def table(content: Sif) -> str:
    """The objects, a line each: ids, place, and what they are."""
    lines = ["-" * 78, f"{'ID':<5}|{'GROUP':<8}|{'LINK':<8}|{'SIF POSITION (start-end)':<26}|TYPE", "-" * 78]
    for each in content.descriptors:
        link = "NONE" if not each.link else f"{each.link}   (G)" if each.links_group else str(each.link)
        place = f"{each.offset}-{each.end}"
        lines.append(f"{each.id:<5}|{each.group or 'NONE':<8}|{link:<8}|{place:<26}|{_kind(each)}")
    return "\n".join(lines)


def in_short(arguments: Sequence[str]) -> bool:
    """Carries out `sif list ARGUMENTS` when nothing about it is unusual; False: nothing was done."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        return False
    try:
        with open(arguments[0], "rb") as file:
            text = f"{table(sif.read(file))}\n".encode()
        return os.write(1, text) == len(text)
    except Exception:  # the long way meets the same, and says it
        return False


def _kind(descriptor: Descriptor) -> str:
    """What an object is, in one column: `FS (Squashfs/*System/amd64)`."""
    name = TYPES.get(descriptor.type, f"Unknown ({descriptor.type:#x})")
    partition = descriptor.partition
    if partition:
        filesystem = FILESYSTEMS.get(partition.filesystem, "Unknown")
        use = PARTITIONS.get(partition.type, "Unknown")
        on = ""
        if descriptor.name.startswith(sif.BASE_MARK):
            from singularity.console import escape  # which most images do not need

            on = f" on {escape(descriptor.name.decode('ascii', 'replace'))}"
        return f"{name} ({filesystem}/{use}/{sif.architecture_name(partition.architecture)}){on}"
    details = {
        DataType.SIGNATURE: lambda: hash_name(descriptor),
        DataType.CRYPTOGRAPHIC_MESSAGE: lambda: "/".join(message(descriptor)),
        DataType.SBOM: lambda: bill(descriptor),
    }
    detail = details.get(DataType(descriptor.type)) if descriptor.type in TYPES else None
    return f"{name} ({detail()})" if detail else name


def message(descriptor: Descriptor) -> tuple[str, str]:
    """The format and the type of a cryptographic message."""
    extra = descriptor.extra.ljust(8, b"\0")
    numbers = (int.from_bytes(extra[:4], "little"), int.from_bytes(extra[4:8], "little"))
    return _MESSAGE_FORMATS.get(numbers[0], "Unknown"), _MESSAGE_TYPES.get(numbers[1], "Unknown")


def bill(descriptor: Descriptor) -> str:
    """The format of a software bill of materials."""
    number = int.from_bytes(descriptor.extra[:4], "little")
    return sif.SBOM_FORMATS[number - 1] if 1 <= number <= len(sif.SBOM_FORMATS) else "Unknown"


def hash_name(descriptor: Descriptor) -> str:
    """The hash of a signature."""
    return _HASHES.get(int.from_bytes(descriptor.extra[:4], "little"), "Unknown")
