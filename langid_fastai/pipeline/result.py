"""The result of a trained run, to show in a notebook or to continue with.

Contents: `TrainResult`.
"""

from __future__ import annotations

import base64
import html
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from fastai.learner import Learner

__all__ = ["TrainResult"]

# Metrics by recording in the section `test` of ``metrics.json``, with their headings.
HEADLINES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro F1",
    "eer": "EER",
    "cavg": "Cavg",
}


@dataclass(frozen=True, repr=False)
class TrainResult:
    """A trained and tested run.

    Parameters
    ----------
    folder : the run folder
    metrics : content of ``metrics.json``; in distributed training, empty on all ranks but 0, which
        alone runs the test
    learn : trained fastai Learner
    failed : recordings and clips that could not be used, with the reason

    Examples
    --------
    ::

        result = lf.train("recordings", arch="resnet18")
        result.accuracy
        result.learn.show_results()
        lf.LanguageIdentifier.load(result.model)("call.mp3")
    """

    folder: Path
    metrics: dict[str, Any]
    learn: Learner
    failed: pd.DataFrame = field(compare=False)

    @property
    def accuracy(self) -> float:
        """Fraction of the test recordings that were identified correctly."""
        return self.metrics["test"]["recordings"]["accuracy"]

    @property
    def report(self) -> Path:
        """Path of the report, an HTML file."""
        return self.folder / "report.html"

    @property
    def model(self) -> Path:
        """Path of the model folder, for `LanguageIdentifier.load` and `load_learner`."""
        return self.folder / "model"

    def __repr__(self) -> str:
        if not self.metrics:
            return f"TrainResult({str(self.folder)!r}, not tested in this process)"
        n, answers = self.metrics["test"]["n_recordings"], self.metrics["test"]["answers"]
        always = "" if answers["always"] is None else f", always answers {answers['always']}"
        return (
            f"TrainResult({str(self.folder)!r}, accuracy={self.accuracy:.4f} on {n} test "
            f"recordings{always}; largest class {answers['largest_share']:.4f}, "
            f"{len(self.failed)} failed)"
        )

    def _repr_html_(self) -> str:
        """Return the main metrics and the confusion matrix as HTML, for Jupyter."""
        if not self.metrics:
            return html.escape(repr(self))
        rates = self.metrics["test"]["recordings"]
        cells = "".join(
            f"<tr><th>{words}</th><td>{rates[name]:.4f}</td></tr>"
            for name, words in HEADLINES.items()
            if rates.get(name) is not None
        )
        answers = self.metrics["test"]["answers"]
        largest = html.escape(answers["largest"])
        cells += (
            f"<tr><th>Always answering {largest}</th><td>{answers['largest_share']:.4f}</td></tr>"
        )
        if answers["always"] is not None:
            cells += (
                f"<tr><th colspan='2'>The model always answers {html.escape(answers['always'])}"
                "</th></tr>"
            )
        low, high = rates["accuracy_wilson"]
        caption = (
            f"{html.escape(self.metrics['run']['arch'])}: {self.metrics['test']['n_recordings']} "
            f"test recordings, 95 % interval of the accuracy {low:.4f}–{high:.4f}"
        )
        picture = self.folder / "confusion.png"
        image = ""
        if picture.exists():
            data = base64.b64encode(picture.read_bytes()).decode()
            image = f'<img alt="Confusion matrix" src="data:image/png;base64,{data}">'
        where = f"<p>Report: {html.escape(str(self.report))}</p>"
        return f"<table><caption>{caption}</caption>{cells}</table>{image}{where}"
