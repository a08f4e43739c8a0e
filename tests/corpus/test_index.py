"""The clip index: columns, reading and writing, rules, hash."""

import numpy as np
import pandas as pd
import pytest

from langid_fastai.corpus.index import (
    COLUMNS,
    index_hash,
    make_index,
    read_index,
    used_rows,
    validate_index,
    write_index,
)
from langid_fastai.errors import CorpusError
from langid_fastai.utils.text import is_one_line

GOOD = [
    {"path": "de/a.wav", "language": "de", "split": "train"},
    {"path": "de/b.wav", "language": "de", "split": "test"},
    {"path": "es/a.wav", "language": "es", "split": "valid"},
    {"path": "es/b.wav", "language": "es", "split": ""},
]

PERSIAN = "می\u200cخواهم"  # with the joiner that its spelling requires


def change(row: int, **columns: str) -> pd.DataFrame:
    """Change one row of the valid index."""
    return make_index([GOOD[i] | (columns if i == row else {}) for i in range(len(GOOD))])


def test_make_index_columns_and_order():
    index = make_index([{"path": "b", "language": "x", "gender": "f"}, {"path": "a"}])
    assert list(index.columns) == [*COLUMNS, "gender"]
    assert list(index["path"]) == ["a", "b"]
    assert list(index.index) == [0, 1]
    assert (index.loc[0, ["language", "speaker", "split", "variant", "gender"]] == "").all()


@pytest.mark.parametrize(
    ("known", "group"),
    [
        ({}, "p.wav"),
        ({"recording": "r"}, "r"),
        ({"recording": "r", "speaker": "s"}, "s"),
        ({"recording": "r", "speaker": "s", "group": "g"}, "g"),
        ({"recording": "", "speaker": ""}, "p.wav"),
        ({"recording": "r", "speaker": None}, "r"),
    ],
    ids=str,
)
def test_group_is_the_widest_known_unit(known, group):
    index = make_index([{"path": "p.wav", "language": "de"} | known])
    assert index.loc[0, "group"] == group


def test_speaker_is_never_invented():
    index = make_index([{"path": "p", "recording": "r", "group": "g"}])
    assert index.loc[0, "speaker"] == ""


def test_each_row_is_filled_by_its_own_columns():
    index = make_index([{"path": "a", "speaker": "anna"}, {"path": "b"}])
    assert list(index["group"]) == ["anna", "b"]


def test_make_index_without_rows():
    index = make_index([])
    assert list(index.columns) == list(COLUMNS)
    assert index.empty


@pytest.mark.parametrize("label", ["na", "nan", "NA", "NaN", "null", "None", "3", "03", "1e3"])
@pytest.mark.parametrize("suffix", [".csv", ".CSV"])
def test_labels_are_kept_as_they_are(tmp_path, label, suffix):
    index = make_index([GOOD[0] | {"language": label, "speaker": label}, GOOD[2]])
    file = tmp_path / f"index{suffix}"
    write_index(index, file)
    again = read_index(file)
    assert again.values.tolist() == index.values.tolist()
    assert list(again.columns) == list(index.columns)


def test_awkward_paths_round_trip(tmp_path):
    paths = [
        'de/"a", b.wav',
        "de/ c.wav",
        f"fa/{PERSIAN}.wav",
        "zh/你好, 世界.wav",
        "-7.wav",
        "#.wav",
    ]
    index = make_index([{"path": path, "language": "x"} for path in paths])
    write_index(index, tmp_path / "index.csv")
    assert list(read_index(tmp_path / "index.csv")["path"]) == sorted(paths)


def test_numbers_with_a_decimal_comma(tmp_path):
    file = tmp_path / "index.csv"
    file.write_text("path;language;duration;sr\na.wav;de;2,5;16000\nb.wav;en;;8000\nc;d;3.5;x\n")
    index = read_index(file)
    np.testing.assert_array_equal(index["duration"], [2.5, np.nan, 3.5])
    np.testing.assert_array_equal(index["sr"], [16_000, 8000, np.nan])


@pytest.mark.parametrize("suffix", [".tsv", ".TSV"])
def test_tabs_by_the_suffix(tmp_path, suffix):
    file = tmp_path / f"index{suffix}"
    file.write_text("path\tlanguage\na,b.wav\tde\n", encoding="utf-8")
    assert read_index(file).to_dict("list") == {"path": ["a,b.wav"], "language": ["de"]}


