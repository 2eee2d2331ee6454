"""What a launch expects to find in a root file system: bind points, and the files below `/.singularity.d`.

Every path is resolved inside the root: whatever links an image holds, nothing is written outside it.
"""

import json
import logging
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from singularity.build import labels, scripts
from singularity.definition.model import App, Definition, Script, Stage
from singularity.definition.parse import APP_NAME
from singularity.image import metadata, offered, origin
from singularity.image.metadata import APPS, DIRECTORY
from singularity.image.root import Root

logger = logging.getLogger(__name__)

_DIRECTORIES = {  # with their modes
    "/dev": 0o755,
    "/proc": 0o755,
    "/root": 0o700,
    "/var/tmp": 0o1777,  # noqa: S108 - a path in the image
    "/tmp": 0o1777,  # noqa: S108
    "/etc": 0o755,
    "/sys": 0o755,
    "/home": 0o755,
    "/mnt": 0o755,
}
_FILES = ("/etc/hosts", "/etc/resolv.conf", "/etc/localtime")
_LINKS = {
    "/singularity": ".singularity.d/runscript",
    "/environment": ".singularity.d/env/90-environment.sh",
    "/.run": ".singularity.d/actions/run",
    "/.exec": ".singularity.d/actions/exec",
    "/.test": ".singularity.d/actions/test",
    "/.shell": ".singularity.d/actions/shell",
}
ENVIRONMENT = f"{DIRECTORY}/env/90-environment.sh"
_OLD = {"/singularity": f"{DIRECTORY}/runscript", "/environment": ENVIRONMENT, "/.test": f"{DIRECTORY}/test"}
POST_ENVIRONMENT = f"{DIRECTORY}/env/91-environment.sh"
POST_LABELS = "/.build.labels"
POST_SCRIPT = "/.post.script"
_TEXT, _PROGRAM = 0o644, 0o755


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the files say beside what the definition says."""

    architecture: str
    time: int  # of the build, in seconds since 1970
    overwrite: bool  # --force: new labels and help text go before those of the image that this one is built on
    sections: frozenset[str]  # those to be used


def prepare(root: Root) -> None:
    """Makes what scripts of the build need, and keeps what images of version 2 have at other places."""
    for path, mode in _DIRECTORIES.items():
        if not root.is_directory(path):
            root.make_directory(path, mode)
    for path in _FILES:
        if root.status(path) is None:
            try:
                root.make_file(path)
            except FileNotFoundError:  # a link into a directory that is not there: Debian's, without time zones
                root.remove(path)
                root.make_file(path)
    _local_time(root)
    for name in ("actions", "env", "libs"):
        root.make_directory(f"{DIRECTORY}/{name}")
    for path, today in _OLD.items():
        status = root.status(path, follow=False)
        ours = (root.real_path(path) or "").startswith(f"{DIRECTORY}/")  # the link that leads to what is there today
        if status is not None and not ours and root.is_file(path) and status.st_size and not root.is_file(today):
            data = root.read(path)
            root.write(today, data if data.startswith(b"#!") else b"#!/bin/sh\n" + data, _PROGRAM)


def restore(root: Root) -> None:
    """Makes what every container has, around scripts and settings of its own, which stay.

    A file of version 2 that came in since the container was made is newer than what stands for it today.
    """
    for path, today in _OLD.items():
        status = root.status(path, follow=False)
        if status is not None and stat.S_ISREG(status.st_mode) and status.st_size and root.is_file(today):
            root.remove(today)
    prepare(root)
    _write_environment(root, "")
    _write_apps_environment(root)
    _write_links(root)


def _local_time(root: Root) -> None:
    """A file in place of a link: launches mount the host's on it, and need not look it up below /usr each time."""
    path = "/etc/localtime"
    status = root.status(path, follow=False)
    if status is not None and stat.S_ISLNK(status.st_mode) and root.is_file(path):
        data = root.read(path)
        root.remove(path)
        root.write(path, data)


def write(root: Root, definition: Definition, stage: Stage, facts: Facts) -> None:
    """Writes everything below `/.singularity.d`, and the links to it."""
    prepare(root)
    posted = labels.read_lines(_read(root, POST_LABELS))
    for path in (POST_LABELS, POST_SCRIPT):
        root.remove(path)
    _write_definition(root, definition)
    _write_environment(root, stage.environment if "environment" in facts.sections else "")
    _write_scripts(root, stage)
    _write_help(root, stage, facts)
    if "labels" in facts.sections:
        own = {**stage.labels, **posted}
        has_help = root.is_file(f"{DIRECTORY}/runscript.help")
        automatic = labels.automatic(
            stage, architecture=facts.architecture, time=facts.time, has_help=has_help, origin=origin.read(root)
        )
        path = f"{DIRECTORY}/labels.json"
        if stage.wrappers:  # added to those of the image below, which has its programs still
            before = own.pop(offered.LABEL, None) or metadata.read_labels(root, path).get(offered.LABEL, "")
            automatic[offered.LABEL] = offered.added(before, stage.wrappers)
        _write_labels(root, path, own, automatic, overwrite=facts.overwrite)
    for app in stage.apps:
        _write_app(root, app, facts)
    _write_apps_environment(root)
    _write_links(root)


