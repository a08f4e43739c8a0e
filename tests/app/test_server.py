"""The page and its server: results, limits, and requests that are refused."""

import re
import shutil
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from app_server import SR, call, identify, last_event, running, upload, write_tiny_model

from langid_fastai import cli
from langid_fastai.app import result
from langid_fastai.app.answer_html import _spectrogram, about_html, error_html, result_html
from langid_fastai.app.result import Limits, Result, identify_file
from langid_fastai.errors import AudioError, RunError
from langid_fastai.models.model_info import Calibration, ModelInfo
from langid_fastai.prediction import LanguageIdentifier
from langid_fastai.preprocessing import MelConfig, mel_image

DOCS = Path(__file__).parents[2] / "docs" / "deployment.md"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def identifier(model):
    return LanguageIdentifier.load(model)


@pytest.fixture(scope="module")
def address(model, tmp_path_factory):
    scratch = tmp_path_factory.mktemp("scratch")
    with running(model, scratch, "--max-mb", "0.5", "--max-minutes", "0.1") as found:
        yield found


@pytest.fixture
def sound(tmp_path, tone, write_audio):
    """Write a tone: ``sound(f, seconds)``, Hz, s."""

    def write(f=440, seconds=2.5, name="sound.wav"):
        return write_audio(tmp_path / name, tone(f, SR, seconds), SR)

    return write


# A recording within limits


def test_result_equals_that_of_the_identifier(identifier, sound):
    file = sound(seconds=2.5)
    result = identify_file(identifier, file)
    assert result.duration == 2.5
    assert result.answers == identifier(file)
    assert result.timeline == identifier.timeline(file)
    assert result.offset == 0
    assert result.image.shape == identifier.info.mel.shape


def test_progress_is_the_share_of_the_recording(identifier, sound):
    shown = []
    identify_file(identifier, sound(seconds=3.5), on_progress=lambda *step: shown.append(step))
    clips = [pytest.approx(seconds / 3.5) for seconds in (1, 2, 3, 3.5)]
    assert shown == [
        ("Reading the recording", 0.0),
        *[("Identifying the language", done) for done in clips],
        *[("Finding the timeline", done) for done in clips],
    ]


def test_one_clip_has_no_timeline(identifier, sound):
    assert identify_file(identifier, sound(seconds=1.0)).timeline == []


def test_spectrogram_shows_the_first_clip_with_sound(identifier, tmp_path, tone, write_audio):
    y = np.concatenate([np.zeros(2 * SR, dtype=np.float32), tone(440, SR, 1.0)])
    result = identify_file(identifier, write_audio(tmp_path / "late.wav", y, SR, subtype="FLOAT"))
    assert result.offset == 2.0
    np.testing.assert_array_equal(result.image, mel_image(y[2 * SR :], identifier.info.mel))


def test_reading_stops_at_the_limit(identifier, monkeypatch):
    """For any length, true or stated in the header."""
    read = []

    def endless(path, *, sr, channel):
        while True:
            read.append(sr)
            yield np.full(sr, 0.1, dtype=np.float32)

    monkeypatch.setattr(result, "stream_audio", endless)
    with pytest.raises(AudioError, match=r"^longer than 0.1 min, .* higher --max-minutes$"):
        identify_file(identifier, "endless.wav", limits=Limits(max_minutes=0.1))
    assert len(read) == 7


def test_messages_do_not_reveal_the_path(identifier, tmp_path, write_audio, sound):
    silent = write_audio(tmp_path / "silent.wav", np.zeros(2 * SR), SR)
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"RIFF????")
    raw = tmp_path / "sound.raw"
    for file, reason in (
        (silent, "silent from start to end"),
        (bad, "libsndfile cannot read it"),
        (raw, "raw samples"),
        (sound(seconds=0.5), "0.5 s of sound is too short"),
        (tmp_path / "absent.wav", "no such file"),
    ):
        with pytest.raises(AudioError, match=f"^{reason}") as caught:
            identify_file(identifier, file)
        assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("values", [(0, 1), (1, -1), (1, float("inf")), (float("nan"), 1)])
def test_limits_must_be_positive_and_finite(values):
    with pytest.raises(RunError, match="must be above 0 and finite"):
        Limits(*values)


# What the page shows


def test_ticks_are_at_the_height_of_their_tones():
    """A tone is brightest at the height of its own tick."""
    mel = MelConfig(n_mels=64)
    t = np.arange(mel.n_samples) / mel.sr
    for f in (500, 1000, 4000):
        image = mel_image(np.sin(2 * np.pi * f * t).astype(np.float32), mel)
        axes = _spectrogram(image, mel, 20.0).axes[0]
        names = [label.get_text() for label in axes.get_yticklabels()]
        tick = axes.get_yticks()[names.index(f"{f:,}".replace(",", " "))]
        band = len(image) - 1 - image.sum(axis=1, dtype=int).argmax()
        assert abs(tick - band) <= 1
        assert axes.get_images()[0].get_extent()[:2] == pytest.approx([20.0, 30.0])


