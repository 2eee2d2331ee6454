"""Package URLs, by which other programs know a package: `pkg:deb/debian/bash@5.2-2?arch=amd64&distro=debian-12`.

Source: the package URL specification (ECMA-427) and its list of types.
"""

import re
from collections.abc import Mapping
from urllib.parse import quote, urlsplit

from singularity.packages.model import SYSTEM, Manager, Package

_KEPT = "-._~:"  # besides letters and digits
_NAMES = {Manager.DPKG: "debian", Manager.RPM: "rpm", Manager.APK: "alpine", Manager.PACMAN: "arch"}


def of(package: Package, distribution: Mapping[str, str]) -> str:
    """The URL of a package; `distribution` is the image's os-release."""
    kind, name, version, space = package.manager.value, package.name, package.version, ""
    qualifiers = dict(package.qualifiers)
    if package.manager in SYSTEM:
        space = (distribution.get("ID") or _NAMES[package.manager]).lower()
        release = distribution.get("VERSION_ID", "")
        qualifiers |= {"arch": package.architecture, "distro": f"{space}-{release}" if release else ""}
        name = name if package.manager is Manager.RPM else name.lower()
    if package.manager is Manager.RPM:
        version = version.rpartition(":")[2]
    elif package.manager is Manager.PYTHON:
        name = re.sub(r"[-_.]+", "-", name).lower()
    elif package.manager is Manager.CONDA:
        qualifiers |= {"channel": _channel(qualifiers.get("channel", ""))}
    elif package.manager is Manager.NPM and name.startswith("@"):
        space, _, name = name.partition("/")
    path = "/".join(_coded(each) for each in (kind, *space.split("/"), name) if each)
    pairs = "&".join(f"{key}={_coded(value)}" for key, value in sorted(qualifiers.items()) if value)
    return f"pkg:{path}{f'@{_coded(version)}' if version else ''}{f'?{pairs}' if pairs else ''}"


def _channel(text: str) -> str:
    """The name of a channel whose URL is given."""
    return urlsplit(text).path.strip("/").removesuffix("/noarch") or text if "://" in text else text


def _coded(text: str) -> str:
    return quote(text.encode("utf-8", "replace"), safe=_KEPT)
