"""`check`: MPI and launchers, GPUs, fabrics.

No GPU and no InfiniBand is here: the host is a tree of files with what the kernel would say, libraries are stand-ins of
real ELF. The stand-ins of launchers say what the real ones were seen to say.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from check_images import LIBRARIES, base, bound, compiled, library, machine, report
from images import write

from singularity.check import gpu
from singularity.check.finding import Subject, Verdict

if TYPE_CHECKING:
    from check_images import Report

pytestmark = [
    pytest.mark.needs("gcc"),
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="the programs here are for x86-64"),
]
OPEN_MPI = "mpirun (Open MPI) {}\n\nReport bugs to https://www.open-mpi.org/community/help/\n"
DEBIAN = "mpirun.openmpi (OpenRTE) {}\n\nReport bugs to http://www.open-mpi.org/community/help/\n"
HYDRA = "HYDRA build details:\n    Version:                                 {}\n    Release Date: Thu Apr  7\n"
INTEL = "Intel(R) MPI Library for Linux* OS, Version {} Build 20231005 (id: 74c4a23)\n"
SLURM = "MPI plugin types are...\n\tnone\n\tcray_shasta\n\tpmi2\n\tpmix\nspecific pmix plugin versions available: {}\n"
MAIN = "int MPI_Init(void);\nint main(void) { return MPI_Init(); }\n"


@pytest.fixture(scope="session")
def template(storage: Path) -> Path:
    tree = base(storage / "check-devices")
    compiled(tree / "usr/bin/plain", "int main(void) { return 0; }\n")
    return tree


@pytest.fixture
def tree(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "tree", symlinks=True))


def says(path: Path, text: str) -> None:
    write(path, f"#!/bin/sh\ncat <<'END'\n{text}END\n", 0o755)


def open_mpi(tree: Path, version: str, number: int = 40) -> None:
    source = f'const char ompi_version_string[] = "{version}";\nint ompi_mpi_init(void) {{ return 0; }}\n'
    made = library(
        tree / LIBRARIES / f"libmpi.so.{number}", f"{source}int MPI_Init(void) {{ return ompi_mpi_init(); }}\n"
    )
    compiled(tree / "usr/bin/ring", MAIN, made)


def mpich(tree: Path, version: str = "4.0.2", name: str = "libmpi.so.12") -> None:
    source = f'const char MPII_Version_string[] = "{version}";\nint MPI_Init(void) {{ return 0; }}\n'
    compiled(tree / "usr/bin/ring", MAIN, library(tree / LIBRARIES / name, source))


def mpi(tree: Path, place: Path, said: str, **more: str) -> Report:
    host = machine(place, **more)
    if said:
        says(place / "bin/mpirun", said)
    return report(tree, "ring", host=host)


# ---- MPI ----


@pytest.mark.parametrize(
    ("inside", "outside", "expected", "words"),
    [
        ("4.1.4", "4.1.4", Verdict.OK, ""),
        ("4.0.3", "4.1.4", Verdict.OK, ""),
        ("4.1.4", "5.0.11", Verdict.OK, ""),
        ("3.1.0", "4.1.4", Verdict.OK, ""),
        ("5.0.11", "4.1.4", Verdict.WARNING, "newer inside"),
        ("3.0.0", "4.1.4", Verdict.FAILS, "understands its own series alone"),
        ("2.1.1", "4.1.4", Verdict.FAILS, "take an image with Open MPI 3 or newer"),
        ("1.10.7", "4.1.4", Verdict.FAILS, "both must be the same: Open MPI 1.10.7 on the host"),
        ("1.10.7", "1.10.3", Verdict.OK, ""),
        ("2.1.1", "2.1.6", Verdict.OK, ""),
    ],
)
def test_the_open_mpi_of_the_host_beside_that_of_the_image(
    tree: Path, tmp_path: Path, inside: str, outside: str, expected: Verdict, words: str
) -> None:
    open_mpi(tree, inside)
    for number, form in enumerate((OPEN_MPI, DEBIAN)):
        found = mpi(tree, tmp_path / f"host{number}", form.format(outside))
        (line,) = found.of(Subject.MPI)
        assert (line.what, line.found, line.needed) == (
            "mpirun",
            f"Open MPI {outside}",
            f"for Open MPI {inside} inside",
        )
        assert line.verdict is expected
        assert words in line.advice
        assert bool(found.failing()) == (expected is Verdict.FAILS)


@pytest.mark.parametrize("said", [HYDRA.format("4.0.2"), INTEL.format("2021.11")])
def test_hydra_starts_the_family_of_mpich_and_no_open_mpi(tree: Path, tmp_path: Path, said: str) -> None:
    mpich(tree)
    assert mpi(tree, tmp_path / "one", said).failing() == []
    open_mpi(tree, "4.1.4")
    found = mpi(tree, tmp_path / "two", said)
    assert found.failing() == [("mpi", "mpirun")]
    assert "every rank would believe that it is alone" in found.text()


def test_open_mpi_starts_no_mpich_and_the_other_launcher_is_named(tree: Path, tmp_path: Path) -> None:
    mpich(tree, name="libmpich.so.12")
    says(tmp_path / "host/bin/mpirun.mpich", HYDRA.format("4.0.2"))
    found = mpi(tree, tmp_path / "host", OPEN_MPI.format("4.1.4"))
    assert found.failing() == [("mpi", "mpirun")]
    assert "start it with the host's MPICH (mpirun.mpich there)" in found.text()


def test_a_library_of_the_standard_abi_belongs_to_who_made_it(tree: Path, tmp_path: Path) -> None:
    mpich(tree, "5.0.2", "libmpi_abi.so.1")
    assert "for MPICH 5.0.2 (standard ABI) inside" in mpi(tree, tmp_path / "one", HYDRA.format("5.0.2")).text()
    assert mpi(tree, tmp_path / "two", OPEN_MPI.format("5.0.11")).failing() == [("mpi", "mpirun")]


def test_libraries_of_one_number_are_told_apart(tree: Path, tmp_path: Path) -> None:
    open_mpi(tree, "1.10.7", number=12)
    assert "for Open MPI 1.10.7 inside" in mpi(tree, tmp_path / "one", OPEN_MPI.format("4.1.4")).text()
    mpich(tree)
    assert "for MPICH 4.0.2 inside" in mpi(tree, tmp_path / "two", OPEN_MPI.format("4.1.4")).text()


@pytest.mark.parametrize(("offered", "failing"), [("pmix_v3,pmix_v4", False), ("pmix_v2", False), ("", True)])
def test_in_a_job_of_slurm_its_plugins_count(tree: Path, tmp_path: Path, offered: str, failing: bool) -> None:
    open_mpi(tree, "4.1.4")
    text = SLURM.format(offered) if offered else "MPI plugin types are...\n\tnone\n\tpmi2\n"
    says(tmp_path / "host/bin/srun", text)
    found = mpi(tree, tmp_path / "host", OPEN_MPI.format("1.6.5"), SLURM_JOB_ID="7")
    assert [each.what for each in found.of(Subject.MPI)][:1] == ["srun"]
    assert bool(found.failing()) == failing
    assert ("this Slurm has no --mpi=pmix" if failing else "srun --mpi=pmix") in found.text()


def test_a_slurm_that_says_nothing_is_no_failure(tree: Path, tmp_path: Path) -> None:
    open_mpi(tree, "4.1.4")
    write(tmp_path / "host/bin/srun", "#!/bin/sh\necho srun: fatal: no configuration >&2\nexit 1\n", 0o755)
    found = mpi(tree, tmp_path / "host", "")
    assert found.failing() == []
    assert "--mpi=pmix is needed" in found.text()


def test_mpich_under_slurm_wants_pmi2(tree: Path, tmp_path: Path) -> None:
    mpich(tree)
    says(tmp_path / "host/bin/srun", SLURM.format("pmix_v4"))
    assert "srun --mpi=pmi2" in mpi(tree, tmp_path / "host", "").text()


def test_the_pmix_of_an_image_is_compared_with_that_of_slurm(tree: Path, tmp_path: Path) -> None:
    open_mpi(tree, "3.0.0")
    says(tmp_path / "host/bin/srun", SLURM.format("pmix_v4"))
    assert mpi(tree, tmp_path / "host", "").failing() == [("mpi", "PMIx")]
    library(tree / LIBRARIES / "libpmix.so.2", 'const char *v = "OpenPMIx 4.2.2, repo rev: v4.2.2";')
    found = mpi(tree, tmp_path / "again", "")
    says(tmp_path / "again/bin/srun", SLURM.format("pmix_v4"))
    found = mpi(tree, tmp_path / "again", "")
    assert found.failing() == []
    assert "PMIx: 4 / for 4.2.2 inside" in found.text()


def test_without_a_launcher_that_is_said(tree: Path, tmp_path: Path) -> None:
    open_mpi(tree, "4.1.4")
    found = mpi(tree, tmp_path / "host", "")
    assert found.failing() == []
    assert "neither mpirun nor srun in PATH" in found.text()


def test_a_program_without_mpi_is_told_about_none_unless_asked(tree: Path, tmp_path: Path) -> None:
    open_mpi(tree, "1.10.7")
    host = machine(tmp_path / "host")
    says(tmp_path / "host/bin/mpirun", OPEN_MPI.format("4.1.4"))
    assert report(tree, "plain", host=host).of(Subject.MPI) == []
    asked = report(tree, "plain", host=host, chosen=frozenset({Subject.MPI}), only=True)
    assert [each.verdict for each in asked.of(Subject.MPI)] == [Verdict.WARNING]
    assert "for programs that use it: before version 2 both must be the same" in asked.text()


def test_a_library_of_the_host_that_could_take_the_place_is_named(tree: Path, tmp_path: Path) -> None:
    open_mpi(tree, "4.1.4")
    write(tmp_path / "host/usr/lib64/libmpi.so.40", "")
    assert (
        "ABI of libmpi.so.40: /usr/lib64/libmpi.so.40" in mpi(tree, tmp_path / "host", OPEN_MPI.format("4.1.4")).text()
    )


def test_an_mpi_that_is_missing_is_one_line(tree: Path, tmp_path: Path) -> None:
    open_mpi(tree, "4.1.4")
    (tree / LIBRARIES / "libmpi.so.40").unlink()
    found = mpi(tree, tmp_path / "host", OPEN_MPI.format("4.1.4"))
    assert found.failing() == [("libraries", "libmpi.so.40")]
    assert "it is of an MPI" in found.text()


# ---- GPUs ----


def with_cuda(tree: Path, name: str = "libcudart.so.12.4.127", soname: str = "libcudart.so.12") -> None:
    """A program that is linked with the CUDA runtime."""
    made = library(tree / LIBRARIES / soname)
    compiled(tree / "usr/bin/sum", "int number(void);\nint main(void) { return number(); }\n", made)
    if name != soname:
        made.rename(made.with_name(name))
        made.symlink_to(name)


def driver(version: str) -> dict[str, str]:
    text = (
        f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {version}  Mon Jan  1 00:00:00 UTC 2024\nGCC version:  gcc\n"
    )
    return {"proc/driver/nvidia/version": text}


@pytest.mark.parametrize(
    ("name", "soname", "version", "expected", "words"),
    [
        ("libcudart.so.12.4.127", "libcudart.so.12", "550.54.14", Verdict.OK, ""),
        ("libcudart.so.12.4.127", "libcudart.so.12", "570.10", Verdict.OK, ""),
        ("libcudart.so.12.4.127", "libcudart.so.12", "535.104.05", Verdict.WARNING, "minor-version compatibility"),
        ("libcudart.so.12.4.127", "libcudart.so.12", "470.57.02", Verdict.FAILS, "a node with driver 525.60.13"),
        ("libcudart.so.13.0.48", "libcudart.so.13", "550.54.14", Verdict.FAILS, "a node with driver 580.65.6"),
        ("libcudart.so.11.0.221", "libcudart.so.11.0", "450.80.02", Verdict.OK, "450"),
        ("libcudart.so.10.2", "libcudart.so.10.2", "418.67", Verdict.FAILS, "a node with driver 440.33"),
        ("libcudart.so.12.4.127", "libcudart.so.12", "", Verdict.FAILS, "run on a node with an NVIDIA GPU"),
    ],
)
def test_cuda_beside_the_driver(
    tree: Path, tmp_path: Path, name: str, soname: str, version: str, expected: Verdict, words: str
) -> None:
    with_cuda(tree, name, soname)
    host = machine(tmp_path / "host", files=driver(version) if version else {})
    steps = (bound(write(tmp_path / "nvidiactl", ""), "/dev/nvidiactl", "default"),)
    found = report(tree, "sum", host=host, steps=steps)
    line = next(each for each in found.of(Subject.GPU) if each.what.startswith("NVIDIA driver for CUDA"))
    assert line.verdict is expected, found.text()
    assert words in line.advice or expected is Verdict.OK
    assert bool(found.failing()) == (expected is Verdict.FAILS)


def test_the_newer_table_entry_of_each_release_is_above_the_oldest_driver_of_its_series() -> None:
    releases = sorted(gpu.DRIVERS.items())
    assert [driver for _, driver in releases] == sorted(gpu.DRIVERS.values())
    assert all(gpu.DRIVERS[(major, 0)][0] >= least[0] for major, least in gpu.MINOR.items())


def test_the_forward_compatibility_package_helps_where_it_is_in_the_path(tree: Path, tmp_path: Path) -> None:
    with_cuda(tree)
    library(tree / "usr/local/cuda-12.4/compat/libcuda.so.550.54.14")
    host = machine(tmp_path / "host", files=driver("470.57.02"))
    steps = (bound(write(tmp_path / "nvidiactl", ""), "/dev/nvidiactl", "default"),)
    found = report(tree, "sum", host=host, steps=steps)
    assert "--env LD_LIBRARY_PATH=/usr/local/cuda-12.4/compat" in found.text()
    assert len(found.failing()) == 1
    write(tree / ".singularity.d/env/90-environment.sh", "export LD_LIBRARY_PATH=/usr/local/cuda-12.4/compat\n")
    found = report(tree, "sum", host=host, steps=steps)
    assert found.failing() == []
    assert "forward compatibility package" in found.text()


def test_a_gpu_without_its_device_in_the_container(tree: Path, tmp_path: Path) -> None:
    with_cuda(tree)
    host = machine(tmp_path / "host", files=driver("550.54.14"))
    found = report(tree, "sum", host=host)
    assert found.failing() == [("gpu", "device")]
    assert "use --nv" in found.text()
    found = report(tree, "sum", host=host, options=("--nv",))
    assert "/dev/nvidiactl is not in the container: run on a node with such a GPU" in found.text()


def test_the_driver_that_the_program_is_linked_with_comes_by_nv(tree: Path, tmp_path: Path) -> None:
    made = library(tmp_path / "driver/libcuda.so.1")
    compiled(tree / "usr/bin/sum", "int number(void);\nint main(void) { return number(); }\n", made)
    (tree / ".singularity.d/libs").mkdir()
    found = report(tree, "sum", host=machine(tmp_path / "host"))
    assert "libcuda.so.1" in [what for _, what in found.failing()]
    assert "--nv brings the host's" in found.text()
    steps = (
        bound(made, "/.singularity.d/libs/libcuda.so.1", "--nv, --rocm"),
        bound(write(tmp_path / "nvidiactl", ""), "/dev/nvidiactl", "--nv, --rocm"),
    )
    host = machine(tmp_path / "host", files=driver("550.54.14"))
    assert report(tree, "sum", host=host, steps=steps, options=("--nv",)).failing() == []


@pytest.mark.parametrize(("name", "failing"), [("libcuda.so.1", True), ("libnvidia-gtk3.so.550", False)])
def test_a_library_of_the_driver_that_wants_a_newer_glibc(tree: Path, tmp_path: Path, name: str, failing: bool) -> None:
    source = '#include <stdlib.h>\nint number(void) { return atoi(getenv("HOME")); }\n'
    made = compiled(tmp_path / "driver" / name, source, "-shared", "-fPIC", f"-Wl,-soname,{name}")
    made.write_bytes(made.read_bytes().replace(b"GLIBC_2.2.5\0", b"GLIBC_2.9.9\0"))
    (tree / ".singularity.d/libs").mkdir()
    steps = (
        bound(made, f"/.singularity.d/libs/{name}", "--nv, --rocm"),
        bound(write(tmp_path / "nvidiactl", ""), "/dev/nvidiactl", "--nv, --rocm"),
    )
    host = machine(tmp_path / "host", files=driver("550.54.14"))
    found = report(tree, "plain", host=host, steps=steps, options=("--nv",))
    assert bool(found.failing()) == failing
    assert "GLIBC_2.9.9" in found.text()
    assert f"{made} of the host cannot be loaded in this image: take an image with a newer glibc" in found.text()


def test_a_library_that_the_launcher_leaves_out_fails_only_when_the_driver_needs_it(tree: Path, tmp_path: Path) -> None:
    newer = "the image's libOpenCL.so.1.10.0 is newer than libOpenCL.so.1.2.0"
    old = "cannot be used here: it needs GLIBC_2.34 of libc.so.6, and the image's has at most GLIBC_2.17"
    opencl = bound(tmp_path, "/.singularity.d/libs/libOpenCL.so.1", "--nv", newer)
    cuda = bound(tmp_path, "/.singularity.d/libs/libcuda.so.1", "--nv", old)
    there = bound(write(tmp_path / "nvidiactl", ""), "/dev/nvidiactl", "--nv")
    host = machine(tmp_path / "host", files=driver("550.54.14"))
    assert report(tree, "plain", host=host, steps=(there, opencl), options=("--nv",)).failing() == []
    found = report(tree, "plain", host=host, steps=(there, opencl, cuda), options=("--nv",))
    assert found.failing() == [("gpu", "libcuda.so.1")]
    assert "GLIBC_2.34" in found.text()


def test_libraries_that_a_site_offers_and_no_image_needs_are_one_line(tree: Path, tmp_path: Path) -> None:
    why = "cannot be used here: the image has no MPI where its loader looks"
    names = ("/.singularity.d/libs/libmpi.so.40", "/.singularity.d/libs/libopen-pal.so.40", "/usr/share/openmpi")
    steps = tuple(bound(tmp_path, name, "--mpi", why) for name in names)
    found = report(tree, "plain", host=machine(tmp_path / "host"), steps=steps)
    assert [each.verdict for each in found.of(Subject.BINDS)] == [Verdict.OK, Verdict.OK]
    assert "3 left out (--mpi)" in found.text()
    assert why in found.text()


# ---- fabrics ----


@pytest.fixture
def fabric(tree: Path, tmp_path: Path) -> Path:
    """A host with a device; the image has a library for it, and the driver."""
    script = write(tmp_path / "map", "IBVERBS_PRIVATE_44 { global: number; };\n")
    library(tree / LIBRARIES / "libibverbs.so.1", "int number(void) { return 1; }", f"-Wl,--version-script={script}")
    library(tree / LIBRARIES / "libibverbs/libmlx5-rdmav44.so")
    (tmp_path / "infiniband").mkdir()
    machine(tmp_path / "host", files={"sys/class/infiniband_verbs/abi_version": "6\n"})
    (tmp_path / "host/sys/class/infiniband/mlx5_0").mkdir(parents=True)
    return tmp_path / "host"


def of_fabric(tree: Path, place: Path, *, devices: bool = True) -> Report:
    steps = (bound(place.parent / "infiniband", "/dev/infiniband", "default"),) if devices else ()
    chosen = frozenset({Subject.FABRIC})
    return report(tree, "plain", host=machine(place), steps=steps, chosen=chosen, only=True)


def test_a_fabric_that_works(tree: Path, fabric: Path) -> None:
    found = of_fabric(tree, fabric)
    assert found.failing() == []
    assert "mlx5_0: libmlx5-rdmav44" in found.text()


def test_a_fabric_whose_driver_is_missing_or_of_another_build(tree: Path, fabric: Path) -> None:
    drivers = tree / LIBRARIES / "libibverbs"
    (drivers / "libmlx5-rdmav44.so").rename(drivers / "libmlx5-rdmav34.so")
    found = of_fabric(tree, fabric)
    assert found.failing() == [("fabric", "mlx5_0")]
    assert "of different builds" in found.text()
    shutil.rmtree(drivers)
    assert "install the driver mlx5" in of_fabric(tree, fabric).text()


def test_a_fabric_without_devices_or_libraries_in_the_container(tree: Path, fabric: Path) -> None:
    assert of_fabric(tree, fabric, devices=False).failing() == [("fabric", "/dev/infiniband")]
    (tree / LIBRARIES / "libibverbs.so.1").unlink()
    assert of_fabric(tree, fabric).failing() == [("fabric", "libibverbs")]


def test_a_kernel_of_another_abi(tree: Path, fabric: Path) -> None:
    write(fabric / "sys/class/infiniband_verbs/abi_version", "9\n")
    assert of_fabric(tree, fabric).failing() == [("fabric", "ABI of uverbs")]


def test_a_host_without_a_fabric_wants_nothing(tree: Path, tmp_path: Path) -> None:
    assert of_fabric(tree, tmp_path / "host", devices=False).failing() == []
