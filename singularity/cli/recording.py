"""`--record FILE`: a launch under the recorder, and the record of it."""

import logging
import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from singularity import __version__, digest, files, process
from singularity.capsule import contents, host, model, ranks, watch
from singularity.capsule.model import Content, Image, Part, Record
from singularity.capsule.seen import LIMIT, Read, Seen, Status, Written
from singularity.cli.checked import available
from singularity.cli.launched import Launch, environment_of, given_options
from singularity.cli.options_table import entries, takes_next
from singularity.errors import FileError, SingularityError, UsageError
from singularity.limits.wanted import size
from singularity.variables import PREFIXES

logger = logging.getLogger(__name__)

OWN = ("record", "record_limit", "record_host")
_IN_VARIABLES = ("env", "env_file", "cleanenv", "no_eval")  # what they do is seen in what the program gets
_UNREPEATABLE = ("passphrase", "pem_path", "docker_login", "authfile", "keep_fd", "dry_run")
NOT_KEPT = (*OWN, *_IN_VARIABLES, *_UNREPEATABLE)  # options of which a record has nothing
_NAMED_FILES = ("overlay", "data")
_SECRET = re.compile(r"PASS|SECRET|TOKEN|CREDENTIAL|PRIVATE|API_?KEY|ACCESS_?KEY|AUTH|COOKIE", re.IGNORECASE)
_STREAMS = ("stdin", "stdout", "stderr")


class Asked(NamedTuple):
    """How much is to be written down."""

    limit: int = 1 << 62  # bytes: no digests of larger files
    named: bool = False  # the host and the user too


def recorded(launch: Launch, target: str) -> int:
    """Launches, writes the record, and returns the program's status; 255 where there is no whole record."""
    path = ranks.of_rank(Path(target).absolute(), ranks.find(os.environ))
    if launch.verb not in ("exec", "run", "test"):
        raise UsageError(f"--record: not for {launch.verb} (for exec, run and test)")
    if launch.image.startswith("instance://"):
        raise UsageError(f"--record: {launch.image} is there already", hint="record a launch of its image")
    files.refuse_target(path, overwrite=True)
    given = given_options(launch, [each for each in entries(launch.verb) if each.identifier in OWN])
    limit = str(given["record_limit"])
    asked = Asked(1 << 62 if limit in ("", "none", "-1") else size("record_limit", limit), bool(given["record_host"]))
    record = run(launch, asked, [str(path)])
    write(record, path)
    return record.status


def write(record: Record, path: Path) -> None:
    """The record becomes a file, which is whole or absent. Raises FileError."""
    with files.replacing(path, overwrite=True) as new, open(new.fd, "w", encoding="ascii", closefd=False) as file:
        file.writelines(model.written(record))


def run(
    launch: Launch,
    asked: Asked,
    own: Sequence[str] = (),
    environment: Callable[[Path], Mapping[bytes, bytes]] = environment_of,
    image: Image | None = None,
) -> Record:
    """Launches, and returns what is to be written down; `own` are files of ours that lie about.

    `image` is what is known of the image, where it has been looked at.

    Raises SingularityError where nothing was launched, or what was seen of it is not whole.
    """
    options = [each for each in entries(launch.verb) if each.identifier in OWN]
    words = launch.without(options)
    streams = dict(zip(_STREAMS, map(_stream, range(3)), strict=True))
    with available(launch.image, _options(launch, ())) as path, _digest_of(launch, path, image) as digest_found:
        before = _before()
        shift = len(words) - len(launch.words)
        position = None if launch.position is None else launch.position + shift
        line = launch._replace(words=tuple(words), position=position).of(path)
        given = environment(path)
        started = time.time()
        seen = watch.watched(
            lambda number: [f"--record=@{number}" if word == "--record=none" else word for word in line],
            given, image=path, limit=asked.limit,
        )  # fmt: skip
        ended = time.time()
        found = digest_found.result()
    if seen.status is None:
        raise SingularityError("--record: the recorder was ended, and what the program did is not known")
    status = os.waitstatus_to_exitcode(seen.status)
    for each in ranks.directories(os.environ):
        seen.forget(each)
    _take_streams(seen, before)
    limits = contents.Limits(size=asked.limit, names=own)
    return Record(
        image=found,
        verb=launch.verb,
        options=_options(launch, NOT_KEPT),
        arguments=tuple(launch.words[_program(launch) :]),
        directory=os.getcwd(),
        variables={name: None if _SECRET.search(name) else value for name, value in seen.variables.items()},
        option_variables=dict(_option_variables(launch.verb, given)),
        host=host.facts(named=asked.named),
        started=_when(started),
        ended=_when(ended),
        status=status if status >= 0 else 128 - status,
        streams=streams,
        inputs=(*_named_files(launch, asked), *contents.inputs(seen, limits)),
        outputs=tuple(contents.outputs(seen, limits)),
        removed=tuple(contents.removed(seen)),
        connections=tuple(seen.connections),
        not_seen=tuple(_gaps(seen, found)),
        temporary=sum(1 for each in seen.writes if not os.path.lexists(each)),
        program={"name": "singularity", "version": __version__},
    )


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _gaps(seen: Seen, image: Image) -> Iterator[str]:
    yield from seen.gaps
    if not seen.begun:
        yield "the program: no call of it was handed over"
    if seen.more:
        yield f"{seen.more} files more than {LIMIT}"
    if not image.digest:
        yield "the image's digest: it changed meanwhile, or not all of it can be read"


