"""What packages say of owners, in `%post`: by the real tools, and the same image for root and for users of both kinds.

The tools are this machine's own, shown in an image that has nothing but accounts; what they install is made here.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import zipfile
from typing import TYPE_CHECKING

import machine
import pytest
import repositories
from repositories import Package, lay

from singularity.image import contents
from singularity.image.identify import identify
from singularity.image.tree import Kind

if TYPE_CHECKING:
    from pathlib import Path

    from builds import Build
    from conftest import Alice

    from singularity.image.tree import Member

pytestmark = pytest.mark.needs("root", "userns", "newuidmap", "mksquashfs", "busybox")

KEEPER = "getent passwd keeper >/dev/null || useradd --system --shell /bin/sh keeper"
# rpm 4.18 opens the devices that it makes, so that for root those must exist.
ENTRIES = ("%dev(c,1,3) %attr(0660,keeper,disk) /opt/owners/null",)
MODES = {
    "/opt/owners/tool": "%attr(4750,root,shadow)",
    "/opt/owners/ping": "%attr(0755,root,root) %caps(cap_net_raw=p)",
    "/opt/owners/secret": "%attr(0600,keeper,shadow)",
    "/opt/owners/state": "%attr(2770,keeper,keeper)",
}
POSTINST = """
mknod -m 660 /opt/owners/null c 1 3; chown keeper:disk /opt/owners/null
chown keeper:shadow /opt/owners/secret; chown keeper:keeper /opt/owners/state; chmod 2770 /opt/owners/state
chmod 600 /opt/owners/secret; setcap cap_net_raw=p /opt/owners/ping
dpkg-statoverride --update --add root shadow 4750 /opt/owners/tool
"""
ACCOUNTS = {
    "/etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n_apt:x:42:65534::/:/bin/false\n",
    "/etc/group": "root:x:0:\ndisk:x:6:\nshadow:x:42:\nnogroup:x:65534:\n",
    "/etc/shadow": "root:*:19700::::::\n",
    "/etc/login.defs": "SYS_UID_MIN 100\nSYS_UID_MAX 999\nSYS_GID_MIN 100\nSYS_GID_MAX 999\nUSERGROUPS_ENAB yes\n",
    **{f"/{name}": f"->usr/{name}" for name in ("bin", "sbin", "lib", "lib64")},
}


@pytest.fixture(scope="session")
def packages(packages_place: Path) -> Path:
    """`rpms` and `debs`: a package with a user, setuid programs, capabilities and devices."""
    place = packages_place / "owners"
    for name in ("rpms", "debs/pool"):
        (place / name).mkdir(parents=True)
    files = {"/opt/owners/tool": "#!/bin/sh\n", "/opt/owners/ping": "#!/bin/sh\n", "/opt/owners/secret": "x\n"}
    tree = lay(place / "tree", files)
    (tree / "opt/owners/state").mkdir()
    if shutil.which("rpmbuild") and shutil.which("createrepo_c"):
        package = Package(name="owners", tree=tree, modes=MODES, entries=ENTRIES, before=KEEPER)
        shell = Package(name="shell", tree=lay(place / "shell", {"/opt/shell": "x\n"}), provides=("/bin/sh",))
        for each in (package, shell):
            repositories.rpm(each, place / "rpms")
        repositories.index_rpms(place / "rpms")
    if shutil.which("dpkg-scanpackages"):
        repositories.deb(Package(name="owners", tree=tree, script=KEEPER + POSTINST), place / "debs/pool", {})
        repositories.index_debs(place / "debs", "here")
    return place


APT = """
    mkdir -p /etc/apt /var/lib/dpkg/info /var/lib/dpkg/updates /var/lib/dpkg/triggers /var/cache/apt /var/log /tmp
    touch /var/lib/dpkg/status
    echo 'deb [trusted=yes] file:/mnt/debs here main' >/etc/apt/sources.list
    apt-get -q update
    apt-get -q -y install owners
    rm -rf /var/log/* /var/lib/apt /var/cache/apt
"""
RPM = """
    rpm --force-debian -i /mnt/rpms/shell-1.rpm /mnt/rpms/owners-1.rpm
    rpm -Va
    rm -rf /root/.rpmdb
"""
DNF = """
    mkdir -p /etc/dnf /tmp
    echo '[main]' >/etc/dnf/dnf.conf
    dnf -q -y --disablerepo='*' --repofrompath=here,file:///mnt/rpms --nogpgcheck --releasever=1 install owners
    rpm -Va
    rm -rf /var/log/* /var/cache/dnf /var/lib/dnf /var/lib/rpm /root/.rpmdb
"""
ZYPPER = """
    mkdir -p /tmp
    zypper --non-interactive --no-gpg-checks addrepo file:///mnt/rpms here
    zypper --non-interactive --no-gpg-checks install owners
    rpm -Va
    rm -rf /var/log/* /var/cache/zypp /var/lib/zypp /var/lib/rpm /root/.rpmdb
"""
OTHERS = r"""
    mkdir -p /home /opt /tmp /var/mail; chgrp shadow /etc/shadow; chmod 640 /etc/shadow
    useradd --system --home-dir /srv --shell /bin/sh daemon1
    useradd --create-home --user-group tom
    groupadd lab; usermod --append --groups lab tom; gpasswd --add daemon1 lab
    test "$(stat -c %U:%G:%a /home/tom)" = tom:tom:755; test "$(stat -c %g /etc/shadow)" = 42
    install -o tom -g lab -m 2755 /bin/true /opt/true; install -d -o daemon1 -g lab -m 3770 /opt/shared
    mknod -m 640 /opt/tty c 5 0; chown tom:lab /opt/tty; ln /opt/tty /opt/again; mkfifo /opt/pipe
    echo high >/opt/high; chown 197609:197121 /opt/high
    python3 -c 'import os; os.setxattr("/opt/high", "user.lab", b"here")'
    python3 -c 'import os; os.setxattr("/opt/true", "user.singularity.owner", b"9 9")'
    test "$(stat -c %U:%G /opt/true)" = tom:lab
    test "$(python3 -c 'import os; print(os.listxattr("/opt/high"))')" = "['user.lab']"
    setpriv --reuid tom --regid tom --init-groups sh -ec 'echo own >/home/tom/own; test "$(id -Gn)" = "tom lab"'
    chroot --userspec tom:tom --groups lab / sh -c 'test "$(id -un):$(id -Gn)" = "tom:tom lab"'
    cp --preserve=xattr,mode /opt/high /opt/copied; test "$(stat -c %u:%g /opt/copied)" = 0:0
    mkdir /out; tar -C / --xattrs --xattrs-include='*' -cf /x.tar opt
    tar -C /out --xattrs --xattrs-include='*' -xpf /x.tar
    tar -d -f /x.tar; tar -C /out -d -f /x.tar; rm /x.tar
    cp -a /opt /copy; mv /copy/tty /copy/moved; rsync -aHAX /opt/ /synced/ 2>/dev/null || cp -a /opt /synced
    test -c /copy/moved; test "$(stat -c %t:%T:%U:%a:%h /synced/tty)" = 5:0:tom:640:2
    rm -f /etc/passwd- /etc/group- /etc/shadow- /etc/gshadow- /etc/subuid- /etc/subgid-
"""
PIP = r"""
    mkdir -p /tmp
    /usr/bin/python3 -I -m pip install --no-index --no-deps --no-compile --root-user-action ignore --target /opt/site \
        /mnt/owned-1-py3-none-any.whl
    /usr/bin/python3 -IB -c 'import sys; sys.path.append("/opt/site"); import owned'
"""


WHEEL = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


BEGIN = """
    set -ex; PATH=$PATH:/usr/sbin:/sbin
    echo ids: $(wc -l </proc/self/uid_map)$(grep -c 4294967295 /proc/self/uid_map)
"""
IDS = {"root": "11", "range": "20", "one id": "10"}


def ways(build: Build, alice: Alice) -> dict[str, Build]:
    return {"root": build, "range": alice, "one id": dataclasses.replace(alice, listed=False)}


def built(name: str, builder: Build, packages: Path, script: str) -> Path:
    """A tar file of what the script makes of a directory with accounts."""
    shutil.rmtree(builder.directory / "base", ignore_errors=True)
    base = lay(builder.directory / "base", ACCOUNTS)
    for empty in ("usr", "mnt", "root", "var", "srv"):
        (base / empty).mkdir()
    owner = builder.directory.stat().st_uid
    for path in (base, *base.rglob("*")):
        os.chown(path, owner, owner, follow_symlinks=False)
        os.utime(path, (0, 0), follow_symlinks=False)
    builder.write(
        "x.def",
        f"Bootstrap: localimage\nFrom: base\n%post\n{BEGIN}{script}",
    )
    binds = ("--bind", "/usr:/usr:ro", "--bind", f"{packages}:/mnt:ro")
    done = builder.ok("build", "--force", "--reproducible", *binds, "x.tar", "x.def")
    assert "WARNING" not in done.stderr
    assert f"ids: {IDS[name]}\n" in done.stdout
    return (builder.directory / "x.tar").rename(builder.directory / f"{name}.tar")


def members(image: Path) -> dict[str, Member]:
    with contents.tree(identify(image)) as tree:
        return {entry.member.path.decode(): entry.member for entry in tree}


def same_in_each_way(build: Build, alice: Alice, packages: Path, script: str) -> dict[str, Member]:
    images = {name: built(name, builder, packages, script) for name, builder in ways(build, alice).items()}
    found = {name: members(image) for name, image in images.items()}
    for name in ("range", "one id"):
        assert found[name] == found["root"], name
        assert images[name].read_bytes() == images["root"].read_bytes()
    return found["root"]


@pytest.mark.parametrize(
    ("script", "tools"),
    [
        pytest.param(APT, ("dpkg-scanpackages",), id="apt"),
        pytest.param(RPM, ("rpmbuild", "createrepo"), id="rpm"),
        pytest.param(DNF, ("dnf", "rpmbuild", "createrepo"), id="dnf"),
        pytest.param(ZYPPER, ("zypper", "rpmbuild", "createrepo"), id="zypper"),
    ],
)
def test_a_package_with_owners_capabilities_and_devices(
    build: Build, alice: Alice, packages: Path, script: str, tools: tuple[str, ...]
) -> None:
    machine.require(*tools)
    found = same_in_each_way(build, alice, packages, script)
    place = "opt/owners"
    keeper = found[f"{place}/secret"].uid
    assert 100 <= keeper < 1000
    assert (found[f"{place}/state"].gid, found[f"{place}/state"].mode) == (found[f"{place}/state"].uid, 0o2770)
    assert (found[f"{place}/tool"].gid, found[f"{place}/tool"].mode) == (42, 0o4750)
    assert b"security.capability" in found[f"{place}/ping"].xattrs
    null = found[f"{place}/null"]
    assert (null.kind, null.device, null.uid, null.gid) == (Kind.CHARACTER_DEVICE, os.makedev(1, 3), keeper, 6)


def test_accounts_archives_and_copies(build: Build, alice: Alice, packages: Path) -> None:
    found = same_in_each_way(build, alice, packages, OTHERS)
    for place in ("opt", "out/opt", "copy", "synced"):
        assert found[f"{place}/true"].mode == 0o2755
        assert (found[f"{place}/high"].uid, found[f"{place}/high"].xattrs) == (197609, {b"user.lab": b"here"})


def test_packages_of_python(build: Build, alice: Alice, packages: Path) -> None:
    pytest.importorskip("pip")
    with zipfile.ZipFile(packages / "owned-1-py3-none-any.whl", "w") as wheel:
        about = {"METADATA": "Metadata-Version: 2.1\nName: owned\nVersion: 1\n", "WHEEL": WHEEL, "RECORD": ""}
        for name, text in {
            "owned.py": "",
            **{f"owned-1.dist-info/{each}": text for each, text in about.items()},
        }.items():
            wheel.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), text)
    found = same_in_each_way(build, alice, packages, PIP)
    assert found["opt/site/owned.py"].uid == 0
