"""From a Dockerfile to stages of a definition: those that the wanted one needs, each with its instructions."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from singularity.definition.dockerfile import lines, mounts, words
from singularity.definition.dockerfile.state import PREDEFINED, State, assignments, fail
from singularity.definition.dockerfile.words import WordError
from singularity.definition.model import Field, Instruction, Recipe, Stage
from singularity.definition.sections import WORD_LIMIT
from singularity.errors import DefinitionError

_FLAGS: Mapping[str, frozenset[str]] = {  # of each instruction
    "ADD": frozenset({"checksum", "chmod", "chown", "exclude", "keep-git-dir", "link", "unpack"}),
    "ARG": frozenset(),
    "CMD": frozenset(),
    "COPY": frozenset({"chmod", "chown", "exclude", "from", "link", "parents"}),
    "ENTRYPOINT": frozenset(),
    "ENV": frozenset(),
    "EXPOSE": frozenset(),
    "FROM": frozenset({"platform"}),
    "HEALTHCHECK": frozenset({"interval", "retries", "start-interval", "start-period", "timeout"}),
    "LABEL": frozenset(),
    "MAINTAINER": frozenset(),
    "ONBUILD": frozenset(),
    "RUN": frozenset({"mount", "network", "security"}),
    "SHELL": frozenset(),
    "STOPSIGNAL": frozenset(),
    "USER": frozenset(),
    "VOLUME": frozenset(),
    "WORKDIR": frozenset(),
}
_REPEATED = frozenset({"exclude", "mount"})  # flags that may be
_NOT_TRIGGERS = frozenset({"FROM", "MAINTAINER", "ONBUILD"})
_NAMED = re.compile(r"(?:.+\.)?(?:Dockerfile|Containerfile)(?:\..+)?", re.IGNORECASE)
_FIRST = re.compile(r"\s*(?:FROM|ARG)\s+[^\s:]", re.IGNORECASE)
_SYNTAX = re.compile(r"#\s*syntax\s*=", re.IGNORECASE)
_HEADER = re.compile(r"\s*(?:bootstrap|osbuild|ostype)\s*:", re.IGNORECASE)
_STAGE_NAME = re.compile(r"[A-Za-z][\w.-]*")
_FROM = re.compile(r"(\S+)(?:\s+as\s+(\S+))?", re.IGNORECASE)
_TRANSPORT = re.compile(
    r"(?:(docker|docker-daemon)://|(oci|oci-archive|docker-archive|localimage):(?://)?(?=[./]))(.+)"
)
_PLATFORM = re.compile(r"linux/([a-z0-9]+)(?:/(\w+))?")


def recognise(name: str, text: str) -> bool:
    """Whether a text is a Dockerfile, by the name of its file or by how it begins."""
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            return bool(_FIRST.match(line)) or (bool(_NAMED.fullmatch(name)) and not _HEADER.match(line))
        if _SYNTAX.match(line):
            return True
    return bool(_NAMED.fullmatch(name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """How a Dockerfile is to be built."""

    name: str  # of the file, for messages
    context: Path
    ignored: tuple[str, ...] = ()  # patterns of .dockerignore
    arguments: Mapping[str, str] = field(default_factory=dict)
    target: str = ""  # name or number of a stage; empty: the last
    architecture: str  # that the image is for, as Go names it
    host: str  # that the build runs on
    prefix: str = ""  # of names of stages, where other files have some too


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """What became of a Dockerfile."""

    stages: tuple[Stage, ...]  # the last is the image
    unused: tuple[str, ...] = ()  # arguments that it has no ARG for


@dataclass(slots=True, kw_only=True)
class _Raw:
    """One stage as it stands in the file."""

    number: int
    origin: Instruction  # FROM
    image: str
    name: str  # in lower case; empty: it has none
    platform: str
    instructions: list[Instruction] = field(default_factory=list)
    base: "_Raw | None" = None
    sources: dict[str, "_Raw | str"] = field(default_factory=dict)  # what `--from` names: a stage, or an image


def parse(text: str, asked: Asked) -> Parsed:
    """The stages that a Dockerfile has, and the image needs. Raises DefinitionError."""
    return _Parser(text, asked).parsed()


class _Parser:
    def __init__(self, text: str, asked: Asked) -> None:
        self.asked = asked
        found = lines.read(text, asked.name)
        for each in found.instructions:
            check(each)
        self.automatic = _automatic(asked)
        self.before: dict[str, str] = {}
        self.declared: set[str] = set()
        self.stages: list[_Raw] = []
        self.by_name: dict[str, _Raw] = {}
        for each in found.instructions:
            self.take(each)
        if not self.stages:
            raise DefinitionError("no FROM: no stage begins", name=asked.name, hint="FROM scratch begins with nothing")

    def take(self, instruction: Instruction) -> None:
        if instruction.name == "FROM":
            self.stages.append(self.begun(instruction))
            if self.stages[-1].name:
                self.by_name[self.stages[-1].name] = self.stages[-1]
        elif self.stages:
            self.stages[-1].instructions.append(instruction)
            self.note_sources(self.stages[-1], instruction)
        elif instruction.name == "ARG":
            self.argument(instruction)
        else:
            raise fail(instruction, "comes before the first FROM", "only ARG may stand there")

    def argument(self, instruction: Instruction) -> None:
        """ARG above the first FROM."""
        for word in words.split(instruction.text, instruction.escape):
            name, equals, default = word.partition("=")
            self.declared.add(name)
            if name in self.asked.arguments:
                self.before[name] = self.asked.arguments[name]
            elif equals:
                self.before[name] = self.filled(instruction, default)

    def filled(self, instruction: Instruction, word: str) -> str:
        try:
            return words.fill(word, {**self.automatic, **self.before}, instruction.escape)
        except WordError as error:
            raise fail(instruction, str(error)) from error

    def begun(self, instruction: Instruction) -> _Raw:
        """The stage that a FROM begins."""
        match = _FROM.fullmatch(instruction.text)
        if match is None:
            raise fail(instruction, f'"{instruction.text[:WORD_LIMIT]}": not understood', "FROM IMAGE [AS NAME]")
        image, name = self.filled(instruction, match[1]), (match[2] or "").lower()
        if not image:
            what = f"{match[1][:WORD_LIMIT]} is empty"
            raise fail(
                instruction, what, "give the value with --build-arg, or a default in an ARG above the first FROM"
            )
        if name and not _STAGE_NAME.fullmatch(name):
            raise fail(instruction, f'"{name[:WORD_LIMIT]}" is no name of a stage', "letters, digits, _ . and -")
        if name in self.by_name:
            raise fail(instruction, f'a stage "{name}" is there already, in line {self.by_name[name].origin.line}')
        number = len(self.stages)
        platform = self.platform(instruction)
        return _Raw(
            number=number, origin=instruction, image=image, name=name, platform=platform, base=self.earlier(image)
        )

    def platform(self, instruction: Instruction) -> str:
        """The architecture of `--platform`; empty where it is that of the image."""
        said = self.filled(instruction, instruction.flag("platform"))
        if not said:
            return ""
        match = _PLATFORM.fullmatch(said.lower())
        if match is None:
            raise fail(instruction, f"--platform={said[:WORD_LIMIT]}: no platform of Linux", "such as linux/arm64")
        return "" if match[1] == self.asked.architecture else match[1]

    def earlier(self, name: str) -> _Raw | None:
        """The stage of this name or number, of those so far."""
        found = self.by_name.get(name.lower())
        if found is None and name.isdecimal() and len(name) < 7 and int(name) < len(self.stages):
            return self.stages[int(name)]
        return found

    def note_sources(self, stage: _Raw, instruction: Instruction) -> None:
        names = [instruction.flag("from")] if instruction.name == "COPY" else []
        if instruction.name == "RUN":
            names = [mounts.parse(instruction, text).stage for flag, text in instruction.flags if flag == "mount"]
        for name in filter(None, names):
            found = self.earlier(name)
            if found is stage:
                raise fail(
                    instruction, f'"{name}" is the stage itself: nothing can come from it', "name an earlier one"
                )
            stage.sources[name] = self.filled(instruction, name) if found is None else found

    def parsed(self) -> Parsed:
        last = self.wanted()
        needed = self.needed(last)
        images = dict.fromkeys(source for raw in needed for source in raw.sources.values() if isinstance(source, str))
        later = {raw.name: raw for raw in self.stages if raw.name}
        for raw in needed:
            for name, source in raw.sources.items():
                if isinstance(source, str) and name.lower() in later:
                    line = later[name.lower()].origin.line
                    what = f'"{name}" names a stage that begins only in line {line}'
                    raise fail(self.user_of(raw, name), what, "put it above")
        stages = [self.image_stage(image, needed) for image in images]
        stages += [self.stage(raw, is_inner=raw is not last) for raw in needed]
        for raw in self.stages:
            for each in raw.instructions:
                if each.name == "ARG":
                    self.declared |= {word.partition("=")[0] for word in words.split(each.text, each.escape)}
        unused = sorted(set(self.asked.arguments) - self.declared - PREDEFINED)
        return Parsed(stages=tuple(stages), unused=tuple(unused))

    def user_of(self, raw: _Raw, name: str) -> Instruction:
        """The instruction that names a source first."""
        return next(
            each
            for each in raw.instructions
            if name == each.flag("from") or any(f"from={name}" in text for flag, text in each.flags if flag == "mount")
        )

    def wanted(self) -> _Raw:
        if not self.asked.target:
            return self.stages[-1]
        found = self.earlier(self.asked.target)
        if found is None:
            names = ", ".join(self.by_name) or f"0 to {len(self.stages) - 1}"
            what = f'no stage "{self.asked.target[:WORD_LIMIT]}"'
            raise DefinitionError(what, name=self.asked.name, hint=f"stages: {names[:200]}")
        return found

    def needed(self, last: _Raw) -> list[_Raw]:
        """The stages that one is made of, in the order of the file."""
        found, pending = {last.number: last}, [last]
        while pending:
            raw = pending.pop()
            for other in (raw.base, *raw.sources.values()):
                if isinstance(other, _Raw) and other.number not in found:
                    found[other.number] = other
                    pending.append(other)
        return [found[number] for number in sorted(found)]

    def named(self, raw: _Raw) -> str:
        return f"{self.asked.prefix}{raw.name or raw.number}"

    def stage(self, raw: _Raw, *, is_inner: bool) -> Stage:
        line = raw.origin.line
        sources = {
            name: self.named(source) if isinstance(source, _Raw) else f"{self.asked.prefix}{source}"
            for name, source in raw.sources.items()
        }
        recipe = Recipe(
            file=self.asked.name,
            instructions=tuple(raw.instructions),
            base=self.named(raw.base) if raw.base else "",
            stages=sources,
            context=self.asked.context,
            ignored=self.asked.ignored,
            arguments=self.asked.arguments,
            before=self.before,
            automatic=self.automatic,
            is_inner=is_inner,
        )
        header = _header(raw.image, line) if raw.base is None else _fields("dockerfile", self.asked.name, line)
        if raw.name or is_inner:
            header["stage"] = Field(value=self.named(raw), line=line)
        return Stage(header=header, line=line, recipe=recipe, architecture=raw.platform)

    def image_stage(self, image: str, needed: list[_Raw]) -> Stage:
        """The image that `--from` names, as a stage that has nothing but that."""
        user = next(raw for raw in needed if image in raw.sources.values())
        line = self.user_of(user, next(name for name, source in user.sources.items() if source == image)).line
        recipe = Recipe(file=self.asked.name, instructions=(), context=self.asked.context, is_inner=True)
        header = {**_header(image, line), "stage": Field(value=f"{self.asked.prefix}{image}", line=line)}
        return Stage(header=header, line=line, recipe=recipe)


def _automatic(asked: Asked) -> dict[str, str]:
    found: dict[str, str] = {}
    for kind, architecture in (("TARGET", asked.architecture), ("BUILD", asked.host)):
        found |= {
            f"{kind}PLATFORM": f"linux/{architecture}",
            f"{kind}OS": "linux",
            f"{kind}ARCH": architecture,
            f"{kind}VARIANT": "",
        }
    return found


def _header(image: str, line: int) -> dict[str, Field]:
    """A header that means the image of a FROM."""
    if image.lower() == "scratch":
        return {"bootstrap": Field(value="scratch", line=line)}
    match = _TRANSPORT.fullmatch(image)
    if match:
        return _fields(match[1] or match[2], match[3], line)
    return _fields("docker", image, line)


def _fields(agent: str, place: str, line: int) -> dict[str, Field]:
    return {"bootstrap": Field(value=agent, line=line), "from": Field(value=place, line=line)}


def check(instruction: Instruction) -> None:
    """What can be said of an instruction by itself. Raises DefinitionError."""
    name = instruction.name
    if name not in _FLAGS:
        near = get_close_matches(name, list(_FLAGS), n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(_FLAGS)}"
        what = f'unknown instruction "{name[:WORD_LIMIT]}"'
        raise DefinitionError(what, name=instruction.file, line=instruction.line, hint=hint)
    seen: set[str] = set()
    for flag, _ in instruction.flags:
        if flag not in _FLAGS[name]:
            known = ", ".join(f"--{each}" for each in sorted(_FLAGS[name]))
            raise fail(instruction, f"unknown option --{flag[:WORD_LIMIT]}", f"known are {known}" if known else "")
        if flag in seen and flag not in _REPEATED:
            raise fail(instruction, f"--{flag} is given twice")
        seen.add(flag)
    if not instruction.text:
        raise fail(instruction, "nothing stands behind it")
    _check_more(instruction)


def _check_more(instruction: Instruction) -> None:
    match instruction.name:
        case "ONBUILD":
            trigger(instruction)
        case "RUN":
            _check_run(instruction)
        case "ENV" | "LABEL":
            assignments(instruction)
        case "COPY" | "ADD":
            if instruction.flag("parents"):
                raise fail(instruction, "--parents is not supported", "name the directory in the target")
            listed = words.json_list(instruction.text)
            if len(instruction.text.split() if listed is None else listed) < 2:
                raise fail(instruction, "a source and a target are expected", f"{instruction.name} SOURCE... TARGET")
        case "SHELL" | "HEALTHCHECK":
            State.begin({}, Recipe(file="", instructions=(), context=Path())).apply(instruction)


def _check_run(instruction: Instruction) -> None:
    for flag, value in instruction.flags:
        if flag == "mount":
            mounts.parse(instruction, value)
        elif flag == "network" and value not in ("default", "host", "none"):
            raise fail(instruction, f"--network={value[:WORD_LIMIT]}", "default, host or none")
        elif flag == "security" and value != "sandbox":
            raise fail(instruction, f"--security={value[:WORD_LIMIT]}: a build has no more rights than who builds")


def trigger(instruction: Instruction) -> Instruction:
    """The instruction that an ONBUILD holds, checked. Raises DefinitionError."""
    text = instruction.text + "".join(f"\n{each.body}{each.name}" for each in instruction.documents)
    found = lines.trigger(text, instruction.file, instruction.line, instruction.escape)
    check(found)
    if found.name in _NOT_TRIGGERS:
        raise fail(instruction, f"{found.name} cannot be a trigger")
    if found.flag("from") or any("from=" in text for flag, text in found.flags if flag == "mount"):
        raise fail(instruction, "a trigger takes files from the context, not from a stage")
    return found
