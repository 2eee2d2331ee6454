"""`Bootstrap: mmdebstrap`: the systems that debootstrap makes, by apt itself, which fetches and unpacks all at once."""

import os
import shlex
from pathlib import Path

from singularity import files, kernel
from singularity.build import architecture, gate
from singularity.build.agents import debootstrap, installer
from singularity.build.agents.debootstrap import check, source_digest
from singularity.build.workspace import Workspace
from singularity.definition.model import Stage
from singularity.image import marks
from singularity.image.root import Root

__all__ = ["bootstrap", "check", "source_digest"]

# By which packages on this machine's disk are found from inside the new system.
_FILE_MIRROR = "/usr/share/mmdebstrap/hooks/file-mirror-automount"
_ANY_DATE = '"$1"/etc/apt/apt.conf.d/99any-date'
_DOWNLOADS = ("/var/cache/apt/archives/partial", "/var/lib/apt/lists/partial")


def bootstrap(stage: Stage, root: Path, workspace: Workspace) -> None:
    """Installs the suite and the packages that `Include` adds. Raises BuildError and ToolError."""
    installer.require_ids("mmdebstrap")
    argv = command(stage, root, workspace, debootstrap.keyring(stage, workspace))
    devices = workspace.directory / "devices" if kernel.maps_one_id() else None
    if devices:  # ours, for its /dev/pts is one for group 5, which the kernel does not know
        devices.mkdir()
        hook = f'mount --rbind {shlex.quote(str(devices))}/dev "$1/dev"'
        argv[1:1] = ["--skip=chroot/mount/dev", f"--extract-hook={hook}"]
    debootstrap.run(argv, debootstrap.environment(workspace), root=devices)
    debootstrap.clean(root)
    _give_downloads_to_root(root)


def _give_downloads_to_root(path: Path) -> None:
    """As apt leaves them where its own user cannot reach them; with one id it believes that it can."""
    with Root(path) as root:
        for place in filter(root.is_directory, _DOWNLOADS):
            with files.closing(root.open(place, os.O_RDONLY | os.O_DIRECTORY)) as fd:
                os.fchown(fd, 0, 0)
                marks.forget(fd)


def command(stage: Stage, root: Path, workspace: Workspace, keys: Path | None) -> list[str]:
    """The words of the mmdebstrap command line; packages must be signed with one of `keys`, where there are any."""
    included = " ".join(["apt", *installer.packages(stage)])
    argv = ["mmdebstrap", "--mode=root", "--variant=minbase", "--format=directory", f"--include={included}"]
    argv.append(f"--architectures={workspace.architecture.debian}")
    if workspace.architecture != architecture.host():
        argv.append("--skip=check/qemu")  # asked before (`architecture.find`); its own check wants one more program
    if keys:
        argv.append(f"--keyring={keys}")
    if gate.plays():  # an index of its day, which the image is to know nothing of
        argv += [f"--setup-hook=echo {shlex.quote(gate.ANY_DATE)} >{_ANY_DATE}", f"--customize-hook=rm {_ANY_DATE}"]
    mirror = installer.as_url(stage.value("mirrorurl"))
    if mirror.startswith("file:"):
        argv.append(f"--hook-dir={_FILE_MIRROR}")
    return [*argv, stage.value("osversion"), str(root), *([mirror] if mirror else [])]
