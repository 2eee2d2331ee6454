"""Singularity: everything that makes, moves, explains or launches images, for programs that import it.

What is promised to them is in `__all__`, and documented in docs/python.md; `singularity.aio` has the same for asyncio.
All else below this package is how it is done, and changes. Nothing is imported before it is asked for.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from singularity import aio as aio
    from singularity.api.container import Container as Container
    from singularity.api.contents import diff as diff
    from singularity.api.contents import sbom as sbom
    from singularity.api.definitions import Definition as Definition
    from singularity.api.definitions import Section as Section
    from singularity.api.definitions import Stage as Stage
    from singularity.api.executor import ContainerExecutor as ContainerExecutor
    from singularity.api.executor import RemoteError as RemoteError
    from singularity.api.images import File as File
    from singularity.api.images import Files as Files
    from singularity.api.images import Image as Image
    from singularity.api.images import inspect as inspect
    from singularity.api.instances import Instance as Instance
    from singularity.api.instances import State as State
    from singularity.api.launches import DEVNULL as DEVNULL
    from singularity.api.launches import PIPE as PIPE
    from singularity.api.launches import STDOUT as STDOUT
    from singularity.api.launches import exec as exec  # noqa: A004 - as the command is called
    from singularity.api.launches import popen as popen
    from singularity.api.launches import run as run
    from singularity.api.making import build as build
    from singularity.api.making import pull as pull
    from singularity.api.making import push as push
    from singularity.api.verdicts import check as check
    from singularity.api.verdicts import verify as verify
    from singularity.check.finding import Finding as Finding
    from singularity.check.finding import Subject as Subject
    from singularity.check.finding import Verdict as Verdict
    from singularity.console import Progress as Progress
    from singularity.errors import BuildError as BuildError
    from singularity.errors import DefinitionError as DefinitionError
    from singularity.errors import FileError as FileError
    from singularity.errors import ImageError as ImageError
    from singularity.errors import LaunchError as LaunchError
    from singularity.errors import NetworkError as NetworkError
    from singularity.errors import RegistryError as RegistryError
    from singularity.errors import SignatureError as SignatureError
    from singularity.errors import SingularityError as SingularityError
    from singularity.errors import ToolError as ToolError
    from singularity.errors import UsageError as UsageError
    from singularity.explain.diff import Difference as Difference
    from singularity.image.metadata import Metadata as Metadata
    from singularity.image.metadata import Scripts as Scripts
    from singularity.image.tree import Kind as Kind
    from singularity.instance.usage import Usage as Usage
    from singularity.trust.seals import Signer as Signer

__version__ = "5.0.0"

_MODULES = {  # where what is promised comes from; a name of its own line, so that lists of changes are short
    "aio": "aio",
    "api.container": "Container",
    "api.contents": "diff sbom",
    "api.definitions": "Definition Section Stage",
    "api.executor": "ContainerExecutor RemoteError",
    "api.images": "File Files Image inspect",
    "api.instances": "Instance State",
    "api.launches": "DEVNULL PIPE STDOUT exec popen run",
    "api.making": "build pull push",
    "api.verdicts": "check verify",
    "check.finding": "Finding Subject Verdict",
    "console": "Progress",
    "explain.diff": "Difference",
    "errors": (
        "BuildError DefinitionError FileError ImageError LaunchError NetworkError RegistryError SignatureError "
        "SingularityError ToolError UsageError"
    ),
    "image.metadata": "Metadata Scripts",
    "image.tree": "Kind",
    "instance.usage": "Usage",
    "trust.seals": "Signer",
}
_PUBLIC = {name: module for module, names in _MODULES.items() for name in names.split()}

__all__ = sorted(["__version__", *_PUBLIC])


class _Package(ModuleType):
    """This package: a function that is called like a room below, `build`, stays what the name means."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _PUBLIC and name != "aio" and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    """What is promised, when it is asked for."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"{__name__}.{_PUBLIC[name]}")
    found = module if name == _PUBLIC[name] else getattr(module, name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return list(__all__)
