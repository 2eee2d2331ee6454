"""Where the signatures of images in registries are, and those that are there: foreign bytes, not yet checked.

GnuPG's are files on a server or in a directory beside the registry, as `registries.d` says (containers-registries.d(5),
containers-signature(5)); sigstore's are attached to the image in its registry, as a manifest with the tag
`sha256-DIGITS.sig` (cosign's SIGNATURE_SPEC).
"""

import base64
import binascii
import os
import urllib.parse
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from singularity.content import document
from singularity.content.digest import Checked, Digest
from singularity.content.document import Manifest
from singularity.errors import FileError, ImageError, RegistryError, SignatureError
from singularity.paths import site_directory
from singularity.policy import claims, identity
from singularity.registry import endpoint as endpoints
from singularity.registry.access import Access
from singularity.registry.reference import Reference

COUNT_LIMIT = 128  # signatures of one image
_FILE_LIMIT = 1 << 20
_MEDIA_TYPE = "application/vnd.dev.cosign.simplesigning.v1+json"
_ANNOTATION = "dev.cosignproject.cosign/signature"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attached:
    """A signature of sigstore, and the payload that it is of."""

    payload: bytes
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """What `registries.d` says about an image."""

    lookaside: str = ""  # the URL below which GnuPG's signatures are
    attachments: bool = True  # where nothing is said: whoever wants them by a policy wants them looked for


def storage(named: Reference) -> Storage:
    """For an image, from the most specific section that says something. Raises FileError."""
    sections: dict[str, dict[str, Any]] = {}
    default: dict[str, Any] = {}
    for path in _files():
        content = _read(path)
        sections |= content.get("docker") or {}
        default |= content.get("default-docker") or {}
    fitting = [sections[scope] for scope in identity.scopes(named) if scope in sections] + [default]
    urls = [each.get("lookaside") or each.get("sigstore") for each in fitting]
    attached = [each["use-sigstore-attachments"] for each in fitting if "use-sigstore-attachments" in each]
    return Storage(
        lookaside=next((str(url) for url in urls if url), _own()), attachments=attached[0] is True if attached else True
    )


def _own() -> str:
    """Where other programs put them when nothing is said."""
    if os.geteuid() == 0:
        return "file:///var/lib/containers/sigstore"
    with suppress(RuntimeError):  # no home
        return f"file://{Path.home()}/.local/share/containers/sigstore"
    return ""


def _files() -> list[Path]:
    candidates = [Path("/etc/containers/registries.d"), site_directory() / "registries.d"]
    with suppress(RuntimeError):
        candidates.insert(0, Path.home() / ".config/containers/registries.d")
    first = next((path for path in candidates if path.is_dir()), None)
    return sorted(first.glob("*.yaml")) if first else []


def _read(path: Path) -> dict[str, Any]:
    malformed = FileError(f"{path}: not of the form of containers-registries.d(5)")
    try:
        with path.open("rb") as file:
            data = file.read(_FILE_LIMIT + 1)
        if len(data) > _FILE_LIMIT:
            raise malformed
        content = yaml.safe_load(data.decode())
    except OSError as error:
        raise FileError.because(path, error) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise FileError(f"{path}: {str(error).splitlines()[0]}") from error
    content = {} if content is None else content
    if not isinstance(content, dict):
        raise malformed
    docker = content.get("docker") or {}
    sections = [*docker.values(), content.get("default-docker") or {}] if isinstance(docker, dict) else [None]
    if not all(isinstance(each, dict) for each in sections):
        raise malformed
    return content


def beside(named: Reference, manifest: Digest, place: Storage) -> Iterator[bytes]:
    """The signatures of GnuPG that are stored for a manifest, one after the other. Raises NetworkError, FileError."""
    if not place.lookaside:
        return
    path = f"{named.repository}@{manifest.algorithm}={manifest.digits}"
    for number in range(1, COUNT_LIMIT + 2):
        data = _fetched(f"{place.lookaside.rstrip('/')}/{path}/signature-{number}")
        if data is None:
            return
        if number > COUNT_LIMIT:
            raise SignatureError(f"more than {COUNT_LIMIT} signatures are stored for it")
        yield data


def _fetched(url: str) -> bytes | None:
    """A file of a server or of this machine; None where it is not there."""
    if url.startswith("file://"):
        try:
            with open(urllib.parse.unquote(url.removeprefix("file://")), "rb") as file:
                data = file.read(claims.LIMIT + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise FileError.because(url, error) from error
    else:
        from singularity.web.http import Client, shown

        with Client().send("GET", url, accept=(200, 404)) as answer:
            if answer.status == 404:
                answer.drain()
                return None
            if answer.status != 200:
                raise RegistryError(f"{shown(url)}: the server says {answer.status}", status=answer.status)
            data = answer.whole(claims.LIMIT)
    if len(data) > claims.LIMIT:
        raise SignatureError(f"{url}: a signature of more than {claims.LIMIT >> 20} MiB")
    return data


def attached(named: Reference, manifest: Digest, place: Storage, access: Access) -> Iterator[Attached]:
    """The signatures of sigstore that are attached to a manifest. Raises NetworkError, RegistryError and ImageError."""
    if not place.attachments:
        return
    from singularity.registry.client import Registry

    registry = Registry(named.host, access)
    tag = named._replace(tag=f"{manifest.algorithm}-{manifest.digits}.sig", digest=None)
    try:
        found = registry.manifest(tag)
    except RegistryError as error:
        if endpoints.is_missing(error):
            return
        raise
    parsed = document.parse(found.data, found.media_type, str(tag))
    if not isinstance(parsed, Manifest):
        raise ImageError(f"{tag}: no list of signatures")
    if len(parsed.layers) > COUNT_LIMIT:
        raise SignatureError(f"more than {COUNT_LIMIT} signatures are attached to it")
    for layer in parsed.layers:
        coded = layer.annotations.get(_ANNOTATION, "")
        if layer.media_type != _MEDIA_TYPE or not coded:
            continue
        if layer.size > claims.LIMIT:
            raise SignatureError(f"{tag}: a signature of more than {claims.LIMIT >> 20} MiB")
        try:
            signature = base64.b64decode(coded, validate=True)
        except binascii.Error:
            continue
        with registry.open_blob(named.repository, layer) as stream:
            payload = Checked(stream, layer.digest, str(tag), layer.size).read()
        yield Attached(payload=payload, signature=signature)
