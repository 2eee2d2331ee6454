"""Images of layers, packed: each layer is converted once, several at a time while others are fetched, and then merged.

What a build adds to an image depends on what all layers leave of a few files. `merge` hands those over, the code that
writes such files for a stream does so here too (`streaming.completed`), and what it makes comes as one more layer.
"""

import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

from singularity import console, files
from singularity.build import layout, pack, reproducible, streaming
from singularity.cache.packed_store import Store
from singularity.console import VERBOSE
from singularity.errors import ImageError
from singularity.image.archive.compression import piped
from singularity.image.limits import LIMITS
from singularity.image.root import Root
from singularity.image.squashfs import packer
from singularity.image.tree import Entry, Tree
from singularity.oci.image import Image, Layer

logger = logging.getLogger(__name__)

_AT_ONCE = 3  # layers


def write(
    image: Image, store: Store, form: packer.Form, new: files.NewFile, target: Path, offset: int, place: Path,
    complete: Callable[[Root], None],
) -> None:  # fmt: skip
    """Writes a squashfs file system `offset` bytes into a file: what the layers of an image are, and `complete` adds.

    `place` is a private and empty directory. Raises ImageError, FileError and ToolError.
    """
    layers = _packed(image, store, form)
    try:
        losses = _merge(layers, form, new, target, offset, place, complete)
    except packer.DamagedLayerError as error:
        logger.warning("%s: its layers are packed again", error)
        for layer in image.layers:
            store.drop(layer.content)
        again = place / "again"
        again.mkdir()
        losses = _merge(_packed(image, store, form), form, new, target, offset, again, complete)
    pack.warn_of_losses(target, losses.times, losses.lists)


def _merge(
    layers: Sequence[Path], form: packer.Form, new: files.NewFile, target: Path, offset: int, place: Path,
    complete: Callable[[Root], None],
) -> packer.Losses:  # fmt: skip
    from singularity.image.archive import tar_writer

    os.ftruncate(new.fd, 0)
    with packer.merging(
        layers,
        new.fd,
        offset=offset,
        form=form,
        told=streaming.TOLD,
        epoch=reproducible.source_date_epoch(),
        scratch=place,
        name=str(target),
        first=layout.FIRST,
    ) as merging:
        held = place / "held"
        held.mkdir()
        tar_writer.write(_added(merging.members(), held, complete), merging.input)
        return merging.finish()


def _added(members: Tree, place: Path, complete: Callable[[Root], None]) -> Iterator[Entry]:
    """What is put over all layers: not what only came by to be looked at."""
    passed = False

    def passing() -> Iterator[Entry]:
        nonlocal passed
        yield from members
        passed = True

    for entry in streaming.completed(passing(), place, complete):
        if passed:
            yield entry


def _packed(image: Image, store: Store, form: packer.Form) -> list[Path]:
    """The files of an image's layers, the lowest first."""
    with console.counting("packing", image.size) as add, _Packing(image.layers, store, form) as packing:
        found = []
        for number, layer in enumerate(image.layers, 1):
            logger.log(VERBOSE, "Layer %d of %d: %s", number, len(image.layers), layer.name)
            found.append(packing.wait_for(layer))
            add(layer.size or 0)
        return found


@dataclass(slots=True)
class _Work:
    """One layer on its way."""

    layer: Layer
    ended: threading.Event
    path: Path | None = None
    error: BaseException | None = None


class _Packing:
    """Layers that are packed, the lowest first, a few at a time."""

    def __init__(self, layers: Sequence[Layer], store: Store, form: packer.Form) -> None:
        self._store, self._form = store, form
        self._work = {layer.content: _Work(layer, threading.Event()) for layer in layers}
        self._waiting = list(self._work.values())
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        for _ in range(min(_AT_ONCE, len(self._waiting))):
            thread = threading.Thread(target=self._run, daemon=True)  # its programs end with it, and it with us
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(self, *about: object) -> None:
        with self._lock:
            self._waiting.clear()
        if about[0] is None or issubclass(about[0], Exception):  # type: ignore[arg-type]  # its first is a class
            for thread in self._threads:
                thread.join()

    def wait_for(self, layer: Layer) -> Path:
        """The file of a layer. Raises what packing it has raised."""
        work = self._work[layer.content]
        while not work.ended.wait(timeout=1):
            pass
        if work.error is not None:
            raise work.error
        if work.path is None:
            raise ImageError(f"{layer.name}: not packed")
        return work.path

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    return
                work = self._waiting.pop(0)
            try:
                make = partial(_convert, work.layer, self._form)
                work.path = self._store.have(work.layer.content, make, "packs a layer")
            except BaseException as error:  # told to whoever waits for this layer
                work.error = error
                with self._lock:
                    self._waiting.clear()
            finally:
                work.ended.set()


def _convert(layer: Layer, form: packer.Form, target: int) -> None:
    """Packs a layer. A damaged blob is told as that, not by what its reader stumbles over (security requirement N2)."""
    try:
        with ExitStack() as stack:
            stored = layer.open()
            stack.callback(stored.close)
            archive, most = stack.enter_context(piped(stored.unchecked, layer.name))
            packer.write_layer(
                archive,
                target,
                form=form,
                choice=layout.LAYERS,
                digest=str(layer.content),
                limit=min(most, LIMITS.total),
                budget=int((layer.size or 0) * layout.LAYER_SHARE),
                name=layer.name,
            )
    finally:
        if layer.stored not in (None, layer.content):
            with closing(layer.open()) as stored:
                stored.finish()