def test_labels_are_escaped():
    label = "<script>alert(1)</script>"
    info = ModelInfo("resnet18", (label, "de"), MelConfig())
    image = np.zeros(info.mel.shape, dtype=np.uint8)
    segment = {"start": 0.0, "end": 20.0, "label": label, "score": 0.7}
    answers = [{"label": label, "score": 0.7}, {"label": "de", "score": 0.3}]
    for html in (
        about_html(info, Limits()),
        result_html(Result(20.0, answers, [segment], image, 0.0), info),
        error_html(label),
    ):
        assert "<script>" not in html
        assert "&lt;script&gt;" in html


def test_further_languages_share_a_row():
    vocab = tuple(f"l{i}" for i in range(13))
    info = ModelInfo("resnet18", vocab, MelConfig())
    answers = [{"label": label, "score": 1 / 13} for label in vocab]
    result = Result(5.0, answers, [], np.zeros(info.mel.shape, dtype=np.uint8), 0.0)
    html = result_html(result, info)
    assert "3 others" in html
    assert "23.1 %" in html
    assert "5.0 s of sound, repeated to fill the 10 s" in html
    assert "l12" not in html


def test_model_is_described():
    calibration = Calibration(1.5, 0.7, 0.05, 108)
    html = about_html(
        ModelInfo("resnet18", ("de", "es"), MelConfig(), calibration=calibration), Limits(20, 5)
    )
    for words in ("de, es", "no other", "resnet18", "108 validation", "70.0 %", "20 MB and 5 min"):
        assert words in html
    html = about_html(ModelInfo("resnet18", ("de", "es"), MelConfig()), Limits())
    assert "do not take the probabilities literally" in html
    assert "no threshold" in html


# The call for programs


def test_call_returns_the_same_as_python(address, identifier, sound):
    file = sound(seconds=2.5)
    found = identify(address, file)
    assert found["duration"] == 2.5
    expected = identifier(file)
    assert [answer["label"] for answer in found["answers"]] == [a["label"] for a in expected]
    scores = [answer["score"] for answer in found["answers"]]
    assert scores == pytest.approx([a["score"] for a in expected], abs=1e-6)
    assert [s["label"] for s in found["timeline"]] == [
        s["label"] for s in identifier.timeline(file)
    ]


def test_options_reach_the_model(address, sound):
    file = sound()
    assert {a["label"] for a in identify(address, file, ["es", "ca"])["answers"]} == {"es", "ca"}
    assert identify(address, file, unknown=True)["answers"][0]["label"] == "unknown"


def test_ten_concurrent_calls_get_their_own_answers(address, identifier, sound):
    files = [sound(200 + 300 * i, name=f"{i}.wav") for i in range(10)]
    expected = [{a["label"]: a["score"] for a in identifier(file)} for file in files]
    assert len({round(scores["es"], 4) for scores in expected}) == 10  # told apart below
    with ThreadPoolExecutor(10) as pool:
        found = list(pool.map(lambda file: identify(address, file), files))
    for answer, scores in zip(found, expected, strict=True):
        result = {a["label"]: a["score"] for a in answer["answers"]}
        assert result == pytest.approx(scores, abs=1e-6)


def test_examples_in_the_documentation_run(address, identifier, sound, tmp_path):
    if shutil.which("curl") is None:
        pytest.fail("no curl to run the example with; install it, as by: apt-get install curl")
    file = sound(name="speech.wav")
    expected = {a["label"]: a["score"] for a in identifier(file, candidates=["de", "es"])}
    blocks = re.findall(r"```(bash|python)\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    [curl] = [code for kind, code in blocks if kind == "bash" and "curl" in code]
    [client] = [code for kind, code in blocks if kind == "python"]
    moved = [code.replace("http://127.0.0.1:7860", address) for code in (curl, client)]
    done = subprocess.run(
        ["bash", "-c", moved[0]], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    name, [answer] = last_event(done.stdout)
    assert name == "complete"
    assert {a["label"]: a["score"] for a in answer["answers"]} == pytest.approx(expected, abs=1e-6)
    done = subprocess.run(
        [sys.executable, "-c", moved[1]], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert f"'label': '{max(expected, key=expected.get)}'" in done.stdout


def test_only_the_documented_call_is_open(address):
    info = httpx.get(f"{address}/gradio_api/info").json()
    assert list(info["named_endpoints"]) == ["/identify"]
    assert info["unnamed_endpoints"] == {}
    past_the_line = httpx.post(
        f"{address}/gradio_api/run/identify", json={"data": [None, [], False]}
    )
    assert past_the_line.status_code == 404
    assert httpx.get(f"{address}/monitoring/summary").status_code == 403
    config = httpx.get(f"{address}/config").json()
    assert config["analytics_enabled"] is False


# What is refused


def test_error_is_reported_and_the_next_file_answered(address, sound, tmp_path):
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"RIFF????")
    for file, reason in (
        (bad, "Libsndfile cannot read it"),
        (sound(seconds=0.5, name="short.wav"), "0.5 s of sound is too short; 1 s is needed."),
        (sound(seconds=7, name="long.wav"), "Longer than 0.1 min"),
    ):
        name, content = call(address, upload(address, file), [], False)
        assert name == "error"
        assert content["error"].startswith(reason)
        assert "/" not in content["error"]
    name, content = call(address, None, [], False)
    assert (name, content["error"]) == ("error", "Choose a file or record something first.")
    assert identify(address, sound())["answers"]


def test_large_file_is_refused_before_it_is_read(address, tmp_path):
    large = tmp_path / "large.wav"
    for size in (600_000, 2_000_000):  # refused by Gradio, and by its guard
        large.write_bytes(bytes(size))
        with large.open("rb") as stream:
            sent = httpx.post(f"{address}/gradio_api/upload", files={"files": stream})
        assert sent.status_code == 413
    assert sent.json() == {"detail": "A file may be at most 0.5 MB."}
    endless = httpx.post(f"{address}/gradio_api/upload", content=iter([b"x"]))
    assert endless.status_code == 411
    call_of_a_book = httpx.post(
        f"{address}/gradio_api/call/identify", json={"data": ["x" * 1_000_001]}
    )
    assert call_of_a_book.status_code == 413


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://HOST"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),  # a page in a frame without rights, or a local file
        ({"Host": "evil.example:80"}, 403),
        ({"Host": "evil.example", "Origin": "http://evil.example"}, 403),
        ({"Host": "[::1"}, 403),
        ({"Host": "localhost:80"}, 200),  # as through a tunnel
    ],
)
def test_requests_from_other_pages_are_refused(address, sound, headers, status):
    """Whether they state their origin or use a name that resolves to this machine."""
    here = address.rstrip("/").removeprefix("http://")
    headers = {name: value.replace("HOST", here) for name, value in headers.items()}
    with sound().open("rb") as stream:
        sent = httpx.post(f"{address}/gradio_api/upload", files={"files": stream}, headers=headers)
    assert sent.status_code == status
    assert httpx.get(address, headers=headers).status_code == status


