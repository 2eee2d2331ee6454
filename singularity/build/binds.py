"""What `--bind` and `--mount` of a build say: files of the host that its scripts see.

`--bind SOURCE[:TARGET[:ro]]`, several with commas between them; `\\:` and `\\,` are the characters themselves.
`--mount type=bind,source=PATH,destination=PATH[,ro]`, one in each, with the family's other words for the fields.
"""

import csv
import os
import re
from collections.abc import Iterator
from pathlib import Path

from singularity.build.request import Bind
from singularity.errors import UsageError

_PART = re.compile(r"((?:\\.|[^\\,])+)(?:,|$)")
_FIELD = re.compile(r"((?:\\.|[^\\:])*)(?::|$)")
_FIELDS = {"src": "source", "source": "source", "dst": "target", "destination": "target", "target": "target"}


def parse_bind(text: str) -> Iterator[Bind]:
    """The binds of one `--bind`. Raises UsageError."""
    for part in _PART.findall(text):
        fields = [re.sub(r"\\(.)", r"\1", field) for field in _FIELD.findall(part)]
        while fields and not fields[-1]:
            fields.pop()
        options = fields[2].split(",") if len(fields) > 2 else []
        if not fields or len(fields) > 3 or set(options) - {"ro", "rw"}:
            raise UsageError(f"--bind {text}: not understood", hint="SOURCE[:TARGET[:ro]]")
        yield _bind(fields[0], fields[1] if len(fields) > 1 else "", writable="ro" not in options, option="--bind")


def parse_mount(text: str) -> Bind:
    """The bind of one `--mount`. Raises UsageError."""
    found: dict[str, str] = {}
    writable = True
    (words,) = csv.reader([text]) if text else [[]]
    for word in words:
        key, _, value = word.partition("=")
        if key in ("ro", "readonly"):
            writable = value.lower() == "false"
        elif key in _FIELDS:
            found[_FIELDS[key]] = value
        elif (key, value) != ("type", "bind"):
            hint = "type=bind,source=PATH,destination=PATH[,ro]"
            raise UsageError(f'--mount {text}: "{word}" is not understood', hint=hint)
    if not found.get("source") or not found.get("target"):
        raise UsageError(f"--mount {text}: it needs source=PATH and destination=PATH")
    return _bind(found["source"], found["target"], writable=writable, option="--mount")


def _bind(source: str, target: str, *, writable: bool, option: str) -> Bind:
    place = Path(source).absolute()
    inside = os.path.normpath(f"/{target}" if target else f"/{place}")
    if target and not target.startswith("/"):
        raise UsageError(f"{option}: {target} is no absolute path in the image")
    if inside in ("/", "//"):
        raise UsageError(f"{option}: nothing can be bound on / of the image")
    if not place.exists():
        raise UsageError(f"{option}: {source}: No such file or directory")
    return Bind(source=place, target="/" + inside.lstrip("/"), writable=writable)
