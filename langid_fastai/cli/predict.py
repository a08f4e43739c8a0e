"""`langid predict` and `langid export`: use a trained model here, or in other programs."""

from __future__ import annotations

import csv
import glob
import signal
import sys
import warnings
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from langid_fastai.cli.bulk import BulkSettings, write_table
from langid_fastai.cli.options import channel_option, parse_labels
from langid_fastai.cli.output import (
    Format,
    answer_writer,
    exit_if_failed,
    segment_writer,
    timeline_writer,
)
from langid_fastai.cli.signature import with_settings
from langid_fastai.errors import AudioError, CorpusError
from langid_fastai.utils.files import is_url
from langid_fastai.utils.progress import Listening

if TYPE_CHECKING:
    import numpy as np

    from langid_fastai.prediction import LanguageIdentifier

__all__ = ["predict", "export"]

STDIN = "-"
TOP_K = 5

ModelArgument = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL",
        help="Model folder, run folder with a trained model, or hf:<owner>/<name> or "
        "hf:<owner>/<name>@<revision> on the Hugging Face Hub (extra hub).",
    ),
]


@with_settings()
def predict(
    model: ModelArgument,
    audio: Annotated[
        list[str],
        typer.Argument(
            metavar="AUDIO",
            help="Files, folders, patterns such as '*.mp3', an index CSV with a column `path`, "
            "URLs such as s3://bucket/folder, or - for a file on stdin.",
        ),
    ],
    bulk: BulkSettings,
    candidates: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LANG,LANG",
            help="Languages to choose from, such as es,ca; repeat the option for labels that "
            "contain a comma.",
            show_default="all languages of the model",
        ),
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option(
            min=1, help="Maximum number of languages listed per recording.", show_default=str(TOP_K)
        ),
    ] = None,
    unknown: Annotated[
        bool,
        typer.Option(
            "--unknown",
            help="Return 'unknown' if no language is probable enough; its score is the probability "
            "that the best language is wrong.",
        ),
    ] = False,
    channel: Annotated[
        str | None, channel_option("the channel of the model, or the mean of all channels")
    ] = None,
    timeline: Annotated[
        bool,
        typer.Option("--timeline", help="List segments with their language, start and end time."),
    ] = False,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow",
            help="Print the timeline of live raw audio from stdin: 16-bit little-endian PCM, mono. "
            "Segments longer than 10 s are printed in pieces. The delay is at most two clips: 20 s "
            "for clips of 10 s. Press Ctrl-C to stop reading and print the rest.",
        ),
    ] = False,
    sr: Annotated[
        int | None,
        typer.Option(
            help="Sampling rate of the raw audio, in Hz, required with --follow; a rate below that "
            "of the training recordings reduces accuracy."
        ),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print one line of JSON per recording, or per segment with --follow."
        ),
    ] = False,
    as_csv: Annotated[
        bool,
        typer.Option(
            "--csv",
            help="Print CSV: path,rank,label,score, or for a timeline path,start,end,label,score.",
        ),
    ] = False,
    as_rttm: Annotated[
        bool, typer.Option("--rttm", help="Print the timeline as NIST RTTM, for scoring tools.")
    ] = False,
    as_labels: Annotated[
        bool, typer.Option("--labels", help="Print the timeline as an Audacity label track.")
    ] = False,
) -> None:
    """Identify the language of recordings or, with --timeline, of each segment of them.

    Unreadable or silent recordings are reported on stderr; the others are still processed, and the
    exit code is 1. The timeline of a silent recording is empty.

    Example for live radio:
    ffmpeg -i URL -f s16le -ac 1 -ar 22050 - | langid predict MODEL - --follow --sr 22050
    """
    from langid_fastai.inference.answers_file import own_files
    from langid_fastai.models.folder import read_info

    form = _format(as_json, as_csv, as_rttm, as_labels)
    written = own_files(bulk.out) if bulk.out else set()
    names = list(dict.fromkeys(_expanded(audio, written)))
    _validate_usage(form, names, timeline, follow, sr, top_k)
    each = _validate_channel(channel, form, follow, bulk.out)
    bulk.validate(form, names, follow)
    among = parse_labels(candidates, read_info(model).vocab if candidates else ())
    k = TOP_K if top_k is None else top_k
    identifier = _load(model, among, unknown)
    if bulk.out is not None:
        write_table(bulk, bulk.out, identifier, model, names, timeline, k, among, unknown, channel)
        return
    if sr is not None:
        from langid_fastai.audio.raw_pcm import stream_pcm

        write_segment = segment_writer(form)
        blocks = _until_interrupted(stream_pcm(sys.stdin.buffer, sr=sr))
        for segment in identifier.follow(blocks, sr, candidates=among, unknown=unknown):
            write_segment(segment)
        return
    listening = Listening(len(names))
    identifier = replace(identifier, progress=listening.heard)
    write: Callable[[str, Any], None]
    if timeline:
        write = timeline_writer(form, names, each=each)

        def answer(source: Any) -> Any:
            return identifier.timeline(source, candidates=among, unknown=unknown, channel=channel)

    else:
        write = answer_writer(form, names, each=each)

        def answer(source: Any) -> Any:
            return identifier(source, top_k=k, candidates=among, unknown=unknown, channel=channel)

    _each(names, listening, answer, write)


