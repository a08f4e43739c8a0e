"""What `langid evaluate` adds to a run: harder conditions, another corpus, folds, unknown."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from command_line import MEL, QUICK
from tones import make_tones

from langid_fastai import cli
from langid_fastai.clips.export import read_clips
from langid_fastai.corpus.index import read_index
from langid_fastai.evaluation.scores import predict_images
from langid_fastai.models.folder import read_info
from langid_fastai.pipeline import cross_validate, robustness
from langid_fastai.report import page


def read_metrics(out):
    return json.loads((out / "metrics.json").read_text(encoding="utf-8"))


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the trained run, which a test may change."""
    return shutil.copytree(trained[0], tmp_path / "run")


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """Another corpus of the same two languages, under other codes, and one the model lacks."""
    folder = tmp_path_factory.mktemp("other") / "elsewhere"
    return make_tones(folder, {"deu": 320, "es-MX": 1150, "pl": 700}, "xy", seed=9)


def test_all_evaluations_in_one_command(run, elsewhere, langid, monkeypatch):
    draw, drawn = page._draw, []
    monkeypatch.setattr(page, "_draw", lambda *args: drawn.append(args) or draw(*args))
    code, text, err = langid(
        "evaluate", run, "--robustness", "--corpus", elsewhere, "--folds", 3, "--jobs", 1,
        command=cli.main,
    )  # fmt: skip
    assert code == 0, err
    metrics = read_metrics(run)

    names = [row["name"] for row in metrics["robustness"]["conditions"]]
    assert names[0] == "clean"
    assert {"noise0", "telephone", "slow", "fast", "cut1"} <= set(names)
    clean = metrics["robustness"]["conditions"][0]
    assert clean["accuracy"] == metrics["test"]["clips"]["accuracy"]
    assert "robustness noise0" in text

    [other] = metrics["other"]
    assert other["languages"]["de"]["theirs"] == "deu"
    assert other["languages"]["es"]["theirs"] == "es-MX"
    assert other["left_out"] == ["pl"]
    assert other["n_recordings"] == 8
    assert other["home"]["accuracy"] == metrics["test"]["recordings"]["accuracy"]
    predictions = pd.read_csv(next((run / "other").glob("elsewhere~*")) / "predictions.csv")
    right = (predictions["language"] == predictions["predicted"]).mean()
    assert other["there"]["accuracy"] == pytest.approx(right)
    assert "elsewhere  accuracy" in text

    folds = metrics["cross_validation"]
    assert len(folds["folds"]) == folds["n_folds"] == 3
    assert folds["pooled"]["n_recordings"] == 16  # every recording once
    shares = [fold["n_recordings"] / 16 for fold in folds["folds"]]
    mean = np.average([fold["accuracy"] for fold in folds["folds"]], weights=shares)
    assert folds["pooled"]["recordings"]["accuracy"] == pytest.approx(mean)
    assert len(re.findall(r"^fold \d +accuracy", text, re.MULTILINE)) == 3
    assert not list((run / "folds").rglob("*.pth"))

    assert len(drawn) == 1  # the report is written once, with everything in it
    for part in ("robustness", "elsewhere", "deu"):
        assert part in (run / "report.html").read_text(encoding="utf-8").lower()


def test_results_are_kept_until_the_model_changes(run, elsewhere, langid):
    evaluate = ("evaluate", run, "--jobs", 1)
    assert langid(*evaluate, "--corpus", elsewhere, command=cli.main)[0] == 0
    other = read_metrics(run)["other"]
    assert langid(*evaluate, command=cli.main)[0] == 0
    assert read_metrics(run)["other"] == other
    assert langid(*evaluate, "--corpus", elsewhere, command=cli.main)[0] == 0
    assert read_metrics(run)["other"] == other  # measured again, not twice

    metrics = read_metrics(run)
    metrics["run"]["model_hash"] = "another"
    (run / "metrics.json").write_text(json.dumps(metrics))
    assert langid(*evaluate, command=cli.main)[0] == 0
    assert "other" not in read_metrics(run)


