"""A web server on this machine alone that behaves as badly as a test asks for."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[["Handler", bytes], None]
"""Answers one request for a file with this content."""


class Handler(BaseHTTPRequestHandler):
    """Serves `site.files`; `site.answers[path]` are used up first, one per request."""

    server: Server

    def do_GET(self) -> None:
        site = self.server.site
        with site.lock:
            site.requests.append((self.path, dict(self.headers)))
            queue = site.answers.get(self.path, [])
            answer = queue.pop(0) if queue else site.default
            content = site.files.get(self.path)
        if content is None:
            self.send_error(404)
        else:
            answer(self, content)

    def reply(self, status: int, content: bytes, length: int | None = None, **headers: str) -> None:
        """Send `content`, announcing `length` bytes, and close the connection."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    site: Site


class Site:
    """Files, how they are answered, and what was asked for."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.files: dict[str, bytes] = {}
        self.answers: dict[str, list[Answer]] = {}
        self.default: Answer = ranged
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.lock = threading.Lock()

    def record(self, number: int, files: dict[str, bytes]) -> None:
        """Publish a record: its files, and what its web interface says of them."""
        entries = []
        for name, content in files.items():
            self.files[f"/records/{number}/files/{name}"] = content
            md5 = hashlib.md5(content).hexdigest()
            entries.append({"key": name, "size": len(content), "checksum": f"md5:{md5}"})
        self.files[f"/api/records/{number}"] = json.dumps({"id": number, "files": entries}).encode()

    def asked(self, ending: str) -> list[dict[str, str]]:
        """Headers of the requests for paths with this ending."""
        return [headers for path, headers in self.requests if path.endswith(ending)]


@contextmanager
def serving() -> Iterator[Site]:
    server = Server(("127.0.0.1", 0), Handler)
    server.site = Site(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


# --------------------------------------------------------------------------------------------------------------- answers
def etag(content: bytes) -> str:
    return f'"{hashlib.md5(content).hexdigest()}"'


def ranged(handler: Handler, content: bytes) -> None:
    """As it should be: Range, If-Range, ETag."""
    asked = handler.headers.get("Range", "")
    start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
    if not asked or handler.headers.get("If-Range", etag(content)) != etag(content):
        handler.reply(200, content, ETag=etag(content))
    elif start >= len(content):
        handler.reply(416, b"", Content_Range=f"bytes */{len(content)}")
    else:
        place = f"bytes {start}-{len(content) - 1}/{len(content)}"
        handler.reply(206, content[start:], ETag=etag(content), Content_Range=place)


def whole(handler: Handler, content: bytes) -> None:
    """No Range, no ETag: always everything."""
    handler.reply(200, content)


def cut(at: int) -> Answer:
    """The connection ends after `at` bytes of what is left."""

    def answer(handler: Handler, content: bytes) -> None:
        asked = handler.headers.get("Range", "")
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        headers: dict[str, Any] = {"ETag": etag(content)}
        if asked:
            headers["Content_Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        handler.reply(206 if asked else 200, content[start : start + at], len(content) - start, **headers)

    return answer


def status(number: int, **headers: str) -> Answer:
    return lambda handler, content: handler.reply(number, b"", **headers)
