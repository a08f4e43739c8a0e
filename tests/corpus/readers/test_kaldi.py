"""The reader of data folders of Kaldi."""

import shutil

import pytest
from planted import column, refusal
from releases import kaldi

from langid_fastai.corpus.readers.recognise import read_corpus


def test_languages_speakers_and_splits(tmp_path):
    corpus = read_corpus(kaldi(tmp_path))
    assert corpus.layout == "data folders of Kaldi"
    assert column(corpus, "language") == {
        **{"wav/dev 1.wav": "de", "wav/dev2.wav": "es"},
        **{"wav/train 1.wav": "de", "wav/train2.wav": "es"},
    }
    assert column(corpus, "speaker")["wav/train 1.wav"] == "strain1"
    assert column(corpus, "split")["wav/dev2.wav"] == "valid"
    assert column(corpus, "gender")["wav/dev 1.wav"] == "f"
    assert corpus.left_out["data/dev/wav.scp, line 3"] == "its utterance is not in utt2lang"


def test_audio_elsewhere(tmp_path):
    root = kaldi(tmp_path)
    assert "dev 1.wav' is not below" in refusal(root / "data")
    assert "pass a folder above all files as --root" in refusal(root / "data")
    corpus = read_corpus(root / "data" / "train", root=root)
    assert list(corpus.index["path"]) == ["wav/train 1.wav", "wav/train2.wav"]


@pytest.mark.parametrize("space", ["", " "])
def test_commands_are_refused_and_not_run(tmp_path, space):
    root = kaldi(tmp_path)
    made = tmp_path / "made"
    file = root / "data" / "train" / "wav.scp"
    file.write_text(f"{file.read_text()}u4 touch {made}{space}|\n")
    message = refusal(root)
    assert "wav.scp: line 4 is a command" in message
    assert "commands are not run" in message
    assert not made.exists()


def test_parts_of_recordings_are_refused(tmp_path):
    root = kaldi(tmp_path)
    (root / "data" / "dev" / "segments").write_text("u1 r1 0 1\n")
    assert "parts of recordings cannot be read" in refusal(root)


def test_languages_are_required(tmp_path):
    root = kaldi(tmp_path)
    (root / "data" / "dev" / "utt2lang").unlink()
    assert "utt2lang: missing or empty" in refusal(root)


def test_an_utterance_listed_twice(tmp_path):
    root = kaldi(tmp_path)
    (root / "data" / "dev" / "utt2spk").write_text("dev1 a\ndev2 b\ndev1 c\n")
    assert "utt2spk: line 3: 'dev1' is also in line 1" in refusal(root)


def test_copies_of_data_folders_are_passed_over(tmp_path):
    root = kaldi(tmp_path)
    train = root / "data" / "train"
    for copy in (".backup", "split2/1"):
        shutil.copytree(train, train / copy, ignore=shutil.ignore_patterns(".backup", "split2"))
    assert len(read_corpus(root).index) == 4


def test_a_split_may_have_a_second_word(tmp_path):
    root = kaldi(tmp_path)
    (root / "data" / "dev").rename(root / "data" / "test_clean")
    assert set(column(read_corpus(root), "split").values()) == {"train", "test"}


def test_parts_of_archives_are_refused(tmp_path):
    file = kaldi(tmp_path) / "data" / "train" / "wav.scp"
    file.write_text(f"{file.read_text()}u4 raw.ark:12\n")
    assert "line 4 is a part of an archive" in refusal(tmp_path)
