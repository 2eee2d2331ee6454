"""From options, or a file of limits, to the files of a control group (version 2) and what is written to them.

Options have the units of Docker's. How its shares and weights become those of version 2 is what runc and crun do
(docs/cgroup-v2.md of containers/crun); the file is OCI's `linux.resources` (config-linux.md of its runtime
specification) as TOML.
"""

import math
import os
import re
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from singularity.errors import FileError, SingularityError, UsageError

PERIOD = 100_000  # microseconds in which `--cpus` counts
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([bkmgtp]?)(?:i?b)?", re.IGNORECASE)
_WEIGHTS, _SHARES = range(10, 1001), range(2, 262145)  # what version 1 allows
_RATES = {"throttleReadBpsDevice": "rbps", "throttleWriteBpsDevice": "wbps"}
_RATES |= {"throttleReadIOPSDevice": "riops", "throttleWriteIOPSDevice": "wiops"}
_FILE = re.compile(r"[a-z_]+(\.[A-Za-z0-9_]+)+")  # of a control group

Files = dict[str, str]
"""What is written to which file of the group, several lines one by one."""


def from_options(given: Mapping[str, str | bool]) -> Files:
    """The limits that options ask for, by their identifiers. Raises UsageError, FileError and SingularityError."""
    asked = {name: str(value) for name, value in given.items() if value}
    path = asked.pop("apply_cgroups", "")
    if path:
        if asked:
            raise UsageError(
                f"--apply-cgroups and {_option(min(asked))}: one of the two", hint="write it into the file"
            )
        return from_file(Path(path))
    if "oom_kill_disable" in asked:
        raise UsageError("--oom-kill-disable: version 2 of control groups cannot do that", hint="give more --memory")
    found = _processors(asked)
    sizes = {name: size(name, asked[name]) for name in asked if name.startswith("memory")}
    found |= _memory(sizes.get("memory"), sizes.get("memory_reservation"), sizes.get("memory_swap"), "--memory-swap")
    if "pids_limit" in asked:
        found |= _processes(_whole("pids_limit", asked["pids_limit"], least=-1))
    if "blkio_weight" in asked:
        found |= _block_weight(_whole("blkio_weight", asked["blkio_weight"]), "--blkio-weight")
    for text in filter(None, asked.get("blkio_weight_device", "").split(",")):
        device, _, weight = text.rpartition(":")
        _add(found, "io.weight", f"{_device(device)} {_io_weight(_whole('blkio_weight_device', weight), text)}")
    return found


def _processors(asked: Mapping[str, str]) -> Files:
    found: Files = {}
    if "cpus" in asked:
        found |= _quota(_number("cpus", asked["cpus"]) * PERIOD, PERIOD, "--cpus")
    if "cpu_shares" in asked:
        found |= _weight_of_shares(_whole("cpu_shares", asked["cpu_shares"]), "--cpu-shares")
    for name, file in (("cpuset_cpus", "cpuset.cpus"), ("cpuset_mems", "cpuset.mems")):
        if name in asked:
            found[file] = _list(asked[name], _option(name))
    return found


def from_file(path: Path) -> Files:
    """The limits that a TOML file of OCI's resources asks for. Raises FileError and SingularityError."""
    try:
        read = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError.because(path, error) from error
    except ValueError as error:
        raise SingularityError(f"{path}: no TOML: {error}") from error
    known = {"cpu": _cpu, "memory": _file_memory, "pids": _file_pids, "blockIO": _block, "unified": _unified}
    found: Files = {}
    for name, table in read.items():
        if name not in known:
            raise SingularityError(f"{path}: [{name}] cannot be applied", hint=f"tables are {', '.join(known)}")
        if not isinstance(table, dict):
            raise SingularityError(f"{path}: {name} is no table")
        found |= known[name](_Table(path, name, table))
    return found


class _Table:
    """A table of a file: each key is taken once, and what nobody took is unknown."""

    def __init__(self, path: Path, name: str, values: Mapping[str, Any]) -> None:
        self.where = f"{path}: {name}"
        self.left = dict(values)

    def whole(self, key: str) -> int | None:
        value = self.left.pop(key, None)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            raise SingularityError(f"{self.where}.{key}: no whole number")
        return value

    def text(self, key: str) -> str:
        value = self.left.pop(key, "")
        if not isinstance(value, str):
            raise SingularityError(f"{self.where}.{key}: no text")
        return value

    def tables(self, key: str) -> "list[_Table]":
        value = self.left.pop(key, [])
        if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
            raise SingularityError(f"{self.where}.{key}: no tables")
        return [_Table(Path(self.where), key, each) for each in value]

    def end(self) -> None:
        if self.left:
            raise SingularityError(f"{self.where}.{min(self.left)}: cannot be applied")


