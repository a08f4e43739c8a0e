"""Corpora to and from S3, against a real S3 API on this machine."""

import os
import subprocess
import sys

import pytest
import syncing
from command_line import MEL
from syncing import THERE, content, counts

from langid_fastai.cli import main
from langid_fastai.corpus.readers.recognise import read_corpus
from langid_fastai.corpus.s3 import fetch_corpus, sync_corpus
from langid_fastai.errors import CorpusError
from langid_fastai.pipeline.run_folder import default_folder

folder = syncing.folder


# --- upload and download


def test_upload_and_download(s3, folder, tmp_path):
    assert counts(sync_corpus(str(folder), THERE)) == (6, 0, 0, 0)
    assert set(s3.things()) == {f"corpus/{name}" for name in content(folder)}
    assert counts(sync_corpus(THERE, str(tmp_path / "back"))) == (6, 0, 0, 0)
    assert content(tmp_path / "back") == content(folder)


def test_a_whole_bucket_and_a_nested_folder(s3, folder, tmp_path):
    for number, url in enumerate(["s3://speech", "s3://speech/a/b c/d/"]):
        sync_corpus(str(folder), url)
        sync_corpus(url, str(tmp_path / f"back{number}"))
    assert content(tmp_path / "back1") == content(folder)
    assert len(content(tmp_path / "back0")) == 6


def test_only_different_files_are_copied(s3, folder):
    sync_corpus(str(folder), THERE)
    before = s3.things()
    (folder / "de" / "a.wav").write_bytes(b"longer than it was")
    (folder / "de" / "b.wav").write_bytes(bytes(reversed(range(40))))  # of the same size
    (folder / "de" / "c.wav").write_bytes(b"new")
    os.utime(folder / "index.csv", (1, 1))  # touched, but the same
    assert counts(sync_corpus(str(folder), THERE)) == (3, 4, 0, 0)
    changed = {key for key, thing in s3.things().items() if before.get(key) != thing}
    assert changed == {f"corpus/de/{name}.wav" for name in "abc"}
    assert counts(sync_corpus(str(folder), THERE)) == (0, 7, 0, 0)


def test_changed_objects_are_downloaded(s3, folder):
    sync_corpus(str(folder), THERE)
    s3.put("corpus/de/b.wav", bytes(reversed(range(40))))
    assert counts(sync_corpus(THERE, str(folder))) == (1, 5, 0, 0)
    assert (folder / "de" / "b.wav").read_bytes() == bytes(reversed(range(40)))


def test_equal_files_are_recognised_without_a_record(s3, folder, tmp_path):
    sync_corpus(str(folder), THERE)
    for file in (folder / ".langid-sync").iterdir():
        file.write_text("[]")
    assert counts(sync_corpus(THERE, str(folder))) == (0, 6, 0, 0)


def test_with_a_record_no_file_is_read(s3, folder, monkeypatch):
    sync_corpus(str(folder), THERE)

    def never(path):
        raise AssertionError(path)

    monkeypatch.setattr("langid_fastai.corpus.s3.file_md5", never)
    assert counts(sync_corpus(str(folder), THERE)) == (0, 6, 0, 0)
    assert counts(sync_corpus(THERE, str(folder))) == (0, 6, 0, 0)


def test_nothing_is_deleted_unless_requested(s3, folder):
    sync_corpus(str(folder), THERE)
    s3.put("corpus/old.wav")
    s3.put("corpus/.hidden")
    s3.put("corpus2/other.wav")
    (folder / "mine.wav").write_text("mine")
    assert counts(sync_corpus(THERE, str(folder))) == (1, 6, 0, 0)
    (folder / "old.wav").unlink()
    assert counts(sync_corpus(str(folder), THERE)) == (1, 6, 0, 0)
    assert "corpus/old.wav" in s3.things()
    assert counts(sync_corpus(str(folder), THERE, delete=True)) == (0, 7, 1, 0)
    assert {"corpus/old.wav", "corpus/.hidden", "corpus2/other.wav"} & set(s3.things()) == {
        "corpus/.hidden",
        "corpus2/other.wav",
    }
    (folder / "more.wav").write_text("mine")
    assert counts(sync_corpus(THERE, str(folder), delete=True)) == (0, 7, 1, 0)
    assert not (folder / "more.wav").exists()
    assert (folder / ".hidden").exists()


def test_names_with_wildcards_delete_only_themselves(s3, folder):
    sync_corpus(str(folder), THERE)
    (folder / "es" / "ü [1]*?.wav").unlink()
    s3.put("corpus/es/ü 1xx.wav")
    (folder / "es" / "ü 1xx.wav").write_bytes(b"sound")
    sync_corpus(str(folder), THERE, delete=True)
    assert "corpus/es/ü 1xx.wav" in s3.things()
    assert "corpus/es/ü [1]*?.wav" not in s3.things()


