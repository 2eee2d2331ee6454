"""How a command was told to reach registries: by which protocol, and as whom."""

import os
from pathlib import Path
from typing import NamedTuple

from singularity.variables import PREFIXES, TRUE, variable


class Access(NamedTuple):
    """What options and variables say; empty where they say nothing. The password is shown nowhere."""

    no_https: bool = False  # the registry that is named speaks http; mirrors of it have settings of their own
    authfile: Path | None = None  # with credentials, in place of all others
    username: str = ""
    password: str = ""
    login: bool = False  # ask whoever is at the terminal

    def __repr__(self) -> str:
        return f"Access(no_https={self.no_https}, authfile={self.authfile}, username={self.username!r})"


def from_environment(*, no_https: bool = False, authfile: str = "", login: bool = False) -> Access:
    """What the options of a command say, and the variables where an option says nothing.

    Variables, under both prefixes of the family: NOHTTPS or NO_HTTPS, AUTH_FILE or AUTHFILE, DOCKER_LOGIN,
    DOCKER_USERNAME and DOCKER_PASSWORD, which count together or not at all and are read without prefix too.
    """
    named = authfile or variable("AUTH_FILE") or variable("AUTHFILE")
    username, password = _first("DOCKER_USERNAME").strip(), _first("DOCKER_PASSWORD")
    if not username or not password:
        username = password = ""
    return Access(
        no_https=no_https or bool({variable("NOHTTPS").lower(), variable("NO_HTTPS").lower()} & TRUE),
        authfile=Path(named).expanduser().absolute() if named else None,
        username=username,
        password=password,
        login=login or variable("DOCKER_LOGIN").lower() in TRUE,
    )


def _first(key: str) -> str:
    """The first of a variable's names that is set, to the letter: passwords may have blanks at their ends."""
    return next((value for prefix in (*PREFIXES, "") if (value := os.environ.get(prefix + key, "")).strip()), "")
