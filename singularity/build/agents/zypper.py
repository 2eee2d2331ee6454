"""`Bootstrap: zypper`: openSUSE and SUSE Linux Enterprise, package by package from a mirror.

The repositories of the header become those of the image, in `/etc/zypp/repos.d`. Nothing of the host's configuration
is read.
"""

import logging
import re
from pathlib import Path

from singularity import process
from singularity.build import gate
from singularity.build.agents import installer, require, rpm_database
from singularity.build.architecture import host
from singularity.build.fetch import fetch
from singularity.build.workspace import Workspace
from singularity.definition.model import Stage
from singularity.errors import DefinitionError
from singularity.image.root import Root

logger = logging.getLogger(__name__)

_REPOSITORIES = "/etc/zypp/repos.d"
_CACHE = "/var/cache/zypp"
_ALWAYS = ("aaa_base",)
_PURPOSE = "install the packages"
_MIRRORS = {"mirrorurl": "repo", "updateurl": "update"}  # and their repositories
_OTHER = re.compile(r"otherurl(\d+)")
_ENTERPRISE = ("Product", "User", "Regcode")
_PRODUCT = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[\w.-]+){0,2}")
_ACCEPTED = (0, 100, 101, 102, 103, 107)  # done; there is something to know; scripts of packages failed
_SCRIPTS_FAILED = 107
_KEY_LIMIT = 1 << 20
_OUTPUT = installer.Output(
    told=re.compile(r"^\d+ new packages? to install|^Overall download size"),
    warned=re.compile(r"scriptlet failed"),
    failed=(
        re.compile(r"^File '.*' is unsigned|^- Signature verification failed|^Error message: |^- Specified path"),
        re.compile(r"^Problem: |^No provider of |^Package '.*' not found|Valid metadata not found|^Error"),
    ),
)


def check(stage: Stage, name: str) -> None:
    """`MirrorURL` is the repository with the base system; Product, User and Regcode together register instead."""
    line = stage.header["bootstrap"].line
    given = [keyword for keyword in _ENTERPRISE if stage.value(keyword.lower())]
    if given:
        for keyword in (*_ENTERPRISE, "OSVersion"):
            require(stage, keyword, name, f"a registered system needs {', '.join(_ENTERPRISE)} and OSVersion")
        if not _PRODUCT.fullmatch(stage.value("product")):
            line = stage.header["product"].line
            raise DefinitionError(f'Product: "{stage.value("product")}" is none', name=name, line=line)
        if not stage.value("productpgp") and not stage.value("mirrorurl"):
            hint = "ProductPGP, or the MirrorURL of the installer"
            raise DefinitionError("a registered system begins with a key or a mirror", name=name, line=line, hint=hint)
    else:
        require(stage, "MirrorURL", name, "MirrorURL: URL of the directory that holds repodata")
    others = [stage_keyword for stage_keyword in stage.header if _OTHER.fullmatch(stage_keyword)]
    installer.check_urls(stage, name, "MirrorURL", "UpdateURL", "RegisterURL", *others)
    installer.check_packages(stage, name)
    installer.check_settings(stage, name)
    installer.check_version(stage, name)


def bootstrap(stage: Stage, root: Path, workspace: Workspace) -> None:
    """Installs aaa_base and what `Include` names. Raises BuildError and ToolError."""
    program = process.find("zypper", purpose=_PURPOSE)
    registers = bool(stage.value("regcode"))
    if registers:
        process.find("SUSEConnect", purpose="register the product that the definition names")
    installer.require_ids("zypper")
    logger.info("Found ZYPPER at: %s", program)
    home = installer.make_home(workspace.directory)
    signed_by = installer.keys(stage)
    with Root(root) as opened:
        rpm_database.prepare(opened, home)
        opened.make_directory(_REPOSITORIES)
        for name, url in repositories(stage).items():
            text = repository(name, url, signed_by, installer.settings(stage.value("setopt")))
            opened.write(f"{_REPOSITORIES}/{name}.repo", text.encode("utf-8", "surrogateescape"))
    environment = {"HOME": str(home), "ZYPP_CONF": str(home / "zypp.conf"), **gate.environment()}
    for name in ("zypp.conf", "zypper.conf"):
        (home / name).write_text("[main]\n", encoding="ascii")
    for number, place in enumerate(signed_by):
        file = home / f"key-{number}.asc"
        file.write_bytes(fetch(place, limit=_KEY_LIMIT))
        _import_key(root, file, environment)
    if registers:
        _register(stage, root, home, environment)
    words = command(program, stage, root, home, trusting=not signed_by)
    status = installer.run(
        words, purpose=_PURPOSE, environment=environment, root=root, output=_OUTPUT, accept=_ACCEPTED
    )
    if status == _SCRIPTS_FAILED:
        logger.warning("zypper: scripts of some packages failed (-v shows which)")
    rpm_database.settle(root, f"{_CACHE}/packages")
    with Root(root) as opened:
        _clean(opened, workspace.directory)


