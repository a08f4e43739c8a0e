"""Read and check ``metrics.json``, and fill the templates of ``report.html``."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from langid_fastai.corpus.labels import label_words
from langid_fastai.errors import AudioError, RunError
from langid_fastai.preprocessing import MelConfig
from langid_fastai.report.advice import advise, shortfall
from langid_fastai.report.figures import (
    confusion_figure,
    curves_figure,
    det_figure,
    interval_of,
    length_figure,
    reliability_figure,
    robustness_figure,
)
from langid_fastai.report.media import Picture, clip_uri, draw_picture, image_uri
from langid_fastai.utils.files import write_whole

__all__ = ["write_report"]

TEMPLATES = Path(__file__).parent / "templates"
MAKER = "`langid evaluate RUN` makes it"

# Required sections; `other`, `hub`, `robustness`, `cross_validation` and `published` are optional.
REQUIRED: dict[str, tuple[str, ...]] = {
    "run": ("command", "seed", "versions", "index_hash", "model_hash"),
    "corpus": ("source", "languages", "leaks", "held_out"),
    "training": ("stages", "history"),
    "test": (
        "costs",
        "clips",
        "recordings",
        "languages",
        "confusion",
        "answers",
        "speakers",
        "genders",
        "durations",
        "det",
        "top_losses",
        "warnings",
    ),
    "calibration": ("temperature", "before", "after"),
    "unknown": ("false_alarm_rate", "threshold", "known", "held_out"),
    "baseline": ("system", "recordings", "clips", "difference"),
}
HISTORY_COLUMNS = ("stage", "train_loss", "valid_loss", "accuracy", "lr")

N_SHOWN = 10  # tables with more rows are folded
N_CONFUSIONS = 6  # number that fits beside the matrix
MAX_SPEAKERS = 200  # rows of the speaker table; if speakers are unknown, recordings may be groups


def write_report(folder: Path, *, audio_root: Path | None = None) -> Path:
    """Write ``report.html``, ``curves.png`` and ``confusion.png`` into a run folder.

    Parameters
    ----------
    folder : run folder, which contains ``metrics.json`` and ``images/mel.json``
    audio_root : root of the corpus, to embed the audio of mistakes; None for a page without audio

    Returns
    -------
    page : path of ``report.html``

    Raises
    ------
    RunError : ``metrics.json`` is missing or unreadable, or lacks metrics because it is from an
        older version
    """
    metrics = _read_metrics(folder / "metrics.json")
    test, words = metrics["test"], label_words(metrics["corpus"])
    confusion = partial(confusion_figure, noun=words["noun"], truth=words["truth"])
    page = _template().render(
        metrics,
        **words,
        labels=test["confusion"]["labels"],
        shortfall=shortfall(metrics),
        advice=advise(metrics["corpus"], metrics["run"], metrics),
        n_correct=int(np.trace(test["confusion"]["matrix"])),
        pictures=_draw(metrics, folder, confusion),
        other_pictures=[
            draw_picture(partial(confusion, *block["confusion"].values()))
            for block in metrics.get("other", [])
        ],
        confusions=_confusions(test["confusion"]),
        cuts=_cuts(metrics),
        systems=_rank(metrics),
        mistakes=[_mistake(folder / "images", audio_root, loss) for loss in test["top_losses"]],
        n_shown=N_SHOWN,
        max_speakers=MAX_SPEAKERS,
    )
    path = folder / "report.html"
    write_whole(page.encode(), path)
    return path


def _read_metrics(path: Path) -> dict[str, Any]:
    """Read ``metrics.json`` and check that it contains all `REQUIRED` sections."""
    if not path.is_file():
        raise RunError(f"{path}: is missing; {MAKER}")
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{path}: not readable as JSON ({error}); {MAKER}") from error
    missing = [section for section in REQUIRED if section not in metrics]
    if missing:
        raise RunError(f"{path}: lacks the sections {missing}; {MAKER}")
    for section, names in REQUIRED.items():
        if lack := [name for name in names if name not in metrics[section]]:
            raise RunError(f"{path}: its section {section!r} lacks {lack}; {MAKER}")
    history = metrics["training"]["history"]
    if not history or set(HISTORY_COLUMNS) - set(history[0]):
        raise RunError(f"{path}: has no epoch of training; {MAKER}")
    return metrics


def _draw(
    metrics: dict[str, Any], folder: Path, confusion: Callable[..., Figure]
) -> dict[str, Picture]:
    """Draw all plots of the run by name, except those of other corpora."""
    test, calibration = metrics["test"], metrics["calibration"]
    history = pd.DataFrame(metrics["training"]["history"])
    counts = test["confusion"]
    confusion = partial(confusion, counts["labels"], counts["matrix"])
    eer = test["recordings"]["eer"]
    reliability = partial(reliability_figure, calibration["before"], calibration["after"])
    pictures = {
        "curves": draw_picture(partial(curves_figure, history), folder / "curves.png"),
        "confusion": draw_picture(confusion, folder / "confusion.png"),
        "reliability": draw_picture(reliability),
    }
    if eer is not None:
        det = partial(det_figure, test["det"]["false_alarm"], test["det"]["miss"], eer)
        pictures["det"] = draw_picture(det)
    if "robustness" in metrics:
        conditions = metrics["robustness"]["conditions"]
        pictures["robustness"] = draw_picture(partial(robustness_figure, conditions))
    if len(cuts := _cuts(metrics)) > 1:
        pictures["length"] = draw_picture(partial(length_figure, cuts))
    return pictures


def _cuts(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the conditions that use only the middle seconds of a clip."""
    conditions = metrics.get("robustness", {}).get("conditions", [])
    return [condition for condition in conditions if condition["seconds"] is not None]


