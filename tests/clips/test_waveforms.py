"""Waveform networks from end to end: clips, training, report, prediction."""

import io
import json
import re
import shlex
import shutil
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch
from command_line import SR
from PIL import Image

from langid_fastai import cli
from langid_fastai.callbacks.spec_augment import SpecAugment
from langid_fastai.clips.export import encode_clip, export_images, read_clip_image
from langid_fastai.clips.waveforms import encode_waveform, read_waveform
from langid_fastai.corpus.measure import measure_audio
from langid_fastai.corpus.readers.recognise import read_corpus
from langid_fastai.corpus.split import split_corpus
from langid_fastai.errors import AudioError, ModelError, RunError
from langid_fastai.evaluation import predict_images
from langid_fastai.inference.backends import load_engine, torch_engine
from langid_fastai.inference.onnx_export import export_onnx
from langid_fastai.learner import language_learner, load_learner, make_dataloaders, save_learner
from langid_fastai.models.folder import read_info
from langid_fastai.models.networks import build_network, load_network
from langid_fastai.prediction import LanguageIdentifier
from langid_fastai.preprocessing import MelConfig, mel_image
from langid_fastai.report.console import plan_lines
from langid_fastai.report.media import image_uri
from langid_fastai.training import Stage, fit_stages

SOUND = MelConfig(SR, 1.0, n_fft=256, hop_length=128, n_mels=32, kind="waveform")
OPTIONS = shlex.split(
    "--sr 8000 --clip-seconds 1 --n-fft 256 --hop-length 128 --n-mels 32 --arch m5-light "
    "--weights none --batch-size 8 --jobs 1 --precision fp32 --epochs 1,5,1"
)


@pytest.fixture(scope="module")
def clips(corpus, tmp_path_factory):
    """Audio clips of low and high tones."""
    split = split_corpus(measure_audio(read_corpus(corpus)))
    folder = tmp_path_factory.mktemp("clips") / "images"
    export_images(split, folder, SOUND, n_jobs=1)
    return folder


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory):
    """A run of a waveform network through the command line: its folder and its output."""
    out = tmp_path_factory.mktemp("runs") / "raw"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["langid-train", str(corpus), "--out", str(out), *OPTIONS])
        with pytest.raises(SystemExit) as end:
            cli.train_main()
    assert end.value.code == 0
    return out


# Clips


def test_clip_is_scaled_to_full_scale(rng):
    y = (rng.standard_normal(SR) / 1000).astype(np.float32)
    content = encode_waveform(y + np.float32(0.1), SR)
    y -= y.mean()
    again = read_waveform(content)
    assert again.dtype == np.float32
    np.testing.assert_allclose(again, y / np.abs(y).max(), atol=1e-4)
    assert sf.info(io.BytesIO(content)).samplerate == SR


@pytest.mark.parametrize(
    ("y", "words"),
    [(np.zeros(10), "silent"), (np.array([np.nan, 1.0]), "NaN"), (np.zeros((2, 5)), "n_samples")],
)
def test_invalid_audio_is_not_a_clip(y, words):
    with pytest.raises(AudioError, match=words):
        encode_clip(y, SOUND)


def test_error_of_a_damaged_clip_says_how_to_fix_it(tmp_path):
    file = tmp_path / "a.wav"
    for make in (lambda: None, lambda: file.write_bytes(b"RIFF")):
        make()
        with pytest.raises(AudioError, match=r"a\.wav: cannot be read .*langid prepare"):
            read_waveform(file)


def test_clips_are_exported_like_images(clips, corpus):
    journal = pd.read_csv(clips / "images.csv")
    assert journal["image"].str.fullmatch(r"(train|valid|test)/(de|es)/.*@\d\.\d\d\.wav").all()
    assert len(list(clips.rglob("*.wav"))) == len(journal) == 32
    row = journal.iloc[0]
    y, _ = sf.read(corpus / row["path"], frames=SR, dtype="float32")
    assert row["offset"] == 0
    y -= y.mean()
    np.testing.assert_allclose(read_waveform(clips / row["image"]), y / np.abs(y).max(), atol=1e-4)
    split = split_corpus(measure_audio(read_corpus(corpus)))
    again = export_images(split, clips, SOUND, n_jobs=1)
    assert (again.n_made, again.n_kept) == (0, 16)


