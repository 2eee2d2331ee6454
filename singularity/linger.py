"""The keepers of images that stay mounted after their launches (`--linger`): found, and ended.

A keeper listens on an abstract socket, as `launcher/shared/linger.c` names it, and answers its own user alone. Anybody
can make a socket of such a name, so what counts is whom the kernel says to be behind it: a process of this user's in
this user and PID namespace, where no program that is shut up stands (`launcher/shared/outside.c`).
"""

import os
import re
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_NAMES = Path("/proc/net/unix")
_PATIENCE = 2.0  # seconds
_ANSWER = 8192  # bytes; a path and two numbers
_PEER = struct.Struct("3i")  # of unix(7): process, user, group


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeper:
    """A process of ours that has an image mounted."""

    process: int
    seconds: int  # for how long it stays after the image's last use
    image: Path  # as it was named, absolute
    address: bytes


def keepers() -> Iterator[Keeper]:
    """Those of this user that answer."""
    pattern = re.compile(rb"@(singularity-linger-%d-[0-9a-f]{32})$" % os.geteuid(), re.MULTILINE)
    for name in sorted(set(pattern.findall(_NAMES.read_bytes()))):
        fields = _ask(b"\0" + name, b"list").split(b"\t", 2)
        if len(fields) == 3 and fields[0].isdigit() and fields[1].isdigit():
            image = Path(os.fsdecode(fields[2]))
            yield Keeper(process=int(fields[0]), seconds=int(fields[1]), image=image, address=b"\0" + name)


def end(keeper: Keeper) -> None:
    """Ends it; launches that use its mount go on."""
    _ask(keeper.address, b"end")


def _ask(address: bytes, word: bytes) -> bytes:
    """The answer, empty where there is none."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.settimeout(_PATIENCE)
        try:
            connection.connect(address)
            process, user, _ = _PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
            if user != os.geteuid() or (user != 0 and _spaces(process) != _spaces("self")):
                return b""
            connection.send(word)
            return connection.recv(_ANSWER)
        except OSError:
            return b""


def _spaces(process: int | str) -> list[str]:
    return [os.readlink(f"/proc/{process}/ns/{name}") for name in ("user", "pid")]