def test_byte_order_mark(tmp_path):
    file = tmp_path / "excel.csv"
    file.write_bytes("path,language\na.wav,dé\n".encode("utf-8-sig"))
    assert read_index(file).to_dict("list") == {"path": ["a.wav"], "language": ["dé"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a readable table: it has no header"),
        (b"path,language\na.wav,\xff\xfe\xfd\n", "line 2 is not UTF-8; save the table as CSV"),
        (b"fLaC\x00\x00\x00\x22\x10\x00\xff", "not a readable table"),
        (b"path,language\na,de\nb,es,x\n", "line 3 has more fields than its header line"),
        (b"file,label\na.wav,de\n", "columns 'path' and 'language'; it has 'file', 'label'"),
        (b"path language\na.wav de\n", "it has 'path language'"),
        (b"path,language\na.wav,de,x\nb.wav,es,x\n", "line 2 has more fields"),
    ],
    ids=["empty", "latin", "flac", "ragged", "names", "space", "one more"],
)
def test_unreadable_tables(tmp_path, content, message):
    file = tmp_path / "index.csv"
    file.write_bytes(content)
    with pytest.raises(CorpusError, match=message) as caught:
        read_index(file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("name", ["offset", "image", "reason", "n_clips"])
def test_reserved_columns(tmp_path, name):
    file = tmp_path / "index.csv"
    file.write_text(f"path,{name},language\na.wav,0,de\n", encoding="utf-8")
    with pytest.raises(CorpusError, match=f"column '{name}' .*rename it") as caught:
        read_index(file)
    assert str(file) in str(caught.value)


def test_missing_table(tmp_path):
    with pytest.raises(CorpusError, match=r"gone\.csv: not a readable table"):
        read_index(tmp_path / "gone.csv")


def test_write_creates_its_folder_and_nothing_else(tmp_path):
    file = tmp_path / "new" / "index.csv"
    write_index(make_index(GOOD), file)
    write_index(make_index(GOOD[:2]), file)
    assert list(file.parent.iterdir()) == [file]
    assert len(read_index(file)) == 2


def test_failed_write_keeps_the_old_table(tmp_path, monkeypatch):
    file = tmp_path / "index.csv"
    write_index(make_index(GOOD), file)

    def fill_the_disk(self, path, **_options):
        path.write_bytes(b"path,lang")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_csv", fill_the_disk)
    with pytest.raises(OSError, match="No space left"):
        write_index(make_index(GOOD[:2]), file)
    assert len(read_index(file)) == 4


def test_good_index_is_valid():
    validate_index(make_index(GOOD))


@pytest.mark.parametrize("label", ["na", "3", "de-AT", "jazz", "zh_Hant", "日本語", "a" * 100])
def test_labels_that_are_valid_folder_names(label):
    validate_index(change(0, language=label))


@pytest.mark.parametrize(
    "path",
    ["a..b/c.wav", "...wav", "de/Zoë (2).wav", f"fa/{PERSIAN}.wav", "-a.wav"],
)
def test_paths_below_the_root(path):
    validate_index(change(0, path=path))


def test_empty_index():
    with pytest.raises(CorpusError, match=r"^corpus\.csv: no recording in it"):
        validate_index(make_index([]), source="corpus.csv")


def test_duplicate_paths():
    with pytest.raises(CorpusError, match=r"'de/a\.wav' is in the index twice"):
        validate_index(change(1, path="de/a.wav"))


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "C:\\audio\\a.wav",
        "\\\\server\\share\\a.wav",
        "../a.wav",
        "de/../../a.wav",
        "de\\..\\..\\a.wav",
        "de/a\n.wav",
        "de/\x00.wav",
        "de/\x1b[31m.wav",
        "de/a\u2028.wav",
        "de/\udcff.wav",
    ],
    ids=ascii,
)
def test_paths_outside_or_unfit_for_a_table(path):
    with pytest.raises(CorpusError, match="must be a path below the corpus root") as caught:
        validate_index(change(0, path=path))
    assert repr(path) in str(caught.value)


def test_no_path():
    with pytest.raises(CorpusError, match="'' has no path"):
        validate_index(change(2, path=""))


@pytest.mark.parametrize("label", ["", " ", "\t"])
def test_no_language(label):
    with pytest.raises(CorpusError, match=r"'es/b\.wav' has no language"):
        validate_index(change(3, language=label))


