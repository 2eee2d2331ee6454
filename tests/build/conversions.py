"""One conversion as the command line makes it, in a process of its own: python conversions.py SOURCE TARGET FORMAT."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from singularity import console, paths
from singularity.build import perform
from singularity.build.plan import plan
from singularity.build.request import BuildRequest, Target
from singularity.build.steps.target import Convert
from singularity.definition import source
from singularity.errors import SingularityError
from singularity.namespaces import fakeroot


def main(given: str, target: str, form: str, *options: str) -> int:
    console.begin(console.Level.VERBOSE if "-v" in options else console.Level.INFO, colour=False)
    request = BuildRequest(
        target=Path(target),
        source=given,
        format=Target(form),
        overwrite="--force" in options,
        fix_permissions="--fix-perms" in options,
        reproducible="--reproducible" in options,
        cache=False,
        temporary=paths.temporary(),
    )
    try:
        made = plan(request, source.read(given, {}, unused_allowed=False))
        if not isinstance(made.steps[0], Convert) and os.geteuid() != 0:
            fakeroot.become_root()
        perform.perform(made)
    except SingularityError as error:
        sys.stderr.write(f"FATAL:   {error}\n")
        return error.exit_status
    if "--memory" in options:
        status = Path("/proc/self/status").read_text()  # getrusage(2) counts whoever forked us, too
        sys.stdout.write(f"{int(status.partition('VmHWM:')[2].split()[0]) >> 10}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
