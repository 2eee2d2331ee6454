"""What agents that call a package manager share: words of the header, keys, and how the tool is run."""

import hashlib
import logging
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from singularity import console, files, kernel, process
from singularity.build import container, gate, reproducible
from singularity.build.architecture import Architecture
from singularity.console import VERBOSE
from singularity.definition.model import Stage
from singularity.errors import BuildError, DefinitionError, FileError, ToolError
from singularity.image.root import Root
from singularity.namespaces import emulation
from singularity.namespaces.isolation import isolated

logger = logging.getLogger(__name__)

_URL = re.compile(r"(?:https?|ftp)://[^\s/]\S*|file:/\S+|/\S+")
_KEY = re.compile(r"https://[^\s/]\S*|file:/\S+|/\S+")
_PACKAGE = re.compile(r"[^\s-]\S*")
_RELEASE = re.compile(r"[A-Za-z0-9][\w.-]*")
_SETTING = re.compile(r"[A-Za-z_][\w.*-]*=")
_NEVER = re.compile(r"(?!)")
_MACHINES = {"386": "i686", "amd64": "x86_64", "arm": "armv7hl", "arm64": "aarch64", "loong64": "loongarch64"}
_KERNEL_FILES = ("/dev", "/proc", "/sys")


def machine(architecture: Architecture) -> str:
    """The architecture's name among packages of rpm and pacman."""
    return _MACHINES.get(architecture.sif, architecture.sif)


def check_urls(stage: Stage, name: str, *keywords: str) -> None:
    """Values of these keywords, where they are there, are URLs or absolute paths. Raises DefinitionError."""
    for keyword in keywords:
        field = stage.header.get(keyword.lower())
        if field and not all(_URL.fullmatch(word) for word in field.value.split()):
            hint = "a URL, or an absolute path"
            what = f'{keyword.replace("otherurl", "OtherURL")}: "{field.value}" is none'
            raise DefinitionError(what, name=name, line=field.line, hint=hint)


def check_version(stage: Stage, name: str, pattern: re.Pattern[str] = _RELEASE) -> None:
    """`OSVersion`, where it is there, is of this form. Raises DefinitionError."""
    version = stage.header.get("osversion")
    if version and not pattern.fullmatch(version.value):
        raise DefinitionError(f'OSVersion: "{version.value}" is none', name=name, line=version.line)


def check_packages(stage: Stage, name: str) -> None:
    """`Include` names packages, and nothing that the tool takes for an option. Raises DefinitionError."""
    field = stage.header.get("include")
    for word in field.value.replace(",", " ").split() if field else ():
        if field and not _PACKAGE.fullmatch(word):
            raise DefinitionError(f'Include: "{word}" is no package', name=name, line=field.line)


def packages(stage: Stage) -> list[str]:
    """What `Include` names, and after that the variable INCLUDE; between blanks or commas."""
    words = f"{stage.value('include')} {os.environ.get('INCLUDE', '')}".replace(",", " ").split()
    return [word for word in words if _PACKAGE.fullmatch(word)]


def check_settings(stage: Stage, name: str) -> None:
    """`Setopt` is of the form KEY=VALUE. Raises DefinitionError."""
    field = stage.header.get("setopt")
    if field and not _SETTING.match(field.value):
        raise DefinitionError(f'Setopt: "{field.value}" is no KEY=VALUE', name=name, line=field.line)


def settings(text: str) -> list[str]:
    """`a=b c=d e` as two settings: a word without `=` belongs to the value before it."""
    found: list[str] = []
    for word in text.split():
        if _SETTING.match(word) or not found:
            found.append(word)
        else:
            found[-1] += f" {word}"
    return found


def keys(stage: Stage) -> list[str]:
    """Where the keys are that packages must be signed with: the header's `GPG`, else the variable.

    A key that came over a line which anybody can write to proves nothing, hence no `http:`.
    Raises BuildError, and FileError for a file that is not there.
    """
    words = (stage.value("gpg") or os.environ.get("GPG", "")).split()
    for word in words:
        if not _KEY.fullmatch(word):
            raise BuildError(f"GPG: {word}: keys come from https URLs and files", hint="https://..., or a path")
        path = local_path(word)
        if path and not path.is_file():
            raise FileError(f"GPG: {path}: no such file")
    return [as_url(word) for word in words]


def as_url(place: str) -> str:
    """A URL for what may be an absolute path."""
    return f"file://{place}" if place.startswith("/") else place


def local_path(url: str) -> Path | None:
    """The path of a `file:` URL, or of what is a path already; None for what is elsewhere."""
    if url.startswith("file:"):
        return Path("/" + url.removeprefix("file:").lstrip("/"))
    return Path(url) if url.startswith("/") else None


