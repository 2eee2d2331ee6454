"""What the instructions of a stage say of the image, one after the other: its configuration, and what RUN sees.

The configuration is that of OCI images (image-spec 1.1, config.md) with what Docker adds to it: `OnBuild`, `Shell`,
`Healthcheck`.
"""

import posixpath
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from singularity.definition.dockerfile import words
from singularity.definition.dockerfile.words import WordError
from singularity.definition.model import Instruction, Recipe
from singularity.definition.sections import WORD_LIMIT
from singularity.errors import DefinitionError

# Values of --build-arg that RUN sees without an ARG.
PREDEFINED = frozenset(
    each
    for name in ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")
    for each in (name, name.upper())
)
CHANGING = frozenset({"RUN", "COPY", "ADD", "WORKDIR"})  # files
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ASSIGNMENT = re.compile(r"([^=]+)=(.*)", re.DOTALL)
_PORT = re.compile(r"\d+(?:-\d+)?(?:/(?:tcp|udp|sctp))?", re.IGNORECASE)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_NANOSECONDS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_HEALTH = {
    "interval": "Interval",
    "timeout": "Timeout",
    "start-period": "StartPeriod",
    "start-interval": "StartInterval",
}


def fail(instruction: Instruction, what: str, hint: str = "") -> DefinitionError:
    """An error at the line of an instruction."""
    return DefinitionError(f"{instruction.name}: {what}", name=instruction.file, line=instruction.line, hint=hint)


@dataclass(slots=True)
class State:
    """The image as it is after some instructions."""

    raw: dict[str, Any]  # the configuration, in the words of its format
    recipe: Recipe
    arguments: dict[str, str] = field(default_factory=dict)  # each ARG that has a value
    declared: set[str] = field(default_factory=set)  # all ARG
    said: set[str] = field(default_factory=set)  # instructions that the stage has had

    @classmethod
    def begin(cls, base: Mapping[str, Any], recipe: Recipe) -> "State":
        """What is inherited from a base image with this configuration."""
        raw = {key: value for key, value in base.items() if key != "OnBuild"}
        if not any(str(each).startswith("PATH=") for each in raw.get("Env") or ()):
            raw["Env"] = [*(raw.get("Env") or ()), f"PATH={_PATH}"]
        return cls(raw=raw, recipe=recipe)

    @property
    def environment(self) -> dict[str, str]:
        """The variables of the image."""
        return {name: value for name, _, value in (str(each).partition("=") for each in self.raw.get("Env") or ())}

    @property
    def values(self) -> dict[str, str]:
        """What variables in instructions are filled in with."""
        return {**self.arguments, **self.environment}

    @property
    def directory(self) -> str:
        """The working directory."""
        return str(self.raw.get("WorkingDir") or "/")

    @property
    def shell(self) -> list[str]:
        """What stands before a command in the form of a shell."""
        return [str(each) for each in self.raw.get("Shell") or ("/bin/sh", "-c")]

    def program(self, instruction: Instruction) -> list[str]:
        """The words that RUN, CMD and the like start."""
        return words.json_list(instruction.text) or [*self.shell, instruction.text]

    def filled(self, instruction: Instruction, word: str) -> str:
        """A word with its variables filled in. Raises DefinitionError."""
        try:
            return words.fill(word, self.values, instruction.escape)
        except WordError as error:
            raise fail(instruction, str(error)) from error

    def list(self, instruction: Instruction) -> list[str]:
        """Words between blanks, or in the form of JSON, variables filled in."""
        found = words.json_list(instruction.text)
        return [self.filled(instruction, each) for each in (instruction.text.split() if found is None else found)]

    def apply(self, instruction: Instruction) -> None:
        """Takes one instruction in. Raises DefinitionError."""
        change = _CHANGES.get(instruction.name)
        if change is not None:
            change(self, instruction)
        self.said.add(instruction.name)

    def variables(self) -> dict[str, str]:
        """What RUN finds in its environment."""
        given = {name: value for name, value in self.recipe.arguments.items() if name in PREDEFINED}
        return {**given, **self.arguments, **self.environment}


def assignments(instruction: Instruction) -> list[tuple[str, str]]:
    """`NAME=VALUE ...`, or `NAME VALUE` in the form of old; quotes as they stand there. Raises DefinitionError."""
    found = words.split(instruction.text, instruction.escape)
    if found and "=" not in found[0]:
        value = instruction.text[len(found[0]) :].strip()
        if not value:
            raise fail(instruction, f"{found[0][:WORD_LIMIT]} has no value", "NAME=VALUE")
        return [(found[0], value)]
    pairs = []
    for word in found:
        match = _ASSIGNMENT.fullmatch(word)
        if match is None:
            raise fail(instruction, f'"{word[:WORD_LIMIT]}" is no NAME=VALUE', "put values with blanks in quotes")
        pairs.append((match[1], match[2]))
    return pairs


def _env(state: State, instruction: Instruction) -> None:
    new = [
        (state.filled(instruction, name), state.filled(instruction, value)) for name, value in assignments(instruction)
    ]
    state.raw["Env"] = [f"{name}={value}" for name, value in {**state.environment, **dict(new)}.items()]


