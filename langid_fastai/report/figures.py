"""Draw the figures of the report page with matplotlib.

The values to draw are arguments, from ``metrics.json``. Figures are narrow, so that they can be
read on a phone. A `Palette` contains the colours for a light or a dark page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

__all__ = [
    "Palette",
    "LIGHT",
    "DARK",
    "curves_figure",
    "confusion_figure",
    "det_figure",
    "reliability_figure",
    "length_figure",
    "robustness_figure",
]

MAX_ANNOTATED = 15  # with more languages, numbers in the confusion matrix are too small to read
MAX_LABEL = 14  # characters of a label in a figure; the tables have the full label
MAX_WORDS = 27  # characters in each of the two lines that name a condition
WIDTH = 4.85  # width of a figure, inches; 466 CSS pixels, half the page

# Ticks of a detection error tradeoff curve; 0 and 1 are at infinity on that scale.
DET_TICKS = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6)
DET_LOWEST = 0.0007  # lower rates are drawn here; below one error in 1000 trials


@dataclass(frozen=True)
class Palette:
    """Colours of a figure.

    Parameters
    ----------
    ground, ink, line : colours of the background, the text and the grid
    soft, accent : colours of secondary and of main data
    shares : colour map for fractions from 0 to 1 in the confusion matrix
    """

    ground: str
    ink: str
    line: str
    soft: str
    accent: str
    shares: tuple[str, ...]


LIGHT = Palette(
    ground="#ffffff",
    ink="#1f2933",
    line="#e6e9ee",
    soft="#8a94a3",
    accent="#0f766e",
    shares=("#ffffff", "#9fd3cd", "#0f766e", "#083f3b"),
)
DARK = Palette(
    ground="#1a2129",
    ink="#dbe1e8",
    line="#2e3843",
    soft="#7e8b99",
    accent="#5cc9be",
    shares=("#1a2129", "#1f4f4f", "#2f9188", "#8be0d6"),
)


def curves_figure(history: pd.DataFrame, palette: Palette = LIGHT) -> Figure:
    """Draw loss, accuracy and learning rate over the epochs of all stages.

    Parameters
    ----------
    history : one row per epoch, in training order, with the columns of ``history.csv``
    """
    figure = Figure(figsize=(WIDTH, 5.8), layout="constrained")
    loss, accuracy, rate = figure.subplots(
        3, 1, sharex=True, gridspec_kw={"height_ratios": [3, 3, 2]}
    )
    epoch = np.arange(1, len(history) + 1)
    style: dict[str, Any] = {"marker": "o", "markersize": 3.5, "linewidth": 1.8}

    loss.plot(epoch, history["train_loss"], color=palette.soft, label="training", **style)
    loss.plot(epoch, history["valid_loss"], color=palette.accent, label="validation", **style)
    loss.set_ylim(bottom=0)
    loss.legend(frameon=False, fontsize=9, labelcolor=palette.ink)
    accuracy.plot(epoch, history["accuracy"], color=palette.accent, **style)
    rate.plot(epoch, history["lr"], color=palette.soft, **style)
    if (history["lr"] > 0).any():
        rate.set_yscale("log")
    rate.set_xlabel("epoch, counted over all stages")
    rate.set_xlim(0.5, len(history) + 0.5)
    rate.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes, name in ((loss, "loss"), (accuracy, "validation accuracy"), (rate, "learning rate")):
        axes.set_ylabel(name)
        _quiet(axes, palette, grid="y")
    _mark_stages([loss, accuracy, rate], history["stage"].tolist(), palette)
    figure.align_ylabels()
    return figure


def confusion_figure(
    labels: Sequence[str],
    matrix: Sequence[Sequence[int]],
    palette: Palette = LIGHT,
    *,
    noun: str = "language",
    truth: str = "language spoken",
) -> Figure:
    """Draw a confusion matrix: counts as numbers, fractions of each row as colour.

    Parameters
    ----------
    labels : (n_languages,), names of rows and columns
    matrix : counts, (n_languages, n_languages); rows are true languages
    noun, truth : words for a label and for the true label, in the axis titles
    """
    counts = np.asarray(matrix)
    spoken = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(spoken, 1)  # the row of a language without recordings is 0
    n = len(labels)
    size = float(np.clip(2.2 + 0.42 * n, 4.4, 9.5))  # inches
    figure = Figure(figsize=(1.15 * size, size), layout="constrained")
    axes = figure.subplots()
    colours = LinearSegmentedColormap.from_list("shares", palette.shares)
    image = axes.imshow(shares, cmap=colours, vmin=0, vmax=1)
    bar = figure.colorbar(image, ax=axes, shrink=0.7)
    bar.set_label("fraction of the row", color=palette.ink)
    bar.ax.tick_params(length=0, colors=palette.ink)
    bar.outline.set_visible(False)

    short = [_short(label, MAX_LABEL) for label in labels]
    upright = n > MAX_ANNOTATED or max(map(len, short)) > 3
    font = 11 if n <= MAX_ANNOTATED else 8.5
    axes.set_xticks(range(n), short, rotation=90 if upright else 0, fontsize=font, parse_math=False)
    axes.set_yticks(range(n), short, fontsize=font, parse_math=False)
    axes.set_xlabel(f"predicted {noun}")
    axes.set_ylabel(truth)
    axes.set_xticks(np.arange(n - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(n - 1) + 0.5, minor=True)
    axes.grid(which="minor", color=palette.line, linewidth=0.8)
    axes.tick_params(which="minor", length=0)
    _quiet(axes, palette)
    if n <= MAX_ANNOTATED:
        _write_counts(axes, counts, shares, palette)
    return figure


def det_figure(
    false_alarm: Sequence[float], miss: Sequence[float], eer: float, palette: Palette = LIGHT
) -> Figure:
    """Draw a detection error tradeoff curve (Martin et al. 1997), with the equal error rate.

    Both axes are on the scale of normal deviates, so normally distributed scores give a straight
    line.

    Parameters
    ----------
    false_alarm, miss : rates at each threshold, (n_points,)
    eer : equal error rate
    """
    from scipy.stats import norm

    def place(rates: Any) -> np.ndarray:
        return norm.ppf(np.clip(rates, DET_LOWEST, 1 - DET_LOWEST))

    # From the fewest false alarms to the fewest misses.
    order = np.lexsort((-np.asarray(miss), np.asarray(false_alarm)))
    x, y = place(false_alarm)[order], place(miss)[order]
    ends = place([DET_LOWEST, DET_TICKS[-1]])
    # Do not draw along the edges of the axes, where a rate is off the scale.
    first = max(0, int(np.count_nonzero(x <= ends[0])) - 1)
    last = len(y) - max(0, int(np.count_nonzero(y <= ends[0])) - 1)

    figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
    axes = figure.subplots()
    axes.plot(ends, ends, color=palette.soft, linewidth=1, linestyle=(0, (4, 3)))
    axes.plot(x[first:last], y[first:last], color=palette.accent, linewidth=2)
    axes.plot(place([eer]), place([eer]), "o", color=palette.ink, markersize=7, clip_on=False)
    axes.annotate(
        f"EER {eer:.4f}",
        (float(place(eer)), float(place(eer))),
        xytext=(10, 8),
        textcoords="offset points",
        color=palette.ink,
        fontweight="bold",
        bbox={"facecolor": palette.ground, "edgecolor": "none", "pad": 1.5},
    )
    ticks, names = place(DET_TICKS), [f"{100 * tick:g}" for tick in DET_TICKS]
    axes.set_xticks(ticks, names)
    axes.set_yticks(ticks, names)
    axes.set_xlim(*ends)
    axes.set_ylim(*ends)
    axes.set_xlabel("false alarms, %")
    axes.set_ylabel("misses, %")
    _quiet(axes, palette, grid="both")
    return figure


def reliability_figure(
    before: dict[str, Any], after: dict[str, Any], palette: Palette = LIGHT
) -> Figure:
    """Draw reliability diagrams: accuracy against confidence.

    Parameters
    ----------
    before, after : parts of the section `calibration`; `ece` and `reliability` are used. Each bin
        is a dot at its mean confidence and accuracy, with a line to the diagonal and its number of
        recordings below
    """
    figure = Figure(figsize=(WIDTH, 3.7), layout="constrained")
    panels = figure.subplots(
        2, 2, sharex=True, sharey="row", gridspec_kw={"height_ratios": [4, 1.1]}
    )
    for column, (name, calibration) in enumerate((("before", before), ("after", after))):
        diagram, counts = panels[:, column]
        bins = pd.DataFrame(calibration["reliability"])
        diagram.plot([0, 1], [0, 1], color=palette.soft, linewidth=1, linestyle=(0, (4, 3)))
        diagram.vlines(
            bins["confidence"], bins["confidence"], bins["accuracy"], color=palette.soft, lw=2
        )
        diagram.plot(bins["confidence"], bins["accuracy"], "o", color=palette.accent, clip_on=False)
        title = f"{name}: ECE {calibration['ece']:.4f}"
        diagram.set_title(title, fontsize=10.5, color=palette.ink)
        diagram.set_xlim(0, 1)
        diagram.set_ylim(0, 1)
        diagram.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "0.5", "", "1"])
        counts.bar(
            bins["low"], bins["n"], bins["high"] - bins["low"], align="edge", color=palette.accent,
            edgecolor=palette.ground,
        )  # fmt: skip
        counts.yaxis.set_major_locator(MaxNLocator(nbins=2, integer=True))
        counts.set_xlabel("highest probability")
        _quiet(diagram, palette, grid="both")
        _quiet(counts, palette, grid="y")
    panels[0, 0].set_ylabel("accuracy")
    panels[1, 0].set_ylabel("recordings")
    figure.align_ylabels()
    return figure


def length_figure(cuts: Sequence[dict[str, Any]], palette: Palette = LIGHT) -> Figure:
    """Draw the accuracy with its interval against the length of speech.

    Parameters
    ----------
    cuts : conditions from the section `robustness` that have `seconds`, at least two
    """
    cuts = sorted(cuts, key=lambda cut: cut["seconds"])
    seconds = [cut["seconds"] for cut in cuts]
    accuracy = [cut["accuracy"] for cut in cuts]
    low, high = np.transpose([interval_of(cut) for cut in cuts])
    figure = Figure(figsize=(WIDTH, 3.3), layout="constrained")
    axes = figure.subplots()
    axes.fill_between(seconds, low, high, color=palette.accent, alpha=0.18, linewidth=0)
    style: dict[str, Any] = {"marker": "o", "markersize": 5, "linewidth": 2, "clip_on": False}
    axes.plot(seconds, accuracy, color=palette.accent, **style)
    axes.set_xticks(seconds, [f"{x:g}" for x in seconds])
    axes.set_xlim(left=0)
    axes.set_ylim(max(0, min(low) - 0.05), 1)
    axes.set_xlabel("speech, s")
    axes.set_ylabel("accuracy of clips")
    _quiet(axes, palette, grid="y")
    return figure


def robustness_figure(conditions: Sequence[dict[str, Any]], palette: Palette = LIGHT) -> Figure:
    """Draw the accuracy with its interval under each condition, and a line at the clean accuracy.

    Parameters
    ----------
    conditions : from the section `robustness`; the first is the clean test
    """
    place = np.arange(len(conditions))
    accuracy = np.array([row["accuracy"] for row in conditions])
    low, high = np.transpose([interval_of(row) for row in conditions])
    figure = Figure(figsize=(WIDTH, 0.7 + 0.34 * len(conditions)), layout="constrained")
    axes = figure.subplots()
    axes.axvline(accuracy[0], color=palette.soft, linewidth=1, linestyle=(0, (4, 3)))
    axes.hlines(place, low, high, color=palette.accent, linewidth=4, alpha=0.35)
    axes.plot(accuracy, place, "o", color=palette.accent, markersize=6, clip_on=False)
    names = [fill(row["words"], MAX_WORDS, max_lines=2, placeholder="…") for row in conditions]
    axes.set_yticks(place, names, fontsize=8.5, parse_math=False)
    axes.invert_yaxis()
    axes.set_xlim(max(0, low.min() - 0.03), 1)
    axes.set_xlabel("accuracy of clips")
    _quiet(axes, palette, grid="x")
    return figure


def interval_of(row: dict[str, Any]) -> tuple[float, float]:
    """Return the interval of an accuracy: bootstrap, or Wilson's if there is only one group."""
    low, high = row["accuracy_bootstrap"] or row["accuracy_wilson"]
    return low, high