def test_folder_contains_one_kind(clips, corpus):
    split = split_corpus(measure_audio(read_corpus(corpus)))
    with pytest.raises(RunError, match="kind='waveform' there, 'mel' requested"):
        export_images(split, clips, replace(SOUND, kind="mel"), n_jobs=1)


def test_image_of_a_clip_is_its_mel_image(clips, corpus):
    file = next(clips.rglob("*@0.00.wav"))
    y = read_waveform(file)
    np.testing.assert_array_equal(read_clip_image(file), mel_image(y, SOUND))


def test_kind_is_checked_and_may_be_missing_in_old_files(tmp_path):
    with pytest.raises(AudioError, match=r"kind='wave' must be one of mel, .*waveform"):
        MelConfig(kind="wave")
    file = tmp_path / "mel.json"
    older = {k: v for k, v in asdict(MelConfig()).items() if k != "kind"}
    file.write_text(json.dumps(older))
    assert MelConfig.read(file) == MelConfig()


# Training


def test_batches_are_waveforms(clips):
    dls = make_dataloaders(clips, batch_size=4, device="cpu")
    x, y = dls.one_batch()
    assert x.shape == (4, 1, SR)
    assert y.shape == (4,)
    assert float(x.abs().max()) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(("arch", "kind"), [("resnet18", "waveform"), ("m5-light", "mel")])
def test_a_network_takes_one_kind(clips, picture_folder, arch, kind):
    dls = make_dataloaders(clips if kind == "waveform" else picture_folder, device="cpu")
    with pytest.raises(ModelError, match=rf"'{arch}' takes .* to another folder"):
        language_learner(dls, arch, weights="none")


def test_masks_cover_waveforms_in_time_only(clips):
    learn = language_learner(make_dataloaders(clips, batch_size=4, device="cpu"), "m3-light",
                             weights="none")  # fmt: skip
    x = torch.randn(64, 1, SR)
    learn.xb = (x,)
    augment = SpecAugment(1)
    augment.learn = learn
    augment.before_batch()
    [covered] = learn.xb
    assert covered.shape == x.shape
    n_covered = (covered == covered.mode(dim=2, keepdim=True).values).sum(dim=2)
    assert 0 < int(n_covered.max()) <= 0.15 * SR + 1


def test_stages_train_reproducibly(clips, tmp_path):
    def fit():
        dls = make_dataloaders(clips, batch_size=8, device="cpu")
        learn = language_learner(dls, "m5-light", weights="none", precision="fp32", seed=3)
        with learn.no_bar(), learn.no_logging():
            stages = (Stage("head", "head", 1, 1e-2), Stage("all", "all", 3, 1e-2, masks=1))
            return learn, fit_stages(learn, stages, seed=3)

    learn, history = fit()
    again, _ = fit()
    torch.testing.assert_close(learn.model.state_dict(), again.model.state_dict())
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0]
    save_learner(learn, tmp_path / "model")
    assert read_info(tmp_path / "model").mel == SOUND
    files = sorted(clips.glob("test/*/*.wav"))
    mine = predict_images(learn, files)
    loaded = predict_images(load_learner(tmp_path / "model", learn.dls), files)
    np.testing.assert_allclose(mine, loaded, atol=1e-5)
    as_bytes = predict_images(learn, [file.read_bytes() for file in files])
    np.testing.assert_allclose(mine, as_bytes, atol=1e-5)


# End to end


def test_run_trains_and_reports(run):
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["run"]["arch"] == "m5-light"
    assert metrics["test"]["recordings"]["accuracy"] == 1  # low tones and high ones
    assert metrics["baseline"]["recordings"]["accuracy"] > 0.5
    assert not list(run.rglob("*.png.*"))
    assert len(list((run / "images").rglob("*.wav"))) == 32
    assert not list((run / "images").rglob("*.png"))
    page = (run / "report.html").read_text()
    assert "m5-light" in page
    card = (run / "model" / "README.md").read_text()
    assert "as a raw waveform" in card
    assert "*.wav" in card
    assert "mel bands" not in card


def test_images_of_the_report_are_made(run):
    name = next((run / "images").rglob("*.wav")).relative_to(run / "images").as_posix()
    uri = image_uri(run / "images", name)
    assert re.match("data:image/png;base64,", uri)


