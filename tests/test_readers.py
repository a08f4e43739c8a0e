"""Readers: which layout is recognised, what each file becomes, and what is left out and said."""

import os
import re

import pytest

from langid_fastai.corpus.folders import read_index_csv, split_folder
from langid_fastai.corpus.index import Corpus
from langid_fastai.corpus.read import AUDIO_SUFFIXES, find_audio, read_corpus
from langid_fastai.corpus.split import split_corpus
from langid_fastai.errors import CorpusError

VIDEO = "-7hqy7xahkM__U__S{segment}---0752.680-0761.950.flac"  # a name as VoxLingua107 has them
FOLDERS = ["de/anna", "de/bernd", "es/carla", "es/diego"]
FOLDERS_OF_ES = [f"es/{name}/{i}.wav" for name in ("carla", "diego", "eva") for i in range(3)]
SPEAKER = "(?P<speaker>[^/_]+)_[^/]+$"


@pytest.fixture
def plant(tmp_path):
    """A function that makes empty files below one folder, and returns the folder."""

    def plant(*paths):
        for path in paths:
            file = tmp_path / "corpus" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        return tmp_path / "corpus"

    return plant


def column(corpus: Corpus, name: str) -> dict[str, str]:
    return dict(zip(corpus.index["path"], corpus.index[name], strict=True))


def refusal(source: object, **options: object) -> str:
    """What `read_corpus` says no with."""
    with pytest.raises(CorpusError) as caught:
        read_corpus(source, **options)
    return str(caught.value)


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


def test_a_folder_is_read_by_its_index(plant):
    """Else a voice that only the index knows would stand on two sides."""
    root = plant("de/1.wav", "es/1.wav", "es/2.wav")
    (root / "index.csv").write_text("path,language,speaker\nde/1.wav,de,a\nes/1.wav,es,a\n")
    corpus = read_corpus(root)
    assert corpus.layout == "a folder with its index.csv"
    assert column(corpus, "speaker") == {"de/1.wav": "a", "es/1.wav": "a"}
    assert corpus.notes == ("1 audio file left out: not in index.csv (es/2.wav)",)
    with pytest.raises(CorpusError, match=r"is read by the index\.csv in it"):
        read_corpus(root, speaker="(?P<speaker>.)[.]wav")


@pytest.mark.parametrize("table", ["a,b\n1,2\n", ""])
def test_a_table_of_somebody_else_is_no_index(plant, table):
    root = plant("de/1.wav", "es/1.wav")
    (root / "index.csv").write_text(table)
    corpus = read_corpus(root)
    assert corpus.layout == "a folder per language"
    assert "index.csv" in corpus.notes[-1]


def test_an_index_that_does_not_fit_is_not_passed_over(plant):
    root = plant("de/1.wav", "es/1.wav")
    (root / "index.csv").write_text("path,language\nno.wav,de\n")
    with pytest.raises(CorpusError, match=r"index\.csv: none of its 1 files exists below"):
        read_corpus(root)


@pytest.mark.parametrize(
    ("folder", "split"),
    [
        ("train", "train"),
        ("Training", "train"),
        ("valid", "valid"),
        ("validation", "valid"),
        ("val", "valid"),
        ("dev", "valid"),
        ("DEV", "valid"),
        ("test", "test"),
        ("testing", "test"),
        ("eval", "test"),
    ],
)
def test_split_folders_and_their_aliases(plant, folder, split):
    corpus = read_corpus(plant(f"{folder}/de/1.wav", f"{folder}/es/1.wav"))
    assert list(corpus.index["split"]) == [split, split]
    assert list(corpus.index["language"]) == ["de", "es"]
    assert corpus.layout == "a folder per language"


def test_split_folder_counts_only_above_the_language():
    assert split_folder("de/test/1.wav") == ("", ("de", "test", "1.wav"))
    assert split_folder("train.wav") == ("", ("train.wav",))
    assert split_folder("test/de/anna/1.wav") == ("test", ("de", "anna", "1.wav"))


def test_two_sub_folders_or_more_are_groups(plant):
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
    assert corpus.notes == ("files of one sub-folder stay on one side of the split",)


def test_one_sub_folder_groups_beside_a_language_that_has_several(plant):
    corpus = read_corpus(plant(*(f"de/anna/{i}.wav" for i in range(9)), *FOLDERS_OF_ES))
    assert set(corpus.index.loc[corpus.index["language"] == "de", "group"]) == {"de/anna"}
    with pytest.raises(CorpusError, match=r"needs 3 groups.*'de' has 1, not"):
        split_corpus(corpus)


