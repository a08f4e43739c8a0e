"""The page says what metrics.json says, to anybody, and lets nobody's file name act in it."""

import copy
import functools
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from langid_fastai import evaluation, report
from langid_fastai.errors import RunError

VOCAB = ["de", "en", "es"]
VOID = {"meta", "img", "br", "link", "input", "hr"}


@pytest.fixture(autouse=True)
def coarse_pictures(monkeypatch):
    """Draw coarsely, to be quick."""
    monkeypatch.setattr(report, "DPI", 30)


@pytest.fixture(scope="module")
def plain_run(tmp_path_factory):
    """A run folder with its report, as users have it; for tests that only look."""
    folder = tmp_path_factory.mktemp("run")
    make_run(folder)
    assert report.write_report(folder) == folder / "report.html"
    return folder


@functools.cache
def make_test(
    vocab: tuple[str, ...], *, n_voices: int = 2, n_per_voice: int = 6, share_wrong: float = 0.1
) -> tuple[pd.DataFrame, np.ndarray]:
    """Clips and scores of a plausible test: two clips a recording, some of them misheard."""
    rng = np.random.default_rng(5)
    rows = [
        (f"{language}/{voice}_{i}.flac", 10.0 * clip, language, f"{language}-{voice}")
        for language in vocab
        for voice in range(n_voices)
        for i in range(n_per_voice)
        for clip in range(2)
    ]
    clips = pd.DataFrame(rows, columns=["path", "offset", "language", "speaker"])
    clips["image"] = [
        f"test/{r.path.replace('/', '_')}@{r.offset:.0f}.png" for r in clips.itertuples()
    ]
    clips["group"] = clips["speaker"]
    clips["gender"] = ["f" if voice.endswith("0") else "m" for voice in clips["speaker"]]
    named = pd.Index(vocab).get_indexer(clips["language"])
    wrong = np.repeat(rng.random(len(clips) // 2) < share_wrong, 2)
    named = np.where(wrong, (named + 1) % len(vocab), named)
    logits = rng.normal(size=(len(clips), len(vocab)))
    logits[np.arange(len(clips)), named] += 6
    return clips, logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)


@functools.cache
def make_scores(
    vocab: tuple[str, ...], *, n_voices: int, share_wrong: float
) -> tuple[dict, pd.DataFrame]:
    """The figures of that test, and its predictions.csv."""
    clips, log_probs = make_test(vocab, n_voices=n_voices, share_wrong=share_wrong)
    recordings, means = evaluation.average_clips(clips, log_probs)
    table = evaluation.predictions_table(recordings, means, vocab)
    return evaluation.evaluate(clips, log_probs, vocab), table


def make_history() -> pd.DataFrame:
    stages = ["head"] * 7 + ["all"] * 12 + ["refreeze"] * 8
    epoch = np.arange(27)
    lr = np.concatenate([np.geomspace(1e-2, 1e-7, 7), np.geomspace(1e-4, 1e-9, 12)])
    return pd.DataFrame(
        {
            "stage": stages,
            "epoch": [*range(1, 8), *range(1, 13), *range(1, 9)],
            "train_loss": 0.05 + 0.9 * np.exp(-epoch / 4),
            "valid_loss": 0.09 + 0.6 * np.exp(-epoch / 5),
            "accuracy": 0.986 - 0.15 * np.exp(-epoch / 5),
            "lr": np.concatenate([lr, np.geomspace(1e-4, 1e-9, 8)]),
            "seconds": 61.5,
        }
    )


def make_metrics(test: dict) -> dict:
    side = {"recordings": 720, "groups": 24, "hours": 2.0}
    stage = {"train_loss": 0.0712, "valid_loss": 0.0934, "seconds": 3725.0}
    return {
        "run": {
            "command": "langid-train kaggle:toponowicz/spoken-language-identification --seed 7",
            "seed": 7,
            "arch": "resnet152",
            "weights": "imagenet",
            "schedule": "seed",
            "device": "NVIDIA H100",
            "precision": "fp16",
            "date": "2026-03-01",
            "versions": {"langid_fastai": "0.1.0", "fastai": "2.8.12"},
            "index_hash": "0123456789abcdef",
        },
        "corpus": {
            "source": "kaggle:toponowicz/spoken-language-identification",
            "layout": "kaggle",
            "n_recordings": 73620,
            "hours": 204.5,
            "languages": {
                label: {"train": {**side, "recordings": 22620}, "valid": side, "test": side}
                for label in test["confusion"]["labels"]
            },
            "notes": ["71 recordings lack a speaker"],
            "leaks": 0,
        },
        "training": {
            "stages": [
                {"name": "head", "trains": "head", "epochs": 7, "lr": 0.01, "accuracy": 0.9412}
                | stage,
                {"name": "all", "trains": "everything", "epochs": 12, "accuracy": 0.9731}
                | {"lr": [1e-4 / 9, 1e-4 / 6, 1e-4]}
                | stage,
                {"name": "refreeze", "trains": "head", "epochs": 8, "lr": 1e-4, "accuracy": 0.9867}
                | stage,
            ]
        },
        "test": test,
        "published": evaluation.PUBLISHED_SEED,
    }


def make_run(
    folder: Path,
    vocab: list[str] = VOCAB,
    *,
    n_voices: int = 2,
    share_wrong: float = 0.1,
    with_images: bool = True,
) -> dict:
    """Write a run folder as training and evaluation leave it; return its metrics."""
    test, table = make_scores(tuple(vocab), n_voices=n_voices, share_wrong=share_wrong)
    table.to_csv(folder / "predictions.csv", index=False)
    make_history().to_csv(folder / "history.csv", index=False)
    metrics = make_metrics(copy.deepcopy(test))
    write_metrics(folder, metrics)
    rng = np.random.default_rng(0)
    for loss in test["top_losses"] if with_images else []:
        image = folder / "images" / loss["image"]
        image.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.cumsum(rng.normal(size=(128, 431)), axis=1) * 9 + np.arange(128)[:, None] * 1.5
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(image)
    return metrics


def write_metrics(folder: Path, metrics: dict) -> None:
    (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")


class Page(HTMLParser):
    """Parse a page strictly: every tag is closed in order; keep its words, tags and links."""

    def __init__(self, path: Path):
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.words: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self.open == []
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag, attrs):
        assert len(attrs) == len(dict(attrs)), f"an attribute of <{tag}> stands twice"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)