def _write_links(root: Root) -> None:
    for path, text in _LINKS.items():
        if not root.is_directory(path):
            root.link(path, text)


def lay_out_app(root: Root, app: App) -> None:
    """The directories of an application, before anything is put into them."""
    for directory in ("bin", "lib", "scif/env"):
        root.make_directory(f"{APPS}/{app.name}/{directory}")
    for directory in ("input", "output"):
        root.make_directory(f"/scif/data/{app.name}/{directory}")
    root.write(f"{APPS}/{app.name}/scif/env/01-base.sh", scripts.app_base(app.name).encode(), _PROGRAM)


def _read(root: Root, path: str) -> str:
    return root.read(path).decode("utf-8", "surrogateescape") if root.is_file(path) else ""


def _write(root: Root, path: str, text: str, mode: int) -> None:
    root.write(path, text.encode("utf-8", "surrogateescape"), mode)


def _write_definition(root: Root, definition: Definition) -> None:
    """The definition file; that of an image which this one is built on goes into the history."""
    before = _read(root, f"{DIRECTORY}/Singularity")
    if before:
        history = f"{DIRECTORY}/bootstrap_history"
        root.make_directory(history)
        _write(root, f"{history}/Singularity{len(root.names(history))}", before, _TEXT)
    _write(root, f"{DIRECTORY}/Singularity", definition.text, _TEXT)


def _write_environment(root: Root, body: str) -> None:
    before = _read(root, ENVIRONMENT)
    files = {
        "01-base.sh": scripts.BASE,
        "90-environment.sh": scripts.environment(body, before),
        "99-base.sh": scripts.LAST,
    }
    posted = _read(root, POST_ENVIRONMENT)
    if posted:
        files["91-environment.sh"] = posted if posted.startswith("#!") else f"#!/bin/sh\n{posted}"
    for name, text in files.items():
        _write(root, f"{DIRECTORY}/env/{name}", text, _PROGRAM)
    for name, text in scripts.actions().items():
        _write(root, f"{DIRECTORY}/actions/{name}", text, _PROGRAM)


def _write_scripts(root: Root, stage: Stage) -> None:
    for name, script in (("runscript", stage.runscript), ("startscript", stage.startscript), ("test", stage.test)):
        if script:
            text = scripts.executable(script)
            _write(root, f"{DIRECTORY}/{name}", text, _PROGRAM)
            interpreter = text.removeprefix("#!").split(maxsplit=1)[0]
            if not root.is_file(interpreter):
                logger.warning("%%%s needs %s, which is not in the image", name, interpreter)


def _write_help(root: Root, stage: Stage, facts: Facts) -> None:
    path = f"{DIRECTORY}/runscript.help"
    before = _read(root, path)
    if not stage.help or before == stage.help:
        return
    if before and not facts.overwrite:
        logger.warning("The help text of the image that this one is built on stays (--force replaces it)")
        return
    _write(root, path, stage.help, _TEXT)


def _write_labels(
    root: Root, path: str, own: Mapping[str, str], automatic: Mapping[str, str], *, overwrite: bool
) -> None:
    before = metadata.read_labels(root, path)
    result, kept = labels.merged(before, own, automatic, overwrite=overwrite)
    for key in kept:
        logger.warning("Label %s of the image that this one is built on stays (--force replaces it)", key)
    text = json.dumps(result, indent="\t", ensure_ascii=False)
    root.write(path, f"{text}\n".encode("utf-8", "replace"), _TEXT)


def _write_app(root: Root, app: App, facts: Facts) -> None:
    place = f"{APPS}/{app.name}/scif"
    lay_out_app(root, app)
    files: Iterator[tuple[str, Script | None]] = iter(
        (("runscript", app.run), ("startscript", app.start), ("test", app.test))
    )
    for name, script in files:
        if script:
            _write(root, f"{place}/{name}", scripts.executable(script), _PROGRAM)
    if app.environment:
        _write(root, f"{place}/env/90-environment.sh", app.environment, _PROGRAM)
    if app.help:
        _write(root, f"{place}/runscript.help", app.help, _TEXT)
    automatic = {"SCIF_APP_NAME": app.name}
    _write_labels(root, f"{place}/labels.json", app.labels, automatic, overwrite=facts.overwrite)


def _write_apps_environment(root: Root) -> None:
    names = [name for name in root.names(APPS) if APP_NAME.fullmatch(name) and root.is_directory(f"{APPS}/{name}/scif")]
    if names:
        _write(root, f"{DIRECTORY}/env/94-appsbase.sh", scripts.all_apps(names), _PROGRAM)
        _write(root, f"{DIRECTORY}/env/95-apps.sh", scripts.chosen_app(names), _PROGRAM)
