"""`Bootstrap: debootstrap`: Debian, Ubuntu and their relatives, package by package from a mirror.

Runs in mount and PID namespaces of its own: what debootstrap mounts, and the daemons that packages start, end with it.
"""

import logging
import os
import re
import stat
from pathlib import Path
from typing import NoReturn

from singularity import console, kernel, paths, process
from singularity.build.agents import require
from singularity.build.namespaces import isolated
from singularity.build.workspace import Workspace, network_environment
from singularity.console import VERBOSE
from singularity.definition.model import Stage
from singularity.errors import BuildError, DefinitionError
from singularity.image.root import Root

logger = logging.getLogger(__name__)

_EXCLUDED = "openssl,udev,debconf-i18n,e2fsprogs"  # what a container has no use for
_WORDS = {"OSVersion": re.compile(r"[A-Za-z0-9][\w.-]*"), "MirrorURL": re.compile(r"[a-z]+:/\S+|/\S+")}
_DETAIL = re.compile(r"(Retrieving|Validating|Extracting|Unpacking|Configuring) ")
_PURPOSE = "bootstrap a Debian system"


def check(stage: Stage, name: str) -> None:
    """`OSVersion` names the suite; without `MirrorURL`, debootstrap's own mirror serves."""
    require(stage, "OSVersion", name, "OSVersion: stable, or another suite of the mirror")
    for keyword, pattern in _WORDS.items():
        field = stage.header.get(keyword.lower())
        if field and not pattern.fullmatch(field.value):
            raise DefinitionError(f'{keyword}: "{field.value}" is none', name=name, line=field.line)


def bootstrap(stage: Stage, root: Path, workspace: Workspace) -> None:
    """Installs the suite and the packages that `Include` adds. Raises BuildError and ToolError."""
    if kernel.maps_one_id():
        hint = "build with sudo, or ask for a range of ids in /etc/subuid and /etc/subgid"
        raise BuildError("debootstrap needs root, or more ids than your own", hint=hint)
    argv = command(stage, root, workspace)
    program = process.find(argv[0], purpose=_PURPOSE)
    environment = process.clean_environment({"DEBIAN_FRONTEND": "noninteractive", **network_environment()})
    if not kernel.is_initial_user_namespace():
        environment["container"] = "lxc"  # by which debootstrap knows that it must bind devices, not make them
    lines: list[str] = []

    def start() -> NoReturn:
        kernel.mount("proc", "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
        os.umask(0o022)
        os.execve(program, argv, environment)  # noqa: S606 - a list of words, without a shell

    def on_line(line: str) -> None:
        lines.append(line)
        text = line.removeprefix("I: ").strip()
        show(f"debootstrap: {text}")
        logger.log(VERBOSE if _DETAIL.match(text) else logging.INFO, "debootstrap: %s", text)

    logger.debug("Running %s", argv)
    with console.progress() as show:
        status = isolated(start, on_line=on_line)
    if status:
        reason = process.telling_line("\n".join(lines)) or f"exit status {status}"
        raise BuildError(f"debootstrap could not {_PURPOSE}: {reason}", hint="-v shows its output")
    _clear_devices(root)


def source_digest(stage: Stage) -> str | None:
    """The header names the suite and the mirror; what the mirror has today is not asked."""
    del stage
    return ""


def command(stage: Stage, root: Path, workspace: Workspace) -> list[str]:
    """The words of the debootstrap command line."""
    included = ",".join(["apt", *stage.value("include").replace(",", " ").split()])
    argv = ["debootstrap", "--variant=minbase", f"--exclude={_EXCLUDED}", f"--include={included}"]
    argv.append(f"--arch={workspace.architecture.debian}")
    if workspace.cache:
        argv.append(f"--cache-dir={paths.private(paths.cache_directory() / 'debootstrap')}")
    argv += [stage.value("osversion"), str(root)]
    mirror = stage.value("mirrorurl")
    return [*argv, mirror] if mirror else argv


def _clear_devices(path: Path) -> None:
    """Device nodes of an image never work, and would keep ordinary users from unpacking it."""
    with Root(path) as root:
        for name in root.names("/dev"):
            status = root.status(f"/dev/{name}", follow=False)
            if status is not None and not stat.S_ISDIR(status.st_mode):
                root.remove(f"/dev/{name}")
