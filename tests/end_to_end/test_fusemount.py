"""File systems that the user's own FUSE programs serve: of the host and of the container, with his rights alone."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from images import Images, squashfs
from launching import Launcher, Mode

pytestmark = pytest.mark.needs("fuse", "userns", "mksquashfs", "squashfuse")
TYPES = ("host", "container", "host-daemon", "container-daemon")


@pytest.fixture
def packed(directory: Path) -> Path:
    tree = directory / "tree"
    (tree / "below").mkdir(parents=True)
    (tree / "below/file").write_text("served\n")
    return squashfs(tree, directory / "data.sqsh")


@pytest.fixture
def own_sandbox(images: Images, directory: Path, packed: Path) -> Path:
    """With squashfuse, its libraries, and something for it to serve."""
    place = images.modern_tree(directory / "sandbox")
    program = shutil.which("squashfuse")
    assert program is not None
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    for source in (program, *re.findall(r"(/\S+) \(0x", listed)):
        target = place / source.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(Path(source).resolve(), target)
    shutil.copy(packed, place / "data.sqsh")
    return place


def spec(kind: str, packed: Path, place: str = "/data") -> str:
    return f"{kind}:squashfuse '{packed if kind.startswith('host') else '/data.sqsh'}' {place}"


@pytest.mark.parametrize("kind", TYPES)
def test_a_program_serves_a_file_system(launch: Launcher, own_sandbox: Path, packed: Path, kind: str) -> None:
    """From before the start of the program on; the mount point need not be in the image."""
    words = ["--fusemount", spec(kind, packed, "/new/place"), own_sandbox]
    script = (
        "cat /new/place/below/file; grep -c ' /new/place fuse .*nosuid,nodev' /proc/mounts; ls /proc | grep -c '^1$'"
    )
    assert launch("exec", *words, "sh", "-c", script).ok().lines == ["served", "1", "1"]
    assert launch("exec", "--cwd", "/new/place/below", *words, "cat", "file").ok().out == "served\n"


@pytest.mark.parametrize("kind", TYPES)
def test_a_recorded_launch_has_them_too(launch: Launcher, own_sandbox: Path, packed: Path, kind: str) -> None:
    """The recorder looks at what they serve, and so does not wait for itself."""
    words = ["--record", "run.json", "--fusemount", spec(kind, packed), own_sandbox, "cat", "/data/below/file"]
    assert launch("exec", *words).ok().lines == ["served"]


def test_several_are_mounted_and_one_may_be_bound_over(launch: Launcher, own_sandbox: Path, packed: Path) -> None:
    env = {"SINGULARITY_FUSESPEC": spec("host", packed, "/one")}
    words = ["--fusemount", spec("container", packed, "/two"), own_sandbox, "cat", "/one/below/file", "/two/below/file"]
    assert launch("exec", *words, env=env).ok().lines == ["served", "served"]


@pytest.mark.parametrize("kind", ["host", "container"])
def test_a_program_that_fails_ends_the_launch(launch: Launcher, own_sandbox: Path, kind: str) -> None:
    for command in ("false", "/missing", "squashfuse /missing"):
        result = launch("exec", "--fusemount", f"{kind}:{command} /data", own_sandbox, "true", timeout=15)
        result.refused("--fusemount", "/data", "ended before")


@pytest.mark.modes("suid", "userns")
@pytest.mark.parametrize("kind", ["host", "container"])
def test_a_program_has_the_rights_of_the_user_alone(
    launch: Launcher, own_sandbox: Path, directory: Path, kind: str
) -> None:
    """And nothing open but its device, nor a way to more rights."""
    place = directory / "seen"
    place.mkdir()
    place.chmod(0o777)
    script = f"grep -E 'CapEff|CapBnd|NoNewPrivs' /proc/self/status; id -u; readlink /proc/$$/fd/* >{place}/open"
    words = ["-B", place, "--fusemount", f'{kind}:sh -c "({script}) >{place}/rights 2>&1" /data', own_sandbox]
    launch("exec", *words, "true").refused("ended before")
    rights = (place / "rights").read_text().splitlines()
    assert rights[0].split() == ["CapEff:", "0" * 16]
    assert rights[2:4] == ["NoNewPrivs:\t1", str(launch.account.uid)]
    assert set((place / "open").read_text().split()) <= {"/dev/null", "/dev/fuse", f"{place}/open", f"{place}/rights"}


def test_an_instance_has_one_as_long_as_it_stays(launch: Launcher, own_sandbox: Path, packed: Path) -> None:
    singularity = launch.prefix / "bin/singularity"
    option = ["-u"] if launch.mode is Mode.USERNS else []
    words = ["instance", "start", *option, "--fusemount", spec("container", packed), own_sandbox, "served"]
    assert launch.command(singularity, *words).status == 0
    try:
        for _ in range(2):
            result = launch.command(singularity, "exec", "instance://served", "cat", "/data/below/file")
            assert result.out == "served\n", str(result)
    finally:
        launch.command(singularity, "instance", "stop", "served")


def test_what_cannot_be_meant_is_wrong_usage(launch: Launcher, own_sandbox: Path) -> None:
    for text in ("container:program", "program /data", "guest:program /data", "host:'program /data", "host: /data"):
        launch("exec", "--fusemount", text, own_sandbox, "true").misused("--fusemount", "host-daemon")
    launch("exec", "--fusemount", "host:program data", own_sandbox, "true").misused("must begin with")


@pytest.mark.modes("suid", "userns")
def test_the_site_can_forbid_it(launch: Launcher, own_sandbox: Path, packed: Path) -> None:
    configured = launch.configured("enable fusemount = no\n")
    configured("exec", "--fusemount", spec("host", packed), own_sandbox, "true").refused("enable fusemount = no")


def test_a_dry_run_starts_nothing(launch: Launcher, own_sandbox: Path, directory: Path) -> None:
    made = directory / "made"
    result = launch("exec", "--dry-run", "--fusemount", f"host:touch {made} /data", own_sandbox, "true").ok()
    assert "by a program of the host" in result.out
    assert not made.exists()
    assert os.listdir(own_sandbox / "data" if (own_sandbox / "data").exists() else directory / "tree") != ["made"]