def digest(stage: Stage, local: Iterable[Path]) -> str | None:
    """For the build cache: what the header does not say, that is two variables and the content of these local files.

    Empty where there is nothing of the sort, None where a file cannot be read: what comes of that must not be kept.
    """
    words = ["INCLUDE", *packages(stage)] if os.environ.get("INCLUDE") else []
    words += ["GPG", os.environ["GPG"]] if os.environ.get("GPG") and not stage.value("gpg") else []
    for path in (*local, *(path for path in map(local_path, keys(stage)) if path)):
        try:
            words += [str(path), hashlib.sha256(path.read_bytes()).hexdigest()]
        except OSError:
            return None
    return hashlib.sha256("\0".join(words).encode("utf-8", "surrogateescape")).hexdigest() if words else ""


def require_ids(tool: str) -> None:
    """Packages have files of several owners. Raises BuildError where there is only one, and none are remembered."""
    if kernel.maps_one_id() and not emulation.is_wanted():
        hint = "build with sudo, or ask for a range of ids in /etc/subuid and /etc/subgid"
        raise BuildError(f"{tool} needs root, or more ids than your own", hint=hint)


def find_first(names: Sequence[str], *, purpose: str) -> Path:
    """The path of the first of these tools that is installed. Raises ToolError where none is."""
    for name in names[:-1]:
        found = shutil.which(name, path=process.search_path())
        if found:
            return Path(found)
    try:
        return process.find(names[-1], purpose=purpose)
    except ToolError:
        process.find(names[0], purpose=purpose)
        raise


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Which lines of a tool's output are for whom: patterns are searched for; all other lines show with -v."""

    told: re.Pattern[str] = _NEVER  # progress, for everybody
    warned: re.Pattern[str] = _NEVER  # something that went wrong and did not stop the tool
    failed: tuple[re.Pattern[str], ...] = ()  # why it stopped, the most telling first

    def reason(self, lines: Sequence[str]) -> str:
        """The first line of the most telling kind, else the last that speaks of an error."""
        for pattern in self.failed:
            for line in lines:
                if pattern.search(line):
                    return line
        return process.telling_line("\n".join(lines))


def run(
    argv: Sequence[str | Path],
    *,
    purpose: str,
    environment: Mapping[str, str],
    root: Path | None = None,
    before: Callable[[], None] | None = None,
    output: Output = Output(),
    accept: Collection[int] = (0,),
) -> int:
    """Runs a package manager in namespaces of its own: what it mounts and what packages start ends with it.

    Its new root gets /proc, /sys and a minimal /dev meanwhile, and for those no file of a package is in the way.
    Returns the exit status, one of `accept`. Raises BuildError, with the line of the output that says why, and
    ToolError.
    """
    words = [str(word) for word in argv]
    name = Path(words[0]).name
    program = process.find(words[0], purpose=purpose)
    variables = process.clean_environment({**environment, **reproducible.environment()})  # rpm dates what it installs
    lines: list[str] = []
    warned: set[str] = set()
    if root is not None:
        with Root(root) as opened:
            for place in _KERNEL_FILES:
                opened.make_directory(place)

    def start() -> NoReturn:
        with suppress(PermissionError):  # where the host hides parts of /proc, ours shows more than it need
            kernel.mount("proc", "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
        if root is not None:
            with Root(root) as opened:
                container.mount_kernel_files(opened)
        if before is not None:
            before()
        gate.trust_on_host()
        os.umask(0o022)
        emulation.execute(emulator, [str(program), *words[1:]], variables)

    def on_line(line: str) -> None:
        text = line.rpartition("\r")[2].strip()
        if not text:
            return
        lines.append(text)
        show(f"{name}: {text}")
        if output.warned.search(text) and text not in warned:
            warned.add(text)
            logger.warning("%s: %s", name, text)
        else:
            logger.log(logging.INFO if output.told.search(text) else VERBOSE, "%s: %s", name, text)

    logger.debug("Running %s", words)
    with console.progress() as show, emulation.opened() as emulator:
        status = isolated(start, on_line=on_line)
    if status not in accept:
        reason = output.reason(lines) or f"exit status {status}"
        raise BuildError(f"{name} could not {purpose}: {reason}", hint="-v shows its output")
    return status


def remove(root: Root, path: str) -> None:
    """Removes what is at `path` of the root, a whole directory too; nothing where there is nothing."""
    with suppress(FileNotFoundError, NotADirectoryError), root.parent(path) as (fd, name):
        files.remove_tree(Path(f"/proc/self/fd/{fd}", name))


def empty(root: Root, path: str) -> None:
    """Removes all that is in a directory of the root, and leaves the directory."""
    for name in root.names(path):
        remove(root, f"{path}/{name}")


def make_home(directory: Path) -> Path:
    """A home directory for tools, in the working directory of a build."""
    home = directory / "home"
    home.mkdir(mode=0o755, exist_ok=True)
    return home


def clear_home(root: Root, directory: Path) -> None:
    """Removes what scripts of packages, told that home directory, left at its path in the image."""
    if root.status(str(directory), follow=False) is None:
        return
    remove(root, str(directory))
    for parent in directory.parents[:-1]:
        with suppress(OSError), root.parent(str(parent)) as (fd, name):  # ends at the first with anything in it
            os.rmdir(name, dir_fd=fd)
