"""A server that answers as the Hugging Face Hub does, for the paths that huggingface_hub uses."""

import base64
import hashlib
import json
import re
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import pytest

TOKEN = "hf_secret"
LARGE = (".safetensors", ".onnx", ".bin")  # kept by their SHA-256, as the Hub does
API = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)(?:/(?P<what>[a-z]+)(?:/(?P<rev>[^?]+))?)?$")
RESOLVE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<rev>[^/]+)/(?P<file>.+)$")


@dataclass
class Repo:
    """A repository with one commit for each of its revisions."""

    files: dict[str, bytes] = field(default_factory=dict)
    private: bool = False
    gated: bool = False
    revisions: tuple[str, ...] = ("main",)
    converted: int | None = None  # pull request with safetensors

    @property
    def sha(self):
        content = json.dumps({name: oid(name, data) for name, data in self.files.items()})
        return hashlib.sha1(content.encode()).hexdigest()


def oid(name, data):
    if name.endswith(LARGE):
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass
class Hub:
    """Repositories by name, the requests so far, and how downloads of large files go wrong."""

    repos: dict[str, Repo] = field(default_factory=dict)
    stored: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    tear: int = 0  # so many downloads of a large file break off half-way
    corrupt: bool = False  # large files have another content of the same size
    url: str = ""
    close: Callable[[], None] | None = None
    connections: list[socket.socket] = field(default_factory=list)

    def add(self, name, folder, *, only=None, **options):
        """Add the files of a folder as a repository."""
        files = {f.name: f.read_bytes() for f in folder.iterdir() if only is None or f.name in only}
        self.repos[name] = Repo(files, **options)
        return self.repos[name]

    def files_asked(self):
        """Names of the files that were downloaded."""
        return {m["file"] for line in self.asked if (m := RESOLVE.search(line))}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        self.hub.connections.append(self.connection)

    def log_message(self, *_):
        pass

    def reply(self, status, content=b"", **headers):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        headers = {"Content-Length": len(data)} | headers
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def refuse(self, status, code):
        self.reply(status, {"error": code}, X_Error_Code=code, X_Error_Message=code)

    @property
    def hub(self):
        return self.server.hub

    @property
    def is_owner(self):
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def repo(self, name, revision="main"):
        """The repository, after answering with a refusal if there is no access to it."""
        repo = self.hub.repos.get(name)
        if self.headers.get("Authorization") and not self.is_owner:
            self.reply(
                401, {"error": "x"}, X_Error_Message="Invalid credentials in Authorization header"
            )
        elif repo is None or (repo.private and not self.is_owner):
            self.refuse(404 if self.is_owner else 401, "RepoNotFound")
        elif repo.gated and not self.is_owner:
            self.refuse(403, "GatedRepo")
        elif unquote(revision or "main") not in (*repo.revisions, repo.sha):
            self.refuse(404, "RevisionNotFound")
        else:
            return repo
        return None

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = urlsplit(self.path).path
        self.hub.asked.append(f"{self.command} {path}")
        if path == "/api/whoami-v2":
            self.reply(*((200, {"name": "me"}) if self.is_owner else (401, {"error": "no"})))
        elif m := RESOLVE.match(path):
            repo = self.repo(m["repo"], m["rev"])
            if repo and m["file"] not in repo.files:
                self.refuse(404, "EntryNotFound")
            elif repo:
                self.send_content(m["file"], repo)
        elif m := API.match(path):
            if repo := self.repo(m["repo"], m["rev"]):
                self.reply(200, self.described(m["repo"], repo, m["what"]))
        else:
            self.reply(404)

    def described(self, name, repo, what):
        if what == "tree":
            entries = []
            for f, data in repo.files.items():
                entry = {"path": f, "size": len(data), "oid": oid(f, data)}
                large = {"lfs": entry | {"pointerSize": 100}} if f.endswith(LARGE) else {}
                entries.append({"type": "file"} | entry | large)
            return entries
        if what == "discussions":
            found = [] if repo.converted is None else [{
                "title": "Adding `safetensors` variant of this model", "num": repo.converted,
                "author": {"name": "SFconvertbot"}, "createdAt": "2024-01-01T00:00:00.000Z",
                "status": "open", "repo": {"name": name, "type": "model"}, "isPullRequest": True,
            }]  # fmt: skip
            return {"discussions": found, "count": len(found), "start": 0}
        siblings = [{"rfilename": f} for f in repo.files]
        return {"id": name, "modelId": name, "sha": repo.sha, "private": repo.private,
                "gated": repo.gated, "tags": [], "downloads": 0, "siblings": siblings}  # fmt: skip

    def send_content(self, name, repo):
        data = repo.files[name]
        headers = {"ETag": f'"{oid(name, data)}"', "X-Repo-Commit": repo.sha}
        if self.hub.corrupt and name.endswith(LARGE):
            data = bytes(len(data))
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
        headers |= {"Accept-Ranges": "bytes"}
        if self.command == "GET" and name.endswith(LARGE) and self.hub.tear:
            self.hub.tear -= 1
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            self.wfile.write(data[start : start + (len(data) - start) // 2])
            self.close_connection = True
        else:
            self.reply(206 if start else 200, data[start:], **headers)

    def do_PUT(self):
        self.hub.asked.append(f"PUT {self.path}")
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self.hub.stored[self.path.rpartition("/")[2]] = data
        self.reply(200)

    def do_POST(self):
        path = urlsplit(self.path).path
        self.hub.asked.append(f"POST {path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if path == "/api/validate-yaml":
            self.reply(200, {"errors": [], "warnings": []})
        elif not self.is_owner:
            self.reply(401, {"error": "Invalid username or password."})
        elif path == "/api/repos/create":
            self.create(json.loads(body))
        elif path.endswith("/objects/batch"):
            objects = json.loads(body)["objects"]
            for wanted in objects:
                wanted["actions"] = {"upload": {"href": f"{self.hub.url}/lfs/{wanted['oid']}"}}
            self.reply(200, {"transfer": "basic", "objects": objects})
        elif (m := API.match(path)) and m["what"] == "preupload":
            files = json.loads(body)["files"]
            for file in files:
                mode = "lfs" if file["path"].endswith(LARGE) else "regular"
                file |= {"uploadMode": mode, "shouldIgnore": False}
            self.reply(200, {"files": files})
        elif m and m["what"] == "commit":
            self.commit(m["repo"], [json.loads(line) for line in body.splitlines()])
        else:
            self.reply(404)

    def create(self, wanted):
        name = f"{wanted.get('organization') or 'me'}/{wanted['name']}"
        if not name.startswith("me/"):
            self.reply(403, {"error": "no"}, X_Error_Message="You don't have the rights")
        elif name in self.hub.repos:
            self.reply(409, {"error": "exists", "url": f"{self.hub.url}/{name}"})
        else:
            hidden = wanted.get("private") or wanted.get("visibility") == "private"
            self.hub.repos[name] = Repo({".gitattributes": b""}, private=bool(hidden))
            self.reply(200, {"url": f"{self.hub.url}/{name}"})

    def commit(self, name, lines):
        repo = self.hub.repos[name]
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                repo.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                repo.files[value["path"]] = self.hub.stored[value["oid"]]
        url = f"{self.hub.url}/{name}/commit/{repo.sha}"
        self.reply(200, {"success": True, "commitOid": repo.sha, "commitUrl": url})


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Let huggingface_hub talk to a stand-in, with an empty cache and no token."""
    from huggingface_hub import _snapshot_download, constants, file_download

    from langid_fastai.models.encoder_info import read_encoder
    from langid_fastai.models.hub import fetch_model

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.hub = Hub(url=f"http://127.0.0.1:{server.server_address[1]}")

    def close():
        server.shutdown()
        server.server_close()
        for connection in server.hub.connections:  # those kept alive
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    server.hub.close = close
    threading.Thread(target=server.serve_forever, daemon=True).start()
    template = server.hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    for name, value in {
        "ENDPOINT": server.hub.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": template,
        "HF_HUB_CACHE": str(tmp_path / "hub-cache"),
        "HF_TOKEN_PATH": str(tmp_path / "no-token"),
        "HF_HUB_DISABLE_XET": True,
    }.items():
        for module in (constants, file_download, _snapshot_download):  # older ones copied them
            monkeypatch.setattr(module, name, value, raising=False)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    read_encoder.cache_clear()
    fetch_model.cache_clear()
    yield server.hub
    close()
    read_encoder.cache_clear()
    fetch_model.cache_clear()
