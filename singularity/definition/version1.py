"""Definition files of the first format, which were shell scripts: read here, and nothing of them is run (R-P4).

Understood are the commands of the format, assignments, `$NAME`, `${NAME:-DEFAULT}`, `$1`, quotes, comments, `|| true`
after RunCmd, and `if` with simple tests. Anything else is refused with its line. Commands and defaults: Singularity
2.2, legacy definitions.
"""

import posixpath
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from singularity.definition.model import Copy, Definition, Field, Script, Stage
from singularity.definition.sections import SIZE_LIMIT, WORD_LIMIT, normal
from singularity.errors import DefinitionError
from singularity.shell.words import ROOT, Command, Lexer, Piece, Word

_AGENTS = {"redhat": "yum", "debian": "debootstrap", "arch": "arch", "busybox": "busybox"}
_OWN_LINE = re.compile(r"^DistType[ \t]", re.MULTILINE)
_HEADER_LINE = re.compile(r"^[ \t]*(?:bootstrap|osbuild|ostype)[ \t]*:", re.MULTILINE | re.IGNORECASE)
_SECTION_LINE = re.compile(r"^%[A-Za-z]", re.MULTILINE)
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_NUMBER = re.compile(r"[+-]?[0-9]{1,18}")
_GLOB = re.compile(r"([*?\[\]]+)")
_BRACES = re.compile(r"\{[^{}]*(?:,|\.\.)[^{}]*\}")
_ROOTS = ("SINGULARITY_ROOTFS", "SINGULARITY_BUILD_ROOT")  # the container's root file system, as the host sees it
_STAGING = "/.singularity.d/install"
_MODERN = "or write the second format: Bootstrap: and sections"
_COMPARISONS: Mapping[str, Callable[[int, int], bool]] = {
    "-eq": int.__eq__,
    "-ne": int.__ne__,
    "-lt": int.__lt__,
    "-le": int.__le__,
    "-gt": int.__gt__,
    "-ge": int.__ge__,
}


def recognise(text: str) -> bool:
    """Whether this is the first format: `DistType` at the start of a line, and no header of the second."""
    if "DistType" not in text:
        return False
    head = normal(text)
    section = _SECTION_LINE.search(head)
    return bool(_OWN_LINE.search(head)) and not _HEADER_LINE.search(head, 0, section.start() if section else len(head))


def parse(text: str, name: str, arguments: Sequence[str] = ()) -> Definition:
    """The definition that a script of the first format makes, with its positional `arguments`.

    Raises DefinitionError, also for shell code that is not understood.
    """
    if len(text) > SIZE_LIMIT:
        raise DefinitionError(f"more than {SIZE_LIMIT >> 20} MiB: no definition file", name=name)
    script = _Reader(name, arguments)
    script.read(normal(text))
    return Definition(name=name, text=text, stages=(script.stage(),))


@dataclass(slots=True)
class _If:
    """An `if` that is not closed yet."""

    line: int
    outer: bool  # whether its commands count at all
    chosen: bool = False  # whether a branch was taken already
    here: bool = False  # whether the present branch is the one


@dataclass(slots=True)
class _Lines:
    """A script in the making."""

    text: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)

    def add(self, number: int, text: str) -> None:
        parts = text.split("\n")
        self.text += parts
        self.lines += [number] * len(parts)

    def script(self) -> Script | None:
        if not self.text:
            return None
        return Script(body="\n".join(self.text) + "\n", line=self.lines[0], lines=tuple(self.lines))


