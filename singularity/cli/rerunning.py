"""What `singularity rerun` does: says what a record asks for, finds the image, runs it, and compares."""

import errno
import json
import logging
import os
import re
import shlex
import shutil
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from singularity import files, paths
from singularity.capsule import aside, compare, contents, ranks
from singularity.capsule.model import Content, Image, Kind, Record
from singularity.cli import recording
from singularity.cli.checked import available
from singularity.cli.launched import only_options, read
from singularity.cli.options_table import Entry, entries
from singularity.errors import FileError, ImageError, SingularityError, UsageError
from singularity.image.root import Root
from singularity.variables import PREFIXES

logger = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LAUNCHERS = ("SINGULARITY_", "APPTAINER_", "SCIF_")  # variables that each launch makes anew
_SET_ANEW = frozenset({"HOME", "PWD", "PS1", "PROMPT_COMMAND"})
_LIBRARIES = "/.singularity.d/libs"
_TEMPORARY = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - each user's own files in it
_MOUNTING = "CAP_SYS_ADMIN,CAP_SYS_PTRACE,CAP_SYS_MODULE,CAP_SYS_RAWIO,CAP_SYS_BOOT,CAP_MKNOD"
_BEYOND = ("host_cmd", "add_caps", "keep_privs")  # what runs outside of the container, or may change its mounts
_LINES, _FEW = 40, 5  # of differences, and of names, that are shown


class Asked(NamedTuple):
    """What is to be done with a record."""

    path: Path
    check: bool
    dry_run: bool
    outputs: Path | None
    image: str
    target: Path | None
    as_json: bool

    @property
    def apart(self) -> bool:
        """Whether the originals are to stay what they are."""
        return self.outputs is not None or self.check


def of_rank(path: Path) -> Path:
    """Where a launcher starts this, each rank has its own record; the one that was typed where there are none such."""
    own = ranks.of_rank(path, ranks.find(os.environ))
    return path if path.exists() and not own.exists() else own


def rerun(record: Record, asked: Asked) -> int:
    """Runs it once more, or says what that would be; the exit status. Raises SingularityError."""
    if asked.as_json and not asked.check:
        raise UsageError("--json: has a meaning with --check only")
    options = _allowed(record, asked)
    _check_rank(record)
    _tell(record, options, asked)
    own = [str(each.absolute()) for each in (asked.path, asked.target) if each is not None]
    found = list(compare.inputs(record, own)) if asked.check else []
    if asked.dry_run:
        found += compare.files(record) if asked.check else ()
        return _told(found, asked) if asked.check else 0
    with ExitStack() as stack:
        names = _named(record, asked.image)  # relative ones are the caller's
        path, image = stack.enter_context(_image(record, names))
        deliver = _set_aside(record, asked, stack)
        _enter(record)
        more = _apart() if asked.apart else []
        variables = stack.enter_context(_variables_file(record, asked))
        words = _words(record, [*options, *more], path, variables)
        with _streams(record):
            again = recording.run(
                read(words), recording.Asked(), own, environment=lambda _: _environment(record), image=image
            )
        deliver(again)
    if not asked.check:
        return again.status
    return _told([*found, *compare.runs(record, again)], asked)


# ---- what is asked for ----


def _allowed(record: Record, asked: Asked) -> tuple[str, ...]:
    """The options, which are options of such a launch and nothing else, and so are variables. Raises ImageError."""
    taken = [each for each in entries(record.verb) if each.group != "fetching"]
    left_out = [each for each in taken if each.identifier in recording.NOT_KEPT]
    known = {prefix + key for each in taken if each not in left_out for key in each.variables for prefix in PREFIXES}
    strange = sorted(record.option_variables.keys() - known)
    if strange:
        raise ImageError(f"the record sets {_shown(strange[0])}, which is no variable of such a launch")
    others = _asked_for(record, left_out)
    if others:  # a file of variables has commands in it that the host would carry out
        raise ImageError(f"the record asks for {others[0]}, which no record of ours has")
    beyond = _asked_for(record, [each for each in taken if each.identifier in _BEYOND]) if asked.apart else []
    if beyond:
        raise ImageError(
            f"the record asks for {beyond[0]}, with which originals can be written",
            hint="look at it with --dry-run; without --outputs and --check it is done as it was",
        )
    try:
        return only_options("rerun", record.options)
    except UsageError as error:
        raise ImageError(f"the record's options cannot be understood: {error}") from error


def _asked_for(record: Record, options: Sequence[Entry]) -> list[str]:
    """Which of these options the record has, as words or variables."""
    names = {name for each in options for name in each.spellings}
    variables = {prefix + key for each in options for key in each.variables for prefix in PREFIXES}
    words = {word.partition("=")[0] for word in record.options}
    return sorted(words & names) + sorted(record.option_variables.keys() & variables)


