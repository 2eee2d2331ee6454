"""Images on each other as one stream.

What lies over a base is a tree below `upper`, with a character device 0:0 in place of what is gone.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from singularity import files
from singularity.errors import FileError
from singularity.image import base, contents, stacked
from singularity.image.identify import Image
from singularity.image.lookup import opened
from singularity.image.root import Root
from singularity.image.squashfs.filesystem import Inode
from singularity.image.squashfs.lookup import InSquashfs
from singularity.image.tree import Entry, Kind, Member, Tree
from singularity.image.xattrs import CAPABILITY

UPPER = b"upper"
_PREFIX = UPPER + b"/"


@contextmanager
def tree(chain: Sequence[Image]) -> Iterator[Tree]:
    """The files of the first image of a chain (`base.chain`), each path once. Raises as `contents.tree`."""
    image, *below = chain
    if not below:
        with contents.partition(image.path, image.root) as found:
            yield found
        return
    with contents.partition(image.path, image.root) as found:
        members = {each.member.path: each.member for each in _upper(found)}
    with tree(below) as lower, contents.partition(image.path, image.root) as found:
        yield _laid_over(lower, members, _upper(found))


def _laid_over(lower: Tree, members: dict[bytes, Member], upper: Tree) -> Tree:
    """Directories that both have come with the lower one, as what is in them does; all else of the upper one later."""
    told = set()
    for entry in lower:
        path = entry.member.path
        above = members.get(path)
        if above is not None and above.kind is Kind.DIRECTORY and entry.member.kind is Kind.DIRECTORY:
            told.add(path)
            yield Entry(above)
        elif above is None and not _is_hidden(path, members):
            yield entry
    for entry in upper:
        if entry.member.path not in told and not is_whiteout(entry.member):
            yield entry


def is_whiteout(member: Member) -> bool:
    """Whether it stands for a file that is gone."""
    return member.kind is Kind.CHARACTER_DEVICE and member.device == 0


def _is_hidden(path: bytes, members: dict[bytes, Member]) -> bool:
    """Whether something in the upper tree takes the place of a directory above a path."""
    above = path.rpartition(b"/")[0]
    while above:
        found = members.get(above)
        if found is not None:
            return found.kind is not Kind.DIRECTORY
        above = above.rpartition(b"/")[0]
    return False


def _upper(found: Tree) -> Tree:
    """What is below `upper`, as if that were the root."""
    for entry in found:
        member = entry.member
        if member.path == UPPER or member.path.startswith(_PREFIX):
            target = member.target.removeprefix(_PREFIX) if member.kind is Kind.HARD_LINK else member.target
            yield Entry(replace(member, path=member.path[len(_PREFIX) :], target=target), entry.data)


# ---- holes


def fill_zeros(chain: Sequence[Image], root: Path) -> None:
    """Gives room on the disk to zeros of unpacked files that were no holes when they were packed.

    Blocks of zeros are stored as holes, whether they were some or not, but a squashfs notes which files had holes, and
    mksquashfs would note others than it has noted. unsquashfs does the same. Raises ImageError and FileError.
    """
    with stacked.shown(chain[0]) as seen, Root(root) as inside:  # links of an image lead nowhere outside of it
        for number, image in enumerate(chain):
            if not isinstance(seen, stacked.Stacked):
                return
            for path, is_sparse in _noted(image, is_lowest=number == len(chain) - 1):
                if not is_sparse and seen.layer_of(path) == number:
                    _fill(inside, path)


def _noted(image: Image, *, is_lowest: bool) -> Iterator[tuple[str, bool]]:
    """The files of one image that may have holes, and whether they have."""
    said = base.of(image)
    sparse = set(said.sparse) if said else set()
    above = "" if is_lowest else f"/{os.fsdecode(UPPER)}"
    with opened(image.path, image.root) as lookup:
        block = lookup.system.block_size if isinstance(lookup, InSquashfs) else 0
        for walked in lookup.walk() if block else ():
            if walked.node.kind is Kind.FILE and walked.node.size >= block and walked.path.startswith(above):
                path, inode = walked.path[len(above) :], walked.inode
                yield path, inode.sparse > 0 if is_lowest and isinstance(inode, Inode) else path in sparse


def _fill(inside: Root, path: str) -> None:
    """What a change of the content takes away is given back."""
    with FileError.about(path):
        there = inside.status(path, follow=False)
        if there is None or not stat.S_ISREG(there.st_mode):
            return
        with files.closing(inside.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)) as fd:
            status, capability = os.fstat(fd), b""
            if status.st_blocks * 512 >= status.st_size:
                return
            with suppress(OSError):
                capability = os.getxattr(fd, CAPABILITY)
            os.posix_fallocate(fd, 0, status.st_size)
            os.fchmod(fd, stat.S_IMODE(status.st_mode))
            if capability:
                os.setxattr(fd, CAPABILITY, capability)
            os.utime(fd, ns=(status.st_atime_ns, status.st_mtime_ns))
