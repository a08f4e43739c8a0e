"""A corpus of long recordings → a corpus of utterances, each cut out at pauses.

::

    utterances/index.csv                                     one row an utterance
    utterances/recordings.csv                                what became of each recording
    utterances/failed.csv                                    path, reason: what gave no utterance
    utterances/cut.json                                      the rules of all of them
    utterances/de/interview.mp3/0012.340-0019.220.flac       a folder a recording, by its own path

How the places are chosen is told in `langid_fastai.corpus.make.pauses`. A recording is read twice,
block by block, once for its levels and once for its sound, so hours need the memory of seconds.

An utterance is mono FLAC at the rate of its recording, with 24 bits where the recording has more
than 16, else 16. It keeps speaker, side, group and all that the index knows of its recording. Its
`recording` is the path of that, unless the recording is itself a variant of another; so all
utterances of a recording stay on one side of a split, and where nothing else is known, the
recording is the group.

The work can be killed and started again: the folder of a recording appears whole or not at all, and
is made anew when the recording has changed (by size and time of change). The same recordings and
rules give the same bytes.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from langid_fastai.audio.files import excerpts, native_format, stream_audio, write_sound
from langid_fastai.corpus.index import Corpus, make_index, write_index
from langid_fastai.corpus.make.pauses import CutRules, find_cuts, frame_powers
from langid_fastai.errors import AudioError, CorpusError
from langid_fastai.utils.files import UNFINISHED, keep_choices, taken, write_json
from langid_fastai.utils.parallel import Died, alive, in_processes, validate_jobs
from langid_fastai.utils.progress import track

__all__ = ["CutResult", "cut_corpus"]

RULES = "cut.json"
HIGHEST_FLAC_SR = 655_350  # Hz; RFC 9639, 8.2, and libsndfile
NOTE = ".cut.json"  # in the folder of a recording; hidden, so that no reader counts it as a file
# Columns that hold for the recording, not for a piece of it.
OF_THE_WHOLE = ("duration", "sr", "digest", "start", "end", "recording", "source")


@dataclass(frozen=True)
class CutResult:
    """What cutting made.

    Parameters
    ----------
    index : one row an utterance, with `recording`, `source` (the path it was cut from), `start`,
        `end` and `duration` (s)
    recordings : one row a recording that was read: `path`, `duration` (s), `n_utterances`,
        `seconds_kept`, `n_dropped` and `seconds_dropped` (speech too short for an utterance),
        `seconds_silent` (left out of pauses), `n_forced` (cuts outside any pause), `n_clipped`
        (samples beyond full scale, which FLAC cannot hold)
    failed : `path`, `reason`
    n_made, n_kept : recordings worked on now, and those that were there already
    """

    index: pd.DataFrame
    recordings: pd.DataFrame
    failed: pd.DataFrame
    n_made: int
    n_kept: int


def cut_corpus(
    corpus: Corpus, folder: str | Path, rules: CutRules = CutRules(), *, n_jobs: int = -1
) -> CutResult:
    """Cut all recordings of a corpus into utterances, or those that are still to be cut.

    Parameters
    ----------
    corpus : from `read_corpus`; split or not
    folder : for the utterances; new, empty, or left by an earlier call with the same rules
    n_jobs : processes; -1 for all cores

    Returns
    -------
    result : its tables also lie in `folder`

    Raises
    ------
    CorpusError : `folder` holds something else or lies in the corpus, or no recording gave an
        utterance
    RunError : no process to work with

    Examples
    --------
    ::

        result = cut_corpus(read_corpus("interviews"), "utterances")
        langid-train utterances/index.csv
    """
    folder = Path(folder)
    validate_jobs(n_jobs)
    if folder.resolve().is_relative_to(corpus.root.resolve()):
        raise CorpusError(
            f"{folder} lies in the corpus {corpus.root}, where its utterances would be taken for "
            "recordings; choose a folder outside"
        )
    with taken(folder, RULES, CorpusError):
        keep_choices(folder / RULES, asdict(rules), CorpusError, "utterances cut by other rules")
        return _cut(corpus, folder, rules, n_jobs)


def _cut(corpus: Corpus, folder: Path, rules: CutRules, n_jobs: int) -> CutResult:
    """Cut what is still to be cut, in a folder that is ours alone."""
    paths = list(corpus.index["path"])
    notes = {path: note for path in paths if (note := _kept(corpus.root / path, folder / path))}
    todo = [path for path in paths if path not in notes]
    n_kept = len(notes)
    work = partial(_cut_recording, corpus.root.absolute(), folder.absolute(), rules)
    done = in_processes(work, todo, n_jobs=n_jobs)
    reasons = {}
    for path, made in track(done, total=len(todo), what="cutting", unit="recordings"):
        note, reason = ({}, made.reason) if isinstance(made, Died) else made
        if reason:
            reasons[path] = reason
        else:
            notes[path] = note
    result = _gather(corpus, notes, reasons, rules, len(todo), n_kept)
    write_index(result.failed, folder / "failed.csv")
    if result.index.empty:
        raise CorpusError(
            f"{corpus.root}: no recording gave an utterance of {rules.shortest:g} to "
            f"{rules.longest:g} s; the reasons stand in {folder / 'failed.csv'}"
        )
    write_index(result.recordings, folder / "recordings.csv")
    write_index(result.index, folder / "index.csv")
    return result


def _kept(source: Path, folder: Path) -> dict[str, Any] | None:
    """What is noted of a recording, if it was cut before, has not changed, and all is there."""
    note = folder / NOTE
    if not note.exists() or not source.exists():
        return None
    noted = json.loads(note.read_text(encoding="utf-8"))
    names = [_name(start, end, noted["sr"]) for start, end in noted["utterances"]]
    is_whole = all((folder / name).exists() for name in names)
    return noted if is_whole and noted["stamp"] == _stamp(source) else None


def _cut_recording(root: Path, out: Path, rules: CutRules, path: str) -> tuple[dict[str, Any], str]:
    """Cut one recording into a folder that appears whole: its note, or why there is none.

    The folder bears the whole name of the file, so that ``anna.wav`` and ``anna/001.wav`` cannot
    get into each other's way.
    """
    source, folder = root / path, out / path
    unfinished = folder.with_name(f".{folder.name}{UNFINISHED}")
    shutil.rmtree(unfinished, ignore_errors=True)  # left by a killed run
    try:
        stamp, (sr, bits) = _stamp(source), native_format(source)
        if sr > HIGHEST_FLAC_SR:
            raise AudioError(f"{sr} Hz is more than FLAC holds, {HIGHEST_FLAC_SR}; resample it")
        powers, n = frame_powers(alive(stream_audio(source, sr=sr)), sr)
        cuts = find_cuts(powers, n, sr, rules)
        unfinished.mkdir(parents=True)
        n_clipped = 0
        for (start, end), y in excerpts(alive(stream_audio(source, sr=sr)), cuts.utterances):
            n_clipped += int((np.abs(y) > 1).sum())
            write_sound(unfinished / _name(start, end, sr), y, sr, subtype=f"PCM_{bits}")
    except AudioError as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        return {}, str(error).removeprefix(f"{source}: ")
    note = asdict(cuts) | {"stamp": stamp, "sr": sr, "n": n, "n_clipped": n_clipped}
    write_json(unfinished / NOTE, note)
    if folder.exists():  # of the recording before it changed
        shutil.rmtree(folder)
    unfinished.rename(folder)
    return note, ""


def _gather(
    corpus: Corpus,
    notes: dict[str, dict[str, Any]],
    reasons: dict[str, str],
    rules: CutRules,
    n_made: int,
    n_kept: int,
) -> CutResult:
    """Tables of what was cut, in the order of the corpus."""
    known = [c for c in corpus.index.columns if c not in OF_THE_WHOLE]
    rows: list[dict[str, Any]] = []
    recordings: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    for recording in corpus.index.to_dict("records"):
        path = str(recording["path"])
        if path in reasons:
            failed.append({"path": path, "reason": reasons[path]})
            continue
        note = notes[path]
        counts = _counts(path, note)
        recordings.append(counts)
        if not note["utterances"]:
            reason = f"holds no utterance of {rules.shortest:g} to {rules.longest:g} s"
            failed.append({"path": path, "reason": reason})
        for start, end in note["utterances"]:
            kept = {str(name): recording[name] for name in known}
            rows.append(
                kept
                | {"path": f"{path}/{_name(start, end, note['sr'])}", "source": path}
                | {"recording": recording.get("recording") or path}
                | _seconds(start, end, note["sr"])
            )
    return CutResult(
        make_index(rows),
        pd.DataFrame(recordings),
        pd.DataFrame(failed, columns=["path", "reason"]),
        n_made,
        n_kept,
    )


def _counts(path: str, note: dict[str, Any]) -> dict[str, Any]:
    """A row of ``recordings.csv``."""
    kept, dropped = (
        sum(end - start for start, end in note[what]) for what in ("utterances", "dropped")
    )
    return {
        "path": path,
        "duration": round(note["n"] / note["sr"], 6),
        "n_utterances": len(note["utterances"]),
        "seconds_kept": round(kept / note["sr"], 6),
        "n_dropped": len(note["dropped"]),
        "seconds_dropped": round(dropped / note["sr"], 6),
        "seconds_silent": round((note["n"] - kept - dropped) / note["sr"], 6),
        "n_forced": note["n_forced"],
        "n_clipped": note["n_clipped"],
    }


def _seconds(start: int, end: int, sr: int) -> dict[str, Any]:
    """Where an utterance lies in its recording."""
    return {
        "start": round(start / sr, 6),
        "end": round(end / sr, 6),
        "duration": round((end - start) / sr, 6),
        "sr": sr,
    }


def _name(start: int, end: int, sr: int) -> str:
    """File name of an utterance: from when to when, s; they sort by time below 2 h 46 min."""
    return f"{start / sr:08.3f}-{end / sr:08.3f}.flac"


def _stamp(source: Path) -> list[int]:
    """Size in bytes and time of change in ns.

    Raises
    ------
    AudioError : no such file
    """
    try:
        status = source.stat()
    except OSError as error:
        raise AudioError(f"{source}: cannot be opened ({error.strerror})") from error
    return [status.st_size, status.st_mtime_ns]