def test_one_sub_folder_across_split_folders_groups_beside_several(plant):
    corpus = read_corpus(plant("train/de/anna/1.wav", "test/de/anna/2.wav", *FOLDERS_OF_ES))
    groups = corpus.index.groupby("group")["split"].agg(set)
    assert groups["de/anna"] == {"train", "test"}


@pytest.mark.parametrize("above", ["", "train/"])
def test_sub_folders_say_nothing_where_each_language_has_at_most_one(plant, above):
    corpus = read_corpus(
        plant(f"{above}de/clips/1.wav", "de/clips/2.wav", "es/x/1.wav", "fr/1.wav")
    )
    assert (corpus.index["group"] == corpus.index["path"]).all()
    assert len(corpus.notes) == 1
    assert "no language has two sub-folders, so they say nothing of who speaks" in corpus.notes[0]
    assert "each file counts as its own" in corpus.notes[0]


def test_group_of_a_sub_folder_shows_across_split_folders(plant):
    corpus = read_corpus(plant(*(f"{s}/{f}/1.wav" for s in ("train", "test") for f in FOLDERS)))
    groups = corpus.index.groupby("group")["split"].agg(set)
    assert dict(groups) == {folder: {"train", "test"} for folder in FOLDERS}


def test_speaker_by_expression(plant):
    root = plant("de/anna_1.wav", "de/anna_2.wav", "es/diego_1.wav", "train/es/anna_9.wav")
    corpus = read_corpus(root, speaker=SPEAKER)
    speakers = {path: re.search(SPEAKER, path)["speaker"] for path in corpus.index["path"]}
    assert column(corpus, "speaker") == column(corpus, "group") == speakers
    assert set(speakers.values()) == {"anna", "diego"}
    assert corpus.notes == ()


