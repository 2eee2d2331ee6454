"""--fabric with libraries and devices of InfiniBand that drive nothing: whose go in, and that they fit together."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from driver_trees import Foundry, Library, device_directory, libraries_of, write_cache
from images import Images
from launching import Launcher

pytestmark = [pytest.mark.needs("root", "gcc")]

VERBS, PROVIDER = "libibverbs.so.1", "libmlx5-rdmav34.so"
DEVICES = {"infiniband/uverbs0": (231, 192), "infiniband/rdma_cm": (10, 58)}
LIBRARIES = "/.singularity.d/libs"


def verbs(version: str, number: int, private: str = "34", needs: dict[str, str] | None = None) -> Library:
    defines = ("IBVERBS_1.1", f"IBVERBS_PRIVATE_{private}")
    return Library(soname=VERBS, file=f"libibverbs.so.1.{version}", number=number, defines=defines, needs=needs or {})


def provider(private: str) -> Library:
    return Library(soname=f"libmlx5-rdmav{private}.so", number=5, needs={VERBS: f"IBVERBS_PRIVATE_{private}"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    place: Path
    launch: Launcher

    def without_devices(self) -> Launcher:
        return self.launch.changed(as_root=())


@pytest.fixture(scope="session")
def foundry(storage: Path) -> Foundry:
    place = storage / "fabric-foundry"
    place.mkdir()
    return Foundry(place)


def make_host(launch: Launcher, directory: Path, foundry: Foundry, library: Library) -> Host:
    place = directory / "host"
    foundry.make(library, place / "lib")
    foundry.make(Library(soname="libnl-3.so.200", file="libnl-3.so.200.26.0", number=26), place / "lib")
    foundry.make(provider("34"), place / "lib/libibverbs")
    (place / "libibverbs.d").mkdir()
    (place / "libibverbs.d/mlx5.driver").write_text("driver mlx5\n")
    table = place / "fabricliblist.conf"
    table.write_text(
        "/dev/infiniband\n[rdma-core]\nlibibverbs.so\nlibnl-3.so support\n"
        f"{place}/lib/libibverbs/*.so\n{place}/libibverbs.d\n"
    )
    cache = write_cache(place / "ld.so.cache", libraries_of(place / "lib"))
    machine = launch.showing(Path("/etc/ld.so.cache"), cache)
    machine = machine.showing(launch.config_path.parent / "fabricliblist.conf", table)
    return Host(place=place, launch=machine.changed(as_root=(device_directory(directory / "dev", DEVICES),)))


@pytest.fixture
def host(launch: Launcher, directory: Path, foundry: Foundry) -> Host:
    return make_host(launch, directory, foundry, verbs("14.44", 44))


@pytest.fixture
def image(images: Images, directory: Path, foundry: Foundry) -> Path:
    tree = images.modern_tree(directory / "image")
    foundry.probe(tree)
    return tree


def numbers(launch: Launcher, image: Path, *options: str) -> list[str]:
    return [line.split()[1] for line in launch("exec", *options, image, "dlprobe", VERBS, "libnl-3.so.200").lines]


def plan(launch: Launcher, *words: str | Path) -> dict[str, str]:
    """What a dry run says of each library and file of a fabric."""
    steps = json.loads(launch("exec", "--dry-run=json", *words, "true").out)["steps"]
    return {Path(step["target"]).name: step["skipped"] or step["reason"] for step in steps}


def test_an_image_without_libraries_gets_the_hosts(host: Host, image: Path) -> None:
    assert numbers(host.launch, image) == ["-1", "-1"]
    assert numbers(host.launch, image, "--fabric=auto") == ["44", "26"]
    script = f"ls {host.place}/lib/libibverbs; cat {host.place}/libibverbs.d/*; ls /dev/infiniband"
    seen = host.launch("exec", "--contain", "--fabric=auto", image, "sh", "-c", script).ok().lines
    assert seen == [PROVIDER, "driver mlx5", "rdma_cm", "uverbs0"]


@pytest.mark.modes("userns")
def test_the_containers_are_used_when_asked_or_by_default(host: Host, image: Path, foundry: Foundry) -> None:
    foundry.make(verbs("11.28", 28), image / "usr/lib")
    assert numbers(host.launch, image) == ["28", "-1"]
    assert numbers(host.launch, image, "--fabric=container") == ["28", "-1"]


def test_older_ones_of_the_image_give_way_together(host: Host, image: Path, foundry: Foundry) -> None:
    foundry.make(verbs("11.28", 28), image / "usr/lib")
    assert numbers(host.launch, image, "--fabric=auto") == ["44", "26"]
    steps = plan(host.launch, "--fabric=auto", image)
    assert steps[VERBS] == "--fabric: libibverbs.so.1.14.44 is newer than the image's libibverbs.so.1.11.28"
    assert steps[PROVIDER] == steps["libibverbs.d"] == f"--fabric: goes with {VERBS}"


@pytest.mark.modes("userns")
def test_newer_ones_of_the_image_stay_together(host: Host, image: Path, foundry: Foundry) -> None:
    foundry.make(verbs("14.60", 60), image / "usr/lib")
    assert numbers(host.launch, image, "--fabric=auto") == ["60", "-1"]
    steps = plan(host.launch, "--fabric=auto", image)
    assert (
        steps[PROVIDER]
        == f"goes with {VERBS}, and the image's libibverbs.so.1.14.60 is newer than libibverbs.so.1.14.44"
    )
    assert numbers(host.launch, image, "--fabric=host") == ["44", "26"]
    assert (
        "as asked, though the image's libibverbs.so.1.14.60 is newer"
        in plan(host.launch, "--fabric=host", image)[VERBS]
    )


@pytest.mark.modes("suid", "userns")
def test_without_a_device_auto_looks_for_nothing(host: Host, image: Path) -> None:
    assert numbers(host.without_devices(), image, "--fabric=auto") == ["-1", "-1"]
    result = host.without_devices()("exec", "--fabric=auto", image, "true", first=["-v"])
    assert "--fabric=auto: the host has no device of a fabric" in result.err
    assert numbers(host.without_devices(), image, "--fabric=host") == ["44", "26"]


@pytest.mark.modes("suid", "userns")
def test_a_set_that_cannot_load_stays_out_as_a_whole(
    launch: Launcher, directory: Path, foundry: Foundry, image: Path
) -> None:
    """A new host and an old image: the image's own goes on working, or nothing does."""
    host = make_host(launch, directory, foundry, verbs("14.44", 44, needs={"libc.so.6": "GLIBC_9.38"}))
    foundry.make(verbs("11.28", 28), image / "usr/lib")
    assert numbers(host.launch, image, "--fabric=auto") == ["28", "-1"]
    result = host.launch("exec", "--fabric=host", image, "dlprobe", VERBS)
    result.warned("--fabric: ", "cannot be used in this image and stay out", "--dry-run shows them all")
    assert result.lines == [f"{VERBS} 28"]
    assert (
        plan(host.launch, "--fabric=host", image)[PROVIDER]
        == f"cannot be used here: goes with {VERBS}, which stays out"
    )


