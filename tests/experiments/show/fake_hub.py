"""A small huggingface.co: it makes repositories, takes large files by LFS and the rest in commits.

It knows the answers that huggingface_hub asks for, and nothing else of the service.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_right"
USER = "me"
LARGE = (".pth", ".npz", ".zip")


@dataclass
class Repository:
    """What one holds."""

    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)
    private: bool = False


@dataclass
class Hub:
    """The state of the service."""

    address: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)  # "models/me/x"
    large: dict[str, bytes] = field(default_factory=dict)  # sha256 → content
    uploads: list[str] = field(default_factory=list)  # sha256 of what was sent, in order
    failing_commits: int = 0  # that are answered with an error of the service


def _oid(name: str, content: bytes) -> str:
    if name.endswith(LARGE):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _answer(self, code: int, document: object = None) -> None:
        body = b"" if document is None else json.dumps(document).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _allowed(self) -> bool:
        if self.headers.get("Authorization") == f"Bearer {TOKEN}":
            return True
        self._answer(401, {"error": "Invalid credentials in Authorization header"})
        return False

    def do_PUT(self) -> None:
        """Take a large file at the address that the batch gave, which carries its own right."""
        content = self._body()
        digest = hashlib.sha256(content).hexdigest()
        assert self.path == f"/storage/{digest}"
        self.hub.large[digest] = content
        self.hub.uploads.append(digest)
        self._answer(200)

    def do_GET(self) -> None:
        """Information about a repository."""
        if not self._allowed():
            return
        name = self.path.partition("/api/")[2].partition("/revision/")[0]
        if name not in self.hub.repositories:
            return self._answer(404, {"error": "Repository not found"})
        commits = self.hub.repositories[name].commits
        self._answer(200, {"id": name.partition("/")[2], "sha": commits[-1]})

    def do_POST(self) -> None:
        """Everything else."""
        body = self._body()
        if not self._allowed():
            return
        path = self.path.partition("?")[0]
        if path == "/api/repos/create":
            self._create(json.loads(body))
        elif path == "/api/validate-yaml":
            assert json.loads(body)["content"].startswith("---\n")
            self._answer(200, {"errors": [], "warnings": []})
        elif path.endswith("/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            self._answer(200, {"transfer": "basic", "objects": [self._large(o) for o in objects]})
        elif "/preupload/" in path:
            files = json.loads(body)["files"]
            known = self.hub.repositories[path[5:].partition("/preupload/")[0]].files
            self._answer(200, {"files": [self._mode(file["path"], known) for file in files]})
        elif "/commit/" in path:
            self._commit(path[5:].partition("/commit/")[0], body)
        else:
            self._answer(404, {"error": path})

    def _create(self, asked: dict[str, Any]) -> None:
        kind, owner = f"{asked.get('type', 'model')}s", asked.get("organization") or USER
        if owner != USER:
            return self._answer(403, {"error": "You don't have the rights to create it here"})
        name = f"{kind}/{owner}/{asked['name']}"
        place = name.removeprefix("models/")
        url = {"url": f"{self.hub.address}/{place}"}
        if name in self.hub.repositories:
            return self._answer(409, {**url, "error": "You already created it"})
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        self.hub.repositories[name] = Repository(commits=["0" * 40], private=private)
        self._answer(200, url)

    def _large(self, asked: dict[str, Any]) -> dict[str, Any]:
        if asked["oid"] in self.hub.large:
            return {"oid": asked["oid"], "size": asked["size"]}
        upload = {"href": f"{self.hub.address}/storage/{asked['oid']}"}
        return {"oid": asked["oid"], "size": asked["size"], "actions": {"upload": upload}}

    def _mode(self, path: str, known: dict[str, bytes]) -> dict[str, Any]:
        mode = "lfs" if path.endswith(LARGE) else "regular"
        answer = {"path": path, "uploadMode": mode, "shouldIgnore": False}
        return answer | ({"oid": _oid(path, known[path])} if path in known else {})

    def _commit(self, name: str, body: bytes) -> None:
        if self.hub.failing_commits:
            self.hub.failing_commits -= 1
            return self._answer(500, {"error": "Internal error"})
        lines = [json.loads(line) for line in body.splitlines()]
        repository = self.hub.repositories[name]
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                repository.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                repository.files[value["path"]] = self.hub.large[value["oid"]]
        repository.commits.append(hashlib.sha1(body).hexdigest())
        commit = repository.commits[-1]
        place = name.removeprefix("models/")
        url = f"{self.hub.address}/{place}/commit/{commit}"
        self._answer(200, {"success": True, "commitOid": commit, "commitUrl": url})


@contextmanager
def fake_hub() -> Iterator[Hub]:
    """The service, as long as the block lasts."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        hub.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
