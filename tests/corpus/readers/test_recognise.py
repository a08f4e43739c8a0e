"""Readers: recognised layouts, the row of each file, and notes on files left out."""

import os
import re

import planted
import pytest
from planted import SPEAKER, column, refusal

from langid_fastai.audio import AUDIO_SUFFIXES
from langid_fastai.corpus.readers.find import HIDDEN, NOT_AUDIO, find_audio
from langid_fastai.corpus.readers.recognise import read_corpus
from langid_fastai.corpus.split import split_corpus
from langid_fastai.errors import CorpusError

plant = planted.plant

FOLDERS = ["de/anna", "de/bernd", "es/carla", "es/diego"]
FOLDERS_OF_ES = [f"es/{name}/{i}.wav" for name in ("carla", "diego", "eva") for i in range(3)]


def test_folder_per_language(plant):
    corpus = read_corpus(plant("de/1.wav", "de/2.flac", "yua/1.mp3"))
    assert corpus.layout == "a folder per language"
    assert column(corpus, "language") == {"de/1.wav": "de", "de/2.flac": "de", "yua/1.mp3": "yua"}
    assert (corpus.index["split"] == "").all()
    assert (corpus.index["speaker"] == "").all()
    assert (corpus.index["group"] == corpus.index["path"]).all()
    assert len(corpus.notes) == 1
    assert "speakers unknown" in corpus.notes[0]
    assert "--speaker" in corpus.notes[0]


def test_two_or_more_sub_folders_are_groups(plant):
    corpus = read_corpus(
        plant("de/anna/1.wav", "de/anna/2.wav", "de/bernd/x/3.wav", "es/all/1.wav", "es/2.wav")
    )
    assert column(corpus, "group") == {
        "de/anna/1.wav": "de/anna",
        "de/anna/2.wav": "de/anna",
        "de/bernd/x/3.wav": "de/bernd",
        "es/all/1.wav": "es/all",
        "es/2.wav": "es/2.wav",
    }
    assert (corpus.index["speaker"] == "").all()  # a folder need not be a speaker
    assert corpus.notes == ("files of one sub-folder stay in one split",)


def test_single_sub_folder_is_a_group_if_another_language_has_several(plant):
    corpus = read_corpus(plant(*(f"de/anna/{i}.wav" for i in range(9)), *FOLDERS_OF_ES))
    assert set(corpus.index.loc[corpus.index["language"] == "de", "group"]) == {"de/anna"}
    with pytest.raises(CorpusError, match=r"needs 3 groups.*'de' has 1, not"):
        split_corpus(corpus)


def test_single_sub_folder_across_splits_is_a_group_if_others_have_several(plant):
    corpus = read_corpus(plant("train/de/anna/1.wav", "test/de/anna/2.wav", *FOLDERS_OF_ES))
    groups = corpus.index.groupby("group")["split"].agg(set)
    assert groups["de/anna"] == {"train", "test"}


@pytest.mark.parametrize("above", ["", "train/"])
def test_single_sub_folders_are_not_groups(plant, above):
    corpus = read_corpus(
        plant(f"{above}de/clips/1.wav", "de/clips/2.wav", "es/x/1.wav", "fr/1.wav")
    )
    assert (corpus.index["group"] == corpus.index["path"]).all()
    assert len(corpus.notes) == 1 + bool(above)
    assert "no language has two sub-folders, so they cannot be speakers" in corpus.notes[-1]
    assert "each file is its own group" in corpus.notes[-1]


def test_sub_folder_is_one_group_across_split_folders(plant):
    corpus = read_corpus(plant(*(f"{s}/{f}/1.wav" for s in ("train", "test") for f in FOLDERS)))
    groups = corpus.index.groupby("group")["split"].agg(set)
    assert dict(groups) == {folder: {"train", "test"} for folder in FOLDERS}


def test_speaker_by_expression(plant):
    root = plant("de/anna_1.wav", "de/anna_2.wav", "es/diego_1.wav", "train/es/anna_9.wav")
    corpus = read_corpus(root, speaker=SPEAKER)
    assert corpus.index["split"].to_list() == ["", "", "", "train"]
    speakers = {path: re.search(SPEAKER, path)["speaker"] for path in corpus.index["path"]}
    assert column(corpus, "speaker") == column(corpus, "group") == speakers
    assert set(speakers.values()) == {"anna", "diego"}
    assert len(corpus.notes) == 1  # on the split


