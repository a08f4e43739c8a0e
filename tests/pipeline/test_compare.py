"""Several networks on one split: the table, the pairs, the shared images, resuming."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from command_line import MEL
from PIL import Image
from tones import make_tones

from langid_fastai import cli
from langid_fastai.errors import ModelError
from langid_fastai.evaluation import compare_paired
from langid_fastai.pipeline import compare as pipeline_compare
from langid_fastai.pipeline import train as pipeline_train
from langid_fastai.pipeline.compare import comparison_lines

SETTINGS = [*MEL, *"--weights none --batch-size 8 --jobs 1 --precision fp32 --epochs 0,1,0".split()]
ARCHS = ("squeezenet1_1", "squeezenet1_0", "m3-light")


@pytest.fixture(scope="module")
def tones(tmp_path_factory):
    return make_tones(tmp_path_factory.mktemp("made") / "tones", {"de": 300, "es": 1200}, "abcdef")


def compare(langid, tones, out, *more, archs=ARCHS):
    return langid(
        "compare", tones, "--out", out, "--arch", ",".join(archs), *SETTINGS, *more,
        command=cli.main,
    )  # fmt: skip


def test_a_comparison_in_one_command(tones, langid, tmp_path, monkeypatch):
    out = tmp_path / "compared"
    code, text, err = compare(langid, tones, out, "--license", "cc-by-4.0")
    assert code == 0, err
    found = json.loads((out / "comparison.json").read_text())
    rows = {row["arch"]: row for row in found["networks"]}
    assert tuple(rows) == ARCHS
    metrics = {arch: json.loads((out / arch / "metrics.json").read_text()) for arch in ARCHS}
    assert len({m["run"]["index_hash"] for m in metrics.values()}) == 1
    for arch, row in rows.items():
        rates = metrics[arch]["test"]["recordings"]
        for name in ("accuracy", "accuracy_wilson", "accuracy_bootstrap", "macro_f1", "cavg"):
            assert row[name] == rates[name]
        weights = out / arch / "model" / "model.safetensors"
        assert row["model_bytes"] == weights.stat().st_size
        seconds = pd.read_csv(out / arch / "history.csv")["seconds"].sum()
        assert row["training_seconds"] == pytest.approx(seconds)
        assert f"\n{arch:<13}   {row['accuracy']:.4f} " in text
        assert "cc-by-4.0" in (out / arch / "model" / "README.md").read_text()
    best = max(row["accuracy"] for row in rows.values())
    assert rows[found["best"]]["accuracy"] == best
    assert rows[found["best"]]["to_best"] is None
    for row in rows.values():
        if row["to_best"]:
            assert row["to_best"]["accuracy"] == pytest.approx(row["accuracy"] - best)
            assert row["to_best"]["n"] == found["n_recordings"]
    table = pd.read_csv(out / "comparison.csv")
    assert list(table["arch"]) == list(ARCHS)
    assert {"accuracy_wilson_low", "cavg_bootstrap_high", "to_best_mcnemar_p"} <= set(table)
    with Image.open(out / "comparison.png") as picture:
        assert np.asarray(picture.convert("L")).std() > 5

    # One folder of images for those that take images, one of sound for the other.
    assert (out / "squeezenet1_1" / "images").resolve() == out / "images"
    assert (out / "squeezenet1_0" / "images").resolve() == out / "images"
    assert (out / "m3-light" / "images").resolve() == out / "waveforms"
    assert text.count("reading ") == text.count("corpus ") == 1
    assert text.count("24 recordings processed now") == 2

    # Each is a run as any other.
    code, again, err = langid("evaluate", out / "squeezenet1_0", command=cli.main)
    assert code == 0, err
    assert f"accuracy {rows['squeezenet1_0']['accuracy']:.4f}" in again

    # The same command trains no epoch again; a network may join.
    code, text, _ = compare(langid, tones, out, archs=(ARCHS[0], "m5-light"))
    assert code == 0
    assert text.count("epoch  1") == 1
    assert "m5-light  all" in text
    again = json.loads((out / "comparison.json").read_text())
    assert again["networks"][0]["accuracy"] == found["networks"][0]["accuracy"]
    assert [row["arch"] for row in again["networks"]] == [ARCHS[0], "m5-light"]


def test_an_interrupted_comparison_is_resumed(tones, langid, tmp_path, monkeypatch):
    out, archs = tmp_path / "compared", ARCHS[:2]
    train = pipeline_train.train

    def stop_at_second(run, *rest, **named):
        if run.folder.name == archs[1]:
            raise KeyboardInterrupt
        return train(run, *rest, **named)

    with monkeypatch.context() as patch:
        patch.setattr(pipeline_train, "train", stop_at_second)
        assert compare(langid, tones, out, archs=archs)[0] == 130
    assert not (out / "comparison.json").exists()
    code, _, err = compare(langid, tones, out, "--lr", "1e-2", archs=archs)
    assert code == 1
    assert "lr was None, now 0.01" in err
    code, text, _ = compare(langid, tones, out, archs=archs)
    assert code == 0
    assert f"{archs[0]}  all" not in text
    assert f"{archs[1]}  all" in text


@pytest.mark.parametrize(
    ("archs", "said"),
    [
        (["resnet18"], "must be two or more"),
        (["resnet18", "resnet18"], "two or more different ones"),
        (["resnet18", "resnet81"], "resnet81"),
        (["resnet18", "../m3"], "cannot be the name of a folder"),
        (["resnet18", "images"], "cannot be the name of a folder"),
    ],
)
def test_a_wrong_list_of_networks_is_refused_before_any_work(tones, langid, tmp_path, archs, said):
    code, _, err = compare(langid, tones, tmp_path / "out", archs=archs)
    assert code == 1
    assert said in err
    assert not list((tmp_path / "out").rglob("*.png"))


def test_weights_of_one_network_are_refused(tones, langid, tmp_path):
    code, _, err = compare(langid, tones, tmp_path / "out", "--weights", "a.safetensors")
    assert code == 1
    assert "weights 'a.safetensors' must be pretrained or none" in err
    assert not (tmp_path / "out").exists()


def test_a_folder_has_one_split(tones, langid, tmp_path):
    out = tmp_path / "out"
    assert compare(langid, tones, out, "--seed", 1, archs=["resnet18", "resnet81"])[0] == 1
    code, _, err = compare(langid, tones, out, archs=ARCHS[:2])  # a mistake can be corrected
    assert code == 0, err
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.suffix}
    code, _, err = compare(langid, tones, out, "--seed", 1, archs=["spectrogram_cnn", "m3-light"])
    assert code == 1
    assert "another split (seed=0 there, 1 requested)" in err
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.suffix} == before


def test_a_foreign_folder_is_not_written_to(tones, langid, tmp_path):
    (tmp_path / "images").mkdir()
    code, _, err = compare(langid, tones, tmp_path)
    assert code == 1
    assert "does not contain corpus.json" in err
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


def test_files_missing_from_one_kind_of_clip_are_reported(tones, tmp_path, langid, monkeypatch):
    make, n_failed = pipeline_compare.prepare.make_images, {"squeezenet1_1": 1, "m3-light": 0}

    def lose(run, *rest, **named):
        made = make(run, *rest, **named)
        lost = pd.DataFrame({"path": ["a"], "reason": ["b"]}).head(n_failed[run.folder.name])
        return replace(made, failed=lost)

    monkeypatch.setattr(pipeline_compare.prepare, "make_images", lose)
    code, _, err = compare(langid, tones, tmp_path / "out", archs=ARCHS[::2])
    assert code == 1
    assert "1 recordings or clips that failed" in err


def test_a_disk_without_links_is_reported(tones, tmp_path, langid, monkeypatch):
    def refuse(*_, **__):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(pipeline_compare.Path, "symlink_to", refuse)
    code, _, err = compare(langid, tones, tmp_path / "out", archs=ARCHS[:2])
    assert code == 1
    assert "a disk that allows links" in err


def test_pairs_against_a_count_by_hand(rng):
    ours, theirs = rng.random(40) < 0.8, rng.random(40) < 0.5
    groups = [f"g{k // 4}" for k in range(40)]
    found = compare_paired(ours, theirs, groups)
    b, c = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    assert (found["n_only_ours"], found["n_only_theirs"]) == (b, c)
    assert found["accuracy"] == pytest.approx((b - c) / 40)
    from math import comb

    tail = sum(comb(b + c, k) for k in range(min(b, c) + 1)) / 2 ** (b + c)
    assert found["mcnemar_p"] == pytest.approx(min(1.0, 2 * tail))
    turned = compare_paired(theirs, ours, groups)
    assert turned["accuracy"] == -found["accuracy"]
    assert turned["mcnemar_p"] == pytest.approx(found["mcnemar_p"])
    low, high = found["accuracy_bootstrap"]
    assert low < found["accuracy"] < high


def test_pairs_without_difference_and_of_one_group():
    same = np.array([True, False, True])
    found = compare_paired(same, same, ["a"] * 3)
    assert (found["accuracy"], found["mcnemar_p"], found["accuracy_bootstrap"]) == (0.0, 1.0, None)
    with pytest.raises(ModelError, match="one value for each recording"):
        compare_paired(same, same[:2], ["a"] * 3)


def test_the_table_states_what_is_undefined():
    row = {
        "accuracy": 0.5, "accuracy_wilson": [0.2, 0.8], "accuracy_bootstrap": None,
        "macro_f1": 0.5, "cavg": None, "n_parameters": 2_000_000, "model_bytes": 8_000_000,
        "training_seconds": 61.0,
    }  # fmt: skip
    paired = compare_paired(np.array([True]), np.array([True]), ["a"])
    rows = [row | {"arch": "one", "to_best": None}, row | {"arch": "two", "to_best": paired}]
    reference = {"system": "classical", "accuracy": 0.4}
    lines = list(
        comparison_lines(
            {"networks": rows, "n_recordings": 1, "n_groups": 1, "reference": reference}
        )
    )
    assert lines[1].endswith("best")
    assert lines[1].endswith("best")
    assert "   2 M      8 MB " in lines[1]
    assert "one group" in lines[2]
    assert "reference (classical): 0.4000" in lines[3]
