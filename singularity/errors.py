"""The failures that a user can act on.

SingularityError            255   anything below
├── UsageError                1   the command line: unknown verb or option, a missing argument
├── DefinitionError         255   a definition file: `file:line: what`
├── ImageError              255   an image that is damaged, or not what it should be
├── SignatureError          255   a signature that is missing, does not fit, or is of nobody who is trusted
├── BuildError              255   a build that cannot go on: a failed section, a missing privilege
├── LaunchError             255   a container that cannot be set up, told to a program that uses this library
├── FileError               255   a file that cannot be read, written or replaced
├── ToolError               255   a program we rely on: missing, killed, or failed
├── NetworkError            255   a server that cannot be reached, or breaks off
└── RegistryError           255   a server that says no: nothing there, not allowed

`cli/main.py` prints them and exits; whoever imports the library catches them.
"""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

STANDARD_OUTPUT = "standard output"  # the file name of an OSError about it
_NAMED = re.compile(  # the names that stand without "//" are those of `launcher/front/image_name.c` too
    r"([a-z][a-z0-9+.-]+):/+([^/].*)|(docker(-daemon|-archive)?|oci(-archive)?|oras|library|shub|doi):.*", re.DOTALL
)


class SingularityError(Exception):
    """One line, `what (hint)`: what went wrong, where, and what to do about it."""

    exit_status = 255

    def __init__(self, what: str, *, hint: str = "") -> None:
        self.what, self.hint = what, hint
        super().__init__(f"{what} ({hint})" if hint else what)

    @classmethod
    @contextmanager
    def named(cls, name: object) -> Iterator[None]:
        """Says of an error of this class within what it is about."""
        try:
            yield
        except cls as error:
            raise cls(f"{name}: {error.what}", hint=error.hint) from error


class UsageError(SingularityError):
    """A command line that says nothing we understand."""

    exit_status = 1


class DefinitionError(SingularityError):
    """A definition file that cannot be understood; the only exception that leaves the parser."""

    def __init__(self, what: str, *, name: str = "", line: int = 0, hint: str = "") -> None:
        self.line = line
        place = f"{name}:{line}: " if name and line else f"{name}: " if name else ""
        super().__init__(place + what, hint=hint)


class ImageError(SingularityError):
    """An image that is damaged, incomplete or of another kind; the only exception that leaves the image readers."""


class SignatureError(SingularityError):
    """A signature that is missing, does not fit what it is about, or was made with a key that nobody trusts."""


class BuildError(SingularityError):
    """A build that cannot go on."""


class LaunchError(SingularityError):
    """A container that cannot be set up, in the words of the launcher; the program in it was not started."""


class FileError(SingularityError):
    """A file or directory that the system does not let us read, write or replace."""

    @classmethod
    def because(cls, path: object, error: OSError) -> "FileError":
        """The one line for an `OSError` about `path`, or about standard output meanwhile."""
        if error.filename == STANDARD_OUTPUT:
            path = STANDARD_OUTPUT
        if error.errno == errno.ENOENT and isinstance(path, Path):
            return cls.missing(path, error.strerror)
        return cls(f"{path}: {error.strerror or error}")

    @classmethod
    @contextmanager
    def about(cls, path: object, *, inner: bool = False) -> Iterator[None]:
        """An `OSError` within becomes the line about `path`, or with `inner` about the file that it names itself.

        Raises FileError.
        """
        try:
            yield
        except OSError as error:
            raise cls.because((inner and error.filename) or path, error) from error

    @classmethod
    def missing(cls, path: Path, what: str | None = "no such image", *, hint: str = "") -> "FileError":
        """The one line where no file is, which may be an image's name where a file is wanted."""
        named = _NAMED.fullmatch(str(path))
        if named is None:
            return cls(f"{path}: {what}", hint=hint)
        name = f"{named[1]}://{named[2]}" if named[1] else str(path)  # a Path makes one slash of two
        from singularity.transports import fault

        wrong = fault(name)  # an unknown transport, or no name behind it
        if wrong is not None:
            return cls(wrong[0], hint=wrong[1])
        hint = f"pull it first: singularity pull {name}"
        return cls(f"{name}: an image's name, and no file of this machine", hint=hint)


class ToolError(SingularityError):
    """A program we rely on is missing, was killed, or ended with a status we did not expect."""

    def __init__(self, what: str, *, hint: str = "", status: int = 0, reason: str = "") -> None:
        self.status = status  # that it ended with; 0 where it was never started
        self.reason = reason  # in its own words
        super().__init__(what, hint=hint)


class NetworkError(SingularityError):
    """A server that cannot be reached, is busy for too long, breaks off, or does not prove who it is."""


class RegistryError(SingularityError):
    """A server's refusal: what is asked for is not there, or not for us, or its answer makes no sense."""

    def __init__(self, what: str, *, hint: str = "", status: int = 0, code: str = "") -> None:
        self.status = status  # of HTTP; 0 where the refusal is ours
        self.code = code  # of the server's error document: MANIFEST_UNKNOWN, DENIED
        super().__init__(what, hint=hint)


class Interrupted(BaseException):
    """A signal asked us to stop. No failure: it passes every `except Exception`, so that only clean-up sees it."""

    def __init__(self, signal: int) -> None:
        self.signal = signal
        super().__init__(signal)
