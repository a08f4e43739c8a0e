"""Format the segments of a timeline as text for other programs.

Conventions: `segments` are those of `LanguageIdentifier.timeline`, or some of them. Times are
seconds with three decimals; scores have four.

Contents: `to_json`, `to_csv`, `to_rttm`, `to_labels`; `rounded`, which they share.
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
    """Round times to milliseconds and scores to four decimals; adjacent segments stay adjacent.

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
    """Format segments as a JSON array, in one line.

    Examples
    --------
    >>> print(to_json([Segment(start=0.0, end=2.5, label="es", score=0.97531)]), end="")
    [{"start": 0.0, "end": 2.5, "label": "es", "score": 0.9753}]
    """
    return json.dumps(rounded(segments), ensure_ascii=False) + "\n"


def to_csv(segments: Iterable[Segment]) -> str:
    """Format segments as a CSV table with a header.

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
    """Format segments as Rich Transcription Time Marked (RTTM) lines, for diarization scorers.

    The ten columns are type, file, channel, start and duration (s), orthography, subtype, name,
    confidence, and lookahead. NIST defines no type for languages, so the type is ``SPEAKER`` and
    the name is the language, as scorers expect; the confidence is the score.

    Parameters
    ----------
    recording : path or name of the recording; the file column is its name without folder and
        suffix, with ``_`` in place of white space, which separates columns
    channel : channel number, from 1

    References
    ----------
    NIST, "The 2009 (RT-09) Rich Transcription Meeting Recognition Evaluation Plan", appendix A.
    https://github.com/nryant/dscore, a scorer that reads RTTM.

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
    """Format segments as an Audacity label track: start (s), end (s) and label, tab-separated.

    To open it in Audacity, choose File, Import, Labels.

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
