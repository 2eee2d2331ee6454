"""The environment variables of the family: each option's, under our prefix and under its twin's."""

import os

PREFIXES = ("SINGULARITY_", "APPTAINER_")
ENCRYPTION = tuple(prefix + key for prefix in PREFIXES for key in ("ENCRYPTION_PASSPHRASE", "ENCRYPTION_PEM_DATA"))
"""Keys to images, which nothing that is started may have."""
_PASSWORDS = (prefix + key for prefix in (*PREFIXES, "") for key in ("DOCKER_PASSWORD", "LOGIN_PASSWORD", "DOI_TOKEN"))
_SECRETS = frozenset((*_PASSWORDS, *ENCRYPTION))
TRUE, FALSE = frozenset({"1", "t", "true", "y", "yes", "on"}), frozenset({"0", "f", "false", "n", "no", "off"})


def variable(key: str) -> str:
    """The value of `SINGULARITY_<key>` or its twin; empty when unset or blank."""
    values = (os.environ.get(prefix + key, "").strip() for prefix in PREFIXES)
    return next((value for value in values if value), "")


def named(key: str, value: str, option: str) -> str:
    """What a message about a value is to name: the variable that says it, or else the option."""
    said = (prefix + key for prefix in PREFIXES if os.environ.get(prefix + key, "").strip() == value)
    return next(said, option)


def handed_on() -> dict[str, str]:
    """The caller's environment for what runs on her behalf: without what lets somebody in (security requirement N3)."""
    return {name: value for name, value in os.environ.items() if name not in _SECRETS}


def truth(word: str) -> bool:
    """Whether the text of a variable or of `--flag=` switches the option on."""
    return word.lower() in TRUE
