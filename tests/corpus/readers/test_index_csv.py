"""The reader of index CSVs: valid and invalid ones."""

import planted
import pytest
from planted import SPEAKER, column, refusal

from langid_fastai.corpus.readers.index_csv import read_index_csv
from langid_fastai.corpus.readers.recognise import read_corpus
from langid_fastai.errors import CorpusError

plant = planted.plant


def test_a_folder_is_read_by_its_index(plant):
    """Otherwise, a speaker that is only named in the index could be in two splits."""
    root = plant("de/1.wav", "es/1.wav", "es/2.wav")
    (root / "index.csv").write_text("path,language,speaker\nde/1.wav,de,a\nes/1.wav,es,a\n")
    corpus = read_corpus(root)
    assert corpus.layout == "a folder with its index.csv"
    assert column(corpus, "speaker") == {"de/1.wav": "a", "es/1.wav": "a"}
    assert corpus.notes == ("1 file left out: not in index.csv (es/2.wav)",)
    with pytest.raises(CorpusError, match=r"was read as a folder with its index\.csv"):
        read_corpus(root, speaker="(?P<speaker>.)[.]wav")


@pytest.mark.parametrize("table", ["a,b\n1,2\n", ""])
def test_foreign_table_is_not_an_index(plant, table):
    root = plant("de/1.wav", "es/1.wav")
    (root / "index.csv").write_text(table)
    corpus = read_corpus(root)
    assert corpus.layout == "a folder per language"
    assert "index.csv" in corpus.notes[-1]


def test_invalid_index_is_not_ignored(plant):
    root = plant("de/1.wav", "es/1.wav")
    (root / "index.csv").write_text("path,language\nno.wav,de\n")
    with pytest.raises(CorpusError, match=r"index\.csv: none of its 1 files exists below"):
        read_corpus(root)


def write(file, *lines: str) -> object:
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def test_index_csv_next_to_its_files(plant):
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
    assert f"none of its 2 files exists below {tmp_path}, e.g. {tmp_path / '1.wav'}" in message
    assert "--root" in message


