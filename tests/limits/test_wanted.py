"""What options and files of limits come to: the files of a control group, or one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from singularity.errors import SingularityError, UsageError
from singularity.limits import wanted

if TYPE_CHECKING:
    from pathlib import Path

DOCKERS = {
    "cpus": ("1.5", {"cpu.max": "150000 100000"}),
    "cpu_shares": ("1024", {"cpu.weight": "39"}),
    "cpuset_cpus": ("0-3,8", {"cpuset.cpus": "0-3,8"}),
    "cpuset_mems": ("0", {"cpuset.mems": "0"}),
    "memory": ("1.5G", {"memory.max": "1610612736"}),
    "memory_reservation": ("100m", {"memory.low": "104857600"}),
    "pids_limit": ("-1", {"pids.max": "max"}),
    "blkio_weight": ("1000", {"io.weight": "default 10000"}),
    "blkio_weight_device": ("8:0:10,8:16:1000", {"io.weight": "8:0 1\n8:16 10000"}),
}


@pytest.mark.parametrize("name", DOCKERS)
def test_options(name: str) -> None:
    text, files = DOCKERS[name]
    assert wanted.from_options({name: text, "oom_kill_disable": False}) == files


@pytest.mark.parametrize(
    ("memory", "both", "swap"), [("1G", "3g", str(2 << 30)), ("1G", "-1", "max"), ("1GiB", "1073741824", "0")]
)
def test_swap_is_what_is_left_of_both_together(memory: str, both: str, swap: str) -> None:
    found = wanted.from_options({"memory": memory, "memory_swap": both})
    assert found == {"memory.max": str(1 << 30), "memory.swap.max": swap}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"cpus": "0"}, "--cpus"),
        ({"cpus": "nan"}, "--cpus"),
        ({"cpus": "0.001"}, "--cpus"),
        ({"cpu_shares": "1"}, "--cpu-shares"),
        ({"cpu_shares": "many"}, "--cpu-shares"),
        ({"cpuset_cpus": "0-"}, "--cpuset-cpus"),
        ({"memory": "lots"}, "--memory"),
        ({"memory": "0"}, "--memory"),
        ({"memory_reservation": "-1"}, "--memory-reservation"),
        ({"memory_swap": "1G"}, "--memory-swap"),
        ({"memory": "2G", "memory_swap": "1G"}, "--memory-swap"),
        ({"pids_limit": "-2"}, "--pids-limit"),
        ({"blkio_weight": "9"}, "--blkio-weight"),
        ({"blkio_weight_device": "/dev/null:10"}, "/dev/null"),
        ({"oom_kill_disable": True}, "--oom-kill-disable"),
        ({"apply_cgroups": "x", "memory": "1G"}, "--memory"),
    ],
)
def test_wrong_values_are_named(given: dict[str, str | bool], said: str) -> None:
    with pytest.raises(UsageError) as error:
        wanted.from_options(given)
    assert said in str(error.value)


FILE = """
[cpu]
shares = 2
quota = 20000
period = 50000
cpus = "0"
[memory]
limit = 1073741824
swap = 2147483648
disableOOMKiller = false
[pids]
limit = 9
[blockIO]
weight = 10
weightDevice = [{ major = 8, minor = 0, weight = 1000 }]
[[blockIO.throttleReadBpsDevice]]
major = 8
minor = 0
rate = 1000
[unified]
"memory.high" = "100000000"
"""


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "limits.toml"
    path.write_text(FILE)
    assert wanted.from_options({"apply_cgroups": str(path)}) == {
        "cpu.weight": "1",
        "cpu.max": "20000 50000",
        "cpuset.cpus": "0",
        "memory.max": str(1 << 30),
        "memory.swap.max": str(1 << 30),
        "pids.max": "9",
        "io.weight": "default 1\n8:0 10000",
        "io.max": "8:0 rbps=1000",
        "memory.high": "100000000",
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x", "no TOML"),
        ("[devices]\n", "[devices] cannot be applied (tables are cpu, memory"),
        ("cpu = 1\n", "cpu is no table"),
        ('[memory]\nlimit = "1G"\n', "memory.limit: no whole number"),
        ("[memory]\nkernel = 1\n", "memory.kernel: cannot be applied"),
        ('[unified]\n"../x" = "1"\n', "no file of limits"),
        ('[unified]\n"cgroup.procs" = "1"\n', "no file of limits"),
        ("[blockIO]\nweightDevice = [1]\n", "no tables"),
    ],
)
def test_a_wrong_file_is_named_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "limits.toml"
    path.write_text(text)
    with pytest.raises(SingularityError) as error:
        wanted.from_file(path)
    assert str(path) in str(error.value)
    assert said in str(error.value)