def _arg(state: State, instruction: Instruction) -> None:
    found: dict[str, str] = {}  # those of one line do not see each other
    for word in words.split(instruction.text, instruction.escape):
        name, equals, default = word.partition("=")
        name = state.filled(instruction, name)
        state.declared.add(name)
        recipe = state.recipe
        if name in recipe.arguments:
            found[name] = recipe.arguments[name]
        elif equals:
            found[name] = state.filled(instruction, default)
        elif name in recipe.before:
            found[name] = recipe.before[name]
        elif name in recipe.automatic:
            found[name] = recipe.automatic[name]
    state.arguments |= found


def _label(state: State, instruction: Instruction) -> None:
    new = {
        state.filled(instruction, name): state.filled(instruction, value) for name, value in assignments(instruction)
    }
    state.raw["Labels"] = {**(state.raw.get("Labels") or {}), **new}


def _maintainer(state: State, instruction: Instruction) -> None:
    state.raw["Labels"] = {"maintainer": instruction.text, **(state.raw.get("Labels") or {})}


def _entrypoint(state: State, instruction: Instruction) -> None:
    state.raw["Entrypoint"] = [] if words.json_list(instruction.text) == [] else state.program(instruction)
    if "CMD" not in state.said:  # that of the base image is meant for another entry point
        state.raw.pop("Cmd", None)


def _cmd(state: State, instruction: Instruction) -> None:
    state.raw["Cmd"] = [] if words.json_list(instruction.text) == [] else state.program(instruction)


def _shell(state: State, instruction: Instruction) -> None:
    found = words.json_list(instruction.text)
    if not found:
        raise fail(instruction, "a list in the form of JSON is expected", 'SHELL ["/bin/bash", "-c"]')
    state.raw["Shell"] = found


def _workdir(state: State, instruction: Instruction) -> None:
    path = state.filled(instruction, instruction.text)
    state.raw["WorkingDir"] = absolute(state, path)


def absolute(state: State, path: str) -> str:
    """A path from the root, of one that may be relative to the working directory."""
    return posixpath.normpath(posixpath.join("/", state.directory, path)).replace("//", "/")


def _user(state: State, instruction: Instruction) -> None:
    state.raw["User"] = state.filled(instruction, instruction.text)


def _expose(state: State, instruction: Instruction) -> None:
    ports = dict(state.raw.get("ExposedPorts") or {})
    for word in state.list(instruction):
        if not _PORT.fullmatch(word):
            raise fail(instruction, f'"{word[:WORD_LIMIT]}" is no port', "such as 8080, 53/udp, or 8000-8010")
        numbers, _, protocol = word.lower().partition("/")
        first, _, last = numbers.partition("-")
        if int(first) > int(last or first) or int(last or first) > 65535:
            raise fail(instruction, f'"{word[:WORD_LIMIT]}" is no port')
        for port in range(int(first), int(last or first) + 1):
            ports[f"{port}/{protocol or 'tcp'}"] = {}
    state.raw["ExposedPorts"] = ports


def _volume(state: State, instruction: Instruction) -> None:
    found = state.list(instruction)
    if not all(found):
        raise fail(instruction, "a path that is empty")
    state.raw["Volumes"] = {**(state.raw.get("Volumes") or {}), **{each: {} for each in found}}


def _stopsignal(state: State, instruction: Instruction) -> None:
    state.raw["StopSignal"] = state.filled(instruction, instruction.text)


def _healthcheck(state: State, instruction: Instruction) -> None:
    name, _, rest = instruction.text.partition(" ")
    if name.upper() == "NONE" and not rest.strip():
        state.raw["Healthcheck"] = {"Test": ["NONE"]}
        return
    if name.upper() != "CMD" or not rest.strip():
        raise fail(
            instruction, f'"{name[:WORD_LIMIT]}": not understood', "HEALTHCHECK CMD COMMAND, or HEALTHCHECK NONE"
        )
    listed = words.json_list(rest)
    check: dict[str, Any] = {"Test": ["CMD-SHELL", rest.strip()] if listed is None else ["CMD", *listed]}
    for flag, value in instruction.flags:
        if flag == "retries":
            if not value.isdecimal():
                raise fail(instruction, f"--retries={value[:WORD_LIMIT]}: a number is expected")
            check["Retries"] = int(value)
        else:
            check[_HEALTH[flag]] = _duration(instruction, flag, value)
    state.raw["Healthcheck"] = check


def _duration(instruction: Instruction, flag: str, value: str) -> int:
    """Nanoseconds of `1h30m` and the like."""
    if value == "0":
        return 0
    if not re.fullmatch(rf"(?:{_DURATION.pattern})+", value):
        raise fail(instruction, f"--{flag}={value[:WORD_LIMIT]}: a time is expected", "such as 30s, or 1m30s")
    return round(sum(float(number) * _NANOSECONDS[unit] for number, unit in _DURATION.findall(value)))


def _onbuild(state: State, instruction: Instruction) -> None:
    text = instruction.text
    for document in instruction.documents:
        text += f"\n{document.body}{document.name}"
    state.raw["OnBuild"] = [*(state.raw.get("OnBuild") or []), text]


_CHANGES: Mapping[str, Callable[[State, Instruction], None]] = {
    "ARG": _arg,
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "MAINTAINER": _maintainer,
    "ONBUILD": _onbuild,
    "SHELL": _shell,
    "STOPSIGNAL": _stopsignal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}


def after(base: Mapping[str, Any], recipe: Recipe, instructions: Iterable[Instruction]) -> State:
    """The state after instructions on top of a base image. Raises DefinitionError."""
    state = State.begin(base, recipe)
    for each in instructions:
        state.apply(each)
    return state