def _confusions(confusion: dict[str, Any]) -> list[tuple[str, str, int]]:
    """Return the most frequent mistakes: true language, predicted one, number of recordings."""
    labels, matrix = confusion["labels"], confusion["matrix"]
    found = [
        (spoken, named, n)
        for spoken, row in zip(labels, matrix, strict=True)
        for named, n in zip(labels, row, strict=True)
        if n and spoken != named
    ]
    return sorted(found, key=lambda mistake: -mistake[2])[:N_CONFUSIONS]


def _rank(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """Rank published systems and this run, best first; empty if none are known for the corpus."""
    if "published" not in metrics:
        return []
    test = metrics["test"]
    ours = {
        "system": f"this run: {metrics['run']['arch']}",
        "test": test["recordings"]["accuracy"],
        "n_correct": int(np.trace(test["confusion"]["matrix"])),
        "validation": "a split with leaks" if metrics["corpus"]["leaks"] else "other speakers",
        "source": metrics["run"]["command"],
        "is_ours": True,
    }
    theirs = [system | {"is_ours": False} for system in metrics["published"]["systems"]]
    return sorted([*theirs, ours], key=lambda system: -system["test"])


def _mistake(images: Path, audio_root: Path | None, loss: dict[str, Any]) -> dict[str, Any]:
    """Return `loss` with the image and audio of its clip, if available."""
    sound, silence = "", "The page was written without audio."
    if audio_root is not None:
        try:
            config = MelConfig.read(images / "mel.json")
            sound, silence = clip_uri(audio_root, loss["path"], loss["offset"], config), ""
        except (AudioError, OSError) as error:
            silence = f"No audio: {error}."
    return {
        **loss,
        "spectrogram": image_uri(images, loss["image"]),
        "sound": sound,
        "silence": silence,
    }


@cache  # compiling takes longer than filling
def _template() -> jinja2.Template:
    """Load the page template; rendering escapes all values and fails if one is missing."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "rate": lambda x: "–" if x is None else f"{x:.4f}",
        "interval": lambda x: "undefined" if x is None else f"{x[0]:.4f} to {x[1]:.4f}",
        "signed": lambda x: f"{x:+.4f}".replace("-", "\N{MINUS SIGN}"),
        "rates": lambda x: [f"{rate:.2g}" for rate in (x if isinstance(x, list) else [x])],
        "count": lambda n: f"{n:,}",
        "duration": _duration,
        "plural": lambda n, noun: f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s",
        "sentence": lambda text: text[:1].upper() + text[1:].rstrip(".") + ".",
        "interval_of": interval_of,
    }
    return environment.get_template("report.html.j2")


def _duration(seconds: float) -> str:
    """Format a duration in seconds, e.g. as ``1 h 5 min``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
