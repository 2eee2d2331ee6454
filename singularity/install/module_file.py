"""A module file, in Tcl, which both Lmod and Environment Modules read: the commands come to PATH.

Format: modulefile(4) of Environment Modules 4 and 5.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from singularity.errors import FileError
from singularity.install import wrappers
from singularity.install.tool import Kind, New, Tool


def files(tool: Tool, directory: Path, about: str) -> Iterator[New]:
    """The module below `directory`, which is one of MODULEPATH, and its commands, where module tools list nothing.

    `about` is a line for people. Raises FileError for a directory that Lmod cannot read such files in.
    """
    if re.search(r"\s", str(directory)):
        raise FileError(f"{directory}: a blank in the path of modules", hint="Lmod reads none there: name another")
    path = directory / tool.name / tool.version if tool.version else directory / tool.name
    commands = path.with_name(f".{path.name}-commands")
    yield from wrappers.files(tool, commands, Kind.MODULE)
    names = ", ".join(each.name for each in tool.commands)
    lines = [
        "#%Module1.0",
        f"# {tool.note}",
        "proc ModulesHelp { } {",
        *(f"    puts stderr {_quoted(line)}" for line in (about, f"Commands: {names}", f"Image: {tool.image}")),
        "}",
        *(f"module-whatis {_quoted(line)}" for line in _whatis(tool, about)),
        f"conflict {tool.name}",
        f"prepend-path PATH {_quoted(str(commands))}",
    ]
    yield New(kind=Kind.MODULE, path=path, text="\n".join(lines) + "\n")


def _whatis(tool: Tool, about: str) -> list[str]:
    version = [f"Version: {tool.version}"] if tool.version else []
    return [f"Name: {tool.name}", *version, f"Description: {about}"]


def _quoted(text: str) -> str:
    """A word of Tcl that is this text, whatever is in it: in quotes, only a backslash makes what follows plain."""
    return '"' + re.sub(r'([\\"$\[\]{}])', r"\\\1", text) + '"'
