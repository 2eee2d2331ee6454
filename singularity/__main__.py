"""`python -m singularity [global options] VERB ...`: what the front door executes for every verb that is no launch."""

import sys


def _run() -> int:
    if sys.argv[1:2] == ["inspect"]:
        from singularity.cli.inspected import in_short

        if in_short(sys.argv[2:]):
            return 0
    from singularity.cli.main import main

    return main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(_run())
