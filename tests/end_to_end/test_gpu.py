"""--nv and --rocm with driver trees that have no driver: what goes into which image, and what cannot break it."""

import json
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from driver_trees import Foundry, Library, device_directory, libraries_of, write_cache
from images import Images
from launching import Launcher

pytestmark = [pytest.mark.needs("root", "gcc")]

NUMBER = "535.104.05"
FUTURE_C, FUTURE_CXX = "GLIBC_9.38", "GLIBCXX_9.4.30"
DRIVER = (
    Library(soname="libcuda.so.1", file=f"libcuda.so.{NUMBER}", number=535),
    Library(soname="libnvidia-ml.so.1", file=f"libnvidia-ml.so.{NUMBER}", needs={"libc.so.6": FUTURE_C}),
    Library(soname="libnvidia-nvvm.so.4", file=f"libnvidia-nvvm.so.{NUMBER}", needs={"libstdc++.so.6": FUTURE_CXX}),
    Library(soname="libOpenCL.so.1", file="libOpenCL.so.1.2.0", number=12),
)
DEVICES = {"nvidia0": (195, 0), "nvidiactl": (195, 255), "nvidia-uvm": (510, 0), "nvidia-caps/nvidia-cap1": (236, 1)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A machine with a driver, as a directory and the launcher that finds it."""

    place: Path
    launch: Launcher

    def with_table(self, name: str, text: str) -> "Host":
        path = self.place / f"table-{len(list(self.place.iterdir()))}"
        path.write_text(text)
        return Host(place=self.place, launch=self.launch.showing(self.launch.config_path.parent / name, path))


@pytest.fixture(scope="session")
def foundry(storage: Path) -> Foundry:
    place = storage / "foundry"
    place.mkdir()
    return Foundry(place)


@pytest.fixture
def host(launch: Launcher, directory: Path, foundry: Foundry) -> Host:
    place = directory / "host"
    for library in DRIVER:
        foundry.make(library, place / "lib")
    (place / "bin").mkdir()
    (place / "bin/nvidia-smi").write_text("#!/bin/sh\necho driver of the host\n")
    (place / "bin/nvidia-smi").chmod(0o755)
    cache = write_cache(place / "ld.so.cache", libraries_of(place / "lib"))
    path = f"{place / 'bin'}:{launch.world.environment()['PATH']}"
    return Host(place=place, launch=launch.showing(Path("/etc/ld.so.cache"), cache).with_env(PATH=path))


@pytest.fixture
def image(images: Images, directory: Path, foundry: Foundry) -> Path:
    """One with the machine's C library, a program that opens libraries, and a libstdc++ that is old."""
    tree = images.modern_tree(directory / "image")
    foundry.probe(tree)
    foundry.make(Library(soname="libstdc++.so.6", defines=("GLIBCXX_3.4", "GLIBCXX_3.4.21")), tree / "usr/lib")
    return tree


@pytest.fixture
def old_image(images: Images, directory: Path, foundry: Foundry) -> Path:
    """One with the C library of long ago, to be looked at only."""
    tree = images.modern_tree(directory / "old-image")
    foundry.make(Library(soname="libc.so.6", defines=("GLIBC_2.2.5", "GLIBC_2.4", "GLIBC_2.17")), tree / "lib64")
    return tree


def plan(launch: Launcher, *words: str | Path) -> dict[str, tuple[str, str]]:
    """What a dry run says of each target of the plan: where from, and why or why not."""
    steps = json.loads(launch("exec", "--dry-run=json", *words, "true").out)["steps"]
    return {step["target"]: (step["source"], step["skipped"] or step["reason"]) for step in steps}


def inside(name: str) -> str:
    return f"/.singularity.d/libs/{name}"


def test_programs_find_the_driver_of_the_host(host: Host, image: Path) -> None:
    result = host.launch("exec", "--nv", image, "sh", "-c", "dlprobe libcuda.so.1 libOpenCL.so.1; nvidia-smi")
    assert result.lines == ["libcuda.so.1 535", "libOpenCL.so.1 12", "driver of the host"]


def test_a_library_that_cannot_load_is_left_out_in_one_line(host: Host, image: Path) -> None:
    """The peers put it before the image's own, and every program that uses it breaks."""
    result = host.launch("exec", "--nv", image, "ls", "/.singularity.d/libs")
    result.warned("--nv: libnvidia-", "and 1 more cannot be used in this image and stay out: it needs", "at most GLIBC")
    assert result.lines == ["libOpenCL.so.1", "libcuda.so.1"]


@pytest.mark.modes("userns")
def test_the_plan_says_which_versions_are_missing(host: Host, image: Path) -> None:
    steps = plan(host.launch, "--nv", image)
    assert steps[inside("libcuda.so.1")] == (str(host.place / "lib/libcuda.so.1"), "--nv: the image has none")
    assert (
        f"cannot be used here: needs {FUTURE_C} of libc.so.6, and the image's has at most GLIBC_2."
        in steps[inside("libnvidia-ml.so.1")][1]
    )
    expected = f"cannot be used here: needs {FUTURE_CXX} of libstdc++.so.6, and the image's has at most GLIBCXX_3.4.21"
    assert steps[inside("libnvidia-nvvm.so.4")][1] == expected


@pytest.mark.modes("userns")
def test_each_library_is_judged_by_what_the_image_has(host: Host, old_image: Path, foundry: Foundry) -> None:
    foundry.make(Library(soname="libcuda.so.1", file="libcuda.so.550.1"), old_image / "usr/lib")
    foundry.make(Library(soname="libOpenCL.so.1", file="libOpenCL.so.1.10.0"), old_image / "usr/lib")
    steps = plan(host.launch, "--nv", old_image)
    assert "driver's, the image has libcuda.so.550.1" in steps[inside("libcuda.so.1")][1]
    assert steps[inside("libOpenCL.so.1")][1] == "the image's libOpenCL.so.1.10.0 is newer than libOpenCL.so.1.2.0"
    assert "at most GLIBC_2.17" in steps[inside("libnvidia-ml.so.1")][1]


@pytest.mark.modes("userns")
def test_an_older_library_of_the_image_gives_way(host: Host, image: Path, foundry: Foundry) -> None:
    foundry.make(Library(soname="libOpenCL.so.1", file="libOpenCL.so.1.0.0", number=10), image / "usr/lib")
    assert host.launch("exec", image, "dlprobe", "libOpenCL.so.1").ok().lines == ["libOpenCL.so.1 10"]
    assert host.launch("exec", "--nv", image, "dlprobe", "libOpenCL.so.1").lines == ["libOpenCL.so.1 12"]


@pytest.mark.modes("userns")
def test_the_loaders_cache_of_the_image_is_used(host: Host, image: Path, foundry: Foundry) -> None:
    foundry.make(Library(soname="libOpenCL.so.1", file="libOpenCL.so.1.10.0"), image / "opt/own")
    write_cache(image / "etc/ld.so.cache", {"libOpenCL.so.1": Path("/opt/own/libOpenCL.so.1")})
    assert plan(host.launch, "--nv", image)[inside("libOpenCL.so.1")][1].startswith(
        "the image's libOpenCL.so.1.10.0 is newer"
    )


@pytest.mark.modes("suid", "userns")
def test_nothing_goes_into_an_image_with_another_c_library(host: Host, images: Images, directory: Path) -> None:
    tree = images.modern_tree(directory / "musl")
    (tree / "lib").mkdir(exist_ok=True)
    (tree / "lib/ld-musl-x86_64.so.1").touch()
    result = host.launch("exec", "--nv", tree, "ls", "/.singularity.d/libs")
    result.warned("--nv: ", "is linked to glibc, and the image has another C library")
    assert result.lines == []


@pytest.mark.modes("suid", "userns")
def test_damaged_libraries_break_nothing(host: Host, image: Path) -> None:
    """Of the host and of the image."""
    whole = (host.place / f"lib/libcuda.so.{NUMBER}").read_bytes()
    (host.place / f"lib/libcuda.so.{NUMBER}").write_bytes(whole[:300])
    (image / "usr/lib/libOpenCL.so.1").write_bytes(whole[:100] + b"\xff" * 400)
    assert host.launch("exec", "--nv", image, "echo", "runs").lines == ["runs"]


@pytest.mark.modes("suid")
def test_without_a_judge_that_is_safe_nothing_goes_in(host: Host, image: Path, directory: Path) -> None:
    """R-L8: sexec-judge may be traced by users who may read it."""
    judge = host.launch.starter.with_name("sexec-judge")
    readable = directory / "readable"
    readable.write_bytes(judge.read_bytes())
    readable.chmod(0o755)
    result = host.launch.showing(judge, readable)("exec", "--nv", image, "ls", "/.singularity.d/libs")
    assert result.status == 0, str(result)
    assert "mode 0711" in result.err
    assert "could not be compared" in result.err
    assert result.lines == []


def test_the_site_can_always_want_the_driver(host: Host, image: Path) -> None:
    """Then the user has asked for nothing, and is told nothing."""
    site = host.launch.configured("always use nv = yes\n")
    assert site("exec", image, "dlprobe", "libcuda.so.1").ok().lines == ["libcuda.so.1 535"]
    assert site("exec", "--no-nv", image, "dlprobe", "libcuda.so.1").ok().lines == ["libcuda.so.1 -1"]
    assert "is left out, cannot be used here" in site("exec", image, "true", first=["-v"]).err


@pytest.mark.modes("suid", "userns")
def test_a_launch_that_asks_for_nothing_reads_nothing(host: Host, image: Path) -> None:
    table = host.place / "fifo"
    table.write_text("libcuda.so surely-not-a-mark\n")
    launch = host.launch.showing(host.launch.config_path.parent / "nvliblist.conf", table)
    launch("exec", image, "true").ok()
    launch("exec", "--nv", image, "true").warned("surely-not-a-mark")


def test_devices_are_in_a_contained_container(host: Host, image: Path, directory: Path) -> None:
    world = host.launch.changed(as_root=(device_directory(directory / "dev", DEVICES),))
    seen = world("exec", "--contain", "--nv", image, "sh", "-c", "cd /dev; ls -d nvidia*; ls nvidia-caps").lines
    assert seen == ["nvidia-caps", "nvidia-uvm", "nvidia0", "nvidiactl", "nvidia-cap1"]
    assert "nvidia0" not in world("exec", "--contain", image, "ls", "/dev").ok().lines


@pytest.mark.modes("userns")
def test_a_clean_environment_keeps_which_devices_a_job_has(host: Host, image: Path) -> None:
    show = ["sh", "-c", "echo ${CUDA_VISIBLE_DEVICES-unset} ${OTHER-unset}"]
    given = host.launch.with_env(CUDA_VISIBLE_DEVICES="MIG-41b36325/1/0,3", OTHER="x")
    assert given("exec", "--nv", "--cleanenv", image, *show).lines == ["MIG-41b36325/1/0,3 unset"]
    assert given("exec", "--cleanenv", image, *show).lines == ["unset unset"]
    own = given.with_env(SINGULARITYENV_CUDA_VISIBLE_DEVICES="7")
    assert own("exec", "--nv", "--cleanenv", image, *show).lines == ["7 unset"]
    odd = host.launch.with_env(CUDA_VISIBLE_DEVICES="$(echo 1)")
    assert odd("exec", "--nv", "--cleanenv", image, *show).lines == ["unset unset"]


@pytest.fixture
def service(host: Host) -> Iterator[Path]:
    path = host.place / "service/socket"
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        path.chmod(0o666)
        yield path


def test_files_and_sockets_of_the_table_are_shown(host: Host, image: Path, service: Path) -> None:
    for name in ("nvidia_icd.json", "nvidia_icd.x86_64.json", "other.json"):
        (host.place / name).write_text(f"{name}\n")
    own = host.with_table("nvliblist.conf", f"{service}\n{host.place}/nvidia_icd*.json\n")
    script = (
        f"test -S {service} && cat {host.place}/nvidia_icd*.json; test -e {host.place}/other.json || echo not the other"
    )
    # everything below /tmp is there anyway: not in a contained container
    assert own.launch("exec", "--contain", "--nv", image, "sh", "-c", script).ok().lines == [
        "nvidia_icd.json",
        "nvidia_icd.x86_64.json",
        "not the other",
    ]


@pytest.mark.modes("userns")
def test_tables_of_the_peers_are_read(host: Host, image: Path) -> None:
    """Theirs has no words after the names: what the image lacks or has older goes in."""
    own = host.with_table("nvliblist.conf", "# a comment\nnvidia-smi\nlibcuda.so\n")
    own.launch("exec", "--nv", image, "dlprobe", "libcuda.so.1").ok()
    assert inside("libnvidia-ml.so.1") not in plan(own.launch, "--nv", image)


def test_amd_drivers_go_in_by_their_own_table(host: Host, image: Path, foundry: Foundry, directory: Path) -> None:
    foundry.make(
        Library(soname="libhsa-runtime64.so.1", file="libhsa-runtime64.so.1.11.0", number=6), host.place / "lib"
    )
    cache = write_cache(directory / "amd.cache", libraries_of(host.place / "lib"))
    devices = device_directory(directory / "dev", {"kfd": (511, 0), "dri/renderD128": (226, 128)})
    world = host.launch.showing(Path("/etc/ld.so.cache"), cache).changed(as_root=(devices,))
    script = "dlprobe libhsa-runtime64.so.1 libcuda.so.1; ls /dev/kfd /dev/dri"
    lines = world("exec", "--contain", "--rocm", image, "sh", "-c", script).ok().lines
    assert lines[:2] == ["libhsa-runtime64.so.1 6", "libcuda.so.1 -1"]
    assert [line for line in lines[2:] if line][:1] == ["/dev/kfd"]
    assert "renderD128" in lines


def test_a_directory_of_drivers_as_a_bind_path_with_a_library_path(host: Host, image: Path) -> None:
    """The slides: a directory of the host with the libraries is a `bind path`, the init file sets the library path."""
    init = host.place / "init"
    init.write_text('LD_LIBRARY_PATH="/opt/gpu/lib"\nexport LD_LIBRARY_PATH\n')
    site = host.launch.configured(f"bind path = {host.place}/lib:/opt/gpu/lib\n")
    site = site.showing(site.config_path.parent / "init", init)
    assert site("exec", image, "dlprobe", "libcuda.so.1").ok().lines == ["libcuda.so.1 535"]


@pytest.mark.modes("userns")
def test_the_sites_libraries_go_in_without_privilege_where_users_may_not_bind(host: Host, image: Path) -> None:
    site = host.launch.configured("user bind control = no\n")
    assert site("exec", "--nv", image, "dlprobe", "libcuda.so.1").lines == ["libcuda.so.1 535"]


@pytest.mark.modes("suid", "root")
def test_libraries_that_are_not_roots_stay_out_where_users_may_not_bind(host: Host, image: Path) -> None:
    """R-I9: the file is root's, and in SUID mode so are the directories above it: /srv shows what a driver installs."""
    installed = {soname: Path("/srv/lib") / soname for soname in libraries_of(host.place / "lib")}
    cache = write_cache(host.place / "srv.cache", installed)
    site = host.launch.configured("user bind control = no\n").showing(Path("/srv"), host.place)
    site = site.showing(Path("/etc/ld.so.cache"), cache).with_env(PATH="/srv/bin:/usr/bin:/bin")
    assert site("exec", "--nv", image, "nvidia-smi").lines == ["driver of the host"]
    assert site("exec", "--nv", image, "dlprobe", "libcuda.so.1").lines == ["libcuda.so.1 535"]
    os.chown(host.place / f"lib/libcuda.so.{NUMBER}", 12345, 12345)
    assert site("exec", "--nv", image, "dlprobe", "libcuda.so.1").lines == ["libcuda.so.1 -1"]


# ---- what NVIDIA's tool, programs of 32 bits and Intel's devices ask for ----


def test_libraries_of_programs_of_32_bits_have_their_directory(host: Host, image: Path) -> None:
    """Behind the others, and of the driver's alone; the cache has them as ldconfig marks them."""
    narrow = host.place / "lib32"
    narrow.mkdir()
    for name in ("libcuda.so.1", "libz.so.1"):
        (narrow / name).write_text(f"{name} of 32 bits\n")
    known = {path.name: path for path in narrow.iterdir()}
    cache = write_cache(host.place / "both.cache", libraries_of(host.place / "lib"), known)
    wide = host.launch.showing(Path("/etc/ld.so.cache"), cache)
    script = "cat /.singularity.d/libs32/*; ls /.singularity.d/libs32; echo $LD_LIBRARY_PATH; dlprobe libcuda.so.1"
    assert wide("exec", "--nv", "--compat32", image, "sh", "-c", script).lines == [
        "libcuda.so.1 of 32 bits",
        "libcuda.so.1",
        "/.singularity.d/libs:/.singularity.d/libs32",
        "libcuda.so.1 535",
    ]
    assert wide("exec", "--nv", image, "sh", "-c", "echo $LD_LIBRARY_PATH").lines == ["/.singularity.d/libs"]
    wide("exec", "--compat32", image, "true").warned("--compat32: has a meaning with --nv or --rocm only")
    assert "has no libraries of such a driver" in host.launch("exec", "--nv", "--compat32", image, "true").err


def test_gaudi_devices_are_those_that_the_job_has(launch: Launcher, images: Images, directory: Path) -> None:
    names = {f"accel/{name}{number}": (261, number) for name in ("accel", "accel_controlD") for number in range(3)}
    world = launch.changed(as_root=(device_directory(directory / "dev", names),))
    words = ("exec", "--contain", "--intel-hpu", images.sandbox, "ls", "/dev/accel")
    assert world(*words).ok().lines == sorted(name.removeprefix("accel/") for name in names)
    chosen = world.with_env(HABANA_VISIBLE_DEVICES="0,2")
    assert chosen(*words).ok().lines == ["accel0", "accel2", "accel_controlD0", "accel_controlD2"]
    seen = chosen("exec", "--containall", "--intel-hpu", images.sandbox, "sh", "-c", "echo $HABANA_VISIBLE_DEVICES")
    assert seen.ok().out == "0,2\n"
    world.with_env(HABANA_VISIBLE_DEVICES="x")(*words).refused('HABANA_VISIBLE_DEVICES="x"', "0,1")
    launch("exec", "--intel-hpu", images.sandbox, "true").warned("Could not find any Gaudi devices")


LISTING = """#!/bin/sh
echo "$*" >>{place}/asked
[ "$1" = list ] || exit 2
case "$2" in --device=*) echo /dev/nvidia0; echo /dev/nvidiactl ;; esac
echo {place}/bin/nvidia-smi
echo {place}/lib/libcuda.so.1
"""


def test_what_nvidias_tool_lists_is_shown(host: Host, image: Path, directory: Path) -> None:
    """The tool is a stand-in that answers as `nvidia-container-cli list` does: the real one wants the driver."""
    host.launch("exec", "--nvccli", image, "true").refused("nvidia-container-cli not found", "--nv")
    tool = directory / "nvidia-container-cli"
    tool.write_text(LISTING.format(place=host.place))
    tool.chmod(0o755)
    (host.place / "asked").touch(0o666)
    (host.place / "asked").chmod(0o666)
    path = f"{directory}:{host.launch.env['PATH']}"
    devices = device_directory(directory / "dev", DEVICES)
    place = Path("/usr/local/bin/nvidia-container-cli")
    world = host.launch.with_env(PATH=path).changed(as_root=(devices,))
    if host.launch.account.uid == 0:  # whose tools come from the system
        place.symlink_to(tool)
    try:
        script = "dlprobe libcuda.so.1; nvidia-smi; ls -d /dev/nvidia*; touch /written; echo $NVIDIA_VISIBLE_DEVICES"
        given = world.with_env(NVIDIA_VISIBLE_DEVICES="GPU-1")
        assert given("exec", "--contain", "--nvccli", image, "sh", "-c", script).ok().lines == [
            "libcuda.so.1 535",
            "driver of the host",
            "/dev/nvidia0",
            "/dev/nvidiactl",
            "GPU-1",
        ]
        seen = world("exec", "--contain", "--nvccli", image, "sh", "-c", "ls -d /dev/nvidia* || true")
        assert "/dev/nvidia0\n" not in seen.out
        world("exec", "--nvccli", image, "true").ok()
    finally:
        place.unlink(missing_ok=True)
    asked = (host.place / "asked").read_text().splitlines()
    assert [line.split()[1] for line in asked] == ["--device=GPU-1", "--libraries", "--device=all"]
