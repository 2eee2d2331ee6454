"""Settings by which VS Code works in an image: its extension Remote - SSH, with the image as the command of a host.

Visual Studio Code has no setting for Singularity, and its Dev Containers want Docker's own daemon. What is documented
is that Remote - SSH takes `RemoteCommand` of OpenSSH with `remote.SSH.enableRemoteCommand`, and a place for its server
by host, `remote.SSH.serverInstallPath` (vscode-remote-release, 3066, 4474 and 472).
"""

import getpass
import json
import platform
import shlex
from collections.abc import Iterator
from pathlib import Path

from singularity.install.tool import Kind, New, Tool

SSH_CONFIG, SETTINGS = "ssh_config", "settings.json"


def files(tool: Tool, directory: Path, host: str) -> Iterator[New]:
    """What is added to the ssh configuration and the settings of the machine that VS Code runs on."""
    place = directory / tool.file_name
    shell = [str(tool.front_door), "shell", *tool.options, str(tool.image)]
    command = shlex.join(shell).replace("%", "%%")  # ssh_config(5): tokens
    lines = (
        f"# {tool.note}",
        f"Host {tool.file_name}",
        f"    HostName {host or platform.node()}",
        f"    User {getpass.getuser()}",
        f"    RemoteCommand {command}",
        "    RequestTTY yes",
    )
    settings = {
        "remote.SSH.enableRemoteCommand": True,
        "remote.SSH.useLocalServer": True,
        "remote.SSH.serverInstallPath": {tool.file_name: str(place)},
    }
    yield New(kind=Kind.VSCODE, path=place / SSH_CONFIG, text="\n".join(lines) + "\n")
    yield New(kind=Kind.VSCODE, path=place / SETTINGS, text=json.dumps(settings, indent=4) + "\n")
