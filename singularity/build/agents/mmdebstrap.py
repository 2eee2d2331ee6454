"""`Bootstrap: mmdebstrap`: the systems that debootstrap makes, by apt itself, which fetches and unpacks all at once."""

from pathlib import Path

from singularity.build.agents import debootstrap, installer
from singularity.build.agents.debootstrap import check, source_digest
from singularity.build.workspace import Workspace
from singularity.definition.model import Stage

__all__ = ["bootstrap", "check", "source_digest"]

# By which packages on this machine's disk are found from inside the new system.
_FILE_MIRROR = "/usr/share/mmdebstrap/hooks/file-mirror-automount"


def bootstrap(stage: Stage, root: Path, workspace: Workspace) -> None:
    """Installs the suite and the packages that `Include` adds. Raises BuildError and ToolError."""
    installer.require_ids("mmdebstrap", emulated=False)  # it mounts a /dev/pts for group 5, which the kernel must know
    argv = command(stage, root, workspace, debootstrap.keyring(stage, workspace))
    debootstrap.run(argv, debootstrap.environment(workspace))
    debootstrap.clean(root)


def command(stage: Stage, root: Path, workspace: Workspace, keys: Path | None) -> list[str]:
    """The words of the mmdebstrap command line; packages must be signed with one of `keys`, where there are any."""
    included = " ".join(["apt", *installer.packages(stage)])
    argv = ["mmdebstrap", "--mode=root", "--variant=minbase", "--format=directory", f"--include={included}"]
    argv.append(f"--architectures={workspace.architecture.debian}")
    if keys:
        argv.append(f"--keyring={keys}")
    mirror = installer.as_url(stage.value("mirrorurl"))
    if mirror.startswith("file:"):
        argv.append(f"--hook-dir={_FILE_MIRROR}")
    return [*argv, stage.value("osversion"), str(root), *([mirror] if mirror else [])]
