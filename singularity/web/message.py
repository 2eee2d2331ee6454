"""HTTP/1.1 as bytes: the head of a request, and an answer with its body, whatever form that has (RFC 9112).

Python's `http.client` does this too. It imports forty modules, most of them of electronic mail, which was a third of
what a second pull took. Whatever makes no sense here is a ProtocolError.
"""

import re
from collections.abc import Mapping
from io import BufferedReader
from typing import overload

_LINE_LIMIT = 1 << 16  # bytes
_LINES_LIMIT = 256  # in a head
_INTERIM_LIMIT = 16  # heads that only say that another one will come
_STATUS = re.compile(rb"HTTP/1\.([0-9]) ([1-9][0-9]{2})(?:[ \t][^\r\n]*)?\r?\n")
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r?\n")
_UNSAFE_TARGET = re.compile(r"[^!-~]")
_UNSAFE = re.compile(r"[\0\r\n]")
_NO_BODY = frozenset({204, 304})
_ENDS = (b"\r\n", b"\n")


class ProtocolError(Exception):
    """What a server says is no HTTP, or it ended too early."""


def request_head(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    """What a request begins with. Raises ValueError for what would end a line of it."""
    if _UNSAFE_TARGET.search(target) or any(_UNSAFE.search(f"{name}{value}") for name, value in headers.items()):
        raise ValueError("a request with what cannot stand in one")
    lines = (f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", "")
    return "\r\n".join(lines).encode("latin-1")


class Headers:
    """Those of an answer; names in any case."""

    def __init__(self) -> None:
        self._values: dict[str, list[str]] = {}
        self._last: list[str] = []

    def add(self, line: bytes) -> None:
        """Takes in a line; one that begins with a blank goes on with the line before it."""
        text = line.decode("latin-1")
        if text[0] in " \t" and self._last:
            self._last[-1] += f" {text.strip()}"
            return
        name, colon, value = text.partition(":")
        if not colon or not name.strip():
            raise ProtocolError("no HTTP: a line in the head of an answer that is none")
        self._last = self._values.setdefault(name.strip().lower(), [])
        self._last.append(value.strip())

    def every(self, name: str) -> list[str]:
        """All values of a header."""
        return self._values.get(name.lower(), [])

    @overload
    def get(self, name: str) -> str | None: ...
    @overload
    def get(self, name: str, default: str) -> str: ...
    def get(self, name: str, default: str | None = None) -> str | None:
        """The value of a header, those of several joined; `default` where there is none."""
        return ", ".join(self._values[name.lower()]) if name in self else default

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._values

    def words(self, name: str) -> list[str]:
        """The words of a header that is a list of such, in lower case."""
        return [word.strip().lower() for word in self.get(name, "").split(",") if word.strip()]


class Response:
    """An answer; `file` is read by nobody else, and closed with this."""

    def __init__(self, file: BufferedReader, method: str) -> None:
        self._file = file
        version, self.status, self.headers = _head(file)
        for _ in range(_INTERIM_LIMIT):
            if self.status >= 200:
                break
            version, self.status, self.headers = _head(file)
        else:
            raise ProtocolError("no HTTP: an answer that only says that another will come")
        said = self.headers.words("Connection")
        self.keeps = "close" not in said if version else "keep-alive" in said  # the connection, for another request
        self._left: int | None = None  # bytes of the body, or of the chunk that is being read; None: until it ends
        self._is_chunked = False
        self.is_ended = False
        self._find_length(method)

    def _find_length(self, method: str) -> None:
        tunnel = method == "CONNECT" and 200 <= self.status < 300
        codings = [each for each in self.headers.words("Transfer-Encoding") if each != "identity"]
        lengths = set(self.headers.words("Content-Length"))
        if method == "HEAD" or tunnel or self.status in _NO_BODY:
            self.is_ended = True
        elif codings:
            if codings != ["chunked"]:
                raise ProtocolError(f"an answer in a form that is not known: {codings[0][:40]}")
            self._is_chunked, self._left = True, 0
        elif lengths:
            (text,) = lengths if len(lengths) == 1 else ("",)
            if not text.isascii() or not text.isdecimal() or len(text) > 18:
                raise ProtocolError("no HTTP: a length that is none")
            self._left = int(text)
            self.is_ended = self._left == 0
        else:
            self.keeps = False

    def read(self, size: int) -> bytes:
        """Up to `size` bytes of the body, as they come; none at its end. Raises ProtocolError and OSError."""
        if self.is_ended or not size:
            return b""
        if self._is_chunked and not self._left and not self._next_chunk():
            return b""
        data = self._file.read1(size if self._left is None else min(size, self._left))
        if self._left is None:
            self.is_ended = not data
            return data
        if not data:
            raise ProtocolError("the connection ended too early")
        self._left -= len(data)
        if not self._left and self._is_chunked and _line(self._file) not in _ENDS:
            raise ProtocolError("no HTTP: a chunk that does not end where it said")
        self.is_ended = not self._left and not self._is_chunked
        return data

    def _next_chunk(self) -> bool:
        """Reads how long the next part is; False at the end of all."""
        match = _SIZE.fullmatch(_line(self._file))
        if match is None:
            raise ProtocolError("no HTTP: a chunk without a length")
        self._left = int(match[1], 16)
        if not self._left:
            _fields(self._file)
            self.is_ended = True
        return not self.is_ended

    def close(self) -> None:
        """Nothing more is read."""
        self._file.close()


def _head(file: BufferedReader) -> tuple[bool, int, Headers]:
    """Whether it is of HTTP/1.1 and not 1.0, the status, and the headers."""
    match = _STATUS.fullmatch(_line(file, "the server ended the connection without an answer"))
    if match is None:
        raise ProtocolError("what it answers is no HTTP")
    return match[1] != b"0", int(match[2]), _fields(file)


def _fields(file: BufferedReader) -> Headers:
    headers = Headers()
    for _ in range(_LINES_LIMIT):
        line = _line(file)
        if line in _ENDS:
            return headers
        headers.add(line)
    raise ProtocolError(f"no HTTP: more than {_LINES_LIMIT} lines in the head of an answer")


def _line(file: BufferedReader, at_end: str = "the connection ended too early") -> bytes:
    line = file.readline(_LINE_LIMIT)
    if not line.endswith(b"\n"):
        raise ProtocolError("no HTTP: a line without an end" if len(line) >= _LINE_LIMIT else at_end)
    return line