def export(
    model: Annotated[
        Path,
        typer.Argument(metavar="MODEL", help="Model folder, or run folder with a trained model."),
    ],
    audio: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="AUDIO",
            help="Recordings for the comparison with PyTorch, in addition to synthetic audio.",
        ),
    ] = None,
) -> None:
    """Export a model to ONNX, for faster loading and for other programs (extra `onnx`).

    Writes model.onnx, which takes waveforms, to the model folder, and compares its output with
    PyTorch's. Where onnxruntime is installed, langid predict then uses it on a CPU.
    """
    from langid_fastai.inference.onnx_export import export_onnx

    done = export_onnx(model, audio or ())
    print(f"model      {done.file} ({done.file.stat().st_size / 1e6:.1f} MB, opset {done.opset})")
    print(
        f"compared   with torch on {done.n_clips} clips: same language in {done.n_same}, "
        f"probabilities within {done.difference:.1g}"
    )


def _format(as_json: bool, as_csv: bool, as_rttm: bool, as_labels: bool) -> Format:
    asked = {
        Format.JSON: as_json,
        Format.CSV: as_csv,
        Format.RTTM: as_rttm,
        Format.LABELS: as_labels,
    }
    chosen = [form for form, is_asked in asked.items() if is_asked]
    if len(chosen) > 1:
        raise typer.BadParameter("choose one of --json, --csv, --rttm and --labels")
    return chosen[0] if chosen else Format.TABLE


def _validate_usage(
    form: Format,
    names: list[str],
    timeline: bool,
    follow: bool,
    sr: int | None,
    top_k: int | None,
) -> None:
    """Check that the options can be combined; errors suggest a valid combination."""
    in_time = timeline or follow
    if timeline and follow:
        raise typer.BadParameter("choose --timeline for recordings or --follow for a stream")
    if form in (Format.RTTM, Format.LABELS) and not in_time:
        raise typer.BadParameter("--rttm and --labels are formats of a timeline; add --timeline")
    if form is Format.LABELS and len(names) > 1:
        raise typer.BadParameter(f"--labels prints a track of one file, not of {len(names)}")
    if in_time and top_k is not None:
        raise typer.BadParameter("--top-k is not for timelines: a segment has one language")
    if follow and names != [STDIN]:
        raise typer.BadParameter("--follow reads stdin: MODEL - --follow --sr 22050")
    if follow and sr is None:
        raise typer.BadParameter("--follow needs the sampling rate, such as --sr 22050")
    if sr is not None and not follow:
        raise typer.BadParameter("--sr is for --follow only; files contain their sampling rate")


def _validate_channel(channel: str | None, form: Format, follow: bool, out: str | None) -> bool:
    """Check the channel against other options; return whether each channel is processed."""
    from langid_fastai.audio.channels import EACH, channel_number

    if channel is not None and follow:
        raise typer.BadParameter("--channel is for recordings; --follow reads one channel")
    if channel != EACH:
        channel_number(channel)
        return False
    if form is Format.LABELS:
        raise typer.BadParameter("--labels prints one channel; use --channel left instead of each")
    if out is not None:
        raise typer.BadParameter(
            "--out has one answer per recording, not per channel; print with --json or --csv, or "
            "run --channel left, then --channel right"
        )
    return True


def _load(model: Path, candidates: Iterable[str] | None, unknown: bool) -> LanguageIdentifier:
    """Check options against a model, then load it; print its warnings, one per line."""
    from langid_fastai.inference.posterior import Choice
    from langid_fastai.models.folder import read_info
    from langid_fastai.prediction import LanguageIdentifier

    Choice(read_info(model), candidates, unknown=unknown)  # fail before the long part
    with warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("always", module="langid_fastai")
        identifier = LanguageIdentifier.load(model)
    for warning in caught:
        print(f"warning: {warning.message}", file=sys.stderr)
    return identifier


