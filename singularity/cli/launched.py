"""`singularity launch ARGV...`: where the front door sends a launch of what is not an image that it can start.

An archive, or what a URI names, becomes an image in the cache; then the front door is started again, with that image in
place of the archive or the URI and everything else as it was typed.
"""

import logging
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from singularity import paths
from singularity.cli.options_table import Entry, Kind, entries, takes_next
from singularity.errors import FileError, ImageError, UsageError
from singularity.paths import front_door
from singularity.variables import FALSE, PREFIXES, truth, variable

if TYPE_CHECKING:
    from singularity.encryption.sealed import Sealed
    from singularity.image.identify import Image
    from singularity.uri import Uri

logger = logging.getLogger(__name__)


class Launch(NamedTuple):
    """A launch as it was typed."""

    words: tuple[str, ...]  # from the global options on
    verb: str  # "exec", "instance start"
    options: int  # where those of the verb begin
    image: str
    position: int | None  # of the image among the words; None: a variable names it

    def of(self, path: Path) -> list[str]:
        """The words, with another image."""
        words = list(self.words)
        if self.position is not None:
            words[self.position] = str(path)
        return words

    @property
    def is_dry_run(self) -> bool:
        """Whether nothing is to be set up for it."""
        entry = next(each for each in entries(self.verb) if each.identifier == "dry_run")
        given = [self.words[place].partition("=") for place in self.places()]
        said = [value for value in map(variable, entry.variables) if value]
        said += [value for name, _, value in given if name in entry.spellings]
        return bool(said) and said[-1].lower() not in FALSE

    def places(self) -> Iterator[int]:
        """Where the options of the verb are among the words; values that are words of their own are left out."""
        by_name = {name: each for each in entries(self.verb) for name in each.spellings}
        place = self.options
        while place < len(self.words) and self.words[place].startswith("-") and self.words[place] not in ("-", "--"):
            yield place
            place += 2 if takes_next(self.words[place], by_name) else 1

    def without(self, options: Sequence[Entry]) -> list[str]:
        """The words, without these options, and with what keeps their variables from counting."""
        names = {name: each for each in options for name in each.spellings}
        left = list(self.words)
        for place in reversed(list(self.places())):
            if self.words[place].partition("=")[0] in names:
                del left[place : place + (2 if takes_next(self.words[place], names) else 1)]
        undone = [f"--{each.names[0]}={_undoing(each)}" for each in options]
        return [*left[: self.options], *undone, *left[self.options :]]

    def of_own(self, path: Path) -> list[str]:
        """The words, with an image that only processes of this user can read, so not the setuid program."""
        words = self.of(path)
        words.insert(self.options, "--userns")
        return words


def plain(arguments: Sequence[str]) -> int | None:
    """Launches what a URI names or an archive, or says why it cannot; `arguments` are the launch as it was typed.

    None: help is meant.
    """
    if not arguments or (len(arguments) == 1 and arguments[0] in ("-h", "--help", "help")):
        return None
    launch = read(arguments)
    image = launch.image
    _say_as_much_as_asked(launch)
    from singularity import uri

    asked = [each for each in entries(launch.verb) if each.identifier == "record"]
    recorded = "".join(str(value) for value in given_options(launch, asked).values())
    if recorded not in ("", "none") and not recorded.startswith("@"):  # with "@" the recorder is there
        if launch.is_dry_run:
            _become(front_door(), launch.without(asked), environment_of(Path(image)))
        from singularity.cli import recording

        return recording.recorded(launch, recorded)
    named = None if image.startswith("instance://") else uri.parse(image)
    if named is not None:  # fetched by the host's network, and not at the cost of the program; then we are back
        return _launch_uri(launch, named)
    _enter_network(launch)
    _enter_limits(launch)  # after it: what takes networks down is none of the container's processes
    from singularity.encryption import sealed
    from singularity.image.identify import identify

    encrypted = sealed.find(Path(image))
    if encrypted is not None:
        _launch_encrypted(launch, encrypted)
    found = identify(Path(image))
    _launch_on_base(launch, found)
    if not found.format.is_archive:
        raise ImageError(f"{image}: a {found.format.value}, but named as an archive", hint="give it another name")
    from singularity.build import launchable

    given = fetching_options(launch)
    place = None if given["disable_cache"] else _cache()
    if place is not None:
        path = launchable.cached(found, place, verify=bool(given["verify_cache"]))
        _become(front_door(), launch.of(path), environment_of(path))
    with launchable.temporary(found) as path:
        return _wait_for(launch, path)


