"""Entries of desktop menus: those that the image has for its commands, else one in a terminal for each command.

Format: Desktop Entry Specification 1.5, with its two quotings: of words of Exec, and of every value.
"""

import os
import posixpath
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from singularity.errors import ImageError
from singularity.image.metadata import Files
from singularity.image.offered import Command
from singularity.install.tool import Kind, New, Tool

_PLACES = ("/usr/local/share/applications", "/usr/share/applications")
_TAKEN = re.compile(r"(Name|GenericName|Comment|Keywords)(\[[\w.@-]+\])?|Categories|MimeType|Terminal|StartupNotify")
_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"|(\S+)')
_CODES = {"%f", "%F", "%u", "%U"}  # files and addresses; others are of the entry itself
_ESCAPES = {"s": " ", "n": "\n", "t": "\t", "r": "\r", "\\": "\\"}
_ESCAPED = str.maketrans({text: f"\\{letter}" for letter, text in _ESCAPES.items() if letter != "s"})
_GROUP = "[Desktop Entry]"


def default_directory() -> Path:
    """Where menus look: root's for everybody (XDG Base Directory Specification)."""
    if os.geteuid() == 0:
        return Path("/usr/local/share/applications")
    return Path(os.environ.get("XDG_DATA_HOME", "") or Path.home() / ".local/share") / "applications"


def files(tool: Tool, directory: Path, image: Files) -> Iterator[New]:
    """The entries."""
    theirs = _entries(image)
    for command in tool.commands:
        found = theirs.get(posixpath.basename(command.program)) if len(command.words) == 1 else None
        entry = _adopted(tool, found) if found else _plain(tool, command)
        lines = [f"# {tool.note}", _GROUP, "Type=Application", *(f"{key}={text}" for key, text in entry.items())]
        name = f"singularity-{tool.file_name}-{command.name}.desktop"
        yield New(kind=Kind.DESKTOP, path=directory / name, text="\n".join(lines) + "\n")


def _plain(tool: Tool, command: Command) -> dict[str, str]:
    return {
        "Name": command.name,
        "Comment": _value(f"{command.name} of {tool.image}"),
        "Exec": _exec(tool.launch(command)),
        "Terminal": "true",
    }


def _adopted(tool: Tool, theirs: Mapping[str, str]) -> dict[str, str]:
    """Their entry, its command started in the image. Its values are written as they stand: quoted already."""
    words = _words(theirs["Exec"])
    plain = [word.replace("%%", "%") for word in words if not re.fullmatch("%[a-zA-Z]", word)]
    codes = [word for word in words if word in _CODES]
    taken = {key: text for key, text in theirs.items() if _TAKEN.fullmatch(key)}
    return taken | {"Exec": " ".join([_exec(tool.execute(plain)), *codes])}


def _entries(image: Files) -> dict[str, Mapping[str, str]]:
    """The entries of the image that a menu would show, by the name of their program."""
    found: dict[str, Mapping[str, str]] = {}
    for place in _PLACES:
        for name in image.names(place):
            if not name.endswith(".desktop"):
                continue
            entry = _read(image, f"{place}/{name}")
            words = _words(entry.get("Exec", ""))
            is_shown = "true" not in (entry.get("NoDisplay"), entry.get("Hidden"))
            if words and entry.get("Type") == "Application" and is_shown:
                found.setdefault(posixpath.basename(words[0]), entry)
    return found


def _words(text: str) -> list[str]:
    """The words of a value of Exec."""
    plain = re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1], match[1]), text)
    return [re.sub(r"\\(.)", r"\1", match[1]) if match[2] is None else match[2] for match in _WORD.finditer(plain)]


def _read(image: Files, path: str) -> dict[str, str]:
    """The keys of an entry; none where it is not to be understood."""
    try:
        lines = image.read(path).decode("utf-8").splitlines()
    except (OSError, ImageError, UnicodeDecodeError):
        return {}
    entry: dict[str, str] = {}
    group = ""
    for line in lines:
        if line.startswith("["):
            group = line.strip()
        key, equals, text = line.partition("=")
        if group == _GROUP and equals and text.isprintable():
            entry.setdefault(key.strip(), text.strip())
    return entry


def _exec(words: list[str]) -> str:
    return " ".join(map(_exec_word, words))


def _exec_word(word: str) -> str:
    if not re.fullmatch(r"[\w@+=:,./%-]+", word, re.ASCII):
        word = '"' + re.sub(r'(["`$\\])', r"\\\1", word) + '"'
    return _value(word.replace("%", "%%"))


def _value(text: str) -> str:
    """On one line, whatever is in it: a line end would begin a key of its own, such as another Exec."""
    return text.translate(_ESCAPED)
