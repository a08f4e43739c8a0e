"""A run folder in, one web page out that a reader can check and pass on.

`write_report` reads what training and evaluation left in the folder, draws ``curves.png`` and
``confusion.png`` beside it, and writes ``report.html``. The page holds its pictures as ``data:``
URIs, loads nothing and runs no script, so it can be sent as a single file.

Conventions
-----------
- Every figure on the page is read from ``metrics.json``; nothing is computed anew but differences
  and counts. Rates have 4 digits.
- Names of files, speakers and languages come from strangers: Jinja2 escapes all of them, labels in
  pictures are drawn without mathematical typesetting, and images are taken from the run's
  ``images`` folder only.
- Pictures have a white ground, so they read on a light and on a dark page.

Contents
--------
`write_report`, `curves_figure`, `confusion_figure`
"""

from __future__ import annotations

import base64
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from langid_fastai.errors import RunError

__all__ = ["write_report", "curves_figure", "confusion_figure"]

# Who makes the files a report is made of.
MAKERS = {
    "metrics.json": "`langid evaluate RUN` makes it",
    "predictions.csv": "`langid evaluate RUN` makes it",
    "history.csv": "`langid-train` makes it",
}
SECTIONS = ("run", "corpus", "training", "test")  # of metrics.json; `published` may be absent
TEXT_COLUMNS = ("path", "language", "speaker", "group", "predicted", "stage")  # of the tables
HISTORY_COLUMNS = ("stage", "epoch", "train_loss", "valid_loss", "accuracy", "lr", "seconds")

MAX_SPEAKERS = 30  # rows of the speaker table
MAX_ANNOTATED = 15  # with more languages, numbers in the confusion picture are too small to read
MAX_LABEL = 14  # characters of a label in a picture; the tables show all of it

ACCENT, GREY, INK = "#0f766e", "#8a94a3", "#1f2933"
SHARES = LinearSegmentedColormap.from_list("shares", ["#ffffff", "#9fd3cd", ACCENT, "#083f3b"])
DPI = 192  # two pixels a CSS pixel, for sharp screens


def write_report(folder: Path) -> Path:
    """Write ``report.html``, ``curves.png`` and ``confusion.png`` into a run folder.

    Parameters
    ----------
    folder : holds ``metrics.json``, ``history.csv`` and ``predictions.csv``, and ``images/``

    Returns
    -------
    page : path of ``report.html``

    Raises
    ------
    RunError : a file is missing, unreadable or empty, or the files are of different tests
    """
    metrics = _read_metrics(folder / "metrics.json")
    history = _read_table(folder / "history.csv", HISTORY_COLUMNS)
    test = metrics["test"]
    labels, matrix = test["confusion"]["labels"], test["confusion"]["matrix"]
    scores = [f"p_{label}" for label in labels]
    predictions = _read_table(
        folder / "predictions.csv", ("path", "language", "predicted", *scores)
    )
    _validate_predictions(folder, predictions, test)

    page = _template().render(
        metrics,
        labels=labels,
        n_correct=int(np.trace(matrix)),
        curves=_picture(curves_figure(history), folder / "curves.png"),
        confusion=_picture(confusion_figure(labels, matrix), folder / "confusion.png"),
        mistakes=_mistakes(folder / "images", test["top_losses"], predictions),
        max_speakers=MAX_SPEAKERS,
    )
    path = folder / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


def curves_figure(history: pd.DataFrame) -> Figure:
    """Draw loss, accuracy and learning rate over the epochs of all stages.

    Parameters
    ----------
    history : one row an epoch, in the order of training, with `HISTORY_COLUMNS`
    """
    figure = Figure(figsize=(5.4, 6.2), layout="constrained")  # inches, narrow: read on a phone
    loss, accuracy, rate = figure.subplots(
        3, 1, sharex=True, gridspec_kw={"height_ratios": [3, 3, 2]}
    )
    epoch = np.arange(1, len(history) + 1)
    style: dict[str, Any] = {"marker": "o", "markersize": 3.5, "linewidth": 1.8}

    loss.plot(epoch, history["train_loss"], color=GREY, label="training", **style)
    loss.plot(epoch, history["valid_loss"], color=ACCENT, label="validation", **style)
    loss.set_ylim(bottom=0)
    loss.legend(frameon=False, fontsize=9)
    accuracy.plot(epoch, history["accuracy"], color=ACCENT, **style)
    rate.plot(epoch, history["lr"], color=GREY, **style)
    if (history["lr"] > 0).any():
        rate.set_yscale("log")
    rate.set_xlabel("epoch, counted over all stages", color=INK)
    rate.set_xlim(0.5, len(history) + 0.5)
    rate.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes, name in ((loss, "loss"), (accuracy, "validation accuracy"), (rate, "learning rate")):
        axes.set_ylabel(name, color=INK)
        _quiet(axes)
        axes.grid(axis="y", color="#e6e9ee", linewidth=0.8)
    _mark_stages([loss, accuracy, rate], history["stage"].tolist())
    figure.align_ylabels()
    return figure


