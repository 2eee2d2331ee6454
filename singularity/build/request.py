"""What a build was asked for: checked once, and never looked at as text again."""

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

from singularity.sources.fetch import Fetch

if TYPE_CHECKING:
    from singularity.files import NewFile
    from singularity.image.identify import Image
    from singularity.image.root import Root

SECTIONS = frozenset({"setup", "post", "files", "environment", "test", "labels"})


class Target(Enum):
    """What a build can make; the values are the words of `--format`."""

    SIF = "sif"
    SANDBOX = "sandbox"
    SQUASHFS = "squashfs"
    EROFS = "erofs"
    EXT3 = "ext3"
    TAR = "tar"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bind:
    """A file or directory of the host that scripts of a build see; the image keeps its own."""

    source: Path  # on the host
    target: str  # in the image: absolute
    writable: bool = True

    @property
    def is_directory(self) -> bool:
        """What its mount point has to be."""
        return self.source.is_dir()


@dataclass(frozen=True, slots=True, kw_only=True)
class Empty:
    """An empty directory in memory, gone with the program that sees it."""

    target: str
    size: int = 0  # bytes that it may hold; 0: as many as the kernel lets it
    is_directory: ClassVar[bool] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """A file in memory, gone with the program that sees it: no disk has it at any time."""

    target: str
    data: bytes
    mode: int = 0o400
    uid: int = 0
    gid: int = 0
    is_directory: ClassVar[bool] = False


Mount = Bind | Empty | Content


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """Where a secret is that RUN may see; never part of an image, a key or a message."""

    file: Path | None = None
    variable: str = ""  # of the environment


@dataclass(frozen=True, slots=True, kw_only=True)
class On:
    """An image that others are made on."""

    path: Path
    name: str = ""  # of the file, for others; empty: as `path` has it
    uri: str = ""  # that it came from


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What of an image is to be in the new one."""

    paths: AbstractSet[bytes]  # as a stream has them: without "/" before them
    complete: Callable[["Root"], None]  # what the files that launches look at are to say besides


class Only(Protocol):
    """A build that leaves files of an image out (`singularity.slim`)."""

    def chosen(self, image: "Image") -> Chosen:
        """Which are to stay. Raises SingularityError."""

    def try_out(self, new: "NewFile", target: Path) -> None:
        """Of what is about to get the name `target`. Raises BuildError where the new image is not to be kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """One build, from the command line or from a program."""

    target: Path
    source: str  # a definition file, an image or a directory
    format: Target = Target.SIF
    erofs: bool = False  # the file system in a SIF file is EROFS, and not squashfs
    size: int | None = None  # of an EXT3 target, in MiB; None: what its content needs
    overwrite: bool = False
    sections: frozenset[str] = SECTIONS  # of those in SECTIONS, the ones to be used
    keep: bool = False  # the working directory stays
    mksquashfs_arguments: tuple[str, ...] = ()
    watch: int | None = None  # seconds for starts of the image's programs, watched for its layout; None: what is usual
    arguments: Mapping[str, str] = field(default_factory=dict)  # values of templates
    unused_arguments_allowed: bool = False
    secrets: Mapping[str, Secret] = field(default_factory=dict)  # of Dockerfiles, by id
    cache: bool = True  # layers and downloads are kept
    resume: bool = True  # layers of earlier builds are used; else they are replaced
    on: On | None = None  # the image that TARGET is made on: it holds only what differs
    onto: Path | None = None  # a container whose content the build begins with: a directory or an image file
    update: bool = False  # the header is skipped: sections only, on what `onto` has
    test_arguments: tuple[str, ...] = ()  # of %test
    binds: tuple[Bind, ...] = ()  # for %post, %appinstall and %test, as are the next two
    nv: bool = False  # NVIDIA's devices and libraries
    rocm: bool = False  # AMD's
    writable_tmpfs: bool = False  # what %test writes is thrown away
    reproducible: bool = False  # SOURCE_DATE_EPOCH comes from the definition where the environment has none
    architecture: str = ""  # as Go and OCI name it; empty: the host's
    fix_permissions: bool = False  # the owner may read and write everything, and enter every directory
    by_user: bool = False  # who calls is an ordinary user, whose directories are to be his, so that he can remove them
    is_encrypted_next: bool = False  # `target` is not yet what was asked for, and nobody is told that it is done
    keep_owners: bool = False  # ... but for their owners, which are his subordinate ids then
    fetch: Fetch = field(default_factory=Fetch)  # how images are fetched that it is built from
    only: Only | None = None  # files of the image are left out
    temporary: Path  # where the working directory is made

    @property
    def makes_erofs(self) -> bool:
        """Whether mkfs.erofs writes the file system."""
        return self.erofs or self.format is Target.EROFS
