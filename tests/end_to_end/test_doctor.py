"""`singularity doctor` on machines that lack something: it is found, and what mends it is said."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import TYPE_CHECKING

import machine
import pytest
import syscalls
from images import tool

if TYPE_CHECKING:
    from launching import Launcher
    from servers import Certificates, Registry


pytestmark = pytest.mark.needs("unsanitized")  # whose programs are no static ones


def told(launch: Launcher, *words: str, status: int = 0, **changes: object) -> dict[str, tuple[str, str, str]]:
    """What was looked at: what was found, the verdict, and what mends it."""
    result = launch("doctor", "--json", *(words or ("--offline",)), **changes)  # type: ignore[arg-type]
    assert result.status == status, str(result)
    found = json.loads(result.stdout)
    assert found["fails"] is bool(status)
    return {each["what"]: (each["found"], each["verdict"], each["advice"]) for each in found["findings"]}


@pytest.mark.modes("suid", "userns", "root")
def test_where_all_is_there_everything_works(launch: Launcher) -> None:
    result = launch("doctor", "--offline").ok()
    assert result.lines[0].split() == ["WHAT", "FOUND", "NEEDED", "VERDICT"]
    assert result.lines[-1].startswith("Everything works")
    found = told(launch)
    launches = {what: each for what, each in found.items() if what.startswith("launch of")}
    assert len(launches) == 6
    assert {each[:2] for each in launches.values()} == {("works", "ok")}
    assert found["mksquashfs"][1] == "ok"
    assert [each for each in found.values() if each[1] == "warning" and not each[2]] == [], "no way out is said"


@pytest.mark.modes("suid")
def test_without_fuse_images_start_by_the_setuid_program_alone(launch: Launcher) -> None:
    found = told(launch, fuse=False)
    assert found["launch of a squashfs image"][:2] == ("works", "ok")
    _, verdict, advice = found["launch of a squashfs image, in a user namespace"]
    assert (verdict, bool(advice)) == ("warning", True)
    assert found["/dev/fuse"] == ("not for you", "warning", "sudo chmod a+rw /dev/fuse")


@pytest.mark.modes("suid")
def test_without_any_way_it_ends_with_1(launch: Launcher) -> None:
    closed = launch.configured("allow setuid = no\n")
    assert told(closed)["launch of a directory"][:2] == ("works", "ok")
    found = told(closed, status=1, user_namespaces=False)
    said, verdict, advice = found["launch of a directory"]
    assert verdict == "fails", found
    assert "user namespace" in said
    assert advice
    result = closed("doctor", "--offline", user_namespaces=False)
    assert result.status == 1
    assert " broken" in result.lines[-1]


@pytest.mark.modes("userns")
def test_subordinate_ids_that_are_missing_are_named(launch: Launcher, directory: Path) -> None:
    empty = directory / "subuid"
    empty.touch(mode=0o644)
    found = told(launch.showing(Path("/etc/subuid"), empty))
    said, verdict, advice = found["/etc/subuid"]
    assert (said, verdict) == ("nothing for alice", "warning")
    assert advice.startswith("sudo singularity config fakeroot --add alice")
    assert found["/etc/subgid"][1] == "ok"


@pytest.mark.modes("userns")
def test_a_full_disk_and_places_of_others_are_named(launch: Launcher, directory: Path) -> None:
    machine.require("root")
    small = directory / "small"
    small.mkdir(mode=0o777)
    tool("mount", "-t", "tmpfs", "-o", "size=32m,mode=1777,noexec", "tmpfs", small)
    try:
        result = launch("doctor", "--offline", env={"SINGULARITY_TMPDIR": str(small)})
        assert result.status == 0, str(result)
        assert "noexec" in result.out
        assert "name another with SINGULARITY_TMPDIR" in result.out
    finally:
        tool("umount", small)
    result = launch("doctor", "--offline", env={"SINGULARITY_CACHEDIR": "/etc"})
    assert result.status == 1, str(result)
    assert "/etc: not yours to write in" in " ".join(result.out.split())


@pytest.mark.modes("userns")
def test_a_registry_answers_or_the_way_out_is_said(
    launch: Launcher, tls_registry: Registry, certificates: Certificates
) -> None:
    host = tls_registry.host
    trusting = launch.with_env(SSL_CERT_FILE=str(certificates.authority))
    found = told(trusting, "--registry", host)
    assert found[f"registry {host}"][:2] == ("answers", "ok")
    assert found[f"clock beside {host}"][1] == "ok"
    said, verdict, advice = told(launch, "--registry", host)[f"registry {host}"]
    assert verdict == "warning"
    assert "certificate" in f"{said} {advice}"
    nobody = "127.0.0.1:9"
    assert told(launch, "--registry", nobody)[f"registry {nobody}"][1] == "warning"
    launch("doctor", "--registry", "a b").refused("is no registry")


@pytest.mark.modes("userns")
def test_a_clock_that_is_wrong_is_seen(launch: Launcher, tls_registry: Registry, certificates: Certificates) -> None:
    machine.require("faketime")
    trusting = launch.with_env(SSL_CERT_FILE=str(certificates.authority))
    argv = trusting.argv("doctor", "--json", "--registry", tls_registry.host)
    found = json.loads(trusting.command("faketime", "-f", "+1h", *argv).stdout)
    (said,) = [each for each in found["findings"] if each["what"].startswith("clock beside")]
    assert said["verdict"] == "warning"
    assert "s ahead" in said["found"]
    argv = trusting.argv("doctor", "--json", "--offline")
    result = trusting.command("faketime", "-f", "-3y", *argv)
    assert result.status == 1, str(result)


@pytest.mark.modes("userns")
def test_what_nobody_thought_of_is_told_in_the_launchers_words(launch: Launcher) -> None:
    found = told(launch.changed(refusals=(syscalls.Refusal("pivot_root", errno.EPERM),)), status=1)
    said, verdict, _ = found["launch of a directory, in a user namespace"]
    assert verdict == "fails"
    assert said.endswith("Operation not permitted")
