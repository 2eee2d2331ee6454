"""What is in the setuid program, and what of it runs with or between raised privilege: lines of C, by the link.

    count_privileged.py BUILD FILE_LIMIT PRIVILEGED_LIMIT

BUILD holds sexec-suid, its link map and its objects, compiled for this with COUNT=yes: without optimization and with a
section for each function and each variable, so that a relocation says exactly who refers to whom.

*In the setuid file* is every line of each of our sources that the link map names, and of each header that one of them
includes. A line counts when it is neither blank nor only comment. (The C library is not ours.)

*With or between raised privilege* is each function that can run
  - from the program's start until privilege_begin(), the first call of main(), has returned: as root;
  - from the first statement of main() on that can come to a privilege_raise(), until privilege is given up for good.
Whatever a function refers to counts as called by it: functions, also those whose address it takes, and variables with
all that they point to. Privilege is given up for good by a call of privilege_end() or privilege_forget(). What comes
after one is left out only where the order of the text is the order of time and there is no way back: in a function that
never returns, behind a call that is a statement of its outermost block. So a child that gives up its privilege must do
so in a function of its own. Counted are the lines of these functions, from their names to their closing braces, or to
the call that gives privilege up; of main() those of the two times above.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

RAISE = "privilege_raise"
BEGIN = "privilege_begin"
ENDS = ("privilege_end", "privilege_forget")
COMMENT_OR_STRING = re.compile(r'"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|(/\*.*?\*/|//[^\n]*)', re.DOTALL)

Node: TypeAlias = tuple[str, str]  # an object file and a section of it


class CountError(Exception):
    """The source has a shape in which the count would not be true."""


@dataclass(slots=True)
class Objects:
    """Who refers to whom: from each section, by offset in it, to other sections of ours."""

    references: dict[Node, list[tuple[int, Node]]] = field(default_factory=lambda: defaultdict(list))
    globals: dict[str, Node] = field(default_factory=dict)
    locals: dict[Node, str] = field(default_factory=dict)  # an object and a symbol of its own: the section


@dataclass(frozen=True, slots=True)
class Function:
    """Where a function stands in the source."""

    file: Path
    lines: tuple[str, ...]  # without comments

    @property
    def counted(self) -> int:
        """Lines to its end, or to the end of all privilege."""
        end = self.ends_privilege
        last = [at for at, line in enumerate(self.lines) if end is not None and line.startswith(f"    {end}(")]
        return _filled(self.lines[: last[0] + 1] if last else self.lines)

    @property
    def ends_privilege(self) -> str | None:
        """The call, behind which nothing of this function runs with a way back to privilege; None: there is none."""
        calls = [line for line in self.lines if re.search(rf"\b({'|'.join(ENDS)})\(", line)][:2]
        outermost = [match for line in calls if (match := re.match(rf"    ({'|'.join(ENDS)})\(", line))]
        straight = "_Noreturn" in self.lines[0] and not any(re.search(r"\bgoto \w+;", line) for line in self.lines)
        return outermost[0][1] if straight and len(calls) == 1 and outermost else None


def _filled(lines: Iterable[str]) -> int:
    return sum(1 for line in lines if line.strip())


@cache
def _code(file: Path) -> tuple[str, ...]:
    """The lines of a file, comments taken out."""

    def blank(match: re.Match[str]) -> str:
        return match[0] if match[1] is None else "\n" * match[1].count("\n")

    return tuple(COMMENT_OR_STRING.sub(blank, file.read_text()).split("\n"))


def _source_of(build: Path, name: str) -> Path:
    return Path(name).relative_to(build).with_suffix(".c")


def _included(name: str) -> set[Path]:
    """The source of an object and our headers that it includes, from what the compiler wrote beside it."""
    words = Path(name).with_suffix(".d").read_text().replace("\\\n", " ").split(":", 1)[1].split("\n")[0].split()
    return {Path(word) for word in words if word.startswith("launcher/")}


def _normal(path: Path) -> Path:
    return path.resolve().relative_to(Path.cwd())


def _linked(build: Path) -> list[str]:
    text = Path(build, "sexec-suid.map").read_text()
    return sorted(set(re.findall(rf"{re.escape(str(build))}/launcher/[\w/]+\.o", text)))


def _readelf(flag: str, name: str) -> list[str]:
    words = ["readelf", "-W", flag, name]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()


def _read_symbols(objects: Objects, name: str) -> set[str]:
    sections = {
        match[1]: match[2] for line in _readelf("-S", name) if (match := re.match(r"\s*\[\s*(\d+)\]\s+(\S+)", line))
    }
    for line in _readelf("-s", name):
        words = line.split()
        if len(words) < 8 or not words[6].isdigit() or words[3] not in {"FUNC", "OBJECT", "NOTYPE"}:
            continue
        if words[4] == "LOCAL":
            objects.locals[name, words[7]] = sections[words[6]]
        else:
            objects.globals[words[7]] = (name, sections[words[6]])
    if ".init_array" in sections.values():
        raise CountError(f"{name} has a constructor, which runs before main()")
    return set(sections.values())


def _read_references(objects: Objects, name: str, sections: set[str]) -> None:
    section = ""
    for line in _readelf("-r", name):
        if match := re.match(r"Relocation section '\.rela?(\S+)'", line):
            section = match[1]
        elif match := re.match(r"([0-9a-f]+)\s+[0-9a-f]+\s+R_\S+\s+[0-9a-f]+\s+(\S+)", line):
            target = match[2]
            found = (
                (name, target) if target in sections
                else (name, objects.locals[name, target]) if (name, target) in objects.locals
                else objects.globals.get(target)
            )  # fmt: skip
            if found is not None:
                objects.references[name, section].append((int(match[1], 16), found))


def _read_objects(names: list[str]) -> Objects:
    objects = Objects()
    sections = {name: _read_symbols(objects, name) for name in names}
    for name in names:
        _read_references(objects, name, sections[name])
    for references in objects.references.values():
        references.sort(key=lambda reference: reference[0])
    return objects


def _function_of(build: Path, node: Node) -> Function | None:
    """None: a variable."""
    name, section = node
    if not section.startswith(".text."):
        return None
    wanted = section.removeprefix(".text.")
    start = re.compile(rf"[a-z_].*\b{re.escape(wanted)}\(")
    for file in [_source_of(build, name), *sorted(_included(name))]:
        lines = _code(file)
        for first, line in enumerate(lines):
            if not start.match(line):
                continue
            head = next(at for at in range(first, len(lines)) if lines[at] == "{" or lines[at].endswith((";", "}")))
            if lines[head] == "{":
                return Function(_normal(file), lines[first : lines.index("}", head) + 1])
    raise CountError(f"{name}: no definition of {wanted}")


def _until_given_up(build: Path, objects: Objects, node: Node) -> list[Node]:
    """What a section refers to before privilege is given up for good."""
    references = objects.references.get(node, [])
    function = _function_of(build, node)
    end = function.ends_privilege if function is not None else None
    if end is None:
        return [target for _, target in references]
    behind = min(offset for offset, target in references if target == objects.globals[end])
    return [target for offset, target in references if offset <= behind]


def _reach(build: Path, objects: Objects, start: list[Node]) -> set[Node]:
    found: set[Node] = set()
    waiting = list(start)
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += _until_given_up(build, objects, node)
    return found


def _lines_of_main(function: Function, first: str) -> int:
    """Those before the caller's rights are all there is, and those from the first raise on."""
    lines = function.lines
    begun = next(at for at, line in enumerate(lines) if f"{BEGIN}(" in line)
    raised = next(at for at, line in enumerate(lines) if f"{first}(" in line)
    return _filled((*lines[: begun + 1], *lines[raised:]))


