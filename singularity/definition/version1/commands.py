"""The commands of the first format, carried out on a header, scripts and copies in the making."""

import posixpath
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from singularity.definition.model import Copy, Field, Script, Stage
from singularity.definition.sections import WORD_LIMIT
from singularity.definition.version1 import quoting
from singularity.definition.version1.conditions import MODERN
from singularity.definition.version1.expansion import ASSIGNMENT, ROOTS, Expansion, piece_text
from singularity.errors import DefinitionError
from singularity.shell.words import ROOT, Command, Piece

_AGENTS = {"redhat": "yum", "debian": "debootstrap", "arch": "arch", "busybox": "busybox"}
_AFTER_BOOTSTRAP = frozenset({"InstallPkgs", "InstallFile", "Cleanup"})
_STAGING = "/.singularity.d/install"  # where files wait for their turn


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


class Reader:
    """What the commands have said so far."""

    def __init__(self, words: Expansion) -> None:
        self.words = words
        self.said = ""  # by the last echo
        self.ended = False  # by exit: nothing counts that follows
        self.type = ""
        self.header: dict[str, Field] = {}
        self.packages: list[str] = []
        self.post = _Lines()
        self.run = _Lines()
        self.files: list[Copy] = []
        self.cleaned = self.updated = False

    def _fail(self, line: int, what: str, hint: str = "") -> DefinitionError:
        return self.words.fail(line, what, hint)

    def stage(self) -> Stage:
        """What the script says, once it is read."""
        if "bootstrap" not in self.header:
            raise DefinitionError("no command Bootstrap in it", name=self.words.name, hint="add a line Bootstrap")
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

    def carry_out(self, command: Command) -> None:
        """Takes a command into account. Raises DefinitionError for one that is not understood."""
        line = command.line
        if command.raw:
            self._need_bootstrap(line, "RunScript")
            self.run.add(line, command.raw)
            return
        assignments = self.words.assign(command)
        if assignments == len(command.words) and not command.redirects:
            return
        if assignments:
            raise self._fail(line, "a variable set for one command only", f"set it in a line of its own, {MODERN}")
        words = self.words.fields(command.words, line)
        name = piece_text(words[0]) if words else ""
        known = self._commands().get(name)
        if known is None:
            hint = f"known are {', '.join(self._commands())}; {MODERN}"
            raise self._fail(line, f'"{name[:WORD_LIMIT]}" is no command of the first format', hint)
        if command.redirects and name != "RunCmd":
            raise self._fail(line, f"{name}: redirected output", MODERN)
        if command.may_fail and name != "RunCmd":
            raise self._fail(line, f"{name} || true: it may not fail", MODERN)
        if name == "RunCmd":
            self._need_bootstrap(line, name)
            self._run_command(command, words[1:])
            return
        texts = [piece_text(each) for each in words[1:]]
        inside = texts[:1] if name == "InstallFile" else texts
        if name not in ("echo", "export") and any(ROOT in text for text in inside):
            raise self._fail(line, f"{name}: a path below ${ROOTS[0]}", "only the target of InstallFile is one")
        if name in _AFTER_BOOTSTRAP:
            self._need_bootstrap(line, name)
        known(line, texts)

    def _commands(self) -> Mapping[str, Callable[[int, list[str]], None]]:
        return {
            "DistType": self._dist_type,
            "MirrorURL": self._mirror_url,
            "OSVersion": self._os_version,
            "Setup": self._nothing,
            "PreSetup": self._nothing,
            "Bootstrap": self._bootstrap,
            "InstallPkgs": self._install_packages,
            "RunCmd": self._nothing,
            "RunScript": self._nothing,
            "InstallFile": self._install_file,
            "Cleanup": self._cleanup,
            "Finalize": self._nothing,
            "echo": self._echo,
            "export": self._export,
            "set": self._nothing,
            "true": self._nothing,
            ":": self._nothing,
            "exit": self._exit,
        }

    def _nothing(self, line: int, words: list[str]) -> None:
        """What the build does anyway, or what changes nothing of how this is read."""

    def _dist_type(self, line: int, words: list[str]) -> None:
        if len(words) != 1 or words[0] not in _AGENTS:
            shown = " ".join(words)[:WORD_LIMIT]
            raise self._fail(line, f'DistType "{shown}" is unknown', f"known are {', '.join(_AGENTS)}")
        self.type = words[0]

    def _mirror_url(self, line: int, words: list[str]) -> None:
        if len(words) not in (1, 2):
            raise self._fail(line, f"MirrorURL: {len(words)} words", "MirrorURL URL [NAME]")
        keyword = "mirrorurl"
        if keyword in self.header and self.type == "redhat":
            keyword = "updateurl"
        if keyword in self.header:
            raise self._fail(line, "one MirrorURL more than is understood", "add further repositories with RunCmd")
        self.header[keyword] = Field(value=words[0], line=line)

    def _os_version(self, line: int, words: list[str]) -> None:
        if len(words) != 1:
            raise self._fail(line, f"OSVersion: {len(words)} words", "OSVersion VERSION")
        self.header["osversion"] = Field(value=words[0], line=line)

    def _bootstrap(self, line: int, words: list[str]) -> None:
        if not self.type:
            raise self._fail(line, "Bootstrap before DistType", 'begin with a line DistType "redhat", or another')
        self.header["bootstrap"] = Field(value=_AGENTS[self.type], line=line)
        self._add_packages(line, words)

    def _need_bootstrap(self, line: int, command: str) -> None:
        if "bootstrap" not in self.header:
            raise self._fail(line, f"{command} before Bootstrap", "there is nothing yet to work on")

    def _add_packages(self, line: int, words: list[str]) -> None:
        for word in words:
            if not word or any(letter.isspace() for letter in word):
                what = f'"{word[:WORD_LIMIT]}" is no name of a package'
                raise self._fail(line, what, "groups: RunCmd yum groupinstall GROUP")
        self.packages += words

    def _install_packages(self, line: int, words: list[str]) -> None:
        """Packages of redhat come from the mirror with the first ones: the image need not have a package manager."""
        if self.type == "busybox":
            raise self._fail(line, "InstallPkgs: busybox has no packages", "InstallFile copies files of the host")
        if self.type == "redhat":
            self._add_packages(line, words)
        elif self.type == "debian":
            if not self.updated:
                self.post.add(line, "apt-get update")
                self.updated = True
            self.post.add(line, shlex.join(["apt-get", "-y", "install", *words]))
        else:
            self.post.add(line, shlex.join(["pacman", "--noconfirm", "-Sy", *words]))

    def _run_command(self, command: Command, words: list[list[Piece]]) -> None:
        if not words:
            raise self._fail(command.line, "RunCmd without a command")
        shown = [quoting.shell_word(self.words, each, command.line) for each in words]
        targets = ((each, quoting.redirect_target(self.words, each.word, command.line)) for each in command.redirects)
        shown += [each.operator + target for each, target in targets]
        self.post.add(command.line, " ".join(shown) + (" || true" if command.may_fail else ""))
        self.updated = self.updated or [piece_text(each) for each in words[:2]] == ["apt-get", "update"]

    def _install_file(self, line: int, words: list[str]) -> None:
        """At once where nothing was run before it; else the file waits in the image until its turn."""
        if len(words) not in (1, 2):
            raise self._fail(line, f"InstallFile: {len(words)} words", "InstallFile SOURCE [TARGET]")
        source, target = words[0], words[-1].removeprefix(ROOT)
        if ROOT in target:
            raise self._fail(
                line, f"InstallFile: ${ROOTS[0]} within a path", "it stands at the beginning, or not at all"
            )
        if not self.post.text:
            self.files.append(Copy(source=source, target=target if len(words) == 2 else "", stage="", line=line))
            return
        target = posixpath.join("/", target)
        place = f"{_STAGING}/{len(self.files)}"
        parent = target if target.endswith("/") else posixpath.dirname(target)
        self.files.append(Copy(source=source, target=f"{place}/", stage="", line=line))
        name = "*" if quoting.GLOB.search(source) else shlex.quote(posixpath.basename(source.rstrip("/")))
        self.post.add(line, shlex.join(["mkdir", "-p", "--", parent]))
        self.post.add(line, f"mv -f -- {place}/{name} {shlex.quote(target)}")

    def _cleanup(self, line: int, words: list[str]) -> None:
        del line, words
        self.cleaned = True

    def _echo(self, line: int, words: list[str]) -> None:
        del line
        self.said = " ".join(words)

    def _export(self, line: int, words: list[str]) -> None:
        del line
        for word in words:
            match = ASSIGNMENT.fullmatch(word)
            if match:
                self.words.variables[match[1]] = match[2]

    def _exit(self, line: int, words: list[str]) -> None:
        if words not in ([], ["0"]):
            raise self._fail(line, f"ends with exit {' '.join(words)[:WORD_LIMIT]}", self.said[:200])
        self.ended = True
