"""The Kaggle set: names, folders, the six test speakers, a sound split, and the download."""

import hashlib
import http.server
import io
import json
import re
import sys
import tarfile
import threading
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from langid_fastai.corpus.index import Corpus, used_rows
from langid_fastai.corpus.kaggle import (
    KAGGLE_NAME,
    TEST_SPEAKERS,
    download_kaggle,
    holds_published_test,
    read_kaggle,
)
from langid_fastai.corpus.read import read_corpus
from langid_fastai.corpus.split import audit_split, split_corpus
from langid_fastai.errors import CorpusError

HANDLE = "toponowicz/spoken-language-identification"
LANGUAGES = ("de", "en", "es")
# The set's own test speakers, of each language a woman and a man.
TEST = {
    ("en", "f"): "67a0cba10d171b24039a79faa1d4d603",
    ("en", "m"): "b74b2bf2af570393cae91f4ed89cece7",
    ("de", "f"): "63f5b79c76cf5a1a4bbd1c40f54b166e",
    ("de", "m"): "923551d571cc437382d0294dda2dd0aa",
    ("es", "f"): "50298ab71aaba8508ebeef49d853df11",
    ("es", "m"): "08111ce8d6a7ebc6cd2c27e62a3d98f0",
}
VARIANTS = (
    "",
    *(f"speed{i}" for i in range(1, 9)),
    *(f"pitch{i}" for i in range(1, 9)),
    *(f"noise{i}" for i in range(1, 13)),
)


def flac(language: str, gender: str, speaker: str, fragment: int, variant: str = "") -> str:
    transformation = f".{variant}" if variant else ""
    return f"{language}_{gender}_{speaker}.fragment{fragment}{transformation}.flac"


def make_speaker(language: str, gender: str, number: int) -> str:
    return hashlib.md5(f"{language}{gender}{number}".encode()).hexdigest()


def train_names(n_speakers: int, n_fragments: int, variants: tuple[str, ...]) -> list[str]:
    """Names of the training speakers, `n_speakers` for each language and gender."""
    return [
        flac(language, gender, make_speaker(language, gender, number), fragment, variant)
        for language in LANGUAGES
        for gender in "fm"
        for number in range(n_speakers)
        for fragment in range(1, n_fragments + 1)
        for variant in variants
    ]


def own_test_names(n_fragments: int) -> list[str]:
    return [flac(*of, speaker, i + 1) for of, speaker in TEST.items() for i in range(n_fragments)]


TRAIN = train_names(3, 2, ("", "noise3"))
OWN_TEST = own_test_names(2)


@pytest.fixture(scope="module")
def realistic() -> Corpus:
    """The index of the real set, 84 speakers with 870 files and 6 with 90, without the files."""
    train = [f"train/train/{name}" for name in train_names(14, 30, VARIANTS)]
    test = [f"test/test/{name}" for name in own_test_names(90)]
    return read_kaggle(Path("nowhere"), train + test)


@pytest.fixture(scope="module")
def realistic_split(realistic) -> Corpus:
    return split_corpus(realistic)


def plant(root: Path, names: list[str]) -> Path:
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return root


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "de_f_63f5b79c76cf5a1a4bbd1c40f54b166e.fragment1.flac",
            ("de", "f", "63f5b79c76cf5a1a4bbd1c40f54b166e", "1", ""),
        ),
        (
            "fr_m_923551d571cc437382d0294dda2dd0aa.fragment30.noise12.flac",
            ("fr", "m", "923551d571cc437382d0294dda2dd0aa", "30", "noise12"),
        ),
        (
            "es_m_08111ce8d6a7ebc6cd2c27e62a3d98f0.fragment90.speed8.flac",
            ("es", "m", "08111ce8d6a7ebc6cd2c27e62a3d98f0", "90", "speed8"),
        ),
        (
            "en_f_67a0cba10d171b24039a79faa1d4d603.fragment5.pitch1.flac",
            ("en", "f", "67a0cba10d171b24039a79faa1d4d603", "5", "pitch1"),
        ),
    ],
)
def test_a_name_tells_everything(name, expected):
    row = read_kaggle(Path("x"), [name]).index.iloc[0]
    columns = ["language", "gender", "speaker", "fragment", "variant"]
    assert tuple(row[columns]) == expected
    assert row["group"] == row["speaker"]
    assert row["recording"] == f"{row['speaker']}.fragment{row['fragment']}"
    assert row["path"] == name


