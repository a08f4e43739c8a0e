"""Read tables of corpora and spreadsheet programs, with the line number of each row.

Conventions
-----------
- The separator is a comma, semicolon, tab or bar: the first that gives the needed columns, starting
  with the usual one for the suffix. If Excel's first line ``sep=;`` is present, it sets the
  separator.
- Quotation marks enclose a field (RFC 4180), except in tables with tabs: sentences in corpora such
  as Common Voice contain unpaired quotation marks. A table with tabs is only read with quotes if
  all names in its header are quoted.
- The encoding is UTF-8 or UTF-16, or, if the text looks like a Western European language,
  Windows-1252 (which includes Latin-1); a note reports the latter.

No row is lost: a quoted field that contains further rows is an error, reported with its line
number, and empty rows are listed.
"""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import pandas as pd

from langid_fastai.errors import CorpusError

__all__ = ["Table", "read_header", "read_json_lines", "read_table"]

BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
SEPARATORS = (",", ";", "\t", "|")
# Western European languages do not have three accented letters in a row; Cyrillic text does.
NOT_WESTERN = re.compile(r"[^\x00-\x7f]{3}|\x00")
REMEDY = "save the table as CSV in UTF-8"


@dataclass(frozen=True)
class Table:
    """Rows of a table, as text.

    Parameters
    ----------
    rows : one row per record, indexed by the number of the line on which it begins
    notes : a sentence about the encoding, if it was guessed
    left_out : empty rows: ``file name, line n`` → reason
    """

    rows: pd.DataFrame
    notes: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)


def read_table(
    path: Path,
    *,
    needs: Collection[str] = (),
    known: Collection[str] = (),
    names: Sequence[str] = (),
) -> Table:
    """Read a table, all columns as text.

    Parameters
    ----------
    path : path of the table; with the suffix ``.tsv``, tabs are tried first, otherwise commas
    needs : names of columns, used to recognise the separator; a missing column is no error
    known : names of columns that are matched regardless of upper and lower case
    names : names of the columns, if the file has no header

    Raises
    ------
    CorpusError : a row has more fields than the header, a quotation mark is not closed, or the
        encoding is unknown; the message has the number of the line

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> file = Path(mkdtemp()) / "excel.csv"
    >>> _ = file.write_text("path;language\\nä.wav;de\\n;\\n", encoding="cp1252")
    >>> table = read_table(file, needs=["path"])
    >>> table.rows.to_dict("index"), table.left_out
    ({2: {'path': 'ä.wav', 'language': 'de'}}, {'excel.csv, line 3': 'an empty row'})
    """
    text, notes = _read_text(path)
    text, header, separator = _separated(text, path, needs)
    n_head = text[: text.find(header)].count("\n") + (not names)  # lines above the first row
    is_quoted = separator != "\t" or all(x[:1] == x[-1:] == '"' for x in header.split("\t"))
    has_header, names = not names, list(names) or _fields(header, separator, path)
    left_out: dict[str, str] = {}
    rows = _regular(text, separator, is_quoted, len(names), n_head)
    if rows is None:
        lines = _quoted_rows(text, separator, path) if is_quoted else _plain_rows(text)
        even, left_out = _even(itertools.islice(lines, has_header, None), names, path)
        rows = pd.DataFrame(
            list(even.values()), index=list(even), columns=range(len(names)), dtype=str
        )
    rows.index.name = "line"
    return Table(_named(rows, names, {*needs, *known}, is_quoted), notes, left_out)


def read_header(path: Path, *, needs: Collection[str] = ()) -> list[str]:
    """Return the names of the columns of a table; an empty list if the file is not a table.

    Parameters
    ----------
    needs : see `read_table`
    """
    try:
        _, header, separator = _separated(_read_text(path)[0], path, needs)
        return [name.strip() for name in _fields(header, separator, path)]
    except CorpusError:
        return []


