"""Render the model description and the result for a recording as HTML, with a spectrogram.

Labels are escaped, since they may come from an untrusted model folder.

Contents: `about_html` for the model, `result_html` for a recording, `error_html` for an error;
`sentence` formats an error message; `STYLE` is the style sheet.
"""

from __future__ import annotations

import base64
import io
from functools import cache
from itertools import cycle
from pathlib import Path

import jinja2
import librosa
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from langid_fastai.app.result import Limits, Result
from langid_fastai.errors import LangidError
from langid_fastai.inference.posterior import UNKNOWN
from langid_fastai.models.model_info import ModelInfo
from langid_fastai.preprocessing import MelConfig

__all__ = ["STYLE", "about_html", "error_html", "result_html", "sentence"]

TEMPLATES = Path(__file__).parent / "templates"
STYLE = (TEMPLATES / "style.css.j2").read_text(encoding="utf-8")

N_SHOWN = 10  # languages in the table; the others share one row
# Colours of languages in the timeline: the colour-blind-safe scheme *bright* of P. Tol, "Colour
# schemes", SRON/EPS/TN/09-002, 2021. The table below the timeline lists the same segments.
COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377")
TICKS = (125, 250, 500, 1000, 2000, 4000, 8000, 16_000, 32_000)  # Hz
MIN_GAP = 0.055  # fraction of the height between two ticks, so that their labels do not touch
SIZE = (5.0, 2.6)  # inches; small, so that the text is readable on a phone
DPI = 220  # sharp on screens with two pixels per CSS pixel, 600 CSS pixels wide


def about_html(info: ModelInfo, limits: Limits) -> str:
    """Render the description of the model, its limits, and the limits of an upload."""
    return _environment().get_template("about.html.j2").render(info=info, limits=limits)


def result_html(result: Result, info: ModelInfo) -> str:
    """Render the answer, the probabilities, the timeline and the spectrogram of a recording."""
    languages = [answer for answer in result.answers if answer["label"] != UNKNOWN]
    spoken = dict.fromkeys(segment["label"] for segment in result.timeline)
    page = _environment().get_template("result.html.j2")
    return page.render(
        result=result,
        is_unknown=len(languages) < len(result.answers),
        shown=languages[:N_SHOWN],
        rest=languages[N_SHOWN:],
        colours=dict(zip(spoken, cycle(COLOURS))),
        spectrogram=_uri(_spectrogram(result.image, info.mel, result.offset)),
        clip_seconds=info.mel.clip_seconds,
        clip_end=result.offset + info.mel.clip_seconds,
    )


def error_html(reason: str) -> str:
    """Render the reason why there is no answer, to show in its place."""
    return _environment().get_template("error.html.j2").render(reason=reason)


def sentence(error: LangidError) -> str:
    """Format an error message as a sentence.

    Examples
    --------
    >>> sentence(LangidError("silent from start to end"))
    'Silent from start to end.'
    """
    words = str(error)
    return f"{words[:1].upper()}{words[1:]}."


@cache  # the environment keeps compiled templates
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["clock"] = _clock
    return environment


def _clock(seconds: float) -> str:
    """Format seconds as minutes and seconds.

    >>> _clock(65)
    '1:05.0'
    """
    tenths = round(seconds * 10)
    return f"{tenths // 600}:{tenths % 600 // 10:02}.{tenths % 10}"


def _spectrogram(image: np.ndarray, mel: MelConfig, offset: float) -> Figure:
    """Draw an input image of the network with axes in seconds and Hz."""
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    top = len(image) - 0.5  # in bands
    axes.imshow(
        image,
        extent=(offset, offset + mel.clip_seconds, -0.5, top),
        aspect="auto",
        cmap="magma",
        interpolation="nearest",
    )
    edges = librosa.hz_to_mel(np.array([mel.fmin, mel.highest]))
    # Band i is centred on edge i + 1 of n_mels + 2, see `mel_filters`.
    bands = np.interp(librosa.hz_to_mel(np.array(TICKS)), edges, (-1, len(image)))
    ticks: list[tuple[float, int]] = []
    for band, hz in zip(bands, TICKS, strict=True):
        is_apart = not ticks or band - ticks[-1][0] > MIN_GAP * len(image)
        if mel.fmin < hz < mel.highest and is_apart:
            ticks.append((band, hz))
    axes.set_yticks([band for band, _ in ticks], [f"{hz:,}".replace(",", " ") for _, hz in ticks])
    axes.set_ylim(-0.5, top)
    axes.set_xlabel("time, s")
    axes.set_ylabel("frequency, Hz")
    axes.tick_params(labelsize=9)
    axes.spines[:].set_visible(False)
    return figure


def _uri(figure: Figure) -> str:
    stream = io.BytesIO()
    FigureCanvasAgg(figure).print_figure(stream, format="png", dpi=DPI)
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"
