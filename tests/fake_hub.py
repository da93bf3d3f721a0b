"""A Hub of models in this process, whose answers can be made to fail as those of networks do."""

import hashlib
import json
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeHub:
    """`files` of one repository; `fault` says how requests for a file's content go wrong."""

    repo = "org/model"

    def __init__(self, url: str) -> None:
        self.url = url
        self.files: dict[str, bytes] = {}
        self.fault: str | None = None
        self.asked: list[str] = []

    def digest(self, name: str) -> str:
        return hashlib.sha256(self.files[name]).hexdigest()

    def info(self) -> dict[str, Any]:
        siblings = [
            {"rfilename": name, "size": len(content), "blobId": "0" * 40,
             "lfs": {"sha256": self.digest(name), "size": len(content), "pointerSize": 130}}
            for name, content in self.files.items()
        ]  # fmt: skip
        return {"id": self.repo, "_id": "1", "sha": COMMIT, "siblings": siblings, "tags": []}


@contextmanager
def running() -> Iterator[FakeHub]:
    """A hub on a port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, *, body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.asked.append(f"{self.command} {path}")
            if path.startswith(f"/api/models/{hub.repo}"):
                answer_api(self)
            elif path.startswith(f"/{hub.repo}/resolve/"):
                answer_file(self, path.rpartition("/")[2], body=body)
            else:
                refuse(self, 401, "RepoNotFound")

    def refuse(handler: Handler, code: int, why: str = "") -> None:
        handler.send_response(code)
        if why:
            handler.send_header("X-Error-Code", why)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    def answer_api(handler: Handler) -> None:
        refusals = {"gated": (403, "GatedRepo"), "private": (401, "RepoNotFound"),
                    "no revision": (404, "RevisionNotFound"), "500": (500, "")}  # fmt: skip
        if hub.fault in refusals:
            refuse(handler, *refusals[hub.fault])
            return
        content = json.dumps(hub.info()).encode()
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    def answer_file(handler: Handler, name: str, *, body: bool) -> None:
        if name not in hub.files or hub.fault == "404":
            refuse(handler, 404, "EntryNotFound")
            return
        content = hub.files[name]
        if body and hub.fault == "wrong bytes":
            content = bytes(len(content))
        if body and hub.fault == "html":
            content = b"<html>".ljust(len(content))
        first = int((handler.headers.get("Range") or "bytes=0-")[6:].partition("-")[0])
        handler.send_response(206 if first else 200)
        handler.send_header("X-Repo-Commit", COMMIT)
        handler.send_header("ETag", f'"{hub.digest(name)}"')
        handler.send_header("Content-Length", str(len(content) - first))
        if first:
            size = len(content)
            handler.send_header("Content-Range", f"bytes {first}-{size - 1}/{size}")
        handler.end_headers()
        if body:
            send(handler, content[first:])

    def send(handler: Handler, content: bytes) -> None:
        half = len(content) // 2
        if hub.fault in ("truncated", "truncated once"):
            handler.wfile.write(content[:half])
            hub.fault = None if hub.fault == "truncated once" else hub.fault
            handler.close_connection = True
        elif hub.fault == "reset":
            handler.wfile.write(content[:half])
            linger = struct.pack("ii", 1, 0)
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            # Closed for good only once nothing holds it: the reader and the writer do, too.
            for each in (handler.rfile, handler.wfile, handler.connection):
                each.close()
            handler.close_connection = True
        elif hub.fault == "stalled":
            handler.wfile.write(content[:half])
            handler.wfile.flush()
            stopped.wait(60)
        else:
            handler.wfile.write(content)

    stopped = threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *args: None  # type: ignore[method-assign]
    hub = FakeHub(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        stopped.set()
        server.shutdown()
        server.server_close()