def read_json_lines(path: Path) -> Table:
    """Read a table with one JSON object per line; values are turned into text.

    Raises
    ------
    CorpusError : a line is not a JSON object
    """
    text, notes = _read_text(path)
    rows = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = dict(json.loads(line))
        except (TypeError, ValueError) as error:
            raise CorpusError(f"{path}: line {number} is not a JSON object ({error})") from error
        rows[number] = {k: "" if v is None else str(v) for k, v in row.items()}
    frame = pd.DataFrame(list(rows.values()), index=pd.Index(list(rows), name="line"), dtype=object)
    return Table(frame.fillna(""), notes)


def _read_text(path: Path) -> tuple[str, tuple[str, ...]]:
    """Decode a file; if its lines end with carriage returns only, make them line feeds."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CorpusError(f"{path}: not a readable table ({error})") from error
    notes: tuple[str, ...] = ()
    encoding = next((BYTE_ORDER_MARKS[m] for m in BYTE_ORDER_MARKS if data.startswith(m)), "")
    zeros = [data[start:400:2].count(0) / (len(data[:400]) / 2 or 1) for start in (0, 1)]
    if not encoding and max(zeros) > 0.7 and min(zeros) < 0.3:
        encoding = "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"
    if data.startswith(b"PK\x03\x04"):
        raise CorpusError(f"{path}: not a readable table, but a spreadsheet or archive; {REMEDY}")
    try:
        text = data.decode(encoding or "utf-8")
    except UnicodeError as error:
        line = data[: getattr(error, "start", 0)].count(b"\n") + 1
        text = data.decode("cp1252", errors="replace")
        if encoding or "\ufffd" in text or NOT_WESTERN.search(text):
            raise CorpusError(
                f"{path}: not a readable table: line {line} is not UTF-8; {REMEDY}"
            ) from error
        example = text.split("\n")[line - 1].strip()[:60]
        note = (
            f"{path.name} is not UTF-8 and was read as Windows-1252 (Western European), e.g. line"
        )
        notes = (f"{note} {line}: {example!r}; if that is wrong, {REMEDY}",)
    return text if "\n" in text else text.replace("\r", "\n"), notes


def _separated(text: str, path: Path, needs: Collection[str]) -> tuple[str, str, str]:
    """Return the text without Excel's line ``sep=;``, its header and the separator."""
    if text[:4].lower() == "sep=" and len(text.partition("\n")[0].strip()) == len("sep=;"):
        separators: Sequence[str] = text[4]
        text = "\n" + text.partition("\n")[2]  # the line numbers stay
    else:
        usual = "\t" if path.suffix.lower() == ".tsv" else ","
        separators = (usual, *(s for s in SEPARATORS if s != usual))
    header = text.lstrip("\r\n").partition("\n")[0].rstrip("\r")
    if not header.strip():
        raise CorpusError(f"{path}: not a readable table: it has no header; {REMEDY}")
    found = {s: {x.strip().lower() for x in _fields(header, s, path)} for s in separators}
    fitting = [s for s in separators if {name.lower() for name in needs} <= found[s]]
    return text, header, fitting[0] if fitting else max(separators, key=lambda s: len(found[s]))


def _fields(line: str, separator: str, path: Path) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=separator), [])
    except csv.Error as error:
        raise CorpusError(f"{path}: not a readable table: its header: {error}") from error


def _regular(
    text: str, separator: str, is_quoted: bool, n_columns: int, n_head: int
) -> pd.DataFrame | None:
    """Read a table with one full row per line with pandas, quickly; return None for any other."""
    try:
        rows = pd.read_csv(
            io.StringIO(text),
            sep=separator,
            quoting=csv.QUOTE_MINIMAL if is_quoted else csv.QUOTE_NONE,
            header=None,
            skiprows=n_head,
            dtype=str,
            na_filter=False,
            skip_blank_lines=False,
        )
    except ValueError:  # also pandas' ParserError and EmptyDataError
        return None
    n_lines = text.count("\n") + (not text.endswith("\n")) - n_head
    if rows.shape != (n_lines, n_columns):
        return None  # a row over several lines, or with more fields
    if (bare := rows[0] == "").any() and (rows[bare] == "").all(axis=1).any():
        return None  # an empty row
    if rows.iloc[-1].str.contains('"').any():
        return None  # a quotation mark that may not be closed
    rows.index += 1 + n_head
    return rows