@pytest.mark.parametrize(
    ("speaker", "message"),
    [
        ("[^/]+$", r"'\[\^/\]\+\$' needs a group named speaker, e\.g\. '\(\?P<speaker>"),
        ("(?P<name>x)", "needs a group named speaker"),
        ("(?P<speaker>[a-z", r"--speaker '\(\?P<speaker>\[a-z' is not a regular expression"),
        ("(?P<speaker>anna)", r"--speaker '.*' finds no speaker in 'es/diego_1\.wav'"),
        ("(?P<speaker>x)?", r"finds no speaker in 'de/anna_1\.wav'"),
    ],
)
def test_bad_speaker_expressions(plant, speaker, message):
    root = plant("de/anna_1.wav", "es/diego_1.wav")
    assert re.search(message, refusal(root, speaker=speaker))


def test_loose_files_are_left_out_and_counted(plant):
    corpus = read_corpus(plant("de/1.wav", "es/1.wav", "intro.wav", "train/outro.wav"))
    assert list(corpus.index["path"]) == ["de/1.wav", "es/1.wav"]
    loose = "outside any language folder (intro.wav, train/outro.wav)"
    assert f"2 files left out: {loose}" in corpus.notes


def test_only_loose_files(plant):
    message = refusal(plant("a.wav", "b.wav", "c.wav"))
    assert "3 audio files (a.wav, b.wav and 1 more) are directly in it" in message
    assert "e.g. de/001.wav" in message


def test_hidden_and_other_files(plant):
    corpus = read_corpus(
        plant(
            *("de/1.wav", "es/1.wav", "de/.1.wav", ".cache/de/2.wav", "__MACOSX/de/._1.wav"),
            *("README.txt", "es/1.txt", "es/cover.jpg", "de/no_suffix", ".DS_Store"),
        )
    )
    assert list(corpus.index["path"]) == ["de/1.wav", "es/1.wav"]
    assert corpus.left_out == {
        **dict.fromkeys(("README.txt", "de/no_suffix", "es/1.txt", "es/cover.jpg"), NOT_AUDIO),
        **dict.fromkeys((".DS_Store", ".cache/de/2.wav", "__MACOSX/de/._1.wav"), HIDDEN),
        "de/.1.wav": HIDDEN,
    }
    assert "4 files left out: hidden (.DS_Store, .cache/de/2.wav, __MACOSX/de/._1.wav and 1 more)"
    assert any("4 files left out: not audio by the suffix , .jpg, .txt" in n for n in corpus.notes)


def test_upper_case_and_all_supported_suffixes(plant):
    names = [f"x{suffix}" for suffix in AUDIO_SUFFIXES] + ["Y.WAV", "Z.Flac"]
    audio, others = find_audio(plant(*(f"de/{name}" for name in names), "de/video.avi"))
    assert audio == sorted(f"de/{name}" for name in names)
    assert list(others) == ["de/video.avi"]


def test_names_in_many_scripts(plant):
    names = [
        "日本語/録音 一.wav",
        "ελληνικά/ήχος.wav",
        "fa/می\u200cخواهم.wav",  # Persian is written with such joiners
        "hi/नमस्\u200dते.wav",
        "de/a\u00a0b.wav",
        "de/-o -rf.wav",
        'de/"quoted", and comma.wav',
        "de/😀.wav",
        "de/" + "ü" * 123 + ".wav",  # 250 bytes
    ]
    corpus = read_corpus(plant(*names))
    assert list(corpus.index["path"]) == sorted(names)
    assert set(corpus.index["language"]) == {"日本語", "ελληνικά", "fa", "hi", "de"}
    assert len(corpus.notes) == 1


@pytest.mark.skipif(os.name != "posix", reason="other systems refuse such names")
def test_names_that_do_not_fit_into_a_table(plant):
    root = plant("de/1.wav", "es/1.wav", "de/a\nb.wav")
    (root / "es" / os.fsdecode(b"latin-\xfc.wav")).touch()
    corpus = read_corpus(root)
    assert list(corpus.index["path"]) == ["de/1.wav", "es/1.wav"]
    assert corpus.notes[-1].startswith("2 file")
    assert r"'de/a\nb.wav'" in corpus.notes[-1]
    assert r"'es/latin-\udcfc.wav'" in corpus.notes[-1]