def _check_rank(record: Record) -> None:
    """A rank is run again as itself, or alone. Raises UsageError under a launcher that makes another one of it."""
    was, now = ranks.find(record.variables), ranks.find(os.environ)
    if was is not None and now is not None and was != now:
        raise UsageError(
            f"the record is of {was}, and this is {now}",
            hint=f"start {was.of} by the launcher, and name the record without its number",
        )


def _tell(record: Record, options: Sequence[str], asked: Asked) -> None:
    """Whoever made the record: nothing that it asks for is done unsaid."""
    line = shlex.join(["singularity", record.verb, *options, asked.image or record.image.named, *record.arguments])
    lines = [line, f"in {record.directory}, {len(record.variables)} variables, image {record.image.digest}"]
    lines += [f"with {name}={value}" for name, value in record.option_variables.items()]
    lines += [f"with your {name}" for name, value in record.variables.items() if value is None and name in os.environ]
    lines += [
        f"{'writes' if fd else 'reads'} {name} as standard {'output' if fd else 'input'}"
        for fd, name in _stream_files(record)
    ]
    was = ranks.find(record.variables)
    if was is not None and ranks.find(os.environ) is None:
        lines.append(f"{was} is started alone; for all of them start {was.of} of this by a launcher, such as mpirun")
    lines += [f"not recorded: {each}" for each in record.not_seen]
    lines += [f"not recorded: what came from {each}" for each in record.connections[:_FEW]]
    written = [each.path for each in record.outputs]
    if written and asked.outputs is None and not asked.check:
        more = f" and {len(written) - _FEW} more" if len(written) > _FEW else ""
        lines.append(f"writes {', '.join(written[:_FEW])}{more}")
    for each in lines:
        if asked.dry_run and not asked.as_json:
            sys.stdout.write(f"{_shown(each)}\n")
        else:
            logger.info("%s: %s", asked.path.name, each)


# ---- the image ----


def _named(record: Record, given: str) -> list[str]:
    """Names by which the image may be found; those of the caller's alone where he gives one."""
    names = [given] if given else [record.image.named, record.image.path]
    return [
        name if ":" in name else os.path.abspath(os.path.join("" if given else record.directory, name))
        for name in names
    ]


@contextmanager
def _image(record: Record, names: Sequence[str]) -> Iterator[tuple[Path, Image]]:
    """The image with the record's digest, looked at where its owners can be seen. Raises ImageError for another one."""
    if not record.image.digest:
        raise ImageError("the record has no digest of its image, which changed meanwhile, or could not be read")
    others, failures = [], []
    for name in dict.fromkeys(names):
        with ExitStack() as stack:
            try:
                path = stack.enter_context(available(name))
                found = recording.identity(name, path)
            except (SingularityError, OSError) as error:
                failures.append(str(error))
                continue
            if found.digest == record.image.digest:
                yield path, found
                return
            others.append(
                f"{name} is another image, {found.digest[:23]}..., and the record's is {record.image.digest[:23]}..."
            )
    raise ImageError("; ".join(others) or failures[0], hint="--image names the one of the record")


def _words(record: Record, options: Sequence[str], image: Path, variables: Path) -> list[str]:
    return [record.verb, f"--env-file={variables}", *options, "--", str(image), *record.arguments]


def _apart() -> list[str]:
    """Options by which the program has the mounts of this process: no container of others, no right to change them."""
    return ["--join=no", "--linger=0", "--userns" if os.getuid() != 0 else f"--drop-caps={_MOUNTING}"]


# ---- what surrounds the run ----


@contextmanager
def _variables_file(record: Record, asked: Asked) -> Iterator[Path]:
    """Assignments of the variables that the program got; those that are secrets are the caller's own."""
    lines = []
    rank = ranks.told(os.environ) if ranks.find(os.environ) else {}
    apart = ranks.APART if rank and asked.apart else {}
    for name, value in {**apart, **ranks.without_addresses(record.variables), **rank}.items():
        if name.startswith(_LAUNCHERS) or name in _SET_ANEW or not _NAME.fullmatch(name):
            continue
        known = os.environ.get(name) if value is None else value
        if known is None:
            logger.warning("%s is not set: the record withholds its value, as its name is a secret's", name)
            continue
        if name == "LD_LIBRARY_PATH":
            known = known.removesuffix(_LIBRARIES).removesuffix(":")
        text = re.sub(r"([\\$`])", r"\\\1", known).replace("'", "'\\''")  # the launcher evaluates what is assigned
        lines.append(f"{name}='{text}'\n")
    with files.temporary_directory(paths.temporary()) as directory:
        path = directory / "variables"
        path.write_text("".join(lines), encoding="utf-8", errors="surrogateescape")
        yield path