def test_index_csv_with_some_missing_files(plant):
    file = write(plant("1.wav") / "index.csv", "path,language", "1.wav,de", "gone.wav,es")
    assert len(read_corpus(file).index) == 2  # reported in failed.csv


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["file,language", "1.wav,de"], "needs the columns 'path' and 'language'"),
        (
            ["path,language", "1.wav,de", "../corpus/1.wav,es"],
            "must be a path below the corpus root",
        ),
        (
            ["path,language", "1.wav,de", "/etc/1.wav,es"],
            "line 3: '/etc/1.wav' must be a path below the corpus root",
        ),
        (
            ["path,language", "1.wav,de", "{root}/1.wav,es"],
            "line 3: '1.wav' is in the index twice, in line 2 with another language ('de', here 'e",
        ),
        (["path,language", "1.wav,de", "./1.wav,es"], "line 3: '1.wav' is in the index twice"),
        (["path,language", "1.wav,de", "2.wav"], "line 3: '2.wav' has no language"),
        (["path,language", "1.wav,de", ",es"], "'' has no path"),
        (["path,language", "1.wav,de"], "one language ('de')"),
        (["path,language,split", "1.wav,de,train", "2.wav,es,later"], "'valid', 'test'): 'later'"),
        (["path,language", "x" * 5_000 + ",de"], "none of its 1 files exists"),
        (["path,language", r"de\1.wav,de", r"es\2.wav,es"], "write / between folders"),
        (["path,language,offset", "1.wav,de,0"], "column 'offset'"),
        (
            ["path,language,variant", "1.wav,de,", "2.wav,de,noise1"],
            "'2.wav' is a variant of an unknown recording: add a column 'recording'",
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


def test_missing_files_with_slashes_do_not_suggest_slashes(plant):
    file = write(plant("1.wav") / "index.csv", "path,language", "de/1.wav,de", "es/2.wav,es")
    assert "write /" not in refusal(file)


def test_other_spellings_of_a_path_are_read(plant):
    """Absolute paths, dots, backslashes and decomposed accents, where the file is there."""
    root = plant("a/1.wav", "a/2.wav", "a/3.wav", "a/Zoe\u0308.wav", "a/5.wav")
    file = write(
        root / "index.csv",
        "path,language",
        f"{root}/a/1.wav,de",
        "./a//2.wav,es",
        r"a\3.wav,de",
        "a/Zo\u00eb.wav,es",
        "a/5.wav,es",
    )
    corpus = read_corpus(file)
    assert list(corpus.index["path"]) == [f"a/{n}.wav" for n in ("1", "2", "3", "5", "Zoe\u0308")]
    assert list(corpus.index["path"]) == list(corpus.index["group"])
    assert corpus.notes == ("4 paths normalised to the names of the files",)


def test_absolute_paths_through_a_link(plant, tmp_path):
    root = plant("1.wav", "2.wav")
    (tmp_path / "link").symlink_to(root)
    for top, folder in ((tmp_path / "link", root), (root, tmp_path / "link")):
        file = write(folder / "index.csv", "path,language", f"{top}/1.wav,de", f"{top}/2.wav,es")
        assert list(read_corpus(file).index["path"]) == ["1.wav", "2.wav"]


def test_a_backslash_may_be_in_a_name(plant):
    root = plant("a\\b.wav", "2.wav")
    file = write(root / "index.csv", "path,language", r"a\b.wav,de", "2.wav,es")
    assert list(read_index_csv(file).index["path"]) == ["2.wav", r"a\b.wav"]


def test_a_recording_that_is_listed_again_is_counted_once(plant):
    root = plant("1.wav", "2.wav")
    lines = ["path,language,text", "1.wav,de,x", "./1.wav,de,y", "2.wav,es,", ",,"]
    corpus = read_corpus(write(root / "index.csv", *lines))
    assert list(corpus.index["path"]) == ["1.wav", "2.wav"]
    assert corpus.left_out == {
        "index.csv, line 3 (as line 2)": "lists a recording again",
        "index.csv, line 5": "an empty row",
    }
    assert "1 row left out: an empty row (index.csv, line 5)" in corpus.notes


def test_a_folder_is_read_by_its_index_tsv(plant):
    root = plant("clips/1.wav", "clips/2.wav")
    write(root / "index.tsv", "path\tlanguage\ttext", 'clips/1.wav\tde\t"So', "clips/2.wav\tes\tx")
    corpus = read_corpus(root)
    assert corpus.layout == "a folder with its index.tsv"
    assert column(corpus, "language") == {"clips/1.wav": "de", "clips/2.wav": "es"}


@pytest.mark.parametrize(
    ("name", "split"),
    [("Development", "valid"), ("VAL", "valid"), ("held-out", "test"), ("Test set", "test")],
)
def test_usual_names_of_splits_in_the_column(plant, name, split):
    root = plant("1.wav", "2.wav")
    lines = ["path,language,split", f"1.wav,de,{name}", "2.wav,es,Training"]
    corpus = read_corpus(write(root / "index.csv", *lines))
    assert column(corpus, "split") == {"1.wav": split, "2.wav": "train"}


def test_header_without_rows_is_not_an_index(plant):
    file = write(plant("1.wav") / "index.csv", "path,language")
    assert refusal(file) == f"{file}: no recording in it"


def test_speaker_option_with_an_index_csv_is_refused(plant):
    file = write(plant("1.wav", "2.wav") / "index.csv", "path,language", "1.wav,de", "2.wav,es")
    assert "has a column 'speaker'" in refusal(file, speaker=SPEAKER)


def test_audio_file_is_not_an_index(plant):
    file = plant("1.wav") / "1.wav"
    file.write_bytes(b"RIFF\xff\xff\xff\xffWAVE")
    assert "not a readable table" in refusal(file)
