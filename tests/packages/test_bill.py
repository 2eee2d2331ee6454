"""The list of what is in an image: valid by the formats' own validators, kept in SIF files, pushed along."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import conda_channel
import package_roots
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from repositories import lay
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from singularity import digest as digests
from singularity.image.identify import identify
from singularity.image.sif import format as sif
from singularity.packages import bill
from singularity.packages.bill import Standard
from singularity.registry import reference as references
from singularity.registry.access import Access
from singularity.registry.client import Registry as Client

if TYPE_CHECKING:
    from servers import Registry

    from singularity.image.sif.format import Descriptor

pytestmark = pytest.mark.filterwarnings("ignore:::(license_expression|ply|spdx_tools|rdflib|uritools|boolean).*")

ODD = "Żółw <script>\"&'</script>\x01\x7f\udcff\ufffe"


def types(place: Path, *words: str | Path, status: int = 0, **more: str) -> subprocess.CompletedProcess[bytes]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(place), "TMPDIR": str(place), **more}
    argv = [sys.executable, "-I", "-m", "singularity", *map(str, words)]
    done = subprocess.run(argv, env=environment, cwd=place, capture_output=True, check=False, timeout=120)
    assert done.returncode == status, done.stdout + done.stderr
    return done


def valid_spdx(data: bytes, place: Path) -> dict[str, Any]:
    (place / "checked.spdx.json").write_bytes(data)
    wrong = validate_full_spdx_document(parse_file(str(place / "checked.spdx.json")))
    assert [each.validation_message for each in wrong] == []
    said: dict[str, Any] = json.loads(data)
    for package in said["packages"]:
        for each in package.get("externalRefs", []):
            PackageURL.from_string(each["referenceLocator"])
    return said


def valid_cyclonedx(data: bytes, place: Path) -> dict[str, Any]:
    del place
    wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(data.decode())
    assert wrong is None
    said: dict[str, Any] = json.loads(data)
    references = [each["bom-ref"] for each in said["components"]]
    assert len(set(references)) == len(references)
    for each in said["components"]:
        if "purl" in each:
            PackageURL.from_string(each["purl"])
    return said


VALID = {Standard.SPDX: valid_spdx, Standard.CYCLONEDX: valid_cyclonedx}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Debian, pip, conda, npm, R, and a program of nobody's."""
    found, work = tmp_path / "root", tmp_path / "work"
    found.mkdir()
    work.mkdir()
    package_roots.debian(work, found)
    package_roots.python(work, found)
    (found / "etc/os-release").write_text('ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian GNU/Linux 12"\n')
    (found / "bin").mkdir()
    shutil.copy("/bin/busybox", found / "bin/sh")
    place = found / "opt/c/conda-meta"
    place.mkdir(parents=True)
    said = {"name": "zlib", "version": "1.3", "build": "h1_0", "channel": "https://example.org/conda-forge/linux-64"}
    said |= {"md5": "0" * 32, "sha256": "1" * 64, "subdir": "linux-64", "license": "Zlib", "files": ["lib/libz.so"]}
    (place / "zlib.json").write_text(json.dumps(said))
    return found


@pytest.mark.needs("root", "busybox")
@pytest.mark.parametrize("standard", Standard)
def test_the_list_is_valid_and_whole(standard: Standard, root: Path, tmp_path: Path) -> None:
    said = VALID[standard](types(tmp_path, "sbom", "--format", standard.value, root).stdout, tmp_path)
    if standard is Standard.SPDX:
        listed = {each["externalRefs"][0]["referenceLocator"] for each in said["packages"][1:]}
        assert [each["fileName"] for each in said["files"]] == ["./bin/sh"]
    else:
        listed = {each["purl"] for each in said["components"] if "purl" in each}
        assert {each["name"] for each in said["components"] if each["type"] == "file"} == {"/bin/sh"}
    assert listed == {
        "pkg:deb/debian/first@1.0?arch=all&distro=debian-12",
        "pkg:deb/debian/second@2:2.5~rc1?arch=all&distro=debian-12",
        "pkg:deb/debian/third%2Bodd@0.1?arch=all&distro=debian-12",
        "pkg:pypi/alpha-pkg@1.2.3",
        "pkg:pypi/betapkg@0.1rc1",
        "pkg:conda/zlib@1.3?build=h1_0&channel=conda-forge%2Flinux-64&subdir=linux-64",
    }


@pytest.mark.parametrize("standard", Standard)
def test_foreign_words_leave_it_valid(standard: Standard, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "var/lib/dpkg").mkdir(parents=True)
    fields = "".join(f"{key}: {ODD}\n" for key in ("Maintainer", "Homepage", "Description", "Source"))
    (root / "var/lib/dpkg/status").write_bytes(
        f"Package: a{ODD}\nStatus: install ok installed\nVersion: 1{ODD}\nArchitecture: {ODD}\n{fields}".encode(
            "utf-8", "surrogateescape"
        )
    )
    place = root / ODD.replace("/", "") / "node_modules/x"
    place.mkdir(parents=True)
    (place / "package.json").write_text(
        json.dumps({"name": ODD, "version": ODD, "license": ODD, "homepage": "http://"})
    )
    VALID[standard](bill.of_image(identify(root), standard), tmp_path)


