"""Images as programs see them: what they are, what they say about themselves, and their files. Nothing is mounted."""

import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, Self

from singularity import uri
from singularity.api.calls import Call, wait
from singularity.api.door import Word
from singularity.api.orders import order
from singularity.errors import ImageError
from singularity.image import base, contents, lookup, stacked
from singularity.image.identify import Format
from singularity.image.identify import Image as Identified
from singularity.image.metadata import Metadata
from singularity.image.tree import Kind

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Unpack

    from singularity.api.definitions import Definition
    from singularity.api.options import FetchOptions
    from singularity.console import Progress
    from singularity.image.tree import Member

_FORMATS = {  # in the words of `build --format`
    Format.DIRECTORY: "sandbox",
    Format.SIF: "sif",
    Format.SQUASHFS: "squashfs",
    Format.EXT: "ext3",
    Format.EROFS: "erofs",
    Format.TAR: "tar",
    Format.CPIO: "cpio",
    Format.COMPRESSED: "archive",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file of an image."""

    path: PurePosixPath  # absolute, in the image
    kind: Kind
    size: int = 0  # of a file, in bytes
    mode: int  # permission bits
    uid: int
    gid: int
    mtime: int = 0  # nanoseconds since 1970
    target: str = ""  # of a symbolic link
    device: int = 0  # as os.makedev makes it


class Files:
    """The files of an image's root file system: `for file in image.files`, `image.files.read("/etc/os-release")`.

    Paths begin at the image's root, links in them lead nowhere else. Methods raise OSError (FileNotFoundError and the
    like) as those of `os` do, and ImageError for an image that is damaged, or whose files only a key opens.
    """

    def __init__(self, image: Identified) -> None:
        self._image = image
        self._stack = ExitStack()
        self._opened: lookup.Lookup | None = None

    def __iter__(self) -> Iterator[File]:
        """All files, in the order in which the image has them; a directory comes before what is in it."""
        with contents.tree(self._image) as tree:
            known: dict[bytes, Member] = {}
            for entry in tree:
                member = entry.member
                of = known.get(member.target, member) if member.kind is Kind.HARD_LINK else member
                known[member.path] = of
                yield _file(f"/{os.fsdecode(member.path)}", of)

    def stat(self, path: Word, *, follow: bool = True) -> File:
        """What is at a path; with `follow` at the end of links."""
        place, node = self._find(path, follow=follow)
        return _file(place, node)

    def exists(self, path: Word) -> bool:
        """Whether something is there, links followed."""
        try:
            self._find(path, follow=True)
        except FileNotFoundError:
            return False
        return True

    def names(self, path: Word = "/") -> list[str]:
        """The names in a directory, sorted."""
        place, node = self._find(path, follow=True)
        if node.kind is not Kind.DIRECTORY:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), place)
        return sorted(self._lookup().names(place))

    def open(self, path: Word) -> BinaryIO:
        """A regular file, to be read at any place; closed by whoever opens it, and before the image is."""
        place, node = self._find(path, follow=True)
        if node.kind is Kind.DIRECTORY:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), place)
        if node.kind is not Kind.FILE:
            raise OSError(errno.EINVAL, "not a regular file", place)
        return self._lookup().open(place)

    def read(self, path: Word, *, limit: int = 1 << 30) -> bytes:
        """The content of a regular file, all of it in memory.

        Raises OSError (EFBIG) for more than `limit` bytes: a file of holes takes no room in an image.
        """
        if self.stat(path).size > limit:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), os.fspath(path))
        with self.open(path) as file, lookup.translated(self._image.path):
            return file.read(limit)

    def read_text(self, path: Word, *, limit: int = 1 << 30) -> str:
        """The same as text in UTF-8."""
        return self.read(path, limit=limit).decode("utf-8")

    def close(self) -> None:
        """Closes the image's file, which is opened again where it is needed."""
        self._opened = None
        self._stack.close()

    def _lookup(self) -> lookup.Lookup:
        if self._opened is None:
            path, root = self._image.path, self._image.root
            if root.format.is_archive:
                raise ImageError(
                    f"{path}: an archive, whose files can only be gone through", hint="build an image of it"
                )
            on_base = base.of(self._image) is not None
            shown = stacked.shown(self._image) if on_base else lookup.opened(path, root)
            self._opened = self._stack.enter_context(shown)
        return self._opened

    def _find(self, path: Word, *, follow: bool) -> tuple[str, lookup.Node]:
        name = f"/{os.fspath(path)}"
        with lookup.translated(self._image.path):
            find = self._lookup().find
            if follow:
                place, node = lookup.resolve(find, name)
            else:
                above, _, last = name.rstrip("/").rpartition("/")
                place, _ = lookup.resolve(find, above)
                place = f"{place.rstrip('/')}/{last}"
                node = find(place) if last not in ("", ".", "..") else lookup.resolve(find, name)[1]
        if node is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(path))
        return place, node


