"""RUN: a command in the root file system of a stage, as the user and in the directory that the stage has got to.

What `--mount` shows is there for the command alone. Files of the context and of stages are copies, so that nothing can
be written back; secrets are in memory; a cache is a directory that the next build finds again.
"""

import fcntl
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from singularity import digest, files, kernel, paths
from singularity.build import container, gate, gpu, reproducible
from singularity.build.container import Who
from singularity.build.dockerfile import accounts, sources
from singularity.build.dockerfile.copy import Opener, explained
from singularity.build.dockerfile.sources import Source
from singularity.build.request import Bind, BuildRequest, Content, Empty, Secret
from singularity.build.request import Mount as Shown
from singularity.definition.dockerfile import mounts
from singularity.definition.dockerfile.mounts import Mount
from singularity.definition.dockerfile.state import PREDEFINED, State, absolute, fail
from singularity.definition.model import Instruction
from singularity.definition.sections import WORD_LIMIT
from singularity.errors import BuildError, FileError
from singularity.image.archive.policy import Parents, Policy
from singularity.image.archive.unpack import Unpacker
from singularity.image.root import Root
from singularity.image.tree import Entry, Kind, Member

logger = logging.getLogger(__name__)

_SECRETS = "/run/secrets"
_SCRIPT = "/dev/pipes/EOF"  # where a script with an interpreter line of its own lies
_SECRET_LIMIT = 1 << 20  # bytes
_CACHES = "mounts"
# What the kernel's file systems are mounted on, made for the command alone in images that have none of it.
_KERNELS = tuple(Bind(source=Path(name), target=name) for name in ("/proc", "/sys", "/dev"))
_NETWORK_FILES = ("/etc/resolv.conf", "/etc/hosts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One RUN, variables filled in where the instruction itself has some."""

    instruction: Instruction
    argv: tuple[str, ...]
    script: str = ""  # of a here-document that names an interpreter; empty: there is none
    mounts: tuple[Mount, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: str = "/"
    user: str = ""
    network: bool = True

    @property
    def words(self) -> list[object]:
        """All that it says, for digests; where a proxy is makes no difference."""
        variables = sorted(each for each in self.environment.items() if each[0] not in PREDEFINED)
        return [self.argv, self.script, repr(self.mounts), variables, self.directory, self.user, self.network]


def understood(instruction: Instruction, state: State) -> Command:
    """What a RUN asks for. Raises DefinitionError."""
    argv, script = state.program(instruction), ""
    if instruction.documents and argv[-1] == instruction.text:
        only = instruction.documents[0]
        if instruction.text.strip() == only.word and len(instruction.documents) == 1:
            argv[-1] = only.body
            if only.body.startswith("#!"):
                argv = [*only.body.partition("\n")[0][2:].strip().split(None, 1), _SCRIPT]
                script = only.body
        else:
            argv[-1] += "\n" + "".join(f"{each.body}{each.name}\n" for each in instruction.documents)

    def filled(text: str) -> str:
        return state.filled(instruction, text)

    shown = tuple(mounts.parse(instruction, text, filled) for flag, text in instruction.flags if flag == "mount")
    return Command(
        instruction=instruction,
        argv=tuple(argv),
        script=script,
        mounts=tuple(replace(each, target=absolute(state, each.target)) if each.target else each for each in shown),
        environment=state.variables(),
        directory=state.directory,
        user=str(state.raw.get("User") or ""),
        network=instruction.flag("network") != "none",
    )


def inputs(command: Command, opener: Mapping[str, Opener]) -> list[object]:
    """What the host has of it: the context, where that is mounted. Raises DefinitionError."""
    result: list[object] = []
    for mount in command.mounts:
        if mount.kind in ("bind", "cache") and not mount.stage and (mount.kind == "bind" or mount.source):
            with opener[""]() as source, explained(command.instruction):
                result.append(sources.digest(source, _place(command, mount, source)))
    return result


def _place(command: Command, mount: Mount, source: Source) -> str:
    """What a mount shows of its source. Raises DefinitionError."""
    path = os.path.normpath("/" + mount.source).lstrip("/")
    if source.root.real_path(path) is None or source.hides(path):
        what = f"--mount: {mount.source[:WORD_LIMIT] or '/'}: no such file in {source.shown}"
        raise fail(command.instruction, what)
    return path


def perform(command: Command, root: Path, request: BuildRequest, scratch: Path, opener: Mapping[str, Opener]) -> None:
    """Runs it; `opener` has the context and stages that mounts name. Raises BuildError and DefinitionError."""
    instruction = command.instruction
    with Root(root) as opened, ExitStack() as stack:
        with explained(instruction):
            account = accounts.find(opened, command.user)
        shown, variables = _Shower(command, request, scratch, opener, stack).all()
        asked = [*gpu.binds(nv=request.nv, rocm=request.rocm), *request.binds]
        network = list(_network_files(opened, scratch))
        environment = {
            **gate.environment(),
            **gate.variables_inside(),
            **reproducible.environment(),
            "HOME": account.home,
            **command.environment,
            **variables,
        }
        if request.nv or request.rocm:
            environment.setdefault("LD_LIBRARY_PATH", gpu.LIBRARIES)
        everything = [*network, *gate.files_inside(opened), *shown, *asked]
        who = Who(
            uid=account.uid,
            gid=account.gid,
            groups=account.groups,
            directory=command.directory,
            network=command.network,
        )
        try:
            stack.enter_context(container.mount_points(opened, [*_KERNELS, *everything], "--mount"))
            status = container.run(root, command.argv, environment=environment, binds=everything, who=who)
        except BuildError as error:
            raise BuildError(f"{instruction.file}:{instruction.line}: RUN: {error.what}", hint=error.hint) from error
    if status:
        how = f"was killed by signal {status - 128}" if status > 128 else f"failed with status {status}"
        raise BuildError(f"{instruction.file}:{instruction.line}: RUN {how}")


def _network_files(root: Root, scratch: Path) -> Iterator[Bind]:
    """Copies of the host's, so that a command that writes to them changes neither the host nor the image.

    Where the image has a link to what is there in a running system only, as Debian's systemd makes one, that is made.
    """
    for name in _NETWORK_FILES:
        if os.path.exists(name):
            copy, target = scratch / Path(name).name, name
            copy.write_bytes(Path(name).read_bytes())
            if root.status(name) is None and root.status(name, follow=False) is not None:
                target = os.path.normpath(os.path.join(os.path.dirname(name), root.link_text(name)))
            yield Bind(source=copy, target=target)


class _Shower:
    """Makes what the mounts of one command show, for as long as `stack` is open."""

    def __init__(
        self, command: Command, request: BuildRequest, scratch: Path, opener: Mapping[str, Opener], stack: ExitStack
    ) -> None:
        self.command = command
        self.request = request
        self.scratch = scratch
        self.opener = opener
        self.stack = stack

    def all(self) -> tuple[Sequence[Shown], Mapping[str, str]]:
        """What is mounted, and variables."""
        found: list[Shown] = []
        variables: dict[str, str] = {}
        for mount in self.command.mounts:
            match mount.kind:
                case "tmpfs":
                    found.append(Empty(target=mount.target, size=mount.size))
                case "bind":
                    found.append(Bind(source=self.copied(mount), target=mount.target, writable=mount.writable))
                case "cache":
                    found.append(Bind(source=self.cache(mount), target=mount.target, writable=mount.writable))
                case _:
                    data = self.secret(mount)
                    if data is not None and mount.variable:
                        variables[mount.variable] = data.decode("utf-8", "surrogateescape")
                    if data is not None and (mount.target or not mount.variable):
                        found.append(_secret_file(mount, data))
        if self.command.script:
            data = self.command.script.encode("utf-8", "surrogateescape")
            found.append(Content(target=_SCRIPT, data=data, mode=0o755))
        return found, variables

    def copied(self, mount: Mount) -> Path:
        """A copy of what a mount shows."""
        place = self.stack.enter_context(files.temporary_directory(self.scratch)) / "shown"
        self.fill(mount, place)
        return place

    def fill(self, mount: Mount, place: Path) -> None:
        """Copies what a mount has as its source to `place`."""
        policy = replace(Policy.of_caller(), parents=Parents.FOLLOW)
        with self.opener[mount.stage]() as source, explained(self.command.instruction):
            path = _place(self.command, mount, source)
            with Unpacker(place.parent, policy) as unpacker:
                for entry in source.entries(path):
                    unpacker.add(Entry(sources.below(entry.member, os.fsencode(place.name)), entry.data))
                unpacker.finish()

    def secret(self, mount: Mount) -> bytes | None:
        """A secret; None where it is not given, and need not be."""
        given = self.request.secrets.get(mount.id)
        if given is None:
            if mount.required:
                hint = f"--secret id={mount.id},src=FILE"
                raise fail(self.command.instruction, f'no secret "{mount.id[:WORD_LIMIT]}" is given', hint)
            return None
        return read_secret(given, mount.id)

    def cache(self, mount: Mount) -> Path:
        """A directory that stays, for this id; one that is gone afterwards where nothing is to be kept."""
        if self.request.cache:
            with suppress(FileError):
                place = paths.private(paths.cache_directory() / _CACHES)
                ids = "one" if kernel.maps_one_id() else "many" if os.geteuid() == 0 else "none"
                here = place / digest.of_words(mount.id or mount.target, ids, kernel.is_initial_user_namespace())
                if self.locked(here, mount):
                    return self.made(mount, here / "content")
        return self.made(mount, self.stack.enter_context(files.temporary_directory(self.scratch)) / "content")

    def locked(self, here: Path, mount: Mount) -> bool:
        """Locks a cache as its `sharing` says; False where another one must do."""
        here.mkdir(mode=0o700, exist_ok=True)
        fd = os.open(here, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.stack.callback(os.close, fd)
        os.utime(here)
        how = fcntl.LOCK_SH if mount.sharing == "shared" else fcntl.LOCK_EX
        try:
            fcntl.flock(fd, how | fcntl.LOCK_NB)
        except BlockingIOError:
            if mount.sharing == "private":
                return False
            logger.info("Waiting for another build that has the cache %s", mount.id or mount.target)
            fcntl.flock(fd, how)
        return True

    def made(self, mount: Mount, place: Path) -> Path:
        """The directory, with what it is to have at first where it is new."""
        if place.exists():
            return place
        if mount.stage or mount.source:
            self.fill(mount, place)
            return place
        with Unpacker(place.parent, Policy.of_caller()) as unpacker:
            mode = 0o755 if mount.mode is None else mount.mode
            name = os.fsencode(place.name)
            unpacker.add(Entry(Member(path=name, kind=Kind.DIRECTORY, mode=mode, uid=mount.uid, gid=mount.gid)))
            unpacker.finish()
        return place


def _secret_file(mount: Mount, data: bytes) -> Content:
    mode = 0o400 if mount.mode is None else mount.mode
    target = mount.target or f"{_SECRETS}/{mount.id}"
    return Content(target=target, data=data, mode=mode, uid=mount.uid, gid=mount.gid)


def read_secret(secret: Secret, identifier: str) -> bytes:
    """What a secret is now. Raises BuildError, which does not say it."""
    try:
        if secret.file is None:
            return os.environb[os.fsencode(secret.variable)]
        with secret.file.open("rb") as file:
            data = file.read(_SECRET_LIMIT + 1)
    except KeyError as error:
        raise BuildError(f"--secret id={identifier}: no variable {secret.variable} in the environment") from error
    except OSError as error:
        raise BuildError(f"--secret id={identifier}: {secret.file}: {error.strerror}") from error
    if len(data) > _SECRET_LIMIT:
        raise BuildError(f"--secret id={identifier}: {secret.file}: larger than {_SECRET_LIMIT >> 20} MiB")
    return data
