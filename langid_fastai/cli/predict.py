"""`langid predict` and `export`: a trained model, and recordings or a file for other programs."""

from __future__ import annotations

import csv
import glob
import json
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from langid_fastai.cli.options import parse_languages
from langid_fastai.errors import AudioError

if TYPE_CHECKING:
    from langid_fastai.prediction import Answer

__all__ = ["predict", "export"]

STDIN = "-"

ModelArgument = Annotated[
    Path, typer.Argument(metavar="MODEL", help="A model folder, or a trained run folder.")
]


def predict(
    model: ModelArgument,
    audio: Annotated[
        list[str],
        typer.Argument(metavar="AUDIO", help="Files, folders, patterns as '*.mp3', - for stdin."),
    ],
    candidates: Annotated[
        str | None, typer.Option(metavar="L,L", help="Languages it can be, as es,ca.")
    ] = None,
    top_k: Annotated[int, typer.Option(help="Most languages named for a file.")] = 5,
    unknown: Annotated[
        bool, typer.Option("--unknown", help="Answer 'unknown' where the model is not sure enough.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON for each file.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="path,rank,label,score.")] = False,
) -> None:
    """Say which language is spoken in recordings.

    What cannot be read is named on stderr, the rest is answered, and the exit code is 1.
    """
    if as_json and as_csv:
        raise typer.BadParameter("choose one of --json and --csv")
    from langid_fastai.prediction import LanguageIdentifier

    with warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("always", module="langid_fastai")
        identifier = LanguageIdentifier.load(model)
    for warning in caught:
        print(f"warning: {warning.message}", file=sys.stderr)
    names = list(dict.fromkeys(_expanded(audio)))
    write = _json_writer() if as_json else _csv_writer() if as_csv else _table_writer(names)
    n_failed = 0
    for name in names:
        try:
            answers = identifier(
                _source(name),
                top_k=top_k,
                candidates=parse_languages(candidates),
                unknown=unknown,
            )
        except AudioError as error:
            n_failed += 1
            print(f"failed: {error}", file=sys.stderr, flush=True)
        else:
            write(name, answers)
    if n_failed:
        print(f"{n_failed} of {len(names)} failed; hence exit code 1", file=sys.stderr)
        raise typer.Exit(code=1)


def export(
    model: ModelArgument,
    audio: Annotated[
        list[Path] | None,
        typer.Argument(metavar="AUDIO", help="Speech to compare on, besides made-up sound."),
    ] = None,
) -> None:
    """Write model.onnx: waveform in, languages out, for a fast start and for other programs.

    Predictions of this model use it from then on, where onnxruntime is installed (extra `onnx`).
    """
    from langid_fastai.onnx_export import export_onnx

    done = export_onnx(model, audio or ())
    print(f"model      {done.file} ({done.file.stat().st_size / 1e6:.1f} MB, opset {done.opset})")
    print(
        f"compared   with torch on {done.n_clips} clips: same language in {done.n_same}, "
        f"probabilities within {done.difference:.1g}"
    )


def _expanded(arguments: list[str]) -> Iterator[str]:
    """Files as they are; those in folders, and those that match a pattern, sorted."""
    for argument in arguments:
        matches = sorted(glob.glob(argument, recursive=True))  # noqa: PTH207  # Path drops ./
        # A file may have a bracket in its name, and what matches nothing is reported as missing.
        found = [argument] if Path(argument).exists() or not matches else matches
        for path in found:
            yield from _in_folder(Path(path)) if Path(path).is_dir() else [path]


def _in_folder(folder: Path) -> list[str]:
    from langid_fastai.corpus.read import find_audio

    return [str(folder / path) for path in find_audio(folder)[0]] or [str(folder)]


def _source(name: str) -> str | BinaryIO:
    """What to read; a folder stands in the list only where nothing in it can be."""
    if name != STDIN and Path(name).is_dir():
        raise AudioError(f"{name}: a folder without audio files")
    return sys.stdin.buffer if name == STDIN else name


def _table_writer(names: list[str]) -> Callable[[str, list[Answer]], None]:
    width = max(map(len, names), default=0)

    def write(name: str, answers: list[Answer]) -> None:
        shown = "  ".join(f"{answer['label']} {answer['score']:.3f}" for answer in answers)
        print(f"{name:<{width}}  {shown}", flush=True)

    return write


def _json_writer() -> Callable[[str, list[Answer]], None]:
    def write(name: str, answers: list[Answer]) -> None:
        print(json.dumps({"path": name, "answers": answers}, ensure_ascii=False), flush=True)

    return write


def _csv_writer() -> Callable[[str, list[Answer]], None]:
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(["path", "rank", "label", "score"])

    def write(name: str, answers: list[Answer]) -> None:
        for rank, answer in enumerate(answers, start=1):
            table.writerow([name, rank, answer["label"], round(answer["score"], 6)])
        sys.stdout.flush()

    return write