def test_finished_folds_are_kept(run, langid, monkeypatch):
    evaluate = ("evaluate", run, "--folds", 3, "--jobs", 1)
    assert langid(*evaluate, command=cli.main)[0] == 0
    first = read_metrics(run)["cross_validation"]
    (run / "folds" / "3" / "2" / "scores.csv").unlink()
    trained, train = [], cross_validate._train_fold

    def train_and_note(run, fold_run, *settings):
        trained.append(fold_run.folder.name)
        train(run, fold_run, *settings)

    monkeypatch.setattr(cross_validate, "_train_fold", train_and_note)
    assert langid(*evaluate, command=cli.main)[0] == 0
    assert trained == ["2"]
    again = read_metrics(run)["cross_validation"]
    assert again["pooled"] == first["pooled"]


def test_a_corpus_with_training_recordings_is_refused(run, corpus, elsewhere, langid, tmp_path):
    code, _, err = langid("evaluate", run, "--corpus", corpus, command=cli.main)
    assert code == 1
    assert "was trained or validated on" in err
    copied = shutil.copytree(elsewhere, tmp_path / "copied")
    index = pd.read_csv(run / "index.csv")
    heard = corpus / index.loc[index["split"] == "train", "path"].iloc[0]
    shutil.copy(heard, copied / "deu" / "deu-x" / "heard.wav")
    code, _, err = langid("evaluate", run, "--corpus", copied, command=cli.main)
    assert code == 1
    assert "was trained or validated on 1 recording of it" in err


def test_a_corpus_without_a_shared_language_is_refused(run, langid, tmp_path):
    other = make_tones(tmp_path / "other", {"pl": 300, "cs": 1200}, "xy")
    code, _, err = langid("evaluate", run, "--corpus", other, command=cli.main)
    assert code == 1
    assert "none of its languages (cs, pl) is a language of the model (de, es)" in err


def test_too_many_folds_are_refused(run, langid):
    code, _, err = langid("evaluate", run, "--folds", 9, "--jobs", 1, command=cli.main)
    assert code == 1
    assert "At most 4 folds are possible" in err


def test_speakers_of_the_same_name_are_reported(run, langid, tmp_path):
    other = make_tones(tmp_path / "other", {"de": 320, "es": 1150}, "ax", seed=7)
    assert langid("evaluate", run, "--corpus", other, command=cli.main)[0] == 0
    [found] = read_metrics(run)["other"]
    index = pd.read_csv(run / "index.csv")
    heard = set(index.loc[index["split"] != "test", "group"]) & {"de/de-a", "es/es-a"}
    assert any("have the name" in x for x in found["warnings"]) == bool(heard)


def test_the_answer_unknown_is_tested_on_a_held_out_language(langid, tmp_path):
    folder = make_tones(tmp_path / "tones", {"de": 300, "es": 1200, "fr": 2500}, "abcdef")
    argv = ["--out", tmp_path / "out", "--epochs", "1,2,1", "--false-alarm-rate", "0.3"]
    code, text, err = langid(folder, *argv, "--hold-out", "fr", *QUICK)
    assert code == 0, err
    metrics, info = read_metrics(tmp_path / "out"), read_info(tmp_path / "out" / "model")
    assert info.vocab == ("de", "es")
    assert info.calibration.threshold is not None
    assert metrics["unknown"]["threshold"] == info.calibration.threshold
    assert metrics["unknown"]["held_out"]["n_recordings"] == 12
    assert list(metrics["unknown"]["held_out"]["languages"]) == ["fr"]
    assert metrics["corpus"]["held_out"] == ["fr"]
    assert metrics["test"]["confusion"]["labels"] == ["de", "es"]
    assert "of 12 in held-out languages (fr)" in text
    assert len(pd.read_csv(tmp_path / "out" / "predictions_held_out.csv")) == 12


def test_few_validation_recordings_give_no_threshold(trained):
    out, text = trained
    assert read_info(out / "model").calibration.threshold is None
    assert "too few to choose a threshold for a false-alarm rate of 0.05" in text


def test_an_older_model_is_calibrated_by_evaluating(run, langid):
    file = run / "model" / "model.json"
    content = json.loads(file.read_text())
    expected = content.pop("calibration")
    file.write_text(json.dumps(content | {"format_version": 1}))
    assert read_info(run / "model").calibration.temperature == 1
    assert langid("evaluate", run, command=cli.main)[0] == 0
    assert json.loads(file.read_text())["calibration"] == expected


