"""Write a model card from the metrics of a run: the ``README.md`` of a model folder.

The card must be understandable with only the model folder. If the folder is uploaded to Hugging
Face, the card is its page: front matter in YAML (languages, licence, results), and Markdown.

Conventions
-----------
- Values are read from ``metrics.json``, and image settings from ``model.json``. Values in the front
  matter are not rounded; rates on the page have 4 digits.
- Names of files, corpora and labels are untrusted. Every value is escaped to plain text on one
  line, unless a filter in this module has returned it as `Markdown`.
- For privacy, the card has the name of the corpus without its folder, and the number of speakers
  without their names.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import yaml
from langcodes import Language

from langid_fastai.clips.export import SUFFIXES
from langid_fastai.corpus import LANGUAGE
from langid_fastai.corpus.labels import label_words
from langid_fastai.corpus.language_codes import is_language_code
from langid_fastai.errors import ModelError
from langid_fastai.models.folder import read_info
from langid_fastai.report.advice import advise, shortfall
from langid_fastai.utils.files import write_whole

__all__ = ["validate_license", "write_card"]

LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]*")  # identifiers of the Hub: mit, cc-by-4.0, openrail++

# Key in `metrics.json`, identifier of the metric on the Hub, and name in the card.
RESULTS = (
    ("accuracy", "accuracy", "accuracy"),
    ("macro_f1", "f1", "macro F1"),
    ("eer", "eer", "equal error rate"),
    ("cavg", "cavg", "Cavg"),
)
MEASURES = (
    ("accuracy", "accuracy"),
    ("balanced_accuracy", "balanced accuracy"),
    ("macro_f1", "macro F1"),
    ("eer", "equal error rate"),
    ("cavg", "Cavg"),
    ("min_cavg", "Cavg at the best threshold"),
    ("log_loss", "log loss"),
    ("ece", "expected calibration error"),
)


class Markdown(str):
    """Text that is already Markdown and must not be escaped again."""


def write_card(folder: Path, metrics: Mapping[str, Any], *, license: str) -> Path:
    """Write ``README.md``, a Hugging Face model card, into a model folder.

    Parameters
    ----------
    folder : model folder, which contains ``model.json``
    metrics : content of ``metrics.json``
    license : licence of the model, as an identifier of the Hub, e.g. ``mit``, ``cc-by-4.0`` or
        ``unknown``

    Returns
    -------
    card : path of ``README.md``

    Raises
    ------
    ModelError : `license` does not have the form of an identifier, or the folder contains no model
    """
    validate_license(license)
    mel = read_info(folder).mel
    page = _template().render(
        metrics,
        **label_words(metrics["corpus"]),
        license=license,
        labels=metrics["test"]["confusion"]["labels"],
        mel=mel,
        suffix=SUFFIXES[mel.kind],
        measures=MEASURES,
        shortfall=shortfall(metrics),
        advice=advise(metrics["corpus"], metrics["run"], metrics),
    )
    front_matter = yaml.safe_dump(
        _front_matter(metrics, license), sort_keys=False, allow_unicode=True, width=10_000
    )
    path = folder / "README.md"
    write_whole(f"---\n{front_matter}---\n\n{page}".encode(), path)
    return path


def validate_license(license: str) -> None:
    """Raise `ModelError` unless the licence has the form of a Hub identifier."""
    if not LICENSE.fullmatch(license):
        raise ModelError(
            f"license={license!r} must be a lower-case identifier, such as apache-2.0, "
            "cc-by-4.0, other or unknown; see https://huggingface.co/docs/hub/repositories-licenses"
        )


def _front_matter(metrics: Mapping[str, Any], license: str) -> dict[str, Any]:
    """Make the metadata for the Hub; the format is documented in hub-docs, modelcard.md."""
    run, test, corpus = metrics["run"], metrics["test"], metrics["corpus"]
    words, labels = label_words(corpus), test["confusion"]["labels"]
    of_languages = words["noun"] == LANGUAGE
    codes = filter(is_language_code, labels if of_languages else ())
    task = words["task"][:1].lower() + words["task"][1:]
    leaked = ", on a leaked split" if corpus["leaks"] else ""
    home = _result(task, corpus["source"], test["recordings"], leaked)
    home["dataset"]["split"] = "test"
    by_clip = _metric("accuracy", test["clips"]["accuracy"], f"accuracy by clip{leaked}")
    home["metrics"].append(by_clip)
    others = [
        _result(task, other["source"], other["there"], "") for other in metrics.get("other", ())
    ]
    return {
        "language": list(dict.fromkeys(str(Language.get(code).language) for code in codes)),
        "license": license,
        "library_name": "fastai",
        "pipeline_tag": "audio-classification",
        "tags": [task.replace(" ", "-"), "langid_fastai", "audio", "fastai"],
        "metrics": [identifier for _, identifier, _ in RESULTS],
        "model-index": [
            {
                "name": _one_line(f"{run['arch']} on {_corpus_name(corpus['source'])}"),
                "results": [home, *others],
            }
        ],
    }


def _result(task: str, source: str, rates: Mapping[str, Any], remark: str) -> dict[str, Any]:
    """Make the metadata of one test result: rates by recording on one corpus."""
    name = _corpus_name(source)
    identifier = re.sub(r"[^A-Za-z0-9._/-]+", "-", name).strip("-./") or "corpus"
    return {
        "task": {"type": "audio-classification", "name": task},
        "dataset": {"name": name, "type": identifier},
        "metrics": [
            _metric(identifier, rates[key], f"{words} by recording{remark}")
            for key, identifier, words in RESULTS
            if rates[key] is not None
        ],
    }


def _metric(identifier: str, value: float, name: str) -> dict[str, Any]:
    return {"type": identifier, "value": float(value), "name": name}


def _corpus_name(source: str) -> str:
    """Return the name of a corpus: ``owner/dataset`` on Kaggle, or the last part of a path."""
    prefix, _, handle = source.partition("kaggle:")
    name = handle if handle and not prefix else re.split(r"[/\\]", source.rstrip("/\\"))[-1]
    return _one_line(name) or "corpus"


@cache  # compiling takes longer than filling
def _template() -> jinja2.Template:
    """Load the card template; rendering escapes all values and fails if one is missing."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=False,  # would escape HTML only; `finalize` escapes Markdown and HTML
        finalize=_make_safe,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "rate": lambda x: "–" if x is None else f"{x:.4f}",
        "interval": lambda x: "–" if x is None else f"{x[0]:.4f} to {x[1]:.4f}",
        "signed": lambda x: Markdown(f"{x:+.4f}".replace("-", "\N{MINUS SIGN}")),
        "number": lambda x: f"{x:,}" if isinstance(x, int) else f"{x:g}",
        "plural": lambda n, noun: f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s",
        "corpus_name": _corpus_name,
        "code_block": _code_block,
    }
    return environment.get_template("model_card.md.j2")


def _make_safe(value: Any) -> Any:
    """Escape text so that Markdown shows it unchanged in paragraphs, lists and tables."""
    if not isinstance(value, str) or isinstance(value, Markdown):
        return value
    text = html.escape(_one_line(value), quote=False)
    text = re.sub(r"([\\`*_{}\[\]#~!$])", r"\\\1", text).replace("|", "&#124;")
    # Characters that, at the start of a line, begin a list, a rule or a heading.
    return re.sub(r"^([-+=:]|\d+[.)](?=\s|$))", lambda m: f"{m[0][:-1]}\\{m[0][-1]}", text)


def _code_block(text: str) -> Markdown:
    """Format a fenced code block; its fence is longer than any run of backticks in the text."""
    line = _one_line(text)
    longest = max(map(len, re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return Markdown(f"{fence}\n{line}\n{fence}")


def _one_line(text: str) -> str:
    """Remove line breaks, and replace control characters and lone surrogates."""
    return "".join(
        "\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) in ("Cc", "Cs") else c
        for c in " ".join(text.split())
    )
