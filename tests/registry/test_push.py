"""`push` into real registries, and what other programs, and this one, get out of them again."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import machine
import ordinary_user
import pytest
import servers
from builders import described
from builders import run as run_tool
from images import Partition, write, write_sif
from servers import Fault

if TYPE_CHECKING:
    from servers import Certificates, Front, Registry

pytestmark = [pytest.mark.usefixtures("no_proxy"), pytest.mark.needs("busybox", "mksquashfs", "skopeo", "umoci")]
SIF_CONFIG = "application/vnd.sylabs.sif.config.v1+json"
SIF_LAYER = "application/vnd.sylabs.sif.layer.v1.sif"


def push(*words: str | Path, cwd: Path, user: bool = False, **more: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-I", "-m", "singularity", "push", *map(str, words)]
    if user:
        argv = [sys.executable, ordinary_user.__file__, "--", "sh", "-c", f'cd {cwd} && exec "$@"', "sh", *argv]
    (cwd / "tmp").mkdir(exist_ok=True)
    (cwd / "tmp").chmod(0o777)
    environment = {**os.environ, "TMPDIR": str(cwd / "tmp"), **more}
    where = "/" if user else cwd
    return subprocess.run(argv, cwd=where, env=environment, capture_output=True, text=True, check=False, timeout=120)


def pushed(*words: str | Path, cwd: Path, user: bool = False, **more: str) -> str:
    """The digest of what was pushed."""
    done = push(*words, cwd=cwd, user=user, **more)
    assert done.returncode == 0, done.stderr
    assert [*(cwd / "tmp").iterdir()] == []
    return done.stdout.strip()


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    fatal = [line for line in done.stderr.splitlines() if line.startswith("FATAL:   ")]
    assert (done.returncode, done.stdout, len(fatal)) == (255, "", 1), done.stderr
    for word in words:
        assert word in fatal[0]


def stored(registry: Registry, digest: str) -> bytes:
    return registry.blob(digest).read_bytes()


@pytest.fixture(scope="module")
def tree(storage: Path) -> Path:
    root = storage / "tree-for-registries"
    for name in ("bin", "etc", "opt"):
        (root / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    (root / "bin/sh").symlink_to("busybox")
    write(root / "etc/secret", "x", 0o600)
    (root / "opt/same").hardlink_to(root / "etc/secret")
    write(root / ".singularity.d/runscript", "#!/bin/sh\necho $A $*\n", 0o755)
    write(root / ".singularity.d/env/90-environment.sh", "export A=b\n", 0o755)
    if os.geteuid() == 0:
        os.chown(root / "etc/secret", 12, 34)
        os.setxattr(root / "bin/busybox", "user.note", b"x")
    for path in (*sorted(root.rglob("*"), reverse=True), root):
        os.utime(path, (1_400_000_000, 1_400_000_000), follow_symlinks=False)
    return root


@pytest.fixture(scope="module")
def sif(storage: Path, tree: Path) -> Path:
    plain = storage / "for-registries.squashfs"
    run_tool("mksquashfs", tree, plain, "-quiet", "-no-progress", "-comp", "gzip", cwd=storage)
    return write_sif(storage / "tool.sif", [Partition(data=plain.read_bytes())])


@pytest.mark.needs("root")
@pytest.mark.parametrize("kind", ["directory", "sif"])
def test_others_pull_what_was_pushed(
    plain_registry: Registry, tree: Path, sif: Path, tmp_path: Path, kind: str
) -> None:
    image = tree if kind == "directory" else sif
    name = f"{plain_registry.host}/of/{kind}:1.0"
    digest = pushed("--no-https", image, f"docker://{name}", cwd=tmp_path)
    words = ("skopeo", "copy", "-q", "--insecure-policy", "--src-tls-verify=false", f"docker://{name}", "oci:back:t")
    run_tool(*words, cwd=tmp_path)
    (listed,) = json.loads((tmp_path / "back/index.json").read_text())["manifests"]
    assert listed["digest"] == digest
    run_tool("umoci", "unpack", "--image", "back:t", "bundle", cwd=tmp_path)
    found = described(tmp_path / "bundle/rootfs")
    found.pop(".singularity.d/entrypoint")
    assert found == described(tree)
    config = json.loads((tmp_path / "bundle/config.json").read_text())["process"]
    assert (config["args"], "A=b" in config["env"]) == (["/.singularity.d/entrypoint"], True)


def test_the_second_push_sends_nothing_but_the_manifest(front: Front, sif: Path, tmp_path: Path) -> None:
    for scheme, blobs in (("docker", 2), ("oras", 2)):
        name = f"{scheme}://{front.host}/twice/{scheme}"
        front.asked.clear()
        first = pushed("--no-https", sif, f"{name}:a", cwd=tmp_path)
        assert front.count("/blobs/uploads/", "POST") == blobs
        front.asked.clear()
        assert pushed("--no-https", sif, f"{name}:b", cwd=tmp_path) == first
        assert [each.method for each in front.asked if each.method in ("POST", "PUT", "PATCH")] == ["PUT"]


def test_the_registry_takes_from_another_repository_what_it_has_there(front: Front, sif: Path, tmp_path: Path) -> None:
    for scheme in ("docker", "oras"):
        first = pushed("--no-https", sif, f"{scheme}://{front.host}/first/{scheme}", cwd=tmp_path)
        front.asked.clear()
        assert pushed("--no-https", sif, f"{scheme}://{front.host}/second/{scheme}", cwd=tmp_path) == first
        assert front.count(rf"mount=sha256%3A.*from=first%2F{scheme}", "POST") == 2
        assert [each.path for each in front.asked if each.method == "PUT"] == [f"/v2/second/{scheme}/manifests/latest"]
    place = Path(os.environ["HOME"]) / ".singularity/pushed.json"
    assert place.stat().st_mode & 0o777 == 0o600
    place.write_text('["damaged"]')
    pushed("--no-https", sif, f"docker://{front.host}/third/x", cwd=tmp_path)


def test_a_connection_that_breaks_is_told_and_the_blob_sent_again(front: Front, sif: Path, tmp_path: Path) -> None:
    front.faults.append(Fault(path="/blobs/uploads/.*digest=", method="PUT", close_at=-1, times=1))
    done = push("--no-https", sif, f"oras://{front.host}/breaks/x", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [line.partition(" ")[0] for line in done.stderr.splitlines()] == ["INFO:", "INFO:"]
    assert front.count("digest=", "PUT") == 3


def test_a_blob_in_motion_is_waited_for(front: Front, sif: Path, tmp_path: Path) -> None:
    """What Distribution says of a manifest while somebody else puts a blob of it once more."""
    said = b'{"errors":[{"code":"DIGEST_INVALID","message":"provided digest did not match uploaded content"}]}'
    front.faults.append(Fault(path="/manifests/", method="PUT", status=400, body=said))
    done = push("--no-https", sif, f"oras://{front.host}/motion/x", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "did not match uploaded content (StatusCode: 400); trying again" in done.stderr
    front.faults.append(Fault(path="/manifests/", method="PUT", status=400, body=said.replace(b"DIGEST", b"MANIFEST")))
    refused(push("--no-https", sif, f"oras://{front.host}/motion/y", cwd=tmp_path), "MANIFEST_INVALID: provided")
    assert front.count("motion/y/manifests/", "PUT") == 1


def test_a_sif_file_is_an_artifact_and_keeps_its_bytes(plain_registry: Registry, tmp_path: Path) -> None:
    machine.require("fixtures")
    signed = machine.FIXTURES / "busybox-signed.sif"
    target = f"oras://{plain_registry.host}/signed/busybox:1"
    options = ("--no-https", "--annotation", "org.example.a=b", "-D", "a box")
    digest = pushed(*options, signed, target, cwd=tmp_path)
    data = signed.read_bytes()
    layer = {
        "mediaType": SIF_LAYER,
        "digest": "sha256:" + hashlib.sha256(data).hexdigest(),
        "size": len(data),
        "annotations": {"org.opencontainers.image.title": "busybox-signed.sif"},
    }
    empty = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert json.loads(stored(plain_registry, digest)) == {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": SIF_CONFIG, "digest": empty, "size": 2},
        "layers": [layer],
        "annotations": {"org.example.a": "b", "org.opencontainers.image.description": "a box"},
    }
    assert stored(plain_registry, str(layer["digest"])) == data
    assert stored(plain_registry, empty) == b"{}"


def test_without_a_tag_it_is_the_latest(plain_registry: Registry, sif: Path, tmp_path: Path) -> None:
    done = push("--no-https", sif, f"oras://{plain_registry.host}/no/tag", cwd=tmp_path)
    assert done.stderr == f"INFO:    Pushed {sif} to oras://{plain_registry.host}/no/tag:latest\n"


@pytest.mark.parametrize("kind", ["basic_registry", "token_registry"])
def test_who_may_push_and_who_may_not(kind: str, sif: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    registry: Registry = request.getfixturevalue(kind)
    for scheme in ("docker", "oras"):
        words = ("--no-https", sif, f"{scheme}://{registry.host}/guarded/{scheme}:1")
        known = {"SINGULARITY_DOCKER_USERNAME": servers.USER, "SINGULARITY_DOCKER_PASSWORD": servers.PASSWORD}
        refused(push(*words, cwd=tmp_path), "denied")
        refused(push(*words, cwd=tmp_path, **{**known, "SINGULARITY_DOCKER_PASSWORD": "wrong"}))
        assert pushed(*words, cwd=tmp_path, **known).startswith("sha256:")


def test_tls_is_checked(tls_registry: Registry, certificates: Certificates, sif: Path, tmp_path: Path) -> None:
    target = f"oras://{tls_registry.host}/by/tls:1"
    refused(push(sif, target, cwd=tmp_path), "certificate")
    pushed(sif, target, cwd=tmp_path, SSL_CERT_FILE=str(certificates.authority))


def test_what_cannot_be_is_one_line(plain_registry: Registry, sif: Path, tmp_path: Path) -> None:
    host = plain_registry.host
    refused(push("none.sif", f"oras://{host}/a/b", cwd=tmp_path), "none.sif: no such image")
    refused(push("--no-https", sif, f"oras://{host}/Upper/b", cwd=tmp_path), "names no image", "in lower case")
    refused(push("--no-https", tmp_path, f"oras://{host}/a/b", cwd=tmp_path), "no SIF file")
    squashfs = sif.with_name("for-registries.squashfs")
    refused(push("--no-https", squashfs, f"oras://{host}/a/b", cwd=tmp_path), "no SIF file", "docker://")
    cut = tmp_path / "cut.sif"
    cut.write_bytes(sif.read_bytes()[:100_000])
    refused(push("--no-https", cut, f"oras://{host}/a/b", cwd=tmp_path), "cut.sif: ")
    refused(push(sif, "docker://nowhere.invalid/a/b", cwd=tmp_path), "no such host")
    done = push("--no-https", sif, f"docker://{host}/a/b@sha256:{64 * '0'}", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "a digest follows from the content" in done.stderr


def test_nothing_is_packed_for_a_registry_that_refuses(basic_registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "box").mkdir()
    (tmp_path / "small").write_text("")
    words = ("--no-https", "--tmpdir", "small", "box", f"docker://{basic_registry.host}/a/b")
    refused(push(*words, cwd=tmp_path), "denied")  # before it is seen that nothing can be kept there


@pytest.mark.needs("root", "userns")
def test_an_ordinary_user_pushes(plain_registry: Registry, sif: Path, storage: Path) -> None:
    place = storage / "registry-of-a-user"
    place.mkdir()
    shutil.copytree(sif.parent / "tree-for-registries/bin", place / "box", symlinks=True)
    for path in (place, *place.rglob("*")):
        os.chown(path, 10001, 10001, follow_symlinks=False)
    digest = pushed("--no-https", "box", f"docker://{plain_registry.host}/users/box:1", cwd=place, user=True)
    (layer,) = json.loads(stored(plain_registry, digest))["layers"]
    listing = subprocess.run(["tar", "-tvz", "--numeric-owner"], input=stored(plain_registry, layer["digest"]),
                             capture_output=True, check=True).stdout.decode()  # fmt: skip
    assert {line.split()[1] for line in listing.splitlines()} == {"0/0"}
    same = [
        pushed("--no-https", sif, f"oras://{plain_registry.host}/users/x", cwd=place, user=who) for who in (True, False)
    ]
    assert same[0] == same[1]


def test_the_guide_to_pushing(plain_registry: Registry, tree: Path, sif: Path, tmp_path: Path) -> None:
    text = (machine.CHECKOUT / "docs/pushing.md").read_text()
    blocks: list[str] = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    lines = [
        line.replace("registry.example.org", plain_registry.host) for block in blocks for line in block.splitlines()
    ]
    (tmp_path / "tool.sif").symlink_to(sif)
    (tmp_path / "box").symlink_to(tree)
    for line in lines:
        program, verb, *words = shlex.split(line)
        assert program == "singularity"
        if verb == "push":
            pushed(*words, cwd=tmp_path, SINGULARITY_NOHTTPS="1")
        else:
            done = singularity(verb, "--no-https", *words, cwd=tmp_path)
            assert done.returncode == 0, done.stderr
    assert len(lines) >= 6


# ---- several architectures under one tag ----

CODES = {"amd64": "02", "arm64": "04", "ppc64le": "06", "s390x": "11", "riscv64": "12"}  # as SIF has them


def for_architecture(sif: Path, name: str, place: Path) -> Path:
    """The same programs, as if they were another machine's."""
    data = sif.read_bytes()
    partition = data[data.index(b"hsqs") :]
    return write_sif(place / f"{name}.sif", [Partition(data=partition, architecture=CODES[name])])


