"""`Bootstrap: debootstrap`: Debian, Ubuntu and their relatives, package by package from a mirror.

Runs in mount and PID namespaces of its own: what debootstrap mounts, and the daemons that packages start, end with it.
Where mmdebstrap is installed and debootstrap is not, that does the work.
"""

import base64
import binascii
import logging
import re
import shutil
import stat
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path

from singularity import kernel, paths, process
from singularity.build import gate
from singularity.build.agents import installer, require
from singularity.build.fetch import fetch
from singularity.build.workspace import Workspace
from singularity.definition.model import Stage
from singularity.errors import BuildError, DefinitionError
from singularity.image.root import Root

logger = logging.getLogger(__name__)

PURPOSE = "bootstrap a Debian system"
_PLAIN = re.compile(r"[\w./+@=,-]+", re.ASCII)  # paths that debootstrap's scripts take
_MOUNT_POINTS = (Path("/mnt"), Path("/media"), Path("/srv"), Path("/opt"))
_EXCLUDED = "openssl,udev,debconf-i18n,e2fsprogs"  # what a container has no use for
_SUITE = re.compile(r"[A-Za-z0-9][\w./-]*")
_KEY_LIMIT = 4 << 20
_ARMOUR = re.compile(rb"-----BEGIN PGP PUBLIC KEY BLOCK-----(.*?)-----END PGP PUBLIC KEY BLOCK-----", re.DOTALL)
_SCRIPTS = Path("/usr/share/debootstrap/scripts")
_LOG = "/debootstrap/debootstrap.log"
_AT_FAULT = re.compile(r"dpkg: error processing ")
_SHOWN = 5  # lines before that one, which are what the package's script said
_PACKAGE_FILES = "/var/cache/apt/archives"
# What tells of this one installation, and would differ in the next.
_LOGS = ("/var/log/bootstrap.log", "/var/log/dpkg.log", "/var/log/alternatives.log", "/var/cache/ldconfig/aux-cache")
_OUTPUT = installer.Output(
    told=re.compile(r"^I: (?!(?:Retrieving|Validating|Extracting|Unpacking|Configuring) )"),
    # Of no harm: in a user namespace some of /dev and /sys cannot be; the working directory is private, so that apt
    # downloads as root; and where to look is gone by then.
    warned=re.compile(
        r"^W: (?!Could not create /dev/|Failure trying to run: .* mount -t sysfs |Download is perf|See )"
    ),
    failed=(re.compile(r"^E: (?!Couldn't download packages|Failure)"),),
)


def check(stage: Stage, name: str) -> None:
    """`OSVersion` names the suite; without `MirrorURL`, the tool's own mirror serves."""
    require(stage, "OSVersion", name, "OSVersion: stable, or another suite of the mirror")
    installer.check_version(stage, name, _SUITE)
    mirror = stage.header.get("mirrorurl")
    if mirror and len(mirror.value.split()) > 1:
        raise DefinitionError(f'MirrorURL: "{mirror.value}" is none', name=name, line=mirror.line)
    installer.check_urls(stage, name, "MirrorURL")
    installer.check_packages(stage, name)


def bootstrap(stage: Stage, root: Path, workspace: Workspace) -> None:
    """Installs the suite and the packages that `Include` adds. Raises BuildError and ToolError."""
    installer.require_ids("debootstrap")
    if _is_replaced():
        logger.info("No debootstrap here: mmdebstrap does its work")
        import_module("singularity.build.agents.mmdebstrap").bootstrap(stage, root, workspace)
        return
    require_script(stage)
    place = _plain(root)
    argv = command(stage, place, workspace, keyring(stage, workspace))

    def show_root() -> None:
        if place != root:
            kernel.mount(str(root), str(place), None, kernel.MS_BIND)

    try:
        run(argv, environment(workspace), before=show_root)
    except BuildError as error:
        raise _explained(root) or error from error
    clean(root)


def _is_replaced() -> bool:
    """Whether mmdebstrap does the work, since it is installed and debootstrap is not."""
    there = {name: shutil.which(name, path=process.search_path()) for name in ("debootstrap", "mmdebstrap")}
    return bool(there["mmdebstrap"] and not there["debootstrap"])


def require_script(stage: Stage) -> None:
    """debootstrap has a script for each suite that was there in its time. Raises BuildError where it is older."""
    suite = stage.value("osversion")
    if not _is_replaced() and _SCRIPTS.is_dir() and not (_SCRIPTS / suite).exists():
        hint = "newer ones do; or say BootStrap: mmdebstrap, which takes any suite"
        raise BuildError(f'the debootstrap of this machine does not know the suite "{suite}"', hint=hint)