def _short(label: object, n: int) -> str:
    text = str(label)
    return text if len(text) <= n else text[: n - 1] + "…"


def _quiet(axes: Axes, palette: Palette, *, grid: Any = None) -> None:
    """Remove the frame, soften ticks and labels, and draw a grid along ``x``, ``y`` or ``both``."""
    axes.set_facecolor(palette.ground)
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
    axes.tick_params(length=0, colors=palette.ink)
    axes.xaxis.label.set_color(palette.ink)
    axes.yaxis.label.set_color(palette.ink)
    axes.set_axisbelow(True)
    if grid:
        axes.grid(axis=grid, color=palette.line, linewidth=0.8)


def _mark_stages(panels: list[Axes], stages: list[str], palette: Palette) -> None:
    """Write the names of stages above the first panel, and draw their boundaries in all panels."""
    starts = [i for i, stage in enumerate(stages) if i == 0 or stage != stages[i - 1]]
    for start, end in zip(starts, [*starts[1:], len(stages)], strict=True):
        panels[0].text(
            (start + end + 1) / 2,  # the middle; epoch i + 1 is at x = i + 1
            1.03,
            stages[start],
            transform=panels[0].get_xaxis_transform(),
            ha="center",
            color=palette.ink,
            fontsize=10,
            fontweight="bold",
            parse_math=False,
        )
        for axes in panels if start else []:
            axes.axvline(start + 0.5, color=palette.soft, linewidth=1, linestyle=(0, (4, 3)))


def _write_counts(axes: Axes, counts: np.ndarray, shares: np.ndarray, palette: Palette) -> None:
    """Write the counts into the cells, in a size that fits."""
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
            color=palette.ground if shares[row, column] > 0.5 else palette.ink,
            alpha=1 if counts[row, column] else 0.45,
        )