def _file(path: str, found: "Member | lookup.Node") -> File:
    return File(
        path=PurePosixPath(path),
        kind=found.kind,
        mode=found.mode,
        uid=found.uid,
        gid=found.gid,
        size=found.size,
        target=os.fsdecode(found.target),
        device=found.device,
        mtime=found.mtime,
    )


class Image:
    """An image file or directory: `with Image.open("x.sif") as image: image.labels`.

    It can stand wherever an image is wanted: `singularity.exec(image, "ls")`.
    """

    def __init__(self, path: Word) -> None:
        """Of a file or directory of this machine. Raises FileError and ImageError."""
        from singularity.cli.inspected import identified

        self.path = Path(path)
        self._identified = identified(self.path)
        self._metadata: Metadata | None = None
        self._temporary = ""  # a directory that goes with it
        self.files = Files(self._identified)

    @classmethod
    def open(cls, image: Word, **options: "Unpack[FetchOptions]") -> "Image":
        """The image at a path, or what a URI names: from the cache, or fetched into it.

        `options` are those of fetching, as `singularity exec` has them. Raises FileError, ImageError, NetworkError and
        RegistryError.
        """
        return wait(fetched(image, **options)) if is_uri(image) else cls(image)

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"<Image {str(self.path)!r}, {self.format}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *about: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes its file; what was fetched for it alone, where nothing is kept in the cache, is removed."""
        self.files.close()
        if self._temporary:
            shutil.rmtree(self._temporary, ignore_errors=True)

    @property
    def format(self) -> str:
        """What it is: sif, sandbox, squashfs, erofs, ext3, or of archives tar, cpio and archive."""
        return _FORMATS[self._identified.format]

    @property
    def architecture(self) -> str:
        """For which it is, as Go names it; empty where the image does not say."""
        return self._identified.architecture

    @property
    def metadata(self) -> Metadata:
        """All that it says about itself, as `singularity inspect --all` shows it. Raises ImageError."""
        if self._metadata is None:
            self._metadata = inspect(self)
        return self._metadata

    @property
    def labels(self) -> Mapping[str, str]:
        """Its labels."""
        return self.metadata.labels

    @property
    def environment(self) -> Mapping[str, str]:
        """The scripts that set its variables: path in the image, text."""
        return self.metadata.environment

    @property
    def definition(self) -> "Definition | None":
        """What it was built from; None where it does not say. Raises DefinitionError for text that is none."""
        from singularity.api.definitions import Definition

        text = self.metadata.deffile
        return Definition.parse(text, name=f"definition of {self.path}") if text else None


def inspect(image: Word) -> Metadata:
    """What an image says about itself: labels, scripts, help, environment, definition, applications.

    Raises FileError and ImageError.
    """
    from singularity.cli.inspected import described

    return described(Path(image))


def fetched(
    name: Word, *, on_progress: "Callable[[Progress], object] | None" = None, **options: "Unpack[FetchOptions]"
) -> Call[Image]:
    """The image of a URI: in the cache or, where nothing is kept there, for as long as it is open."""

    def made(found: tuple[str, str]) -> Image:
        path, temporary = found
        image = Image(path)
        image._temporary = temporary
        return image

    return order("available", {"name": os.fspath(name), "options": options}, made, on_progress=on_progress)


def is_uri(image: Word) -> bool:
    """Whether an image is named by a transport. Raises ImageError for a transport that nobody knows."""
    return isinstance(image, str) and not image.startswith("instance://") and uri.parse(image) is not None