def _environment(record: Record) -> dict[bytes, bytes]:
    """What the launcher gets: its own variables are the record's, and of the caller's what finds programs and ranks."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    kept |= ranks.told(os.environ) if ranks.find(os.environ) else {}
    return {os.fsencode(name): os.fsencode(value) for name, value in {**kept, **record.option_variables}.items()}


def _enter(record: Record) -> None:
    try:
        os.chdir(record.directory)
    except OSError as error:
        raise FileError(
            f"{record.directory}: {error.strerror}", hint="the run was there: make it, with its inputs"
        ) from error
    os.environ["PWD"] = record.directory


def _stream_files(record: Record) -> Iterator[tuple[int, str]]:
    """Standard input and output where they were files: their numbers, and paths without links."""
    for fd, name in enumerate(("stdin", "stdout")):
        kind, _, path = record.streams.get(name, "").partition(" ")
        if kind == "file" and path.startswith("/") and (fd == 0 or os.path.isdir(os.path.dirname(path))):
            yield fd, os.path.realpath(path)


@contextmanager
def _streams(record: Record) -> Iterator[None]:
    """Standard input and output are the files that they were; whatever else they were, they are the caller's."""
    kept = [os.dup(0), os.dup(1)]
    try:
        for fd, path in list(_stream_files(record)):
            with FileError.about(Path(path)):
                opened = _stream(path, os.O_WRONLY | os.O_CREAT if fd else os.O_RDONLY)
            os.dup2(opened, fd)
            os.close(opened)
        yield
    finally:
        for fd, old in enumerate(kept):
            os.dup2(old, fd)
            os.close(old)


def _stream(path: str, flags: int) -> int:
    """A regular file, without its content where it is written: nothing else is waited for, or written over."""
    fd = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NOCTTY | os.O_NONBLOCK, 0o666)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "no regular file, as it was in the record")
    if flags & os.O_WRONLY:
        os.truncate(fd, 0)
    os.set_blocking(fd, True)
    return fd


# ---- where outputs go ----


def _set_aside(record: Record, asked: Asked, stack: ExitStack) -> Callable[[Record], None]:
    """Makes originals stay what they are, where that is wanted; what is to be done with the files afterwards."""
    place, rank = None, ranks.find(os.environ)
    outputs = None if asked.outputs is None else ranks.of_rank(asked.outputs, rank)
    if outputs is not None:
        files.make_directories(outputs, 0o777)
        place = stack.enter_context(Root(outputs))
        if os.listdir(outputs):
            raise FileError(f"{outputs}: not empty", hint="name a new directory")
    target = None if asked.target is None else _reached(ranks.of_rank(asked.target, rank), stack)
    if asked.apart:
        temporary = [str(paths.temporary()), *_TEMPORARY]
        shared = temporary if rank else []  # ranks of one node meet in files there
        written = [each.path for each in record.outputs] + [name for fd, name in _stream_files(record) if fd]
        written += [f"{each}/." for each in (os.path.expanduser("~"), record.directory, *temporary) if each != "/"]
        covered = [each for each in aside.directories([*written, *record.removed]) if each not in shared]
        candidates = [*([] if outputs is None else [outputs]), *map(Path, temporary)]
        aside.cover(stack.enter_context(aside.places(candidates, covered)), shared)

    def deliver(again: Record) -> None:
        if place is not None:
            for each in again.outputs:
                _copy(each, place)
        if target is not None:
            recording.write(again, target)

    return deliver


def _reached(path: Path, stack: ExitStack) -> Path:
    """The same file, wherever its directory is covered later."""
    files.refuse_target(path, overwrite=True)
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    stack.callback(os.close, directory)
    return Path(f"/proc/self/fd/{directory}/{path.name}")


def _copy(each: Content, place: Root) -> None:
    """What the run left goes below `place`, whatever links it left there as well."""
    with FileError.about(each.path):
        place.make_directory(os.path.dirname(each.path), 0o777 & ~files.umask())
        with contents.opened(each.path) as source:
            if each.kind is Kind.LINK:
                place.link(each.path, os.readlink("", dir_fd=source))
            elif each.kind is Kind.FILE:
                mode = stat.S_IMODE(os.fstat(source).st_mode)
                with contents.content(source) as file, place.create(each.path, mode) as new:
                    files.copy_data(file.fileno(), new.fileno())
                    shutil.copystat(*(f"/proc/self/fd/{one.fileno()}" for one in (file, new)))


# ---- what came of it ----


def _told(found: Sequence[compare.Difference], asked: Asked) -> int:
    """Prints what differs; 1 where something does."""
    if asked.as_json:
        document = {"same": not compare.differ(found), "differences": [each.document() for each in found]}
        sys.stdout.write(json.dumps(document, indent=1) + "\n")
        return int(compare.differ(found))
    for each in found[:_LINES]:
        sys.stdout.write(f"{'~' if each.counts else ' '} {each.what}: {_shown(f'{each.name} {each.how}')}\n")
    if len(found) > _LINES:
        sys.stdout.write(f"  and {len(found) - _LINES} more (--json has all)\n")
    if not compare.differ(found):
        sys.stdout.write("same inputs, same outputs\n")
    return int(compare.differ(found))


def _shown(name: str) -> str:
    """Names are anybody's: no character of theirs moves the cursor."""
    return name if name.isprintable() else repr(name)[1:-1]
