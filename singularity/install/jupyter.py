"""Kernels of Jupyter that run in an image: those that the image has itself, started from outside.

Format: kernel specs of jupyter_client 8. What a spec of an image says is taken only as words for inside: its variables
are set in the container, where they cannot change what the launch itself does.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from singularity.errors import ImageError
from singularity.foreign_json import parse_json
from singularity.image.metadata import Files
from singularity.install.tool import Kind, New, Tool

_PLACES = ("/usr/local/share", "/usr/share", "/opt/conda/share")
_CONNECTION = "{connection_file}"
_SITE = (Path("/usr/local/share/jupyter/kernels"), Path("/usr/share/jupyter/kernels"))
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")  # as jupyter_client takes them
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NATIVE = "python3"  # which Jupyter takes for the interpreter that it runs in


def default_directory() -> Path:
    """Where kernels are: root's for everybody, those of a user where her Jupyter looks (jupyter_core, paths)."""
    if os.geteuid() == 0:
        return _SITE[0]
    return _of_user() / "kernels"


def _of_user() -> Path:
    named = os.environ.get("JUPYTER_DATA_DIR", "")
    return Path(named or os.path.join(os.environ.get("XDG_DATA_HOME", "") or Path.home() / ".local/share", "jupyter"))


def hidden(names: Sequence[str], directory: Path) -> dict[str, Path]:
    """Which of these names are kernels already, in another directory."""
    places = [each for each in (_of_user() / "kernels", *_SITE) if each != directory]
    found = {name: place / name for name in names for place in places if os.path.exists(place / name / "kernel.json")}
    return found | {name: Path("the interpreter of Jupyter itself") for name in names if name == _NATIVE}


def files(tool: Tool, directory: Path, image: Files, search_path: Sequence[str]) -> Iterator[New]:
    """A spec for each kernel of the image. Raises ImageError where there is none."""
    specs = list(_specs(image, search_path))
    if not specs:
        hint = "pip install ipykernel in its %post, or what the language has"
        raise ImageError("no kernel of Jupyter in the image", hint=hint)
    for name, place, spec in specs:
        label = tool.file_name if len(specs) == 1 else f"{tool.file_name}-{name}"
        text = json.dumps(_outside(tool, spec, place), indent=1) + "\n"
        yield New(kind=Kind.JUPYTER, path=directory / label / "kernel.json", text=text)


def _specs(image: Files, search_path: Sequence[str]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Name, directory and spec of each kernel; of two with one name, the first."""
    prefixes = [f"{each.removesuffix('/bin')}/share" for each in search_path if each.endswith("/bin")]
    seen = set()
    for place in dict.fromkeys((*prefixes, *_PLACES)):
        for name in image.names(f"{place}/jupyter/kernels"):
            directory = f"{place}/jupyter/kernels/{name}"
            try:
                spec = parse_json(image.read(f"{directory}/kernel.json"))
            except (OSError, ImageError):
                continue
            if name not in seen and _NAME.fullmatch(name) and isinstance(spec, dict) and _words(spec.get("argv")):
                seen.add(name)
                yield name, directory, spec


def _outside(tool: Tool, spec: Mapping[str, Any], directory: str) -> dict[str, object]:
    """The spec for the host: the connection file, of the host, is shown inside where it is."""
    words = [each.replace("{resource_dir}", directory) for each in _words(spec.get("argv"))]
    variables = spec.get("env")
    said = variables.items() if isinstance(variables, dict) else ()
    inside = [f"{key}={value}" for key, value in said if _VARIABLE.fullmatch(key) and _words([value])]
    if inside:
        words = ["/usr/bin/env", *inside, *words]
    language = spec.get("language")
    shown = spec.get("display_name")
    metadata = spec.get("metadata")
    found: dict[str, object] = {
        "argv": tool.execute(words, "--bind", _CONNECTION),
        "display_name": f"{shown if isinstance(shown, str) and shown.isprintable() else 'Kernel'} ({tool.title})",
        "language": language if isinstance(language, str) else "",
    }
    if spec.get("interrupt_mode") in ("signal", "message"):
        found["interrupt_mode"] = spec["interrupt_mode"]
    if isinstance(metadata, dict) and metadata.get("debugger") is True:
        found["metadata"] = {"debugger": True}
    return found


def _words(value: object) -> list[str]:
    is_list = isinstance(value, list) and all(isinstance(each, str) and "\0" not in each for each in value)
    return list(value) if is_list and isinstance(value, list) else []
