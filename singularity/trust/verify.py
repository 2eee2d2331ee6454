"""Checking the signatures of a SIF file: that everything in it is as somebody who counts has signed it.

The file is opened once by whoever calls, and all that is checked is read through that. A group of objects is good when
each signature that speaks of it, and of whose kind keys were given, is good and is of just the objects that are there.
"""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import BinaryIO

from singularity.errors import ImageError, SignatureError
from singularity.image.sif import format as sif
from singularity.image.sif.format import DataType, Descriptor
from singularity.trust import seals, signed
from singularity.trust.seals import Checker, Kind, Sealed, Signer
from singularity.trust.signed import Source

logger = logging.getLogger(__name__)

_HASHES = {1: "sha256", 2: "sha384", 3: "sha512"}  # of those that a descriptor can name
_LEGACY_TEXT = re.compile(rb"SIFHASH:\n([0-9a-f]+)\n?")
_GIVES = {Kind.OPENPGP: "no key ring", Kind.PEM: "no --key or --certificate", Kind.SSH: "no --ssh"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """A signature that is good, and the objects that it is of."""

    number: int  # of the signature object
    signer: Signer
    objects: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be checked; where neither a group nor an object is chosen, everything."""

    group: int | None = None
    object: int | None = None
    legacy: bool = False  # signatures of the old form, and only those
    all_objects: bool = False  # of legacy: not the primary partition alone


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """A signature object."""

    descriptor: Descriptor
    sealed: Sealed


def verify(file: BinaryIO, wanted: Wanted, checkers: Sequence[Checker]) -> list[Verified]:
    """The good signatures of everything that is wanted. Raises SignatureError where there are not all of them."""
    try:
        source = Source(file)
        found = _signatures(source, legacy=wanted.legacy)
        by_kind = {each.kind: each for each in checkers}
        check = _legacy if wanted.legacy else _current
        return [
            each for group, chosen in _chosen(source, wanted) for each in check(source, group, chosen, found, by_kind)
        ]
    except ImageError as error:
        raise SignatureError(str(error)) from error


def _signatures(source: Source, *, legacy: bool) -> list[_Found]:
    found = []
    for each in source.content.descriptors:
        if each.type != DataType.SIGNATURE:
            continue
        with _about(each):
            if any(each.extra[24:]) or each.group:
                raise SignatureError("its description is malformed")
            sealed = seals.opened(sif.read_object(source.file, each, limit=seals.LIMIT))
        if sealed.is_legacy is legacy:
            found.append(_Found(descriptor=each, sealed=sealed))
    return found


def _chosen(source: Source, wanted: Wanted) -> Iterator[tuple[int, list[Descriptor]]]:
    """The groups that are to be checked, each with those of its objects that are."""
    everything = [each for group in source.groups.values() for each in group]
    if wanted.object is not None:
        one = [each for each in everything if each.id == wanted.object]
    elif wanted.group is None and wanted.legacy and not wanted.all_objects:
        primary = source.content.primary()
        one = [primary] if primary else []
    elif wanted.group is None:
        if not everything:
            raise SignatureError("there is nothing in it that could be signed")
        yield from sorted(source.groups.items())
        return
    elif wanted.group in source.groups:
        yield wanted.group, source.groups[wanted.group]
        return
    else:
        raise SignatureError(f"there is no group {wanted.group}")
    if not one:
        raise SignatureError(f"there is no object {wanted.object} that could be signed")
    yield one[0].group, one


def _current(
    source: Source, group: int, chosen: list[Descriptor], found: list[_Found], checkers: Mapping[Kind, Checker]
) -> list[Verified]:
    """The good signatures of `chosen`: all objects of a group, or one of them."""
    good: list[Verified] = []
    whole = len(chosen) == len(source.groups[group])
    ids = {each.id - source.groups[group][0].id for each in chosen}
    for each in found:
        linked = {group} if each.descriptor.links_group else {one.id for one in source.groups[group]}
        if each.descriptor.link not in linked or not _can_check(each, checkers):
            continue
        with _about(each.descriptor):
            signer = checkers[each.sealed.kind].check(each.sealed, _entity(each.descriptor))
            said = signed.decode(each.sealed.document)
            if said.header.partition(":")[0] != _hash_of(each.descriptor):
                raise SignatureError("its description names another hash")
            if not whole:
                said = replace(said, objects=tuple(one for one in said.objects if one.relative_id in ids))
                if not said.objects:
                    continue
            wrong = source.differences(group, chosen, said)
            if wrong:
                raise SignatureError("; ".join(wrong))
        good.append(Verified(number=each.descriptor.id, signer=signer, objects=tuple(chosen)))
    if not good:
        what = f"group {group}" if whole else str(chosen[0].id)
        raise SignatureError(
            f"signature not found for object {what}", hint="nobody has signed it, or with another kind of key"
        )
    return good


def _legacy(
    source: Source, group: int, chosen: list[Descriptor], found: list[_Found], checkers: Mapping[Kind, Checker]
) -> list[Verified]:
    """Good signatures of before 2020: of each object by itself, or of the whole group. They leave descriptors out."""
    good: list[Verified] = []
    whole = source.groups[group]
    for each in found:
        link, is_group = each.descriptor.link, each.descriptor.links_group
        objects = [one for one in chosen if one.id == link] if not is_group else whole if link == group else []
        if not objects or not _can_check(each, checkers):
            continue
        with _about(each.descriptor):
            signer = checkers[each.sealed.kind].check(each.sealed, _entity(each.descriptor))
            name = _hash_of(each.descriptor)
            text = _LEGACY_TEXT.fullmatch(each.sealed.document)
            if not name or text is None or text[1].decode() != source.digest(objects, name):
                raise SignatureError("the data is not what was signed")
        good.append(Verified(number=each.descriptor.id, signer=signer, objects=tuple(objects)))
    unsigned = {each.id for each in chosen} - {one.id for each in good for one in each.objects}
    if unsigned:
        raise SignatureError(f"signature not found for object {', '.join(map(str, sorted(unsigned)))}")
    return good


def _can_check(each: _Found, checkers: Mapping[Kind, Checker]) -> bool:
    kind = each.sealed.kind
    if kind not in checkers:
        logger.warning(
            "signature object %d, by %s, is not checked: %s was given", each.descriptor.id, kind.value, _GIVES[kind]
        )
    return kind in checkers


def _hash_of(descriptor: Descriptor) -> str:
    return _HASHES.get(int.from_bytes(descriptor.extra[:4], "little"), "")


def _entity(descriptor: Descriptor) -> bytes:
    return descriptor.extra[4:24].ljust(20, b"\0")


@contextmanager
def _about(descriptor: Descriptor) -> Iterator[None]:
    with SignatureError.named(f"signature object {descriptor.id} not valid"):
        yield
