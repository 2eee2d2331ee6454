"""What a definition file says, after parsing: values that need no second look."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """The value of one header keyword."""

    value: str
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """The body of a section that is run, or becomes a file that is run."""

    body: str  # ends with a newline; not empty
    arguments: tuple[str, ...] = ()  # the words after the section's name
    line: int  # of the section's name
    lines: tuple[int, ...]  # where in the file each line of the body stands

    @property
    def numbered(self) -> tuple[tuple[str, int], ...]:
        """Each line of the body, with its line end, and where in the file it stands."""
        text = self.body.removesuffix("\n").split("\n")
        return tuple((f"{line}\n", number) for line, number in zip(text, self.lines, strict=True))

    @property
    def interpreter_line(self) -> str:
        """The script's own first line when it names an interpreter, without the section's indentation; else empty."""
        first = self.body.partition("\n")[0].lstrip()
        return first if first.startswith("#!") else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """One line of a `%files` or `%appfiles` section."""

    source: str  # a pattern
    target: str  # empty: the same path as the source
    stage: str  # the earlier stage that the source is in; empty: the host
    line: int
    section: str = "files"  # or appfiles


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """An application of the image (SCIF)."""

    name: str
    install: Script | None = None
    run: Script | None = None
    start: Script | None = None
    test: Script | None = None
    files: tuple[Copy, ...] = ()
    environment: str = ""
    help: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One root file system to be built: a header and the sections under it."""

    header: Mapping[str, Field]  # keywords in lower case
    line: int  # of its first header line
    pre: Script | None = None
    setup: Script | None = None
    post: Script | None = None
    test: Script | None = None
    runscript: Script | None = None
    startscript: Script | None = None
    files: tuple[Copy, ...] = ()
    environment: str = ""
    help: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    apps: tuple[App, ...] = ()  # in the order of their first mention

    @property
    def agent(self) -> str:
        """The bootstrap agent's name, in lower case; empty for sections that a container is to be updated with."""
        return self.value("bootstrap").lower()

    @property
    def name(self) -> str:
        """By which later stages name this one; empty when it has none."""
        return self.value("stage")

    def value(self, keyword: str) -> str:
        """The value of a header keyword, given in lower case; empty when it is not there."""
        found = self.header.get(keyword)
        return found.value if found else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A whole definition file; the image is what its last stage builds."""

    name: str  # of the file, for messages
    text: str  # as read, templates filled in
    stages: tuple[Stage, ...]  # at least one
    warnings: tuple[str, ...] = ()
