"""Where policies are. Most machines have none, so that this is all that most commands need of them."""

import os
from pathlib import Path

from singularity import paths

NAME = "policy.json"


def found() -> list[Path]:
    """The files of policies: root's, beside `singularity.conf`, and the user's own. All of them must hold."""
    return [path for path in (paths.site_directory() / NAME, paths.user_place() / NAME) if os.path.lexists(path)]