def raw_of(uri: str) -> bytes:
    words = ["skopeo", "inspect", "--raw", "--tls-verify=false", uri.replace("oras:", "docker:")]
    return subprocess.run(words, check=True, capture_output=True).stdout


def singularity(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-I", "-m", "singularity", *words]
    return subprocess.run(argv, cwd=cwd, check=False, capture_output=True, text=True)


def test_images_are_added_to_a_tag(plain_registry: Registry, sif: Path, tmp_path: Path) -> None:
    """Each is pulled by whoever is of its architecture; one that stood there alone stays, and a newer one replaces."""
    for transport in ("docker", "oras"):
        uri = f"{transport}://{plain_registry.host}/several/{transport}:1"
        for name, more in (("amd64", ()), ("arm64", ("--add",)), ("riscv64", ("--add",)), ("arm64", ("--add",))):
            pushed("--no-https", *more, for_architecture(sif, name, tmp_path), uri, cwd=tmp_path)
        raw = raw_of(uri)
        index = json.loads(raw)
        assert [each["platform"]["architecture"] for each in index["manifests"]] == ["amd64", "arm64", "riscv64"]
        for name in ("amd64", "arm64", "riscv64"):
            done = singularity("pull", "--no-https", "--force", "--arch", name, "got.sif", uri, cwd=tmp_path)
            assert done.returncode == 0, done.stderr
            assert name in singularity("sif", "header", "got.sif", cwd=tmp_path).stdout


def test_two_add_at_once(plain_registry: Registry, sif: Path, tmp_path: Path) -> None:
    names = ("amd64", "arm64", "riscv64", "s390x", "ppc64le")
    uri = f"oras://{plain_registry.host}/several/race:1"
    for name in names:
        for_architecture(sif, name, tmp_path)
    running = [
        subprocess.Popen(
            [sys.executable, "-I", "-m", "singularity", "-q", "push", "--no-https", "--add", f"{name}.sif", uri],
            cwd=tmp_path, stdout=subprocess.DEVNULL,
        )
        for name in names
    ]  # fmt: skip
    assert [each.wait(120) for each in running] == [0] * len(names)
    raw = raw_of(uri)
    assert {each["platform"]["architecture"] for each in json.loads(raw)["manifests"]} == set(names)


def test_what_cannot_be_added(tree: Path, tmp_path: Path) -> None:
    done = push("--add", tree, "docker://localhost:1/x:1", cwd=tmp_path)
    assert (done.returncode, "does not say its architecture" in done.stderr) == (1, True)
    done = push("--add", tree, f"oci:{tmp_path}/x:1", cwd=tmp_path)
    assert (done.returncode, "is for tags of registries" in done.stderr) == (1, True)


# ---- tags, and taking away ----


@pytest.mark.parametrize("transport", ["docker", "oras"])
def test_an_image_gets_more_tags_and_loses_them(
    transport: str, plain_registry: Registry, sif: Path, tmp_path: Path
) -> None:
    name = f"{transport}://{plain_registry.host}/tags/by-{transport}s"
    digest = pushed("--no-https", sif, f"{name}:1", cwd=tmp_path)
    done = singularity("tag", "--no-https", f"{name}:1", "2", "latest", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"{digest}\n"), done.stderr
    assert raw_of(f"{name}:latest") == raw_of(f"{name}:2") == raw_of(f"{name}:1")
    # This registry removes no tags alone, so nothing is removed that has another one.
    refused(singularity("delete", "--no-https", "--force", f"{name}:2", cwd=tmp_path), "has others: 1, latest", digest)
    assert raw_of(f"{name}:2") == raw_of(f"{name}:1")
    done = singularity("delete", "--no-https", "--force", f"{name}@{digest}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    refused(singularity("pull", "--no-https", f"{name}:latest", cwd=tmp_path), "manifest unknown")
    refused(singularity("tag", "--no-https", f"{name}:2", "3", cwd=tmp_path), "manifest unknown")
    pushed("--no-https", sif, f"{name}:alone", cwd=tmp_path)
    done = singularity("delete", "--no-https", "--force", f"{name}:alone", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    refused(singularity("delete", "--no-https", "--force", f"{name}:alone", cwd=tmp_path), "manifest unknown")


def test_tags_go_by_token_and_not_to_everybody(
    token_registry: Registry, sif: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {"SINGULARITY_DOCKER_USERNAME": servers.USER, "SINGULARITY_DOCKER_PASSWORD": servers.PASSWORD}
    name = f"docker://{token_registry.host}/me/tags"
    pushed("--no-https", sif, f"{name}:1", cwd=tmp_path, **known)
    for words in (("tag", "--no-https", f"{name}:1", "1"), ("delete", "--no-https", "--force", f"{name}:1")):
        done = singularity(*words, cwd=tmp_path)
        refused(done)
        monkeypatch.setenv("SINGULARITY_DOCKER_USERNAME", servers.USER)
        monkeypatch.setenv("SINGULARITY_DOCKER_PASSWORD", servers.PASSWORD)
        done = singularity(*words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        monkeypatch.undo()


@pytest.mark.parametrize("words", [("tag", "x.sif", "1"), ("tag", "library://a/b/c:1", "2"), ("tag", "docker://a/b"),
                                   ("tag", "docker://localhost:1/a", "b c"), ("delete", "--force", "x.sif"),
                                   ("delete", "docker://localhost:1/a:1")])  # fmt: skip
def test_wrong_words_of_tag_and_delete_are_one_line(words: tuple[str, ...], tmp_path: Path) -> None:
    done = singularity(*words, cwd=tmp_path)
    assert done.returncode in (1, 255)
    assert (len(done.stderr.splitlines()), done.stdout) == (1, "")