def source_digest(stage: Stage) -> str | None:
    """Of local repositories, the index, which has the checksums of all the rest; what is registered is never kept."""
    if stage.value("regcode"):
        return None
    paths = (
        installer.local_path(url.replace("$releasever", stage.value("osversion")))
        for url in repositories(stage).values()
    )
    return installer.digest(stage, [path / "repodata" / "repomd.xml" for path in paths if path])


def command(program: Path, stage: Stage, root: Path, home: Path, *, trusting: bool) -> list[str]:
    """The words of the command line; `trusting` whatever key a repository brings along, where none is named."""
    argv = [str(program), "--config", str(home / "zypper.conf"), f"--root={root}", "--non-interactive"]
    if trusting:
        argv.append("--gpg-auto-import-keys")
    if stage.value("osversion"):
        argv.append(f"--releasever={stage.value('osversion')}")
    argv += ["install", "--auto-agree-with-licenses", "--download-in-advance", "--"]
    more = ["SUSEConnect"] if stage.value("regcode") else []
    return [*argv, *_ALWAYS, *more, *installer.packages(stage)]


def repositories(stage: Stage) -> dict[str, str]:
    """The repositories of the header, by the names that they get in the image."""
    found = {name: stage.value(keyword) for keyword, name in _MIRRORS.items() if stage.value(keyword)}
    others = [(int(match[1]), key) for key in stage.header if (match := _OTHER.fullmatch(key))]
    return found | {f"repo-{number}": stage.value(key) for number, key in sorted(others)}


def repository(name: str, url: str, keys: list[str], settings: list[str]) -> str:
    """The file of one repository, as zypper's `addrepo` would write it."""
    lines = [f"[{name}]", f"name={name}", "enabled=1", "autorefresh=1", f"baseurl={installer.as_url(url)}", "path=/"]
    lines += ["type=rpm-md", "keeppackages=0"]
    if keys:
        lines += ["gpgcheck=1", f"gpgkey={' '.join(keys)}"]
    return "\n".join([*lines, *settings]) + "\n"


def _register(stage: Stage, root: Path, home: Path, environment: dict[str, str]) -> None:
    """Registers the product, and what `Modules` names, with SUSE's server or the site's own."""
    if stage.value("productpgp"):
        key = home / "product.asc"
        key.write_text(f"{stage.value('productpgp')}\n", encoding="utf-8", errors="surrogateescape")
        _import_key(root, key, environment)
    for words in registrations(stage, root):
        process.run(words, purpose="register the product", environment=environment)


def _import_key(root: Path, file: Path, environment: dict[str, str]) -> None:
    words: list[str | Path] = ["rpmkeys", f"--root={root}", "--import", file]
    process.run(words, purpose="import the key that packages are signed with", environment=environment)


def registrations(stage: Stage, root: Path) -> list[list[str | Path]]:
    """The command lines of SUSEConnect, the product's first."""
    version = stage.value("osversion")
    machine = installer.machine(host())
    product = stage.value("product").split("/")
    triple = "/".join([*product, *[version, machine][len(product) - 1 :]])
    first: list[str | Path] = ["SUSEConnect", "--root", root, "--product", triple]
    first += ["--email", stage.value("user"), "--regcode", stage.value("regcode")]
    if stage.value("registerurl"):
        first += ["--url", stage.value("registerurl")]
    more: list[list[str | Path]] = [
        ["SUSEConnect", "--root", root, "--product", f"{module}/{version}/{machine}"]
        for module in stage.value("modules").replace(",", " ").split()
    ]
    return [first, *more]


def _clean(root: Root, directory: Path) -> None:
    """Caches, logs and locks of a transaction that was this host's."""
    installer.empty(root, _CACHE)
    for path in ("/var/log/zypp", "/var/log/zypper.log", "/run/zypp.pid", "/var/run/zypp.pid"):
        installer.remove(root, path)
    installer.clear_home(root, directory)
