"""`Bootstrap: arch`: Arch Linux and its relatives, package by package from a mirror.

pacman is called as pacstrap calls it, which is a script around it that mounts what this build mounts itself. Nothing
of the host's configuration is read but the distribution's public keys.
"""

import logging
import os
import re
from pathlib import Path

from singularity import kernel, process
from singularity.build import container, gate
from singularity.build.agents import installer
from singularity.build.architecture import host
from singularity.build.fetch import fetch
from singularity.build.workspace import Workspace, script_environment
from singularity.definition.model import Stage
from singularity.errors import BuildError, DefinitionError
from singularity.image.root import Root

logger = logging.getLogger(__name__)

_MIRROR = "https://geo.mirror.pkgbuild.com"  # of the distribution itself, for x86_64
_PURPOSE = "install the packages"
_ALWAYS = ("base",)
_DATABASE, _CACHE = "/var/lib/pacman", "/var/cache/pacman/pkg"
_MIRROR_LIST = "/etc/pacman.d/mirrorlist"
_LIMIT = 1 << 20
_MACHINES = {"amd64": "x86_64", "386": "i686", "arm": "armv7h", "arm64": "aarch64"}
# Where the public keys of distributions lie: in pacman's own place, and in Debian's.
_KEYRINGS = ("/usr/share/pacman/keyrings", "/usr/share/keyrings")
# Where the keyring is seen while it is made: gpg's sockets lie in it, whose paths are of 107 bytes at most.
_SHORT = ("/mnt", "/media", "/srv", "/opt")
_SECTION = re.compile(r"\s*\[([^\]\s]+)\]\s*")
_SETTING = re.compile(r"\s*(\w+)\s*(?:=\s*(.*?)\s*)?")
# Settings that are of the host's file system and accounts: pacman cannot follow them from outside the image.
_HOSTS = frozenset({"CheckSpace", "DownloadUser", "RootDir", "DBPath", "CacheDir", "LogFile", "GPGDir", "HookDir"})
_OUTPUT = installer.Output(
    told=re.compile(r"^Total (?:Download|Installed) Size"),
    warned=re.compile(r"^error: command failed to execute correctly"),
    failed=(re.compile(r"unable to satisfy dependency|^error: (?!failed to (?:commit|synchronize|prepare))"),),
)


def check(stage: Stage, name: str) -> None:
    """Nothing must be said on x86_64; elsewhere the distribution has other mirrors."""
    installer.check_urls(stage, name, "MirrorURL", "ConfURL")
    installer.check_packages(stage, name)
    if host().sif != "amd64" and not (stage.value("mirrorurl") or stage.value("confurl")):
        hint = "MirrorURL: URL with $repo and $arch in it"
        line = stage.header["bootstrap"].line
        raise DefinitionError("Arch Linux itself is for x86_64 only", name=name, line=line, hint=hint)


def bootstrap(stage: Stage, root: Path, workspace: Workspace) -> None:
    """Installs the package or group `base` and what `Include` names. Raises BuildError, FileError and ToolError."""
    program = process.find("pacman", purpose=_PURPOSE)
    installer.require_ids("pacman")
    home = installer.make_home(workspace.directory)
    text = configuration(stage, _MACHINES.get(workspace.architecture.sif, workspace.architecture.sif))
    file = home / "pacman.conf"
    file.write_text(text, encoding="utf-8", errors="surrogateescape")
    signed = wants_signatures(text)
    if signed:
        _make_keyring(stage, home)
    with Root(root) as opened:
        for place in (_DATABASE, _CACHE, "/var/log", "/tmp"):  # noqa: S108 - a path in the image
            opened.make_directory(place, 0o1777 if place == "/tmp" else 0o755)  # noqa: S108
    environment = {"HOME": "/root", **gate.environment()}
    words = command(program, stage, root, home)
    installer.run(words, purpose=_PURPOSE, environment=environment, root=root, output=_OUTPUT)
    if signed:
        _begin_keyring(root)
    with Root(root) as opened:
        _name_mirror(opened, stage)
        _clean(opened)


def source_digest(stage: Stage) -> str | None:
    """Of a local configuration its text, of local repositories their databases."""
    if stage.value("confurl"):
        path = installer.local_path(stage.value("confurl"))
        return None if path else installer.digest(stage, [])
    path = installer.local_path(stage.value("mirrorurl"))
    if path is None:
        return installer.digest(stage, [])
    machine = _MACHINES.get(host().sif, host().sif)
    places = [
        Path(_server(str(path)).replace("$repo", each).replace("$arch", machine)) / f"{each}.db" for each in _CORE
    ]
    return installer.digest(stage, [place for place in places if place.exists()])


_CORE = ("core", "extra")


def command(program: Path, stage: Stage, root: Path, home: Path) -> list[str]:
    """The words of the command line."""
    argv = [str(program), f"--root={root}", f"--config={home / 'pacman.conf'}", f"--cachedir={root}{_CACHE}"]
    argv += [f"--dbpath={root}{_DATABASE}", f"--logfile={root}/var/log/pacman.log", f"--gpgdir={home / 'gnupg'}"]
    argv += [f"--hookdir={root}/etc/pacman.d/hooks", "--noconfirm", "--noprogressbar", "--sync", "--refresh"]
    return [*argv, *_ALWAYS, *installer.packages(stage)]


