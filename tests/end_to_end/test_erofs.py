"""EROFS, alone and in SIF files: shown by the kernel where the administrator lets it, else by erofsfuse; converted."""

import json
from pathlib import Path

import pytest
from images import Images, erofs
from launching import Launcher, Mode

pytestmark = pytest.mark.needs("root", "mkfs.erofs")
FORMS = ("erofs", "sif-erofs")
ROOT = (
    "grep -E '^[0-9]+ [0-9]+ [0-9:]+ [^ ]+ / ' /proc/self/mountinfo | sed 's/.* - //' | cut -d' ' -f 1; "
    "cat /etc/image-name"
)
ALLOWED = "allow setuid-mount erofs = yes\n"
HIDDEN = ("/usr/bin", "/usr/local/bin")


def without_erofsfuse(launch: Launcher, directory: Path) -> Launcher:
    nothing = directory / "nothing"
    nothing.write_text("")
    nothing.chmod(0o644)
    for place in HIDDEN:
        if Path(place, "erofsfuse").exists():
            launch = launch.showing(Path(place, "erofsfuse"), nothing)
    return launch


@pytest.mark.needs("erofs", "loop")
@pytest.mark.modes("suid", "root")
@pytest.mark.parametrize("kind", FORMS)
def test_the_kernel_mounts_it_where_it_may(launch: Launcher, images: Images, kind: str) -> None:
    """R-I4."""
    allowed = launch.configured(ALLOWED) if launch.mode is Mode.SUID else launch
    result = allowed("exec", "--no-mount", "cwd", images.of_format(kind), "sh", "-c", ROOT).ok()
    assert result.lines == ["erofs", "busybox of the tests"]
    script = "cat /etc/image-name; probe open /etc/image-name w"
    result = allowed("exec", images.of_format(kind), "sh", "-c", script).ok()
    assert result.lines[0] == "busybox of the tests"
    assert result.lines[1] in {"EROFS", "EACCES"}


@pytest.mark.modes("suid")
@pytest.mark.needs("fuse", "userns")
@pytest.mark.parametrize("kind", FORMS)
def test_the_kernel_does_not_mount_it_by_default(launch: Launcher, images: Images, kind: str) -> None:
    """R-I4: the other way is taken, with its reason at -v, where there is an erofsfuse."""
    result = launch("exec", images.of_format(kind), "cat", "/etc/image-name", first=["-v"])
    assert "allow setuid-mount erofs" in result.err
    assert result.status == 0 or "erofsfuse not found" in result.err, str(result)


@pytest.mark.skipif(not any(Path(place, "erofsfuse").exists() for place in HIDDEN), reason="Debian 12 has no erofsfuse")
@pytest.mark.needs("fuse", "userns")
@pytest.mark.modes("userns", "suid")
@pytest.mark.parametrize("kind", FORMS)
def test_erofsfuse_mounts_it_for_users(launch: Launcher, images: Images, kind: str) -> None:
    script = "cat /etc/image-name; test ! -w /etc; probe root"
    result = launch("exec", images.of_format(kind), "sh", "-c", script).ok()
    assert result.lines == ["busybox of the tests", "closed"]


@pytest.mark.needs("fuse", "userns")
@pytest.mark.modes("userns")
@pytest.mark.parametrize("kind", FORMS)
def test_without_erofsfuse_one_line_names_its_package(
    launch: Launcher, images: Images, directory: Path, kind: str
) -> None:
    world = without_erofsfuse(launch, directory)
    words = "(install erofsfuse, or make it a squashfs: singularity build)"
    world("exec", images.of_format(kind), "true").refused("erofsfuse not found", words)


@pytest.mark.needs("erofs", "loop", "overlay")
@pytest.mark.modes("suid", "root")
def test_it_is_an_overlay_that_is_read(launch: Launcher, images: Images, directory: Path) -> None:
    tree = directory / "tree"
    (tree / "upper/etc").mkdir(parents=True)
    (tree / "work").mkdir()
    (tree / "upper/etc/overlaid").write_text("from an overlay\n")
    overlay = erofs(tree, directory / "overlay.erofs")
    allowed = launch.configured(ALLOWED) if launch.mode is Mode.SUID else launch
    result = allowed("exec", "--overlay", f"{overlay}:ro", images.of_format("sif-erofs"), "cat", "/etc/overlaid").ok()
    assert result.out == "from an overlay\n"


@pytest.mark.modes("root")
def test_it_cannot_be_written(launch: Launcher, images: Images) -> None:
    launch("exec", "--writable", images.of_format("erofs"), "true").refused("an EROFS image cannot be written")


@pytest.mark.needs("erofs", "loop", "busybox", "mksquashfs")
@pytest.mark.modes("root")
def test_what_is_built_is_launched_looked_at_and_converted(launch: Launcher, images: Images, directory: Path) -> None:
    sif, bare = directory / "x.sif", directory / "x.erofs"
    for words in (["--erofs", sif], [bare]):
        assert launch("build", *words, images.sandbox).status == 0
    assert "FS (Raw/*System/" in launch("sif", "list", sif).out
    for image in (sif, bare):
        assert launch("exec", image, "cat", "/etc/image-name").ok().out == "busybox of the tests\n"
        about = json.loads(launch("inspect", "--json", image).out)
        assert about["data"]["attributes"]["labels"]
        back = directory / f"of-{image.name}.sqfs"
        assert launch("build", back, image).status == 0
        assert launch("exec", back, "cat", "/etc/image-name").ok().out == "busybox of the tests\n"
    assert launch("build", "--sandbox", directory / "tree", sif).status == 0
    assert (directory / "tree/etc/image-name").read_text() == "busybox of the tests\n"
