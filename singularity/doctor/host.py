"""What the host has: settings of the kernel, devices, ids of users, control groups, tools."""

import os
import pwd
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from singularity import process
from singularity.check.finding import Finding, Subject
from singularity.check.versions import version
from singularity.doctor.finding import good, install, lacking, root, wrong
from singularity.limits import groups
from singularity.namespaces import fakeroot

_OLDEST = "4.18"
_TOOLS = {  # program: what goes without it
    "mksquashfs": "build, and images of archives",
    "unsquashfs": "build from an image, in parts",
    "mke2fs": "create, overlay create, and ext3 images",
    "fuse2fs": "mount and copy of ext3 images by ordinary users",
    "debootstrap": "the bootstrap agent of that name",
    "newuidmap": "images with files of several owners, by ordinary users",
    "gpg": "signatures of OpenPGP",
    "openssl": "signatures with keys in PEM",
    "ssh-keygen": "signatures with keys of SSH",
    "zstd": "archives and layers compressed so",
}
_DEVICES = (  # path, module, what goes without it, for root alone
    (Path("/dev/fuse"), "fuse", "image files without the setuid program", False),
    (Path("/dev/loop-control"), "loop", "image files mounted by the kernel, by root and the setuid program", True),
)


def judge() -> Iterator[Finding]:
    """Everything."""
    yield from _kernel()
    yield from _devices()
    yield from _ids()
    yield from _limits()
    yield from _tools()


def _kernel() -> Iterator[Finding]:
    release = os.uname().release
    if version(release) >= version(_OLDEST):
        yield good(Subject.KERNEL, "kernel", release, f"{_OLDEST} or newer")
    else:
        yield wrong(Subject.KERNEL, "kernel", release, f"{_OLDEST} or newer", "install a newer kernel")
    for each in fakeroot.SETTINGS:
        name, value = each.name.replace("/", "."), fakeroot.setting(each.name)
        if value == each.forbids:
            mends = f"{root(f'sysctl -w {name}={each.allows}')}, and the same in /etc/sysctl.d for the next boot"
            yield lacking(Subject.KERNEL, name, value, each.allows, f"{each.way_out}: {mends}")
        elif value:
            yield good(Subject.KERNEL, name, value, f"not {each.forbids}")


def _devices() -> Iterator[Finding]:
    for path, module, without, of_root in _DEVICES:
        needed = f"for {without}"
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
        except FileNotFoundError:
            yield lacking(
                Subject.KERNEL,
                str(path),
                "not there",
                needed,
                f"{root(f'modprobe {module}')}; in a container, its runtime's option",
            )
        except PermissionError:
            if of_root:
                yield good(Subject.KERNEL, str(path), "there, for root", needed)
            else:
                yield lacking(Subject.KERNEL, str(path), "not for you", needed, root(f"chmod a+rw {path}"))
        except OSError as error:
            yield lacking(Subject.KERNEL, str(path), f"{error.strerror}", needed, root(f"modprobe {module}"))
        else:
            yield good(Subject.KERNEL, str(path), "there", needed)


def _ids() -> Iterator[Finding]:
    uid = os.getuid()
    if uid == 0:
        yield good(Subject.IDS, "subordinate ids", "root needs none")
        return
    try:
        user, given = pwd.getpwuid(uid).pw_name, fakeroot.given(uid)
    except KeyError:
        advice = "an administrator adds it to /etc/passwd, or to what the machine asks"
        yield lacking(Subject.IDS, "account", f"none for user {uid}", "a name", advice)
        return
    for place, found in given.items():
        if found is None:
            advice = f"sudo singularity config fakeroot --add {user}; without it owners are emulated"
            yield lacking(Subject.IDS, place, f"nothing for {user}", "a range of ids", advice)
        else:
            yield good(Subject.IDS, place, f"{found.count} ids from {found.start}", "a range of ids")


def _limits() -> Iterator[Finding]:
    what, way_out = groups.obstacle()
    if what:
        yield lacking(Subject.LIMITS, "control groups", what, "for --memory, --cpus and their like", way_out)
    else:
        yield good(Subject.LIMITS, "control groups", "version 2, delegated", "for --memory, --cpus and their like")


def _tools() -> Iterator[Finding]:
    for name, without in _TOOLS.items():
        found = shutil.which(name, path=process.search_path())
        if found is None:
            advice = install(process.PACKAGES.get(name, name))
            yield lacking(Subject.TOOLS, name, "not there", f"for {without}", advice)
        elif name == "newuidmap" and not _maps_ids(found):
            advice = root(f"chmod u+s {found} {Path(found).with_name('newgidmap')}")
            yield lacking(Subject.TOOLS, name, f"{found}, without root's rights", f"for {without}", advice)
        else:
            yield good(Subject.TOOLS, name, found, f"for {without}")


def _maps_ids(path: str) -> bool:
    """Whether the program is root's setuid program, or has capabilities of its own, and the mount lets it have them."""
    status = os.stat(path)
    try:
        has_capabilities = bool(os.getxattr(path, "security.capability"))
    except OSError:
        has_capabilities = False
    is_setuid = bool(status.st_mode & stat.S_ISUID) and status.st_uid == 0
    return (is_setuid or has_capabilities) and not os.statvfs(path).f_flag & os.ST_NOSUID
