"""What is signed: a statement about the objects of one group of a SIF file, as a line of JSON.

The format is that of the whole family: members in this order, without blanks, digests as `sha256:HEX`. Nothing here
knows how a statement is signed or by whom. The roots of hash trees are a further member, `verity`, behind the others:
readers of the family pass over members that they do not know. A tree itself is one more object of the group.
"""

import hashlib
import json
import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from singularity.errors import ImageError, SignatureError
from singularity.image.sif import format as sif
from singularity.image.sif.format import DataType, Descriptor, Sif
from singularity.trust import hash_tree

HASHES = {"sha256": "sha256", "sha384": "sha384", "sha512": "sha512", "sha512_256": "sha512_256"}
"""Names in digests, and what hashlib calls them. SHA-224 is known to the family, and too short."""

_BLOCK = 1 << 20
_DIGEST = re.compile(r"(\w+):([0-9a-f]{64,128})")
_SIGNED_HEAD = struct.Struct("<iBIIQqqq")  # of a descriptor; name and extra follow
_RAW_GROUP = 0xF0000000
_OBJECTS_LIMIT = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectDigests:
    """What is said of one object."""

    relative_id: int  # from the least id in the group
    descriptor: str
    data: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeRoot:
    """What is said of an object that has a hash tree."""

    relative_id: int
    tree: int  # the relative id of the object that the tree is
    root: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What a signature says of a group."""

    header: str
    objects: tuple[ObjectDigests, ...]  # in the order of their ids
    trees: tuple[TreeRoot, ...] = ()

    def encode(self) -> bytes:
        """The line of JSON that is signed, without an end of line."""
        objects = [
            {"relativeId": each.relative_id, "descriptorDigest": each.descriptor, "objectDigest": each.data}
            for each in self.objects
        ]
        document: dict[str, object] = {"version": 1, "header": {"digest": self.header}, "objects": objects}
        if self.trees:
            document["verity"] = [
                {"relativeId": each.relative_id, "tree": each.tree, "root": each.root} for each in self.trees
            ]
        return json.dumps(document, separators=(",", ":")).encode()


def decode(document: bytes) -> Statement:
    """The statement in a signed document. Raises SignatureError for anything else."""
    try:
        found = json.loads(document, object_pairs_hook=_without_doubles)
        if found["version"] != 1 or len(found["objects"]) > _OBJECTS_LIMIT:
            raise ValueError
        objects = tuple(
            ObjectDigests(
                relative_id=_number(each["relativeId"]),
                descriptor=_digest(each["descriptorDigest"]),
                data=_digest(each["objectDigest"]),
            )
            for each in found["objects"]
        )
        trees = tuple(
            TreeRoot(relative_id=_number(each["relativeId"]), tree=_number(each["tree"]), root=_digest(each["root"]))
            for each in found.get("verity", [])
        )
        for ids in ([each.relative_id for each in objects], [each.relative_id for each in trees]):
            if ids != sorted(set(ids)):
                raise ValueError
        if not objects:
            raise ValueError
        return Statement(header=_digest(found["header"]["digest"]), objects=objects, trees=trees)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SignatureError("what is signed is no statement about a SIF file") from error


class Source:
    """An open SIF file, of which every part is read once: what was checked is what was signed, whatever comes later.

    Raises ImageError where it is none or damaged, SignatureError where parts that no signature is of are not as every
    program reads them: descriptors have one spelling and an id of their own, every object is in a group, and the
    header's architecture is that of the primary partition.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.content = sif.read(file)
        self.groups: dict[int, list[Descriptor]] = {}  # what can be signed, in the order of ids
        self._digests: dict[tuple[int, str], str] = {}
        self._trees: dict[int, tuple[str, bytes]] = {}
        self._check_form()
        for each in sorted(self.content.descriptors, key=lambda each: each.id):
            if each.type == DataType.SIGNATURE:
                continue
            if not each.group:
                raise SignatureError(f"object {each.id} is in no group: no signature speaks of it")
            self.groups.setdefault(each.group, []).append(each)

    def with_more(self) -> "Source":
        """The file with objects that whoever calls has appended meanwhile: the others are not read again."""
        more = Source(self.file)
        more._digests, more._trees = self._digests, self._trees
        return more

    def tree_of(self, each: Descriptor) -> Descriptor | None:
        """The hash tree of a partition, if the file has one; whether it fits is another question."""
        for other in self.groups[each.group]:
            linked = other.link == each.id and not other.links_group
            if linked and other.type == DataType.GENERIC and other.name == hash_tree.NAME:
                return other
        return None

    def tree(self, each: Descriptor) -> tuple[str, bytes]:
        """The root and the bytes of the tree that an object's data has, whatever the file has."""
        if each.id not in self._trees:
            growing, digest = hash_tree.Growing(), hashlib.sha256()
            for piece in self._pieces(each):
                growing.update(piece)
                digest.update(piece)
            self._trees[each.id] = growing.finish()
            self._digests[each.id, "sha256"] = digest.hexdigest()
        return self._trees[each.id]

    def statement(self, group: int, chosen: Iterable[Descriptor]) -> Statement:
        """What is to be said of `chosen` objects of a group; a tree that does not fit has no root here."""
        chosen = list(chosen)
        base = self.groups[group][0].id
        trees = tuple(
            TreeRoot(relative_id=each.id - base, tree=tree.id - base, root=self.tree(each)[0])
            for each in chosen
            if (tree := self.tree_of(each)) in chosen and tree and self.tree_fits(each, tree)
        )
        objects = tuple(
            ObjectDigests(
                relative_id=each.id - base,
                descriptor=_named("sha256", _described(each, base)),
                data=f"sha256:{self.digest([each], 'sha256')}",
            )
            for each in chosen
        )
        return Statement(header=_named("sha256", _identity(self.content)), objects=objects, trees=trees)

    def tree_fits(self, each: Descriptor, tree: Descriptor) -> bool:
        """Whether an object is the tree of another's data, to the byte."""
        if each.size == 0 or each.size % hash_tree.BLOCK or tree.size != hash_tree.size_for(each.size):
            return False
        return self.digest([tree], "sha256") == hashlib.sha256(self.tree(each)[1]).hexdigest()

    def differences(self, group: int, chosen: Sequence[Descriptor], said: Statement) -> list[str]:
        """What is not as a statement has it; empty where `chosen` objects of a group are just those it speaks of."""
        base = self.groups[group][0].id
        there = {each.id - base: each for each in chosen}
        of = {each.relative_id: each for each in said.objects}
        found = [] if _fits(said.header, _identity(self.content)) else ["the header is not the one that was signed"]
        found += [f"object {base + number} was signed, and is not there" for number in sorted(of.keys() - there.keys())]
        for number, each in there.items():
            if number not in of:
                found.append(f"object {each.id} is not signed")
            elif not _fits(of[number].descriptor, _described(each, base)):
                found.append(f"the description of object {each.id} is not the one that was signed")
            elif self.digest([each], HASHES[(parts := of[number].data.split(":"))[0]]) != parts[1]:
                found.append(f"object {each.id} is not the one that was signed")
        for root in () if found else said.trees:
            data, tree = there.get(root.relative_id), there.get(root.tree)
            if data is None or tree is None:
                if len(there) == len(self.groups[group]):
                    found.append(f"object {base + root.relative_id} was signed with a hash tree that is not there")
            elif self.tree_of(data) != tree or not self.tree_fits(data, tree) or self.tree(data)[0] != root.root:
                found.append(f"object {tree.id} is not the hash tree of object {data.id}")
        return found

    def digest(self, objects: Sequence[Descriptor], name: str) -> str:
        """The digest, in hexadecimal, of the data of objects, one after another."""
        key = (objects[0].id, name)
        if len(objects) == 1 and key in self._digests:
            return self._digests[key]
        digest = hashlib.new(name)
        for each in objects:
            for piece in self._pieces(each):
                digest.update(piece)
        if len(objects) == 1:
            self._digests[key] = digest.hexdigest()
        return digest.hexdigest()

    def _pieces(self, each: Descriptor) -> Iterator[bytes]:
        self.file.seek(each.offset)
        left = each.size
        while left:
            data = self.file.read(min(left, _BLOCK))
            if not data:
                raise ImageError(f"object {each.id} is cut short")
            yield data
            left -= len(data)

    def _check_form(self) -> None:
        for row in sif.read_rows(self.file, self.content.header):
            if row[4] and sif.encode_descriptor(sif.decode_descriptor(row)) != row:
                raise SignatureError(f"the description of object {int.from_bytes(row[5:9], 'little')} is malformed")
        header = self.content.header
        if header.table_size != sif.row_offset(header, header.total) - header.table_offset:
            raise SignatureError("the table of objects has another size than the header says")
        if len({each.id for each in self.content.descriptors}) < len(self.content.descriptors):
            raise SignatureError("two objects have the same id")
        primary = self.content.primary()
        partition = primary.partition if primary else None
        if self.content.header.architecture != (partition.architecture if partition else sif.NO_ARCHITECTURE):
            raise SignatureError("the header has another architecture than the primary partition")


def _identity(content: Sif) -> bytes:
    header = content.header
    return header.launch.ljust(32, b"\0") + sif.MAGIC + header.version + header.identity


def _described(each: Descriptor, base: int) -> bytes:
    link = each.link | (_RAW_GROUP if each.links_group else 0)
    head = _SIGNED_HEAD.pack(each.type, 1, each.id - base, link, each.size, each.created, each.uid, each.gid)
    return head + each.name.ljust(sif.NAME_LIMIT, b"\0") + each.extra.ljust(384, b"\0")


def _named(name: str, data: bytes) -> str:
    return f"{name}:{hashlib.new(HASHES[name], data).hexdigest()}"


def _fits(digest: str, data: bytes) -> bool:
    return _named(digest.partition(":")[0], data) == digest


def _digest(text: str) -> str:
    match = _DIGEST.fullmatch(text)
    if match is None or match[1] not in HASHES:
        raise ValueError(text)
    if len(match[2]) != 2 * hashlib.new(HASHES[match[1]]).digest_size:
        raise ValueError(text)
    return text


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < sif.GROUP_LIMIT:
        raise ValueError(value)
    return value


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """JSON takes two members of one name, and programs differ on which of them counts."""
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("a member that stands there twice")
    return dict(pairs)
