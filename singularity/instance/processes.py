"""Processes that are known for certain: a number alone can be another process's by the time that it is looked at."""

import os
from pathlib import Path

_BOOT = Path("/proc/sys/kernel/random/boot_id")


def here() -> str:
    """This start of the machine, and this PID namespace: what the numbers of processes hold for."""
    return f"{_BOOT.read_text().strip()} {os.stat('/proc/self/ns/pid').st_ino}"


def identity(process: int) -> str:
    """What no other process has, as `launcher/front/instance.c` writes it; empty: there is none, or it has ended."""
    fields = status_fields(process)
    return f"{here()} {fields[19]}" if fields and fields[0] not in ("Z", "X") else ""


def status_fields(process: int) -> list[str]:
    """What /proc/PID/stat has behind the name, from the state on; empty: there is no such process."""
    try:
        text = Path(f"/proc/{process}/stat").read_bytes().decode(errors="surrogateescape")
    except OSError:
        return []
    fields = text[text.rindex(")") + 1 :].split()
    return fields if len(fields) > 19 else []


def details(process: int) -> dict[str, list[str]]:
    """The lines of /proc/PID/status, by their names; empty: there is no such process."""
    try:
        lines = Path(f"/proc/{process}/status").read_bytes().decode(errors="surrogateescape").splitlines()
    except OSError:
        return {}
    return {name: value.split() for name, _, value in (line.partition(":") for line in lines)}


def is_first_of_container(process: int, uid: int) -> bool:
    """Whether it is the first process of a PID namespace below ours, and this user's."""
    found = details(process)
    numbers = found.get("NSpid", [])
    return len(numbers) > 1 and numbers[-1] == "1" and found.get("Uid", [""])[0] == str(uid)
