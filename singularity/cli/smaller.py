"""What `--only` and its kin say to a build."""

from typing import TYPE_CHECKING

from singularity.build.request import Target
from singularity.errors import UsageError
from singularity.slim.reduce import Reduction

if TYPE_CHECKING:
    from singularity.cli.building import Options


def reduction(format_: Target, options: "Options") -> Reduction | None:
    """None where nothing is to be left out. Raises UsageError."""
    if not options.only:
        for name, given in (("--keep", options.keep), ("--whole-packages", options.whole_packages)):
            if given:
                raise UsageError(f"{name} is for --only", hint="it says what stays besides what a trace has used")
        return None
    if format_ not in (Target.SIF, Target.SQUASHFS) or options.erofs:
        hint = "make such a one first, and of that what is wanted"
        raise UsageError("--only makes SIF files, or squashfs, and no other image", hint=hint)
    if options.encrypt:
        raise UsageError("--only: a new image is tried out, and cannot be encrypted at once", hint="encrypt it then")
    return Reduction(
        traces=options.only, keep=options.keep, whole_packages=options.whole_packages, test=not options.notest
    )
