"""The keywords of headers, and which bootstrap agent uses which."""

import re
from collections.abc import Mapping
from difflib import get_close_matches

ANY = ("Bootstrap", "Stage")  # whatever the agent
_REGISTRY = ("From", "Registry", "Namespace", "IncludeCmd", "Token")
_RPM = ("OSVersion", "MirrorURL", "UpdateURL", "Include", "Setopt", "GPG")
_DEB = ("OSVersion", "MirrorURL", "Include", "GPG")
_SUSE = ("Product", "User", "Regcode", "ProductPGP", "RegisterURL", "Modules")
_DOCKERFILE = ("From", "Filename", "Target", "Frontend", "BuildArgs")
USED: Mapping[str, tuple[str, ...]] = {
    "arch": ("MirrorURL", "Include", "ConfURL", "GPG"),
    "buildkit": _DOCKERFILE,
    "busybox": ("MirrorURL", "OSVersion"),
    "debootstrap": _DEB,
    "dnf": _RPM,
    "docker": _REGISTRY,
    "docker-archive": ("From",),
    "docker-daemon": ("From",),
    "dockerfile": ("From", "Filename", "Target", "BuildArgs"),
    "doi": ("From", "Fingerprints"),
    "library": ("From", "Library", "Fingerprints"),
    "localimage": ("From", "Fingerprints"),
    "mmdebstrap": _DEB,
    "oci": ("From",),
    "oci-archive": ("From",),
    "oras": ("From", "Fingerprints"),
    "scratch": (),
    "shub": ("From",),
    "yum": _RPM,
    "zypper": (*_RPM, *_SUSE),
}
KEYWORDS = tuple(dict.fromkeys((*ANY, *(keyword for own in USED.values() for keyword in own))))

OLD_BOOTSTRAP = ("osbuild", "ostype")
OLD_AGENTS = {"redhat": "yum", "debian": "debootstrap"}  # under the old names of Bootstrap
# What `%{OSVERSION}` is filled in.
_VERSIONED = re.compile(r"from|mirrorurl|updateurl|otherurl\d+|product")
_OTHER_URL = re.compile(r"otherurl\d+")
_VERSION = re.compile(r"%(?:\{osversion\}|osversion\b)", re.IGNORECASE)
_BY_LOWER = {keyword.lower(): keyword for keyword in KEYWORDS}
_WORD_LIMIT = 60  # characters of a word that is compared


def is_known(keyword: str) -> bool:
    """Whether any agent knows it; in lower case."""
    return keyword in _BY_LOWER or bool(_OTHER_URL.fullmatch(keyword))


def is_used(keyword: str, agent: str) -> bool:
    """Whether the agent has a use for a keyword in lower case; agents that are not known have a use for all."""
    if agent not in USED or keyword in (each.lower() for each in (*ANY, *USED[agent])):
        return True
    return agent == "zypper" and bool(_OTHER_URL.fullmatch(keyword))


def spelling(keyword: str) -> str:
    """How the documentation writes a keyword that is given in lower case."""
    return _BY_LOWER.get(keyword, keyword)


def nearest(word: str) -> str:
    """A hint for a word that is no keyword; empty where none is near."""
    near = get_close_matches(word.lower()[:_WORD_LIMIT], list(_BY_LOWER), n=1)
    return f'did you mean "{_BY_LOWER[near[0]]}"?' if near else ""


def names_version(keyword: str, value: str) -> bool:
    """Whether the value holds `%{OSVERSION}`, and the keyword is one that it is filled in for."""
    return bool(_VERSIONED.fullmatch(keyword) and _VERSION.search(value))


def with_version(value: str, version: str) -> str:
    """The value with `%{OSVERSION}` or `%OSVERSION`, in any case, replaced; `$releasever` is the package manager's."""
    return _VERSION.sub(lambda _: version, value)