def confusion_figure(labels: Sequence[str], matrix: Sequence[Sequence[int]]) -> Figure:
    """Draw a confusion matrix: counts as numbers, shares of each row as colour.

    Parameters
    ----------
    labels : (n_languages,)
    matrix : counts, (n_languages, n_languages), rows = truth
    """
    counts = np.asarray(matrix)
    spoken = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(spoken, 1)  # a language nobody spoke has a white row
    n = len(labels)
    size = float(np.clip(2.2 + 0.42 * n, 4.4, 9.5))  # inches
    figure = Figure(figsize=(size + 0.6, size), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap=SHARES, vmin=0, vmax=1)
    bar = figure.colorbar(image, ax=axes, shrink=0.7, label="share of the row")
    bar.outline.set_visible(False)

    short = [x if len(x) <= MAX_LABEL else x[: MAX_LABEL - 1] + "…" for x in map(str, labels)]
    upright = n > MAX_ANNOTATED or max(map(len, short)) > 3
    font = 11 if n <= MAX_ANNOTATED else 8.5
    axes.set_xticks(range(n), short, rotation=90 if upright else 0, fontsize=font, parse_math=False)
    axes.set_yticks(range(n), short, fontsize=font, parse_math=False)
    axes.set_xlabel("language named", color=INK)
    axes.set_ylabel("language spoken", color=INK)
    axes.set_xticks(np.arange(n - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(n - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="#e6e9ee", linewidth=0.8)
    axes.tick_params(which="minor", length=0)
    _quiet(axes)
    if n <= MAX_ANNOTATED:
        _write_counts(axes, counts, shares)
    return figure


def _quiet(axes: Axes) -> None:
    """Take away the frame, and soften what is left."""
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
    axes.tick_params(length=0, colors=INK)
    axes.set_axisbelow(True)


def _mark_stages(panels: list[Axes], stages: list[str]) -> None:
    """Name the stages above the first panel, and draw their borders through all panels."""
    starts = [i for i, stage in enumerate(stages) if i == 0 or stage != stages[i - 1]]
    for start, end in zip(starts, [*starts[1:], len(stages)], strict=True):
        panels[0].text(
            (start + end + 1) / 2,  # the middle; epoch i + 1 stands at i + 1
            1.03,
            stages[start],
            transform=panels[0].get_xaxis_transform(),
            ha="center",
            color=INK,
            fontsize=10,
            fontweight="bold",
            parse_math=False,
        )
        for axes in panels if start else []:
            axes.axvline(start + 0.5, color=GREY, linewidth=1, linestyle=(0, (4, 3)))


def _write_counts(axes: Axes, counts: np.ndarray, shares: np.ndarray) -> None:
    """Write the counts into the cells, as large as the cells allow."""
    n = len(counts)
    size = float(np.clip(60 / n, 8.5, 13))  # points
    for row, column in np.ndindex(counts.shape):
        axes.text(
            column,
            row,
            str(counts[row, column]),
            ha="center",
            va="center",
            fontsize=size,
            color="white" if shares[row, column] > 0.5 else INK,
            alpha=1 if counts[row, column] else 0.45,
        )


def _picture(figure: Figure, path: Path) -> dict[str, Any]:
    """Save a figure, and return what the page needs to show it: URI and size in CSS pixels."""
    FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        # A script the font lacks shows as boxes; the page's tables have the label in full.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")
        figure.savefig(path, dpi=DPI, facecolor="white")
    width, height = (figure.get_size_inches() * 96).round().astype(int).tolist()
    return {"uri": _data_uri(path), "width": width, "height": height}


def _data_uri(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def _mistakes(
    images: Path, top_losses: list[dict[str, Any]], predictions: pd.DataFrame
) -> list[dict[str, Any]]:
    """Add to each of the most wrong recordings its picture, and the score of the truth."""
    rows = predictions.set_index("path")
    mistakes = []
    for mistake in top_losses:
        image = (images / mistake["image"]).resolve()
        is_ours = image.is_relative_to(images.resolve()) and image.is_file()
        uri = _data_uri(image) if is_ours else ""
        truth_score = float(rows.loc[mistake["path"], f"p_{mistake['language']}"])
        mistakes.append({**mistake, "truth_score": truth_score, "uri": uri})
    return mistakes


def _template() -> jinja2.Template:
    """The page: it escapes whatever it is given, and stops at a name the metrics do not have."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
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
        "duration": _duration,
        "plural": lambda n, noun: f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s",
    }
    return environment.get_template("report.html.j2")


def _duration(seconds: float) -> str:
    """Say seconds as one would, such as ``1 h 5 min``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _read_metrics(path: Path) -> dict[str, Any]:
    """Read ``metrics.json``, of which at least the sections must be there."""
    _require(path)
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{path}: not readable as JSON ({error}); {MAKERS[path.name]}") from error
    missing = [section for section in SECTIONS if section not in metrics]
    if missing:
        raise RunError(f"{path}: lacks the sections {missing}; {MAKERS[path.name]}")
    return metrics


def _read_table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read a CSV with at least one row; labels stay text, so ``nan`` (Min Nan) is a language."""
    _require(path)
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    except ValueError as error:
        raise RunError(f"{path}: not readable as CSV ({error}); {MAKERS[path.name]}") from error
    missing = [column for column in columns if column not in table]
    if missing or table.empty:
        lack = f"the columns {missing}" if missing else "any row"
        raise RunError(f"{path}: lacks {lack}; {MAKERS[path.name]}")
    for column in table.columns.difference(TEXT_COLUMNS):
        table[column] = pd.to_numeric(table[column], errors="coerce")
    return table


def _require(path: Path) -> None:
    if not path.is_file():
        raise RunError(f"{path}: is missing; {MAKERS[path.name]}")


def _validate_predictions(folder: Path, predictions: pd.DataFrame, test: dict[str, Any]) -> None:
    """Refuse predictions that ``metrics.json`` was not computed from."""
    n_correct = int((predictions["language"] == predictions["predicted"]).sum())
    told = (int(np.trace(test["confusion"]["matrix"])), test["n_recordings"])
    paths = {loss["path"] for loss in test["top_losses"]}
    if (n_correct, len(predictions)) != told or not paths <= set(predictions["path"]):
        raise RunError(
            f"{folder}: predictions.csv has {n_correct} of {len(predictions)} recordings right, "
            f"metrics.json {told[0]} of {told[1]}; they must be of one test, and "
            "`langid evaluate RUN` makes both"
        )
