"""What becomes of a member's attributes when it is unpacked, and what is told of those that are lost."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Self


class Loss(Enum):
    """What did not arrive; the value, after a number, says it."""

    OWNERS = "files belong to you, not to their owners: only root keeps owners"
    UNMAPPED_OWNERS = (
        "files now belong to root, not to their owners: the ids are not mapped, or the file system refuses"
    )
    SETID = "setuid and setgid bits are left out, since their files now have another owner"
    DEVICES = "device nodes are left out: only root makes them"
    PIPES = "named pipes and sockets are left out: only root keeps them"
    CAPABILITIES = "files lose their capabilities: only root keeps them"
    ACLS = "access control lists are left out: the file system or your ids do not allow them"
    XATTRS = "extended attributes are left out: the file system or your rights do not allow them"
    TIMES = "files have times that the file system has no room for: the nearest that it has is taken"


class Parents(Enum):
    """What happens to a link that stands where a member's path has a directory."""

    REPLACE = "replace"  # by a directory
    REFUSE = "refuse"  # the archive
    FOLLOW = "follow"  # inside the root, as a program in the container would


class Special(Enum):
    """What becomes of device nodes, or of named pipes and sockets."""

    CREATE = "create"
    LEAVE_OUT = "leave out"


class Modes(Enum):
    """What becomes of permissions."""

    EXACT = "exact"
    REMOVABLE = "removable"  # the owner may also read and write, and go into directories


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What is kept of a member's attributes."""

    owners: bool = True
    devices: Special = Special.CREATE
    pipes: Special = Special.CREATE
    modes: Modes = Modes.EXACT
    parents: Parents = Parents.REPLACE

    @classmethod
    def of_caller(cls) -> Self:
        """All that who calls may keep: root everything, root of a user namespace no devices, others least."""
        if os.geteuid() == 0:
            return cls()
        return cls(owners=False, devices=Special.LEAVE_OUT, pipes=Special.LEAVE_OUT, modes=Modes.REMOVABLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was unpacked."""

    members: int = 0
    size: int = 0  # bytes of data, holes left out
    left_out: Mapping[Loss, int] = field(default_factory=dict)
