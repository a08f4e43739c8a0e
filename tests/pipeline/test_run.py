"""A whole run in one call: the same as `langid-train`, with callbacks and a result object."""

import json
import subprocess
import sys
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from fastai.callback.core import Callback

import langid_fastai as lf
from langid_fastai.callbacks.loggers import LOGS, MLflowCallback
from langid_fastai.cli.options import Log
from langid_fastai.pipeline.result import TrainResult
from langid_fastai.pipeline.run_folder import Run

MEL = {"sr": 8000, "clip_seconds": 1.0, "n_fft": 256, "hop_length": 128, "n_mels": 32}
NETWORK = {"arch": "spectrogram_cnn-w4-d2", "weights": "none", "epochs": (1, 1, 1)}
OPTIONS = (
    *("--arch", NETWORK["arch"], "--weights", "none", "--epochs", "1,1,1", "--jobs", 1),
    *("--device", "cpu", "--precision", "fp32"),
    *(x for name, value in MEL.items() for x in (f"--{name.replace('_', '-')}", value)),
)
ON_CPU = lf.TrainSettings(device="cpu", precision="fp32")
TIMES = {"seconds", "date"}


class Count(Callback):
    """Counts the stages and epochs that it is called for."""

    n_stages = n_epochs = 0

    def before_fit(self):
        self.n_stages += 1

    def after_epoch(self):
        self.n_epochs += 1


class FakeMLflow:
    """Record what is logged to MLflow."""

    told: ClassVar[list] = []

    @classmethod
    def log_metrics(cls, numbers, step):
        cls.told.append((step, set(numbers)))


@pytest.fixture(scope="module")
def called(corpus, tmp_path_factory):
    """Result of one call, its callback, and the lines that it printed."""
    count, lines = Count(), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "mlflow", FakeMLflow)
        result = lf.train(
            corpus,
            out=tmp_path_factory.mktemp("called") / "run",
            **NETWORK,
            cbs=[count, MLflowCallback()],
            settings=ON_CPU,
            mel=MEL,
            n_jobs=1,
            tell=lines.append,
        )
    return result, count, lines


def without_times(content):
    if isinstance(content, dict):
        return {k: without_times(v) for k, v in content.items() if k not in TIMES}
    return [without_times(x) for x in content] if isinstance(content, list) else content


def test_the_call_and_the_command_do_the_same(called, corpus, tmp_path, langid):
    result, _, lines = called
    code, out, err = langid(corpus, "--out", tmp_path / "run", *OPTIONS)
    assert code == 0, err
    mine = {p.relative_to(result.folder) for p in result.folder.rglob("*") if p.is_file()}
    theirs = {p.relative_to(tmp_path / "run") for p in (tmp_path / "run").rglob("*")}
    assert mine == {p for p in theirs if (tmp_path / "run" / p).is_file()}
    for name in ("index.csv", "predictions.csv", "images/images.csv", "model/model.safetensors"):
        assert (result.folder / name).read_bytes() == (tmp_path / "run" / name).read_bytes(), name
    metrics = [
        json.loads((f / "metrics.json").read_text()) for f in (result.folder, tmp_path / "run")
    ]
    assert without_times(metrics[0]["test"]) == without_times(metrics[1]["test"])
    assert [line.split()[0] for line in lines if line[0] != " "] == [
        line.split()[0] for line in out.splitlines() if line[0] != " "
    ]


