"""Steps that run a section of the definition: on the host, in the image, or, for %test, in what has become of it."""

import logging
import os
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from singularity import digest, process
from singularity.build import (
    checkpoints,
    container,
    gate,
    gpu,
    platform_files,
    reproducible,
    script_pipe,
    scripts,
    startup_trace,
)
from singularity.build.checkpoints import Line
from singularity.build.request import Bind
from singularity.build.steps import Build, Change, Plan, Step
from singularity.build.workspace import script_environment
from singularity.console import VERBOSE
from singularity.definition.model import Script
from singularity.errors import BuildError
from singularity.image.root import Root
from singularity.variables import handed_on

logger = logging.getLogger(__name__)

_NETWORK_FILES = ("/etc/resolv.conf", "/etc/hosts")
_TEST = "/.singularity.d/test"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptStep(Step):
    """A section that is run, or a part of one that has checkpoints."""

    begun = "Running %s"

    script: Script
    part: int = 0  # counted from 0
    parts: int = 1

    def values(self) -> Mapping[str, object]:
        """The script, and the arguments of its interpreter."""
        return {"script": self.script.body, "arguments": list(self.script.arguments)}

    def source(self) -> list[Line]:
        """The lines that a shell gets."""
        return checkpoints.lines(self.script, self.part, self.parts)

    def failure(self, build: Build, what: str, line: int | str) -> BuildError:
        """An error at a line of the definition."""
        section = self.what.partition(" (part ")[0]
        return BuildError(f"{build.definition.name}:{line}: {section} {what}")

    def check(self, build: Build, status: int, read: Sequence[Line] = ()) -> None:
        """Raises BuildError for a script that failed, at the command whose line was `read` last."""
        if not status:
            return
        how = f"was killed by signal {status - 128}" if status > 128 else f"failed with status {status}"
        last = read[-1].number if read else self.script.line
        first = read[script_pipe.first_line([line.text for line in read])].number if read else 0
        raise self.failure(build, how, f"{first}-{last}" if 0 < first < last else last)

    def need(self, build: Build, program: str) -> None:
        """Raises BuildError for an interpreter that is not in the image; one without a path is looked for later."""
        with Root(build.root(self)) as root:
            if program.startswith("/") and not build.request.binds and not root.is_file(program):
                raise self.failure(build, f"needs {program}, which is not in the image", self.script.line)

    def run(self, build: Build, argv: Sequence[str], *binds: Bind) -> int:
        """Runs a program in the image, which sees what the build was told to show; returns its exit status."""
        request, path = build.request, build.root(self)
        asked = [*gpu.binds(nv=request.nv, rocm=request.rocm), *request.binds]
        environment = {**script_environment(), **gate.variables_inside(), **reproducible.environment()}
        if request.nv or request.rocm:
            environment["LD_LIBRARY_PATH"] = gpu.LIBRARIES
        with Root(path) as root, container.mount_points(root, asked):
            own = [*_network_files(root, build.workspace.directory), *gate.files_inside(root), *binds, *asked]
            return container.run(path, argv, environment=environment, binds=own)

    def run_lines(self, build: Build, argv: Sequence[str], lines: Sequence[Line], target: str) -> None:
        """Runs a shell in the image that reads these lines from the file `target`. Raises BuildError where it fails."""
        place = build.workspace.directory / "script"
        with script_pipe.offered([line.text for line in lines], place) as pipe:
            status = self.run(build, argv, Bind(source=place, target=target))
        self.check(build, status, lines[: pipe.lines])


@dataclass(frozen=True, slots=True, kw_only=True)
class HostScript(ScriptStep):
    """A section that runs on the host: here %pre, which comes before the root file system."""

    name = "host_script"
    verb = "run on the host"
    begun = "Running %s on the host"

    def perform(self, build: Build) -> None:
        """Runs it, with the variables that tell it where the root file system is."""
        directory = build.workspace.directory
        aside = directory / "host-tmp"
        aside.mkdir(exist_ok=True)
        root, target = str(build.root(self)), str(build.request.target.absolute())
        environment = {**handed_on(), **gate.variables_on_host()} | {
            "SINGULARITY_ROOTFS": root,
            "APPTAINER_ROOTFS": root,
            "SINGULARITY_BUILDDEF": str(Path(build.definition.name).absolute()),  # the rest as 2.x has it
            "SINGULARITY_IMAGE": target,
            "SINGULARITY_CONTAINER": target,
            "SINGULARITY_TMPDIR": str(aside),
        }
        place, lines = directory / "host-script", self.source()
        with script_pipe.offered([line.text for line in lines], place) as pipe:
            argv = ["/bin/sh", _shell_options(), *self.script.arguments, str(place)]
            status = process.attached(argv, environment=environment)
        self.check(build, status, lines[: pipe.lines])


