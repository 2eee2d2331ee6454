"""An archive for tests: a resolver of identifiers, records in both forms, drafts, as InvenioRDM's REST API has them.

Real ones give identifiers for good, so that none can be had here.
"""

from __future__ import annotations

import hashlib
import http.server
import json
import re
import threading
import urllib.parse
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = "a-token"
PREFIX = "10.5072/test."  # of identifiers that mean nothing, as DataCite has set aside


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


@dataclass
class State:
    """All that the archive knows."""

    address: str = ""
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)  # of records, by number
    drafts: dict[str, dict[str, Any]] = field(default_factory=dict)
    sent: dict[str, dict[str, bytes | None]] = field(default_factory=dict)  # of drafts; None: announced
    committed: set[tuple[str, str]] = field(default_factory=set)
    as_zenodo: bool = True
    damaged: bool = False
    restricted: bool = False


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: State

    def log_message(self, *words: object) -> None:
        del words

    def answer(self, status: int, document: object = None, *, data: bytes | None = None, **headers: str) -> None:
        body = data if data is not None else b"" if document is None else json.dumps(document).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def entry(self, number: str, name: str, data: bytes) -> dict[str, Any]:
        quoted = urllib.parse.quote(name)
        content = f"{self.state.address}/api/records/{number}/files/{quoted}/content"
        links = (
            {"self": content}
            if self.state.as_zenodo
            else {"self": content.removesuffix("/content"), "content": content}
        )
        return {"key": name, "size": len(data), "checksum": f"md5:{md5(data)}", "links": links}

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = urllib.parse.unquote(self.path)
        if match := re.fullmatch(r"/10\.5072/test\.(\w+)", path):
            place = (
                f"{self.state.address}/doi/{match[1]}" if match[1] != "elsewhere" else f"{self.state.address}/a-page"
            )
            return self.answer(302 if match[1] in (*self.state.files, "elsewhere") else 404, Location=place)
        if match := re.fullmatch(r"/doi/(\w+)", path):
            return self.answer(302, Location=f"/records/{match[1]}")
        if path == "/a-page" or re.fullmatch(r"/records/(\w+)", path):
            return self.answer(200, data=b"<html>a page</html>")
        if match := re.fullmatch(r"/api/records/(\w+)", path):
            if self.state.restricted:
                return self.answer(403, {"message": "Permission denied."})
            number = match[1]
            found = [self.entry(number, name, data) for name, data in self.state.files[number].items()]
            listed: Any = found if self.state.as_zenodo else {"entries": {each["key"]: each for each in found}}
            return self.answer(200, {"id": number, "files": listed})
        if match := re.fullmatch(r"/api/records/(\w+)/files/(.+)/content", path):
            data = self.state.files[match[1]][match[2]]
            return self.answer(200, data=data[::-1] if self.state.damaged else data)
        if (match := re.fullmatch(r"/api/records/(\w+)/draft", path)) and self.lets_in():
            return self.answer(200, self.state.drafts[match[1]])
        return self.answer(404, {"message": "Not found."})

    def lets_in(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if not self.lets_in():
            return self.answer(403, {"message": "Permission denied."})
        if self.path == "/api/records":
            return self.make(json.loads(body))
        match = re.fullmatch(r"/api/records/(\w+)/draft/(.+)", self.path)
        if match is None or match[1] not in self.state.drafts:
            return self.answer(404, {"message": "The persistent identifier does not exist."})
        number, action = match[1], match[2]
        draft, sent = self.state.drafts[number], self.state.sent[number]
        if action == "files":
            names = [each["key"] for each in json.loads(body)]
            if any(name in sent for name in names):
                return self.answer(400, {"message": f"File with key {names[0]} already exists."})
            sent.update(dict.fromkeys(names))
            return self.answer(201, {"entries": [{"key": name, "status": "pending"} for name in names]})
        if (file := re.fullmatch(r"files/(.+)/commit", action)) and (
            data := sent.get(urllib.parse.unquote(file[1]))
        ) is not None:
            self.state.committed.add((number, urllib.parse.unquote(file[1])))
            checksum = md5(data + (b"x" if self.state.damaged else b""))
            return self.answer(200, {"key": file[1], "status": "completed", "checksum": f"md5:{checksum}"})
        if action == "pids/doi" and "doi" not in draft["pids"]:
            draft["pids"]["doi"] = {"identifier": f"{PREFIX}{number}", "provider": "datacite"}
            return self.answer(201, draft)
        if action == "actions/publish":
            if {(number, name) for name in sent} - self.state.committed or not sent:
                return self.answer(
                    400,
                    {
                        "message": "A validation error occurred.",
                        "errors": [{"field": "files", "messages": ["Missing uploaded files."]}],
                    },
                )
            self.state.files[number] = {name: data for name, data in sent.items() if data is not None}
            return self.answer(
                202, {**draft, "status": "published", "links": {"self_html": f"{self.state.address}/records/{number}"}}
            )
        return self.answer(400, {"message": "not now"})

    def make(self, about: dict[str, Any]) -> None:
        """With the checks that InvenioRDM makes when a record is published."""
        metadata = about["metadata"]
        wrong = [name for name in ("title", "publication_date", "creators", "resource_type") if not metadata.get(name)]
        for each in metadata.get("creators", []):
            person = each["person_or_org"]
            if not person.get({"personal": "family_name", "organizational": "name"}[person["type"]]):
                wrong.append("creators")
        unknown = set(metadata) - {
            "title",
            "publication_date",
            "resource_type",
            "creators",
            "description",
            "version",
            "rights",
            "subjects",
            "publisher",
        }
        if wrong or unknown or not re.fullmatch(r"\d{4}-\d\d-\d\d", metadata["publication_date"]):
            errors = [{"field": f"metadata.{name}", "messages": ["Invalid."]} for name in (*wrong, *unknown)]
            return self.answer(400, {"message": "A validation error occurred.", "errors": errors})
        number = f"d{len(self.state.drafts) + 1}"
        links = {"self_html": f"{self.state.address}/uploads/{number}"}
        self.state.drafts[number] = {"id": number, "metadata": metadata, "pids": {}, "links": links}
        self.state.sent[number] = {}
        return self.answer(201, self.state.drafts[number])

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        match = re.fullmatch(r"/api/records/(\w+)/draft/files/(.+)/content", self.path)
        if match is None or not self.lets_in() or urllib.parse.unquote(match[2]) not in self.state.sent[match[1]]:
            return self.answer(404, {"message": "Not found."})
        self.state.sent[match[1]][urllib.parse.unquote(match[2])] = data
        return self.answer(200, {"key": match[2]})

    def do_DELETE(self) -> None:
        match = re.fullmatch(r"/api/records/(\w+)/draft/files/(.+)", self.path)
        if match is None or not self.lets_in():
            return self.answer(403, {"message": "Permission denied."})
        there = self.state.sent.get(match[1], {}).pop(urllib.parse.unquote(match[2]), "none")
        return self.answer(204 if there != "none" else 404)


@contextmanager
def archive() -> Iterator[State]:
    """Listens on loopback until the end."""
    state = State()
    handler = type("Handler", (_Handler,), {"state": state})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    state.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
