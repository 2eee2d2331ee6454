"""The list of what is in an image (SBOM), made anew or as a SIF file carries it."""

import hashlib
import io
import json
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import BinaryIO, NamedTuple

from singularity.errors import ImageError
from singularity.image import metadata, stacked
from singularity.image.identify import Image, identify
from singularity.image.lookup import Followed, translated
from singularity.image.sif import edit
from singularity.image.sif import format as sif
from singularity.image.sif.format import DataType
from singularity.packages import cyclonedx, document, inventory, spdx
from singularity.packages.document import Content, Subject
from singularity.packages.inventory import Owners
from singularity.packages.model import Survey

_LIMIT = 256 << 20  # bytes of a list in a SIF file
_CHUNK = 1 << 20
_TITLE = "org.opencontainers.image.title"


class Standard(Enum):
    """The forms of the list; the value is what people call them."""

    SPDX = "spdx"
    CYCLONEDX = "cyclonedx"

    @property
    def media_type(self) -> str:
        """By which registries know it."""
        return {"spdx": "application/spdx+json", "cyclonedx": "application/vnd.cyclonedx+json"}[self.value]

    @property
    def name(self) -> str:
        """That of SIF's table."""
        return f"{self.value}-json"


class Bill(NamedTuple):
    """A list in a SIF file."""

    standard: Standard | None  # None: another form
    name: str  # of the form, as SIF has it
    data: bytes


def of_image(image: Image, standard: Standard, *, name: str = "", epoch: int | None = None) -> bytes:
    """The list for an image of any format but archives: a JSON document, which ends with a newline.

    `name` stands for the image where no label says its title. The same image gives the same bytes where `epoch`, in
    seconds since 1970, says when the list was made. Raises ImageError and FileError.
    """
    with translated(image.path), stacked.shown(image) as lookup:
        found = inventory.take(Survey(lookup))
        content = document.content(found, Owners(found))
        labels = metadata.from_root(Followed(lookup)).labels
        about = subject(image, labels, name or image.path.resolve().name, epoch)
        return encoded(standard, about, content)


def encoded(standard: Standard, about: Subject, found: Content) -> bytes:
    """The document: JSON that ends with a newline."""
    made = {Standard.SPDX: spdx.made, Standard.CYCLONEDX: cyclonedx.made}[standard](about, found)
    return json.dumps(made, indent=1, ensure_ascii=False).encode() + b"\n"


def subject(image: Image, labels: Mapping[str, str], name: str, epoch: int | None) -> Subject:
    """What a document is about: the title in the labels goes before `name`."""
    return Subject(name=labels.get(_TITLE) or name, sha256=_digest(image), labels=labels, when=document.when(epoch))


def _digest(image: Image) -> str:
    """Of the primary partition: the same in every copy of the file, signed or not."""
    if image.content is None:
        return ""
    hashed = hashlib.sha256()
    with image.path.open("rb") as file:
        file.seek(image.root.offset)
        left = image.root.size
        while left and (data := file.read(min(left, _CHUNK))):
            hashed.update(data)
            left -= len(data)
    return hashed.hexdigest()


def add(target: Path, standard: Standard, epoch: int | None) -> None:
    """Puts the list into a SIF file that is finished, and not signed yet. Raises SingularityError."""
    data = of_image(identify(target), standard, name="image", epoch=epoch)  # files of any name are the same image
    with edit.editing(target) as editor:
        primary = editor.content.primary()
        number = sif.SBOM_FORMATS.index(standard.name) + 1
        addition = edit.Addition(
            type=DataType.SBOM,
            name=f"sbom.{standard.value}.json".encode(),
            group=primary.group if primary else 0,
            extra=number.to_bytes(4, "little"),
        )
        editor.add(addition, io.BytesIO(data))


def stored(file: BinaryIO) -> list[Bill]:
    """The lists that an open SIF file carries about its root file system, in file order. Raises ImageError."""
    content = sif.read(file)
    primary = content.primary()
    found = []
    for each in content.descriptors:
        if each.type == DataType.SBOM and primary and each.group in (0, primary.group):
            number = int.from_bytes(each.extra[:4], "little")
            name = sif.SBOM_FORMATS[number - 1] if 1 <= number <= len(sif.SBOM_FORMATS) else "unknown"
            standard = next((one for one in Standard if one.name == name), None)
            found.append(Bill(standard, name, sif.read_object(file, each, limit=_LIMIT)))
    return found


def carried(path: Path, standard: Standard | None) -> bytes:
    """The list, of a form or any, that the SIF file at `path` carries. Raises ImageError where there is none."""
    there: list[Bill] = []
    if identify(path).content is not None:
        with path.open("rb") as file:
            there = stored(file)
    for each in there:
        if standard in (each.standard, None):
            return each.data
    has = f"it has {', '.join(each.name for each in there)}" if there else "build --sbom puts one into a SIF file"
    form = f" in the form {standard.value}" if standard else ""
    raise ImageError(f"{path}: carries no list of its packages{form}", hint=has)
