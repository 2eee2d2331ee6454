"""A library of SIF files for tests, in memory, which speaks the open API of image libraries: no such server is in a
distribution or a registry of packages. Clients of other programs can be served, too (`python library_server.py PORT`).
"""

from __future__ import annotations

import hashlib
import json
import sys
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

TOKEN = "token-of-alice-" * 20  # as long as those of real libraries


class Handler(BaseHTTPRequestHandler):
    """`server.store` holds what is known by kind and path; `server.asked` what was asked."""

    protocol_version = "HTTP/1.1"
    server: Library

    def log_message(self, *words: object) -> None:
        pass

    def answer(self, status: int, document: object = None, data: bytes | None = None) -> None:
        body = data if data is not None else b"" if document is None else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def handle_any(self) -> None:
        parts = urllib.parse.urlsplit(self.path)
        path = urllib.parse.unquote(parts.path).strip("/").split("/")
        query = dict(urllib.parse.parse_qsl(parts.query))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append(f"{self.command} {parts.path}")
        writes = self.command != "GET" and path[0] != "presigned"
        if writes and self.headers.get("Authorization", "").lower() != f"bearer {TOKEN}":
            self.answer(401, {"error": {"code": 401, "message": "no"}})
            return
        status, found = self.server.do(self.command, path, query, body, self.headers.get("Authorization", ""))
        if isinstance(found, bytes):
            self.answer(status, data=found)
        else:
            self.answer(status, found)

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):
            return self.handle_any
        raise AttributeError(name)


class Library(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port: int = 0, *, version: str = "2.0.0") -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.version = version
        self.asked: list[str] = []
        self.objects: dict[str, dict[str, dict[str, Any]]] = {"entities": {}, "collections": {}, "containers": {}}
        self.images: dict[str, dict[str, Any]] = {}  # by id
        self.files: dict[str, bytes] = {}  # by id of the image
        self.tags: dict[tuple[str, str, str], str] = {}  # container's id, architecture, tag: id of the image

    @property
    def host(self) -> str:
        return f"localhost:{self.server_address[1]}"

    def do(  # noqa: C901 - a line for each thing that is asked
        self, method: str, path: list[str], query: dict[str, str], body: bytes, authorization: str
    ) -> tuple[int, object]:
        match (method, *path):
            case ("GET", "assets", "config", "config.prod.json"):
                url = f"http://{self.host}"
                return 200, {
                    "libraryAPI": {"uri": url},
                    "tokenAPI": {"uri": f"{url}/token"},
                    "keystoreAPI": {"uri": url},
                }
            case ("GET", "token", "v1", "token-status"):
                return (200 if authorization == f"Bearer {TOKEN}" else 401), {"data": {}}
            case ("GET", "version"):
                return 200, {"data": {"version": "v1", "apiVersion": self.version}}
            case ("GET", "v1", ("entities" | "collections" | "containers") as kind, *names):
                found = self.objects[kind].get("/".join(names))
                return (200, {"data": found}) if found else (404, {"error": {"code": 404}})
            case ("POST", "v1", ("entities" | "collections" | "containers") as kind):
                return self._make(kind, json.loads(body))
            case ("POST", "v1", "images"):
                about = json.loads(body)
                number = f"image{len(self.images)}"
                self.images[number] = {**about, "id": number, "uploaded": False}
                return 200, {"data": self.images[number]}
            case ("GET" | "DELETE", "v1", ("images" | "imagefile") as kind, *names):
                return self._image(method, kind, names, query)
            case ("POST", "v1", "imagefile", number):
                return self._store(number, body)
            case ("POST", "v2", "imagefile", number) if self.version >= "2":
                return 200, {"data": {"uploadURL": f"http://{self.host}/presigned/{number}"}}
            case ("PUT", "presigned", number):
                return (403, None) if authorization else self._store(number, body)
            case ("PUT", "v2", "imagefile", number, "_complete"):
                return 200, {"data": {"quota": {}, "containerUrl": ""}}
            case ("POST", "v2", "tags", container) if self.version >= "2":
                about = json.loads(body)
                self.tags[container, about["Arch"], about["Tag"]] = about["ImageID"]
                return 200, {"data": {}}
            case ("GET", ("v1" | "v2"), "tags", _):
                return 200, {"data": {}}
            case ("POST", "v1", "tags", container):
                about = json.loads(body)
                self.tags[container, "", about["Tag"]] = about["ImageID"]
                return 200, {"data": {}}
            case ("GET", "v1", "search"):
                return 200, {"data": self._search(query)}
        return 404, {"error": {"code": 404, "message": "no such thing"}}

    def _make(self, kind: str, about: dict[str, Any]) -> tuple[int, object]:
        above = {"collections": "entity", "containers": "collection"}.get(kind)
        path = about["name"]
        if above:
            plural = {"entity": "entities", "collection": "collections"}[above]
            path = next(p for p, each in self.objects[plural].items() if each["id"] == about[above]) + f"/{path}"
        found = {**about, "id": f"{kind}{len(self.objects[kind])}"}
        self.objects[kind][path] = found
        return 201, {"data": found}

    def _image(self, method: str, kind: str, names: list[str], query: dict[str, str]) -> tuple[int, object]:
        path, _, tag = "/".join(names).rpartition(":")
        container = self.objects["containers"].get(path, {}).get("id", "")
        architecture = query.get("arch", "amd64")
        by_hash = [n for n, each in self.images.items() if each["hash"] == tag and each["container"] == container]
        places = [(container, architecture, tag), (container, "", tag)]
        numbers = by_hash or [self.tags[place] for place in places if place in self.tags]
        if not numbers:
            return 404, {"error": {"code": 404, "message": "image not found"}}
        if method == "DELETE":
            for place in places:
                self.tags.pop(place, None)
            return 200, {"data": {}}
        if kind == "imagefile":
            return 200, self.files[numbers[0]]
        return 200, {"data": {**self.images[numbers[0]], "size": len(self.files.get(numbers[0], b""))}}

    def _store(self, number: str, body: bytes) -> tuple[int, object]:
        if f"sha256.{hashlib.sha256(body).hexdigest()}" != self.images[number]["hash"]:
            return 400, {"error": {"code": 400, "message": "other bytes"}}
        self.files[number] = body
        self.images[number]["uploaded"] = True
        return 200, {"data": {}}

    def _search(self, query: dict[str, str]) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = {"entity": [], "collection": [], "container": [], "image": []}
        for path, each in self.objects["containers"].items():
            if query["value"] in path:
                entity, collection, name = path.split("/")
                tags = [tag for container, _, tag in self.tags if container == each["id"]]
                above = {"entityName": entity, "collectionName": collection}
                found["container"].append({**above, "name": name})
                found["image"].append({**above, "containerName": name, "tags": tags})
        return found


if __name__ == "__main__":
    Library(int(sys.argv[1]), version=(sys.argv[2:] or ["2.0.0"])[0]).serve_forever()
