"""A SIF file becomes an encrypted one: the file system in its primary partition, and what says how it is opened.

The partition is a squashfs in which the encrypted squashfs lies beside gocryptfs's configuration, as Apptainer has it
since 1.3; definition, labels and scripts stay readable beside it. The plain SIF file is made where it is encrypted as
it is written, so that no disk ever has it.
"""

import os
from collections.abc import Callable
from pathlib import Path

from singularity import files, process
from singularity.build import convert, pack
from singularity.encryption import gocryptfs, keys, sealed
from singularity.encryption.keys import Key
from singularity.errors import BuildError
from singularity.image.identify import identify
from singularity.image.sif import format as sif
from singularity.image.sif import write as sif_write
from singularity.image.sif.format import DataType
from singularity.image.sif.write import NewObject
from singularity.namespaces import fakeroot, own

_PARTITION = 1  # the id of the partition, which comes first


def enter() -> None:
    """This process becomes root, of a user namespace at least, and sees mounts of its own. Raises BuildError."""
    if os.geteuid() != 0:
        fakeroot.become_root()
    try:
        own.enter()
    except OSError as error:
        what = f"what is encrypted is mounted in a namespace, and there is none: {error.strerror}"
        raise BuildError(what, hint="in a container? run it with more rights") from error


def make(target: Path, key: Key, temporary: Path, build: Callable[[Path, Path], None], *, overwrite: bool) -> None:
    """Writes `target`, whole or not at all, as an encrypted SIF file of what `build` makes at the path it gets.

    `build` is given a directory too, for what must not lie on a disk as it is. `enter` has been called. Raises
    SingularityError.
    """
    secret, message = keys.begin(key)
    with files.temporary_directory(temporary) as directory:
        cipher, plain = directory / "cipher", directory / "plain"
        plain.mkdir()
        with gocryptfs.writing(cipher, secret, plain, str(target)):
            made = plain / "image.sif"
            build(made, plain)
            image = identify(made)
            root = plain / f"{gocryptfs.PREFIX}root"
            with made.open("rb") as file, root.open("xb") as new:
                objects = convert.objects_of(image.content, file) if image.content else []
                convert.copy_partition(image, file, new.fileno(), 0)
            made.unlink()
        locked = [_message(message)] if message else []
        with files.replacing(target, overwrite=overwrite, mode=0o777) as new_file:
            offset = sif_write.partition_offset(())
            _pack(cipher, root.name, new_file, offset, target)
            convert.write_objects(
                new_file, [*objects, *locked], offset, image.architecture, sif.Filesystem.GOCRYPTFS_SQUASHFS
            )


def _pack(cipher: Path, name: str, new: files.NewFile, offset: int, target: Path) -> None:
    """What is encrypted cannot be compressed."""
    words: list[str | Path] = ["mksquashfs", cipher / name, cipher / gocryptfs.CONFIGURATION, new.path]
    words += [*pack.common_arguments(offset), "-noI", "-noD", "-noF", "-noX", "-all-root", "-no-xattrs"]
    process.run(words, purpose=f"write {target}", keep=[new.fd])


def _message(data: bytes) -> NewObject:
    kind = DataType.CRYPTOGRAPHIC_MESSAGE
    return NewObject(type=kind, data=data, link=_PARTITION, extra=sealed.MESSAGE_EXTRA)