def _cpu(table: _Table) -> Files:
    shares, quota, period = table.whole("shares"), table.whole("quota"), table.whole("period")
    found: Files = {}
    if shares:
        found |= _weight_of_shares(shares, f"{table.where}.shares")
    if quota is not None and quota > 0:
        found |= _quota(quota, period or PERIOD, f"{table.where}.quota")
    for key in ("cpus", "mems"):
        text = table.text(key)
        if text:
            found[f"cpuset.{key}"] = _list(text, f"{table.where}.{key}")
    idle = table.whole("idle")
    if idle is not None:
        found["cpu.idle"] = str(idle)
    table.end()
    return found


def _file_memory(table: _Table) -> Files:
    found = _memory(table.whole("limit"), table.whole("reservation"), table.whole("swap"), f"{table.where}.swap")
    if table.left.get("disableOOMKiller") is False:
        del table.left["disableOOMKiller"]
    table.end()
    return found


def _file_pids(table: _Table) -> Files:
    limit = table.whole("limit")
    table.end()
    return {} if limit is None else _processes(limit)


def _block(table: _Table) -> Files:
    weight = table.whole("weight")
    found = {} if weight is None else _block_weight(weight, f"{table.where}.weight")
    for each in table.tables("weightDevice"):
        value = each.whole("weight") or 0
        _add(found, "io.weight", f"{each.whole('major')}:{each.whole('minor')} {_io_weight(value, each.where)}")
        each.end()
    for key, name in _RATES.items():
        for each in table.tables(key):
            _add(found, "io.max", f"{each.whole('major')}:{each.whole('minor')} {name}={each.whole('rate')}")
            each.end()
    table.end()
    return found


def _unified(table: _Table) -> Files:
    found = {}
    for file in list(table.left):
        if not _FILE.fullmatch(file) or file.startswith("cgroup."):
            raise SingularityError(f"{table.where}: {file!r} is no file of limits")
        found[file] = table.text(file)
    return found


# ---- values ----


def _quota(quota: float, period: int, what: str) -> Files:
    if not 1000 <= quota <= 1 << 40:
        raise UsageError(f"{what}: out of range", hint="a hundredth of a processor is the least")
    return {"cpu.max": f"{round(quota)} {period}"}


def _weight_of_shares(shares: int, what: str) -> Files:
    if shares not in _SHARES:
        raise UsageError(f"{what}: {shares}: from {_SHARES[0]} to {_SHARES[-1]}, where 1024 is usual")
    return {"cpu.weight": str(1 + (shares - 2) * 9999 // 262142)}


def _memory(limit: int | None, low: int | None, both: int | None, what: str) -> Files:
    """The limit of memory and swap together, as Docker has it, is one of swap alone here."""
    found: Files = {}
    if limit:
        found["memory.max"] = "max" if limit < 0 else str(limit)
    if low:
        found["memory.low"] = "max" if low < 0 else str(low)
    if both:
        if both > 0 and (not limit or limit < 0 or both < limit):
            raise UsageError(f"{what}: memory and swap together", hint="with --memory, and no less than that")
        found["memory.swap.max"] = "max" if both < 0 else str(both - (limit or 0))
    return found


def _processes(limit: int) -> Files:
    return {} if limit == 0 else {"pids.max": "max" if limit < 0 else str(limit)}


def _block_weight(weight: int, what: str) -> Files:
    return {} if weight == 0 else {"io.weight": f"default {_io_weight(weight, what)}"}


def _io_weight(weight: int, what: str) -> int:
    if weight not in _WEIGHTS:
        raise UsageError(f"{what}: {weight}: from {_WEIGHTS[0]} to {_WEIGHTS[-1]}")
    return 1 + (weight - 10) * 9999 // 990


def _device(name: str) -> str:
    """The numbers of a block device, by its path or as they are."""
    if re.fullmatch(r"\d+:\d+", name):
        return name
    with FileError.about(name or "--blkio-weight-device"):
        status = Path(name).stat()
    if not stat.S_ISBLK(status.st_mode):
        raise UsageError(f"{name}: no block device")
    return f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"


def _list(text: str, what: str) -> str:
    """A list of numbers and ranges: `0-3,8`."""
    if not re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", text):
        raise UsageError(f"{what}: {text!r}", hint="numbers and ranges: 0-3,8")
    return text


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value <= 0:
        raise UsageError(f"{_option(name)}: {text!r} is no number above 0")
    return value


def _whole(name: str, text: str, *, least: int = 0) -> int:
    if not re.fullmatch(r"-?\d{1,18}", text) or int(text) < least:
        raise UsageError(f"{_option(name)}: {text!r} is no whole number from {least} on")
    return int(text)


def size(name: str, text: str) -> int:
    """Bytes, or with a unit: 100M, 1.5g; -1 is no limit."""
    if text == "-1" and name != "memory_reservation":
        return -1
    found = _SIZE.fullmatch(text)
    value = int(float(found[1]) * _UNITS[found[2].lower()]) if found else 0
    if not 0 < value < 1 << 62:
        raise UsageError(f"{_option(name)}: {text!r} is no size", hint="bytes, or 100M, 1.5G")
    return value


def _add(files: Files, name: str, line: str) -> None:
    files[name] = f"{files[name]}\n{line}" if name in files else line
