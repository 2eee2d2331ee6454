"""`python -m singularity [global options] VERB ...`: what the front door executes for every verb that is no launch."""

import gc
import io
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, NoReturn

from singularity.errors import STANDARD_OUTPUT

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_SHORT = {  # asked for all day: modules that carry out the plain case without what options and messages need
    "inspect": "inspected",
    "sif list": "sif_listed",
    "cache list": "cache_listed",
}
_COLLECTED = 50_000  # objects between looks for garbage, of which starting makes none


class _Output(io.FileIO):
    """Standard output, which says its name when it cannot be written."""

    def write(self, data: "ReadableBuffer", /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            error.filename = STANDARD_OUTPUT
            raise


def _run() -> int:
    gc.set_threshold(_COLLECTED)
    for words in (sys.argv[1:2], sys.argv[1:3]):
        module = _SHORT.get(" ".join(words))
        if module and import_module(f"singularity.cli.{module}").in_short(sys.argv[1 + len(words) :]):
            return 0
    from singularity.cli.main import main

    if sys.stdout is not None:
        output = io.BufferedWriter(_Output(sys.stdout.fileno(), "w", closefd=False))
        sys.stdout = io.TextIOWrapper(
            output, sys.stdout.encoding, sys.stdout.errors, line_buffering=sys.stdout.isatty()
        )
    return main(sys.argv[1:])


def _end(status: int) -> NoReturn:
    """Ends this process as it is: taking the interpreter apart is a tenth of what a short verb costs."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, AttributeError):
        sys.exit(status)
    os._exit(status)


if __name__ == "__main__":
    _end(_run())