@pytest.mark.parametrize(
    "name",
    [
        "de_f_63f5b79c76cf5a1a4bbd1c40f54b166e.fragment1.png",
        "de_f_63f5b79c76cf5a1a4bbd1c40f54b166e.fragment1.echo1.flac",
        "de_f_63f5b79c76cf5a1a4bbd1c40f54b166e.fragment1.noise.flac",
        "de_f_63f5b79c76cf5a1a4bbd1c40f54b166.fragment1.flac",
        "de_f_63f5b79c76cf5a1a4bbd1c40f54b166eff.fragment1.flac",
        "de_f_63F5B79C76CF5A1A4BBD1C40F54B166E.fragment1.flac",
        "de_x_63f5b79c76cf5a1a4bbd1c40f54b166e.fragment1.flac",
        "deu_f_63f5b79c76cf5a1a4bbd1c40f54b166e.fragment1.flac",
        "de_f_63f5b79c76cf5a1a4bbd1c40f54b166e.fragment.flac",
        "copy of de_f_63f5b79c76cf5a1a4bbd1c40f54b166e.fragment1.flac",
    ],
)
def test_wrong_names(name):
    assert KAGGLE_NAME.match(name) is None


def test_wrong_names_are_left_out_and_counted(tmp_path):
    wrong = ["train/intro.flac", "train/de_f_1.fragment1.flac", "test/cover.png"]
    root = plant(tmp_path, [f"train/{name}" for name in TRAIN] + wrong)
    corpus = read_corpus(root)
    assert len(corpus.index) == len(TRAIN)
    assert corpus.notes[0] == (
        "2 files whose names are not of the Kaggle form left out "
        "(train/de_f_1.fragment1.flac, train/intro.flac)"
    )
    assert corpus.notes[1].startswith("1 file left out")