def _launch_uri(launch: Launch, named: "Uri") -> int:
    from singularity.cache import image_store
    from singularity.pull import images
    from singularity.sources import fetch

    given = fetching_options(launch)
    if given["lazy"]:
        from singularity.lazy import start

        lazy = start.launchable(named, fetch.from_options(given))
        if lazy is not None and image_store.is_kept(lazy):
            lazy = image_store.named(lazy, named.file_name)
            _become(front_door(), launch.of(lazy), environment_of(lazy))
        if lazy is not None:
            _become(front_door(), launch.of_own(lazy), environment_of(lazy))
    with images.available(named, fetch.from_options(given)) as path:
        if not image_store.is_kept(path):
            return _wait_for(launch, path)
        found = image_store.named(path, named.file_name)
    return _become(front_door(), launch.of(found), environment_of(found))


def _launch_encrypted(launch: Launch, image: "Sealed") -> NoReturn:
    """Launches what a key opens, which nothing that is started gets to know."""
    from singularity.encryption import keys, shown

    given = given_options(launch, [each for each in entries(launch.verb) if each.identifier in _KEYS])
    key = keys.chosen(ask=bool(given["passphrase"]), pem_path=str(given["pem_path"]))
    if key is None:
        raise keys.needed(image.path)
    path = shown.for_launch(image, keys.opened(key, image.message, image.path))
    _become(front_door(), launch.of_own(path), keys.without(environment_of(path)))


def _launch_on_base(launch: Launch, image: "Image") -> None:
    """Launches what is on a base, which is looked for, read, and named to the front door; returns for a whole image."""
    from singularity.image import base

    if base.of(image) is None:
        return
    records = os.memfd_create("bases", 0)  # the program after this one has it
    os.write(records, base.told(base.chain(image)))
    environment = environment_of(image.path)
    environment[b"SINGULARITY_BASE_RECORDS"] = str(records).encode()
    _become(front_door(), launch.words, environment)


_KEYS = ("passphrase", "pem_path")
_FETCHING = (
    "no_https", "authfile", "docker_login", "platform", "arch", "arch_variant", "tmpdir", "disable_cache", "offline",
    "docker_host", "library_url", "lazy", "verify_cache",
)  # fmt: skip


def _enter_limits(launch: Launch) -> None:
    """Where limits are asked for, the launch goes on in a control group that has them; returns where none is."""
    options = [each for each in entries(launch.verb) if each.group == "limits"]
    given = {name: "" if value == "none" else value for name, value in given_options(launch, options).items()}
    if not any(given.values()):
        return
    from singularity.limits import groups, wanted

    limits, environment = wanted.from_options(given), environment_of(Path(launch.image))

    def again(first: Sequence[str]) -> NoReturn:
        _execute([*first, *groups.python_words(launch.words)], environment)

    if limits and not launch.is_dry_run:
        groups.enter(limits, again)
    _become(front_door(), launch.without([each for each in options if given[each.identifier]]), environment)


def _enter_network(launch: Launch) -> None:
    """Where a namespace or networks of the site are asked for, the launch goes on in them; returns where none is."""
    identifiers = ("net", "network", "network_args", "netns_path")
    options = [each for each in entries(launch.verb) if each.identifier in identifiers]
    given = given_options(launch, options)
    _, names, arguments, path = (str(given.get(name, "")) for name in identifiers)
    no_networks = names in ("none", "host") or (not names and arguments in ("", "none"))
    if path in ("", "none") and (os.getuid() != 0 or no_networks):
        return
    from singularity.network import enter, plugins

    words = launch.without(options)
    if path not in ("", "none"):
        if names or arguments:
            raise UsageError("--netns-path: a namespace that is there has its networks (leave --network out)")
        if not launch.is_dry_run:
            enter.existing(Path(path))
    else:
        networks = plugins.networks(_words(names or "bridge"), _words(arguments))
        servers = [] if launch.is_dry_run else enter.new(networks)
        if servers:
            words.insert(launch.options, f"--dns={','.join(servers)}")
    _become(front_door(), words, environment_of(Path(launch.image)))


def _words(text: str) -> list[str]:
    return list(dict.fromkeys(filter(None, text.split(","))))


def _undoing(option: Entry) -> str:
    """What an option says that is as if it were not given."""
    if not option.kind.takes_word:
        return "false"
    return "host" if option.identifier == "network" else "none"


def fetching_options(launch: Launch) -> dict[str, str | bool]:
    """What the options of fetching, and their variables, say."""
    found = given_options(launch, [each for each in entries(launch.verb) if each.identifier in _FETCHING])
    found["library"] = found.pop("library_url", "")
    return found


