"""Cut a corpus of long recordings into utterances, at pauses.

::

    utterances/index.csv                                     one row per utterance
    utterances/recordings.csv                                one row per recording, with counts
    utterances/failed.csv                                    recordings without an utterance
    utterances/cut.json                                      the rules
    utterances/de/interview.mp3/0012.340-0019.220.flac       a folder per recording, by its path

`langid_fastai.corpus.make.pauses` chooses where to cut. A recording is read twice, block by block,
once for its levels and once for its samples, so memory use does not grow with its length.

By default, the mean of the channels of a recording is cut. Instead, one channel can be cut, or each
channel separately, at its own pauses and into its own folder (``…/interview.mp3/channel2/…``). With
each channel, `speaker` is empty, since it is only known for the recording as a whole, and all
channels stay in one group.

An utterance is mono FLAC at the sampling rate of its recording, with 24 bits if the recording has
more than 16, else 16. It inherits speaker, split, group and all other columns of its recording. Its
`recording` is the path of the recording, unless that is itself a variant of another; so all
utterances of a recording stay in one split, and by default the recording is the group.

Cutting can be killed and resumed: the folder of a recording appears atomically, and is regenerated
if the recording has changed (by size and modification time). The same recordings and rules give the
same bytes.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from langid_fastai.audio.channels import EACH, Channel, channel_number
from langid_fastai.audio.files import (
    count_channels,
    excerpts,
    native_format,
    stream_audio,
    write_sound,
)
from langid_fastai.audio.levels import is_silent
from langid_fastai.corpus import MEASURED
from langid_fastai.corpus.index import Corpus, make_index, write_index
from langid_fastai.corpus.make.pauses import find_cuts, frame_powers
from langid_fastai.corpus.make.settings import CutRules
from langid_fastai.errors import AudioError, CorpusError
from langid_fastai.utils.files import UNFINISHED, file_stamp, write_json
from langid_fastai.utils.folder_lock import taken
from langid_fastai.utils.parallel import in_processes, validate_jobs
from langid_fastai.utils.progress import track
from langid_fastai.utils.settings_note import keep_settings
from langid_fastai.utils.task_limits import TaskFailure, alive

__all__ = ["CutResult", "cut_corpus"]

RULES = "cut.json"
HIGHEST_FLAC_SR = 655_350  # Hz; RFC 9639, 8.2, and libsndfile
NOTE = ".cut.json"  # in the folder of a recording; hidden, so that no reader counts it as a file
# Columns that describe the whole recording, not an utterance.
OF_THE_WHOLE = (*MEASURED, "start", "end", "recording", "source")


class Task(NamedTuple):
    """A recording, or one of its channels, to be cut into a folder."""

    path: str
    channel: int | None
    folder: str


@dataclass(frozen=True)
class CutResult:
    """The result of cutting a corpus.

    Parameters
    ----------
    index : one row per utterance, with `recording`, `source` (the path it was cut from), `start`,
        `end` and `duration` (s)
    recordings : one row per readable recording: `path`, `duration` (s), `n_utterances`,
        `seconds_kept`, `n_dropped` and `seconds_dropped` (speech too short for an utterance),
        `seconds_silent` (removed pauses), `n_forced` (cuts outside any pause), `n_clipped`
        (samples beyond full scale, which FLAC cannot store); if each channel is cut, one row per
        channel, with a column `channel`
    failed : recordings without an utterance: `path`, `reason`
    n_made, n_kept : number of recordings cut now, and in earlier calls
    """

    index: pd.DataFrame
    recordings: pd.DataFrame
    failed: pd.DataFrame
    n_made: int
    n_kept: int


def cut_corpus(
    corpus: Corpus,
    folder: str | Path,
    rules: CutRules = CutRules(),
    *,
    channel: Channel | None = None,
    n_jobs: int = -1,
) -> CutResult:
    """Cut the recordings of a corpus into utterances, except those that were cut before.

    Parameters
    ----------
    corpus : corpus from `read_corpus`, split or not
    folder : output folder; new, empty, or from an earlier call with the same rules
    rules : limits of pauses and utterances
    channel : "left", "right", the number of a channel, from 1, or "each" to cut every channel
        separately; default: the mean of all channels
    n_jobs : number of processes; -1 for all cores

    Returns
    -------
    result : tables, which are also written to `folder`

    Raises
    ------
    CorpusError : `folder` contains something else or is inside the corpus, or no recording yields
        an utterance
    AudioError : `channel` is invalid
    RunError : `n_jobs` is 0

    Examples
    --------
    ::

        result = cut_corpus(read_corpus("interviews"), "utterances")
        langid-train utterances/index.csv
    """
    folder = Path(folder)
    validate_jobs(n_jobs)
    if channel != EACH:
        channel = channel_number(channel)
    if folder.resolve().is_relative_to(corpus.root.resolve()):
        raise CorpusError(
            f"{folder} is inside the corpus {corpus.root}, where its utterances would count as "
            "recordings; choose a folder outside"
        )
    with taken(folder, RULES, CorpusError):
        noted = asdict(rules) | ({} if channel is None else {"channel": channel})
        keep_settings(folder / RULES, noted, CorpusError, "utterances cut with other rules")
        tasks = [task for path in corpus.index["path"] for task in _tasks(corpus, path, channel)]
        return _cut(corpus, folder, rules, tasks, n_jobs)


def _tasks(corpus: Corpus, path: str, channel: int | str | None) -> list[Task]:
    """Return the tasks of a recording; a single one, which will fail, if it is unreadable."""
    if not isinstance(channel, str):
        return [Task(path, channel, path)]
    try:
        numbers = range(1, count_channels(corpus.root / path) + 1)
    except AudioError:
        numbers = range(1, 2)
    return [Task(path, number, f"{path}/channel{number}") for number in numbers]


def _cut(
    corpus: Corpus, folder: Path, rules: CutRules, tasks: list[Task], n_jobs: int
) -> CutResult:
    """Cut the recordings that have not been cut yet, in a locked folder."""
    notes: dict[Task, dict[str, Any] | str] = {
        task: note
        for task in tasks
        if (note := _kept(corpus.root / task.path, folder / task.folder))
    }
    todo = [task for task in tasks if task not in notes]
    n_kept = len(notes)
    work = partial(_cut_recording, corpus.root.absolute(), folder.absolute(), rules)
    done = in_processes(work, todo, n_jobs=n_jobs)
    for task, made in track(done, total=len(todo), what="cutting", unit="recordings"):
        notes[task] = made.reason if isinstance(made, TaskFailure) else made
    result = _gather(corpus, {task: notes[task] for task in tasks}, rules, n_kept)
    write_index(result.failed, folder / "failed.csv")
    if result.index.empty:
        raise CorpusError(
            f"{corpus.root}: no recording yields an utterance of {rules.shortest:g} to "
            f"{rules.longest:g} s; see {folder / 'failed.csv'} for the reasons"
        )
    write_index(result.recordings, folder / "recordings.csv")
    write_index(result.index, folder / "index.csv")
    return result


def _kept(source: Path, folder: Path) -> dict[str, Any] | None:
    """Return the note of a recording that was cut before; None if it is changed or incomplete."""
    note = folder / NOTE
    if not note.exists() or not source.exists():
        return None
    noted = json.loads(note.read_text(encoding="utf-8"))
    names = [_name(start, end, noted["sr"]) for start, end in noted["utterances"]]
    is_whole = all((folder / name).exists() for name in names)
    return noted if is_whole and noted["stamp"] == [*file_stamp(source)] else None


def _cut_recording(root: Path, out: Path, rules: CutRules, task: Task) -> dict[str, Any] | str:
    """Cut one recording into a folder, atomically; return its note, or the reason for a failure.

    The name of the folder includes the suffix of the file, so that ``anna.wav`` and
    ``anna/001.wav`` do not collide.
    """
    source, folder, channel = root / task.path, out / task.folder, task.channel
    unfinished = folder.with_name(f".{folder.name}{UNFINISHED}")  # next to it, on the same disk
    shutil.rmtree(unfinished, ignore_errors=True)  # left by a killed run
    try:
        stamp, (sr, bits) = file_stamp(source), native_format(source)
        if sr > HIGHEST_FLAC_SR:
            raise AudioError(f"{sr} Hz is above the limit of FLAC, {HIGHEST_FLAC_SR}; resample it")
        powers, n = frame_powers(alive(stream_audio(source, sr=sr, channel=channel)), sr)
        cuts = find_cuts(powers, n, sr, rules)
        unfinished.mkdir(parents=True)
        kept, n_clipped = [], 0
        blocks = alive(stream_audio(source, sr=sr, channel=channel))
        for (start, end), y in excerpts(blocks, cuts.utterances):
            if not is_silent(y, sr):  # such as mains hum
                kept.append((start, end))
                n_clipped += int((np.abs(y) > 1).sum())
                write_sound(unfinished / _name(start, end, sr), y, sr, subtype=f"PCM_{bits}")
        if cuts.utterances and not kept:
            raise AudioError("silent: there is nothing to cut")
    except AudioError as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        return str(error).removeprefix(f"{source}: ")
    note = asdict(replace(cuts, utterances=kept))
    note |= {"stamp": stamp, "sr": sr, "n": n, "n_clipped": n_clipped}
    write_json(unfinished / NOTE, note)
    if folder.exists():  # from before the recording changed
        shutil.rmtree(folder)
    unfinished.rename(folder)
    return note


def _gather(
    corpus: Corpus, notes: dict[Task, dict[str, Any] | str], rules: CutRules, n_kept: int
) -> CutResult:
    """Build the tables, in the order of the corpus.

    Parameters
    ----------
    notes : the note of each task, or the reason for its failure
    """
    known = [c for c in corpus.index.columns if c not in OF_THE_WHOLE]
    rows: list[dict[str, Any]] = []
    recordings: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    index = {str(recording["path"]): recording for recording in corpus.index.to_dict("records")}
    for (path, channel, folder), note in notes.items():
        recording = index[path]
        of_channel: dict[str, Any] = {} if folder == path else {"channel": channel}
        if isinstance(note, str):
            named = f"channel {channel}: {note}" if of_channel else note
            failed.append({"path": path, "reason": named})
            continue
        recordings.append({"path": path} | of_channel | _counts(note))
        if not note["utterances"]:
            reason = f"has no utterance of {rules.shortest:g} to {rules.longest:g} s"
            failed.append({"path": path, "reason": reason})
        for start, end in note["utterances"]:
            kept = {str(name): recording[name] for name in known}
            rows.append(
                kept
                | {"path": f"{folder}/{_name(start, end, note['sr'])}", "source": path}
                | {"recording": recording.get("recording") or path}
                | _seconds(start, end, note["sr"])
                | (of_channel | {"speaker": ""} if of_channel else {})
            )
    return CutResult(
        make_index(rows),
        pd.DataFrame(recordings),
        pd.DataFrame(failed, columns=["path", "reason"]),
        n_made=len(notes) - n_kept,
        n_kept=n_kept,
    )


def _counts(note: dict[str, Any]) -> dict[str, Any]:
    """Return the row of a recording in ``recordings.csv``."""
    n, sr = note["n"], note["sr"]
    kept, dropped = (
        sum(end - start for start, end in note[what]) for what in ("utterances", "dropped")
    )
    return {
        "duration": round(n / sr, 6),
        "n_utterances": len(note["utterances"]),
        "seconds_kept": round(kept / sr, 6),
        "n_dropped": len(note["dropped"]),
        "seconds_dropped": round(dropped / sr, 6),
        "seconds_silent": round((n - kept - dropped) / sr, 6),
        "n_forced": note["n_forced"],
        "n_clipped": note["n_clipped"],
    }


def _seconds(start: int, end: int, sr: int) -> dict[str, Any]:
    """Return the position of an utterance in its recording."""
    return {
        "start": round(start / sr, 6),
        "end": round(end / sr, 6),
        "duration": round((end - start) / sr, 6),
        "sr": sr,
    }


def _name(start: int, end: int, sr: int) -> str:
    """Return the file name of an utterance: start and end, s; sorts by time up to 2 h 46 min."""
    return f"{start / sr:08.3f}-{end / sr:08.3f}.flac"
