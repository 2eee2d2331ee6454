"""What the loader in the container would load for a program: which library from where, and what it would not find.

As ld.so(8) of glibc searches, and as musl's `ldso/dynlink.c` does. Libraries that a program opens by itself while it
runs (`dlopen`) are known to it alone.
"""

import logging
import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from singularity.check import elf, ld_cache
from singularity.check.elf import Elf, Need
from singularity.check.environment import Environment
from singularity.check.view import Place, View
from singularity.errors import ImageError
from singularity.image.tree import Kind

logger = logging.getLogger(__name__)

_OBJECTS_LIMIT = 4096
_LOOKUPS_LIMIT = 1_000_000  # paths at which libraries are looked for: no image keeps us busy for ever
_CONFIGURATIONS_LIMIT = 500  # files below /etc/ld.so.conf
_TRIPLETS = {  # Debian's names of directories
    "amd64": "x86_64-linux-gnu",
    "386": "i386-linux-gnu",
    "arm64": "aarch64-linux-gnu",
    "arm": "arm-linux-gnueabihf",
    "ppc64le": "powerpc64le-linux-gnu",
    "riscv64": "riscv64-linux-gnu",
    "s390x": "s390x-linux-gnu",
}
_MUSL_DIRECTORIES = ("/lib", "/usr/local/lib", "/usr/lib")
_MUSL_ITSELF = re.compile(r"lib(c|pthread|rt|m|dl|util|xnet)\.")  # names that musl's loader takes for itself
_TOKEN = re.compile(r"\$(?:(ORIGIN|LIB|PLATFORM)\b|\{(ORIGIN|LIB|PLATFORM)\})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A file that is mapped."""

    place: Place
    elf: Elf
    origin: str  # the directory that $ORIGIN stands for
    parent: "Loaded | None" = None  # the one that asked for it first

    @property
    def name(self) -> str:
        """Its path in the container."""
        return self.place.path


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """A library that is found nowhere."""

    name: str
    wanted_by: Loaded
    unfit: str = ""  # what was found of that name, and why it is none


@dataclass(frozen=True, slots=True, kw_only=True)
class Unresolved:
    """A version of symbols that the library found does not have."""

    need: Need
    wanted_by: Loaded
    library: Loaded


@dataclass(slots=True)
class Closure:
    """A program and all that is loaded with it."""

    objects: list[Loaded] = field(default_factory=list)  # the program first
    missing: list[Missing] = field(default_factory=list)
    unresolved: list[Unresolved] = field(default_factory=list)
    interpreter: str = ""  # that is not there
    by_name: dict[str, Loaded] = field(default_factory=dict)

    @property
    def program(self) -> Loaded:
        """What was to be loaded."""
        return self.objects[0]


class Loader:
    """Looks libraries up in one container; `isa` is the level of x86-64 that the processor has."""

    def __init__(self, view: View, environment: Environment, *, directory: str = "/", isa: int = 0) -> None:
        self._view, self._environment = view, environment
        self._directory = directory  # the current one
        self._isa = isa
        self._files: dict[str, Elf | str] = {}
        self._cached: dict[str, list[str]] | None = None
        self._lookups_left, self._configurations_left = _LOOKUPS_LIMIT, _CONFIGURATIONS_LIMIT
        self._configured_directories: list[str] | None = None

    def load(self, place: Place) -> Closure:
        """Everything for the program or library at a place. Raises ImageError when that is no ELF file."""
        what = self._read(place)
        if isinstance(what, str):
            raise ImageError(f"{place.path}: {what}")
        closure = Closure(objects=[Loaded(place=place, elf=what, origin=posixpath.dirname(place.path))])
        musl = self._is_musl(what)
        self._take_interpreter(closure, what)
        at = 0
        while at < len(closure.objects) and at < _OBJECTS_LIMIT:
            loaded = closure.objects[at]
            for name in loaded.elf.needed:
                if name not in closure.by_name and not (musl and _MUSL_ITSELF.match(name)):
                    self._add(closure, name, loaded, musl=musl)
            at += 1
        if not musl:  # which does not look at versions
            closure.unresolved = list(_unresolved(closure))
        return closure

    def _is_musl(self, what: Elf) -> bool:
        if what.interpreter:
            return "/ld-musl-" in what.interpreter
        return any(name.startswith("libc.musl-") for name in what.needed)

    def _take_interpreter(self, closure: Closure, what: Elf) -> None:
        if not what.interpreter:
            return
        place = self._view.find(what.interpreter)
        found = self._read(place) if place is not None else ""
        if place is None or isinstance(found, str):
            closure.interpreter = what.interpreter
            return
        origin = posixpath.dirname(what.interpreter)
        loaded = Loaded(place=place, elf=found, origin=origin, parent=closure.objects[0])
        closure.objects.append(loaded)
        for name in (found.soname, posixpath.basename(what.interpreter)):
            closure.by_name.setdefault(name, loaded)

    def _add(self, closure: Closure, name: str, parent: Loaded, *, musl: bool) -> None:
        unfit = ""
        for path in self._candidates(name, parent, musl=musl):
            self._lookups_left -= 1
            if self._lookups_left < 0:
                raise ImageError("more places to look for libraries than can be meant")
            place = self._view.find(path)
            if place is None or place.node.kind is not Kind.FILE:
                continue
            what = self._read(place)
            if isinstance(what, str) or (what.machine, what.wide) != (parent.elf.machine, parent.elf.wide):
                unfit = unfit or f"{path}: {what if isinstance(what, str) else what.machine or 'another machine'}"
                continue
            same = next((each for each in closure.objects if each.place.path == place.path), None)
            loaded = same or Loaded(place=place, elf=what, origin=posixpath.dirname(path), parent=parent)
            if same is None:
                closure.objects.append(loaded)
            closure.by_name[name] = loaded
            if what.soname:
                closure.by_name.setdefault(what.soname, loaded)
            return
        if not any(each.name == name for each in closure.missing):
            closure.missing.append(Missing(name=name, wanted_by=parent, unfit=unfit))

    def _read(self, place: Place) -> Elf | str:
        """The file, or why it cannot be loaded."""
        if place.path not in self._files:
            try:
                with self._view.open(place) as file:
                    self._files[place.path] = elf.read(file)
            except (ImageError, OSError) as error:
                self._files[place.path] = error.strerror or "" if isinstance(error, OSError) else str(error)
                logger.debug("%s: %s", place.path, error)
        return self._files[place.path]

    # ---- where is looked ----

    def _candidates(self, name: str, parent: Loaded, *, musl: bool) -> Iterator[str]:
        if "/" in name:
            yield posixpath.join(self._directory, _expanded(name, parent))
            return
        if musl:
            directories = [*self._environment.libraries, *_musl_paths(parent), *self._musl_directories()]
            yield from (posixpath.join(self._directory, each or ".", name) for each in directories)
            return
        for directory in (*_rpaths(parent), *self._environment.libraries, *_runpaths(parent)):
            place = posixpath.join(self._directory, _expanded(directory, parent) or ".")
            yield from (f"{place}/{each}{name}" for each in self._levels())
        if parent.elf.default_directories:
            yield from self._from_cache(name)
            for directory in default_directories(parent.elf):
                yield from (f"{directory}/{each}{name}" for each in self._levels())

    def _levels(self) -> Iterator[str]:
        """The directories for better processors below each directory, the best one first."""
        yield from (f"glibc-hwcaps/x86-64-v{level}/" for level in range(self._isa, 1, -1))
        yield ""

    def _from_cache(self, name: str) -> list[str]:
        found = self._cache().get(name, [])
        return sorted((each for each in found if _level(each) <= max(self._isa, 1)), key=_level, reverse=True)

    def _cache(self) -> dict[str, list[str]]:
        if self._cached is None:
            self._cached = {}
            try:
                data = self._view.read(ld_cache.PATH, limit=ld_cache.LIMIT)
            except OSError:
                data = b""
            for each in ld_cache.read(data):
                self._cached.setdefault(each.name, []).append(each.path)
        return self._cached

    def _musl_directories(self) -> Sequence[str]:
        names = [name for name in self._view.names("/etc") if name.startswith("ld-musl-") and name.endswith(".path")]
        for name in names:
            try:
                return [each for each in re.split(r"[:\n]", self._view.read(f"/etc/{name}").decode()) if each]
            except (OSError, UnicodeDecodeError):
                continue
        return _MUSL_DIRECTORIES

    # ---- what else is there ----

    def libraries(self, pattern: re.Pattern[str], machine: str) -> dict[str, Place]:
        """The libraries of the image whose whole name fits, of those that its loader finds by itself, or told so."""
        directories = [*self._environment.libraries, *default_directories(Elf(machine=machine, wide=True))]
        found: dict[str, Place] = {}
        paths = [path for name, each in self._cache().items() if pattern.fullmatch(name) for path in each]
        for directory in directories:
            paths += [f"{directory}/{name}" for name in self._view.names(directory) if pattern.fullmatch(name)]
        for path in paths:
            place = self._view.find(path)
            if place is not None and place.node.kind is Kind.FILE:
                found.setdefault(posixpath.basename(path), place)
        return found

    def elsewhere(self, name: str) -> str:
        """A path of a library in directories that the loader would look into, had `ldconfig` been run."""
        if self._configured_directories is None:
            self._configured_directories = list(self._configured("/etc/ld.so.conf", 4))
        for directory in self._configured_directories:
            place = self._view.find(f"{directory}/{name}")
            if place is not None:
                return place.path
        return ""

    def _configured(self, path: str, depth: int) -> Iterator[str]:
        self._configurations_left -= 1
        if self._configurations_left < 0:
            return
        try:
            lines = self._view.read(path, limit=1 << 16).decode("utf-8", "replace").splitlines()
        except OSError:
            return
        for line in (each.partition("#")[0].strip() for each in lines[:1000]):
            if line.startswith("include ") and depth:
                directory, _, pattern = line.split(None, 1)[1].strip().rpartition("/")
                above = posixpath.join("/etc", directory)
                suffix = pattern.lstrip("*")
                for name in (each for each in self._view.names(above) if each.endswith(suffix)):
                    yield from self._configured(f"{above}/{name}", depth - 1)
            elif line.startswith("/"):
                yield line


def default_directories(what: Elf) -> tuple[str, ...]:
    """Where glibc looks in the end; distributions differ, and no image has those of another one."""
    triplet = _TRIPLETS.get(what.machine, "")
    own = (f"/lib/{triplet}", f"/usr/lib/{triplet}") if triplet else ()
    return (*own, *(("/lib64", "/usr/lib64") if what.wide else ()), "/lib", "/usr/lib")


def _chain(loaded: Loaded) -> Iterator[Loaded]:
    each: Loaded | None = loaded
    while each is not None:
        yield each
        each = each.parent


def _rpaths(parent: Loaded) -> Iterator[str]:
    """RPATH of the file and of those that led to it, unless the file itself has RUNPATH."""
    if not parent.elf.runpath:
        for each in _chain(parent):
            if not each.elf.runpath:
                yield from (_expanded(directory, each) for directory in each.elf.rpath)


def _runpaths(parent: Loaded) -> Iterator[str]:
    yield from (_expanded(directory, parent) for directory in parent.elf.runpath)


def _musl_paths(parent: Loaded) -> Iterator[str]:
    """Both are the same for musl, and inherited."""
    for each in _chain(parent):
        yield from (_expanded(directory, each) for directory in (*each.elf.rpath, *each.elf.runpath))


def _expanded(text: str, loaded: Loaded) -> str:
    triplet = _TRIPLETS.get(loaded.elf.machine, "")
    values = {"ORIGIN": loaded.origin or "/", "LIB": f"lib/{triplet}" if triplet else "lib", "PLATFORM": "x86_64"}
    return _TOKEN.sub(lambda match: values[match[1] or match[2]], text)


def _level(path: str) -> int:
    """The level of x86-64 that a library in a directory for better processors wants; 0 for any other."""
    match = re.search(r"/glibc-hwcaps/x86-64-v([2-4])/", path)
    return int(match[1]) if match else 0


def _unresolved(closure: Closure) -> Iterator[Unresolved]:
    seen = set()
    for loaded in closure.objects:
        for need in loaded.elf.needs:
            library = closure.by_name.get(need.library)
            if library is None or need.weak or not library.elf.versions or need.version in library.elf.versions:
                continue
            if (loaded.name, library.name, need.version) not in seen:
                seen.add((loaded.name, library.name, need.version))
                yield Unresolved(need=need, wanted_by=loaded, library=library)