def given_options(launch: Launch, options: Sequence[Entry]) -> dict[str, str | bool]:
    """What these options before the image, and their variables, say; the last one of each counts, lists add up."""
    found: dict[str, str | bool] = {}
    for each in options:
        value = next((value for value in map(variable, each.variables) if value), "")
        names, several = each.spellings, []
        for place in launch.places():
            name, equals, after = launch.words[place].partition("=")
            if name not in names:
                continue
            if not each.kind.takes_word:
                value = after or "true"
            elif equals or place + 1 < len(launch.words):
                several.append(after if equals else launch.words[place + 1])
        if several:
            value = ",".join(several) if each.kind is Kind.LIST_CSV else several[-1]
        found[each.identifier] = value if each.kind.takes_word else truth(value)
    return found


def _cache() -> Path | None:
    """The directory of the cache; None, with a warning, where there cannot be one."""
    try:
        return paths.private(paths.cache_directory() / "archive")
    except FileError as error:
        logger.warning("%s: the archive is unpacked for this launch only", error)
        return None


def read(argv: Sequence[str]) -> Launch:
    """Understands a command line as far as the image. Raises UsageError when there is none."""
    words = list(argv)
    start = next((number for number, word in enumerate(words) if not word.startswith("-")), len(words))
    verb = words[start] if start < len(words) else ""
    if verb == "instance":
        start += 1
        verb = " ".join(words[start - 1 : start + 1])
    elif verb.startswith("instance."):
        verb = verb.replace(".", " ", 1)
    by_name = {name: entry for entry in entries(verb) for name in entry.spellings}
    position = _image_position(words, start + 1, by_name)
    named = variable("IMAGE")
    if named and (position is None or words[position] != named):
        return Launch(words=tuple(words), verb=verb, options=start + 1, image=named, position=None)
    if position is None:
        raise UsageError(f"{verb or 'launch'}: IMAGE is missing", hint=f"see: singularity help {verb}".rstrip())
    return Launch(words=tuple(words), verb=verb, options=start + 1, image=words[position], position=position)


def only_options(verb: str, words: Sequence[str]) -> tuple[str, ...]:
    """The words, which are options of a launch and their values. Raises UsageError for another one among them."""
    by_name = {name: entry for entry in entries("exec") for name in entry.spellings}
    position = _image_position(words, 0, by_name)
    if position is not None:
        raise UsageError(f'{verb}: "{words[position]}" is no option of a launch', hint="see: singularity help exec")
    return tuple(words)


def _image_position(words: Sequence[str], start: int, by_name: Mapping[str, Entry]) -> int | None:
    """The first word after the verb that is neither an option nor its value."""
    number = start
    while number < len(words):
        word = words[number]
        if not word.startswith("-") or word == "-":
            return number
        if word == "--":
            return number + 1 if number + 1 < len(words) else None
        number += 2 if takes_next(word, by_name) else 1
    return None


def _say_as_much_as_asked(launch: Launch) -> None:
    """The global options stand among the words, and were not for this run of Python to read."""
    from singularity.cli.messages import asked_level, begin_messages

    first = tuple(takewhile(lambda word: word.startswith("-"), launch.words))
    letters = "".join(word[1:] for word in first if not word.startswith("--"))
    names = {word for word in first if word.startswith("--")}
    verbose = letters.count("v") + first.count("--verbose")
    debug = bool(names & {"--debug", "--sh-debug", "--shdebug"} or set(letters) & set("dx"))
    quiet, silent = "--quiet" in names or "q" in letters, "--silent" in names or "s" in letters
    asked = asked_level(debug=debug, verbose=verbose, quiet=quiet, silent=silent)
    begin_messages(asked, colour="--nocolor" not in names)


def environment_of(path: Path) -> dict[bytes, bytes]:
    """The environment that this process was started with; messages and tests of ours have changed it since."""
    try:
        lines = Path("/proc/self/environ").read_bytes().split(b"\0")
        found = {name: value for name, equals, value in (line.partition(b"=") for line in lines) if equals}
    except OSError:
        found = dict(os.environb)
    for name in (os.fsencode(f"{prefix}IMAGE") for prefix in PREFIXES):
        if found.get(name):
            found[name] = os.fsencode(path)
    return found


def _become(door: Path, words: Sequence[str], environment: Mapping[bytes, bytes]) -> NoReturn:
    """Becomes the front door, as if these words had been typed. The signals that Python ignores are what they were."""
    _execute(["singularity", *words], environment, program=door)


def _execute(words: Sequence[str], environment: Mapping[bytes, bytes], *, program: Path | None = None) -> NoReturn:
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    sys.stdout.flush()
    os.execve(program or words[0], list(words), environment)  # noqa: S606 - a list of words, without a shell


def _wait_for(launch: Launch, path: Path) -> int:
    """Runs the launch as a child, whose image must be removed afterwards; the status is the child's."""
    from singularity import kernel, process

    door, environment, ours = front_door(), environment_of(path), os.getpid()

    def start() -> NoReturn:
        kernel.die_with_parent(signal.SIGTERM, ours)
        _become(door, launch.of(path), environment)

    return process.foreground(start)