def _privileged(build: Path, objects: Objects) -> tuple[set[Node], int]:
    """What runs with or between raised privilege but main(), and the lines of that."""
    main = objects.globals["main"]
    function = _function_of(build, main)
    if function is None or any(re.search(r"\b(for|while) \(|\bgoto \w+;", line) for line in function.lines):
        raise CountError("main() of the setuid program has a loop: its text is not in the order of time")
    references = [target for _, target in objects.references[main]]
    begin, raising = objects.globals[BEGIN], objects.globals[RAISE]
    if references[0] != begin:
        raise CountError(f"{BEGIN}() is not the first call of main()")
    first = next(at for at, target in enumerate(references) if raising in _reach(build, objects, [target]))
    found = _reach(build, objects, [begin, *references[first:]])
    return found, _lines_of_main(function, references[first][1].removeprefix(".text."))


def count(build: Path, file_limit: int, privileged_limit: int) -> bool:
    """Prints both numbers for each file and in all; whether they are within the limits."""
    names = _linked(build)
    files = {_normal(file) for name in names for file in _included(name)}
    whole = {file: _filled(_code(file)) for file in files}
    found, of_main = _privileged(build, _read_objects(names))
    functions = {function for node in found if (function := _function_of(build, node)) is not None}
    part: dict[Path, int] = defaultdict(int, {Path("launcher/sexec_suid.c"): of_main})
    for function in functions:
        part[function.file] += function.counted
    total, privileged = sum(whole.values()), sum(part.values())
    table = [f"{whole[file]:5}  {part[file]:10}  {file}" for file in sorted(files)]
    last = f"{total:5}  {privileged:10}  in all, of at most {file_limit} and {privileged_limit}"
    sys.stdout.write("\n".join(["lines  privileged", *table, last]) + "\n")
    return total <= file_limit and privileged <= privileged_limit


def main() -> int:
    """0: within the limits."""
    try:
        return 0 if count(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])) else 1
    except CountError as error:
        sys.stderr.write(f"count_privileged: {error}\n")
        return 2


sys.exit(main())