@dataclass(frozen=True, slots=True, kw_only=True)
class SetupScript(HostScript, Change):
    """%setup: it runs on the host, and writes into the root file system."""

    def key_of_result(self, parent: str, changes: Path) -> str | None:
        """Nobody knows what such a script reads: it is known by what it left."""
        return digest.of_words(parent, self.name.upper(), self.script.body, digest.by_content(changes))


@dataclass(frozen=True, slots=True, kw_only=True)
class PostScript(ScriptStep, Change):
    """%post, or %appinstall."""

    name = "script"
    verb = "run in the image"

    def inputs(self, plan: Plan) -> Sequence[object] | None:
        """The script, and what it sees of the host."""
        request, script = plan.request, self.script
        binds = [(str(bind.source), bind.target, bind.writable) for bind in request.binds]
        devices = [request.nv, request.rocm]
        return [script.body, list(script.arguments), self.part, self.parts, binds, devices]

    def perform(self, build: Build) -> None:
        """Runs it under a name that is in the image only meanwhile, after what the part before has left for it."""
        lines, arguments = self.source(), self.script.arguments
        if self.app:
            place = f"/scif/apps/{self.app}"
            lines.insert(0, Line(text=f". {place}/scif/env/01-base.sh; cd {place}\n", number=lines[0].number))
        argv = ["/bin/sh", _shell_options(), *arguments]
        if arguments[:1] == ("-c",):
            argv = shlex.split(" ".join(arguments[1:]))
        before = checkpoints.state_files(self.part - 1) if self.part else ()
        with Root(build.root(self)) as root:
            if before and not root.is_file(before[0]):
                logger.log(VERBOSE, "%s is left out: the script has ended before", self.what)
                return
            self.need(build, argv[0] if argv else "")
            script = platform_files.POST_SCRIPT
            if argv and checkpoints.is_shell(argv[0]):
                root.write(script, b"")
                self.run_lines(build, [*argv, script], lines, script)
            else:
                root.write(script, "".join(line.text for line in lines).encode("utf-8", "surrogateescape"), 0o755)
                self.check(build, self.run(build, [*argv, script]))
            for name in (script, *before):
                root.remove(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class TestScript(ScriptStep):
    """%test."""

    name = "test"
    verb = "test"

    def perform(self, build: Build) -> None:
        """Runs it as a launch would, and notes which files it opens; what it writes may be thrown away."""
        aside = build.stacks[self.stage].throwaway() if build.request.writable_tmpfs else nullcontext()
        with aside, startup_trace.recording(build.root(self), build.opened):
            self.need(build, "/bin/sh")
            script, arguments = self.script, [_shell_options(), *build.request.test_arguments]
            if script.interpreter_line not in ("", "#!/bin/sh"):
                self.need(build, (script.interpreter_line[2:].split() or [""])[0])
                argv = ["/bin/sh", "-c", scripts.TEST_OTHER_INTERPRETER, *arguments]
                self.check(build, self.run(build, argv))
                return
            lines, text = self.source(), scripts.executable(script).split("\n")
            ours = [Line(text=f"{line}\n", number=script.line) for line in text[: len(text) - 1 - len(lines)]]
            self.run_lines(build, ["/bin/sh", "-c", scripts.TEST, *arguments], [*ours, *lines], _TEST)


def _shell_options() -> str:
    """A section ends at the first failure, and its commands are shown as they run, unless less was asked for."""
    return "-ex" if logger.isEnabledFor(logging.INFO) else "-e"


def _network_files(root: Root, directory: Path) -> Iterator[Bind]:
    """Copies of the host's, so that a script that writes to them changes neither the host nor the image."""
    for name in _NETWORK_FILES:
        if os.path.exists(name) and root.is_file(name):
            source = directory / Path(name).name
            shutil.copyfile(name, source)
            yield Bind(source=source, target=name)
