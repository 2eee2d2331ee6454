"""Profiles of system calls: which rules count here, and what is wrong with a profile."""

from __future__ import annotations

import errno
import json
import struct
from typing import TYPE_CHECKING, Any

import machine
import pytest

from singularity import seccomp
from singularity.errors import ImageError, ToolError

if TYPE_CHECKING:
    from pathlib import Path

HERE = seccomp.Surroundings(capabilities=frozenset({"CAP_KILL"}), machine="x86_64", kernel="6.1.0-9-amd64")
ALLOW = {"defaultAction": "SCMP_ACT_ALLOW"}


def rule(**more: Any) -> dict[str, Any]:
    return {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", **more}


@pytest.mark.parametrize(
    ("condition", "counts"),
    [
        ({}, True),
        ({"includes": {}}, True),
        ({"includes": {"caps": ["CAP_KILL"]}}, True),
        ({"includes": {"caps": ["CAP_KILL", "CAP_SYS_ADMIN"]}}, False),
        ({"excludes": {"caps": ["CAP_KILL", "CAP_SYS_ADMIN"]}}, False),
        ({"excludes": {"caps": ["CAP_SYS_ADMIN"]}}, True),
        ({"includes": {"arches": ["arm64"]}}, False),
        ({"includes": {"arches": ["arm64", "amd64"]}}, True),
        ({"excludes": {"arches": ["amd64"]}}, False),
        ({"includes": {"minKernel": "6.1"}}, True),
        ({"includes": {"minKernel": "6.2"}}, False),
        ({"includes": {"minKernel": "5.19"}}, True),
        ({"excludes": {"minKernel": "5.19"}}, False),
    ],
    ids=str,
)
def test_a_rule_counts_where_its_conditions_hold(condition: dict[str, Any], *, counts: bool) -> None:
    profile = seccomp.read({**ALLOW, "syscalls": [rule(**condition)]}, HERE)
    assert len(profile.rules) == (1 if counts else 0)


@pytest.mark.parametrize(
    ("given", "number"),
    [
        ({}, errno.EPERM),
        ({"errnoRet": 38}, 38),
        ({"errno": "EACCES"}, errno.EACCES),
        ({"errnoRet": None, "errno": "ENOSYS"}, errno.ENOSYS),
    ],
    ids=str,
)
def test_an_errno_is_a_number_or_a_name(given: dict[str, Any], number: int) -> None:
    assert seccomp.read({**ALLOW, "syscalls": [rule(**given)]}, HERE).rules[0].action == 0x50000 | number


def test_architectures_of_this_machine_are_taken() -> None:
    document = {
        **ALLOW,
        "architectures": ["SCMP_ARCH_X86"],
        "archMap": [
            {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X32"]},
        ],
    }
    assert [word for word, _ in seccomp.read(document, HERE).architectures] == ["x86", "x32"]


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ([], "an object is wanted"),
        ({}, "defaultAction: an action is missing"),
        ({"defaultAction": "SCMP_ACT_DENY"}, 'defaultAction: "SCMP_ACT_DENY" is no action'),
        ({"defaultAction": "SCMP_ACT_NOTIFY"}, "defaultAction: there is nobody here to be notified"),
        (
            {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": "x"},
            "defaultErrnoRet: a number from 0 to 4095 is wanted",
        ),
        ({**ALLOW, "syscall": []}, "syscall: unknown (did you mean syscalls?)"),
        ({**ALLOW, "syscalls": {}}, "syscalls: a list is wanted"),
        ({**ALLOW, "syscalls": [rule(names=[])]}, "syscalls[0].names: no system call is named"),
        ({**ALLOW, "syscalls": [rule(), rule(action=1)]}, "syscalls[1].action: an action is missing"),
        ({**ALLOW, "syscalls": [rule(errno="EWHAT")]}, 'syscalls[0].errno: "EWHAT" is no errno'),
        (
            {**ALLOW, "syscalls": [rule(args=[{"index": 6, "op": "SCMP_CMP_EQ"}])]},
            "syscalls[0].args[0].index: a number from 0 to 5",
        ),
        (
            {**ALLOW, "syscalls": [rule(args=[{"index": 0, "op": "=="}])]},
            'syscalls[0].args[0].op: "==" compares nothing',
        ),
        ({**ALLOW, "syscalls": [rule(includes={"cap": []})]}, "syscalls[0].includes.cap: unknown (did you mean caps?)"),
        (
            {**ALLOW, "syscalls": [rule(includes={"minKernel": "new"})]},
            'syscalls[0].includes.minKernel: "new" is no version',
        ),
        ({**ALLOW, "architectures": ["X86"]}, 'architectures[0]: "X86" is no architecture'),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_named_by_its_key(document: object, words: str) -> None:
    with pytest.raises(ImageError) as caught:
        seccomp.read(document, HERE)
    assert str(caught.value).startswith(words)


@pytest.fixture
def compiled(tmp_path: Path) -> object:
    machine.require("libseccomp")

    def compile_(document: object) -> bytes:
        path = tmp_path / "profile.json"
        path.write_text(json.dumps(document))
        return seccomp.compiled(path, seccomp.Surroundings(capabilities=frozenset()))

    return compile_


def returns(program: bytes) -> set[int]:
    """What a filter can answer: the constants of its last instructions (BPF_RET | BPF_K)."""
    return {k for code, _, _, k in struct.iter_unpack("<HBBI", program) if code == 0x06}


def test_a_filter_answers_what_the_profile_says(compiled: Any) -> None:
    program = compiled({**ALLOW, "syscalls": [rule(errnoRet=7), rule(names=["rmdir"], action="SCMP_ACT_KILL_PROCESS")]})
    assert len(program) % 8 == 0
    assert {0x50007, 0x80000000, 0x7FFF0000} <= returns(program)


def test_conditions_on_one_argument_are_alternatives(compiled: Any) -> None:
    """libseccomp itself refuses two of one."""
    args = [{"index": 0, "value": value, "op": "SCMP_CMP_EQ"} for value in (1, 2)]
    assert 0x50001 in returns(compiled({**ALLOW, "syscalls": [rule(args=args)]}))


def test_an_unknown_name_is_fatal_where_it_was_to_be_refused(compiled: Any) -> None:
    with pytest.raises(ImageError, match=r'syscalls\[0\]\.names: "mkdri" is no system call'):
        compiled({**ALLOW, "syscalls": [rule(names=["mkdri"])]})
    compiled({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule(names=["mkdri"], action="SCMP_ACT_ALLOW")]})


def test_an_architecture_that_libseccomp_has_not_is_named(compiled: Any) -> None:
    with pytest.raises(ImageError, match=r"architectures\[0\]: SCMP_ARCH_VAX is none"):
        compiled({**ALLOW, "architectures": ["SCMP_ARCH_VAX"]})


def test_without_libseccomp_its_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise OSError("cannot open shared object file")

    monkeypatch.setattr("ctypes.CDLL", missing)
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(ALLOW))
    with pytest.raises(ToolError, match="install libseccomp2"):
        seccomp.compiled(path, HERE)
