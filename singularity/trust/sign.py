"""Signing: a signature object for each group of a SIF file, behind everything that is there. Before it come hash
trees of the partitions, by which launches check what they read, whatever its size.
"""

import io
import logging
from pathlib import Path

from singularity.errors import SignatureError, UsageError
from singularity.image.sif import edit
from singularity.image.sif import format as sif
from singularity.image.sif.format import DataType
from singularity.trust import hash_tree
from singularity.trust.seals import Kind, Seal
from singularity.trust.signed import Source

logger = logging.getLogger(__name__)

_SHA256 = 1  # as descriptors number hashes


def sign(path: Path, seal: Seal, *, group: int | None = None, number: int | None = None, trees: bool = True) -> int:
    """Signs every group, one, or one object; returns how many signatures were added. Raises SingularityError.

    `trees`: each partition of a group that is not signed yet gets a hash tree first.
    """
    with edit.editing(path) as editor, path.open("rb") as file:
        with SignatureError.named(path):
            source = Source(file)
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
        if trees and number is None and _grow(editor, source, chosen.keys() - source.content.signed_groups()):
            source = source.with_more()
            chosen = {key: source.groups[key] for key in chosen}
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


def _grow(editor: edit.Editor, source: Source, groups: set[int]) -> bool:
    """Adds the trees that are missing in these groups; says whether there were any."""
    grown = False
    for each in [each for group in sorted(groups) for each in source.groups[group] if each.type == DataType.PARTITION]:
        if not each.size or each.size % hash_tree.BLOCK:
            logger.info("object %d gets no hash tree: its size is no multiple of %d", each.id, hash_tree.BLOCK)
            continue
        there = source.tree_of(each)
        if there is not None and source.tree_fits(each, there):
            continue
        if there is not None:
            what = f"{editor.path}: object {there.id} is not the hash tree of what object {each.id} is now"
            raise SignatureError(what, hint=f"singularity sif del {there.id} removes it")
        addition = edit.Addition(
            type=DataType.GENERIC, name=hash_tree.NAME, group=each.group, link=each.id, alignment=hash_tree.BLOCK
        )
        editor.add(addition, io.BytesIO(source.tree(each)[1]))
        grown = True
    return grown
