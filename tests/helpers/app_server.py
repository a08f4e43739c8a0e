"""Run `langid app` in a separate process, and call it by plain HTTP."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx
import torch

from langid_fastai.models.folder import write_model
from langid_fastai.models.model_info import Calibration, ModelInfo
from langid_fastai.models.networks import build_network
from langid_fastai.preprocessing import MelConfig

SR = 8000
PATIENCE = 300.0  # s, to end a test that hangs; what works takes less on any machine
# The server records its connections, https://docs.python.org/3/library/audit_events.html: only to
# itself.
START = """
import sys

def note(event, args):
    if event == "socket.getaddrinfo" or event == "socket.connect" and type(args[1]) is tuple:
        host = args[0] if event == "socket.getaddrinfo" else args[1][0]
        if host not in (None, "127.0.0.1"):
            print("asked", host, file=sys.stderr)

sys.addaudithook(note)
from langid_fastai.cli import main

main()
"""


def write_tiny_model(folder):
    """An untrained network with clips of a second, whose threshold no score reaches."""
    torch.manual_seed(0)
    mel = MelConfig(SR, 1.0, 256, 128, 32)
    info = ModelInfo("squeezenet1_1", ("ca", "de", "es"), mel, calibration=Calibration(0.2, 1.0))
    write_model(folder, build_network("squeezenet1_1", 3).state_dict(), info)
    return folder


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextlib.contextmanager
def running(model, scratch, *options):
    """Serve the page, and yield its address. Check that it stops and leaves nothing behind."""
    scratch.mkdir(exist_ok=True)
    argv = ["app", model, "--port", free_port(), *options]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", START, *map(str, argv)],
            stdin=subprocess.DEVNULL,  # libuv aborts where 0 is not open
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=os.environ | {"TMPDIR": str(scratch)},
        )
        try:
            line = process.stdout.readline()
            assert line.startswith("page "), said_in(log)
            yield line.split()[1].rstrip("/")
        finally:
            process.terminate()
            process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, said_in(log)
        assert "asked" not in said_in(log)
    assert [path.name for path in scratch.iterdir()] == []


def said_in(log):
    log.seek(0)
    return log.read()


def upload(address, file):
    """Upload a file, and return its path on the server in the form that a call needs."""
    with Path(file).open("rb") as stream:
        sent = httpx.post(f"{address}/gradio_api/upload", files={"files": stream}, timeout=PATIENCE)
    assert sent.status_code == 200, sent.text
    return {"path": sent.json()[0], "meta": {"_type": "gradio.FileData"}}


def call(address, *data):
    """Send a request, and return name and content of the last event."""
    asked = httpx.post(f"{address}/gradio_api/call/identify", json={"data": data}, timeout=PATIENCE)
    assert asked.status_code == 200, asked.text
    event_id = asked.json()["event_id"]
    events = httpx.get(f"{address}/gradio_api/call/identify/{event_id}", timeout=PATIENCE)
    return last_event(events.text)


def last_event(text):
    """Return name and content of the last server-sent event."""
    *_, name, content = text.strip().splitlines()
    return name.removeprefix("event: "), json.loads(content.removeprefix("data: "))


def identify(address, file, candidates=(), unknown=False):
    """Return the page's result for a file."""
    name, content = call(address, upload(address, file), list(candidates), unknown)
    assert name == "complete", content
    return content[0]