@pytest.mark.parametrize(
    ("speaker", "message"),
    [
        ("[^/]+$", r"'\[\^/\]\+\$' needs a group named speaker, as in '\(\?P<speaker>"),
        ("(?P<name>x)", "needs a group named speaker"),
        ("(?P<speaker>[a-z", r"--speaker '\(\?P<speaker>\[a-z' is no regular expression"),
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
    assert "2 audio files outside any language folder left out" in corpus.notes


def test_only_loose_files(plant):
    message = refusal(plant("a.wav", "b.wav", "c.wav"))
    assert "3 audio files (a.wav, b.wav and 1 more) lie directly in it" in message
    assert "as in de/001.wav" in message


def test_hidden_and_foreign_files(plant):
    corpus = read_corpus(
        plant(
            *("de/1.wav", "es/1.wav", "de/.1.wav", ".cache/de/2.wav", "__MACOSX/de/._1.wav"),
            *("README.txt", "es/1.txt", "es/cover.jpg", "de/no_suffix", ".DS_Store"),
        )
    )
    assert list(corpus.index["path"]) == ["de/1.wav", "es/1.wav"]
    assert corpus.notes[-1].startswith("4 file")
    assert "README.txt, de/no_suffix, es/1.txt and 1 more" in corpus.notes[-1]


def test_upper_case_suffixes_and_all_that_can_be_read(plant):
    names = [f"x{suffix}" for suffix in AUDIO_SUFFIXES] + ["Y.WAV", "Z.Flac"]
    audio, others = find_audio(plant(*(f"de/{name}" for name in names), "de/video.avi"))
    assert audio == sorted(f"de/{name}" for name in names)
    assert others == ["de/video.avi"]


def test_names_of_all_the_world(plant):
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
def test_names_that_cannot_stand_in_a_table(plant):
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


def test_folder_keeps_its_own_name_whatever_links_lead_to_it(plant):
    root = plant("de/1.wav", "es/1.wav")
    (root / "aa").mkdir()
    (root / "aa" / "link").symlink_to(root / "de")  # met first, in any order
    (root / "german").symlink_to(root / "de")
    assert list(read_corpus(root).index["path"]) == ["de/1.wav", "es/1.wav"]


def test_folder_that_cannot_be_listed_is_told(plant, monkeypatch):
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
    assert "no audio file (the folder is empty); wanted: .3gp" in refusal(tmp_path)


def test_folder_of_texts(plant):
    message = refusal(plant("de/1.txt", "de/2.txt", "es/1.txt", "es/2.txt"))
    assert "no audio file (only de/1.txt, de/2.txt, es/1.txt and 1 more)" in message
    assert ".wav" in message


def test_one_language(plant):
    message = refusal(plant("corpus/de/1.wav", "corpus/es/1.wav"))
    assert "holds one language ('corpus')" in message
    assert "a level too high or too deep?" in message


def test_root_goes_with_an_index(plant, tmp_path):
    root = plant("de/1.wav", "es/1.wav")
    message = refusal(root, root=tmp_path)
    assert f"--root {tmp_path} goes with an index CSV; {root} is a folder" in message


def write(file, *lines: str) -> object:
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def test_index_csv_beside_its_files(plant):
    root = plant("a/1.wav", "b/2.wav", "not in the index.wav")
    file = write(
        root / "index.csv",
        "path,language,speaker,split,gender,duration",
        "b/2.wav,nan,,Dev,f,",
        "a/1.wav,3,anna,training,,2.5",
    )
    corpus = read_corpus(file)
    assert corpus.layout == "an index CSV"
    assert corpus.root == root
    assert column(corpus, "language") == {"a/1.wav": "3", "b/2.wav": "nan"}
    assert column(corpus, "split") == {"a/1.wav": "train", "b/2.wav": "valid"}
    assert column(corpus, "group") == {"a/1.wav": "anna", "b/2.wav": "b/2.wav"}
    assert column(corpus, "gender") == {"a/1.wav": "", "b/2.wav": "f"}


def test_index_csv_with_root(plant, tmp_path):
    root = plant("1.wav", "2.wav")
    file = write(tmp_path / "elsewhere.tsv", "path\tlanguage", "1.wav\tde", "2.wav\tes")
    assert read_corpus(file, root=root).root == root
    message = refusal(file)
    assert f"none of its 2 files exists below {tmp_path}, as in {tmp_path / '1.wav'}" in message
    assert "--root" in message


def test_index_csv_needs_only_some_of_its_files(plant):
    file = write(plant("1.wav") / "index.csv", "path,language", "1.wav,de", "gone.wav,es")
    assert len(read_corpus(file).index) == 2  # failed.csv will name it


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["file,language", "1.wav,de"], "needs the columns 'path' and 'language'"),
        (
            ["path,language", "1.wav,de", "../corpus/1.wav,es"],
            "must be a path below the corpus root",
        ),
        (["path,language", "1.wav,de", "{root}/1.wav,es"], "must be a path below the corpus root"),
        (["path,language", "1.wav,de", "1.wav,es"], "stands in the index twice"),
        (["path,language", "1.wav,de", "2.wav"], "'2.wav' has no language"),
        (["path,language", "1.wav,de", ",es"], "'' has no path"),
        (["path,language", "1.wav,de"], "one language ('de')"),
        (["path,language,split", "1.wav,de,train", "2.wav,es,later"], "'valid', 'test'): 'later'"),
        (["path,language", "x" * 5_000 + ",de"], "none of its 1 files exists"),
        (["path,language", r"de\1.wav,de", r"es\2.wav,es"], "write / between folders"),
        (["path,language,offset", "1.wav,de,0"], "column 'offset'"),
        (
            ["path,language,variant", "1.wav,de,", "2.wav,de,noise1"],
            "'2.wav' is a variant, and nothing tells of what: add a column 'recording'",
        ),
        (
            ["path,language,speaker", "1.wav,de,anna", "2.wav,es,anna "],
            "'2.wav' has a speaker with a space at its edge: 'anna '",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_unusable_index_csv(plant, lines, message):
    root = plant("1.wav", "2.wav")
    file = write(root / "index.csv", *(line.format(root=root) for line in lines))
    found = refusal(file)
    assert str(file) in found
    assert message in found


def test_missing_files_named_with_slashes_are_no_slip_in_the_slashes(plant):
    file = write(plant("1.wav") / "index.csv", "path,language", "de/1.wav,de", "es/2.wav,es")
    assert "write /" not in refusal(file)


def test_backslashes_part_folders_where_the_system_says_so(plant, monkeypatch):
    root = plant("de/1.wav", "es/2.wav")
    file = write(root / "index.csv", "path,language", r"de\1.wav,de", r"es\2.wav,es")
    monkeypatch.setattr("langid_fastai.corpus.folders.os.sep", "\\")
    index = read_index_csv(file).index
    assert list(index["path"]) == list(index["group"]) == ["de/1.wav", "es/2.wav"]


def test_header_alone_is_no_index(plant):
    file = write(plant("1.wav") / "index.csv", "path,language")
    assert refusal(file) == f"{file}: no recording in it"


def test_speaker_option_with_an_index_csv_is_not_passed_over(plant):
    file = write(plant("1.wav", "2.wav") / "index.csv", "path,language", "1.wav,de", "2.wav,es")
    assert "has a column 'speaker'" in refusal(file, speaker=SPEAKER)


def test_audio_file_is_no_index(plant):
    file = plant("1.wav") / "1.wav"
    file.write_bytes(b"RIFF\xff\xff\xff\xffWAVE")
    assert "not a readable index CSV" in refusal(file)


def test_voxlingua107(plant):
    corpus = read_corpus(
        plant(
            *(
                f"{language}/{VIDEO.format(segment=i)}"
                for language in ("de", "es")
                for i in range(2)
            ),
            "de/aB_c-9__U__S1---0001.000-0004.250.wav",
        )
    )
    assert corpus.layout == "VoxLingua107 (language/video)"
    # A video in two languages is one group: it may have one speaker.
    assert dict(corpus.index["group"].value_counts()) == {"-7hqy7xahkM": 4, "aB_c-9": 1}
    assert sorted(corpus.index["language"]) == ["de", "de", "de", "es", "es"]
    assert (corpus.index["speaker"] == "").all()  # a segment label is no speaker
    assert (corpus.index["split"] == "").all()
    assert corpus.notes == ("the video is the group; who speaks is not known",)


def test_voxlingua107_names_withdrawn_codes_anew(plant):
    corpus = read_corpus(
        plant(*(f"{code}/{VIDEO.format(segment=1)}" for code in ("iw", "jw", "he", "yi")))
    )
    assert sorted(corpus.index["language"]) == ["he", "he", "jv", "yi"]
    assert "language code iw read as he" in corpus.notes
    assert "language code jw read as jv" in corpus.notes


@pytest.mark.parametrize(
    ("folder", "split"),
    [("dev", "test"), ("train", "train"), ("valid", "valid"), ("val", "valid"), ("test", "test")],
)
def test_voxlingua107_dev_is_its_test_set(plant, folder, split):
    name = VIDEO.format(segment=1)
    corpus = read_corpus(plant(f"{folder}/de/{name}", f"{folder}/es/{name}", f"fr/{name}"))
    assert dict(zip(corpus.index["language"], corpus.index["split"], strict=True)) == {
        "de": split,
        "es": split,
        "fr": "",
    }


def test_voxlingua107_leaves_out_other_names(plant):
    name = VIDEO.format(segment=1)
    corpus = read_corpus(plant(f"de/{name}", f"es/{name}", "de/other.flac", f"{name}", "notes.txt"))
    assert len(corpus.index) == 2
    assert "2 files whose names are not of the VoxLingua107 form left out" in corpus.notes
    assert corpus.notes[-1].startswith("1 file")


def test_voxlingua107_one_level_too_deep(plant):
    message = refusal(plant(*(VIDEO.format(segment=i) for i in range(3))))
    assert "3 files of VoxLingua107" in message
    assert "give the folder that holds a folder a language" in message


def test_names_of_a_minority_make_no_layout(plant):
    name = VIDEO.format(segment=1)
    corpus = read_corpus(plant(f"de/{name}", "es/1.flac"))  # one in two is no majority
    assert corpus.layout == "a folder per language"
    assert column(corpus, "language") == {f"de/{name}": "de", "es/1.flac": "es"}


def test_speaker_option_with_names_that_tell_is_refused(plant):
    name = VIDEO.format(segment=1)
    message = refusal(plant(f"de/{name}", f"es/{name}"), speaker=SPEAKER)
    assert "--speaker goes with a folder per language" in message
    assert "VoxLingua107" in message


def test_demo_is_made_unless_something_bears_its_name(plant, tmp_path, monkeypatch):
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


def test_a_folder_with_an_index_is_read_by_it(plant):
    """Else variants of a recording, or utterances of one, would stand alone, on any side."""
    root = plant("de/1.wav", "de/1.noise1.wav", "es/2.wav", "es/3.wav")
    lines = ["de/1.wav,de,,1", "de/1.noise1.wav,de,noise1,1", "es/2.wav,es,,2"]
    write(root / "index.csv", "path,language,variant,recording", *lines)
    corpus = read_corpus(root)
    assert column(corpus, "group") == {"de/1.wav": "1", "de/1.noise1.wav": "1", "es/2.wav": "2"}
    assert "read by the index.csv in the folder" in corpus.notes
    assert f"{root} is read by the index.csv in it" in refusal(root, speaker="(?P<speaker>.)")


def test_another_table_of_that_name_is_no_index(plant):
    root = plant("de/1.wav", "es/2.wav")
    write(root / "index.csv", "chapter,page", "one,1")
    assert read_corpus(root).layout == "a folder per language"
