"""Images for another architecture, built and started here: QEMU's user mode runs their programs, by binfmt_misc.

It is registered in a user namespace of the test's own (Linux 6.7), so that nothing of the machine's changes. The
programs are Debian's busybox for arm64.
"""

from __future__ import annotations

import inspect
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import machine
import ordinary_user
import pytest
from ordinary_user import ALICE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from builds import Build
    from servers import Registry

    Emulated: TypeAlias = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = [
    pytest.mark.needs("root", "installation", "mksquashfs", "network", "qemu-user"),
    pytest.mark.skipif(platform.machine() == "aarch64", reason="arm64 is this machine's own"),
]
REGISTERED = """
mount -t binfmt_misc none /proc/sys/fs/binfmt_misc || exit
cat /usr/lib/binfmt.d/qemu-aarch64.conf >/proc/sys/fs/binfmt_misc/register || exit
exec "$@"
"""


@pytest.fixture(scope="session")
def arm64_busybox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, out of the distribution's package."""
    place = tmp_path_factory.mktemp("arm64")
    for name in ("lists/partial", "archives/partial"):
        (place / name).mkdir(parents=True)
    here = ("APT::Architecture=arm64", "APT::Architectures=arm64", f"Dir::State::Lists={place}/lists")
    here += (
        f"Dir::Cache={place}",
        "APT::Sandbox::User=root",
        "Acquire::Check-Valid-Until=false",
        "Acquire::Languages=none",
    )
    apt = ["apt-get", "-qq", *(word for each in here for word in ("-o", each))]
    subprocess.run([*apt, "update"], check=True, capture_output=True)
    subprocess.run([*apt, "download", "busybox-static:arm64"], check=True, capture_output=True, cwd=place)
    package = next(place.glob("busybox-static_*_arm64.deb"))
    subprocess.run(["dpkg-deb", "--extract", package, place / "tree"], check=True, capture_output=True)
    found = next(path for path in (place / "tree").rglob("busybox") if path.is_file() and path.parent.name == "bin")
    place.chmod(0o755)
    return found


@pytest.fixture
def foreign(base: Path, arm64_busybox: Path) -> Path:
    """The tests' root file system with programs for arm64."""
    shutil.copy2(arm64_busybox, base / "bin/busybox")
    (base / "bin/uname").symlink_to("busybox")
    return base


