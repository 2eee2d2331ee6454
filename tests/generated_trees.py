"""Trees of every kind of file, from a number: the same number gives the same tree. For what must hold for any image."""

from __future__ import annotations

import os
import random
import stat
from pathlib import Path

NAMES = [
    "plain",
    "with space",
    "-dash",
    "new\nline",
    "quo'te\"s",
    "back\\slash",
    "ümlaut",
    "ends.",
    "...",
    "#",
    "~",
    "x" * 255,
]
SIZES = [0, 1, 511, 4095, 4096, 4097, 8192, 20_000, 65_536, 131_071, 131_073, 300_000, 1_048_576, 1_500_000]
IDS = [0, 1, 33, 1000, 65_534, 1_000_000]


class Tree:
    """One being made."""

    def __init__(self, number: int, root: Path, *, bytes_most: int = 3_000_000) -> None:
        self.random = random.Random(number)  # noqa: S311 - the same each time
        self.left = bytes_most
        self.files: list[bytes] = []
        root.mkdir()
        self.directory(os.fsencode(root), depth=0)

    def name(self) -> bytes:
        known = self.random.choice(NAMES).encode()
        return known if self.random.random() < 0.4 else b"%x\xff%x" % (self.random.getrandbits(20), len(known))

    def contents(self) -> bytes:
        size = min(self.random.choice(SIZES), self.left)
        self.left -= size
        kind = self.random.randrange(3)
        if kind == 0:
            return self.random.randbytes(size)
        word = self.random.randbytes(self.random.randrange(1, 50))
        return (word * (size // len(word) + 1))[:size]

    def file(self, path: bytes) -> None:
        with open(path, "wb") as file:
            for _ in range(self.random.randrange(3)):
                file.seek(self.random.choice(SIZES), os.SEEK_CUR)  # a hole
                file.write(self.contents())
            if self.random.random() < 0.3:
                file.truncate(self.random.choice(SIZES))

    def special(self, path: bytes) -> None:
        kind = self.random.choice([stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK])
        number = os.makedev(self.random.randrange(1 << 12), self.random.randrange(1 << 20))
        os.mknod(path, kind | 0o640, number if kind in {stat.S_IFCHR, stat.S_IFBLK} else 0)

    def directory(self, path: bytes, depth: int) -> None:
        large = self.random.random() < 0.03
        for number in range(self.random.randrange(300, 1500) if large else self.random.randrange(12)):
            name = b"%d of many, with a name that takes some room" % number if large else self.name()
            here = path + b"/" + name
            if not os.path.lexists(here):
                self.entry(here, depth, small=large)
        self.dress(path)

    def entry(self, here: bytes, depth: int, *, small: bool) -> None:
        chance = self.random.random()
        if small:
            Path(os.fsdecode(here)).write_bytes(b"x" * self.random.randrange(200))
        elif chance < 0.3 and depth < 4:
            os.mkdir(here)
            self.directory(here, depth + 1)
            return
        elif chance < 0.4:
            os.symlink(self.random.choice([b"/", b"..", b"x" * self.random.randrange(1, 4000), self.name()]), here)
        elif chance < 0.5:
            self.special(here)
        elif chance < 0.6 and self.files:
            os.link(self.random.choice(self.files), here)
            return
        else:
            self.file(here)
            self.files.append(here)
        self.dress(here)

    def dress(self, path: bytes) -> None:
        """Owners, mode, time, attributes."""
        link = os.path.islink(path)
        os.lchown(path, self.random.choice(IDS), self.random.choice(IDS))
        if not link:
            os.chmod(path, self.random.choice([0o644, 0o755, 0o4755, 0o2750, 0o1777, 0]))
        for _ in range(self.random.choice([0, 0, 0, 1, 3])):
            plain = stat.S_ISREG(os.lstat(path).st_mode) or stat.S_ISDIR(os.lstat(path).st_mode)
            # three at most: some file systems have a block for all that a file has
            name = self.random.choice(["user."] if plain and self.random.random() < 0.5 else ["security.", "trusted."])
            value = self.random.choice([b"", b"short", b"long" * 200, self.random.randbytes(800)])
            os.setxattr(path, name + f"a{self.random.randrange(9)}", value, follow_symlinks=False)
        when = self.random.choice([0, 1, 1_000_000_000, (1 << 32) - 1])
        os.utime(path, (when, when), follow_symlinks=False)