def configuration(stage: Stage, machine: str) -> str:
    """The configuration that `ConfURL` names, or one for the distribution's two repositories.

    `Include` lines name files of the host; they stand for the mirror. What the host would have to have is left out.
    """
    server = f"Server = {_server(installer.as_url(stage.value('mirrorurl') or _MIRROR))}"
    if not stage.value("confurl"):
        lines = ["[options]", f"Architecture = {machine}", "SigLevel = Required DatabaseOptional"]
        for name in _CORE:
            lines += ["", f"[{name}]", server]
        return "\n".join(lines) + "\n"
    found = fetch(stage.value("confurl"), limit=_LIMIT).decode("utf-8", "surrogateescape")
    lines = []
    section = ""
    for line in found.splitlines():
        heading = _SECTION.fullmatch(line)
        setting = _SETTING.fullmatch(line)
        if heading:
            section = heading[1]
        if setting and section == "options" and setting[1] in _HOSTS:
            continue
        if setting and setting[1] == "Architecture":
            lines.append(f"Architecture = {machine}")
        elif setting and setting[1] == "Include" and section != "options":
            lines.append(server)
        elif setting and setting[1] == "Include":
            raise BuildError(f"{stage.value('confurl')}: Include in [options] names a file of the host: {setting[2]}")
        else:
            lines.append(line)
    if not any(_SECTION.fullmatch(line) for line in lines):
        raise BuildError(f"{stage.value('confurl')}: no pacman.conf (it has no [section])")
    return "\n".join(lines) + "\n"


def wants_signatures(text: str) -> bool:
    """Whether a configuration checks any signature: at least one repository whose SigLevel is not `Never`."""
    levels: dict[str, list[str]] = {}
    section = ""
    for line in text.splitlines():
        heading = _SECTION.fullmatch(line)
        setting = _SETTING.fullmatch(line)
        if heading:
            section = heading[1]
            levels.setdefault(section, [])
        elif setting and setting[1] == "SigLevel":
            levels.setdefault(section, []).extend((setting[2] or "").split())
    default = levels.pop("options", [])
    return any("Never" not in (own or default) for own in levels.values())


def _server(mirror: str) -> str:
    """The mirror's URL with `$repo` and `$arch` in it, added as the distribution has them where it names neither."""
    return mirror if "$repo" in mirror else f"{mirror.rstrip('/')}/$repo/os/$arch"


def _make_keyring(stage: Stage, home: Path) -> None:
    """The keys that packages must be signed with: those that `GPG` names, else the distribution's own."""
    process.find("pacman-key", purpose="check signatures of packages")
    named = installer.keys(stage)
    keyring = next((path for path in _KEYRINGS if Path(path, "archlinux.gpg").exists()), "")
    if not named and not keyring:
        hint = "install archlinux-keyring, or name the key: GPG: https://..."
        raise BuildError(
            "no keys of Arch Linux on this machine, and the repository says to check signatures", hint=hint
        )
    directory = home / "gnupg"
    directory.mkdir(mode=0o700, exist_ok=True)

    short = next(place for place in _SHORT if os.path.isdir(place) and not home.is_relative_to(place))

    def shorten() -> None:
        kernel.mount(str(directory), short, None, kernel.MS_BIND)

    def key(*words: str | Path) -> None:
        argv = ["pacman-key", f"--gpgdir={short}", *words]
        installer.run(argv, purpose="make a keyring", environment={"HOME": str(home)}, before=shorten)

    key("--init")
    for number, place in enumerate(named):
        file = home / f"key-{number}"
        file.write_bytes(fetch(place, limit=_LIMIT))
        key("--add", file)
        for fingerprint in _fingerprints(file, directory):
            key("--lsign-key", fingerprint)
    if not named:
        key("--populate", "archlinux")


def _fingerprints(file: Path, home: Path) -> list[str]:
    words: list[str | Path] = ["gpg", "--homedir", home, "--batch", "--with-colons", "--show-keys", file]
    lines = [line.split(":") for line in process.run(words, purpose=f"read the key {file.name}").splitlines()]
    primary = [index for index, line in enumerate(lines) if line[0] == "pub"]
    return [next(line[9] for line in lines[index:] if line[0] == "fpr") for index in primary]


def _begin_keyring(root: Path) -> None:
    """The image's own pacman begins a keyring of its own, so that %post can install more."""
    with Root(root) as opened:
        if not (opened.is_file("/usr/bin/pacman-key") and opened.names("/usr/share/pacman/keyrings")):
            return
    for words in (["--init"], ["--populate"]):
        lines: list[str] = []
        argv = ["/usr/bin/pacman-key", *words]
        status = container.run(root, argv, environment=script_environment(), on_line=lines.append)
        if status:
            reason = process.telling_line("\n".join(lines)) or f"exit status {status}"
            raise BuildError(f"pacman-key {words[0]} in the image: {reason}")


def _name_mirror(root: Root, stage: Stage) -> None:
    """Names the mirror in the image where every mirror is commented out, as the distribution's package has it."""
    if not root.is_file(_MIRROR_LIST) or stage.value("confurl"):
        return
    text = root.read(_MIRROR_LIST).decode("utf-8", "surrogateescape")
    if not re.search(r"^\s*Server\s*=", text, re.MULTILINE):
        server = _server(installer.as_url(stage.value("mirrorurl") or _MIRROR))
        root.write(_MIRROR_LIST, f"{text.rstrip()}\n\nServer = {server}\n".encode("utf-8", "surrogateescape"))


def _clean(root: Root) -> None:
    """Package files and the log; the lists of what the mirror has stay, for installations without a refresh."""
    installer.empty(root, _CACHE)
    root.remove("/var/log/pacman.log")
    root.remove(f"{_DATABASE}/db.lck")