def test_prediction_equals_that_of_the_test(run, corpus):
    identifier = LanguageIdentifier.load(run)
    table = pd.read_csv(run / "predictions.csv")
    for row in table.itertuples():
        answers = identifier(corpus / row.path)
        assert answers[0]["label"] == row.predicted
        y, _ = sf.read(corpus / row.path, dtype="float32")
        [a, b] = (identifier.log_probs((gain * y, SR)) for gain in (1.0, 0.1))
        np.testing.assert_allclose(a, b, atol=1e-3)


def test_one_clip_scores_as_in_training(run, corpus):
    """Training equals inference: the clip's file through fastai, its audio through the engine."""
    info = read_info(run / "model")
    learn = load_learner(run / "model", make_dataloaders(run / "images", device="cpu"))
    file = next((run / "images").glob("test/*/*@0.00.wav"))
    journal = pd.read_csv(run / "images" / "images.csv").set_index("image")
    name = file.relative_to(run / "images").as_posix()
    y, _ = sf.read(corpus / journal.loc[name, "path"], dtype="float32")
    ours = predict_images(learn, [file])[0] / info.calibration.temperature
    ours = ours - np.logaddexp.reduce(ours)
    engine = load_engine(run / "model", info)
    assert engine.name == "torch"
    np.testing.assert_allclose(np.exp(engine.score(y[None, :SR])[0]), np.exp(ours), atol=1e-3)


def test_robustness_and_a_second_test(run, langid):
    code, out, _ = langid("evaluate", run, "--robustness", "--jobs", 1, command=cli.main)
    assert code == 0
    assert "robustness clean" in out
    conditions = json.loads((run / "metrics.json").read_text())["robustness"]["conditions"]
    clean = next(c for c in conditions if c["name"] == "clean")
    assert clean["accuracy"] == 1


def test_onnx_export_agrees_with_torch(run, tmp_path):
    shutil.copytree(run / "model", tmp_path / "model")
    exported = export_onnx(tmp_path / "model")
    assert exported.n_same == exported.n_clips
    info = read_info(tmp_path / "model")
    engine = load_engine(tmp_path / "model", info)
    assert engine.name == "onnx"
    score = torch_engine(load_network(tmp_path / "model")[0], info).score
    y = np.random.default_rng(0).standard_normal((3, SR)).astype(np.float32)
    np.testing.assert_allclose(np.exp(engine.score(y)), np.exp(score(y)), atol=1e-3)


def test_prepare_makes_clips_for_later_training(corpus, tmp_path, langid):
    out = tmp_path / "run"
    argv = [corpus, "--out", out, "--kind", "waveform", *OPTIONS[:10], "--jobs", 1]
    code, text, _ = langid("prepare", *argv, command=cli.main)
    assert code == 0
    assert f"clips      32 in {out / 'images'}: 16 recordings processed now" in text
    assert "image" not in text.replace(str(out / "images"), "")
    assert json.loads((out / "images" / "mel.json").read_text())["kind"] == "waveform"
    code, _, err = langid(corpus, "--out", out, *OPTIONS[:10], "--arch", "resnet18",
                          "--weights", "none", "--jobs", 1)  # fmt: skip
    assert code == 1
    assert "kind='waveform' there, 'mel' requested" in err


@pytest.mark.parametrize(
    ("arch", "words"), [("m3-light", " 5,892 parameters"), ("m11", " 1.8 million parameters")]
)
def test_small_networks_are_not_shown_as_zero_parameters(run, arch, words):
    plan = json.loads((run / "run.json").read_text())["plan"]
    n = sum(p.numel() for p in build_network(arch, 4).parameters())
    assert words in next(plan_lines(plan | {"n_parameters": n}))


def test_imagenet_weights_are_refused_early(corpus, tmp_path, langid):
    code, _, err = langid(corpus, "--out", tmp_path / "run", "--arch", "m5")
    assert code == 1
    assert "--weights none" in err
    assert not (tmp_path / "run" / "images").exists()


def test_images_are_still_read_as_images(tmp_path, rng):
    """The same function reads images: a PNG is read as it is."""
    image = rng.integers(0, 255, (32, 48), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_clip_image(tmp_path / "a.png"), image)
