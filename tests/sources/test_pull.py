"""`singularity pull` as it is typed, against real registries and servers on loopback."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from builders import Layout, layer
from servers import Fault

from singularity.cli import pull, pulled, pulling
from singularity.image import contents
from singularity.image.identify import Format, identify

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from servers import Front, Registry

pytestmark = [pytest.mark.needs("mksquashfs"), pytest.mark.usefixtures("no_proxy")]
ARGV = [sys.executable, "-I", "-m", "singularity"]


def singularity(
    *words: str | Path, cwd: Path, status: int = 0, more: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **(more or {})}
    done = subprocess.run(
        [*ARGV, *map(str, words)],
        cwd=cwd, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    return done


def listed(path: Path) -> dict[str, bytes]:
    with contents.tree(identify(path)) as tree:
        return {entry.member.path.decode(): b"".join(entry.data or ()) for entry in tree}


DATA = random.Random(1).randbytes(5 << 20)  # noqa: S311


@pytest.fixture(scope="module")
def image(plain_registry: Registry, storage: Path) -> str:
    """The name of an image in the plain registry, without its host."""
    layout = Layout(storage / "pulled")
    layers = [layer(("etc", None), ("etc/greeting", b"hello\n")), layer(("data", DATA))]
    layout.add(layout.image(layers, config={"Cmd": ["/bin/cat", "/etc/greeting"], "Env": ["COLOUR=blue"]}), "t")
    plain_registry.fill(f"oci:{layout.path}:t", "pulling/greeting:1.0")
    return "pulling/greeting:1.0"


def test_an_image_becomes_a_sif_file_named_after_it(plain_registry: Registry, image: str, tmp_path: Path) -> None:
    done = singularity("pull", "--no-https", f"docker://{plain_registry.host}/{image}", cwd=tmp_path)
    path = tmp_path / "greeting_1.0.sif"
    assert identify(path).format is Format.SIF
    found = listed(path)
    assert found["etc/greeting"] == b"hello\n"
    assert found["data"] == DATA
    assert b"COLOUR" in found[".singularity.d/env/10-docker2singularity.sh"]
    assert all(line.startswith("INFO:    ") for line in done.stderr.splitlines())
    assert [each.name for each in tmp_path.iterdir() if not each.name.startswith("home")] == [path.name]
    assert path.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["--name", "x.sif"], "x.sif"),
        (["own:name@1.simg"], "own:name@1.simg"),
        (["--dir", "there"], "there/greeting_1.0.sif"),
        (["--dir", "there", "x"], "there/x"),
        (["--dir", "new/below"], "new/below/greeting_1.0.sif"),
        (["--name", "x", "x"], "x"),
    ],
)
def test_the_file_goes_where_it_is_said(
    plain_registry: Registry, image: str, tmp_path: Path, words: list[str], name: str
) -> None:
    (tmp_path / "there").mkdir()
    singularity("pull", "--no-https", *words, f"docker://{plain_registry.host}/{image}", cwd=tmp_path)
    assert identify(tmp_path / name).format is Format.SIF


def test_a_directory_that_was_made_for_nothing_is_gone_again(
    plain_registry: Registry, image: str, tmp_path: Path
) -> None:
    (tmp_path / "there").mkdir()
    words = ["--no-https", "--dir", "there/new/below", f"docker://{plain_registry.host}/{image}0"]
    singularity("pull", *words, cwd=tmp_path, status=255)
    assert list((tmp_path / "there").iterdir()) == []
    (tmp_path / "file").write_text("")
    done = singularity("pull", "--no-https", "--dir", "file", words[-1], cwd=tmp_path, status=255)
    assert done.stderr == "FATAL:   file: no directory (name another with --dir)\n"


@pytest.mark.needs("root")
def test_where_no_file_can_be_made_nothing_is_fetched(front: Front, image: str, tmp_path: Path) -> None:
    place = tmp_path / "full"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", place], check=True)
    try:
        for words in (["-F", "--dir", "full"], ["full/x.sif"], ["--dir", "full/new"], ["--sandbox", "full/x"]):
            uri = f"docker://{front.host}/{image}"
            done = singularity("pull", "--no-https", *words, uri, cwd=tmp_path, status=255)
            assert done.stderr.endswith("Read-only file system\n")
            assert done.stderr.count("\n") == 1
    finally:
        subprocess.run(["umount", place], check=True)
    assert front.asked == []


def test_a_terminal_sees_how_far_a_pull_is(front: Front, image: str, tmp_path: Path) -> None:
    """While layers come, and while an image is made of them."""
    front.faults.append(Fault(path="/blobs/", times=99, rate=3 << 20))
    spawn = [sys.executable, "-c", "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)"]
    words = ["pull", "--no-https", f"docker://{front.host}/{image}"]
    done = subprocess.run(
        [*spawn, *ARGV, *words],
        cwd=tmp_path, env={**os.environ, "TERM": "xterm"}, stdin=subprocess.DEVNULL, capture_output=True, check=True,
    )  # fmt: skip
    shown = done.stdout.decode().split("\r\x1b[K")
    assert any(re.fullmatch(r"fetching \d+ %, \d of 5 MiB.*", each) for each in shown)
    assert any(re.fullmatch(r"packing \d+ %, \d of 5 MiB.*", each) for each in shown)
    assert shown[-1].endswith("\r\nINFO:    Image: greeting_1.0.sif, 5.0 MiB\r\n")


def test_a_layer_that_comes_damaged_is_fetched_once_more(front: Front, image: str, tmp_path: Path) -> None:
    front.faults.append(Fault(path="/blobs/", times=1, change=lambda data: data[:-1] + b"!"))
    done = singularity("pull", "--no-https", f"docker://{front.host}/{image}", cwd=tmp_path)
    (warning,) = [line for line in done.stderr.splitlines() if not line.startswith("INFO:")]
    assert warning.startswith("WARNING: ")
    assert warning.endswith(": it is fetched again")
    assert listed(tmp_path / "greeting_1.0.sif")["data"] == DATA
    assert front.count("/blobs/") == 4


def test_variables_say_the_same_as_options(plain_registry: Registry, image: str, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    more = {"SINGULARITY_NOHTTPS": "1", "SINGULARITY_PULLFOLDER": "there", "APPTAINER_PULL_NAME": "x.sif"}
    singularity("pull", f"docker://{plain_registry.host}/{image}", cwd=tmp_path, more=more)
    assert (tmp_path / "there/x.sif").exists()
    empty = {"SINGULARITY_NOHTTPS": "1", "SINGULARITY_PULLFOLDER": ""}
    singularity("pull", f"docker://{plain_registry.host}/{image}", cwd=tmp_path, more=empty)
    assert (tmp_path / "greeting_1.0.sif").exists()


@pytest.mark.parametrize("way", ["pull", "build --sandbox"])
def test_layers_of_no_bytes_and_without_an_end_are_pulled(
    plain_registry: Registry, storage: Path, tmp_path: Path, way: str
) -> None:
    """As `umoci insert` makes them, and names of 99 bytes among them: in a registry the blobs have digests."""
    name = "n" * 97
    data = layer(("d", None), (f"d/{name}", b"long"), ("etc/end", b"no padding"))
    layout = Layout(storage / f"odd-{way.split()[0]}")
    stack = [layer(("a", b"1")), b"", data[: data.rindex(b"padding") + 7]]
    layout.add(layout.image(stack), "t")
    reference = f"odd/{way.split()[0]}:1"
    plain_registry.fill(f"oci:{layout.path}:t", reference, "--preserve-digests")
    uri = f"docker://{plain_registry.host}/{reference}"
    if way == "build --sandbox":
        singularity("build", "--no-https", "--sandbox", "x", uri, cwd=tmp_path)
        assert (tmp_path / "x/d" / name).read_bytes() == b"long"
        assert (tmp_path / "x/etc/end").read_bytes() == b"no padding"
        return
    singularity("pull", "--no-https", "x.sif", uri, cwd=tmp_path)
    found = listed(tmp_path / "x.sif")
    assert found[f"d/{name}"] == b"long"
    assert found["etc/end"] == b"no padding"


def test_a_definition_file_is_not_replaced_even_by_force(front: Front, image: str, tmp_path: Path) -> None:
    (tmp_path / "x.def").write_text("BootStrap: scratch\n")
    words = ["pull", "--no-https", "--force", "x.def", f"docker://{front.host}/{image}"]
    done = singularity(*words, cwd=tmp_path, status=1)
    assert done.stderr == "ERROR:   x.def: a definition file is never replaced (name another file)\n"
    assert (tmp_path / "x.def").read_text() == "BootStrap: scratch\n"
    assert front.asked == []


def test_a_file_is_replaced_only_by_force(front: Front, image: str, tmp_path: Path) -> None:
    path = tmp_path / "greeting_1.0.sif"
    path.write_text("mine")
    words = ["pull", "--no-https", f"docker://{front.host}/{image}"]
    done = singularity(*words, cwd=tmp_path, status=255)
    assert done.stderr.startswith('FATAL:   Image file already exists: "greeting_1.0.sif" - will not overwrite')
    assert path.read_text() == "mine"
    assert front.asked == []
    singularity(*words[:1], "--force", *words[1:], cwd=tmp_path)
    singularity(*words[:1], "-F", *words[1:], cwd=tmp_path)
    assert identify(path).format is Format.SIF
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["greeting"], "FATAL:   No transport type URI supplied"),
        (["dockr://greeting"], 'unknown transport "dockr" (did you mean docker://greeting?)'),
        (["gopher://greeting"], 'unknown transport "gopher" (known are docker, '),
        (["docker://{host}/pulling/greeting:none"], "manifest unknown"),
        (["docker://{host}/pulling/greeting@sha256:" + "0" * 64], "manifest unknown"),
        (["docker://no-such-host.invalid/x"], "dial tcp: lookup no-such-host.invalid: no such host"),
        (["oras://{host}/pulling/greeting:1.0"], "ORAS SIF image should have a single layer"),
        (["docker://"], "names no image"),
        (["docker://UPPER/x y"], "FATAL:   "),
    ],
)
def test_what_cannot_be_pulled_is_told_in_the_words_that_programs_look_for(
    plain_registry: Registry, image: str, tmp_path: Path, words: list[str], said: str
) -> None:
    assert image
    words = [each.replace("{host}", plain_registry.host) for each in words]
    done = singularity("pull", "--no-https", "--name", "x.sif", *words, cwd=tmp_path, status=255)
    fatal = [line for line in done.stderr.splitlines() if line.startswith("FATAL: ")]
    assert len(fatal) == 1
    assert said in fatal[0]
    assert not (tmp_path / "x.sif").exists()


def test_no_word_and_too_many_are_wrong_usage(tmp_path: Path) -> None:
    assert "URI is missing" in singularity("pull", cwd=tmp_path, status=1).stderr
    assert "3 words" in singularity("pull", "a", "b", "docker://c", cwd=tmp_path, status=1).stderr
    words = ["--name", "a", "b", "docker://c"]
    assert "--name says a" in singularity("pull", *words, cwd=tmp_path, status=1).stderr
    words = ["--arch", "arm64", "--platform", "linux/arm64", "docker://c"]
    assert "say the same" in singularity("pull", *words, cwd=tmp_path, status=1).stderr


def test_what_is_in_the_cache_is_not_fetched_again(front: Front, image: str, tmp_path: Path) -> None:
    """Issue 4, 5: a tag costs one HEAD, a digest nothing."""
    words = ["pull", "--no-https", "--force", f"docker://{front.host}/{image}"]
    singularity(*words, cwd=tmp_path)
    first = len(front.asked)
    assert front.count("/blobs/") == 3
    said = singularity(*words, cwd=tmp_path).stderr
    assert re.fullmatch(r"INFO:    Digest: sha256:[0-9a-f]{64}\nINFO:    Image: greeting_1.0.sif, 5.0 MiB\n", said)
    new = front.asked[first:]
    assert {each.method for each in new} == {"HEAD"}
    assert [each.path for each in new if "/manifests/" in each.path] == ["/v2/pulling/greeting/manifests/1.0"]
    assert singularity("-q", *words, cwd=tmp_path).stderr == ""
    index = json.loads((Path(os.environ["SINGULARITY_CACHEDIR"]) / "cache/blob/index.json").read_text())
    digest = index["manifests"][0]["digest"]
    before = len(front.asked)
    singularity("pull", "y.sif", f"docker://{front.host}/pulling/greeting@{digest}", cwd=tmp_path)
    assert len(front.asked) == before
    assert (tmp_path / "y.sif").read_bytes() == (tmp_path / "greeting_1.0.sif").read_bytes()
    argv = [*ARGV[:-2], "-X", "importtime", *ARGV[-2:], "pull", "z.sif"]
    argv.append(f"docker://{front.host}/pulling/greeting@{digest}")
    said = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=True).stderr
    imported = {line.rpartition("|")[2].strip() for line in said.splitlines()}
    assert "singularity.registry.reference" in imported
    not_needed = {"socket", "ssl", "json", "subprocess", "singularity.content.document", "singularity.image.metadata"}
    assert not not_needed & imported


def test_two_files_of_one_image_are_changed_one_by_one(front: Front, image: str, tmp_path: Path) -> None:
    """The first is a name of the cache's own file, which costs nothing; the second a copy, and so is the third."""
    uri = f"docker://{front.host}/{image}"
    singularity("pull", "--no-https", "x.sif", uri, cwd=tmp_path)
    cached = next(Path(os.environ["SINGULARITY_CACHEDIR"]).rglob("image.sif"))
    assert (tmp_path / "x.sif").samefile(cached)
    singularity("pull", "--no-https", "--force", "x.sif", uri, cwd=tmp_path)
    assert (tmp_path / "x.sif").samefile(cached)
    singularity("pull", "--no-https", "y.sif", uri, cwd=tmp_path)
    before = (tmp_path / "y.sif").read_bytes()
    with (tmp_path / "x.sif").open("r+b") as file:
        file.write(b"changed")
    assert (tmp_path / "y.sif").read_bytes() == before
    (tmp_path / "x.sif").unlink()
    singularity("pull", "--no-https", "z.sif", uri, cwd=tmp_path)
    assert (tmp_path / "z.sif").read_bytes()[:7] != b"changed"


