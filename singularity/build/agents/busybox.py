"""`Bootstrap: busybox`: one static program, and a link to it for each command that it knows."""

import logging
import re
from pathlib import Path

from singularity.build import container
from singularity.build.agents import installer
from singularity.build.architecture import Architecture, host
from singularity.build.fetch import fetch
from singularity.build.workspace import Workspace, script_environment
from singularity.definition.model import Stage
from singularity.errors import BuildError, DefinitionError
from singularity.image import elf
from singularity.image.root import Root

logger = logging.getLogger(__name__)

_MIRROR = "https://www.busybox.net/downloads/binaries/busybox-x86_64"
_LIMIT = 64 << 20
_PROGRAM = "/bin/busybox"
_APPLET = re.compile(r"[A-Za-z0-9\[][\w.+\[-]*")
_DIRECTORIES = {"/bin": 0o755, "/etc": 0o755, "/dev": 0o755, "/proc": 0o755, "/sys": 0o755, "/root": 0o700}
_FILES = {
    "/etc/passwd": "root:x:0:0:root:/root:/bin/sh\n",
    "/etc/group": "root:x:0:\n",
    "/etc/hosts": "127.0.0.1 localhost\n",
}


def check(stage: Stage, name: str) -> None:
    """`MirrorURL` is the program's own; without it, the project's build for x86_64 serves."""
    installer.check_urls(stage, name, "MirrorURL")
    if not stage.value("mirrorurl") and host().sif != "amd64":
        hint = "MirrorURL: https://..., or the path of a static busybox"
        line = stage.header["bootstrap"].line
        raise DefinitionError("busybox.net has no program for this architecture", name=name, line=line, hint=hint)


def bootstrap(stage: Stage, root: Path, workspace: Workspace) -> None:
    """Puts the program into the image, and has it say there what it can do. Raises BuildError and FileError."""
    place = stage.value("mirrorurl") or _MIRROR
    data = fetch(place, limit=_LIMIT)
    _refuse(data, place, workspace.architecture)
    with Root(root) as opened:
        for directory, mode in _DIRECTORIES.items():
            opened.make_directory(directory, mode)
        opened.write(_PROGRAM, data, 0o755)
        for path, text in _FILES.items():
            if opened.status(path) is None:
                opened.write(path, text.encode())
        applets = _applets(root)
        for applet in applets:
            if opened.status(f"/bin/{applet}", follow=False) is None:
                opened.link(f"/bin/{applet}", "busybox")
    logger.info("busybox: %s commands", len(applets))


def source_digest(stage: Stage) -> str | None:
    """A local program's content."""
    path = installer.local_path(stage.value("mirrorurl"))
    return installer.digest(stage, [path] if path else [])


def _refuse(data: bytes, place: str, architecture: Architecture) -> None:
    """Raises BuildError for anything but a program that runs in an empty root of this architecture."""
    found = elf.needs(lambda size, offset: data[offset : offset + size])
    if found is None:
        raise BuildError(f"{place}: no program (not an ELF file)")
    if elf.architecture(data) != architecture.sif:
        machine = int.from_bytes(data[18:20], "little" if data[5] == 1 else "big")
        raise BuildError(f"{place}: a program for another architecture (machine {machine}), not {architecture.sif}")
    if found.loader:
        raise BuildError(f"{place}: needs {found.loader}, which an empty image has not", hint="take a static busybox")


def _applets(root: Path) -> list[str]:
    """What the program says it can do, asked in the image and not on the host."""
    lines: list[str] = []
    status = container.run(root, [_PROGRAM, "--list"], environment=script_environment(), on_line=lines.append)
    applets = [line for line in lines if _APPLET.fullmatch(line) and line != "busybox"]
    if status or "sh" not in applets:
        reason = lines[-1] if lines and status else "it lists no sh"
        raise BuildError(f"busybox --list in the image: {reason}", hint="is it a busybox?")
    return applets
