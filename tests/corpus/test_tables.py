"""Tables as corpora and spreadsheets write them."""

import json

import pytest

from langid_fastai.corpus.tables import read_header, read_json_lines, read_table
from langid_fastai.errors import CorpusError

NEEDS = ("path", "language")
PLAIN = [{"path": "a.wav", "language": "de"}, {"path": "b.wav", "language": "en"}]


@pytest.fixture
def read(tmp_path):
    """Write a table and read it: ``read(content, name)``."""

    def read(content, name="table.csv", **options):
        file = tmp_path / name
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_table(file, needs=NEEDS, known=(*NEEDS, "speaker"), **options)

    return read


def rows(table):
    return table.rows.to_dict("records")


@pytest.mark.parametrize(
    "content",
    [
        "path,language\na.wav,de\nb.wav,en\n",
        "path,language\r\na.wav,de\r\nb.wav,en",
        "path,language\ra.wav,de\rb.wav,en\r",
        "path;language\na.wav;de\nb.wav;en\n",
        "path\tlanguage\na.wav\tde\nb.wav\ten\n",
        "path|language\na.wav|de\nb.wav|en\n",
        "sep=;\r\npath;language\r\na.wav;de\r\nb.wav;en\r\n",
        '"path";"language"\n"a.wav";"de"\n"b.wav";"en"\n',
        "path,language,,\na.wav,de,,\nb.wav,en,,\n",
        "path,language\na.wav,de,\nb.wav,en,\n",
        "path,language\na.wav,de\n\nb.wav,en\n,\n\n",
        "\npath,language\na.wav,de\nb.wav,en\n",
        " Path , Language\na.wav, de\nb.wav ,en\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_usual_forms_of_one_table(read, content, encoding):
    assert rows(read(content.encode(encoding))) == PLAIN


@pytest.mark.parametrize("name", ["table.tsv", "TABLE.TSV", "table.csv", "table.txt"])
def test_a_table_with_tabs_is_read_without_quotes(read, name):
    """As in Common Voice; a quotation mark that is not closed does not swallow rows."""
    lines = ["path\tsentence\tlanguage", 'a.wav\t"Warte, rief er.\tde', 'b.wav\t"Halt!"\ten']
    found = rows(read("\n".join(lines), name))
    assert [row["sentence"] for row in found] == ['"Warte, rief er.', '"Halt!"']
    assert [row["language"] for row in found] == ["de", "en"]


def test_a_table_with_tabs_and_quotes_around_all_names(read):
    """As R writes it."""
    text = '"path"\t"language"\n"a ""b"".wav"\t"de"\n'
    assert rows(read(text, "table.tsv")) == [{"path": 'a "b".wav', "language": "de"}]


def test_some_fields_with_quotes_among_tabs(read):
    """As Excel writes text with commas."""
    text = 'path\tlanguage\ttext\n"a, b.wav"\tde\t"so, so"\n'
    assert rows(read(text, "table.txt"))[0]["path"] == "a, b.wav"


@pytest.mark.parametrize(
    "bad",
    [
        ['a.wav,"Warte,de', "b.wav,x,en", 'c.wav,"Halt,de', "d.wav,x,en"],  # closed by the next
        ['a.wav,"Warte,de', 'b.wav,"x,en'],  # rows next to each other
        ['a.wav,"Warte,de', "b.wav,x,en", "c.wav,x,en"],  # never closed
        ["z.wav,x,en", 'a.wav,"Warte,de'],  # in the last row
        ['a1,"Warte,de', "b1,x,en", 'c1,"Halt,de'],  # paths without a suffix
    ],
)
@pytest.mark.parametrize("separator", [",", ";"])
@pytest.mark.parametrize("end", ["", "\n"])
def test_a_quoted_field_that_swallows_rows(read, bad, separator, end):
    lines = ["path,sentence,language", "0.wav,x,en", *bad]
    line = 1 + next(n for n, text in enumerate(lines) if '"' in text)
    with pytest.raises(CorpusError, match=rf"line {line}: a quoted field runs on to line \d+"):
        read("\n".join(lines).replace(",", separator) + end)


def test_a_quoted_field_before_the_path_that_swallows_rows(read):
    with pytest.raises(CorpusError, match="line 2: a quoted field"):
        read('sentence,language,path\n"Warte,de,a.wav\n"Halt",en,b.wav\n')


def test_text_over_several_lines_is_one_field(read):
    table = read('path,text,language\na.wav,"Eins,\nzwei ""drei""\n",de\nb.wav,x,en\n')
    assert [row["text"] for row in rows(table)] == ['Eins,\nzwei "drei"\n', "x"]
    assert list(table.rows.index) == [2, 5]  # the lines on which the rows begin


@pytest.mark.parametrize("text", ['5" pipe', '"so" sagte er'])
def test_stray_quotation_marks_lose_nothing(read, text):
    assert len(read(f"path,text,language\na.wav,{text},de\nb.wav,x,en\n").rows) == 2


def test_empty_rows_are_counted(read):
    table = read("path,language\na.wav,de\n,\n  ,\nb.wav,en\n,\n")
    assert rows(table) == PLAIN
    lines = [f"table.csv, line {line}" for line in (3, 4, 6)]
    assert table.left_out == dict.fromkeys(lines, "an empty row")


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
def test_western_text_that_is_not_utf_8_is_read_with_a_note(read, encoding):
    table = read("path,language,speaker\na.wav,de,x\nb.wav,fr,Zoë Müßig\n".encode(encoding))
    assert rows(table)[1]["speaker"] == "Zoë Müßig"
    (note,) = table.notes
    assert "table.csv is not UTF-8" in note
    assert "line 3: 'b.wav,fr,Zoë Müßig'" in note


@pytest.mark.parametrize(("text", "encoding"), [("Иван", "cp1251"), ("日本語の", "shift-jis")])
def test_other_text_that_is_not_utf_8_is_refused_with_its_line(read, text, encoding):
    with pytest.raises(CorpusError, match="line 3 is not UTF-8; save the table as CSV in UTF-8"):
        read(f"path,language,speaker\na.wav,de,x\nb.wav,ru,{text}\n".encode(encoding))


def test_a_row_with_more_fields_is_refused_with_its_line(read):
    with pytest.raises(CorpusError, match="line 3 has more fields than its header line"):
        read("path,language\na.wav,de\nb, c.wav,en\n")


def test_a_short_row_is_filled(read):
    assert rows(read("path,language,gender\na.wav,de\n"))[0]["gender"] == ""


def test_columns_have_different_names(read):
    assert list(read(",path,language,path\n0,a,de,b\n").rows) == [
        *("Unnamed: 0", "path", "language", "path.1")
    ]


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\0", b"PK\x03\x04rest", b"x" * 200_000])
def test_files_that_are_not_tables(read, content):
    with pytest.raises(CorpusError, match=r"table\.csv: not a readable table"):
        read(content)


def test_names_of_the_columns(tmp_path):
    file = tmp_path / "table.csv"
    file.write_bytes("path;language \r\na;de".encode("utf-16"))
    assert read_header(file, needs=NEEDS) == ["path", "language"]
    assert read_header(tmp_path / "gone.csv") == []


def test_json_lines(tmp_path):
    file = tmp_path / "metadata.jsonl"
    file.write_text(json.dumps({"file_name": "a", "n": 1}) + '\n\n{"file_name": "b", "x": null}\n')
    table = read_json_lines(file)
    assert rows(table) == [
        {"file_name": "a", "n": "1", "x": ""},
        {"file_name": "b", "n": "", "x": ""},
    ]
    assert list(table.rows.index) == [1, 3]
    file.write_text('{"file_name": "a"}\n[1]\n')
    with pytest.raises(CorpusError, match="line 2 is not a JSON object"):
        read_json_lines(file)
