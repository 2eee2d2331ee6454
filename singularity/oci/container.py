"""The configuration of an OCI image as the files that launches read: how it is run, its environment, its labels.

Values arrive as Docker hands them to programs: to the letter, whatever quotes, dollars, backslashes and newlines they
hold. The runscript's form is one that launches carry out themselves where an image has no shell
(`launcher/environment/oci_command.h`); where it has one, the shell does the same.
"""

import json
import logging
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from singularity.console import VERBOSE
from singularity.content import digest, document
from singularity.image import metadata, origin
from singularity.image.root import Root
from singularity.oci.image import Image

logger = logging.getLogger(__name__)

CONFIG_FILE = f"{metadata.DIRECTORY}/oci-config.json"
_ENVIRONMENT = f"{metadata.DIRECTORY}/env/10-docker2singularity.sh"
_RUNSCRIPT = f"{metadata.DIRECTORY}/runscript"
_LABELS = f"{metadata.DIRECTORY}/labels.json"
_START = f"{metadata.DIRECTORY}/oci-start"
_TEXT, _PROGRAM = 0o644, 0o755
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_UNUSED = frozenset({"ExposedPorts", "Healthcheck", "StopSignal", "Volumes"})
_SPECIAL = re.compile(r'([\\"$`])')

_RUN = """#!/bin/sh
# What the image was made to run. Arguments follow the entry point, in place of the default ones.
OCI_ENTRYPOINT=%(entrypoint)s
OCI_CMD=%(command)s

# An argument as it comes out of double quotes, or with SINGULARITY_NO_EVAL as it is.
oci_add() {
    if [ -n "${SINGULARITY_NO_EVAL:-}" ]; then
        SINGULARITY_OCI_RUN="$SINGULARITY_OCI_RUN \\"\\${$1}\\""
        return
    fi
    oci_rest=$2
    oci_text=
    while [ -n "$oci_rest" ]; do
        oci_plain=${oci_rest%%%%[\\\\\\"]*}
        oci_rest=${oci_rest#"$oci_plain"}
        oci_text=$oci_text$oci_plain
        case $oci_rest in
            \\\\?*)
                oci_rest=${oci_rest#?}
                oci_text=$oci_text\\\\${oci_rest%%"${oci_rest#?}"}
                oci_rest=${oci_rest#?}
                ;;
            ?*)
                oci_text=$oci_text\\\\${oci_rest%%"${oci_rest#?}"}
                oci_rest=${oci_rest#?}
                ;;
        esac
    done
    SINGULARITY_OCI_RUN="$SINGULARITY_OCI_RUN \\"$oci_text\\""
}

SINGULARITY_OCI_RUN="-- $OCI_ENTRYPOINT"
if [ $# -eq 0 ]; then
    SINGULARITY_OCI_RUN="$SINGULARITY_OCI_RUN $OCI_CMD"
fi
oci_number=0
for oci_argument in "$@"; do
    oci_number=$((oci_number + 1))
    oci_add "$oci_number" "$oci_argument"
done
eval "set ${SINGULARITY_OCI_RUN}"
unset SINGULARITY_OCI_RUN OCI_ENTRYPOINT OCI_CMD oci_number oci_argument oci_rest oci_text oci_plain
if [ $# -eq 0 ]; then
    set -- /bin/sh
fi
exec "$@"
"""


def write(root: Root, image: Image) -> None:
    """Writes the files into a root file system. Raises OSError."""
    config = image.config
    root.make_directory(f"{metadata.DIRECTORY}/env")
    _write(root, _RUNSCRIPT, runscript(config.entrypoint, config.command), _PROGRAM)
    _write(root, _ENVIRONMENT, environment(config.environment), _PROGRAM)
    _write(root, _LABELS, json.dumps(dict(config.labels), indent="\t", ensure_ascii=False) + "\n", _TEXT)
    _write(root, CONFIG_FILE, json.dumps(config.raw, ensure_ascii=False, separators=(",", ":")), _TEXT)
    _write(root, _START, start(config.user, config.working_directory), _TEXT)
    origin.write(root, image.origin)
    for key in sorted(_UNUSED & {key for key, value in config.raw.items() if value}):
        logger.log(VERBOSE, "%s of the image is kept in %s; launches have no use for it", key, CONFIG_FILE)


def configured(raw: Mapping[str, Any], architecture: str, name: str, came_from: origin.Origin | None) -> Image:
    """An image without layers that has this configuration; `name` stands in messages. Raises ImageError."""
    whole = {"architecture": architecture, "os": "linux", "config": raw, "rootfs": {"type": "layers", "diff_ids": []}}
    data = json.dumps(whole).encode()
    config = document.parse_config(data, name)
    return Image(name=name, digest=digest.of(data), config=config, layers=(), origin=came_from)


def _write(root: Root, path: str, text: str, mode: int) -> None:
    root.write(path, text.encode("utf-8", "replace"), mode)


def runscript(entrypoint: Sequence[str], command: Sequence[str]) -> str:
    """The script that does what Docker does with ENTRYPOINT, CMD and the arguments of `run`."""
    if tuple(entrypoint) == ("",):  # how an inherited entry point is taken away
        entrypoint = ()
    return _RUN % {"entrypoint": _assigned(entrypoint), "command": _assigned(command)}


def start(user: str, working_directory: str) -> str:
    """Where and as whom `docker run` starts the program, for launches that are to do the same.

    Two lines, USER= and WORKDIR=; the second value is a plain absolute path, and may hold newlines.
    """
    path = posixpath.normpath("/" + working_directory.lstrip("/"))
    return f"USER={user.replace(chr(10), ' ')}\nWORKDIR={path}\n"


def _assigned(words: Iterable[str]) -> str:
    """Words of a command line, each in double quotes, as one value in single quotes."""
    return _quoted(" ".join('"' + _SPECIAL.sub(r"\\\1", word) + '"' for word in words))


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "'\\''") + "'"


def environment(variables: Iterable[str]) -> str:
    """The script that sets the image's variables: PATH always, others where nothing has set them before."""
    values: dict[str, str] = {}
    for each in variables:
        name, equals, value = each.partition("=")
        if not equals or not _NAME.fullmatch(name):
            logger.warning('Variable "%s" of the image is left out: no name that a shell can use', name[:80])
            continue
        values.pop(name, None)
        values[name] = value
    lines = ["#!/bin/sh", "# The variables of the image's configuration, to the letter."]
    for name, value in values.items():
        if name == "PATH":
            lines.append(f"PATH={_quoted(value)}")
        else:
            lines.append(f'if [ -z "${{{name}:-}}" ]; then {name}={_quoted(value)}; fi')
        lines.append(f"export {name}")
    return "\n".join(lines) + "\n"