def test_no_file_of_the_server_is_read(address, sound):
    file = sound()
    name, content = call(
        address, {"path": str(file), "meta": {"_type": "gradio.FileData"}}, [], False
    )
    assert (name, content) == ("error", {"error": None})
    assert httpx.get(f"{address}/gradio_api/file={file}").status_code == 403


@pytest.fixture
def elsewhere():
    """Another server on this machine, which must get no request."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield f"http://127.0.0.1:{server.getsockname()[1]}/sound.wav"
        with pytest.raises(BlockingIOError):
            server.accept()


def test_no_url_is_fetched(address, elsewhere):
    payload = {"path": elsewhere, "meta": {"_type": "gradio.FileData"}}
    for route in ("call/identify", "call/v2/identify", "queue/join", "run/identify"):
        asked = httpx.post(
            f"{address}/gradio_api/{route}", json={"data": [payload, [], False], "audio": payload}
        )
        assert asked.status_code == 403
    assert httpx.get(f"{address}/gradio_api/file={elsewhere}").status_code == 403
    deep = httpx.post(f"{address}/gradio_api/call/identify", content=b"[" * 100_000)
    assert deep.status_code in (403, 422)


def test_every_response_restricts_the_browser_to_this_server(address):
    for route in ("/", "/config", "/gradio_api/info", "/gradio_api/file=http://example.org/"):
        policy = httpx.get(address + route).headers["content-security-policy"]
        assert policy.startswith("default-src 'self';")
        assert "http" not in policy


def test_uploads_are_readable_by_this_user_only(address, sound):
    path = Path(upload(address, sound())["path"])
    [folder] = [parent for parent in path.parents if parent.name.startswith("langid-app-")]
    assert folder.stat().st_mode & 0o077 == 0


# The command


def test_a_missing_extra_is_named(langid, model, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    code, out, err = langid("app", model, command=cli.main)
    assert (code, out) == (1, "")
    assert err.startswith("error: the page needs gradio, which is not installed: pip install ")


def test_help_loads_no_gradio():
    code = (
        "import sys\nsys.argv = ['langid', 'app', '--help']\nimport langid_fastai.cli as cli\n"
        "try:\n    cli.main()\nexcept SystemExit as end:\n    print('code', end.code)\n"
        "print('gradio' in sys.modules, 'langid_fastai.app' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--max-minutes" in done.stdout
    assert done.stdout.splitlines()[-2:] == ["code 0", "False False"]


def test_missing_model_is_reported_in_one_line(langid, tmp_path):
    code, _, err = langid("app", tmp_path, command=cli.main)
    assert code == 1
    assert "no model folder" in err


def test_limit_of_zero_is_refused(langid, model):
    code, _, err = langid("app", model, "--max-mb", "0", command=cli.main)
    assert code == 1
    assert err == "error: max_mb=0.0 must be above 0 and finite\n"


def test_address_in_use_is_reported(langid, model):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code, _, err = langid("app", model, "--port", port, command=cli.main)
    assert code == 1
    assert err.startswith(f"error: cannot listen on 127.0.0.1, port {port} (")
    assert len(err.splitlines()) == 1
    code, _, err = langid(
        "app", model, "--host", "192.0.2.1", command=cli.main
    )  # RFC 5737: nobody's
    assert code == 1
    assert "an address of this machine" in err