@pytest.mark.parametrize("standard", Standard)
def test_an_image_without_packages_has_a_valid_list(standard: Standard, tmp_path: Path) -> None:
    (tmp_path / "root/bin").mkdir(parents=True)
    VALID[standard](bill.of_image(identify(tmp_path / "root"), standard), tmp_path)


@pytest.mark.needs("root", "mksquashfs")
def test_debian_with_conda_is_what_dpkg_query_pip_and_conda_list(rattler: Path, tmp_path: Path) -> None:
    """conda's part is told by rattler: two environments, both formats, and Python's packages that came by conda."""
    root, work, channel = tmp_path / "root", tmp_path / "work", tmp_path / "channel"
    (root / "opt").mkdir(parents=True)
    work.mkdir()
    info = {"METADATA": "Metadata-Version: 2.1\nName: pure\nVersion: 3.1\n", "RECORD": "pure.py,,\n"}
    trees: dict[str, dict[str, str | Path]] = {
        "python": {"bin/python3.11": "#!/bin/sh\n"},
        "lower": {"share/lower": "lower"},
        "upper": {"share/upper": "upper"},
        "pure": {"site-packages/pure.py": "", **{f"site-packages/pure-3.1.dist-info/{k}": v for k, v in info.items()}},
    }
    for name, version, depends in (
        ("python", "3.11.2", []), ("lower", "1.2", []), ("upper", "2024.1", ["lower"]), ("pure", "3.1", ["python"])
    ):  # fmt: skip
        form = ".conda" if name in ("lower", "pure") else ".tar.bz2"
        conda_channel.package(channel, name, version, lay(work / name, trees[name]), depends, form=form)
    conda_channel.index(channel)
    conda = []
    for prefix, wanted in (("one", "upper"), ("two", "pure")):
        words = [sys.executable, Path(conda_channel.__file__).with_name("conda_install.py"), channel.as_uri()]
        shown = package_roots.run(*words, root / "opt" / prefix, wanted, PYTHONPATH=str(rattler))
        conda += [tuple(each) for each in json.loads(shown)]
    assert [name for name, _, _ in conda] == ["lower", "upper", "pure", "python"]
    dpkg = package_roots.debian(work, root)
    pip = package_roots.python(work, root) | {("pure", "3.1")}
    types(tmp_path, "build", "x.sif", "root")
    said = valid_spdx(types(tmp_path, "sbom", "x.sif").stdout, tmp_path)
    pairs = [(e, PackageURL.from_string(e["externalRefs"][0]["referenceLocator"])) for e in said["packages"][1:]]
    found = {kind: [pair for pair in pairs if pair[1].type == kind] for kind in ("deb", "pypi", "conda")}
    assert {(each["name"], each["versionInfo"], url.qualifiers["arch"]) for each, url in found["deb"]} == dpkg
    assert {(each["name"], each["versionInfo"]) for each, _ in found["pypi"]} == pip
    assert {(each["name"], each["versionInfo"], url.qualifiers["build"]) for each, url in found["conda"]} == set(conda)
    assert len(pairs) == len(dpkg) + len(pip) + len(conda)


# ---- in a SIF file, and in a registry ----
@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "tree/bin").mkdir(parents=True)
    (tmp_path / "tree/lib/apk/db").mkdir(parents=True)
    (tmp_path / "tree/lib/apk/db/installed").write_text("P:tool\nV:1-r0\nA:x86_64\n\n")
    shutil.copy("/bin/busybox", tmp_path / "tree/bin/sh")
    return tmp_path


def objects(image: Path) -> list[Descriptor]:
    with image.open("rb") as file:
        return [each for each in sif.read(file).descriptors if each.type == sif.DataType.SBOM]


@pytest.mark.needs("busybox", "mksquashfs")
@pytest.mark.parametrize("standard", Standard)
def test_build_puts_it_into_the_file(place: Path, standard: Standard) -> None:
    types(place, "build", f"--sbom={standard.value}", "x.sif", "tree")
    (descriptor,) = objects(place / "x.sif")
    assert sif.SBOM_FORMATS[int.from_bytes(descriptor.extra[:4], "little") - 1] == f"{standard.value}-json"
    stored = types(place, "sbom", "--stored", "--format", standard.value, "x.sif").stdout
    assert stored == types(place, "sif", "dump", str(descriptor.id), "x.sif").stdout
    assert stored == types(place, "sbom", "--stored", "x.sif").stdout
    other = next(each.value for each in Standard if each is not standard)
    types(place, "sbom", "--stored", "--format", other, "x.sif", status=255)
    VALID[standard](stored, place)
    assert b'"tool"' in stored
    with (place / "x.sif").open("rb") as file:
        primary = sif.read(file).primary()
        assert primary
        (place / "partition").write_bytes(sif.read_object(file, primary))
    assert digests.of_file(place / "partition").encode() in stored
    types(place, "build", "y.sif", "x.sif")
    assert not objects(place / "y.sif"), "the list is that of another file"


