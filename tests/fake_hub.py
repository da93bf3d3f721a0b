"""A Hub of models in this process, whose answers can be made to fail as those of networks do."""

import base64
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
    """`files` of one repository; `fault` says how requests go wrong.

    `tokens` are those that came with what was written, `commits` how many were made.
    """

    repo = "org/model"

    def __init__(self, url: str) -> None:
        self.url = url
        self.files: dict[str, bytes] = {}
        self.fault: str | None = None
        self.asked: list[str] = []
        self.commit, self.commits, self.private = COMMIT, 0, False
        self.large: dict[str, bytes] = {}
        self.tokens: set[str | None] = set()

    def digest(self, name: str) -> str:
        return hashlib.sha256(self.files[name]).hexdigest()

    def info(self) -> dict[str, Any]:
        siblings = [
            {"rfilename": name, "size": len(content), "blobId": "0" * 40,
             "lfs": {"sha256": self.digest(name), "size": len(content), "pointerSize": 130}}
            for name, content in self.files.items()
        ]  # fmt: skip
        return {"id": self.repo, "_id": "1", "sha": self.commit, "siblings": siblings, "tags": [],
                "private": self.private}  # fmt: skip

    def write(self, path: str, body: bytes) -> tuple[int, Any]:
        """Status and JSON answer to a POST or PUT, as the steps of a push ask for them."""
        if path.startswith("/large/"):
            self.large[path.rpartition("/")[2]] = body
            return 200, {}
        if path.endswith(f"{self.repo}/commit/main"):
            return 200, self.change([json.loads(line) for line in body.splitlines()])
        asked = json.loads(body)
        if path == "/api/repos/create":
            if self.files:
                return 409, {"url": f"{self.url}/{self.repo}"}
            self.private = asked.get("visibility") == "private"
            return 200, {"url": f"{self.url}/{self.repo}"}
        if path == "/api/validate-yaml":
            wrong = [{"message": '"license" must be one of'}] if self.fault == "licence" else []
            return (400 if wrong else 200), {"errors": wrong, "warnings": []}
        if path.endswith("/preupload/main"):
            kinds = [self.kind(each["path"]) for each in asked["files"]]
            return (403 if self.fault == "no right" else 200), {"files": kinds}
        assert path.endswith(".git/info/lfs/objects/batch"), path
        href = {"upload": {"href": f"{self.url}/large/{asked['objects'][0]['oid']}"}}
        return 200, {"objects": [each | {"actions": href} for each in asked["objects"]]}

    def kind(self, name: str) -> dict[str, Any]:
        """How a file is sent, and what it is called now: by a sha256, or as git does."""
        large, content = name.endswith(".safetensors"), self.files.get(name)
        oid = None
        if content is not None:
            header = b"blob %d\0" % len(content)
            oid = self.digest(name) if large else hashlib.sha1(header + content).hexdigest()
        mode = "lfs" if large else "regular"
        return {"path": name, "uploadMode": mode, "shouldIgnore": False, "oid": oid}

    def change(self, lines: list[dict[str, Any]]) -> dict[str, str]:
        """Make one commit of the operations in these lines."""
        for each in lines:
            value = each["value"]
            if each["key"] == "file":
                self.files[value["path"]] = base64.b64decode(value["content"])
            elif each["key"] == "lfsFile":
                self.files[value["path"]] = self.large[value["oid"]]
            elif each["key"] == "deletedFile":
                del self.files[value["path"]]
        self.commits += 1
        self.commit = f"{self.commits:040x}"
        return {
            "commitOid": self.commit,
            "commitUrl": f"{self.url}/{self.repo}/commit/{self.commit}",
        }


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

        def do_POST(self) -> None:
            path = urlsplit(self.path).path
            hub.asked.append(f"{self.command} {path}")
            hub.tokens |= {self.headers.get("Authorization")} - {None}
            content = self.rfile.read(int(self.headers["Content-Length"]))
            if hub.fault == "stalled push" and path.startswith("/large/"):
                stopped.wait(60)
            refusals = {"500": 500, "unknown token": 401}
            if hub.fault in refusals:
                refuse(self, refusals[hub.fault])
            # Not what it should be, but an error's page.
            elif hub.fault == "html" and path == "/api/validate-yaml":
                refuse(self, 500)
            else:
                send_json(self, *hub.write(path, content))

        do_PUT = do_POST

        def answer(self, *, body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.asked.append(f"{self.command} {path}")
            if path == "/elsewhere":
                show_page(self, body=body)
            elif hub.fault == "dropped":
                self.close_connection = True
            elif hub.fault == "silent":
                stopped.wait(60)
            elif hub.fault == "portal":
                redirect(self)
            elif path.startswith(f"/api/models/{hub.repo}"):
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

    def redirect(handler: Handler) -> None:
        """To another host, by its other name."""
        handler.send_response(302)
        handler.send_header("Location", f"http://localhost:{server.server_port}/elsewhere")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    def show_page(handler: Handler, *, body: bool) -> None:
        content = b"<html>Sign in to this network</html>"
        handler.send_response(200)
        handler.send_header("Content-Type", "text/html")
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        if body:
            handler.wfile.write(content)

    def answer_api(handler: Handler) -> None:
        refusals = {"gated": (403, "GatedRepo"), "private": (401, "RepoNotFound"),
                    "no revision": (404, "RevisionNotFound"), "500": (500, ""),
                    "unknown token": (401, "")}  # fmt: skip
        if hub.fault in refusals:
            refuse(handler, *refusals[hub.fault])
            return
        send_json(handler, 200, hub.info())

    def send_json(handler: Handler, status: int, answer: Any) -> None:
        content = json.dumps(answer).encode()
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    def answer_file(handler: Handler, name: str, *, body: bool) -> None:
        if name not in hub.files or hub.fault == "404":
            refuse(handler, 404, "EntryNotFound")
            return
        content = hub.files[name]
        if body and hub.fault == "redirect":
            redirect(handler)
            return
        if body and hub.fault == "wrong bytes":
            content = bytes(len(content))
        if body and hub.fault == "html":
            content = b"<html>".ljust(len(content))
        first = int((handler.headers.get("Range") or "bytes=0-")[6:].partition("-")[0])
        handler.send_response(206 if first else 200)
        handler.send_header("X-Repo-Commit", hub.commit)
        other = hub.fault == "no digest"
        handler.send_header("ETag", '"my file"' if other else f'"{hub.digest(name)}"')
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
        elif hub.fault == "slow":
            for start in range(0, len(content), 2**17):
                handler.wfile.write(content[start : start + 2**17])
                handler.wfile.flush()
                stopped.wait(0.4)
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