def test_a_file_that_is_changed_afterwards_does_not_change_the_cache(front: Front, image: str, tmp_path: Path) -> None:
    """F5: what is not as it was made is never used."""
    words = ["pull", "--no-https", "--force", "x.sif", f"docker://{front.host}/{image}"]
    singularity(*words, cwd=tmp_path)
    with (tmp_path / "x.sif").open("r+b") as file:
        file.seek(-10, os.SEEK_END)
        file.write(b"0123456789")
    blobs = front.count("/blobs/")
    singularity(*words, cwd=tmp_path)
    assert listed(tmp_path / "x.sif")["etc/greeting"] == b"hello\n"
    assert front.count("/blobs/") == blobs


def test_a_damaged_layer_in_the_cache_is_fetched_again(front: Front, image: str, tmp_path: Path) -> None:
    words = ["pull", "--no-https", "x.sif", f"docker://{front.host}/{image}"]
    singularity(*words, cwd=tmp_path)
    cache = Path(os.environ["SINGULARITY_CACHEDIR"]) / "cache"
    largest = max((cache / "blob/blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    largest.write_bytes(data)
    singularity("cache", "clean", "--force", "--type", "oci-tmp,packed", cwd=tmp_path)
    (tmp_path / "x.sif").unlink()
    done = singularity(*words, cwd=tmp_path)
    assert "was damaged: it is fetched again" in done.stderr
    assert listed(tmp_path / "x.sif")["data"] == DATA


def damage(path: Path) -> None:
    """A bit is another one, and nothing but the content shows it."""
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    with path.open("r+b") as file:
        middle = path.stat().st_size // 2
        file.seek(middle)
        byte = file.read(1)[0]
        file.seek(middle)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=times)


@pytest.mark.parametrize("option", [["--verify-cache"], []])
def test_r_f5_what_is_cached_is_read_again_where_that_is_asked_for(
    front: Front, image: str, tmp_path: Path, option: list[str]
) -> None:
    """The image; then, when it is made anew, the layers."""
    uri, more = f"docker://{front.host}/{image}", {} if option else {"APPTAINER_VERIFY_CACHE": "1"}
    cache = Path(os.environ["SINGULARITY_CACHEDIR"]) / "cache"

    def pulled(*words: str) -> str:
        return singularity("pull", "--no-https", *words, uri, cwd=tmp_path, more=more).stderr

    singularity("pull", "--no-https", "x.sif", uri, cwd=tmp_path)
    before = (tmp_path / "x.sif").read_bytes()
    assert pulled("y.sif", *option).splitlines()[1:] == ["INFO:    Image: y.sif, 5.0 MiB"]
    damage(next(cache.glob("oci-tmp/*/image.sif")))
    assert singularity("pull", "--no-https", "z.sif", uri, cwd=tmp_path).stderr.count("\n") == 2, "nobody has asked"
    assert (tmp_path / "z.sif").read_bytes() != before
    damage(max((cache / "blob/blobs/sha256").iterdir(), key=lambda path: path.stat().st_size))
    done = singularity("pull", "--no-https", "--force", *option, "z.sif", uri, cwd=tmp_path, more=more)
    warnings = [line for line in done.stderr.splitlines() if line.startswith("WARNING:")]
    assert len(warnings) == 2
    assert "image.sif: damaged; it is not used any more" in warnings[0]
    assert warnings[1].endswith("damaged layers in the cache: 1, fetched again")
    assert listed(tmp_path / "z.sif")["data"] == DATA
    assert front.count("/blobs/") == 4
    assert pulled("v.sif", *option).splitlines()[1:] == ["INFO:    Image: v.sif, 5.0 MiB"]


def test_without_a_cache_nothing_is_left_but_the_file(front: Front, image: str, tmp_path: Path) -> None:
    words = ["pull", "--no-https", "--disable-cache", f"docker://{front.host}/{image}"]
    more = {"TMPDIR": str(tmp_path / "tmp")}
    (tmp_path / "tmp").mkdir()
    singularity(*words, cwd=tmp_path, more=more)
    assert listed(tmp_path / "greeting_1.0.sif")["etc/greeting"] == b"hello\n"
    assert not Path(os.environ["SINGULARITY_CACHEDIR"]).exists()
    assert list((tmp_path / "tmp").iterdir()) == []
    assert len([each for each in tmp_path.iterdir() if each.name.startswith("singularity")]) == 0


@pytest.mark.parametrize("change", [lambda data: data[:-1] + b"!", lambda data: data + b"!"])
def test_a_lie_about_a_digest_is_noticed(front: Front, image: str, tmp_path: Path, change: object) -> None:
    """N2."""
    front.faults.append(Fault(path="/blobs/", times=99, change=change))  # type: ignore[arg-type]
    done = singularity("pull", "--no-https", f"docker://{front.host}/{image}", cwd=tmp_path, status=255)
    assert done.stderr.splitlines()[-1].startswith("FATAL:   ")
    assert list((Path(os.environ["SINGULARITY_CACHEDIR"]) / "cache/blob/partial").iterdir()) == []
    assert not (tmp_path / "greeting_1.0.sif").exists()


def test_an_interrupted_pull_goes_on_where_it_was(front: Front, image: str, tmp_path: Path) -> None:
    """B1, and issue 4, 5: kill -9 in the middle of a layer."""
    front.faults.append(Fault(path="/blobs/", times=99, rate=2 << 20))
    words = ["pull", "--no-https", f"docker://{front.host}/{image}"]
    process = subprocess.Popen([*ARGV, *words], cwd=tmp_path, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    partial = Path(os.environ["SINGULARITY_CACHEDIR"]) / "cache/blob/partial"

    def parts() -> list[int]:
        return [each.stat().st_size for each in partial.iterdir()] if partial.exists() else []

    end = time.monotonic() + 30
    while time.monotonic() < end and not any(size > 1 << 20 for size in parts()):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    left = max(parts())
    front.faults.clear()
    before = len(front.asked)
    singularity(*words, cwd=tmp_path)
    ranges = [each.headers["range"] for each in front.asked[before:] if "range" in each.headers]
    assert ranges == [f"bytes={left}-"]
    assert left > 1 << 20
    assert listed(tmp_path / "greeting_1.0.sif")["data"] == DATA


def test_offline_what_a_tag_meant_last_is_used_when_that_is_asked_for(
    plain_registry: Registry, image: str, tmp_path: Path
) -> None:
    from servers import front as fronted

    with fronted(plain_registry.host) as server:
        words = ["pull", "--no-https", "--force", f"docker://{server.host}/{image}"]
        singularity(*words, cwd=tmp_path)
    done = singularity(*words, cwd=tmp_path, status=255)
    assert "--offline uses the image in the cache" in done.stderr
    for more, options in (({}, ["--offline"]), ({"SINGULARITY_OFFLINE": "yes"}, [])):
        (tmp_path / "greeting_1.0.sif").unlink()
        done = singularity(*words[:1], *options, *words[1:], cwd=tmp_path, more=more)
        warnings = [line for line in done.stderr.splitlines() if line.startswith("WARNING: ")]
        assert len(warnings) == 1
        assert "meant when it was fetched last" in warnings[0]
        assert listed(tmp_path / "greeting_1.0.sif")["etc/greeting"] == b"hello\n"
    other = [*words[:-1], "--offline", words[-1].replace("1.0", "2.0")]
    singularity(*other, cwd=tmp_path, status=255)


def test_a_tag_that_shares_layers_fetches_what_is_new(
    front: Front, plain_registry: Registry, image: str, tmp_path: Path
) -> None:
    """Issue 4, Speed."""
    layout = Layout(tmp_path / "more")
    layers = [layer(("etc", None), ("etc/greeting", b"hello\n")), layer(("data", DATA)), layer(("etc/new", b"new"))]
    layout.add(layout.image(layers, config={}), "t")
    plain_registry.fill(f"oci:{layout.path}:t", "pulling/greeting:2.0")
    singularity("pull", "--no-https", f"docker://{front.host}/{image}", cwd=tmp_path)
    before = len(front.asked)
    done = singularity("pull", "--no-https", f"docker://{front.host}/pulling/greeting:2.0", cwd=tmp_path)
    assert sum("/blobs/" in each.path for each in front.asked[before:]) == 2  # the layer, and the configuration
    assert "1 of 3 layers" in done.stderr
    assert listed(tmp_path / "greeting_2.0.sif")["etc/new"] == b"new"


@pytest.mark.needs("packer")
def test_layers_that_are_packed_are_neither_fetched_nor_packed_again(
    front: Front, plain_registry: Registry, image: str, tmp_path: Path
) -> None:
    """Whatever has become of their blobs; and one that a disk has damaged is packed again."""
    layout = Layout(tmp_path / "more")
    layers = [
        layer(("etc", None), ("etc/greeting", b"hello\n")),
        layer(("data", DATA)),
        layer(("etc/.wh.greeting", b"")),
    ]
    layout.add(layout.image(layers, config={}), "t")
    plain_registry.fill(f"oci:{layout.path}:t", "pulling/greeting:3.0")
    singularity("pull", "--no-https", f"docker://{front.host}/{image}", cwd=tmp_path)
    cache = Path(os.environ["SINGULARITY_CACHEDIR"]) / "cache"
    packed = {path: path.stat().st_ino for path in (cache / "packed").iterdir()}
    assert len(packed) == 2
    singularity("cache", "clean", "--force", "--type", "blob", cwd=tmp_path)
    before = len(front.asked)
    words = ["pull", "--no-https", "--force", "3.sif", f"docker://{front.host}/pulling/greeting:3.0"]
    singularity(*words, cwd=tmp_path)
    assert sum("/blobs/" in each.path for each in front.asked[before:]) == 2  # the layer, and the configuration
    assert listed(tmp_path / "3.sif")["data"] == DATA
    assert "etc/greeting" not in listed(tmp_path / "3.sif")
    assert {path: path.stat().st_ino for path in packed} == packed
    damage(max(packed, key=lambda path: path.stat().st_size))
    singularity("cache", "clean", "--force", "--type", "oci-tmp", cwd=tmp_path)
    done = singularity(*words, cwd=tmp_path)
    assert "damaged: its layers are packed again" in done.stderr
    assert listed(tmp_path / "3.sif")["data"] == DATA


@pytest.mark.needs("packer")
def test_a_pull_that_is_killed_leaves_no_half_of_a_layer(plain_registry: Registry, image: str, tmp_path: Path) -> None:
    """Whenever that is; and the next one comes to its end."""
    uri = f"docker://{plain_registry.host}/{image}"
    cache = Path(os.environ["SINGULARITY_CACHEDIR"]) / "cache"
    for delay in (0.2, 0.3, 0.4, 0.5, 0.6, 0.8):
        argv = [*ARGV, "-q", "pull", "--no-https", "--force", "x.sif", uri]
        with subprocess.Popen(argv, cwd=tmp_path, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            time.sleep(delay)
            process.kill()
        assert not list(tmp_path.glob("*.sif")) or listed(tmp_path / "x.sif")["data"] == DATA
        (tmp_path / "x.sif").unlink(missing_ok=True)
    singularity("pull", "--no-https", "x.sif", uri, cwd=tmp_path)
    assert listed(tmp_path / "x.sif")["data"] == DATA
    assert [path.name for path in (cache / "packed").iterdir() if path.suffix == ".new"] == []


@pytest.mark.needs("packer")
def test_pulls_at_once_pack_a_layer_once(plain_registry: Registry, image: str, tmp_path: Path) -> None:
    uri = f"docker://{plain_registry.host}/{image}"
    argv = [*ARGV, "--debug", "pull", "--no-https"]
    some = [
        subprocess.Popen([*argv, f"{n}.sif", uri], cwd=tmp_path, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for n in range(4)
    ]
    said = b"".join(each.communicate()[1] for each in some)
    assert said.count(b"singularity-pack layer") == 2
    assert all(listed(tmp_path / f"{n}.sif")["data"] == DATA for n in range(4))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_pull_at_once(front: Front, image: str, tmp_path: Path, number: int) -> None:
    """B1: whatever a server does, within two seconds, and nothing but the cache is left."""
    front.faults.append(Fault(path="/blobs/", times=99, stall_at=100, stall=11))
    words = ["pull", "--no-https", "--disable-cache", f"docker://{front.host}/{image}"]
    (tmp_path / "tmp").mkdir()
    process = subprocess.Popen(
        [*ARGV, *words], cwd=tmp_path, env={**os.environ, "TMPDIR": str(tmp_path / "tmp")},
        stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    end = time.monotonic() + 30
    while time.monotonic() < end and front.count("/blobs/") < 2:
        time.sleep(0.05)
    time.sleep(0.3)
    sent = time.monotonic()
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - sent < 10  # two seconds, on a machine with nothing else to do
    assert process.returncode == 128 + number
    assert f"Stopped by {signal.Signals(number).name}" in err
    assert list((tmp_path / "tmp").iterdir()) == []
    assert not any(each.name.startswith((".", "greeting")) for each in tmp_path.iterdir())


def test_a_cache_that_cannot_be_is_done_without(front: Front, image: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    more = {"SINGULARITY_CACHEDIR": str(tmp_path / "file")}
    done = singularity("pull", "--no-https", f"docker://{front.host}/{image}", cwd=tmp_path, more=more)
    assert "what is fetched is not kept" in done.stderr
    assert listed(tmp_path / "greeting_1.0.sif")["etc/greeting"] == b"hello\n"


def asked_by(monkeypatch: pytest.MonkeyPatch, call: Callable[[], object]) -> list[tuple[object, ...]]:
    """What `pulling.pull` is called with."""
    asked: list[tuple[object, ...]] = []

    def noted(*words: object, **more: object) -> None:
        asked.append((*words, sorted(more.items())))

    monkeypatch.setattr(pulling, "pull", noted)
    call()
    return asked


@pytest.mark.parametrize(
    "words",
    [
        ("oci:a",),
        ("x", "oci:a"),
        ("--force", "x", "oci:a"),
        ("--no-https", "oci:a", "-F"),
        ("--nohttps", "oci:a", "b:"),
    ],
)
def test_the_short_way_means_what_the_long_one_does(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    short = asked_by(monkeypatch, lambda: pulled.plain(words))
    assert short == asked_by(monkeypatch, lambda: pull.command.main([*words], standalone_mode=False))
    assert len(short) == 1
    variables = {each for param in pull.command.params for each in param.envvar or ()}
    assert {each.partition("_")[2] for each in variables} == set(pulled.VARIABLES)
    for name in variables:
        with monkeypatch.context() as patch:
            patch.setenv(name, "1")
            assert asked_by(patch, lambda: pulled.plain(words)) == []


@pytest.mark.parametrize("words", [(), ("help",), ("--name", "x", "a:"), ("--help",), ("--", "a:"), ("-Fq", "a:")])
def test_what_is_unusual_about_a_pull_takes_the_long_way(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert asked_by(monkeypatch, lambda: pulled.plain(words)) == []
