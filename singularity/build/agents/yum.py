"""`Bootstrap: yum` and `Bootstrap: dnf`: Fedora, Red Hat and their relatives, package by package from a mirror.

Nothing of the host's configuration is read: repositories, proxies and keys are those of the definition file and the
environment. What the image keeps is `/etc/bootstrap-yum.conf`, as in version 2.2, and no cache or log.
"""

import logging
import re
import urllib.parse
from collections.abc import Mapping
from pathlib import Path

from singularity.build import gate
from singularity.build.agents import installer, require, rpm_database
from singularity.build.architecture import host
from singularity.build.workspace import Workspace
from singularity.definition.model import Stage
from singularity.errors import DefinitionError
from singularity.image.root import Root

logger = logging.getLogger(__name__)

CONFIGURATION = "/etc/bootstrap-yum.conf"
_CACHE = "/var/cache/yum-bootstrap"
_ALWAYS = ("/etc/redhat-release", "coreutils")
_PURPOSE = "install the packages"
_MIRRORS = {"MirrorURL": "base", "UpdateURL": "updates"}  # and their repositories
_EMPTIED = ("/var/cache/dnf", "/var/cache/libdnf5", "/var/cache/yum")
_LOGS = re.compile(r"(?:dnf5?(?:\.\w+)*|hawkey|yum)\.log(?:\.\d+)?")
_HISTORY = re.compile(r"history\.sqlite.*")
_OUTPUT = installer.Output(
    told=re.compile(r"^(?:Install|Upgrade) +\d+ Packages?|^(?:Total download|Installed) size"),
    warned=re.compile(r"scriptlet failed"),
    failed=(
        re.compile(r"^(?:Public key for |Package .* is not signed|- nothing provides )"),
        re.compile(r"^Error: (?!GPG check FAILED)."),
    ),
)


def check(stage: Stage, name: str) -> None:
    """`MirrorURL` is the repository with the base system."""
    require(stage, "MirrorURL", name, "MirrorURL: URL of the directory that holds repodata")
    installer.check_urls(stage, name, *_MIRRORS)
    installer.check_packages(stage, name)
    installer.check_version(stage, name)
    for keyword in _MIRRORS:
        field = stage.header.get(keyword.lower())
        if field and "$releasever" in field.value and "osversion" not in stage.header:
            raise DefinitionError(
                f"{keyword} names $releasever, and no OSVersion says which", name=name, line=field.line
            )
    installer.check_settings(stage, name)


def bootstrap(stage: Stage, root: Path, workspace: Workspace) -> None:
    """Installs `/etc/redhat-release`, coreutils and what `Include` names. Raises BuildError and ToolError."""
    program = installer.find_first(("dnf", "yum"), purpose=_PURPOSE)
    installer.require_ids(program.name)
    logger.info("Found %s at: %s", program.name.upper(), program)
    home = installer.make_home(workspace.directory)
    signed_by = installer.keys(stage)
    with Root(root) as opened:
        rpm_database.prepare(opened, home)
        opened.make_directory("/etc")
        opened.write(CONFIGURATION, configuration(stage, signed_by, {}).encode("utf-8", "surrogateescape"))
    working = workspace.directory / "yum.conf"
    text = configuration(stage, signed_by, gate.environment(), working=home)
    working.write_text(text, encoding="utf-8", errors="surrogateescape")
    environment = {"HOME": str(home), "DNF_DISABLE_ALIASES": "1", **gate.environment()}
    words = command(program, stage, root, working, workspace)
    installer.run(words, purpose=_PURPOSE, environment=environment, root=root, output=_OUTPUT)
    rpm_database.settle(root, _CACHE)
    with Root(root) as opened:
        _clean(opened, workspace.directory)


def source_digest(stage: Stage) -> str | None:
    """Of local repositories, the index, which has the checksums of all the rest."""
    urls = [url for keyword in _MIRRORS for url in stage.value(keyword.lower()).split()]
    machine = installer.machine(host())
    indices = []
    for url in urls:
        path = installer.local_path(url.replace("$basearch", machine).replace("$releasever", stage.value("osversion")))
        if path:
            indices.append(path / "repodata" / "repomd.xml")
    return installer.digest(stage, indices)


def command(program: Path, stage: Stage, root: Path, configuration_file: Path, workspace: Workspace) -> list[str]:
    """The words of the command line."""
    argv = [str(program), "--noplugins", "-c", str(configuration_file), f"--installroot={root}"]
    version = stage.value("osversion")
    if version:
        argv.append(f"--releasever={version}")
    if workspace.architecture != host():
        argv.append(f"--forcearch={installer.machine(workspace.architecture)}")
    argv += [f"--setopt={setting}" for setting in installer.settings(stage.value("setopt"))]
    if program.name == "yum":
        argv.append("--tolerant")
    return [*argv, "-y", "install", *_ALWAYS, *installer.packages(stage)]


def configuration(stage: Stage, keys: list[str], proxies: Mapping[str, str], *, working: Path | None = None) -> str:
    """A whole configuration file; for use now, with proxies, when there is a `working` directory, else for the image.

    Proxies may carry passwords, and are of this place and time: the image does not get them.
    """
    lines = ["[main]", f"cachedir={_CACHE}", f"keepcache={int(working is not None)}", "plugins=0"]
    lines += ["reposdir=/dev/null", "exactarch=1", "obsoletes=1", "deltarpm=0"]
    if working:
        lines.append(f"varsdir={working}")  # where no variable of the host's is
    check = int(bool(keys))
    lines.append(f"gpgcheck={check}")
    for keyword, name in _MIRRORS.items():
        urls = [installer.as_url(url) for url in stage.value(keyword.lower()).split()]
        if not urls:
            continue
        lines += ["", f"[{name}]", f"name=Linux $releasever - $basearch {name}", f"baseurl={' '.join(urls)}"]
        lines += ["enabled=1", f"gpgcheck={check}"]
        if keys:
            lines.append(f"gpgkey={' '.join(keys)}")
        proxy = _proxy(urls[0], proxies)
        if proxy:
            lines.append(f"proxy={proxy}")
    return "\n".join(lines) + "\n"


def _proxy(url: str, variables: Mapping[str, str]) -> str:
    """The proxy that the environment names for this URL; empty for none, and for hosts that `no_proxy` names."""
    parts = urllib.parse.urlsplit(url)
    for name in (f"{parts.scheme}_proxy", "all_proxy"):
        found = variables.get(name) or variables.get(name.upper(), "")
        if found and not any(character.isspace() for character in found):
            exempt = variables.get("no_proxy") or variables.get("NO_PROXY", "")
            return "" if _is_exempt(parts.hostname or "", exempt) else found
    return ""


def _is_exempt(name: str, exempt: str) -> bool:
    words = [word.strip().lstrip(".") for word in exempt.split(",") if word.strip()]
    return any(word == "*" or name == word or name.endswith(f".{word}") for word in words)


def _clean(root: Root, directory: Path) -> None:
    """Caches, and logs and history of a transaction that was this host's."""
    installer.remove(root, _CACHE)
    for place in _EMPTIED:
        installer.empty(root, place)
    for place, pattern in (("/var/log", _LOGS), ("/var/lib/dnf", _HISTORY)):
        for name in root.names(place):
            if pattern.fullmatch(name):
                root.remove(f"{place}/{name}")
    installer.clear_home(root, directory)
