"""`python -m singularity [global options] VERB ...`: what the front door executes for every verb that is no launch."""

import sys

from singularity.cli.main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
