"""What an image says about how it was built: made, signed, checked, shown, and brought along into registries."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from singularity import digest as digests
from singularity.errors import ImageError
from singularity.image.sif import edit
from singularity.image.sif import format as sif
from singularity.registry import reference as references
from singularity.registry.access import Access
from singularity.registry.client import Registry as Client
from singularity.trust import provenance

if TYPE_CHECKING:
    from pathlib import Path

    from servers import Registry

pytestmark = [pytest.mark.usefixtures("no_proxy"), pytest.mark.needs("busybox", "mksquashfs", "openssl")]


def types(place: Path, *words: str | Path, status: int = 0, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(place), "TMPDIR": str(place), **more}
    argv = [sys.executable, "-I", "-m", "singularity", *map(str, words)]
    done = subprocess.run(argv, env=environment, cwd=place, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == status, done.stdout + done.stderr
    return done


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """With a tree, a definition, and two keys."""
    (tmp_path / "tree/bin").mkdir(parents=True)
    shutil.copy("/bin/busybox", tmp_path / "tree/bin/sh")
    (tmp_path / "x.def").write_text("Bootstrap: localimage\nFrom: base.sif\n%labels\n  Made here\n")
    for name in ("one", "two"):
        new = ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", f"{name}.pem"]
        for words in (new, ["pkey", "-in", f"{name}.pem", "-pubout", "-out", f"{name}.pub"]):
            subprocess.run(["openssl", *words], cwd=tmp_path, check=True, capture_output=True)
    types(tmp_path, "build", "base.sif", "tree")
    return tmp_path


def statement(place: Path, image: str = "x.sif") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(types(place, "inspect", "--provenance", image).stdout)
    return found


def test_what_it_says(place: Path) -> None:
    (place / "x.def").write_text((place / "x.def").read_text() + "%help\n    {{ WORD }}\n")
    types(place, "build", "--provenance", "--build-arg", "WORD=hush", "x.sif", "x.def")
    said = statement(place)
    assert (said["_type"], said["predicateType"]) == (
        "https://in-toto.io/Statement/v1",
        "https://slsa.dev/provenance/v1",
    )
    with (place / "x.sif").open("rb") as file:
        primary = sif.read(file).primary()
        assert primary is not None
        data = sif.read_object(file, primary)
    (place / "partition").write_bytes(data)
    assert said["subject"] == [
        {"name": "primary partition", "digest": {"sha256": digests.of_file(place / "partition")}}
    ]
    built = said["predicate"]["buildDefinition"]
    assert built["externalParameters"]["source"] == "x.def"
    assert "Bootstrap: localimage" in built["externalParameters"]["definition"]
    assert built["externalParameters"]["templateArguments"] == ["WORD"]
    used = {each["uri"]: each["digest"]["sha256"] for each in built["resolvedDependencies"]}
    assert used == {f"file:{name}": digests.of_file(place / name) for name in ("x.def", "base.sif")}
    run = said["predicate"]["runDetails"]
    assert run["builder"]["id"] == "urn:singularity"
    assert run["metadata"]["startedOn"] <= run["metadata"]["finishedOn"]
    assert str(place) not in json.dumps(said), "directories of the machine"


def test_the_same_inputs_say_the_same(place: Path) -> None:
    for name in ("a.sif", "b.sif"):
        types(place, "build", "--provenance", name, "tree", SOURCE_DATE_EPOCH="1700000000")
    assert (place / "a.sif").read_bytes() == (place / "b.sif").read_bytes()


def test_it_is_signed_and_verified(place: Path) -> None:
    """By the key in PEM itself, by others with the rest of the file; and stays what it is in a signed copy."""
    types(place, "build", "--provenance", "--sign=one.pem", "x.sif", "x.def")
    assert "says how it was built" in types(place, "verify", "--key", "one.pub", "x.sif").stderr
    types(place, "verify", "--key", "two.pub", "x.sif", status=255)
    with (place / "x.sif").open("rb") as file:
        found = provenance.find(file)
    assert found is not None
    assert len(found.signatures) == 1
    signed = b"DSSEv1 28 application/vnd.in-toto+json %d %b" % (len(found.payload), found.payload)
    (place / "signed").write_bytes(signed)  # as the specification of DSSE has it, checked by openssl
    (place / "signature").write_bytes(found.signatures[0])
    words = ["openssl", "dgst", "-sha256", "-verify", "one.pub", "-signature", "signature", "signed"]
    assert subprocess.run(words, cwd=place, capture_output=True, check=False).returncode == 0
    types(place, "build", "--provenance", "y.sif", "x.def")
    types(place, "sign", "--key", "one.pem", "y.sif")
    types(place, "verify", "--key", "one.pub", "y.sif")


@pytest.mark.parametrize("case", ["another image", "another key", "changed", "no envelope", "another type", "cut"])
def test_what_does_not_fit_is_refused(place: Path, case: str) -> None:
    """Put into an image whose signature is good: who signs it has not looked at it."""
    types(place, "build", "--provenance", "--sign=one.pem", "x.sif", "x.def")
    with (place / "x.sif").open("rb") as file:
        found = provenance.find(file)
    assert found is not None
    envelope = json.loads(found.envelope)
    source = "base.sif" if case == "another image" else "plain.sif"
    types(place, "build", "plain.sif", "x.sif")
    match case:
        case "another key":
            types(place, "build", "--force", "--provenance", "--sign=two.pem", "x.sif", "x.def")
            with (place / "x.sif").open("rb") as file:
                again = provenance.find(file)
                assert again is not None
                envelope["signatures"] = json.loads(again.envelope)["signatures"]
        case "changed":
            payload = json.loads(base64.b64decode(envelope["payload"]))
            payload["predicate"]["more"] = 1
            envelope["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()
        case "no envelope":
            envelope = ["x"]
        case "another type":
            envelope["payloadType"] = "text/plain"
    data = json.dumps(envelope).encode()
    (place / "object").write_bytes(data[:-5] if case == "cut" else data)
    with edit.editing(place / source) as editor, (place / "object").open("rb") as file:
        assert provenance.OBJECT_NAME not in [each.name for each in editor.content.descriptors], "it is the file's own"
        addition = edit.Addition(type=sif.DataType.GENERIC_JSON, name=provenance.OBJECT_NAME, group=1)
        editor.add(addition, file)
    types(place, "sign", "--key", "one.pem", source)
    done = types(place, "verify", "--key", "one.pub", source, status=255)
    assert "its provenance" in done.stderr


def test_there_may_be_none(place: Path) -> None:
    assert "says nothing of how it was built" in types(place, "inspect", "--provenance", "base.sif", status=255).stderr
    assert types(place, "inspect", "--provenance", "tree", status=255).stderr.count("FATAL") == 1
    with (place / "base.sif").open("rb") as file:
        assert provenance.check(file, None) is None


@pytest.mark.parametrize("scheme", ["docker", "oras"])
def test_push_brings_it_along(place: Path, plain_registry: Registry, scheme: str) -> None:
    """As what refers to the image: by the list under a tag, since this registry keeps none itself."""
    types(place, "build", "--provenance", "--sign=one.pem", "x.sif", "x.def")
    name = f"{plain_registry.host}/provenance/{scheme}"
    pushed = types(place, "push", "--no-https", "x.sif", f"{scheme}://{name}:1").stdout.strip()
    for _ in range(2):  # and not twice
        index = _document(plain_registry, f"provenance/{scheme}", pushed.replace(":", "-"))
        (entry,) = index["manifests"]
        assert entry["artifactType"] == "application/vnd.dsse.envelope.v1+json"
        artifact = _document(plain_registry, f"provenance/{scheme}", entry["digest"])
        assert artifact["subject"]["digest"] == pushed
        envelope = plain_registry.blob(artifact["layers"][0]["digest"]).read_bytes()
        assert provenance.decode(envelope).statement == statement(place)
        types(place, "push", "--no-https", "x.sif", f"{scheme}://{name}:1")
    assert f"Digest: {pushed}\n" in types(place, "pull", "--no-https", "back.sif", f"{scheme}://{name}:1").stderr
    if scheme == "oras":
        types(place, "verify", "--key", "one.pub", "back.sif")
        assert statement(place, "back.sif") == statement(place)


def _document(registry: Registry, repository: str, target: str) -> dict[str, Any]:
    found = Client(registry.host, Access(no_https=True)).manifest(
        references.parse(f"{registry.host}/{repository}{'@' if ':' in target else ':'}{target}")
    )
    parsed: dict[str, Any] = json.loads(found.data)
    return parsed


def test_malformed_envelopes_raise_image_error(place: Path) -> None:
    types(place, "build", "--provenance", "x.sif", "x.def")
    with (place / "x.sif").open("rb") as file:
        found = provenance.find(file)
    assert found is not None
    data = found.envelope
    for number in range(0, len(data), 7):
        for changed in (
            data[:number],
            data[:number] + b"\xff" + data[number + 1 :],
            data[:number] + b"[" + data[number:],
        ):
            try:
                provenance.decode(changed)
            except ImageError:
                continue
