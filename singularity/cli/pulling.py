"""What `singularity pull` does with its options."""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from singularity import console, files, uri
from singularity.cache import image_store
from singularity.cache.places import others_of_site
from singularity.definition import recognise
from singularity.errors import FileError, ImageError, UsageError
from singularity.pull import images
from singularity.sources.fetch import Fetch
from singularity.uri import Uri

if TYPE_CHECKING:
    from singularity.image.base import Base

logger = logging.getLogger(__name__)

_HEAD = 32768  # bytes of a SIF file with its descriptors, as they are written here


def pull(
    words: Sequence[str], directory: Path, fetch: Fetch, *,
    name: str, overwrite: bool, sandbox: bool, with_base: bool,
) -> None:  # fmt: skip
    """Brings the image. Raises SingularityError."""
    if not words:
        raise UsageError("pull: URI is missing", hint="see: singularity help pull")
    *targets, text = words
    if len(targets) > 1:
        raise UsageError(f"pull: {len(words)} words, where TARGET and URI are all", hint="see: singularity help pull")
    named = uri.parse(text)
    if named is None:
        raise ImageError(f"No transport type URI supplied: {text}", hint="such as docker://NAME:TAG")
    target = _target(targets, directory, named, name)
    recognise.refuse_target(target, hint="name another file")
    _refuse(target, overwrite=overwrite)
    with _made(directory):
        files.refuse_target(target, overwrite=overwrite, directory=sandbox)
        if sandbox:
            _sandbox(target, named, fetch, overwrite=overwrite)
        else:
            _file(target, named, fetch, overwrite=overwrite)
            _base(target, fetch, with_base=with_base)


def _file(target: Path, named: Uri, fetch: Fetch, *, overwrite: bool) -> None:
    meant: list[str] = []
    with images.available(named, fetch._replace(told=meant.append), beside=target.parent) as path:
        if named.transport.is_web:
            from singularity.sources import web

            web.is_image(str(named).partition("?")[0])(path)
        shared = any(path.is_relative_to(each) for each in others_of_site())
        image_store.put(path, target, overwrite=overwrite, shared=shared)
    if meant:
        logger.info("Digest: %s", meant[0])
    logger.info("Image: %s, %s", target, console.size(target.stat().st_size))


def _base(target: Path, fetch: Fetch, *, with_base: bool) -> None:
    """Says what an image lies on and is not here, or brings that, and what that lies on. Raises SingularityError."""
    with target.open("rb") as file:
        if b"base:sha256:" not in file.read(_HEAD):  # what is needed for more takes a while to load
            return
    from singularity.image import base

    said = base.of_path(target)
    if said is None:
        return
    try:
        found = base.find(target, said)
    except base.MissingError as missing:
        if not with_base or not said.uri:
            if with_base:
                raise
            logger.warning("%s", missing)
            return
        found = target.parent / said.file_name
        _fetch_base(found, said, fetch)
    if with_base:
        _base(found, fetch, with_base=True)


def _fetch_base(target: Path, said: "Base", fetch: Fetch) -> None:
    from singularity.image import base

    named = uri.parse(said.uri)
    if named is None or named.transport.is_oci:
        raise ImageError(f"{said.uri}: where its base is said to be, and no URI of a file", hint="pull it by hand")
    _refuse(target, overwrite=False)
    with images.available(named, fetch, beside=target.parent) as path:
        if base.digest_of(path) != said.digest:
            raise ImageError(f"{said.uri}: another image by now than {said}", hint="ask whoever made it for that file")
        shared = any(path.is_relative_to(each) for each in others_of_site())
        image_store.put(path, target, overwrite=False, shared=shared)
    logger.info("Its base: %s, %s", target, console.size(target.stat().st_size))


@contextmanager
def _made(directory: Path) -> Iterator[None]:
    """The directory that the file goes to, made where it is missing; gone again where nothing came of it."""
    missing = [each for each in (directory, *directory.parents) if not os.path.lexists(each)]
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise FileError(f"{directory}: no directory", hint="name another with --dir") from error
    except OSError as error:
        raise FileError.because(error.filename or directory, error) from error
    try:
        yield
    finally:
        for each in missing:
            with suppress(OSError):
                each.rmdir()


def _target(targets: Sequence[str], directory: Path, named: Uri, name: str) -> Path:
    """Where the image goes. Raises UsageError for two names that differ."""
    if targets and name and targets[0] != name:
        raise UsageError(f"pull: TARGET is {targets[0]}, and --name says {name}", hint="give one of them")
    return directory / (targets[0] if targets else name or named.file_name)


def _refuse(target: Path, *, overwrite: bool) -> None:
    """Raises FileError where the target is there, in the words that programs look for."""
    if not overwrite and os.path.lexists(target):
        raise FileError(f'Image file already exists: "{target}" - will not overwrite', hint="--force replaces it")


def _sandbox(target: Path, named: Uri, fetch: Fetch, *, overwrite: bool) -> None:
    from singularity.build import perform
    from singularity.build.plan import plan
    from singularity.build.request import BuildRequest, Target
    from singularity.definition import source
    from singularity.namespaces import fakeroot

    request = BuildRequest(
        target=target,
        source=str(named),
        format=Target.SANDBOX,
        overwrite=overwrite,
        architecture=fetch.architecture,
        fetch=fetch,
        temporary=fetch.scratch,
    )
    made = plan(request, source.read(request.source, {}, unused_allowed=True))
    if os.geteuid() != 0:
        fakeroot.become_root()
    perform.perform(made)
