"""Users and groups by the names that an image has for them, as USER, `--chown` and RUN need them."""

from collections.abc import Iterator
from dataclasses import dataclass

from singularity.image.root import Root

_HIGHEST = (1 << 32) - 2
_PASSWD, _GROUP = "/etc/passwd", "/etc/group"
_LIMIT = 4 << 20  # bytes of a file that is read


class UnknownNameError(Exception):
    """A user or group that the image does not know; the text names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Who a program runs as."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()  # all that the user is in
    home: str = "/"


def find(root: Root, text: str) -> Account:
    """The account of `USER[:GROUP]`, each a name or a number; of an empty text root's. Raises UnknownNameError."""
    user, colon, group = text.partition(":")
    fields = _line(root, _PASSWD, user or "0", 7, 2)
    if fields is None and not _is_id(user or "0"):
        raise UnknownNameError(f'no user "{user}" in the image')
    uid = int(fields[2] if fields else user or "0")
    gid = int(fields[3]) if fields else 0
    groups = set()
    if colon and group:
        gid = group_id(root, group)
    elif fields:
        groups = {int(each[2]) for each in _lines(root, _GROUP, 4, 2) if fields[0] in each[3].split(",")}
    return Account(uid=uid, gid=gid, groups=(gid, *sorted(groups - {gid})), home=(fields[5] if fields else "") or "/")


def owner(root: Root, text: str) -> tuple[int, int]:
    """User and group id of `--chown`: of a user alone, its group, or the same number. Raises UnknownNameError."""
    user, _, group = text.partition(":")
    found = find(root, text)
    if not group and _is_id(user) and _line(root, _PASSWD, user, 7, 2) is None:
        return found.uid, found.uid
    return found.uid, found.gid


def group_id(root: Root, text: str) -> int:
    """The number of a group. Raises UnknownNameError."""
    fields = _line(root, _GROUP, text, 4, 2)
    if fields is None and not _is_id(text):
        raise UnknownNameError(f'no group "{text}" in the image')
    return int(fields[2] if fields else text)


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 10 and int(text) <= _HIGHEST


def _line(root: Root, path: str, text: str, fields: int, number: int) -> list[str] | None:
    """The line of a name, or else of a number."""
    found = list(_lines(root, path, fields, number))
    return next((each for each in found if each[0] == text), None) or next(
        (each for each in found if _is_id(text) and int(each[number]) == int(text)), None
    )


def _lines(root: Root, path: str, fields: int, number: int) -> Iterator[list[str]]:
    if not root.is_file(path):
        return
    for line in root.read(path, limit=_LIMIT).decode("utf-8", "surrogateescape").splitlines():
        words = line.split(":")
        if len(words) >= fields and _is_id(words[number]) and (path == _GROUP or _is_id(words[3])):
            yield words
