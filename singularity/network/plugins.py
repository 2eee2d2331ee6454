"""Plugins of CNI (Container Network Interface): what the site's networks are, and the programs that set them up.

Configuration, variables and results are those of https://www.cni.dev/docs/spec/. A network is a file of root's; its
plugins are programs of the host, which run in the host's namespaces with root's rights.
"""

import ipaddress
import json
import logging
import os
import re
import signal
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from singularity import config, paths, process
from singularity.errors import FileError, ImageError, SingularityError, ToolError, UsageError
from singularity.foreign_json import objects, parse_json

logger = logging.getLogger(__name__)

PROGRAMS = ("/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni")  # of upstream, Debian and Fedora
_SIZE_LIMIT = 1 << 20  # bytes of a configuration
_REASON = 1000  # characters of what a plugin says
_PATIENCE = 120  # seconds for a plugin: a server of addresses may be slow
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")  # of networks and plugins, by the specification
_PORTS = re.compile(r"(?P<host>\d{1,5})(:(?P<container>\d{1,5}))?(/(?P<protocol>tcp|udp))?")
_ARGUMENT = re.compile(r"((?P<network>[A-Za-z0-9][A-Za-z0-9_.-]*):)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)=(?P<value>[^;=]*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """One of the site's, as one interface of one container."""

    name: str
    version: str  # of the specification
    plugins: tuple[dict[str, Any], ...]
    interface: str
    ports: tuple[dict[str, Any], ...]  # as the capability portMappings has them
    arguments: str  # CNI_ARGS


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The container that plugins are told of."""

    container: str  # an id that no other has
    namespace: str  # a path, or "" for one that is gone


def networks(names: Sequence[str], arguments: Sequence[str]) -> tuple[Network, ...]:
    """The site's networks of these names, eth0 and so on in their order.

    `arguments` are those of `--network-args`: `portmap=HOST:CONTAINER/tcp` or `NAME=VALUE` for the plugins, behind
    `NETWORK:` for one of several. Raises UsageError for wrong ones, SingularityError where there is no such network.
    """
    given = [_argument(text, names) for text in arguments]
    found = dict(_configured(Path(config.text("cni configuration path") or paths.site_directory() / "network")))
    result = []
    for number, name in enumerate(names):
        if name not in found:
            raise SingularityError(f"--network {name}: there is no such network", hint=_known(found))
        version, plugins = found[name]
        mine = [(key, value) for network, key, value in given if network in ("", name)]
        ports = tuple(_port(value) for key, value in mine if key == "portmap")
        if ports and not any(_takes_ports(each) for each in plugins):
            raise UsageError(f"--network-args: network {name} has no plugin that forwards ports")
        others = [f"{key}={value}" for key, value in mine if key != "portmap"]
        result.append(
            Network(
                name=name,
                version=version,
                plugins=plugins,
                interface=f"eth{number}",
                ports=ports,
                arguments=";".join(["IgnoreUnknown=1", *others]),
            )
        )
    for each in (plugin for network in result for plugin in network.plugins):
        _program(each["type"])
    return tuple(result)


def _known(found: Iterable[str]) -> str:
    names = ", ".join(sorted(found))
    place = config.text("cni configuration path") or str(paths.site_directory() / "network")
    return f"{place} has {names}" if names else f"{place} has none"


# ---- what was asked for ----


def _argument(text: str, names: Sequence[str]) -> tuple[str, str, str]:
    """The network that is meant, or "", and name and value."""
    match = _ARGUMENT.fullmatch(text)
    if match is None:
        raise UsageError(f'--network-args "{text}": [NETWORK:]NAME=VALUE is wanted', hint="portmap=8080:80/tcp")
    network = match["network"] or ""
    if network and network not in names:
        raise UsageError(f"--network-args {text}: network {network} is not asked for")
    if match["name"] == "portmap":
        _port(match["value"])
    return network, match["name"], match["value"]


def _port(text: str) -> dict[str, Any]:
    match = _PORTS.fullmatch(text)
    host = int(match["host"]) if match else 0
    container = int(match["container"] or host) if match else 0
    if match is None or not 0 < host < 1 << 16 or not 0 < container < 1 << 16:
        raise UsageError(f'--network-args: "portmap={text}": HOST:CONTAINER/tcp is wanted, or /udp')
    return {"hostPort": host, "containerPort": container, "protocol": match["protocol"] or "tcp"}


# ---- the site's networks ----


def _configured(directory: Path) -> Iterable[tuple[str, tuple[str, tuple[dict[str, Any], ...]]]]:
    """Names, and version and plugins of each; the first file of a name counts, in the order of the names of files."""
    seen: set[str] = set()
    try:
        files = sorted(path for path in directory.iterdir() if path.suffix in (".conflist", ".conf", ".json"))
    except FileNotFoundError:
        return
    except OSError as error:
        raise FileError.because(directory, error) from error
    for path in files:
        try:
            name, version, plugins = _read(path)
        except (FileError, ImageError) as error:
            logger.warning("%s: this network is left out", error)
            continue
        if name not in seen:
            seen.add(name)
            yield name, (version, plugins)


def _read(path: Path) -> tuple[str, str, tuple[dict[str, Any], ...]]:
    try:
        with path.open("rb") as file:
            document = parse_json(file.read(_SIZE_LIMIT))
    except OSError as error:
        raise FileError.because(path, error) from error
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error
    if not isinstance(document, dict):
        raise ImageError(f"{path}: an object is wanted")
    plugins = document.get("plugins", [document] if path.suffix != ".conflist" else None)
    name, version = document.get("name"), document.get("cniVersion", "0.2.0")
    if not isinstance(name, str) or not _NAME.fullmatch(name) or not isinstance(version, str):
        raise ImageError(f"{path}: name: a name is wanted")
    if not isinstance(plugins, list) or not plugins or not all(isinstance(each, dict) for each in plugins):
        raise ImageError(f"{path}: plugins: a list of objects is wanted")
    for each in plugins:
        if not isinstance(each.get("type"), str) or not _NAME.fullmatch(each["type"]):
            raise ImageError(f"{path}: plugins: type: the name of a program is wanted")
    return name, version, tuple(plugins)


def _capabilities(plugin: Mapping[str, Any]) -> Mapping[str, Any]:
    found = plugin.get("capabilities")
    return found if isinstance(found, dict) else {}


def _takes_ports(plugin: Mapping[str, Any]) -> bool:
    return bool(_capabilities(plugin).get("portMappings"))


# ---- the programs ----


def _directories() -> list[str]:
    return (config.text("cni plugin path") or ":".join(PROGRAMS)).split(":")


def _program(kind: str) -> Path:
    for directory in _directories():
        path = Path(directory, kind)
        if os.access(path, os.X_OK):
            return path
    raise ToolError(
        f"{kind}, a plugin of networks, not found in {', '.join(_directories())}",
        hint="install containernetworking-plugins",
    )


def add(network: Network, place: Place) -> dict[str, Any]:
    """Sets an interface of a network up, with all plugins in their order; returns the result of the last one.

    Raises ToolError, after which `remove` takes away what is half done.
    """
    result: dict[str, Any] = {}
    for plugin in network.plugins:
        result = _call("ADD", network, plugin, place, result)
    return result


def remove(network: Network, place: Place, result: Mapping[str, Any]) -> None:
    """Takes it down again, in the reverse order; what fails is a warning, and the others have their turn."""
    for plugin in reversed(network.plugins):
        try:
            _call("DEL", network, plugin, place, result)
        except ToolError as error:
            logger.warning("%s", error)


def _call(
    command: str, network: Network, plugin: Mapping[str, Any], place: Place, before: Mapping[str, Any]
) -> dict[str, Any]:
    configuration = {key: value for key, value in plugin.items() if key != "capabilities"}
    configuration |= {"cniVersion": network.version, "name": network.name}
    if _takes_ports(plugin) and network.ports:
        configuration["runtimeConfig"] = {"portMappings": list(network.ports)}
    if before:
        configuration["prevResult"] = before
    environment = {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": place.container,
        "CNI_NETNS": place.namespace,
        "CNI_IFNAME": network.interface,
        "CNI_ARGS": network.arguments,
        "CNI_PATH": ":".join(_directories()),
    }
    logger.debug("Network %s: %s %s", network.name, plugin["type"], command)
    with tempfile.TemporaryFile() as file:
        file.write(json.dumps(configuration).encode())
        file.seek(0)
        with _in_time(f"network {network.name}: {plugin['type']}"):
            finished = process.call(
                [_program(plugin["type"])],
                purpose=f"set up network {network.name}",
                environment=environment,
                stdin=file.fileno(),
            )
    answer = _answer(finished.output)
    if finished.status != 0:
        words = " ".join(str(answer[key]) for key in ("msg", "details") if answer.get(key))
        reason = (words or finished.failure(command).reason)[:_REASON]
        raise ToolError(f"network {network.name}: {plugin['type']}: {reason}")
    return answer


@contextmanager
def _in_time(what: str) -> Iterator[None]:
    """Ends what takes too long: others wait for what it has locked. Raises ToolError."""

    def late(*_: object) -> None:
        raise ToolError(f"{what}: has not ended after {_PATIENCE} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(_PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _answer(output: str) -> dict[str, Any]:
    """Of a plugin; DEL has none."""
    try:
        found = parse_json(output.encode())
    except ImageError:
        return {}
    return found if isinstance(found, dict) else {}


def addresses(result: Mapping[str, Any]) -> list[str]:
    """Those that a result gives, as `10.22.0.2`."""
    return [str(each["address"]).partition("/")[0] for each in objects(result.get("ips")) if "address" in each]


def name_servers(result: Mapping[str, Any]) -> list[str]:
    """Those that a result names; what is no address is none."""
    dns = result.get("dns")
    servers = dns.get("nameservers") if isinstance(dns, dict) else None
    return [each for each in servers if _is_address(each)] if isinstance(servers, list) else []


def _is_address(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(ipaddress.ip_address(value))
    except ValueError:
        return False
