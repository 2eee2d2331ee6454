"""`singularity push IMAGE URI`: an image into a registry, for those who fetch it with this program or with Docker."""

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from singularity import paths
from singularity.cli import trusting
from singularity.cli.access import access_options
from singularity.cli.command import PATH, option, verb
from singularity.console import escape, working
from singularity.errors import FileError, UsageError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from singularity.push.destination import Destination
    from singularity.push.writer import Document
    from singularity.registry.access import Access

logger = logging.getLogger(__name__)

_FORMATS = ("gzip", "zstd", "tar")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_DESCRIPTION = "org.opencontainers.image.description"
_HINT = (
    "docker://HOST/NAME:TAG, oras://HOST/NAME:TAG, oci:DIRECTORY:TAG, oci-archive:FILE, docker-archive:FILE, doi:HOST"
)
_ON_DISK = ("oci", "oci-archive", "docker-archive")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_IMAGE_NAME = re.compile(r"[a-z0-9]+(?:[._/-]+[a-z0-9]+)*:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


@verb(
    description=(
        (
            "docker:// takes an image of any format, and makes it an image of OCI with one layer, which Docker, podman "
            "and every other program for such images pull and run: the runscript is its entry point, and %environment "
            "and labels are carried over. An image that came from a registry gets back what it brought. "
            "The same image gives the same digests."
        ),
        "oras:// takes a SIF file as it is, signatures and all, for those who pull it with oras://.",
        "library:// takes a SIF file as well, in an image library: singularity remote.",
        (
            "doi:HOST[/DRAFT] puts the image, as it is, into a draft of an archive that gives identifiers, such as "
            "zenodo.org, with what --citation and the labels say of it. Standard output gets the identifier, which is "
            "reserved; --publish makes it known for good."
        ),
        (
            "oci:DIRECTORY[:TAG], oci-archive:FILE[:TAG] and docker-archive:FILE[:NAME:TAG] write the image for OCI to "
            "a directory or a file instead. Without a tag it is latest in a registry. Standard output gets the digest."
        ),
    ),
    examples=(
        "singularity push tool.sif oras://ghcr.io/me/tool:1.0",
        "singularity push tool.sif docker://ghcr.io/me/tool:1.0",
        "singularity push --chunks tool.sif oras://ghcr.io/me/tool:1.1",
        "singularity push --layer-format zstd sandbox/ docker://localhost:5000/tool",
        "singularity push tool.img docker-archive:tool.tar:tool:1.0 && docker load < tool.tar",
    ),
)
@option("-D", "--description", default="", metavar="TEXT", help="Say what it is, in an annotation of the manifest")
@option(
    "--annotation", "annotations", multiple=True, metavar="KEY=VALUE", help="An annotation of the manifest; repeatable"
)
@option(
    "--layer-format",
    type=click.Choice(_FORMATS),
    metavar="FORMAT",
    variables="LAYER_FORMAT",
    default="gzip",
    help="How the layer is compressed: gzip, which everybody reads, zstd, or tar for not at all",
)
@option("-F", "--force", is_flag=True, help="Replace the file of oci-archive or docker-archive that is there")
@option("--tmpdir", default="", metavar="DIRECTORY", help="Where the layer is kept until it is there")
@option(
    "--chunks", "in_chunks", is_flag=True, variables="CHUNKS",
    help="Put an index of its chunks beside it, so that others fetch only what changed; for oras://",
)  # fmt: skip
@option("--add", is_flag=True, help="Add it to the images of the tag, as the one for its architecture")
@option("--library", "server", default="", metavar="URL", variables="LIBRARY", help="The library of library://")
@option("--citation", type=PATH, default=None, metavar="FILE", help="CITATION.cff of the image, for doi:")
@option("--publish", is_flag=True, help="Publish the draft of doi:, which nobody can take back")
@option("-U", "--allow-unsigned", is_flag=True, hidden=True)
@access_options
@click.argument("image", type=PATH)
@click.argument("uri")
def command(
    image: Path,
    uri: str,
    *,
    description: str,
    annotations: tuple[str, ...],
    layer_format: str,
    force: bool,
    tmpdir: str,
    allow_unsigned: bool,
    server: str,
    add: bool,
    in_chunks: bool,
    citation: Path | None,
    publish: bool,
    access: "Access",
) -> None:
    """Pushes."""
    from singularity.push import destination
    from singularity.sources.library import url

    del allow_unsigned
    scheme, rest = _split(uri)
    notes = _annotations(annotations, description)
    if not image.exists():
        raise FileError.missing(image)
    if (citation or publish) and scheme != "doi":
        raise UsageError("--citation and --publish are for doi:")
    if in_chunks and scheme != "oras":
        raise UsageError("--chunks is for oras://", hint="images of layers share those with others")
    if scheme == "doi":
        _to_archive(image, rest, citation, publish=publish, no_https=access.no_https)
        return
    if scheme == "library":
        _to_library(image, rest, description, url(server, no_https=access.no_https))
        return
    if add and scheme in _ON_DISK:
        raise UsageError("--add: is for tags of registries", hint="docker:// or oras://")
    if scheme in _ON_DISK:
        place, target = _on_disk(scheme, rest, force=force), uri
    else:
        place, target = _in_registry(scheme, rest, access, _architecture(image) if add else "")
    if scheme == "docker-archive":
        layer_format = "tar"
    place.begin()
    with _packed(scheme, image, notes, layer_format, paths.temporary(tmpdir), in_chunks=in_chunks) as document:
        with working(f"sending {image}"):
            destination.send(document, place)
        digest = document.digest
        _attach(image, document, place)
    logger.info("Pushed %s to %s", image, target)
    click.echo(digest)


def _attach(image: Path, document: "Document", place: "Destination") -> None:
    """Brings along what a SIF file says about how it was built, and what is in it."""
    from singularity.push.destination import InRegistry

    if not isinstance(place, InRegistry) or not trusting.is_sif(image):
        return
    from singularity.content import chunks
    from singularity.packages import bill
    from singularity.push import referrers
    from singularity.push.artifact import Artifact
    from singularity.trust import provenance

    if isinstance(document, Artifact) and document.index:
        said = referrers.Statement(data=document.index, media_type=chunks.MEDIA_TYPE)
        logger.info("The index of its chunks is beside it: %s", place.attach(document, said))
    with image.open("rb") as file:
        found, bills = provenance.find(file), bill.stored(file)
    if found is not None:
        attached = place.attach(document, referrers.provenance(found.envelope, provenance.PREDICATE_TYPE))
        logger.info("Its provenance is beside it: %s", attached)
    for each in bills:
        if each.standard is not None:
            said = referrers.Statement(data=each.data, media_type=each.standard.media_type)
            logger.info("The list of its packages is beside it: %s", place.attach(document, said))


def _split(uri: str) -> tuple[str, str]:
    """The transport, and what stands after it. Raises UsageError for one that takes no images."""
    match = _SCHEME.match(uri)
    scheme = match[1].lower() if match else ""
    if match is None or (scheme not in (*_ON_DISK, "docker", "oras", "library", "doi")):
        what = f"nothing is pushed to {scheme}:" if scheme else f'No transport type URI supplied: "{uri}"'
        raise UsageError(f"push: {what}", hint=_HINT)
    rest = uri[match.end() :]
    if scheme == "doi":
        return scheme, rest.removeprefix("//")
    if scheme not in _ON_DISK and not rest.startswith("//"):
        raise UsageError(f'push: "{uri}" names no image', hint=_HINT)
    return scheme, rest.removeprefix("//") if scheme not in _ON_DISK else rest


def _to_archive(image: Path, rest: str, citation: Path | None, *, publish: bool, no_https: bool) -> None:
    from singularity.deposit import citation as citations
    from singularity.deposit.drafts import Archive, parse
    from singularity.image import metadata
    from singularity.image.identify import identify

    host, number = parse(rest)
    if image.is_dir():
        raise UsageError(
            f"push: {image} is a directory, and an archive takes files", hint="singularity build makes one"
        )
    labels = metadata.read(identify(image)).labels
    about = citations.metadata(labels, citations.read(citation) if citation else {}, image.name)
    archive = Archive(host, no_https=no_https)
    number = number or archive.make(about)
    with working(f"sending {image}"):
        archive.put(number, image)
    found = archive.finish(number, publish=publish)
    what = "Published" if publish else f"In draft {number}, and not published"
    logger.info("%s: %s", what, found.page or f"doi:{host}/{number}")
    click.echo(escape(f"doi:{found.doi}"))


def _to_library(image: Path, rest: str, description: str, server: str) -> None:
    from singularity.image.sif import format as sif
    from singularity.library import remotes
    from singularity.library.service import File, Service, parse
    from singularity.push import artifact

    host, place = parse(rest)
    service = Service(remotes.library((host and f"{server.partition('://')[0] or 'https'}://{host}") or server))
    with artifact.packed(image, {}) as document:
        layer = document.blobs[0]
        with layer.open() as file:
            architecture = sif.architecture_name(sif.read(file).header.architecture)
        size, digest = layer.descriptor.size, layer.descriptor.digest
        with working(f"sending {image}"):
            sent = service.send(File(digest=digest, size=size, open=layer.open), place, architecture, description)
    logger.info("Pushed %s to %s%s", image, service.name(place), "" if sent else ", which had it already")
    click.echo(digest)


def _annotations(given: tuple[str, ...], description: str) -> dict[str, str]:
    found = {_DESCRIPTION: description} if description else {}
    for each in given:
        key, equals, value = each.partition("=")
        if not equals or not key.strip():
            raise UsageError(f'push: --annotation "{each}" says nothing', hint="KEY=VALUE")
        found[key.strip()] = value
    return found


def _architecture(image: Path) -> str:
    from singularity.image.identify import identify

    found = identify(image).architecture
    if not found:
        raise UsageError(f"--add: {image} does not say its architecture", hint="build a SIF file of it")
    return found


def _in_registry(scheme: str, rest: str, access: "Access", architecture: str) -> "tuple[Destination, str]":
    from singularity.push.added import InIndex
    from singularity.push.destination import InRegistry
    from singularity.registry import reference
    from singularity.registry.client import Registry

    named = reference.parse(rest)
    if named.digest is not None:
        what = f"push: {scheme}://{rest}: a digest follows from the content, and cannot be chosen"
        raise UsageError(what, hint="name a tag")
    registry = Registry(named.host, access)
    place = InIndex(registry, named, architecture) if architecture else InRegistry(registry, named)
    return place, f"{scheme}://{named}"


def _on_disk(scheme: str, rest: str, *, force: bool) -> "Destination":
    from singularity.push.destination import InArchive, InDockerArchive, InLayout

    path, colon, tag = rest.partition(":") if scheme == "docker-archive" else rest.rpartition(":")
    if not colon:
        path, tag = rest, ""
    if not path:
        raise UsageError(f"push: {scheme}: names no {'directory' if scheme == 'oci' else 'file'}", hint=_HINT)
    if tag and not (_IMAGE_NAME if scheme == "docker-archive" else _TAG).fullmatch(tag):
        hint = "NAME:TAG" if scheme == "docker-archive" else "letters, digits, and . _ - after the first"
        raise UsageError(f'push: {scheme}:{rest}: "{tag}" is no tag', hint=hint)
    if scheme == "oci":
        return InLayout(Path(path), tag)
    return (InDockerArchive if scheme == "docker-archive" else InArchive)(Path(path), tag, overwrite=force)


def _packed(
    scheme: str, image: Path, annotations: dict[str, str], layer_format: str, temporary: Path, *, in_chunks: bool
) -> "AbstractContextManager[Document]":
    if scheme == "oras":
        from singularity.push import artifact

        return artifact.packed(image, annotations, in_chunks=in_chunks)
    from singularity.push import writer

    return writer.packed(image, temporary, writer.LayerFormat(layer_format), annotations)