@pytest.mark.modes("userns")
def test_a_provider_of_another_age_stays_out(host: Host, image: Path, foundry: Foundry) -> None:
    """Providers fit the libibverbs that they were built with, which its private symbol version says."""
    foundry.make(provider("25"), host.place / "lib/libibverbs")
    steps = plan(host.launch, "--fabric=auto", image)
    assert steps[PROVIDER] == f"--fabric: goes with {VERBS}"
    expected = (
        f"cannot be used here: needs IBVERBS_PRIVATE_25 of {VERBS}, and the host's has at most IBVERBS_PRIVATE_34"
    )
    assert steps["libmlx5-rdmav25.so"] == expected


@pytest.mark.modes("userns")
def test_the_site_can_make_it_the_default(host: Host, image: Path) -> None:
    init = host.place / "init"
    init.write_text("SINGULARITY_FABRIC=auto\nexport SINGULARITY_FABRIC\n")
    site = host.launch.showing(host.launch.config_path.parent / "init", init)
    assert numbers(site, image) == ["44", "26"]
    assert numbers(site, image, "--fabric=container") == ["-1", "-1"]


@pytest.mark.modes("userns")
def test_that_the_devices_will_not_be_found_is_told(host: Host, image: Path) -> None:
    host.launch("exec", "--fabric=auto", "--no-mount", "sys", image, "true").warned(
        "/sys is not mounted", "/sys/class/infiniband"
    )


@pytest.mark.modes("userns")
def test_another_word_is_refused(host: Host, image: Path) -> None:
    host.launch("exec", "--fabric=hots", image, "true").misused(
        '--fabric=hots: "auto", "host" or "container" is wanted'
    )


def installed_rdma_core() -> bool:
    cache = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    return "libibverbs.so.1" in cache and "libnl-3.so.200" in cache and "libnl-route-3.so.200" in cache


@pytest.mark.skipif(not installed_rdma_core(), reason="no libibverbs.so.1 on this machine (package libibverbs1)")
@pytest.mark.modes("suid", "userns")
def test_the_rdma_core_of_this_machine_loads_in_an_image_without_one(launch: Launcher, image: Path) -> None:
    """By the table that is shipped; what it needs comes along."""
    assert launch("exec", image, "dlprobe", VERBS).ok().lines == [f"{VERBS} -1"]
    script = f"LD_TRACE_LOADED_OBJECTS=1 /lib64/ld-linux-x86-64.so.2 --list {LIBRARIES}/{VERBS}"
    listed = launch("exec", "--fabric=host", image, "sh", "-c", script)
    assert listed.status == 0, str(listed)
    assert f"{LIBRARIES}/libnl-3.so.200" in listed.out
    assert "not found" not in listed.out
