"""What tests of the client share: blobs of their own making, and waiting that takes no time."""

from __future__ import annotations

import io
import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from singularity.content import digest
from singularity.content.document import Descriptor
from singularity.registry.access import Access
from singularity.registry.client import Registry
from singularity.web.http import Patience

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

PLAIN = Access(no_https=True)
AT_ONCE = Patience(connect=5, stall=5, taking_in=5, delays=(0, 0, 0, 0))
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True)
class Blob:
    data: bytes
    descriptor: Descriptor

    @classmethod
    def of(cls, data: bytes) -> Blob:
        name = digest.of(data)
        return cls(data, Descriptor(media_type="application/octet-stream", digest=name, size=len(data)))

    @classmethod
    def random(cls, size: int) -> Blob:
        return cls.of(os.urandom(size))

    def open(self) -> BinaryIO:
        return io.BytesIO(self.data)


def client(host: str, access: Access = PLAIN, patience: Patience = AT_ONCE) -> Registry:
    return Registry(host, access, patience)


def fetched(registry: Registry, repository: str, blob: Blob, offset: int = 0) -> bytes:
    with registry.open_blob(repository, blob.descriptor, offset) as stream:
        return stream.read()


def all_at_once(count: int, action: Callable[[int], None]) -> list[BaseException]:
    """Runs an action by several threads; what they raised."""
    failures: list[BaseException] = []

    def run(number: int) -> None:
        try:
            action(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return failures