def _plain(root: Path) -> Path:
    """Where debootstrap is to find the root: its scripts take no path with blanks and the like.

    Another directory then, on which the root is mounted where only the tool sees it.
    """
    if _PLAIN.fullmatch(str(root)):
        return root
    found = next((place for place in _MOUNT_POINTS if place.is_dir()), None)
    if found is None:
        raise BuildError(f"debootstrap takes no such path: {root}", hint="name another place with --tmpdir")
    return found


def source_digest(stage: Stage) -> str | None:
    """Of a local mirror, the suite's index, which has the checksums of all the rest; what others have is not asked."""
    path = installer.local_path(stage.value("mirrorurl"))
    if path is None:
        return installer.digest(stage, [])
    suite = path / "dists" / stage.value("osversion")
    return installer.digest(stage, [suite / ("InRelease" if (suite / "InRelease").exists() else "Release")])


def command(stage: Stage, root: Path, workspace: Workspace, keys: Path | None) -> list[str]:
    """The words of the debootstrap command line; packages must be signed with one of `keys`, where there are any."""
    included = ",".join(["apt", *installer.packages(stage)])
    argv = ["debootstrap", "--variant=minbase", f"--exclude={_EXCLUDED}", f"--include={included}"]
    argv.append(f"--arch={workspace.architecture.debian}")
    if keys:
        argv += [f"--keyring={keys}", "--force-check-gpg"]
    kept = paths.cache_directory() / "debootstrap" if workspace.cache else None
    if kept and _PLAIN.fullmatch(str(kept)):
        argv.append(f"--cache-dir={paths.private(kept)}")
    argv += [stage.value("osversion"), str(root)]
    mirror = stage.value("mirrorurl")
    return [*argv, installer.as_url(mirror)] if mirror else argv


def environment(workspace: Workspace) -> Mapping[str, str]:
    """What tools of Debian get."""
    home = installer.make_home(workspace.directory)
    variables = {"DEBIAN_FRONTEND": "noninteractive", "HOME": "/root", "TMPDIR": str(home), **gate.environment()}
    if not kernel.is_initial_user_namespace():
        variables["container"] = "lxc"  # by which debootstrap knows that it must bind devices, not make them
    return variables


def run(
    argv: list[str],
    variables: Mapping[str, str],
    *,
    root: Path | None = None,
    before: Callable[[], None] | None = None,
) -> None:
    """Runs debootstrap or its like, after `before` in its namespaces. Raises BuildError and ToolError."""
    installer.run(argv, purpose=PURPOSE, environment=variables, root=root, before=before, output=_OUTPUT)


def _explained(path: Path) -> BuildError | None:
    """What debootstrap's log says, which is in the root file system and goes with it; None where it says no reason."""
    with Root(path) as root:
        if not root.is_file(_LOG):
            return None
        lines = root.read(_LOG).decode("utf-8", "replace").splitlines()
    found = next((index for index, line in enumerate(lines) if _AT_FAULT.match(line)), None)
    if found is None:
        return None
    for line in lines[max(0, found - _SHOWN) : found]:
        logger.info("debootstrap.log: %s", line)
    reason = " ".join(line.strip() for line in lines[found : found + 2])
    return BuildError(f"debootstrap could not {PURPOSE}: {reason}", hint="-v shows its output")


def keyring(stage: Stage, workspace: Workspace) -> Path | None:
    """A file with the keys that `GPG` names; None where the tool's own are to be used."""
    places = installer.keys(stage)
    if not places:
        return None
    file = installer.make_home(workspace.directory) / "keyring.gpg"
    file.write_bytes(b"".join(binary_key(fetch(place, limit=_KEY_LIMIT), place) for place in places))
    return file


def binary_key(data: bytes, place: str) -> bytes:
    """A key as gpgv reads it, also from one in ASCII armour (RFC 4880, section 6.2)."""
    blocks = _ARMOUR.findall(data)
    if not blocks:
        return data
    try:
        return b"".join(_block(block) for block in blocks)
    except (binascii.Error, ValueError) as error:
        raise BuildError(f"GPG: {place}: a damaged key") from error


def _block(block: bytes) -> bytes:
    """The bytes of one block: after the headers and an empty line, base64 to the checksum, which begins with `=`."""
    _, _, body = block.replace(b"\r", b"").partition(b"\n\n")
    lines = [line for line in body.split() if not line.startswith(b"=")]
    return base64.b64decode(b"".join(lines), validate=True)


def clean(path: Path) -> None:
    """Removes package files, logs and devices.

    Device nodes of an image never work, and would keep ordinary users from unpacking it.
    """
    with Root(path) as root:
        for name in root.names("/dev"):
            status = root.status(f"/dev/{name}", follow=False)
            if status is not None and not stat.S_ISDIR(status.st_mode):
                root.remove(f"/dev/{name}")
        for name in root.names(_PACKAGE_FILES):
            if name.endswith(".deb"):
                root.remove(f"{_PACKAGE_FILES}/{name}")
        for name in _LOGS:
            root.remove(name)
        installer.empty(root, "/var/log/apt")