LAYOUTS = {
    "train/train, test/test": lambda name, own: f"{own}/{own}/{name}",
    "train, test/language": lambda name, own: f"{own}/{name[:2]}/{name}",
    "build": lambda name, own: f"build/{own}/{name}",
    "upper case": lambda name, own: f"Data/{own.title()}/{name}",
    "language": lambda name, own: f"{name[:2]}/{name}",
    "language/test": lambda name, own: f"{name[:2]}/{own}/{name}",
    "flat": lambda name, own: name,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_folder_forms(tmp_path, layout):
    place = LAYOUTS[layout]
    sides = dict.fromkeys(TRAIN, "train") | dict.fromkeys(OWN_TEST, "test")
    corpus = read_corpus(plant(tmp_path, [place(name, side) for name, side in sides.items()]))
    assert corpus.layout == "the Kaggle names (language_gender_speaker.fragment)"
    assert corpus.root == tmp_path
    told = layout not in ("language", "flat")  # else by the six speakers
    found = {Path(row.path).name: row.split for row in corpus.index.itertuples()}
    assert found == {name: s if told or s == "test" else "" for name, s in sides.items()}
    assert set(corpus.index["language"]) == set(LANGUAGES)

    split = split_corpus(corpus)
    of = split.index.groupby("split")["speaker"].agg(set)
    assert of["test"] == TEST_SPEAKERS == set(TEST.values())
    assert audit_split(split).empty


def test_folders_are_believed_before_speakers(tmp_path):
    names = [f"train/{name}" for name in OWN_TEST] + [f"test/{name}" for name in TRAIN]
    index = read_corpus(plant(tmp_path, names)).index
    assert (index.loc[index["speaker"].isin(TEST_SPEAKERS), "split"] == "train").all()


def test_training_part_alone_is_split_in_three(tmp_path):
    corpus = split_corpus(read_corpus(plant(tmp_path, [f"train/{name}" for name in TRAIN])))
    n_speakers = corpus.index.groupby(["language", "split"])["speaker"].nunique()
    assert (n_speakers > 0).all()
    assert len(n_speakers) == 9
    assert audit_split(corpus).empty


@pytest.mark.parametrize("folder", ["test", "somewhere"])
def test_test_part_alone_cannot_be_trained_on(tmp_path, folder):
    corpus = read_corpus(plant(tmp_path, [f"{folder}/{name}" for name in OWN_TEST]))
    with pytest.raises(CorpusError, match=r"all 12 recordings stand in test .* none in train"):
        split_corpus(corpus)


def test_french_is_accepted(tmp_path):
    names = TRAIN + [
        flac("fr", gender, make_speaker("fr", gender, i), 1) for gender in "fm" for i in range(3)
    ]
    corpus = split_corpus(read_corpus(plant(tmp_path, names)))
    assert (corpus.index.groupby("language")["split"].nunique() == 3).all()
    assert set(corpus.index["language"]) == {*LANGUAGES, "fr"}


def test_realistic_size(realistic):
    index = realistic.index
    assert len(index) == 73_080 + 540
    assert (index[index["split"] == "train"].groupby("speaker").size() == 870).all()
    assert (index["variant"] == "").sum() == 2_520 + 540


def test_all_versions_of_a_fragment_on_one_side(realistic_split):
    train = realistic_split.index[realistic_split.index["split"] != "test"]
    versions = train.groupby("recording")
    assert (versions.size() == 29).all()
    assert (versions["split"].nunique() == 1).all()
    assert audit_split(realistic_split).empty


def test_only_training_uses_variants(realistic_split):
    used = used_rows(realistic_split.index)
    n_variants = (used["variant"] != "").groupby(used["split"]).sum()
    n_train = (used["split"] == "train").sum()
    assert dict(n_variants) == {"train": n_train * 28 // 29, "valid": 0, "test": 0}


def test_validation_is_balanced(realistic_split):
    index = realistic_split.index
    n_speakers = index.groupby(["split", "language", "gender"])["speaker"].nunique()
    # 15 % of 14 speakers; the corpus' test speakers are no part of the choice.
    assert (n_speakers["valid"] == 2).all()
    assert (n_speakers["train"] == 12).all()
    assert (n_speakers["test"] == 1).all()
    assert len(n_speakers) == 18


@pytest.mark.parametrize(
    ("test_speakers", "expected"),
    [
        (TEST_SPEAKERS, True),
        (sorted(TEST_SPEAKERS)[:5], False),
        (sorted(TEST_SPEAKERS)[:1], False),
        ({*TEST_SPEAKERS, make_speaker("de", "f", 0)}, False),
        ([], False),
    ],
    ids=["all six", "five", "one", "seven", "none"],
)
def test_published_test_is_that_of_all_six_speakers(test_speakers, expected):
    index = read_kaggle(Path("x"), [f"train/{name}" for name in TRAIN + OWN_TEST]).index
    index.loc[index["speaker"].isin(test_speakers), "split"] = "test"
    assert holds_published_test(index) == expected


def test_test_split_of_the_corpus_is_kept(realistic, realistic_split):
    before, after = realistic.index["split"], realistic_split.index["split"]
    pd.testing.assert_series_equal(after == "test", before == "test")
    assert realistic_split.notes == ("test split of the corpus kept",)


# --- download, from a local server that speaks as Kaggle does to kagglehub 1.x ---


class Kaggle(http.server.BaseHTTPRequestHandler):
    """What kagglehub asks for: the newest version, then an archive, behind a redirection."""

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
    led here as to a proxy.
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
        for name in ("http_proxy", "https_proxy"):  # whatever it asks for, it never leaves here
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


def make_tar() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name in TRAIN + OWN_TEST:
            archive.addfile(tarfile.TarInfo(name))
    return stream.getvalue()


def refusal(handle: str = HANDLE) -> str:
    """What `download_kaggle` says no with; every no names another way to the files."""
    with pytest.raises(CorpusError) as caught:
        download_kaggle(handle)
    message = str(caught.value)
    assert handle in message
    assert "\n" not in message
    assert f"https://www.kaggle.com/datasets/{handle}, unpack it, and give its folder" in message
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


def test_half_a_download_is_no_cache(kaggle, monkeypatch, tmp_path, unused_address):
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
    """Where nobody listens: a port that was free a moment ago."""
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        port = server.server_port
    return f"http://127.0.0.1:{port}"


def test_server_not_reachable(kaggle, monkeypatch, unused_address):
    monkeypatch.setenv("http_proxy", unused_address)
    message = refusal()
    assert message.startswith(f"Kaggle cannot be reached for {HANDLE}: ")
    assert "Check the network" in message


def test_connection_lost_on_the_way(kaggle):
    kaggle.n_withheld = 1_000
    kaggle.answers["GetDataset"] = (200, b'{"currentVersionNumber": 3}' + b" " * 100)
    message = refusal()
    assert "cannot be reached" in message
    assert "repeat the command, which goes on where it stopped" in message


def test_answer_that_is_no_json(kaggle):
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
    assert "is the credential file whole?" in message


def test_disk_without_room(kaggle, tmp_path):
    (tmp_path / "cache").write_text("a file where the cache should be")
    message = refusal()
    assert message.startswith(f"{HANDLE} cannot be downloaded from Kaggle: ")
    assert "Is there room on the disk" in message


def test_data_set_without_a_version(kaggle):
    kaggle.answers["GetDataset"] = (200, b"{}")
    assert "No version provided" in refusal()


def test_interruption_is_no_failure(kaggle, monkeypatch):
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
def test_handles_of_a_wrong_form(handle):
    with pytest.raises(CorpusError, match="must be kaggle:<owner>/<dataset>") as caught:
        read_corpus(f"kaggle:{handle}")
    assert re.match(re.escape(f"kaggle:{handle}"), str(caught.value))