def test_the_corpus_is_reported_before_slow_imports(corpus, tmp_path):
    """The import of torch and fastai takes seconds, in which a user would see nothing."""
    code = (
        "import sys, langid_fastai as lf\n"
        "slow = {'torch', 'fastai', 'torchvision', 'matplotlib', 'sklearn', 'librosa'}\n"
        "def tell(line):\n"
        "    print(line.split()[0], *sorted(slow & set(sys.modules)))\n"
        "    if line.startswith('found'): sys.exit()\n"
        "try: lf.train('nothing', epochs=(1,))\n"
        "except lf.RunError: print('wrong epochs', *sorted(slow & set(sys.modules)))\n"
        "lf.train(*sys.argv[1:2], out=sys.argv[2], arch='resnet18', weights='none', tell=tell)"
    )
    argv = [sys.executable, "-c", code, corpus, tmp_path / "run"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    first, *lines = done.stdout.splitlines()
    assert first == "wrong epochs"
    assert [line for line in lines if " " in line] == []  # no name of a slow module
    assert {"reading", "corpus", "found"} <= {*lines}


def test_callbacks_are_called_in_every_stage(called):
    _, count, _ = called
    assert (count.n_stages, count.n_epochs) == (3, 3)


def test_each_epoch_is_logged_to_mlflow(called):
    values = {"train_loss", "valid_loss", "accuracy"}
    assert FakeMLflow.told == [(step, values) for step in range(3)]


def test_the_result_contains_what_was_written(called):
    result, _, _ = called
    assert result.metrics == json.loads((result.folder / "metrics.json").read_text())
    assert result.accuracy == result.metrics["test"]["recordings"]["accuracy"]
    assert result.report.exists()
    assert isinstance(lf.LanguageIdentifier.load(result.model), lf.LanguageIdentifier)
    assert len(result.failed) == 0
    assert f"accuracy={result.accuracy:.4f}" in repr(result)


def test_a_notebook_shows_metrics_and_confusion(called):
    html = called[0]._repr_html_()
    assert f"<td>{called[0].accuracy:.4f}</td>" in html
    assert 'src="data:image/png;base64,iVBOR' in html
    test = called[0].metrics["test"]
    assert f"<th>Always answering {test['answers']['largest']}</th>" in html
    assert f"<td>{test['recordings']['balanced_accuracy']:.4f}</td>" in html


def test_a_result_escapes_markup(tmp_path):
    rates = {"accuracy": 0.5, "accuracy_wilson": [0.1, 0.9]}
    answers = {"largest": "<b>", "largest_share": 0.5, "always": "<b>", "never": []}
    test = {"n_recordings": 2, "recordings": rates, "answers": answers}
    metrics = {"run": {"arch": "<b>"}, "test": test}
    html = TrainResult(tmp_path / "<i>", metrics, None, pd.DataFrame())._repr_html_()
    assert "<b>" not in html
    assert "The model always answers &lt;b&gt;" in html
    assert "<i>" not in html
    assert "not tested" in repr(TrainResult(tmp_path, {}, None, pd.DataFrame()))


def test_the_same_call_resumes_and_another_is_refused(called, corpus):
    result, _, _ = called
    count, more = Count(), {"settings": ON_CPU, "mel": MEL, "n_jobs": 1, "tell": lambda line: None}
    again = lf.train(corpus, out=result.folder, **NETWORK, cbs=[count], **more)
    assert count.n_epochs == 0
    assert again.accuracy == result.accuracy
    with pytest.raises(lf.RunError, match="lr was None"):
        lf.train(corpus, out=result.folder, **NETWORK, lr=1e-3, **more)


def test_a_run_is_evaluated_again(called):
    result, _, _ = called
    lines = []
    again = lf.evaluate_run(result.folder, device="cpu", n_jobs=1, tell=lines.append)
    assert np.isclose(again.accuracy, result.accuracy)
    assert lines[-1] == f"model      {result.model}"


def test_a_wrong_setting_is_refused_before_any_work(corpus, tmp_path):
    for wrong in ({"epochs": (1,)}, {"lr": 20.0}, {"settings": lf.TrainSettings(mixup=11)}):
        with pytest.raises(lf.RunError):
            lf.train(corpus, out=tmp_path / "run", **wrong)
    assert not (tmp_path / "run").exists()


def test_one_seed_applies_to_all_settings(corpus, tmp_path, monkeypatch):
    jobs = []
    monkeypatch.setattr("langid_fastai.pipeline.run.train_and_test", jobs.append)
    lf.train(corpus, seed=7, arch="m5", mel={"sr": 8000})
    assert jobs[0].corpus.seed == jobs[0].settings.seed == 7
    assert (jobs[0].mel.kind, jobs[0].mel.sr) == ("waveform", 8000)


@pytest.mark.parametrize("tool", LOGS)
def test_a_missing_log_tool_is_one_line(tool, corpus, tmp_path, langid, monkeypatch):
    monkeypatch.setattr("langid_fastai.callbacks.loggers.find_spec", lambda name: None)
    code, _, err = langid(corpus, "--out", tmp_path / "run", "--log", tool)
    assert code == 1
    missing = f"--log {tool} needs {tool}, which is not installed"
    assert err == f"error: {missing}: pip install {tool}\n"
    assert not (tmp_path / "run").exists()


def test_the_command_line_offers_every_log_tool():
    assert tuple(Log) == LOGS


def test_a_run_reads_its_files_once_and_sees_changes(called, monkeypatch):
    run = Run(called[0].folder)
    first = run.corpus()
    monkeypatch.setattr("langid_fastai.pipeline.run_folder.read_index", lambda file: 1 / 0)
    first.index["language"] = "changed"  # of the caller's copy alone
    assert set(run.corpus().index["language"]) == {"de", "es"}
    run.index.touch()
    with pytest.raises(ZeroDivisionError):
        run.corpus()


def test_a_notebook_shows_progress_in_one_line(monkeypatch):
    from langid_fastai.utils import progress

    shown = []

    class Handle:
        def update(self, content, raw):
            shown.append(content["text/plain"])

    def display(content, raw, display_id):
        shown.append(content["text/plain"])
        return Handle()

    monkeypatch.setattr(progress, "in_notebook", lambda: True)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_UPDATES", 0.0)
    monkeypatch.setitem(sys.modules, "IPython.display", type("D", (), {"display": display}))
    assert list(progress.track("abc", total=3, what="work")) == ["a", "b", "c"]
    assert [line.partition(",")[0] for line in shown] == ["work: 1 of 3", "work: 2 of 3", ""]