def test_linked_folder_and_linked_file(plant, tmp_path):
    root = plant("de/1.wav")
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "deep").mkdir(parents=True)
    (elsewhere / "2.wav").touch()
    (elsewhere / "deep" / "3.wav").touch()
    (root / "es").symlink_to(elsewhere)
    (root / "de" / "4.wav").symlink_to(elsewhere / "2.wav")
    corpus = read_corpus(root)
    assert list(corpus.index["path"]) == ["de/1.wav", "de/4.wav", "es/2.wav", "es/deep/3.wav"]


def test_links_in_a_loop(plant):
    root = plant("de/1.wav", "es/1.wav")
    (root / "de" / "up").symlink_to(root)
    (root / "de" / "across").symlink_to(root / "es")
    (root / "es" / "across").symlink_to(root / "de")
    (root / "es" / "itself").symlink_to(root / "es" / "itself")
    assert find_audio(root)[0] == ["de/1.wav", "es/1.wav"]


def test_folder_is_listed_under_its_own_name_despite_links(plant):
    root = plant("de/1.wav", "es/1.wav")
    (root / "aa").mkdir()
    (root / "aa" / "link").symlink_to(root / "de")  # met first, in any order
    (root / "german").symlink_to(root / "de")
    assert list(read_corpus(root).index["path"]) == ["de/1.wav", "es/1.wav"]


def test_unreadable_folder_is_reported(plant, monkeypatch):
    root = plant("de/1.wav", "es/1.wav", "lost+found/1.wav")
    scandir = os.scandir

    def locked(folder):
        if str(folder).endswith("lost+found"):
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", locked)
    corpus = read_corpus(root)
    assert list(corpus.index["path"]) == ["de/1.wav", "es/1.wav"]
    assert "cannot be listed" in corpus.notes[-1]
    assert "lost+found/" in corpus.notes[-1]


def test_missing_path(tmp_path):
    message = refusal(tmp_path / "nowhere")
    assert message.startswith(f"{tmp_path / 'nowhere'}: no such file or folder")
    assert "no such file" in refusal("x" * 5_000)


def test_empty_folder(tmp_path):
    assert "no audio file (the folder is empty); supported: .3g2" in refusal(tmp_path)


def test_folder_of_text_files(plant):
    message = refusal(plant("de/1.txt", "de/2.txt", "es/1.txt", "es/2.txt"))
    assert "no audio file (only de/1.txt, de/2.txt, es/1.txt and 1 more)" in message
    assert ".wav" in message


def test_one_language(plant):
    message = refusal(plant("corpus/de/1.wav", "corpus/es/1.wav"))
    assert "contains one language ('corpus')" in message
    assert "one level too high or too deep?" in message


def test_root_is_for_an_index(plant, tmp_path):
    root = plant("de/1.wav", "es/1.wav")
    message = refusal(root, root=tmp_path)
    assert f"--root {tmp_path} is for an index CSV; {root} is a folder" in message


def test_demo_is_made_unless_a_file_has_its_name(plant, tmp_path, monkeypatch):
    root = plant("de/1.wav", "es/1.wav")
    made = []
    monkeypatch.setattr(
        "langid_fastai.corpus.demo.make_demo", lambda folder: made.append(folder) or root
    )
    monkeypatch.chdir(tmp_path)
    assert read_corpus("demo", demo_folder=tmp_path / "there").root == root
    assert made == [tmp_path / "there"]
    (tmp_path / "demo").symlink_to(root)
    assert str(read_corpus("demo").root) == "demo"
    assert len(made) == 1


def test_speakers_below_a_folder_that_every_language_has_are_groups(plant):
    groups = [f"{language}/{name}" for language in ("de", "en") for name in "abc"]
    corpus = read_corpus(plant(*(f"{g[:2]}/clips/{g[3:]}/{i}.wav" for g in groups for i in "12")))
    assert sorted(set(corpus.index["group"])) == groups