def _plain_rows(text: str) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line and line != "\r":
            yield number, line.removesuffix("\r").split("\t")


def _quoted_rows(text: str, separator: str, path: Path) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline="\n"), delimiter=separator)
    number, n_columns, is_whole = 1, 0, True
    try:
        for fields in reader:
            if fields:
                n_columns = n_columns or len(fields)
                is_long = reader.line_num > number
                if is_long and _holds_rows(fields, separator, n_columns):
                    raise _unclosed(path, number, reader.line_num)
                is_whole = len(fields) >= n_columns and not is_long
                yield number, fields
            last, number = number, reader.line_num + 1
    except csv.Error as error:
        raise CorpusError(f"{path}: not a readable table: line {number}: {error}") from error
    if not is_whole and "\n".join(text.split("\n")[last - 1 :]).count('"') % 2:
        raise _unclosed(path, last, number)


def _holds_rows(fields: list[str], separator: str, n_columns: int) -> bool:
    """Return whether a field of several lines contains rows of the table.

    This is assumed if one of its lines has as many fields as the header, or if it contains a file
    name with the same suffix as the path in its row.
    """
    suffixes = [re.escape(s) for x in fields if (s := PurePosixPath(x).suffix) and "\n" not in x]
    a_file = re.compile(rf"""\w(?:{"|".join(suffixes) or "$."})\s*[{re.escape(separator)}"\n]""")
    return any(
        "\n" in text
        and (
            a_file.search(text) is not None
            or any(line.count(separator) == n_columns - 1 for line in text.split("\n")[1:-1])
        )
        for text in fields
    )


def _unclosed(path: Path, first: int, last: int) -> CorpusError:
    return CorpusError(
        f"{path}: line {first}: a quoted field runs on to line {last} and includes the rows "
        'between; close its quotation mark, write "" for one inside a field, or save the table '
        "with tabs as .tsv, which is read without quotes"
    )


def _even(
    lines: Iterator[tuple[int, list[str]]], names: Sequence[str], path: Path
) -> tuple[dict[int, list[str]], dict[str, str]]:
    """Give all rows as many fields as the header; leave out empty rows."""
    rows, left_out, n_columns = {}, {}, len(names)
    for number, fields in lines:
        if len(fields) != n_columns:
            if any(fields[n_columns:]):
                raise CorpusError(
                    f"{path}: line {number} has more fields than its header line; is there a "
                    "separator in a field that is not quoted?"
                )
            fields = [*fields[:n_columns], *[""] * (n_columns - len(fields))]
        if any(map(str.strip, fields)):
            rows[number] = fields
        else:
            left_out[f"{path.name}, line {number}"] = "an empty row"
    return rows, left_out


def _named(
    rows: pd.DataFrame, names: Sequence[str], known: Collection[str], is_quoted: bool
) -> pd.DataFrame:
    """Give each column a unique name; drop columns that have neither name nor content."""
    final: list[str] = []
    for at, name in enumerate(name.strip() for name in names):
        name = name.lower() if name.lower() in known and name.lower() not in names else name
        name = name or f"Unnamed: {at}"  # as in pandas, which writes row numbers without a name
        numbered = (f"{name}.{n}" for n in itertools.count(1))
        final.append(name if name not in final else next(x for x in numbered if x not in final))
    rows.columns = pd.Index(final)
    if any(name != name.strip() for name in names):  # "path, language"
        rows = rows.apply(lambda column: column.str.strip())
    if not is_quoted:
        # Excel also quotes some fields in tables with tabs; file names and labels have no quotes.
        for name in {*known} & {*final}:
            rows[name] = rows[name].str.replace(r'^"(.*)"$', r"\1", regex=True)
    empty = [f"Unnamed: {at}" for at, name in enumerate(names) if not name.strip()]
    empty = [name for name in empty if (rows[name] == "").all()]
    return rows.drop(columns=empty) if empty else rows
