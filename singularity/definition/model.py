"""What a definition file or a Dockerfile says, after parsing: values that need no second look."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from singularity.image.offered import Command


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
class HereDocument:
    """Text that stands below an instruction of a Dockerfile, between `<<NAME` and a line `NAME`."""

    word: str  # with which it is named, as it stands there
    name: str
    body: str  # empty, or ending with a newline
    expands: bool = True  # variables are filled in, where the instruction does that
    tabs: bool = False  # those at the beginning of its lines are left out


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """One instruction of a Dockerfile."""

    name: str  # in upper case
    flags: tuple[tuple[str, str], ...] = ()  # `--NAME=VALUE`, in order; the value of one alone is "true"
    text: str  # the rest, continued lines joined
    documents: tuple[HereDocument, ...] = ()
    file: str  # in which it stands, and the line, for messages
    line: int
    escape: str = "\\"  # the character that the file escapes with

    def __str__(self) -> str:
        flags = "".join(f" --{name}={value}" for name, value in self.flags)
        return f"{self.name}{flags} {self.text}".rstrip()

    @property
    def words(self) -> Sequence[object]:
        """All that it says, for digests."""
        documents = [[each.name, each.body, each.expands, each.tabs] for each in self.documents]
        return [self.name, [list(each) for each in self.flags], self.text, documents, self.escape]

    def flag(self, name: str) -> str:
        """The value of a flag that is given once; empty where it is not."""
        return dict(self.flags).get(name, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """The instructions of one stage of a Dockerfile, and what they may refer to."""

    file: str  # for messages
    instructions: tuple[Instruction, ...]  # without FROM
    base: str = ""  # the stage that it begins with; empty: its header says what
    stages: Mapping[str, str] = field(default_factory=dict)  # names of others, in `--from`, as definitions name them
    context: Path  # where sources are
    ignored: tuple[str, ...] = ()  # patterns of what no instruction sees there
    arguments: Mapping[str, str] = field(default_factory=dict)  # --build-arg
    before: Mapping[str, str] = field(default_factory=dict)  # each ARG above the first FROM
    automatic: Mapping[str, str] = field(default_factory=dict)  # of platforms, for ARG
    is_inner: bool = False  # a stage that another one uses, and no image


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
    wrappers: tuple[Command, ...] = ()
    apps: tuple[App, ...] = ()  # in the order of their first mention
    recipe: Recipe | None = None  # of a Dockerfile, carried out before the sections
    architecture: str = ""  # as Go names it, of the image that it begins with; empty: that of the build

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
