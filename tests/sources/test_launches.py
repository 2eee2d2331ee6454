"""Launches of what a URI names, by the installed program: fetched and made once, whoever starts it how often."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import machine
import ordinary_user
import pytest
from builders import Layout, layer
from servers import Fault
from test_pull import damage

if TYPE_CHECKING:
    from servers import Front, Registry

pytestmark = [
    pytest.mark.needs("installation", "root", "busybox", "mksquashfs"),
    pytest.mark.usefixtures("no_proxy"),
]
USERS = {
    "root": ([], []),
    "setuid": ([sys.executable, ordinary_user.__file__, "--"], []),
    "user namespace": ([sys.executable, ordinary_user.__file__, "--"], ["--userns"]),
}
CONTENT = {"Entrypoint": ["/bin/echo", "to"], "Cmd": ["the world"], "Env": ["PATH=/bin", "GREETING=x$Y 'z'"]}


@pytest.fixture(scope="module")
def layout(storage: Path) -> Path:
    busybox = Path("/bin/busybox").read_bytes()
    made = Layout(storage / "launched")
    links = [(f"bin/{each}", "busybox") for each in ("sh", "echo", "cat", "id")]
    made.add(made.image([layer(("bin", None), ("bin/busybox", busybox)), layer(*links)], config=CONTENT), "t")
    return made.path


@pytest.fixture(scope="module")
def image(plain_registry: Registry, layout: Path) -> str:
    plain_registry.fill(f"oci:{layout}:t", "launching/tool:1")
    return "launching/tool:1"


@pytest.fixture
def cache(storage: Path) -> Path:
    """A directory that root and the ordinary user can each have a cache in."""
    place = Path(tempfile.mkdtemp(dir=storage))
    place.chmod(0o1777)
    return place


def argv(user: str, verb: str, *words: str | Path) -> list[str]:
    prefix, options = USERS[user]
    program = str((machine.prefix() or Path()) / "bin/singularity")
    return [*prefix, program, verb, *options, *map(str, words)]


def environment(cache: Path, user: str, **more: str) -> dict[str, str]:
    own = {"SINGULARITY_CACHEDIR": str(cache / user.replace(" ", "-")), "SINGULARITY_NOHTTPS": "1"}
    return {**os.environ, **own, **more}


def typed(
    cache: Path, user: str, verb: str, *words: str | Path, status: int = 0, **more: str
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        argv(user, verb, *words), cwd="/", env=environment(cache, user, **more), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    return done


@pytest.mark.parametrize("user", USERS)
def test_an_image_in_a_registry_runs_as_its_configuration_says(
    front: Front, image: str, cache: Path, user: str
) -> None:
    if user == "user namespace":
        machine.require("userns", "fuse")
    uri = f"docker://{front.host}/{image}"
    done = typed(cache, user, "run", uri)
    assert done.stdout == "to the world\n"
    assert all(line.startswith("INFO:    ") for line in done.stderr.splitlines())
    done = typed(cache, user, "run", uri, "a  b", "c")
    assert (done.stdout, done.stderr) == ("to a  b c\n", "")
    done = typed(cache, user, "exec", uri, "sh", "-c", 'echo "$GREETING|$SINGULARITY_NAME"')
    assert (done.stdout, done.stderr) == ("x$Y 'z'|tool_1.sif\n", "")
    assert front.count("/blobs/") == 3


def test_a_hundred_starts_at_once_fetch_it_once(front: Front, image: str, cache: Path) -> None:
    """Issue 4, 5, and B3."""
    front.faults.append(Fault(path="/blobs/", times=99, rate=2 << 20))
    uri = f"docker://{front.host}/{image}"
    user = "setuid" if machine.MISSING["setuid"] == "" else "root"
    prefix, program = USERS[user][0], (machine.prefix() or Path()) / "bin/singularity"
    script = f'for number in $(seq 100); do "{program}" run "{uri}" $number & done; wait'
    done = subprocess.run(
        [*prefix, "sh", "-c", script], cwd="/", env=environment(cache, "many"), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert "FATAL" not in done.stderr, done.stderr
    assert sorted(done.stdout.splitlines()) == sorted(f"to {number}" for number in range(1, 101))
    assert front.count("/blobs/", "GET") == 3
    assert done.stderr.count("Making an image") == 1


@pytest.mark.parametrize(("option", "more"), [(["--verify-cache"], {}), ([], {"SINGULARITY_VERIFY_CACHE": "1"})])
def test_r_f5_a_launch_reads_the_image_again_where_that_is_asked_for(
    front: Front, image: str, cache: Path, option: list[str], more: dict[str, str]
) -> None:
    uri = f"docker://{front.host}/{image}"
    typed(cache, "root", "run", uri)
    damage(next(cache.glob("root/cache/oci-tmp/*/image.sif")))
    done = typed(cache, "root", "run", *option, uri, **more)
    assert done.stdout == "to the world\n"
    assert "image.sif: damaged; it is not used any more" in done.stderr
    assert typed(cache, "root", "run", *option, uri, **more).stderr == ""


def test_without_a_cache_the_image_is_gone_when_the_program_ends(image: str, front: Front, cache: Path) -> None:
    uri = f"docker://{front.host}/{image}"
    (cache / "tmp").mkdir()
    done = typed(
        cache, "root", "exec", "--disable-cache", "--tmpdir", cache / "tmp", uri, "sh", "-c", "exit 7", status=7
    )
    assert done.stdout == ""
    assert sorted(each.name for each in cache.iterdir()) == ["tmp"]
    assert list((cache / "tmp").iterdir()) == []


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("docker://{host}/launching/tool:none", "manifest unknown"),
        ("docker://no-such-host.invalid/x", "dial tcp: lookup no-such-host.invalid: no such host"),
        ("https://{host}/x.sif", "FATAL: "),
        ("http://{host}/x.sif", "StatusCode: 404"),
    ],
)
def test_what_cannot_be_fetched_is_one_line_and_255(
    plain_registry: Registry, image: str, cache: Path, uri: str, said: str
) -> None:
    assert image
    done = typed(cache, "root", "exec", uri.format(host=plain_registry.host), "true", status=255)
    fatal = [line for line in done.stderr.splitlines() if line.startswith("FATAL:   ")]
    assert len(fatal) == 1
    assert said in fatal[0]


def test_options_before_the_image_are_obeyed_and_those_after_it_are_the_programs(
    plain_registry: Registry, image: str, cache: Path
) -> None:
    uri = f"docker://{plain_registry.host}/{image}"
    done = typed(cache, "root", "exec", "--no-https", uri, "echo", "--no-https", "--authfile", SINGULARITY_NOHTTPS="")
    assert done.stdout == "--no-https --authfile\n"
    done = typed(cache, "root", "exec", "--platform", "linux/arm64", uri, "true", status=255)
    assert "an image for amd64, not for arm64" in done.stderr
    done = typed(cache, "root", "exec", "--arch=arm64", uri, "true", status=255)
    assert "an image for amd64, not for arm64" in done.stderr
    done = typed(cache, "root", "exec", uri, "true", status=255, SINGULARITY_PULL_ARCH="arm64")
    assert "an image for amd64, not for arm64" in done.stderr


@pytest.mark.parametrize("form", ["oci:{layout}:t", "oci:{layout}", "oci-archive:{archive}", "docker-archive:{saved}"])
def test_images_in_files_run_too(layout: Path, cache: Path, storage: Path, form: str) -> None:
    archive, saved = storage / "launched.tar", storage / "saved.tar"
    if not archive.exists():
        subprocess.run(["tar", "-C", layout, "-cf", archive, "."], check=True)
        words = ["skopeo", "copy", "--quiet", "--insecure-policy", f"oci:{layout}:t", f"docker-archive:{saved}:tool:1"]
        subprocess.run(words, check=True)
    uri = form.format(layout=layout, archive=archive, saved=saved)
    assert typed(cache, "root", "run", uri).stdout == "to the world\n"
    done = typed(cache, "root", "run", uri, "again")
    assert (done.stdout, done.stderr) == ("to again\n", "")


def test_the_second_start_adds_little(plain_registry: Registry, image: str, cache: Path) -> None:
    """What a start of the URI takes more than one of the file; the bound is generous, since machines are busy."""
    uri = f"docker://{plain_registry.host}/{image}"
    typed(cache, "root", "run", uri)
    best = 9.0
    for _ in range(5):
        begun = time.monotonic()
        typed(cache, "root", "run", uri)
        best = min(best, time.monotonic() - begun)
    assert best < 1.5
