"""COPY and ADD: files of the context, of stages, of web servers and of the Dockerfile itself go into the image."""

import errno
import hashlib
import os
import posixpath
import re
import stat
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from singularity.build import gate
from singularity.build.dockerfile import accounts, sources
from singularity.build.dockerfile.accounts import UnknownNameError
from singularity.build.dockerfile.sources import Source
from singularity.build.reproducible import source_date_epoch
from singularity.definition.dockerfile import ignore, words
from singularity.definition.dockerfile.ignore import Patterns
from singularity.definition.dockerfile.state import State, absolute, fail
from singularity.definition.dockerfile.words import WordError
from singularity.definition.model import HereDocument, Instruction
from singularity.definition.sections import WORD_LIMIT
from singularity.errors import FileError, ImageError, NetworkError, RegistryError
from singularity.image import directory
from singularity.image.archive import reader as archives
from singularity.image.archive.policy import Parents, Policy
from singularity.image.archive.unpack import Unpacker, warn
from singularity.image.identify import Format, identify_open
from singularity.image.root import Root
from singularity.image.tree import Entry, Kind, Member, Tree

_WEB = ("http://", "https://")
_GIT = re.compile(r"git@|git://|ssh://|(?:https?://).*\.git(?:#.*)?\Z")
_READING = os.O_RDONLY | os.O_NONBLOCK
_CHUNK = 1 << 20
Opener = Callable[[], AbstractContextManager[Source]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Copying:
    """One COPY or ADD, variables filled in."""

    instruction: Instruction
    sources: tuple[str, ...]  # patterns and URLs
    documents: tuple[tuple[HereDocument, str], ...]  # with their texts
    target: str  # absolute
    is_directory: bool  # whether the target is one, by how it is written or for what goes there
    excluded: Patterns | None
    owner: str  # of --chown; empty: it stays as it is
    mode: int | None
    checksum: str  # of --checksum, `sha256:DIGITS`
    unpacks: bool  # archives

    @property
    def words(self) -> list[object]:
        """All that it says, for digests."""
        excluded = self.excluded.patterns if self.excluded else ()
        texts = [[document.name, text] for document, text in self.documents]
        words = [self.sources, texts, self.target, self.is_directory, excluded, self.owner, self.mode]
        return [*words, self.checksum, self.unpacks]


def understood(instruction: Instruction, state: State) -> Copying:
    """What a COPY or ADD asks for. Raises DefinitionError."""
    listed = words.json_list(instruction.text)
    documents = {each.word: each for each in instruction.documents}
    plain, texts = [], []
    *given, last = instruction.text.split() if listed is None else listed
    for word in given:
        if word in documents and listed is None:
            texts.append((documents[word], _text(instruction, documents[word], state)))
        else:
            plain.append(state.filled(instruction, word))
    target = state.filled(instruction, last)
    if not target or not all(plain):
        raise fail(instruction, "an empty word, of which nothing can be copied")
    excluded = [state.filled(instruction, value) for flag, value in instruction.flags if flag == "exclude"]
    unpack = instruction.flag("unpack")
    return Copying(
        instruction=instruction,
        sources=tuple(plain),
        documents=tuple(texts),
        target=absolute(state, target),
        is_directory=target.endswith(("/", "/.")) or target in (".", "..") or len(given) > 1,
        excluded=ignore.read("\n".join(excluded), instruction.file) if excluded else None,
        owner=state.filled(instruction, instruction.flag("chown")),
        mode=_mode(instruction, state.filled(instruction, instruction.flag("chmod"))),
        checksum=state.filled(instruction, instruction.flag("checksum")),
        unpacks=instruction.name == "ADD" and unpack != "false",
    )


def _text(instruction: Instruction, document: HereDocument, state: State) -> str:
    if not document.expands:
        return document.body
    try:
        return words.fill_text(document.body, state.values, instruction.escape)
    except WordError as error:
        raise fail(instruction, f"<<{document.name}: {error}") from error


def _mode(instruction: Instruction, text: str) -> int | None:
    if not text:
        return None
    if not re.fullmatch(r"[0-7]{1,5}", text) or int(text, 8) > 0o7777:
        raise fail(instruction, f"--chmod={text[:WORD_LIMIT]}: an octal number is expected", "such as 755")
    return int(text, 8)


def remote(instruction: Instruction, word: str) -> bool:
    """Whether a source of ADD is a URL. Raises DefinitionError for repositories of git."""
    if instruction.name != "ADD":
        return False
    if _GIT.match(word):
        raise fail(
            instruction, f"{word[:WORD_LIMIT]}: git repositories are not fetched", "RUN git clone, or a bind mount"
        )
    return word.startswith(_WEB)


def found(copying: Copying, source: Source, word: str) -> list[str]:
    """The paths that a source stands for. Raises DefinitionError where there are none."""
    instruction = copying.instruction
    if source.is_context and posixpath.normpath(word.lstrip("/")).split("/")[0] == "..":
        what = f"{word[:WORD_LIMIT]} lies outside of the context"
        raise fail(instruction, what, "name a directory above as the context: --file DOCKERFILE TARGET CONTEXT")
    names = source.names(word)
    if not names:
        hint = (
            "or .dockerignore leaves it out"
            if source.is_context and source.patterns and source.patterns.patterns
            else ""
        )
        where = "context" if source.is_context else "stage"
        raise fail(instruction, f"{word[:WORD_LIMIT]}: no such file in the {where} {source.shown}".rstrip(), hint)
    return names


def inputs(copying: Copying, opened: Opener) -> list[object]:
    """All that the host has of the sources, for the key of the build cache. Raises DefinitionError."""
    result: list[object] = []
    with opened() as source:
        for word in copying.sources:
            if remote(copying.instruction, word):
                result.append(word)
            else:
                with explained(copying.instruction):
                    names = found(copying, source, word)
                    result.append([(name, sources.digest(source, name, copying.excluded)) for name in names])
    return result


def perform(copying: Copying, opened: Opener, root: Path, scratch: Path) -> None:
    """Carries it out; `scratch` is a directory for what is downloaded. Raises DefinitionError and SingularityError."""
    with Root(root) as target, opened() as source, explained(copying.instruction):
        copier = _Copier(copying, target, scratch)
        for word in copying.sources:
            if remote(copying.instruction, word):
                copier.download(word)
            else:
                names = found(copying, source, word)
                for name in names:
                    copier.copy(source, name, many=len(names) > 1)
        for document, text in copying.documents:
            data = text.encode("utf-8", "surrogateescape")
            member = Member(path=b"", kind=Kind.FILE, mode=0o644, size=len(data), mtime=_now())
            copier.file(Entry(member, (data,)), document.name)


@contextmanager
def explained(instruction: Instruction) -> Iterator[None]:
    """Puts the line of the instruction in front of what the system says."""
    try:
        yield
    except UnknownNameError as error:
        raise fail(instruction, str(error), "numbers do, too") from error
    except (ImageError, FileError) as error:
        raise fail(instruction, error.what, error.hint) from error
    except OSError as error:
        about = f"{error.filename}: " if error.filename else ""
        raise fail(instruction, f"{about}{error.strerror}") from error


class _Copier:
    def __init__(self, copying: Copying, root: Root, scratch: Path) -> None:
        self.copying = copying
        self.root = root
        self.scratch = scratch
        self.target = copying.target.strip("/")
        self.owner = accounts.owner(root, copying.owner) if copying.owner else None
        self.policy = replace(Policy.of_caller(), parents=Parents.FOLLOW)

    def into_directory(self) -> bool:
        return self.copying.is_directory or self.root.is_directory(self.target)

    def copy(self, source: Source, name: str, *, many: bool) -> None:
        """A file, or what is in a directory, or in an archive."""
        if source.root.is_directory(name):
            self.tree(source.entries(name, self.copying.excluded), self.target, into=True)
            return
        if self.copying.unpacks and self.unpack(source, name):
            return
        for entry in source.entries(name):
            self.file(entry, posixpath.basename(name), many=many)

    def file(self, entry: Entry, name: str, *, many: bool = False) -> None:
        path = f"{self.target}/{name}".lstrip("/") if many or self.into_directory() else self.target
        if self.root.is_directory(path):
            raise OSError(errno.EISDIR, "a directory is there, and a file should be", path)
        self.tree(iter([entry]), path)

    def tree(self, entries: Tree, path: str, *, into: bool = False, as_is: bool = False) -> None:
        """Entries below a path; what is `into` a directory finds that made, as are all above it.

        With `as_is`, of an archive, they keep their owners and modes, whatever is asked for.
        """
        prefix = path.encode("utf-8", "surrogateescape")
        with Unpacker(self.root.path, self.policy) as unpacker:
            for made in _missing(self.root, path if into else posixpath.dirname(path), self.owner or (0, 0)):
                unpacker.add(Entry(made))
            for entry in entries:
                placed = sources.below(entry.member, prefix)
                if not self.is_kept(placed, is_top=not entry.member.path):
                    unpacker.add(Entry(placed if as_is else self.changed(placed), entry.data))
            warn(unpacker.finish(), Path(self.copying.instruction.file))

    def is_kept(self, member: Member, *, is_top: bool) -> bool:
        """Whether a directory is there, and stays as it is: the target itself, and what a link leads to."""
        if member.kind is not Kind.DIRECTORY:
            return False
        name = member.path.decode("utf-8", "surrogateescape")
        status = self.root.status(name, follow=False)
        if status is None or not (is_top or stat.S_ISLNK(status.st_mode)):
            return False
        return self.root.is_directory(name)

    def changed(self, member: Member) -> Member:
        """A member with the owner and the mode that were asked for."""
        if self.owner is not None:
            member = replace(member, uid=self.owner[0], gid=self.owner[1])
        if self.copying.mode is not None and member.kind is not Kind.LINK:
            member = replace(member, mode=self.copying.mode)
        return member

    def unpack(self, source: Source, name: str) -> bool:
        """Unpacks a tar archive into the target; False for what is none."""
        with open(source.root.open(name, _READING), "rb") as file, ExitStack() as stack:
            try:
                if identify_open(file.fileno(), Path(name)).format not in (Format.TAR, Format.COMPRESSED):
                    return False
                file.seek(0)
                tree = stack.enter_context(archives.opened(file, name))
            except ImageError:  # of no known kind, or compressed and no archive
                return False
            self.tree(tree, self.target, into=True, as_is=True)
        return True

    def download(self, url: str) -> None:
        """A file of a web server, which only its owner may read, and which is not unpacked."""
        name = posixpath.basename(urllib.parse.unquote(urllib.parse.urlsplit(url).path))
        if (not name or "\0" in name) and self.into_directory():
            raise fail(
                self.copying.instruction, f"{url}: no name for the file in it", "name a target that is no directory"
            )
        place = self.scratch / "download"
        try:
            _fetch(self.copying, url, place)
            with place.open("rb") as file:
                entry = directory.read_file(file.fileno(), place)
                self.file(Entry(replace(entry.member, mode=0o600, uid=0, gid=0, mtime=_now()), entry.data), name)
        finally:
            place.unlink(missing_ok=True)


def _fetch(copying: Copying, url: str, place: Path) -> None:
    digest = hashlib.sha256()
    try:
        with gate.opened(url) as stream, place.open("xb") as file:
            while data := stream.read(_CHUNK):
                digest.update(data)
                file.write(data)
    except (NetworkError, RegistryError) as error:
        raise fail(copying.instruction, error.what, error.hint) from error
    got = f"sha256:{digest.hexdigest()}"
    if copying.checksum and copying.checksum.lower() != got:
        raise fail(copying.instruction, f"{url}: its checksum is {got}", "not what --checksum says")


def make_directory(instruction: Instruction, root: Path, path: str, user: str = "") -> None:
    """Makes a directory, with those above it that are missing, a user's. Raises DefinitionError and FileError."""
    policy = replace(Policy.of_caller(), parents=Parents.FOLLOW)
    with explained(instruction), Root(root) as opened, Unpacker(root, policy) as unpacker:
        account = accounts.find(opened, user)
        for made in _missing(opened, path, (account.uid, account.gid)):
            unpacker.add(Entry(made))
        unpacker.finish()


def _missing(root: Root, path: str, owner: tuple[int, int]) -> Iterator[Member]:
    """The directories that are not there on the way to one, with itself. Raises OSError where something else is."""
    done = ""
    for part in filter(None, path.split("/")):
        done = f"{done}/{part}".lstrip("/")
        status = root.status(done) or root.status(done, follow=False)
        if status is None:
            name = done.encode("utf-8", "surrogateescape")
            yield Member(path=name, kind=Kind.DIRECTORY, mode=0o755, uid=owner[0], gid=owner[1], mtime=_now())
        elif not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "no directory is there, and one should be", f"/{done}")


def _now() -> int:
    epoch = source_date_epoch()
    return time.time_ns() if epoch is None else epoch * 10**9