class _Reader:
    def __init__(self, name: str, arguments: Sequence[str]) -> None:
        self.name = name
        self.arguments = tuple(arguments)
        self.variables = {"HOME": "/root", **dict.fromkeys(_ROOTS, ROOT)}
        self.ifs: list[_If] = []
        self.said = ""  # by the last echo
        self.ended = False
        self.type = ""
        self.header: dict[str, Field] = {}
        self.packages: list[str] = []
        self.post = _Lines()
        self.run = _Lines()
        self.files: list[Copy] = []
        self.cleaned = self.updated = False

    def fail(self, line: int, what: str, hint: str = "") -> DefinitionError:
        what, hint = (text.replace("\n", " ").replace(ROOT, f"${_ROOTS[0]}") for text in (what, hint))
        return DefinitionError(what, name=self.name, line=line, hint=hint)

    def read(self, text: str) -> None:
        for command in Lexer(text, self.name).commands():
            if self.ended:
                return
            self.command(command)
        if self.ifs:
            raise self.fail(self.ifs[-1].line, "if without fi")

    def stage(self) -> Stage:
        if "bootstrap" not in self.header:
            raise DefinitionError("no command Bootstrap in it", name=self.name, hint="add a line Bootstrap")
        if self.packages:
            line = self.header["bootstrap"].line
            self.header["include"] = Field(value=" ".join(dict.fromkeys(self.packages)), line=line)
        if any(copy.target.startswith(_STAGING) for copy in self.files):
            self.post.add(self.post.lines[-1], f"rm -rf {_STAGING}")
        if self.cleaned and self.type == "debian":
            self.post.add(self.post.lines[-1] if self.post.lines else self.header["bootstrap"].line, "apt-get clean")
        return Stage(
            header=self.header,
            line=self.header["bootstrap"].line,
            post=self.post.script(),
            runscript=self.run.script(),
            files=tuple(self.files),
        )

    # The shell language.

    @property
    def active(self) -> bool:
        return not self.ifs or (self.ifs[-1].outer and self.ifs[-1].here)

    def command(self, command: Command) -> None:
        word = command.first
        if word in ("then", "else", "do"):
            if word == "do" or not self.ifs:
                raise self.fail(command.line, f'"{word}" is not understood here', _MODERN)
            if word == "else":
                self.ifs[-1].here = not self.ifs[-1].chosen
                self.ifs[-1].chosen = True
            rest = command.without_first()
            if rest.words:
                self.command(rest)
        elif word == "if":
            self.ifs.append(_If(command.line, self.active))
            self.branch(command)
        elif word in ("elif", "fi"):
            if not self.ifs:
                raise self.fail(command.line, f"{word} without if")
            if word == "fi":
                self.ifs.pop()
            else:
                self.branch(command)
        elif self.active:
            self.simple(command)

    def branch(self, command: Command) -> None:
        """Decides a branch; its test is evaluated only where a shell would."""
        own = self.ifs[-1]
        own.here = own.outer and not own.chosen and self.test(command.without_first())
        own.chosen = own.chosen or own.here

    def test(self, command: Command) -> bool:
        words = [piece_text(each) for each in self.fields(command.words, command.line)]
        unknown = self.fail(command.line, "a test that is not understood", f"[ A = B ], [ -n A ] and such; {_MODERN}")
        if command.redirects or command.may_fail or not words:
            raise unknown
        if words[0] == "!":
            return not self.test_words(words[1:], unknown, command.line)
        return self.test_words(words, unknown, command.line)

    def test_words(self, words: list[str], unknown: DefinitionError, line: int) -> bool:
        if words[:1] == ["["] and words[-1:] == ["]"] and len(words) > 1:
            words = words[1:-1]
        elif words[:1] == ["test"]:
            words = words[1:]
        elif words in (["true"], [":"], ["false"]):
            return words != ["false"]
        else:
            raise unknown
        negative = words[:1] == ["!"] and len(words) > 1
        return self.evaluate(words[1:] if negative else words, unknown, line) is not negative

    def evaluate(self, words: list[str], unknown: DefinitionError, line: int) -> bool:
        match words:
            case []:
                return False
            case [one]:
                return one != ""
            case ["-n", one]:
                return one != ""
            case ["-z", one]:
                return one == ""
            case [one, "=" | "==", other]:
                return one == other
            case [one, "!=", other]:
                return one != other
            case [one, sign, other] if sign in _COMPARISONS:
                for number in (one, other):
                    if not _NUMBER.fullmatch(number):
                        raise self.fail(line, f'"{number[:WORD_LIMIT]}" is no number')
                return _COMPARISONS[sign](int(one), int(other))
        raise unknown

    def value(self, name: str) -> list[str] | None:
        """What a name or number stands for; None where it has no value; several words for `@` only."""
        if name in ("@", "*"):
            return list(self.arguments) if name == "@" else [" ".join(self.arguments)]
        if name == "#":
            return [str(len(self.arguments))]
        if name.isdecimal():
            number = int(name)
            if number == 0:
                return [self.name]
            return [self.arguments[number - 1]] if number <= len(self.arguments) else None
        found = self.variables.get(name)
        return None if found is None else [found]

    def fields(self, words: Sequence[Word], line: int) -> list[list[Piece]]:
        """Words after expansion: each a row of pieces, which are quoted or not."""
        return [found for word in words for found in self.expanded(word, line)]

    def expanded(self, word: Word, line: int) -> list[list[Piece]]:
        rows: list[list[Piece]] = []
        row: list[Piece] = []

        def end() -> None:
            nonlocal row
            if row:
                rows.append(row)
                row = []

        for piece in word:
            if not piece.name:
                row.append(piece)
                continue
            values = self.piece_values(piece, line)
            joined = "" if piece.quoted else " ".join(values)
            values = values if piece.quoted else joined.split()
            if joined[:1].isspace():
                end()
            for number, value in enumerate(values):
                if number:
                    end()
                row.append(Piece(text=value, quoted=piece.quoted))
            if joined[-1:].isspace():
                end()
        end()
        return rows

    def piece_values(self, piece: Piece, line: int) -> list[str]:
        values = self.value(piece.name)
        if piece.default is not None and (values is None or (piece.colon and not "".join(values))):
            return ["".join(piece_text(each) for each in self.expanded(_all_quoted(piece.default), line))]
        if values is None:
            if piece.name.isdecimal():
                hint = f"give it after the definition file, or write ${{{piece.name}:-DEFAULT}}"
                raise self.fail(line, f"argument {piece.name} is not given", hint)
            raise self.fail(line, f"{piece.name} has no value", f"set it above: {piece.name}=VALUE")
        return values

    # The commands.

    def simple(self, command: Command) -> None:
        line = command.line
        if command.raw:
            self.need_bootstrap(line, "RunScript")
            self.run.add(line, command.raw)
            return
        assignments = self.assignments(command)
        if assignments == len(command.words) and not command.redirects:
            return
        if assignments:
            raise self.fail(line, "a variable set for one command only", f"set it in a line of its own, {_MODERN}")
        words = self.fields(command.words, line)
        name = piece_text(words[0]) if words else ""
        known = self.commands().get(name)
        if known is None:
            hint = f"known are {', '.join(self.commands())}; {_MODERN}"
            raise self.fail(line, f'"{name[:WORD_LIMIT]}" is no command of the first format', hint)
        if command.redirects and name != "RunCmd":
            raise self.fail(line, f"{name}: redirected output", _MODERN)
        if command.may_fail and name != "RunCmd":
            raise self.fail(line, f"{name} || true: it may not fail", _MODERN)
        if name == "RunCmd":
            self.run_command(command, words[1:])
            return
        texts = [piece_text(each) for each in words[1:]]
        inside = texts[:1] if name == "InstallFile" else texts
        if name not in ("echo", "export") and any(ROOT in text for text in inside):
            raise self.fail(line, f"{name}: a path below ${_ROOTS[0]}", "only the target of InstallFile is one")
        known(line, texts)

    def assignments(self, command: Command) -> int:
        """Carries out the assignments that a command begins with; how many words they are."""
        count = 0
        for word in command.words:
            first = word[0]
            match = None if first.quoted or first.name else _ASSIGNMENT.fullmatch(first.text)
            if match is None:
                break
            count += 1
            rest = (Piece(text=match[2]), *word[1:])
            value = "".join(piece_text(each) for each in self.expanded(_all_quoted(rest), command.line))
            if match[1] in _ROOTS:
                raise self.fail(command.line, f"{match[1]} is set by the build")
            self.variables[match[1]] = value
        return count

    def commands(self) -> Mapping[str, Callable[[int, list[str]], None]]:
        return {
            "DistType": self.dist_type,
            "MirrorURL": self.mirror_url,
            "OSVersion": self.os_version,
            "Setup": self.nothing,
            "PreSetup": self.nothing,
            "Bootstrap": self.bootstrap,
            "InstallPkgs": self.install_packages,
            "RunCmd": self.nothing,
            "RunScript": self.nothing,
            "InstallFile": self.install_file,
            "Cleanup": self.cleanup,
            "Finalize": self.nothing,
            "echo": self.echo,
            "export": self.export,
            "set": self.nothing,
            "true": self.nothing,
            ":": self.nothing,
            "exit": self.exit,
        }

    def nothing(self, line: int, words: list[str]) -> None:
        """What the build does anyway, or what changes nothing of how this is read."""

    def dist_type(self, line: int, words: list[str]) -> None:
        if len(words) != 1 or words[0] not in _AGENTS:
            shown = " ".join(words)[:WORD_LIMIT]
            raise self.fail(line, f'DistType "{shown}" is unknown', f"known are {', '.join(_AGENTS)}")
        self.type = words[0]

    def mirror_url(self, line: int, words: list[str]) -> None:
        if len(words) not in (1, 2):
            raise self.fail(line, f"MirrorURL: {len(words)} words", "MirrorURL URL [NAME]")
        keyword = "mirrorurl"
        if keyword in self.header and self.type == "redhat":
            keyword = "updateurl"
        if keyword in self.header:
            raise self.fail(line, "one MirrorURL more than is understood", "add further repositories with RunCmd")
        self.header[keyword] = Field(value=words[0], line=line)

    def os_version(self, line: int, words: list[str]) -> None:
        if len(words) != 1:
            raise self.fail(line, f"OSVersion: {len(words)} words", "OSVersion VERSION")
        self.header["osversion"] = Field(value=words[0], line=line)

    def bootstrap(self, line: int, words: list[str]) -> None:
        if not self.type:
            raise self.fail(line, "Bootstrap before DistType", 'begin with a line DistType "redhat", or another')
        self.header["bootstrap"] = Field(value=_AGENTS[self.type], line=line)
        self.add_packages(line, words)

    def need_bootstrap(self, line: int, command: str) -> None:
        if "bootstrap" not in self.header:
            raise self.fail(line, f"{command} before Bootstrap", "there is nothing yet to work on")

    def add_packages(self, line: int, words: list[str]) -> None:
        for word in words:
            if not word or any(letter.isspace() for letter in word):
                what = f'"{word[:WORD_LIMIT]}" is no name of a package'
                raise self.fail(line, what, "groups: RunCmd yum groupinstall GROUP")
        self.packages += words

    def install_packages(self, line: int, words: list[str]) -> None:
        """Packages of redhat come from the mirror with the first ones: the image need not have a package manager."""
        self.need_bootstrap(line, "InstallPkgs")
        if self.type == "busybox":
            raise self.fail(line, "InstallPkgs: busybox has no packages", "InstallFile copies files of the host")
        if self.type == "redhat":
            self.add_packages(line, words)
        elif self.type == "debian":
            if not self.updated:
                self.post.add(line, "apt-get update")
                self.updated = True
            self.post.add(line, shlex.join(["apt-get", "-y", "install", *words]))
        else:
            self.post.add(line, shlex.join(["pacman", "--noconfirm", "-Sy", *words]))

    def run_command(self, command: Command, words: list[list[Piece]]) -> None:
        self.need_bootstrap(command.line, "RunCmd")
        if not words:
            raise self.fail(command.line, "RunCmd without a command")
        shown = [self.shell_word(each, command.line) for each in words]
        shown += [each.operator + self.redirect_target(each.word, command.line) for each in command.redirects]
        self.post.add(command.line, " ".join(shown) + (" || true" if command.may_fail else ""))
        self.updated = self.updated or [piece_text(each) for each in words[:2]] == ["apt-get", "update"]

    def redirect_target(self, word: Word, line: int) -> str:
        """Where output goes: below the root file system, which the command sees as `/`; a descriptor; or nowhere."""
        texts = [piece_text(each) for each in self.expanded(word, line)]
        text = texts[0] if len(texts) == 1 else ""
        if text.startswith(f"{ROOT}/"):
            return shlex.quote(text.removeprefix(ROOT))
        if text == "/dev/null" or re.fullmatch(r"&[012]", text):
            return text
        raise self.fail(line, "RunCmd: output to the host", 'write >"$SINGULARITY_ROOTFS/PATH"')

    def shell_word(self, pieces: list[Piece], line: int) -> str:
        """As the shell in the image reads it: patterns are its own, all else is literal."""
        text = piece_text(pieces)
        if ROOT in text:
            raise self.fail(line, "RunCmd: a path of the host", "in the container the root file system is /")
        if any(not piece.quoted and _BRACES.search(piece.text) for piece in pieces):
            raise self.fail(line, "RunCmd: {A,B} is not expanded here", "write the words out")
        if not pieces[0].quoted and (pieces[0].text == "~" or pieces[0].text.startswith("~/")):
            pieces = [Piece(text="/root" + pieces[0].text[1:]), *pieces[1:]]
        if all(piece.quoted or not _GLOB.search(piece.text) for piece in pieces):
            return shlex.quote(piece_text(pieces))
        parts = []
        for piece in pieces:
            split = [piece.text] if piece.quoted else _GLOB.split(piece.text)
            parts += [part if number % 2 else shlex.quote(part) for number, part in enumerate(split) if part]
        return "".join(parts)

    def install_file(self, line: int, words: list[str]) -> None:
        """At once where nothing was run before it; else the file waits in the image until its turn."""
        self.need_bootstrap(line, "InstallFile")
        if len(words) not in (1, 2):
            raise self.fail(line, f"InstallFile: {len(words)} words", "InstallFile SOURCE [TARGET]")
        source, target = words[0], words[-1].removeprefix(ROOT)
        if ROOT in target:
            raise self.fail(
                line, f"InstallFile: ${_ROOTS[0]} within a path", "it stands at the beginning, or not at all"
            )
        if not self.post.text:
            self.files.append(Copy(source=source, target=target if len(words) == 2 else "", stage="", line=line))
            return
        target = posixpath.join("/", target)
        place = f"{_STAGING}/{len(self.files)}"
        parent = target if target.endswith("/") else posixpath.dirname(target)
        self.files.append(Copy(source=source, target=f"{place}/", stage="", line=line))
        name = "*" if _GLOB.search(source) else shlex.quote(posixpath.basename(source.rstrip("/")))
        self.post.add(line, shlex.join(["mkdir", "-p", "--", parent]))
        self.post.add(line, f"mv -f -- {place}/{name} {shlex.quote(target)}")

    def cleanup(self, line: int, words: list[str]) -> None:
        del words
        self.need_bootstrap(line, "Cleanup")
        self.cleaned = True

    def echo(self, line: int, words: list[str]) -> None:
        del line
        self.said = " ".join(words)

    def export(self, line: int, words: list[str]) -> None:
        del line
        for word in words:
            match = _ASSIGNMENT.fullmatch(word)
            if match:
                self.variables[match[1]] = match[2]

    def exit(self, line: int, words: list[str]) -> None:
        if words not in ([], ["0"]):
            raise self.fail(line, f"ends with exit {' '.join(words)[:WORD_LIMIT]}", self.said[:200])
        self.ended = True


def piece_text(pieces: Sequence[Piece]) -> str:
    """The text of a word after expansion."""
    return "".join(piece.text for piece in pieces)


def _all_quoted(word: Word) -> Word:
    """An assignment's value is not split."""
    return tuple(
        Piece(text=piece.text, quoted=True, name=piece.name, default=piece.default, colon=piece.colon) for piece in word
    )