def test_empty_source_deletes_nothing(s3, folder, tmp_path):
    sync_corpus(str(folder), THERE)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match="empty: contains no files"):
        sync_corpus(str(tmp_path / "empty"), THERE, delete=True)
    with pytest.raises(CorpusError, match="s3://speech/none: contains no files"):
        sync_corpus("s3://speech/none", str(folder), delete=True)
    assert len(s3.things()) == len(content(folder)) == 6


def test_folder_markers_are_not_files(s3, tmp_path):
    s3.put("corpus/", b"")
    s3.put("corpus/de/", b"")
    s3.put("corpus/de/a.wav")
    assert counts(sync_corpus(THERE, str(tmp_path / "back"))) == (1, 0, 0, 0)


# --- s3:// as CORPUS


@pytest.fixture
def stored(s3, corpus, tmp_path, monkeypatch):
    """The corpus of tones, in S3, and an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    sync_corpus(str(corpus), "s3://speech/my/tones")
    return s3


def test_corpus_in_s3(stored, corpus, tmp_path):
    found = read_corpus("s3://speech/my/tones/")
    assert found.index.equals(read_corpus(corpus).index)
    service = stored.url.removeprefix("http://").replace(":", "_")
    copy = tmp_path / "cache" / "langid_fastai" / "s3" / service / "speech" / "my" / "tones"
    assert found.root == copy
    assert found.notes[-1] == f"copied from s3://speech/my/tones/ to {copy}"
    assert found.notes[:-1] == read_corpus(corpus).notes


def test_records_of_copies_are_not_files_of_the_corpus(stored, corpus):
    assert (corpus / ".langid-sync").is_dir()
    assert not [path for path in read_corpus(corpus).left_out if ".langid-sync" in path]


def test_the_copy_is_a_mirror(stored):
    n = len(read_corpus("s3://speech/my/tones").index)
    [key, *_] = stored.things()
    stored.client.delete_object(Bucket="speech", Key=key)
    assert len(read_corpus("s3://speech/my/tones").index) == n - 1


def test_index_in_s3(stored, corpus, tmp_path):
    rows = [f"{p},{p[:2]}\n" for p in read_corpus(corpus).index["path"][3:13]]
    stored.put("my/tones/index.csv", ("path,language\n" + "".join(rows)).encode())
    assert len(read_corpus("s3://speech/my/tones/index.csv").index) == 10


def test_index_of_a_folder_in_s3_has_the_speakers(stored, corpus):
    paths = read_corpus(corpus).index["path"]
    rows = [f"{p},{p[:2]},anna\n" for p in paths]
    stored.put("my/tones/index.csv", ("path,language,speaker\n" + "".join(rows)).encode())
    assert set(read_corpus("s3://speech/my/tones").index["speaker"]) == {"anna"}


def test_incomplete_corpus_is_an_error(stored):
    stored.put("my/tones/../x.wav")
    with pytest.raises(CorpusError, match=r"1 object could not be copied .*leads out of"):
        read_corpus("s3://speech/my/tones")
    with pytest.raises(CorpusError, match=r"s3://speech/other: contains no files"):
        fetch_corpus("s3://speech/other")
    with pytest.raises(CorpusError, match=r"is one file; pass the folder"):
        read_corpus(f"s3://speech/{sorted(stored.things())[-1]}")


def test_names_of_runs():
    assert default_folder("s3://speech/my/tones/").name == "tones"
    assert default_folder("s3://speech").name == "speech"
    assert default_folder("s3://speech/my/tones/index.csv").name == "tones"


def test_a_run_from_s3(stored, langid, tmp_path):
    out = tmp_path / "run"
    code, text, _ = langid(
        "prepare", "s3://speech/my/tones", "--out", out, "--jobs", 1, *MEL, command=main
    )
    assert code == 0
    assert "copied from s3://speech/my/tones" in text
    assert len(list((out / "images").rglob("*.png"))) > 10


# --- the command line


def test_command(s3, folder, tmp_path, langid):
    code, out, _ = langid("corpus", "sync", folder, THERE, command=main)
    assert code == 0
    assert f"6 files (0.0 MB) to {THERE}; 0 already there" in out
    back = tmp_path / "back"
    options = ("--endpoint-url", s3.url, "--delete")
    code, out, _ = langid("corpus", "sync", THERE, back, *options, command=main)
    assert (code, content(back)) == (0, content(folder))
    s3.put("corpus/../x")
    code, out, err = langid("corpus", "sync", THERE, back, command=main)
    assert code == 1
    assert "  ../x: leads out of the folder" in out
    assert "1 file failed, listed above" in err
    code, out, err = langid("corpus", "sync", "s3://missing", back, command=main)
    assert code == 1
    assert "error: s3://missing: not found" in err


def test_missing_extra_names_the_command():
    code = (
        "import sys\nsys.modules['s3fs'] = None\n"
        "sys.argv = ['langid', 'corpus', 'sync', 'x', 's3://bucket/x']\n"
        "from langid_fastai.cli import main\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "pip install 'langid_fastai[s3]'" in done.stderr.splitlines()[-1]
