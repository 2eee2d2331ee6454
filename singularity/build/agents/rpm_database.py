"""The rpm database of a new image: where the image's own rpm looks for it, in the format that this rpm reads.

The host's rpm writes the database while packages are installed, and hosts differ: Debian's keeps it in the home
directory, Fedora's below /usr, others' below /var; in Berkeley DB, ndb or SQLite. So the host is told one place, which
the image knows by both names, and in the end the image's own rpm is asked where it belongs and writes it anew.
"""

import logging
import os
import stat
from contextlib import suppress
from pathlib import Path

from singularity import process
from singularity.build import container
from singularity.build.agents import installer
from singularity.build.workspace import script_environment
from singularity.console import VERBOSE
from singularity.errors import BuildError
from singularity.image.root import Root

logger = logging.getLogger(__name__)

TODAY, FORMERLY = "/usr/lib/sysimage/rpm", "/var/lib/rpm"  # Fedora since 36 and SUSE; everybody before them
_LINK = "../../usr/lib/sysimage/rpm"  # FORMERLY to TODAY, as Fedora has it
_RPM, _RPMDB = "/usr/bin/rpm", "/usr/bin/rpmdb"
_NOT_OURS = "/dev:/proc:/sys"  # what the build mounts; packages have nothing there but the directories
_RULES = ["--justdb", "--nodeps", "--noscripts", "--notriggers", "--nosignature", "--nodigest", "--force"]


def prepare(root: Root, home: Path) -> None:
    """Makes the place, known by both names; tells the host's rpm, of which the home directory will be `home`.

    A container that is bootstrapped again keeps its database where it is.
    """
    if root.status(FORMERLY, follow=False) is None:
        root.make_directory(TODAY)
        root.make_directory(str(Path(FORMERLY).parent))
        root.link(FORMERLY, _LINK)
    macros = f"%_dbpath {FORMERLY}\n%_netsharedpath {_NOT_OURS}\n"
    (home / ".rpmmacros").write_text(macros, encoding="ascii")


def settle(path: Path, packages: str) -> None:
    """Hands the database over to the image's own rpm, where it has one.

    `packages` is the directory of the image that holds the package files that came from elsewhere. An rpm too old to
    read what the host's has written is given those to note.
    """
    with Root(path) as root:
        place = root.real_path(FORMERLY) or TODAY
        for name in root.names(place):
            if name.startswith("__db."):  # Berkeley DB's shared memory, which is of this host
                root.remove(f"{place}/{name}")
        if not root.is_file(_RPM):
            logger.log(VERBOSE, "No rpm in the image: its database is as this host's rpm writes it, in %s", place)
            return
        wanted = next((line for line in _answer(path, _RPM, "--eval", "%_dbpath") if line.startswith("/")), place)
        _move(root, place, wanted)
        _write_anew(path, root, wanted, packages)


def _move(root: Root, place: str, wanted: str) -> None:
    """The database's directory goes where the image's rpm has it."""
    if root.real_path(wanted) == place:
        status = root.status(wanted, follow=False)
        if status is None or not stat.S_ISLNK(status.st_mode):
            return
    for name in {FORMERLY, wanted}:
        status = root.status(name, follow=False)
        if status is not None and stat.S_ISLNK(status.st_mode):
            root.remove(name)
    root.make_directory(str(Path(wanted).parent))
    with root.parent(place) as (source, old), root.parent(wanted) as (target, new):
        os.rename(old, new, src_dir_fd=source, dst_dir_fd=target)
    with suppress(OSError), root.parent(str(Path(place).parent)) as (fd, name):  # /usr/lib/sysimage, if that was all
        os.rmdir(name, dir_fd=fd)
    logger.log(VERBOSE, "The image's rpm has its database in %s", wanted)


def _write_anew(path: Path, root: Root, place: str, packages: str) -> None:
    """The image's rpm writes the database anew, or notes the packages in one of its own; else the host's stays."""
    with root.parent(place) as (fd, name):
        here = f"/proc/self/fd/{fd}/{name}"
        process.run(["cp", "--archive", "--", here, f"{here}.host"], purpose="keep the rpm database", keep=[fd])
    try:
        if _is_read(path):
            _answer(path, _RPMDB, "--rebuilddb")
        if not _is_read(path):
            _note_again(path, root, place, packages)
        installer.remove(root, f"{place}.host")
    except BuildError as error:
        installer.remove(root, place)
        with root.parent(place) as (fd, name):
            os.rename(f"{name}.host", name, src_dir_fd=fd, dst_dir_fd=fd)
        logger.warning("The image's own rpm cannot write its database, which stays as this host's did (%s)", error)


def _is_read(path: Path) -> bool:
    """Whether the image's rpm finds packages in the database."""
    try:
        return any(not line.startswith(("gpg-pubkey", "warning:")) for line in _answer(path, _RPM, "-qa"))
    except BuildError as error:
        logger.log(VERBOSE, "%s", error)
        return False


def _note_again(path: Path, root: Root, place: str, packages: str) -> None:
    """The image's rpm notes the packages that are installed, without unpacking any. Raises BuildError."""
    found = sorted(_package_files(root, packages))
    logger.log(VERBOSE, "The image's rpm does not read what this host's has written: %s packages to note", len(found))
    if not found:
        raise BuildError("no package files were kept")
    installer.empty(root, place)
    _answer(path, _RPMDB, "--initdb")
    _answer(path, _RPM, "-i", *_RULES, *found)
    if not _is_read(path):
        raise BuildError("it finds no package")


def _package_files(root: Root, directory: str) -> list[str]:
    found: list[str] = []
    for name in root.names(directory):
        place = f"{directory}/{name}"
        status = root.status(place, follow=False)
        if status is not None and stat.S_ISDIR(status.st_mode):
            found += _package_files(root, place)
        elif status is not None and name.endswith(".rpm"):
            found.append(place)
    return found


def _answer(path: Path, *words: str) -> list[str]:
    """The lines that a command of the image writes. Raises BuildError where it fails."""
    lines: list[str] = []
    status = container.run(path, words, environment=script_environment(), on_line=lines.append)
    if status:
        reason = lines[-1] if lines else f"exit status {status}"
        raise BuildError(f"{words[0]} {words[1]} in the image: {reason}")
    return lines