# ---- the image ----


@contextmanager
def _digest_of(launch: Launch, path: Path, known: Image | None) -> Iterator["Future[Image]"]:
    """The image and its digest, which is made while the program runs, or before it where the program may write."""
    if known is not None:
        future: Future[Image] = Future()
        future.set_result(known)
        yield future
        return
    with ThreadPoolExecutor(1) as pool:
        with process.foreground_signals():  # the thread begins here
            future = pool.submit(identity, launch.image, path)
        if {"-w", "--writable"} & {word.partition("=")[0] for word in _options(launch, ())}:
            future.result()
        yield future


def identity(named: str, path: Path) -> Image:
    """What is launched under this name."""
    if path.is_dir():
        try:
            tree = f"tree-sha256:{digest.by_content(path)}"
        except FileError:  # not all of it is this user's to read
            tree = ""
        return Image(named=named, path=os.path.realpath(path), digest=tree)
    before = path.stat()
    found = digest.of_file(path)
    after = path.stat()
    same = Status.of(before).is_same_content(Status.of(after))
    return Image(
        named=named, path=os.path.realpath(path), digest=f"sha256:{found}" if same else "", size=after.st_size
    )  # fmt: skip


# ---- the words ----


def _program(launch: Launch) -> int:
    """Where the program's words begin."""
    if launch.position is not None:
        return launch.position + 1
    by_name = {name: each for each in entries(launch.verb) for name in each.spellings}
    last = max(launch.places(), default=None)
    return launch.options if last is None else last + (2 if takes_next(launch.words[last], by_name) else 1)


def _options(launch: Launch, left_out: Sequence[str]) -> tuple[str, ...]:
    """The options of the verb as they were typed, but for some."""
    by_name = {name: each for each in entries(launch.verb) for name in each.spellings}
    kept: list[str] = []
    for place in launch.places():
        word = launch.words[place]
        entry = by_name.get(word.partition("=")[0])
        if entry is None or entry.identifier not in left_out:
            kept += launch.words[place : place + (2 if takes_next(word, by_name) else 1)]
    return tuple(kept)


def _option_variables(verb: str, given: Mapping[bytes, bytes]) -> Iterator[tuple[str, str]]:
    """The variables that stand for options, as the launcher gets them."""
    for each in entries(verb):
        if each.identifier in (*NOT_KEPT, "image") or each.group == "fetching":
            continue
        for name in (prefix + key for key in each.variables for prefix in PREFIXES):
            if os.fsencode(name) in given:
                yield name, os.fsdecode(given[os.fsencode(name)])


def _named_files(launch: Launch, asked: Asked) -> Iterator[Content]:
    """Files that options show in the container by a way of their own."""
    options = [each for each in entries(launch.verb) if each.identifier in _NAMED_FILES]
    for text in given_options(launch, options).values():
        for name in filter(None, str(text).split(",")):
            path = os.path.abspath(re.sub(r":(?:ro|rw|/.*)$", "", name))
            if os.path.isfile(path):
                found = contents.now(path, contents.Limits(size=asked.limit, links=True))
                if found is not None:
                    yield Content(path=path, inside="", part=Part.OPTION, **found._asdict())


# ---- standard streams ----


def _stream(fd: int) -> str:
    """What a standard stream is, as the record says it."""
    status = os.fstat(fd)
    if stat.S_ISREG(status.st_mode):
        return f"file {os.readlink(f'/proc/self/fd/{fd}')}"
    if stat.S_ISFIFO(status.st_mode) or stat.S_ISSOCK(status.st_mode):
        return "pipe"
    return "terminal" if os.isatty(fd) else "device"


def _before() -> dict[int, Status]:
    """Of the streams that are files, what is in them now."""
    found = {}
    for fd in range(3):
        status = os.fstat(fd)
        if stat.S_ISREG(status.st_mode):
            found[fd] = Status.of(status)
    return found


def _take_streams(seen: Seen, before: dict[int, Status]) -> None:
    """The shell has opened them: nobody saw it."""
    for fd, status in before.items():
        if fd == 2:  # messages
            continue
        with suppress(OSError):
            path = os.readlink(f"/proc/self/fd/{fd}")
            if fd == 0:
                seen.reads.setdefault(path, Read(status, "", path))
            else:
                seen.writes.setdefault(path, Written(None if not status.size else status, ""))
