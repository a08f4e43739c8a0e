"""Segments of a timeline → text that other programs read.

Conventions: `segments` is what `LanguageIdentifier.timeline` gives, or a part of it. Times are
seconds with three decimals, scores have four: more would be noise.

Contents: `to_json`, `to_csv`, `to_rttm`, `to_labels`, and `rounded`, which they are made of.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from pathlib import Path

from langid_fastai.inference.timeline import Segment

__all__ = ["rounded", "to_csv", "to_json", "to_labels", "to_rttm"]

TIME_DIGITS, SCORE_DIGITS = 3, 4
COLUMNS = ("start", "end", "label", "score")


def rounded(segments: Iterable[Segment]) -> list[Segment]:
    """Round times to milliseconds and scores to four decimals; what touched, still touches.

    Examples
    --------
    >>> rounded([Segment(start=0.0, end=2.49999, label="es", score=0.97531)])
    [{'start': 0.0, 'end': 2.5, 'label': 'es', 'score': 0.9753}]
    """
    return [
        Segment(
            start=round(segment["start"], TIME_DIGITS),
            end=round(segment["end"], TIME_DIGITS),
            label=segment["label"],
            score=round(segment["score"], SCORE_DIGITS),
        )
        for segment in segments
    ]


def to_json(segments: Iterable[Segment]) -> str:
    """Write a JSON array, in one line.

    Examples
    --------
    >>> print(to_json([Segment(start=0.0, end=2.5, label="es", score=0.97531)]), end="")
    [{"start": 0.0, "end": 2.5, "label": "es", "score": 0.9753}]
    """
    return json.dumps(rounded(segments), ensure_ascii=False) + "\n"


def to_csv(segments: Iterable[Segment]) -> str:
    """Write a table with a header.

    Examples
    --------
    >>> print(to_csv([Segment(start=0.0, end=2.5, label="es", score=0.97531)]), end="")
    start,end,label,score
    0.0,2.5,es,0.9753
    """
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(rounded(segments))
    return text.getvalue()


def to_rttm(segments: Iterable[Segment], recording: str | Path, channel: int = 1) -> str:
    """Write Rich Transcription Time Marked lines, as scorers of diarization read them.

    The ten columns are type, file, channel, start and duration (s), orthography, subtype, name,
    confidence, and lookahead. NIST knows no type for languages, so the type is ``SPEAKER`` and the
    name is the language, as scorers want it; the confidence is the score.

    Parameters
    ----------
    recording : file or name of the recording; the column has the name without folder and suffix,
        and with ``_`` for white space, which separates columns
    channel : channel number, from 1

    References
    ----------
    NIST, "The 2009 (RT-09) Rich Transcription Meeting Recognition Evaluation Plan", appendix A.
    https://github.com/nryant/dscore reads it.

    Examples
    --------
    >>> found = [Segment(start=0.0, end=2.5, label="es", score=0.97531)]
    >>> print(to_rttm(found, "calls/call 1.mp3"), end="")
    SPEAKER call_1 1 0.000 2.500 <NA> <NA> es 0.9753 <NA>
    """
    name = _one_word(Path(recording).stem)
    return "".join(
        f"SPEAKER {name} {channel} {segment['start']:.3f} {segment['end'] - segment['start']:.3f} "
        f"<NA> <NA> {_one_word(segment['label'])} {segment['score']:.4f} <NA>\n"
        for segment in rounded(segments)
    )


def to_labels(segments: Iterable[Segment]) -> str:
    """Write a label track for Audacity (File, Import, Labels): start, end and label, with tabs.

    References
    ----------
    https://manual.audacityteam.org/man/importing_and_exporting_labels.html

    Examples
    --------
    >>> to_labels([Segment(start=0.0, end=2.5, label="es", score=0.97531)])
    '0.000000\\t2.500000\\tes\\n'
    """
    return "".join(
        f"{segment['start']:.6f}\t{segment['end']:.6f}\t{' '.join(segment['label'].split())}\n"
        for segment in rounded(segments)
    )


def _one_word(text: str) -> str:
    return "_".join(text.split())