@pytest.fixture(params=["root", "user"])
def emulated(request: pytest.FixtureRequest, build: Build) -> Iterator[Emulated]:
    """`singularity WORDS...` where arm64's programs are run, as root or as an ordinary user."""
    prefix = machine.prefix()
    assert prefix is not None
    become, ids = [], "0 0 65536"
    if request.param == "user":
        become, ids = [sys.executable, inspect.getfile(ordinary_user), "--"], f"0 {ALICE.uid} 1"

    def run(*words: str | Path, registered: bool = True) -> subprocess.CompletedProcess[str]:
        give(build.directory, ALICE.uid if become else 0)
        script = ["sh", "-c", REGISTERED if registered else 'exec "$@"', "sh", str(prefix / "bin/singularity")]
        # What is executed before there are ids has no capabilities; what is executed after that has them all.
        waiting = [*become, "unshare", "--user", "--mount", "sh", "-c", 'read go && exec "$@"', "sh", *script]
        started = subprocess.Popen(
            [*waiting, *map(str, words)],
            cwd=build.directory,
            env={
                "TMPDIR": str(build.temporary),
                "HOME": str(build.directory),
                "SINGULARITY_CACHEDIR": str(build.directory / "kept"),
                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        ours = Path("/proc/self/ns/user").readlink()
        while Path(f"/proc/{started.pid}/ns/user").readlink() == ours:
            time.sleep(0.001)
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{started.pid}/{name}").write_text(ids)
        output, errors = started.communicate("go\n", timeout=300)
        return subprocess.CompletedProcess(words, started.returncode, output, errors)

    yield run
    give(build.directory, 0)


def give(place: Path, user: int) -> None:
    for path in (place, *place.rglob("*")):
        os.chown(path, user, user, follow_symlinks=False)
    for path in place.parents:
        if path.owner() == "root" and path.stat().st_mode & 0o001 == 0:
            path.chmod(path.stat().st_mode | 0o011)


def architecture_of(inspected: str) -> str:
    labels = json.loads(inspected)["data"]["attributes"]["labels"]
    return str(labels["org.label-schema.build-arch"])


def test_a_definition_is_built_for_it_and_the_image_runs(emulated: Emulated, build: Build, foreign: Path) -> None:
    del foreign
    build.write(
        "x.def",
        "Bootstrap: localimage\nFrom: base\n%post\n    uname -m >/machine\n    touch /made; chown 7:7 /made || exit 9\n"
        "%runscript\n    cat /machine\n    uname -m\n%test\n    test -s /machine\n",
    )
    done = emulated("build", "--arch", "arm64", "x.sif", "x.def")
    assert done.returncode == 0, done.stderr
    assert "arm64" in emulated("sif", "list", "x.sif").stdout
    assert architecture_of(emulated("inspect", "--json", "x.sif").stdout) == "arm64"
    assert emulated("run", "x.sif").stdout.split() == ["aarch64", "aarch64"]


def test_where_nothing_runs_its_programs_it_is_said_before_anything_is_done(
    emulated: Emulated, build: Build, foreign: Path
) -> None:
    del foreign
    build.write("x.def", "Bootstrap: localimage\nFrom: base\n%runscript\n    uname -m\n")
    if Path("/proc/sys/fs/binfmt_misc/qemu-aarch64").exists():
        pytest.skip("this machine runs programs of arm64")
    assert emulated("build", "--arch", "arm64", "x.sif", "x.def").returncode == 0
    done = emulated("run", "x.sif", registered=False)
    assert done.returncode == 255
    assert "arm64" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    done = emulated("build", "--arch", "arm64", "y.sif", "x.def", registered=False)
    assert done.returncode == 255
    assert "--arch arm64: this machine runs programs for amd64 only" in done.stderr
    assert not (build.directory / "y.sif").exists()


def test_a_dockerfile_is_built_for_it(emulated: Emulated, build: Build, foreign: Path) -> None:
    del foreign
    build.write(
        "ctx/Dockerfile",
        "FROM localimage:./base\nARG TARGETARCH\nARG TARGETPLATFORM\nARG BUILDARCH\n"
        "RUN uname -m >/machine && echo $TARGETARCH $TARGETPLATFORM $BUILDARCH >>/machine\n"
        'ENTRYPOINT ["/bin/cat", "/machine"]\n',
    )
    done = emulated("build", "--arch", "arm64", "x.sif", "ctx/Dockerfile")
    assert done.returncode == 0, done.stderr
    assert emulated("run", "x.sif").stdout.split() == ["aarch64", "arm64", "linux/arm64", "amd64"]


def test_both_are_under_one_tag_and_each_runs(
    emulated: Emulated, build: Build, foreign: Path, plain_registry: Registry
) -> None:
    """Images for two machines are pushed under one tag, and an image is built on top of the other machine's."""
    native = build.directory / "native"
    shutil.copytree(foreign, native, symlinks=True)
    shutil.copy2("/bin/busybox", native / "bin/busybox")
    uri = f"docker://{plain_registry.host}/lab/tool:1"
    for image, arch, source in (("own.sif", "amd64", "native"), ("arm.sif", "arm64", "base")):
        build.write(f"{source}.def", f"Bootstrap: localimage\nFrom: {source}\n")
        assert emulated("build", "--arch", arch, image, f"{source}.def").returncode == 0
        done = emulated("push", "--no-https", "--add", image, uri)
        assert done.returncode == 0, done.stderr
    build.write("on.def", f"Bootstrap: docker\nFrom: {uri.removeprefix('docker://')}\n%post\n    uname -m >/machine\n")
    for arch, expected in (("amd64", platform.machine()), ("arm64", "aarch64")):
        done = emulated("build", "--no-https", "--arch", arch, f"{arch}.sif", "on.def")
        assert done.returncode == 0, done.stderr
        assert emulated("exec", f"{arch}.sif", "cat", "/machine").stdout.strip() == expected
        assert emulated("exec", f"{arch}.sif", "uname", "-m").stdout.strip() == expected
