"""HTTP/1.1 as bytes: every form that the body of an answer has, and what is none of them."""

from __future__ import annotations

import io

import pytest

from singularity.web.message import ProtocolError, Response, request_head

OK = b"HTTP/1.1 200 OK\r\n"


def whole(answer: bytes, method: str = "GET", size: int = 3) -> tuple[Response, bytes, bytes]:
    """The answer, its body, and what is left behind it."""
    file = io.BufferedReader(io.BytesIO(answer))
    response = Response(file, method)
    body = bytearray()
    while data := response.read(size):
        body += data
    return response, bytes(body), file.read()


@pytest.mark.parametrize(
    ("answer", "method", "body", "rest", "keeps"),
    [
        (OK + b"Content-Length: 4\r\n\r\nbodynext", "GET", b"body", b"next", True),
        (OK + b"content-length:4 \nCONNECTION: Close\n\nbody", "GET", b"body", b"", False),
        (OK + b"Content-Length: 4\r\nContent-Length: 4\r\n\r\nbody", "GET", b"body", b"", True),
        (OK + b"Content-Length: 4\r\n\r\nnext", "HEAD", b"", b"next", True),
        (OK + b"\r\nnext", "CONNECT", b"", b"next", True),
        (b"HTTP/1.1 204 Nothing\r\n\r\nnext", "GET", b"", b"next", True),
        (b"HTTP/1.1 304\r\nContent-Length: 9\r\n\r\nnext", "GET", b"", b"next", True),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nbody", "GET", b"body", b"", False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\nnext", "GET", b"", b"next", True),
        (OK + b"\r\nuntil it ends", "GET", b"until it ends", b"", False),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0B ; x=y\r\n and chunks\r\n0\r\n\r\nnext", "GET",
         b"body and chunks", b"next", True),
        (OK + b"Transfer-Encoding: Chunked\r\nContent-Length: 1\r\n\r\n0\r\nDigest: x\r\n\r\n", "GET", b"", b"", True),
        (OK + b"Transfer-Encoding: identity\r\nContent-Length: 4\r\n\r\nbody", "GET", b"body", b"", True),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\nx",
         "GET", b"x", b"", True),
    ],
)  # fmt: skip
def test_a_body_ends_where_its_form_says(answer: bytes, method: str, body: bytes, rest: bytes, keeps: bool) -> None:
    response, found, left = whole(answer, method)
    assert (found, left, response.keeps, response.is_ended) == (body, rest, keeps, True)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"", "without an answer"),
        (b"SSH-2.0-OpenSSH\r\n", "no HTTP"),
        (b"HTTP/2 200\r\n\r\n", "no HTTP"),
        (b"HTTP/1.1 200 OK", "without an answer"),
        (b"HTTP/1.1 20 OK\r\n\r\n", "no HTTP"),
        (OK + b"A: b\r\n", "too early"),
        (OK + b"no colon\r\n\r\n", "a line in the head"),
        (OK + b": no name\r\n\r\n", "a line in the head"),
        (OK + b"A: b\r\n" * 300 + b"\r\n", "more than 256 lines"),
        (OK + b"A: " + b"b" * 70_000 + b"\r\n\r\n", "a line without an end"),
        (OK + b"Content-Length: -1\r\n\r\n", "a length that is none"),
        (OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nx", "a length that is none"),
        (OK + b"Content-Length: 4\r\n\r\nbod", "too early"),
        (OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n", "a form that is not known: gzip"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n", "a chunk without a length"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 16 + b"\r\n", "a chunk without a length"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\nbod", "too early"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nbody\r\n", "a chunk that does not end"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", "too early"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 20, "that another will come"),
    ],
)
def test_what_is_no_answer_is_an_error(answer: bytes, message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        whole(answer)


def test_headers_have_names_in_any_case_and_may_go_on_in_the_next_line() -> None:
    response, _, _ = whole(OK + b"A: b\r\n  c\r\na:d\r\nContent-Length: 0\r\n\r\n")
    assert response.headers.every("A") == ["b c", "d"]
    assert response.headers.get("a") == "b c, d"
    assert "x" not in response.headers
    assert response.headers.get("x", "none") == "none"


@pytest.mark.parametrize(
    ("target", "headers"), [("/a b", {}), ("/\r\nX: y", {}), ("/", {"A": "b\r\nC: d"}), ("/", {"A": "\u20ac"})]
)
def test_nothing_ends_a_line_of_a_request_before_its_time(target: str, headers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"request|codec"):
        request_head("GET", target, headers)
    assert request_head("GET", "/x", {"A": "b"}) == b"GET /x HTTP/1.1\r\nA: b\r\n\r\n"