@pytest.mark.parametrize(
    "label",
    ["de/at", "de\\at", ".de", "..", "d\te", "a" * 101, "语" * 34, " de", "de ", "d\x7f"],
)
def test_labels_that_are_not_valid_folder_names(label):
    with pytest.raises(
        CorpusError, match=r"'de/a\.wav' has a language that cannot be the name"
    ) as caught:
        validate_index(change(0, language=label))
    assert repr(label) in str(caught.value)


@pytest.mark.parametrize("column", ["speaker", "group", "recording"])
@pytest.mark.parametrize("name", ["anna ", " anna", "anna\t", " "])
def test_group_names_with_spaces_around(column, name):
    message = f"'de/a\\.wav' has a {column} with a space at its edge"
    with pytest.raises(CorpusError, match=message) as caught:
        validate_index(change(0, **{column: name}))
    assert str(caught.value).endswith(repr(name))


def test_path_with_spaces_around_is_its_own_group():
    validate_index(change(0, path=" a.wav "))


def test_variant_of_an_unknown_recording():
    index = change(1, variant="noise1")
    with pytest.raises(
        CorpusError, match=r"'de/b\.wav' is a variant of an unknown recording"
    ) as caught:
        validate_index(index)
    message = str(caught.value)
    assert "add a column 'recording' (what the variant was made from), 'speaker' or 'gro" in message


@pytest.mark.parametrize("column", ["speaker", "group", "recording"])
def test_variant_of_a_known_recording(column):
    validate_index(change(1, variant="noise1", **{column: "anna"}))


@pytest.mark.parametrize("split", ["dev2", "Train", " ", "0"])
def test_unknown_split(split):
    with pytest.raises(CorpusError, match=r"'de/b\.wav' has a split not in \('train'") as caught:
        validate_index(change(1, split=split))
    assert str(caught.value).endswith(repr(split))


def test_number_of_further_rows():
    index = make_index([row | {"language": ".x"} for row in GOOD])
    with pytest.raises(CorpusError, match=r"'de/a\.wav' \(and 3 more\) has a language"):
        validate_index(index)


def test_one_language():
    with pytest.raises(CorpusError, match=r"one language \('de'\).*at least two.*folder"):
        validate_index(make_index(GOOD[:2]))


@pytest.mark.parametrize(
    ("one", "other"),
    [("DE", "de"), ("portugu\u00eas", "portugue\u0302s"), ("Straße", "STRASSE")],
)
def test_one_language_with_two_spellings(one, other):
    index = make_index([GOOD[0] | {"language": one}, GOOD[2] | {"language": other}, GOOD[3]])
    with pytest.raises(
        CorpusError, match="differ only in upper and lower case or in how"
    ) as caught:
        validate_index(index)
    assert repr(one) in str(caught.value)
    assert repr(other) in str(caught.value)


def test_joiners_are_valid_in_names_and_line_breaks_are_not():
    assert all(map(is_one_line, ["", "a b", "नमस्\u200dते", PERSIAN, "a\u00a0b", "\u3000"]))
    assert not any(map(is_one_line, ["\n", "a\r", "\x85", "\u2028", "\u2029", "\udc80", "\x00"]))


def test_variants_are_for_training_only():
    rows = [
        {"path": f"{split}{variant}", "language": "de", "split": split, "variant": variant}
        for split in ("train", "valid", "test", "")
        for variant in ("", "noise1")
    ]
    used = used_rows(make_index(rows))
    assert sorted(used["path"]) == ["", "test", "train", "trainnoise1", "valid"]


def test_hash_ignores_row_order_and_other_columns(tmp_path):
    index = make_index(GOOD)
    expected = index_hash(index)
    assert index_hash(index.sample(frac=1, random_state=1)) == expected
    assert index_hash(index.assign(gender="f", duration=1.5)) == expected
    write_index(index.assign(duration=1.5), tmp_path / "index.csv")
    assert index_hash(read_index(tmp_path / "index.csv")) == expected


@pytest.mark.parametrize("column", COLUMNS)
def test_hash_changes_with_the_training_data(column):
    assert index_hash(change(0, **{column: "train2"})) != index_hash(make_index(GOOD))


def test_hash_changes_if_a_row_is_removed():
    assert index_hash(make_index(GOOD[1:])) != index_hash(make_index(GOOD))
