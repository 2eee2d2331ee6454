"""What an image is for, when nobody says: its interpreters and their main modules, as commands that start and end.

Reads the image's directories only; `startup_trace` runs the commands, and watches what they open.
"""

from collections.abc import Collection, Iterator, Sequence
from pathlib import PurePosixPath

from singularity.image.root import Root
from singularity.process import SYSTEM_PATH

LAZY = 93  # the status of a module that has more to load when it is asked for it: `LAZILY` asks
_PLAINLY = f"import sys;m=__import__(sys.argv[1]);sys.exit({LAZY}*(hasattr(m,'__getattr__')and hasattr(m,'__all__')))"
LAZILY = "import sys;m=__import__(sys.argv[1]);[getattr(m,n,None) for n in m.__all__]"
NOTHING = {  # what makes an interpreter start and end
    "sh": ("-c", ":"),
    "dash": ("-c", ":"),
    "ash": ("-c", ":"),
    "bash": ("-c", ":"),
    "zsh": ("-c", ":"),
    "python": ("-c", "pass"),
    "perl": ("-e", "0"),
    "ruby": ("-e", "0"),
    "Rscript": ("-e", "0"),
    "node": ("-e", "0"),
    "lua": ("-e", ""),
    "julia": ("-e", "0"),
}
_INTERPRETERS = ("python3", "perl", "Rscript", "julia", "node", "ruby")
_PREFIXES = 16  # directories of /opt that are looked at
_NOT_MAIN = frozenset(("pip", "setuptools", "pkg_resources", "wheel", "distutils", "test", "tests", "easy_install"))


def _is_directory(root: Root, path: str) -> bool:
    try:
        return root.is_directory(path)
    except OSError:  # links without end, or what this user may not enter
        return False


def starts(root: Root, opened: Collection[str]) -> Iterator[Sequence[str]]:
    """Commands, the likeliest first. `opened` is what starts have opened already: their interpreters are left out."""
    opt = [f"/opt/{name}/bin" for name in root.names("/opt")[:_PREFIXES] if _is_directory(root, f"/opt/{name}/bin")]
    seen: set[tuple[str | None, str]] = set()
    for name in _INTERPRETERS:
        for directory in (*opt, *SYSTEM_PATH.split(":")):
            program = f"{directory}/{name}"
            place = (root.real_path(directory), name)
            if place in seen or not root.is_file(program):
                continue
            seen.add(place)
            if (root.real_path(program) or "").lstrip("/") in opened:
                continue
            yield (program, *NOTHING[name.rstrip("3")])
            if name == "python3":
                for module in _modules(root, PurePosixPath(program).parent.parent):
                    yield (program, "-c", _PLAINLY, module)


def _modules(root: Root, prefix: PurePosixPath) -> Iterator[str]:
    """Modules that were installed beside a Python: first those that somebody asked for, as pip notes."""
    found: dict[str, bool] = {}
    for base in dict.fromkeys((str(prefix), "/usr/local" if str(prefix) == "/usr" else str(prefix))):
        for version in root.names(f"{base}/lib"):
            for kind in ("site-packages", "dist-packages") if version.startswith("python3") else ():
                place = f"{base}/lib/{version}/{kind}"
                names = root.names(place)
                asked = {name.partition("-")[0].lower() for name in names if root.is_file(f"{place}/{name}/REQUESTED")}
                for name in names:
                    module = name.partition(".")[0]
                    if module.isidentifier() and _is_main(root, place, name):
                        found.setdefault(module, module.lower() not in asked)
    yield from sorted(found, key=lambda module: (found[module], module.lower()))


def _is_main(root: Root, place: str, name: str) -> bool:
    module, dot, suffix = name.partition(".")
    if name.startswith("_") or module in _NOT_MAIN:
        return False
    return suffix.endswith(("py", "so")) if dot else root.is_file(f"{place}/{name}/__init__.py")
