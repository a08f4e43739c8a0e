"""The download from Kaggle, from a local server that responds like Kaggle to kagglehub 1.x."""

import http.server
import io
import re
import sys
import tarfile

import kaggle_server
import pytest
from kaggle_names import OWN_TEST, TRAIN
from kaggle_server import HANDLE, make_zip

from langid_fastai.corpus.readers.kaggle import download_kaggle
from langid_fastai.corpus.readers.recognise import read_corpus
from langid_fastai.errors import CorpusError

kaggle = kaggle_server.kaggle


def make_tar() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name in TRAIN + OWN_TEST:
            archive.addfile(tarfile.TarInfo(name))
    return stream.getvalue()


def refusal(handle: str = HANDLE) -> str:
    """Return the error of `download_kaggle`; every error names another way to get the files."""
    with pytest.raises(CorpusError) as caught:
        download_kaggle(handle)
    message = str(caught.value)
    assert handle in message
    assert "\n" not in message
    assert f"https://www.kaggle.com/datasets/{handle}, unpack it, and pass its folder" in message
    return message


def test_download(kaggle, tmp_path):
    folder = download_kaggle(HANDLE)
    assert folder == tmp_path / "cache" / "datasets" / HANDLE / "versions" / "3"
    assert [method for method, *_ in kaggle.asked] == ["GetDataset", "DownloadDataset", "archive"]
    wanted = kaggle.asked[1][2]
    assert f"{wanted['ownerSlug']}/{wanted['datasetSlug']}" == HANDLE
    assert wanted["datasetVersionNumber"] == 3
    assert all(authorization is None for _, authorization, _ in kaggle.asked)  # it is public


def test_download_as_a_corpus(kaggle):
    corpus = read_corpus(f"kaggle:{HANDLE}")
    assert corpus.layout.startswith("the Kaggle names")
    assert dict(corpus.index["split"].value_counts()) == {
        "train": len(TRAIN),
        "test": len(OWN_TEST),
    }


def test_tar_archives_too(kaggle):
    kaggle.answers["archive"] = (200, make_tar())
    assert len(read_corpus(f"kaggle:{HANDLE}").index) == len(TRAIN + OWN_TEST)


def test_token_is_sent(kaggle, monkeypatch):
    monkeypatch.setenv("KAGGLE_API_TOKEN", "secret")
    download_kaggle(HANDLE)
    assert kaggle.asked[0][1] == "Bearer secret"


def test_second_time_from_the_cache(kaggle):
    first = download_kaggle(HANDLE)
    kaggle.asked.clear()
    assert download_kaggle(HANDLE) == first
    assert [method for method, *_ in kaggle.asked] == ["GetDataset"]  # is there a newer one?


def test_without_network_from_the_cache(kaggle, monkeypatch, unused_address):
    first = download_kaggle(HANDLE)
    kaggle.answers["GetDataset"] = (200, b'{"currentVersionNumber": 12}')
    newer = download_kaggle(HANDLE)
    monkeypatch.setenv("http_proxy", unused_address)
    assert download_kaggle(HANDLE) == newer != first
    newer.rename(newer.with_name("thrown away"))
    assert download_kaggle(HANDLE) == first


def test_partial_download_is_not_a_cache(kaggle, monkeypatch, tmp_path, unused_address):
    (tmp_path / "cache" / "datasets" / HANDLE / "versions" / "3").mkdir(parents=True)
    monkeypatch.setenv("http_proxy", unused_address)
    assert "cannot be reached" in refusal()


@pytest.mark.parametrize(
    ("method", "status"),
    [
        ("GetDataset", 401),
        ("GetDataset", 403),
        ("GetDataset", 404),
        ("GetDataset", 500),
        ("DownloadDataset", 403),
        ("archive", 403),
    ],
)
def test_refusals(kaggle, method, status):
    kaggle.answers[method] = (status, b'{"code": %d, "message": "no, thanks"}' % status)
    message = refusal()
    assert message.startswith(f"Kaggle refuses {HANDLE}: ")
    if status < 500:
        assert f"refuses {HANDLE}: {status} Client Error. Is the name right" in message
    assert "KAGGLE_API_TOKEN or ~/.kaggle/access_token" in message


def test_refusal_without_json(kaggle):
    kaggle.answers["GetDataset"] = (503, b"<html>back soon</html>")
    assert "503 Server Error" in refusal()


@pytest.fixture
def unused_address():
    """An address without a server: a port that was free a moment ago."""
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        port = server.server_port
    return f"http://127.0.0.1:{port}"


def test_server_not_reachable(kaggle, monkeypatch, unused_address):
    monkeypatch.setenv("http_proxy", unused_address)
    message = refusal()
    assert message.startswith(f"Kaggle cannot be reached for {HANDLE}: ")
    assert "Check the network" in message


def test_connection_lost_during_download(kaggle):
    kaggle.n_withheld = 1_000
    kaggle.answers["GetDataset"] = (200, b'{"currentVersionNumber": 3}' + b" " * 100)
    message = refusal()
    assert "cannot be reached" in message
    assert "repeat the command to resume" in message


def test_response_is_not_json(kaggle):
    kaggle.answers["GetDataset"] = (200, b"{never closed")
    assert "cannot be reached" in refusal()


@pytest.mark.parametrize(
    ("archive", "reason"),
    [
        (b"<html>please log in</html>", "Unsupported archive type"),
        (make_zip()[:-60], "Unsupported archive type"),
        (make_zip().replace(b"fLaC", b"fLaX", 1), "Bad CRC-32"),
    ],
    ids=["html", "torn", "damaged"],
)
def test_damaged_archives(kaggle, archive, reason):
    kaggle.answers["archive"] = (200, archive)
    message = refusal()
    assert message.startswith(f"{HANDLE} cannot be downloaded from Kaggle: ")
    assert reason in message
    kaggle.answers["archive"] = (200, make_zip())
    assert len(read_corpus(f"kaggle:{HANDLE}").index) == len(TRAIN + OWN_TEST)  # next time


@pytest.mark.parametrize("content", ["{", "{}", '{"username": "me"}'])
def test_damaged_credentials(kaggle, tmp_path, content):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "kaggle.json").write_text(content)
    message = refusal()
    assert "kaggle.json" in message
    assert "or the credential file damaged?" in message


def test_full_disk(kaggle, tmp_path):
    (tmp_path / "cache").write_text("a file where the cache should be")
    message = refusal()
    assert message.startswith(f"{HANDLE} cannot be downloaded from Kaggle: ")
    assert "Is the disk full" in message


def test_dataset_without_a_version(kaggle):
    kaggle.answers["GetDataset"] = (200, b"{}")
    assert "No version provided" in refusal()


def test_interrupt_is_not_a_failure(kaggle, monkeypatch):
    def interrupt(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("kagglehub.dataset_download", interrupt)
    with pytest.raises(KeyboardInterrupt):
        download_kaggle(HANDLE)


def test_missing_extra_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(CorpusError, match=r"pip install 'langid_fastai\[kaggle\]'"):
        download_kaggle(HANDLE)


@pytest.mark.parametrize(
    "handle", ["", "spoken", "a/b/c", "a/b/versions/3", "a b/c", "https://kaggle.com/a/b", "a/b\n"]
)
def test_invalid_handles(handle):
    with pytest.raises(CorpusError, match="must be kaggle:<owner>/<dataset>") as caught:
        read_corpus(f"kaggle:{handle}")
    assert re.match(re.escape(f"kaggle:{handle}"), str(caught.value))
