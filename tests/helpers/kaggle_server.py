"""A local server that responds like Kaggle to kagglehub 1.x, and a fixture."""

import http.server
import io
import json
import threading
import zipfile

import pytest
from kaggle_names import OWN_TEST, TRAIN

HANDLE = "toponowicz/spoken-language-identification"


class Kaggle(http.server.BaseHTTPRequestHandler):
    """Respond to kagglehub's requests: the newest version, then an archive, after a redirect."""

    def do_POST(self):
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        method = self.path.rpartition("/")[2]
        self.server.asked.append((method, self.headers["Authorization"], question))
        status, body = self.server.answers.get(method, (404, b"{}"))
        self.answer(status, body)

    def do_GET(self):
        self.server.asked.append(("archive", self.headers["Authorization"], {}))
        self.answer(*self.server.answers["archive"])

    def answer(self, status: int, body: bytes):
        self.send_response(status)
        if status == 302:
            self.send_header("Location", body.decode())
            body = b""
        is_json = body.startswith(b"{")
        self.send_header("Content-Type", "application/json" if is_json else "application/zip")
        self.send_header("Content-Length", str(len(body) + self.server.n_withheld))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def kaggle(tmp_path, monkeypatch):
    """A local Kaggle, without credentials, and an empty cache and home folder.

    kagglehub knows no address but Kaggle's own and ``http://localhost`` (`LOCALHOST`), so it is
    directed here as to a proxy.
    """
    pytest.importorskip("kagglehub")
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_KERNEL_RUN_TYPE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("no_proxy", "NO_PROXY", "REQUEST_METHOD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "home"))
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KAGGLEHUB_VERBOSITY", "error")
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Kaggle) as server:
        for name in ("http_proxy", "https_proxy"):  # no request leaves this machine
            monkeypatch.setenv(name, f"http://127.0.0.1:{server.server_port}")
        server.asked = []
        server.n_withheld = 0
        server.answers = {
            "GetDataset": (200, b'{"currentVersionNumber": 3}'),
            "DownloadDataset": (302, b"http://localhost/storage/archive.zip"),
            "archive": (200, make_zip()),
        }
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        yield server
        server.shutdown()


def make_zip() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for side, names in (("train", TRAIN), ("test", OWN_TEST)):
            for name in names:
                archive.writestr(f"{side}/{side}/{name}", b"fLaC")
    return stream.getvalue()