def test_a_fold_of_another_split_is_restarted(run, langid, monkeypatch):
    """A checkpoint of another split was trained on recordings that the fold now tests."""

    def stop(fold_run, *_, **__):
        (fold_run.checkpoints).mkdir()
        (fold_run.checkpoints / "last.pth").write_bytes(b"of another split")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cross_validate, "train", stop)
        assert langid("evaluate", run, "--folds", 3, "--jobs", 1, command=cli.main)[0] == 130
    note = run / "folds" / "3" / "1" / "run.json"
    begun = json.loads(note.read_text())
    note.write_text(json.dumps(begun | {"fold": begun["fold"] | {"index_hash": "another"}}))
    assert langid("evaluate", run, "--folds", 3, "--jobs", 1, command=cli.main)[0] == 0
    assert json.loads(note.read_text())["fold"] == begun["fold"]


def test_variants_train_folds_and_are_never_tested(langid, tmp_path):
    folder = make_tones(tmp_path / "tones", {"de": 300, "es": 1200})
    rows = [
        {
            "path": str(file.relative_to(folder)),
            "language": file.parts[-3],
            "speaker": file.parts[-2],
            "recording": f"{file.parts[-2]}-{file.stem[0]}",
            "variant": "",
        }
        for file in sorted(folder.rglob("*.wav"))
    ]
    for row in list(rows):
        noisy = row["path"].replace(".wav", "n.wav")
        y, sr = sf.read(folder / row["path"])
        sf.write(folder / noisy, y + 0.01 * np.sin(np.arange(len(y))), sr)
        rows.append(row | {"path": noisy, "variant": "noise1"})
    pd.DataFrame(rows).to_csv(folder / "index.csv", index=False)
    out = tmp_path / "out"
    code, _, err = langid(folder / "index.csv", "--out", out, "--epochs", "1,0,0", *QUICK)
    assert code == 0, err
    assert langid("evaluate", out, "--folds", 3, "--jobs", 1, command=cli.main)[0] == 0
    metrics = read_metrics(out)
    assert metrics["cross_validation"]["pooled"]["n_recordings"] == 16
    clips = read_clips(out / "images", read_index(out / "index.csv"), "train")
    clean = (clips["variant"] == "").sum()
    assert metrics["baseline"]["n_train_clips"] == clean == len(clips) / 2


def test_a_corpus_that_changed_since_training_is_not_cross_validated(langid, tmp_path):
    folder, out = make_tones(tmp_path / "tones", {"de": 300, "es": 1200}), tmp_path / "out"
    assert langid(folder, "--out", out, "--epochs", "1,0,0", *QUICK)[0] == 0
    shutil.copytree(folder / "de" / "de-a", folder / "de" / "de-e")
    code, _, err = langid("evaluate", out, "--folds", 3, "--jobs", 1, command=cli.main)
    assert code == 1
    assert "no longer those that" in err


def test_the_false_alarm_rate_is_remembered(run, langid):
    evaluate = ("evaluate", run, "--jobs", 1)
    assert langid(*evaluate, "--false-alarm-rate", "0.4", command=cli.main)[0] == 0
    assert read_info(run / "model").calibration.false_alarm_rate == 0.4
    assert langid(*evaluate, command=cli.main)[0] == 0
    assert read_info(run / "model").calibration.false_alarm_rate == 0.4


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--license", "CC BY"], "license='CC BY' must be a lower-case identifier"),
        (["--folds", "0"], "--folds 0 must be at least 3"),
        (["--jobs", "0"], "jobs=0 must be"),
        (["--root", "x"], "add --corpus OTHER"),
    ],
)
def test_wrong_options_are_refused_before_any_work_and_not_stored(run, langid, argv, message):
    before = (run / "run.json").read_text()
    code, _, err = langid("evaluate", run, *argv, command=cli.main)
    assert code == 1
    assert err.startswith("error: ")
    assert message in err
    assert (run / "run.json").read_text() == before


def test_a_corpus_that_cannot_be_checked_for_leaks_is_refused(run, elsewhere, langid, tmp_path):
    state = json.loads((run / "run.json").read_text())
    state["corpus_found"]["root"] = str(tmp_path / "gone")
    (run / "run.json").write_text(json.dumps(state))
    code, _, err = langid("evaluate", run, "--corpus", elsewhere, command=cli.main)
    assert code == 1
    assert "restore the corpus of the run" in err


