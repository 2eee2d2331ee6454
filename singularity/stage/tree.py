"""Who gets the image from whom: known to the root alone.

One below another as long as the chain is short, since a node that sends once sends at the speed of its network; where
it is long, a second one below those near the root.
"""

from dataclasses import dataclass, field

DEEPEST = 64  # of a chain
_MOST = 2  # that a node sends to


@dataclass(slots=True)
class Member:
    """A node that takes part."""

    address: tuple[str, int]
    depth: int = 0
    parent: "Member | None" = None
    children: "set[int]" = field(default_factory=set)
    avoided: "set[int]" = field(default_factory=set)  # parents that it could not get anything from


class Tree:
    """The members by number; 0 is the root."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.members = {0: Member(address)}

    def add(self, address: tuple[str, int]) -> int:
        """A new member; its number."""
        number = max(self.members) + 1
        self.members[number] = Member(address)
        return number

    def remove(self, number: int) -> None:
        """A member that is gone; those below it ask again."""
        self._leave(number)
        for child in self.members.pop(number).children:
            self.members[child].parent = None

    def place(self, number: int) -> tuple[str, int] | None:
        """Whom a member asks now: another one each time; None where nobody is left."""
        member = self.members[number]
        if member.parent is not None:
            member.avoided.add(next(key for key, each in self.members.items() if each is member.parent))
            self._leave(number)
        below = self._below(number)
        possible = [
            (key, each)
            for key, each in self.members.items()
            if key not in below and key not in member.avoided and (key == 0 or each.parent is not None)
        ]
        free = [pair for pair in possible if not pair[1].children and pair[1].depth < DEEPEST]
        shared = [pair for pair in possible if len(pair[1].children) < _MOST]
        chosen = max(free, key=_depth, default=None) or min(shared, key=_depth, default=None)
        if chosen is None:
            chosen = min(possible, key=lambda pair: len(pair[1].children), default=None)
        if chosen is None:
            return None
        parent = chosen[1]
        parent.children.add(number)
        member.parent, member.depth = parent, parent.depth + 1
        return parent.address

    def _leave(self, number: int) -> None:
        parent = self.members[number].parent
        if parent is not None:
            parent.children.discard(number)
            self.members[number].parent = None

    def _below(self, number: int) -> set[int]:
        """A member and all that get anything by way of it."""
        found, pending = set(), [number]
        while pending:
            each = pending.pop()
            found.add(each)
            pending += self.members[each].children - found
        return found


def _depth(pair: tuple[int, Member]) -> int:
    return pair[1].depth
