"""Voices of a corpus → mixtures of 1 to N of them, labelled by how many speak.

::

    langid corpus mix LibriSpeech --out mixtures --speakers 5 --n 100000
    langid-train mixtures/index.csv --arch m5 --weights none --sr 8000 --clip-seconds 5

    mixtures/train/3/000002.flac      three voices
    mixtures/index.csv                one row a mixture, as `read_corpus` takes it
    mixtures/mix.json                 the settings, and a hash of the voices: who, where, how long
    mixtures/mixtures.csv, failed.csv what is made, for going on after a break; what could not be

What overlap and level mean, and how one mixture is made, stands in
`langid_fastai.corpus.make.mixture`.

The source's split says who may be mixed: voices of one side only, so no voice stands on two sides.
The column `group` is found from the voices, not from the side: mixtures that share a voice,
directly or through others, are one group, named by one of their voices. So `audit_split` sees a
mixture on the wrong side. As many voices meet, a side is usually one group; its figures then have
no interval over groups.

The other columns: `speakers`, `sexes` (``MMF``, in that order; U where unknown), `n_female` and
`n_male`; `overlap`, `stretch` (its length, s); and, with ``|`` between the voices, `levels` (dB),
`begins` (s in the mixture), `sources` and `starts` (s in the source). From these and ``mix.json``
`remake_mixture` makes the mixture again.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from langid_fastai.corpus import TEST, VALID
from langid_fastai.corpus.groups import SEPARATOR, is_usable, join_groups
from langid_fastai.corpus.index import (
    SPLITS,
    Corpus,
    count,
    make_index,
    measure_audio,
    write_index,
)
from langid_fastai.corpus.make.mixture import MixConfig, Voice, plan_mixture, write_mixture
from langid_fastai.corpus.readers.recognise import read_corpus
from langid_fastai.corpus.split import audit_split, split_corpus
from langid_fastai.errors import CorpusError
from langid_fastai.utils.files import UNFINISHED, keep_choices, taken, write_whole
from langid_fastai.utils.parallel import Died, in_processes, validate_jobs
from langid_fastai.utils.progress import track

__all__ = ["mix_corpus", "read_voices"]

NOTE, JOURNAL = "mix.json", "mixtures.csv"
COLUMNS = (
    *("path", "language", "split", "number", "speakers", "sexes", "n_female", "n_male"),
    *("overlap", "stretch", "levels", "begins", "sources", "starts", "reason"),
)


def read_voices(
    source: str | Path,
    *,
    root: str | Path | None = None,
    speaker: str | None = None,
    valid: float = VALID,
    test: float = TEST,
    seed: int = 0,
) -> Corpus:
    """Read, measure and split a corpus for mixing: by speaker and gender, whatever the language.

    Parameters
    ----------
    source, root, speaker : see `read_corpus`; one language is enough
    valid, test, seed : see `split_corpus`

    Returns
    -------
    corpus : its `language` is ``speech`` throughout

    Raises
    ------
    CorpusError : see `read_corpus`, `split_corpus`
    """
    corpus = read_corpus(source, root=root, speaker=speaker, one_language=True)
    corpus = corpus.with_index(corpus.index.assign(language="speech"))
    return split_corpus(measure_audio(corpus), valid=valid, test=test, seed=seed)


def mix_corpus(
    corpus: Corpus, folder: str | Path, config: MixConfig = MixConfig(), *, n_jobs: int = -1
) -> Corpus:
    """Make the mixtures, or those that are missing.

    Parameters
    ----------
    corpus : from `read_voices`: measured and split, with speakers; its clean recordings are used
    folder : made if need be; must be empty, or hold mixtures of the same corpus and settings
    n_jobs : processes; -1 for all cores

    Returns
    -------
    corpus : the mixtures; its notes tell how many voices each side has, how many mixtures repeat an
        utterance, and how many could not be made

    Raises
    ------
    CorpusError : speakers are not known, stand on two sides, or are too few on one; or the folder
        holds something else
    RunError : no process to work with

    Examples
    --------
    ::

        mixtures = mix_corpus(read_voices("LibriSpeech"), "mixtures", MixConfig(speakers=3))
    """
    validate_jobs(n_jobs)
    folder = Path(folder)
    cast = _cast(corpus, config)
    with taken(folder, NOTE, CorpusError):
        _claim(folder, cast, config)
        return _mix(corpus, folder, config, cast, n_jobs)


def _mix(
    corpus: Corpus, folder: Path, config: MixConfig, cast: dict[str, list[Voice]], n_jobs: int
) -> Corpus:
    """Make what is missing, in a folder that is ours alone."""
    rows = _kept(folder)
    for side in SPLITS:
        for n in range(1, config.speakers + 1):
            (folder / side / str(n)).mkdir(parents=True, exist_ok=True)
    todo = [
        (side, number)
        for side, size in config.sizes.items()
        for number in range(size)
        if (side, number) not in rows
    ]
    write_whole(_csv_text(rows.values(), header=True).encode(), folder / JOURNAL)
    plans = (plan_mixture(cast[side], side, number, config) for side, number in todo)
    work = partial(write_mixture, corpus.root.absolute(), folder.absolute(), config=config)
    results = in_processes(work, plans, n_jobs=n_jobs)
    with (folder / JOURNAL).open("a", encoding="utf-8", newline="") as stream:
        for plan, made in track(results, total=len(todo), what="mixtures"):
            row = plan | {"starts": "", "reason": made.reason} if isinstance(made, Died) else made
            stream.write(_csv_text([row]))
            stream.flush()
            rows[row["split"], row["number"]] = row
    in_order = sorted(rows.values(), key=lambda row: row["path"])
    write_whole(_csv_text(in_order, header=True).encode(), folder / JOURNAL)
    return _index(folder, in_order, cast, config)


def _cast(corpus: Corpus, config: MixConfig) -> dict[str, list[Voice]]:
    """Who may be mixed, by side, in order of their names."""
    index = corpus.index
    if (leaks := audit_split(corpus)).shape[0]:
        raise CorpusError(
            f"{corpus.root}: {leaks.iloc[0]['kind']} {leaks.iloc[0]['name']!r} stands in "
            f"{leaks.iloc[0]['sides']}; mixtures would leak. Split it anew (langid corpus split)"
        )
    usable = index[is_usable(index) & (index["speaker"] != "") & index["duration"].notna()]
    for column in ("speaker", "path"):
        if spoilt := [name for name in usable[column].unique() if SEPARATOR in name]:
            raise CorpusError(
                f"{column} {spoilt[0]!r} must not hold {SEPARATOR!r}, which stands between the "
                "voices of a mixture; rename it"
            )
    cast: dict[str, list[Voice]] = {}
    for side in SPLITS:
        by_speaker = usable[usable["split"] == side].sort_values("path").groupby("speaker")
        cast[side] = [_voice(str(name), rows) for name, rows in by_speaker]
        if len(cast[side]) < config.speakers:
            way_out = (
                f"mix fewer (--speakers), or give {side} more of the recordings (--valid, --test)"
                if cast[side]
                else "tell who speaks, by --speaker or in the column 'speaker' of an index CSV"
            )
            raise CorpusError(
                f"{corpus.root}: {count(len(cast[side]), 'known speaker')} for {side}, and "
                f"mixtures of {config.speakers} need as many on each side; {way_out}"
            )
    return cast


def _voice(name: str, rows: pd.DataFrame) -> Voice:
    gender = str(rows["gender"].iloc[0]).strip()[:1].upper() if "gender" in rows else ""
    sex = gender if gender in ("F", "M") else "U"
    return Voice(name, sex, list(rows["path"]), rows["duration"].to_numpy(dtype=float))


def _claim(folder: Path, cast: dict[str, list[Voice]], config: MixConfig) -> None:
    """Note settings and voices, or see that they are the same; remove what a kill left."""
    digest = hashlib.blake2b(repr(_plain(cast)).encode(), digest_size=8).hexdigest()
    choices = asdict(config) | {"voices": digest}
    keep_choices(folder / NOTE, choices, CorpusError, "other mixtures")
    for left_by_a_kill in folder.rglob(f"*{UNFINISHED}"):
        left_by_a_kill.unlink()


def _plain(cast: dict[str, list[Voice]]) -> list[tuple[str, list[tuple[Any, ...]]]]:
    """All that plans are drawn from."""
    return [
        (side, [(v.name, v.sex, v.paths, v.durations.tolist()) for v in voices])
        for side, voices in cast.items()
    ]


def _kept(folder: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """Rows of mixtures that were made before and are still there; a torn last line is none."""
    journal = folder / JOURNAL
    content = journal.read_bytes() if journal.exists() else b""
    whole = content[: content.rfind(b"\n") + 1].decode()
    return {
        (row["split"], int(row["number"])): row | {"number": int(row["number"])}
        for row in csv.DictReader(io.StringIO(whole))
        if not row["reason"] and (folder / row["path"]).exists()
    }


def _csv_text(rows: Iterable[dict[str, Any]], *, header: bool = False) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def _index(
    folder: Path, rows: list[dict[str, Any]], cast: dict[str, list[Voice]], config: MixConfig
) -> Corpus:
    """Write ``index.csv`` and ``failed.csv``, in the order of the rows."""
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    failed = table[table["reason"] != ""]
    write_index(failed[["path", "sources", "reason"]], folder / "failed.csv")
    made = table[table["reason"] == ""].drop(columns="reason")
    if made.empty:
        raise CorpusError(f"{folder}: no mixture could be made; see {folder / 'failed.csv'}")
    made = made.assign(group=_groups(made), duration=config.seconds, sr=config.sr)
    index = make_index(made.to_dict("records"))
    write_index(index, folder / "index.csv")
    notes = [
        f"{side}: {count(int((made['split'] == side).sum()), 'mixture')} of "
        f"{count(len(voices), 'voice')}"
        for side, voices in cast.items()
    ]
    if n_repeating := int((_shortest(made, cast) < made["stretch"].astype(float)).sum()):
        notes.append(
            f"{count(n_repeating, 'mixture')} with an utterance repeated, for it is shorter than "
            "its stretch; with shorter mixtures (--seconds) there are fewer"
        )
    if len(failed):
        notes.append(f"{count(len(failed), 'mixture')} could not be made: see failed.csv")
    return Corpus(folder, index, f"mixtures of 1 to {config.speakers} speakers", tuple(notes))


def _shortest(made: pd.DataFrame, cast: dict[str, list[Voice]]) -> pd.Series:
    """Length of the shortest utterance in each mixture, s."""
    seconds = {
        path: duration
        for voices in cast.values()
        for voice in voices
        for path, duration in zip(voice.paths, voice.durations, strict=True)
    }
    return made["sources"].map(lambda text: min(seconds[x] for x in text.split(SEPARATOR)))


def _groups(made: pd.DataFrame) -> pd.Series:
    """Mixtures that share a voice, directly or through others, named by the first of their voices.

    Not by a mixture: of other mixtures under the same names it must be another group.
    """
    voices = made["speakers"].str.split(SEPARATOR).explode()
    by_voice = pd.DataFrame({"group": voices, "recording": made["path"].loc[voices.index]})
    joined = join_groups(by_voice.reset_index(drop=True), keys=["recording"])
    return pd.Series(joined.to_numpy(), index=voices.index).groupby(level=0).first()