def test_an_interrupted_robustness_test_resumes(run, langid, monkeypatch):
    """Each clip is scored once, and the results are those of an undisturbed test."""
    argv = ["evaluate", run, "--robustness", "--jobs", 1]
    assert langid(*argv, command=cli.main)[0] == 0
    undisturbed = read_metrics(run)["robustness"]
    monkeypatch.setattr(robustness, "CHUNK", 1)  # one clip at a time
    monkeypatch.setattr(robustness, "SECONDS_BETWEEN_FILES", 0.0)
    scored = []

    def interrupt(*_):
        raise KeyboardInterrupt

    def predict(n_before):
        def predict_or_stop(learn, images):
            if len(scored) == n_before:
                raise KeyboardInterrupt
            scored.append(images)
            return predict_images(learn, images)

        return predict_or_stop

    with monkeypatch.context() as patch:
        for n_before in (3, 5, undisturbed["n_clips"]):
            patch.setattr(robustness, "predict_images", predict(n_before))
            if n_before == undisturbed["n_clips"]:
                patch.setattr(robustness, "measure_conditions", interrupt)
            assert langid(*argv, command=cli.main)[0] == 130
            assert len(scored) == n_before
    monkeypatch.setattr(robustness, "predict_images", interrupt)  # there is nothing left to score
    assert langid(*argv, command=cli.main)[0] == 0
    assert read_metrics(run)["robustness"] == undisturbed
    assert not (run / "robustness").exists()


def test_damaged_scores_are_named(run, langid, monkeypatch):
    monkeypatch.setattr(robustness, "SECONDS_BETWEEN_FILES", 0.0)
    argv = ["evaluate", run, "--robustness", "--jobs", 1]
    with monkeypatch.context() as patch:
        patch.setattr(robustness, "measure_conditions", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            langid(*argv, command=cli.main)
    (run / "robustness" / "0.csv").write_text("")
    code, _, err = langid(*argv, command=cli.main)
    assert code == 1
    assert "0.csv: damaged" in err
    assert "delete" in err


def test_scores_of_another_model_are_removed(run, langid):
    kept = run / "robustness"
    kept.mkdir()
    (kept / "identity.json").write_text('{"model": "another"}')
    (kept / "0.csv").write_text("log_prob_0,log_prob_1,condition,row\n-9,-0.1,clean,0\n")
    argv = ["evaluate", run, "--robustness", "--jobs", 1]
    assert langid(*argv, command=cli.main)[0] == 0
    metrics = read_metrics(run)
    accuracy = metrics["robustness"]["conditions"][0]["accuracy"]
    assert accuracy == metrics["test"]["clips"]["accuracy"]


def test_missing_recordings_only_prevent_robustness(run, corpus, langid, tmp_path):
    state = json.loads((run / "run.json").read_text())
    state["corpus_found"]["root"] = str(tmp_path / "gone")
    (run / "run.json").write_text(json.dumps(state))
    assert langid("evaluate", run, command=cli.main)[0] == 0
    (run / "report.html").unlink()
    code, _, err = langid("evaluate", run, "--robustness", command=cli.main)
    assert code == 1
    assert "no such file" in err
    assert (run / "report.html").exists()  # of the test before


def test_the_card_states_the_licence(run, langid):
    assert "license: unknown" in (run / "model" / "README.md").read_text()
    assert langid("evaluate", run, "--license", "cc-by-4.0", command=cli.main)[0] == 0
    assert "license: cc-by-4.0" in (run / "model" / "README.md").read_text()
    assert langid("evaluate", run, command=cli.main)[0] == 0
    assert "license: cc-by-4.0" in (run / "model" / "README.md").read_text()


def test_a_run_that_was_not_trained_is_refused(corpus, langid, tmp_path):
    out = tmp_path / "out"
    argv = ["prepare", corpus, "--out", out, "--jobs", 1, *MEL]
    assert langid(*argv, command=cli.main)[0] == 0
    code, _, err = langid("evaluate", out, command=cli.main)
    assert code == 1
    assert "no model folder" in err


def test_silence_in_the_other_corpus_is_left_out(run, elsewhere, langid, tmp_path):
    other = shutil.copytree(elsewhere, tmp_path / "other")
    sf.write(other / "deu" / "deu-x" / "silent.wav", np.zeros(16000), 8000)
    assert langid("evaluate", run, "--corpus", other, command=cli.main)[0] == 0
    assert read_metrics(run)["other"][0]["n_recordings"] == 8
