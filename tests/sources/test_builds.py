"""Builds from images of registries: the source word, and headers of definition files."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import ordinary_user
import pytest
from builders import Layout, layer
from test_pull import ARGV, listed, singularity
from test_transports import SIF_LAYER, answering, artifact

from singularity.image.identify import identify
from singularity.image.sif import format as sifs

if TYPE_CHECKING:
    from servers import Front, Registry

pytestmark = [pytest.mark.needs("busybox", "mksquashfs"), pytest.mark.usefixtures("no_proxy")]
CONTENT = {"Entrypoint": ["/bin/echo"], "Cmd": ["hello"], "Env": ["PATH=/bin"], "Labels": {"of": "the image"}}


@pytest.fixture(scope="module")
def layout(storage: Path) -> Path:
    made = Layout(storage / "built-from")
    busybox = Path("/bin/busybox").read_bytes()
    links = [(f"bin/{name}", "busybox") for name in ("sh", "echo", "cat", "touch", "test")]
    layers = [layer(("bin", None), ("bin/busybox", busybox), ("etc", None), ("etc/old", b"o"), ("tmp", None), *links)]
    layers.append(layer(("etc/.wh.old", b""), ("etc/new", b"n")))
    made.add(made.image(layers, config=CONTENT), "t")
    return made.path


@pytest.fixture(scope="module")
def image(plain_registry: Registry, layout: Path) -> str:
    plain_registry.fill(f"oci:{layout}:t", "building/box:9")
    return "building/box"


def defined(place: Path, *lines: str) -> Path:
    path = place / "x.def"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.needs("root")
@pytest.mark.parametrize(
    "header",
    [
        ["From: {host}/building/box:9"],
        ["Registry: http://{host}", "Namespace: building", "From: box:9"],
        ["Registry: {host}", "Namespace: building", "From: box:%{OSVERSION}", "OSVersion: 9", "Token: no"],
        ["From: docker://{host}/building/box:9", "IncludeCmd: yes"],
    ],
)
def test_a_header_names_an_image_that_sections_change(
    plain_registry: Registry, image: str, tmp_path: Path, header: list[str]
) -> None:
    assert image
    lines = [line.replace("{host}", plain_registry.host) for line in header]
    definition = defined(tmp_path, "Bootstrap: docker", *lines, "%post", "    test ! -e /etc/old", "    echo x >/made")
    options = [] if header[0].startswith("Registry: http:") else ["--no-https"]
    singularity_built(tmp_path, *options, "--sandbox", "box", definition)
    assert (tmp_path / "box/made").read_text() == "x\n"
    assert '"hello"' in (tmp_path / "box/.singularity.d/runscript").read_text()
    labels = json.loads((tmp_path / "box/.singularity.d/labels.json").read_text())
    assert labels["of"] == "the image"
    assert labels["org.opencontainers.image.base.name"] == f"{plain_registry.host}/building/box:9"
    assert labels["org.opencontainers.image.base.digest"].startswith("sha256:")
    assert labels["org.label-schema.usage.singularity.source"] == f"{plain_registry.host}/building/box"


def singularity_built(cwd: Path, *words: str | Path) -> str:
    done = subprocess.run(
        [*ARGV, "build", *map(str, words)], cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.needs("root")
def test_the_command_can_be_left_out(plain_registry: Registry, image: str, tmp_path: Path) -> None:
    name = f"{plain_registry.host}/{image}:9"
    singularity_built(tmp_path, "--no-https", "x.tar", defined(tmp_path, "Bootstrap: docker", f"From: {name}"))
    assert b'"hello"' in listed(tmp_path / "x.tar")[".singularity.d/runscript"]
    definition = defined(tmp_path, "Bootstrap: docker", f"From: {name}", "IncludeCmd: no")
    singularity_built(tmp_path, "--no-https", "--force", "x.tar", definition)
    assert b'"hello"' not in listed(tmp_path / "x.tar")[".singularity.d/runscript"]


def labels_of(path: Path) -> dict[str, str]:
    found = json.loads(listed(path)[".singularity.d/labels.json"])
    assert isinstance(found, dict)
    return found


def test_r_n6_an_image_says_what_it_was_asked_for_as_and_which_mirror_gave_it(
    plain_registry: Registry, image: str, tmp_path: Path
) -> None:
    """Also one that is made later of what is in the cache, when the mirror is not asked any more."""
    assert image
    conf = tmp_path / "registries.conf"
    conf.write_text(
        f'[[registry]]\nlocation = "reg.invalid"\n[[registry.mirror]]\nlocation = "{plain_registry.host}/building"\n'
        "insecure = true\n"
    )
    more = {"CONTAINERS_REGISTRIES_CONF": str(conf)}
    done = singularity("pull", "x.sif", "docker://reg.invalid/box:9", cwd=tmp_path, more=more)
    assert "INFO:    reg.invalid/box:9@sha256:" in done.stderr
    assert f": from {plain_registry.host}/building/box\n" in done.stderr
    labels = labels_of(tmp_path / "x.sif")
    assert labels["org.opencontainers.image.base.name"] == "reg.invalid/box:9"
    digest = labels["org.opencontainers.image.base.digest"]
    assert f"reg.invalid/box:9@{digest}: from" in done.stderr
    assert labels["org.label-schema.usage.singularity.source"] == f"{plain_registry.host}/building/box"
    singularity("cache", "clean", "--force", "--type", "oci-tmp", cwd=tmp_path)
    singularity("pull", "y.sif", f"docker://reg.invalid/box@{digest}", cwd=tmp_path)
    assert labels_of(tmp_path / "y.sif")["org.label-schema.usage.singularity.source"].endswith("/building/box")
    singularity("build", "z.sif", "y.sif", cwd=tmp_path)
    assert json.loads(listed(tmp_path / "z.sif")[".singularity.d/source.json"])["place"].endswith("/building/box")


@pytest.mark.needs("root")
def test_steps_come_from_the_cache_as_long_as_the_tag_means_the_same(
    front: Front, plain_registry: Registry, layout: Path, tmp_path: Path
) -> None:
    definition = defined(tmp_path, "Bootstrap: docker", f"From: {front.host}/building/moving:1", "%post", "    true")
    plain_registry.fill(f"oci:{layout}:t", "building/moving:1")
    words = ["--no-https", "--force", "x.tar", definition]
    assert "Using the cache" not in singularity_built(tmp_path, *words)
    assert "Using the cache: docker" in singularity_built(tmp_path, *words)
    other = Layout(tmp_path / "other")
    other.add(other.image([layer(("etc", None), ("etc/new", b"other"))], config=CONTENT), "t")
    plain_registry.fill(f"oci:{other.path}:t", "building/moving:1")
    definition.write_text(definition.read_text().replace("%post\n    true\n", ""))
    singularity_built(tmp_path, *words)
    assert listed(tmp_path / "x.tar")["etc/new"] == b"other"


@pytest.mark.needs("root", "userns")
def test_an_ordinary_user_makes_a_file_and_a_directory(plain_registry: Registry, image: str, storage: Path) -> None:
    place = storage / "built-by-a-user"
    place.mkdir()
    place.chmod(0o1777)
    name = f"docker://{plain_registry.host}/{image}:9"
    for words in (["build", "x.sif"], ["build", "--sandbox", "box"], ["pull", "--sandbox", "--name", "box2"]):
        argv = [sys.executable, ordinary_user.__file__, "--", "sh", "-c", 'cd "$0" && exec "$@"', place]
        environment = {
            **os.environ, "SINGULARITY_CACHEDIR": str(place / "cache"), "SINGULARITY_NOHTTPS": "1",
            "TMPDIR": str(place),
        }  # fmt: skip
        done = subprocess.run(
            [*argv, *ARGV, *words, name], env=environment, cwd="/", capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert listed(place / "x.sif")["etc/new"] == b"n"
    for box in ("box", "box2"):
        assert (place / box / "etc/new").read_text() == "n"
        assert not (place / box / "etc/old").exists()


@pytest.mark.needs("root")
def test_a_sif_file_of_a_registry_is_built_on(plain_registry: Registry, layout: Path, tmp_path: Path) -> None:
    singularity("build", "base.sif", f"oci:{layout}:t", cwd=tmp_path)
    artifact(plain_registry, "building/sif:1", ((tmp_path / "base.sif").read_bytes(), SIF_LAYER))
    name = f"{plain_registry.host}/building/sif:1"
    definition = defined(tmp_path, "Bootstrap: oras", f"From: {name}", "%post", "    echo x >/made")
    singularity_built(tmp_path, "--no-https", "x.tar", definition)
    found = listed(tmp_path / "x.tar")
    assert (found["etc/new"], found["made"]) == (b"n", b"x\n")
    labels = labels_of(tmp_path / "x.tar")
    assert labels["org.opencontainers.image.base.name"] == f"oras://{name}"
    content = hashlib.sha256((tmp_path / "base.sif").read_bytes()).hexdigest()
    assert labels["org.opencontainers.image.base.digest"] == f"sha256:{content}"
    singularity_built(tmp_path, "--no-https", "--force", "x.tar", f"oras://{name}")
    assert "made" not in listed(tmp_path / "x.tar")


@pytest.mark.needs("root", "gpg")
def test_fingerprints_of_a_sif_file_from_elsewhere(
    plain_registry: Registry, layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SINGULARITY_KEYSDIR", str(tmp_path / "keys"))
    words = ["--name", "A", "--email", "a@example.org", "--comment", "", "--password", "", "--bit-length", "2048"]
    made = subprocess.run([*ARGV, "key", "newpair", *words], check=True, capture_output=True, text=True).stdout
    fingerprint = made.split()[3]
    singularity("build", "--sign", "base.sif", f"oci:{layout}:t", cwd=tmp_path)
    data = (tmp_path / "base.sif").read_bytes()
    artifact(plain_registry, "building/signed:1", (data, SIF_LAYER))
    about = {"data": {"hash": f"sha256.{hashlib.sha256(data).hexdigest()}", "size": len(data)}}
    image = f"library/default/signed:1?arch={identify(tmp_path / 'base.sif').architecture}"
    answers = {f"/v1/images/{image}": (200, json.dumps(about).encode()), f"/v1/imagefile/{image}": (200, data)}
    with answering(answers) as (host, _):
        for header in (
            ["Bootstrap: oras", f"From: {plain_registry.host}/building/signed:1"],
            ["Bootstrap: library", "From: library/default/signed:1", f"Library: http://{host}"],
        ):
            definition = defined(tmp_path, *header, f"Fingerprints: {fingerprint}")
            said = singularity_built(tmp_path, "--no-https", "--force", "x.tar", definition)
            assert f"signed with {fingerprint}" in said
            assert listed(tmp_path / "x.tar")["etc/new"] == b"n"
            definition = defined(tmp_path, *header, f"Fingerprints: {'1' * 40}")
            done = singularity("build", "--no-https", "--force", "x.tar", definition, cwd=tmp_path, status=255)
            assert f"not signed with the key {'1' * 40}" in done.stderr


def test_the_image_for_the_machine_that_is_wanted_is_taken(plain_registry: Registry, tmp_path: Path) -> None:
    both = Layout(tmp_path / "both")
    images = {}
    for architecture in ("amd64", "arm64"):
        data = layer(("etc", None), ("etc/machine", architecture.encode()))
        images[architecture] = both.image([data], config={}, architecture=architecture)
    index = {
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [
            each.descriptor(platform={"os": "linux", "architecture": architecture})
            for architecture, each in images.items()
        ],
    }  # fmt: skip
    both.add(both.document("application/vnd.oci.image.index.v1+json", index), "t")
    plain_registry.fill(f"oci:{both.path}:t", "building/both:1", "--all")
    name = f"docker://{plain_registry.host}/building/both:1"
    for words, machine in (
        (["--arch", "arm64"], "arm64"),
        (["--platform", "linux/amd64"], "amd64"),
        (["--arch", "aarch64"], "arm64"),
    ):
        singularity("pull", "--no-https", "--force", *words, "x.sif", name, cwd=tmp_path)
        assert listed(tmp_path / "x.sif")["etc/machine"] == machine.encode()
        content = identify(tmp_path / "x.sif").content
        assert content is not None
        assert identify(tmp_path / "x.sif").architecture == machine
        assert isinstance(content, sifs.Sif)
    done = singularity("pull", "--no-https", "--arch", "s390x", "y.sif", name, cwd=tmp_path, status=255)
    assert "no image for linux/s390x" in done.stderr
    assert "linux/amd64, linux/arm64" in done.stderr
