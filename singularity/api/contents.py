"""What is in an image, and how two of them differ, as `singularity sbom` and `singularity diff` say it."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from singularity.api.images import Image

if TYPE_CHECKING:
    from singularity.api.door import Word
    from singularity.explain.diff import Difference


def sbom(image: "Word", *, form: str = "spdx") -> dict[str, Any]:
    """The packages in an image, as a document of SPDX 2.3, or with the form "cyclonedx" of CycloneDX 1.6.

    SOURCE_DATE_EPOCH is the time that it carries. Nothing of the image is run. Raises ValueError for another form,
    FileError and ImageError.
    """
    from singularity.build.reproducible import source_date_epoch
    from singularity.cli.inspected import identified
    from singularity.packages import bill

    standard = bill.Standard(form)
    with Image.open(image) as found:
        data = bill.of_image(identified(Path(os.fspath(found))), standard, epoch=source_date_epoch())
    document: dict[str, Any] = json.loads(data)
    return document


def diff(a: "Word", b: "Word", *, parts: Iterable[str] = ("packages", "config", "files")) -> "Difference":
    """How two images of any formats differ in their packages, in what they say about themselves, and in their files.

    It is false where they are the same. Times of files are not compared. Raises ValueError for another part, FileError
    and ImageError.
    """
    from singularity.cli.inspected import identified
    from singularity.explain.diff import Part, compare

    chosen = frozenset(map(Part, parts))
    with Image.open(a) as one, Image.open(b) as other:
        return compare(identified(Path(os.fspath(one))), identified(Path(os.fspath(other))), chosen)
