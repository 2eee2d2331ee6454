"""Signing: a signature object for each group of a SIF file, behind everything that is there."""

import io
from pathlib import Path

from singularity.errors import SignatureError, UsageError
from singularity.image.sif import edit
from singularity.image.sif import format as sif
from singularity.image.sif.format import DataType
from singularity.trust.seals import Kind, Seal
from singularity.trust.signed import Source

_SHA256 = 1  # as descriptors number hashes


def sign(path: Path, seal: Seal, *, group: int | None = None, number: int | None = None) -> int:
    """Signs every group, one, or one object; returns how many signatures were added. Raises SingularityError."""
    with edit.editing(path) as editor, path.open("rb") as file:
        try:
            source = Source(file)
        except SignatureError as error:
            raise SignatureError(f"{path}: {error}") from error
        chosen = {key: list(objects) for key, objects in sorted(source.groups.items())}
        if number is not None:
            one = editor.find(number)
            if one.type == DataType.SIGNATURE:
                raise UsageError(f"{path}: object {number} is a signature", hint="they are not signed themselves")
            chosen = {one.group: [one]}
        elif group is not None:
            if group not in chosen:
                raise UsageError(f"{path}: there is no group {group}", hint="singularity sif list shows them")
            chosen = {group: chosen[group]}
        if not chosen:
            raise SignatureError(f"{path}: there is nothing in it that could be signed")
        made = {key: seal.sign(source.statement(key, objects).encode()) for key, objects in chosen.items()}
        for key, signature in made.items():
            extra = sif.signature_extra(_SHA256, seal.entity)
            # The rest of the family takes no image with a signature on a group that it does not know how to read, and
            # passes over those on an object.
            whole = seal.kind is not Kind.SSH
            link = key if whole else source.groups[key][0].id
            addition = edit.Addition(type=DataType.SIGNATURE, link=link, links_group=whole, extra=extra)
            editor.add(addition, io.BytesIO(signature))
        return len(made)