def test_report_says_what_metrics_say(plain_run):
    metrics = json.loads((plain_run / "metrics.json").read_text(encoding="utf-8"))
    page = Page(plain_run / "report.html")
    test = metrics["test"]
    n_correct = round(test["recordings"]["accuracy"] * 36)
    assert f"{n_correct} of 36 recordings" in page.text
    assert "of 72 clips" in page.text
    assert "rest on 6 speakers" in page.text
    for rates in (test["recordings"], test["clips"]):
        for value in (rates["accuracy"], rates["macro_f1"]):
            assert f"{value:.4f}" in page.text
        for name in ("accuracy_wilson", "accuracy_bootstrap", "macro_f1_bootstrap"):
            low, high = rates[name]
            assert f"{low:.4f} to {high:.4f}" in page.text
    for label, rates in test["languages"].items():
        row = f"{label} {rates['precision']:.4f} {rates['recall']:.4f} {rates['f1']:.4f} 12"
        assert row in page.text
    for speaker in test["speakers"]:
        assert speaker["speaker"] in page.text
    for loss in test["top_losses"]:
        assert loss["path"] in page.text
        assert f"{loss['score']:.4f}" in page.text
        assert f"loss {loss['loss']:.4f}" in page.text
    for value in metrics["run"].values():
        assert isinstance(value, dict) or str(value) in page.text
    assert "fastai 2.8.12" in page.text
    assert "71 recordings lack a speaker" in page.text
    assert "The test rests on few speakers (de 2, en 2, es 2)" in page.text
    assert "head head 7 0.01 0.0712 0.0934 0.9412 1 h 2 min" in page.text
    assert "1.1e-05, 1.7e-05, 0.0001" in page.text


def test_published_figures_stand_beside_ours(tmp_path):
    metrics = make_run(tmp_path)
    text = Page(report.write_report(tmp_path)).text
    assert "stage 1 (head) 0.9450 0.9412 −0.0038" in text
    assert "stage 2 (all) 0.9760 0.9731 −0.0029" in text
    assert "stage 3 (refreeze) 0.9860 0.9867 +0.0007" in text
    ours = metrics["test"]["recordings"]["accuracy"]
    assert f"test, recordings 0.9463 {ours:.4f}" in text

    del metrics["training"]["stages"][2]
    write_metrics(tmp_path, metrics)
    assert "stage 3 0.9860 – –" in Page(report.write_report(tmp_path)).text