@pytest.mark.needs("busybox", "mksquashfs")
def test_the_same_image_has_the_same_list(place: Path) -> None:
    for name in ("a.sif", "b.sif"):
        types(place, "build", "--sbom", name, "tree", SOURCE_DATE_EPOCH="1700000000")
    assert (place / "a.sif").read_bytes() == (place / "b.sif").read_bytes()
    assert b"2023-11-14T22:13:20Z" in types(place, "sbom", "--stored", "a.sif").stdout


@pytest.mark.needs("busybox", "mksquashfs", "docker-registry")
@pytest.mark.usefixtures("no_proxy")
@pytest.mark.parametrize("scheme", ["docker", "oras"])
def test_push_sends_it_along(place: Path, plain_registry: Registry, scheme: str) -> None:
    types(place, "build", "--sbom", "--provenance", "x.sif", "tree")
    name = f"bill/{scheme}"
    words = ("push", "--no-https", "x.sif", f"{scheme}://{plain_registry.host}/{name}:1")
    pushed = types(place, *words).stdout.decode().strip()
    client = Client(plain_registry.host, Access(no_https=True))

    def document(target: str) -> dict[str, Any]:
        colon = "@" if ":" in target else ":"
        found = client.manifest(references.parse(f"{plain_registry.host}/{name}{colon}{target}"))
        parsed: dict[str, Any] = json.loads(found.data)
        return parsed

    entries = {each["artifactType"]: each for each in document(pushed.replace(":", "-"))["manifests"]}
    assert set(entries) == {"application/vnd.dsse.envelope.v1+json", "application/spdx+json"}
    artifact = document(entries["application/spdx+json"]["digest"])
    assert artifact["subject"]["digest"] == pushed
    (layer,) = artifact["layers"]
    assert layer["mediaType"] == "application/spdx+json"
    data = plain_registry.blob(layer["digest"]).read_bytes()
    assert data == types(place, "sbom", "--stored", "x.sif").stdout


# ---- what is typed wrong ----
@pytest.mark.needs("busybox", "mksquashfs")
def test_what_cannot_be_is_said_in_a_line(place: Path) -> None:
    types(place, "build", "x.sif", "tree")
    for words, status, expected in (
        (("sbom", "missing.sif"), 255, "missing.sif"),
        (("sbom", "--stored", "x.sif"), 255, "build --sbom puts one into a SIF file"),
        (("sbom", "--stored", "tree"), 255, "carries no list"),
        (("sbom", "--format", "xml", "x.sif"), 1, "--format"),
        (("sbom", "--output", "x.sif", "tree"), 255, "x.sif"),
        (("build", "--sbom=xml", "y.sif", "tree"), 1, '"spdx" or "cyclonedx"'),
        (("build", "--sbom", "--sandbox", "y", "tree"), 1, "--sbom is for SIF files"),
        (("build", "--sbom", "--encrypt", "y.sif", "tree"), 1, "--sbom"),
        (("sbom", "/dev/null"), 255, "character device"),
    ):
        said = types(place, *words, status=status).stderr.decode()
        assert expected in said, (words, said)
        assert said.count("\n") == 1, said


@pytest.mark.needs("busybox", "mksquashfs")
def test_it_is_written_to_a_file(place: Path) -> None:
    types(place, "sbom", "--output", "list.json", "tree")
    VALID[Standard.SPDX]((place / "list.json").read_bytes(), place)
    assert stat.S_IMODE((place / "list.json").stat().st_mode) == 0o644
    types(place, "sbom", "--output", "list.json", "tree", status=255)
    types(place, "sbom", "--force", "--format", "cyclonedx", "--output", "list.json", "tree")
    VALID[Standard.CYCLONEDX]((place / "list.json").read_bytes(), place)


@pytest.mark.needs("busybox", "mksquashfs")
def test_an_archive_and_a_uri_have_one_too(place: Path) -> None:
    types(place, "build", "x.sif", "tree")
    types(place, "push", "x.sif", "oci:layout:1")
    subprocess.run(["tar", "-C", place / "tree", "-cf", place / "tree.tar", "."], check=True)
    for image in ("tree.tar", "oci:layout:1"):
        assert b"pkg:apk/alpine/tool@1-r0" in types(place, "sbom", image).stdout
