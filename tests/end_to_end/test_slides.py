"""The command lines that the presentation of version 2 shows, typed as they stand there."""

import os
from pathlib import Path

import pytest
from images import Images
from launching import Launcher, Mode

pytestmark = [pytest.mark.needs("root"), pytest.mark.modes("suid", "userns"), pytest.mark.formats("2.x", "sif")]


@pytest.fixture
def slide(launch: Launcher, image: Path, directory: Path) -> Launcher:
    """Types `singularity` with the image at hand as Debian.img in the home directory, the mode chosen by variable."""
    (launch.home / "Debian.img").symlink_to(image)
    (launch.home / "git").mkdir()
    os.chown(launch.home / "git", launch.account.uid, launch.account.gid)
    del directory
    return launch.with_env(SINGULARITY_USERNS="1" if launch.mode is Mode.USERNS else None)


def shell(launch: Launcher, line: str, stdin: str = "") -> list[str]:
    return launch.command("sh", "-c", line, stdin=stdin.encode()).ok().lines


def test_exec_pwd(slide: Launcher) -> None:
    assert shell(slide, "singularity exec Debian.img pwd") == [str(slide.home_inside)]


def test_exec_whoami(slide: Launcher) -> None:
    assert shell(slide, "singularity exec Debian.img whoami") == [slide.account.name]


def test_debug_exec_true(slide: Launcher) -> None:
    result = slide.command("sh", "-c", "singularity --debug exec Debian.img true")
    assert (result.status, result.out) == (0, "")
    assert result.err.startswith(("DEBUG   [U=", "VERBOSE [U="))


def test_ps_in_a_process_namespace(slide: Launcher) -> None:
    """Busybox knows no `auxf`; the option is the point."""
    names = [line.split()[-1] for line in shell(slide, "singularity exec -p Debian.img ps -o pid,comm")[1:]]
    assert names[-1] == "ps"
    assert len(names) == 2


def test_files_of_a_contained_shell_are_not_persistent(slide: Launcher) -> None:
    shell(slide, "singularity shell --contain Debian.img", "touch ~/made\n")
    assert not (slide.home / "made").exists()


def test_a_contained_shell_with_another_home(slide: Launcher) -> None:
    shell(slide, "singularity shell --contain --home ~/git Debian.img", "touch ~/made\n")
    assert (slide.home / "git/made").exists()


def test_a_shell_with_a_bind(slide: Launcher, directory: Path) -> None:
    (directory / "seen").touch()
    assert directory.name in shell(slide, f"singularity shell --bind {directory.parent}:/opt Debian.img", "ls /opt\n")
    assert "tmp" not in shell(slide, "singularity shell --bind /tmp:/opt Debian.img", "ls -d /opt\n")


def test_how_the_environment_is_transposed(slide: Launcher) -> None:
    full = shell(slide, "OUTSIDE=1 singularity exec Debian.img env")
    assert "OUTSIDE=1" in full
    assert shell(slide, "singularity exec Debian.img env | wc -l") == [str(len(full) - 1)]
    variable = "SINGULARITY_USERNS=1" if slide.mode is Mode.USERNS else "UNUSED=1"
    path = slide.prefix / "bin/singularity"
    small = int(shell(slide, f"env -i {variable} {path} exec Debian.img env | wc -l")[0])
    assert small < len(full)
    assert "FOO=BAR" in shell(slide, f"env -i {variable} FOO=BAR {path} exec Debian.img env")


def test_ranks_of_a_parallel_program_each_launch(slide: Launcher, images: Images) -> None:
    """mpirun -np 4 singularity exec IMG PROGRAM: four commands at once, each with a pipe of its manager."""
    del images
    line = "for rank in 0 1 2 3; do RANK=$rank singularity exec Debian.img sh -c 'echo rank $RANK' & done; wait"
    assert sorted(shell(slide, line)) == [f"rank {rank}" for rank in range(4)]