def test_published_figures_may_be_absent(tmp_path):
    metrics = make_run(tmp_path)
    del metrics["published"]
    write_metrics(tmp_path, metrics)
    assert "published" not in Page(report.write_report(tmp_path)).text.lower()


def test_page_is_one_file_that_loads_and_runs_nothing(plain_run):
    page = Page(plain_run / "report.html")
    sources = [attrs["src"] for _, attrs in page.tags if "src" in attrs]
    assert len(sources) > 2
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "base"}
    names = {name for _, attrs in page.tags for name in attrs}
    assert not {name for name in names if name.startswith("on") or name in ("href", "srcset")}
    html = (plain_run / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|url\(|@import", html)
    assert all(attrs.get("alt") for tag, attrs in page.tags if tag == "img")


def test_hostile_names_are_only_shown(tmp_path):
    metrics = make_run(tmp_path)
    attack = "<script>alert(1)</script>"
    metrics["test"]["speakers"][0]["speaker"] = attack
    metrics["test"]["speakers"][1] |= {"speaker": "", "group": "<img src=x onerror=alert(2)>"}
    metrics["test"]["top_losses"][0]["predicted"] = "\"'><b>bold</b>"
    metrics["corpus"]["notes"] = ["{{ 7 * 7 }} & <i>more</i>"]
    metrics["run"]["command"] = "langid-train '</pre><script>'"
    write_metrics(tmp_path, metrics)
    page = Page(report.write_report(tmp_path))
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert not {"script", "b", "i"} & {tag for tag, _ in page.tags}
    assert not any("onerror" in attrs for _, attrs in page.tags)
    assert attack in page.text
    assert "{{ 7 * 7 }} & <i>more</i>" in page.text


def test_odd_labels_do_not_stop_the_pictures(tmp_path):
    vocab = ["$\\frac{a", "中文", "a very long label of a class that nobody will read", "nan"]
    make_run(tmp_path, vocab)
    text = Page(report.write_report(tmp_path)).text
    assert all(label in text for label in vocab)


def test_images_come_from_the_run_only(tmp_path):
    (tmp_path / "run").mkdir()
    metrics = make_run(tmp_path / "run")
    (tmp_path / "secret.png").write_bytes(b"not yours")
    metrics["test"]["top_losses"][0]["image"] = "../../secret.png"
    metrics["test"]["top_losses"][1]["image"] = str(tmp_path / "secret.png")
    write_metrics(tmp_path / "run", metrics)
    page = Page(report.write_report(tmp_path / "run"))
    assert page.text.count("the picture was not kept") == 2
    assert "bm90IHlvdXJz" not in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_lost_images_are_said_to_be_lost(tmp_path):
    metrics = make_run(tmp_path, with_images=False)
    text = Page(report.write_report(tmp_path)).text
    assert text.count("the picture was not kept") == len(metrics["test"]["top_losses"]) > 0


def test_leaked_figures_are_marked(tmp_path):
    metrics = make_run(tmp_path)
    assert "leak" not in Page(report.write_report(tmp_path)).text
    metrics["corpus"]["leaks"] = 12
    write_metrics(tmp_path, metrics)
    text = Page(report.write_report(tmp_path)).text
    assert "These figures are on leaked data." in text
    assert "12 leaks between" in text
    assert text.index("leaked data") < text.index("of recordings named right")


def test_perfect_test_has_no_mistakes_to_show(tmp_path):
    make_run(tmp_path, share_wrong=0)
    text = Page(report.write_report(tmp_path)).text
    assert "named every recording of the test right" in text
    assert "36 of 36 recordings" in text


def test_one_group_has_no_bootstrap_interval(tmp_path):
    clips, log_probs = make_test(tuple(VOCAB))
    clips = clips.assign(speaker="", group="tape")
    test = evaluation.evaluate(clips, log_probs, VOCAB)
    make_run(tmp_path)
    write_metrics(tmp_path, make_metrics(test))
    text = Page(report.write_report(tmp_path)).text
    assert text.count("undefined") == 4
    assert "rest on 1 group (0 known speakers)" in text
    assert "unknown, group tape" in text


def test_only_the_worst_speakers_are_listed(tmp_path):
    metrics = make_run(tmp_path, n_voices=12)
    text = Page(report.write_report(tmp_path)).text
    assert "The worst 30 of 36" in text
    listed = [s["speaker"] for s in metrics["test"]["speakers"] if f" {s['speaker']} " in text]
    assert listed == [s["speaker"] for s in metrics["test"]["speakers"][:30]]


@pytest.mark.parametrize("n_languages", [2, 15, 16, 30])
def test_confusion_picture_of_few_and_many_languages(n_languages):
    labels = [f"l{i}" for i in range(n_languages)]
    matrix = np.eye(n_languages, dtype=int) * 50
    matrix[0] = 0  # nobody spoke it
    figure = report.confusion_figure(labels, matrix.tolist())
    axes = figure.axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == labels
    assert len(axes.texts) == (n_languages**2 if n_languages <= 15 else 0)
    shares = axes.images[0].get_array()
    np.testing.assert_allclose(np.diag(shares)[1:], 1)
    np.testing.assert_allclose(shares[0], 0)


def test_curves_follow_the_history():
    history = make_history()
    figure = report.curves_figure(history)
    loss, accuracy, rate = figure.axes
    epochs = np.arange(1, 28)
    for line, column in zip(
        [*loss.lines[:2], accuracy.lines[0], rate.lines[0]],
        ["train_loss", "valid_loss", "accuracy", "lr"],
        strict=True,
    ):
        np.testing.assert_array_equal(line.get_xdata(), epochs)
        np.testing.assert_array_equal(line.get_ydata(), history[column])
    assert [text.get_text() for text in loss.texts] == ["head", "all", "refreeze"]
    assert [line.get_xdata()[0] for line in accuracy.lines[1:]] == [7.5, 19.5]
    assert rate.get_yscale() == "log"


def test_pictures_are_written_sharp(plain_run):
    for name in ("curves.png", "confusion.png"):
        with Image.open(plain_run / name) as picture:
            assert picture.width > 600
            assert picture.convert("RGB").getpixel((0, 0)) == (255, 255, 255)


def test_a_single_epoch_and_a_diverged_one_are_drawn(tmp_path):
    make_run(tmp_path)
    history = make_history().head(1).assign(valid_loss=np.nan, lr=0.0)
    history.to_csv(tmp_path / "history.csv", index=False)
    report.write_report(tmp_path)


# What is refused


@pytest.mark.parametrize(
    ("name", "maker"),
    [
        ("metrics.json", "langid evaluate RUN"),
        ("predictions.csv", "langid evaluate RUN"),
        ("history.csv", "langid-train"),
    ],
)
def test_missing_and_broken_files_are_named(tmp_path, name, maker):
    make_run(tmp_path)
    (tmp_path / name).write_text("", encoding="utf-8")
    with pytest.raises(RunError, match=rf"{name}: not readable as .*`{maker}` makes it"):
        report.write_report(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(RunError, match=rf"{name}: is missing; `{maker}` makes it"):
        report.write_report(tmp_path)


def test_incomplete_files_are_named(tmp_path):
    metrics = make_run(tmp_path)
    (tmp_path / "history.csv").write_text("stage,epoch\nhead,1\n", encoding="utf-8")
    with pytest.raises(RunError, match=r"history\.csv: lacks the columns \['train_loss'"):
        report.write_report(tmp_path)
    make_history().head(0).to_csv(tmp_path / "history.csv", index=False)
    with pytest.raises(RunError, match=r"history\.csv: lacks any row"):
        report.write_report(tmp_path)
    del metrics["test"], metrics["run"]
    write_metrics(tmp_path, metrics)
    with pytest.raises(RunError, match=r"metrics\.json: lacks the sections \['run', 'test'\]"):
        report.write_report(tmp_path)


def test_predictions_of_another_test_are_refused(tmp_path):
    make_run(tmp_path)
    predictions = pd.read_csv(tmp_path / "predictions.csv")
    predictions.head(20).to_csv(tmp_path / "predictions.csv", index=False)
    with pytest.raises(RunError, match=r"of 20 recordings right.*of 36.*`langid evaluate RUN`"):
        report.write_report(tmp_path)
