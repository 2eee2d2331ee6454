"""Whether an image is what it should be: `check` and `verify`."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from singularity.api import door
from singularity.api.door import Word
from singularity.api.images import Image
from singularity.api.words import of_launches, spelled
from singularity.check.finding import Finding, Subject
from singularity.trust.seals import Signer

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Unpack

    from singularity.api.options import ExecOptions, VerifyOptions


def check(
    image: Word,
    program: Sequence[Word] = (),
    *,
    subjects: "Iterable[Subject]" = (),
    **options: "Unpack[ExecOptions]",
) -> list[Finding]:
    """What would fail if `program`, or the runscript, were launched with these options of `exec` on this host.

    With `subjects` these are looked at alone. Nothing of the image is run; a finding whose `verdict` is Verdict.FAILS
    would fail. Raises FileError and ImageError for an image that cannot be read.
    """
    from singularity.cli import checked

    words = tuple(spelled("check", of_launches("exec"), options))
    chosen = frozenset(subjects)
    given = tuple(os.fspath(word) for word in program)
    with Image.open(image) as found:
        name, launcher = os.fspath(found), door.program()
        return checked.findings(name, given, words, chosen, only=bool(chosen), door=launcher)


def verify(image: Word, **options: "Unpack[VerifyOptions]") -> list[Signer]:
    """Who has signed all of an image, as it is now.

    `options` say whose signatures count, as those of `singularity verify` do: keys of the user's ring and the site's,
    or `key`, `certificate`, `ssh`; `local=True` asks no server for others. Raises SignatureError where something is not
    signed, was changed, or was signed by nobody who counts.
    """
    from singularity.cli.trusting import Trusted
    from singularity.cli.verify import signatures

    for name in options:
        if name not in Trusted.__dataclass_fields__:
            raise TypeError(f"verify() has no option {name!r}")
    given = {key: os.fspath(value) if isinstance(value, os.PathLike) else value for key, value in options.items()}
    return [each.signer for each in signatures(Path(image), **given)]