def _each(
    names: list[str],
    listening: Listening,
    answer: Callable[[str | BinaryIO], Any],
    write: Callable[[str, Any], None],
) -> None:
    """Process one recording after the other; report those that fail, and continue."""
    n_failed = 0
    for name in names:
        try:
            with listening.to(name, partial(_duration, name)):
                answers = answer(_source(name))
            write(name, answers)
        except AudioError as error:
            n_failed += 1
            print(f"failed: {error}", file=sys.stderr, flush=True)
    exit_if_failed(n_failed, f"{n_failed} of {len(names)} failed")


def _duration(name: str) -> float | None:
    """Return the duration of a recording in s, or None if its header cannot be read."""
    from langid_fastai.audio.files import read_header

    try:
        return read_header(name)[0]
    except AudioError:
        return None


def _until_interrupted(blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield blocks until Ctrl-C, so that the rest is still processed; a second Ctrl-C raises."""
    reading = stopped = False

    def stop(signum: int, frame: FrameType | None) -> None:
        nonlocal stopped
        if reading or stopped:
            raise KeyboardInterrupt
        stopped = True

    before = signal.signal(signal.SIGINT, stop)
    try:
        while not stopped:
            reading = True
            block = next(blocks, None)
            reading = False
            if block is None:
                return
            yield block
    except KeyboardInterrupt:
        reading, stopped = False, True
        return
    finally:
        signal.signal(signal.SIGINT, before)


def _expanded(arguments: list[str], own: Container[Path]) -> Iterator[str]:
    """Yield the recordings that the arguments name; those of a folder or pattern are sorted.

    The files of the output table (`own`), which a pattern may match, are skipped.
    """
    for argument in arguments:
        if is_url(argument):
            yield from _at_address(argument)
            continue
        matches = sorted(glob.glob(argument, recursive=True))  # noqa: PTH207  # Path drops ./
        # A file name may contain a bracket; a pattern without matches is later reported as missing.
        found = [argument] if Path(argument).exists() or not matches else matches
        for path in found:
            if Path(path).resolve() in own:
                continue
            if Path(path).is_dir():
                yield from _in_folder(Path(path))
            else:
                yield from _in_index(Path(path)) if Path(path).suffix == ".csv" else [path]


def _at_address(url: str) -> list[str]:
    """Return the recording at a URL, or all recordings below it."""
    from langid_fastai.audio import AUDIO_SUFFIXES
    from langid_fastai.corpus.store import Store

    if PurePosixPath(url).suffix.lower() in AUDIO_SUFFIXES:
        return [url]
    names = Store(url).list()
    found = sorted(n for n in names if PurePosixPath(n).suffix.lower() in AUDIO_SUFFIXES)
    if not found:
        raise CorpusError(f"{url}: no audio files there")
    return [f"{url.rstrip('/')}/{name}" for name in found]


def _in_index(index: Path) -> Iterator[str]:
    """Yield the recordings of an index CSV; its paths are relative to its folder."""
    with index.open(encoding="utf-8-sig", newline="") as stream:
        table = csv.DictReader(stream)
        if "path" not in (table.fieldnames or ()):
            raise CorpusError(f"{index}: no column `path`, so it is not an index of recordings")
        for row in table:
            if not (path := row["path"]):
                raise CorpusError(f"{index}: line {table.line_num} has no path; add it")
            yield path if is_url(path) else str(index.parent / path)


def _in_folder(folder: Path) -> list[str]:
    """Return the recordings in a folder tree; report files that are left out, with the reason."""
    from langid_fastai.corpus.readers.find import find_audio
    from langid_fastai.utils.text import count, list_some

    audio, others = find_audio(folder)
    for reason in dict.fromkeys(others.values()):
        paths = [path for path, why in others.items() if why == reason]
        what = f"{count(len(paths), 'file')}, {reason}: {list_some(paths, 20)}"
        print(f"left out   {folder}: {what}", file=sys.stderr)
    return [str(folder / path) for path in audio] or [str(folder)]


def _source(name: str) -> str | BinaryIO:
    """Return the source to read; raise for a folder, since no audio was found in it."""
    if name != STDIN and Path(name).is_dir():
        raise AudioError(f"{name}: a folder without audio files")
    return sys.stdin.buffer if name == STDIN else name
