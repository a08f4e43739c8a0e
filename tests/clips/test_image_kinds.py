"""Images of MFCC, chroma and plain STFT: librosa's values, the same in torch and in files."""

import json

import librosa
import numpy as np
import pandas as pd
import pytest
import torch
from command_line import MEL, SR
from PIL import Image

from langid_fastai import cli
from langid_fastai.clips.export import export_images, read_clips
from langid_fastai.clips.image_kinds import (
    cepstral_basis,
    cepstral_ranges,
    chroma,
    chroma_filters,
    delta,
    feature_image,
    mfcc,
)
from langid_fastai.corpus.index import Corpus, make_index, read_index
from langid_fastai.errors import AudioError, ModelError
from langid_fastai.evaluation.baseline import row_statistics, score_baseline
from langid_fastai.inference.onnx_export import export_onnx
from langid_fastai.inference.scorers import ImageScorer, WaveformScorer
from langid_fastai.models.folder import read_info, write_info, write_model
from langid_fastai.models.model_info import ModelInfo
from langid_fastai.models.networks import build_network
from langid_fastai.prediction import LanguageIdentifier
from langid_fastai.preprocessing import MelConfig, mel_image, mel_scale, power_to_db, stft_power

KINDS = ["mel", "mfcc", "chroma", "stft"]
NEW = KINDS[1:]
SMALL = {"sr": SR, "clip_seconds": 1.0, "n_fft": 256, "hop_length": 128, "n_mels": 32}


def small(kind, **others):
    return MelConfig(kind=kind, **SMALL | others)


@pytest.fixture(scope="module")
def speech():
    """A 140 Hz buzz, modulated four times a second, with a little noise, at 22 050 Hz."""
    t = np.arange(2 * 22_050) / 22_050
    swell = 0.5 + 0.5 * np.sin(2 * np.pi * 4 * t)
    noise = np.random.default_rng(0).standard_normal(len(t))
    y = 0.3 * swell * (np.mod(140 * t, 1) - 0.5) + 1e-3 * noise
    return (y - y.mean()).astype(np.float32)


@pytest.fixture(scope="module")
def S(speech):
    return stft_power(speech)


# Float32 throughout; librosa's DCT is the same, its deltas come from scipy's filter in float32.
@pytest.mark.parametrize("n_mfcc", [13, 20, 40])
def test_mfcc_equal_librosa(S, n_mfcc):
    M_db = power_to_db(mel_scale(S))
    theirs = librosa.feature.mfcc(S=M_db, n_mfcc=n_mfcc)
    np.testing.assert_allclose(mfcc(M_db, n_mfcc=n_mfcc), theirs, atol=1e-3, strict=True)
    np.testing.assert_allclose(cepstral_basis(128, n_mfcc) @ M_db, theirs, atol=1e-2)


def test_mfcc_of_a_waveform_equal_librosa(speech, S):
    """End to end: librosa's floor of 80 dB below the peak equals ours."""
    theirs = librosa.feature.mfcc(y=speech, sr=22_050, n_mfcc=20)
    peak_db = librosa.power_to_db(mel_scale(S)).max()
    ours = mfcc(power_to_db(mel_scale(S)) + peak_db)
    np.testing.assert_allclose(ours[1:], theirs[1:], atol=0.1)
    np.testing.assert_allclose(ours[0], theirs[0], atol=1)  # the sum of 128 bands


@pytest.mark.parametrize("order", [1, 2])
def test_deltas_equal_librosa(S, order):
    C = mfcc(power_to_db(mel_scale(S)))
    theirs = librosa.feature.delta(C, order=order)
    np.testing.assert_allclose(delta(C, order=order), theirs, atol=1e-3, strict=True)


@pytest.mark.parametrize(("sr", "n_fft"), [(22_050, 2048), (16_000, 1024), (8_000, 1001)])
def test_chroma_equals_librosa(speech, sr, n_fft):
    S = stft_power(speech, n_fft=n_fft)
    theirs = librosa.feature.chroma_stft(S=S, sr=sr, n_fft=n_fft, tuning=0.0)
    np.testing.assert_allclose(chroma(S, sr=sr, n_fft=n_fft), theirs, atol=1e-3, strict=True)


def test_chroma_of_silence_is_black():
    assert not chroma(np.zeros((1025, 3), dtype=np.float32)).any()


def test_a_delta_needs_nine_frames():
    with pytest.raises(AudioError, match="deltas need at least 9 frames, not 8"):
        delta(np.zeros((3, 8)))


@pytest.mark.parametrize("kind", KINDS)
def test_images_have_the_stated_shape(speech, kind):
    config = MelConfig(kind=kind, clip_seconds=2.0)
    image = feature_image(speech, config)
    assert image.dtype == np.uint8
    assert image.shape == config.shape
    assert image.std() > 10  # there is something to see


@pytest.mark.parametrize("kind", KINDS)
def test_gain_does_not_change_images(speech, kind):
    config = MelConfig(kind=kind, clip_seconds=2.0)
    image = feature_image(speech, config)
    quiet = feature_image(speech / 64, config)  # a power of 2: exact in floating point
    assert np.abs(image.astype(int) - quiet).max() <= 1


def test_the_kind_mel_is_the_mel_image(speech):
    config = MelConfig(clip_seconds=2.0)
    np.testing.assert_array_equal(feature_image(speech, config), mel_image(speech, config))


def test_a_tone_lights_its_row_of_the_stft(tone):
    config = MelConfig(kind="stft", clip_seconds=1.0, fmin=300.0, fmax=4000.0)
    image = feature_image(tone(1000), config)
    hz = np.fft.rfftfreq(config.n_fft, 1 / config.sr)[config.bins][::-1]  # high ones on top
    assert hz[-1] >= 300
    assert hz[0] <= 4000
    assert abs(hz[image[:, 20].argmax()] - 1000) < config.sr / config.n_fft


def test_a_tone_lights_its_pitch_class(tone):
    image = feature_image(tone(440), MelConfig(kind="chroma", clip_seconds=1.0))
    assert 11 - image[:, 20].argmax() == 9  # A; B, the eleventh, is on top
    assert image.max() == 255


def test_mfcc_image_has_the_stated_scale(speech, S):
    config = MelConfig(kind="mfcc", clip_seconds=2.0)
    image = feature_image(speech, config)
    C = mfcc(power_to_db(mel_scale(S)) + 40)
    rows = np.concatenate([C, delta(C), delta(C, order=2)])
    restored = (image / 127.5 - 1) * cepstral_ranges(config)
    inside = (image > 0) & (image < 255)
    assert inside.mean() > 0.8
    # Half a grey value of each row's range.
    assert (np.abs(restored - rows) <= cepstral_ranges(config) / 254)[inside].all()
    ranges = cepstral_ranges(config)[:, 0]
    assert ranges[[20, 40]] == pytest.approx(ranges[0] / [8, 12])
    assert ranges[1] == pytest.approx(40 / 1.5 * np.sqrt(64))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "mffc"}, "kind='mffc' must be one of mel, mfcc, chroma, stft, waveform"),
        ({"kind": "mfcc", "n_mfcc": 33}, "n_mfcc=33 must be at most n_mels=32"),
        ({"kind": "mfcc", "n_fft": 1024, "hop_length": 1001}, "gives 8 frames per clip"),
        ({"kind": "stft", "fmin": 1001.0, "fmax": 1010.0}, "no frequency bin of n_fft=256"),
        ({"n_mfcc": 0}, "n_mfcc=0 must be a positive whole number"),
    ],
)
def test_invalid_configs_are_refused(options, message):
    with pytest.raises(AudioError, match=message):
        MelConfig(**SMALL | options)


def test_waveform_is_not_an_image(speech):
    with pytest.raises(AudioError, match="kind='waveform' is not an image"):
        feature_image(speech, MelConfig(kind="waveform"))


@pytest.mark.parametrize("kind", NEW)
def test_silence_is_refused(kind):
    with pytest.raises(AudioError, match="silent"):
        feature_image(np.zeros(8000, dtype=np.float32), small(kind))


def test_old_config_is_read_as_mel(tmp_path):
    file = tmp_path / "mel.json"
    MelConfig().write(file)
    content = json.loads(file.read_text())
    del content["kind"], content["n_mfcc"]
    file.write_text(json.dumps(content))
    assert MelConfig.read(file) == MelConfig()


@pytest.mark.parametrize("kind", KINDS)
def test_torch_makes_the_same_images(speech, kind):
    """Up to one grey value, where rounding depends on the last bit."""
    config = small(kind, clip_seconds=2.0)
    y = speech[: config.n_samples]
    scorer = WaveformScorer(ImageScorer(torch.nn.Identity()), config)
    ours = scorer.images(torch.from_numpy(np.stack([y, y[::-1].copy()]))).numpy()
    for image, theirs in zip(ours, (y, y[::-1]), strict=True):
        difference = np.abs(image - feature_image(theirs, config))
        assert difference.max() <= 1
        assert (difference > 0).mean() < 1e-3


@pytest.mark.parametrize("kind", NEW)
def test_export_writes_these_images(corpus, tmp_path, kind):
    config = small(kind)
    paths = sorted(p.relative_to(corpus).as_posix() for p in corpus.rglob("*.wav"))[:2]
    rows = [{"path": p, "language": p[:2], "split": "train"} for p in paths]
    made = export_images(Corpus(corpus, make_index(rows), "a test"), tmp_path, config, n_jobs=1)
    assert len(made.clips) == 4
    for name in made.clips["image"]:
        with Image.open(tmp_path / name) as image:
            assert image.size == config.shape[::-1]
    assert MelConfig.read(tmp_path / "mel.json") == config


@pytest.mark.parametrize("kind", NEW)
def test_model_of_each_kind_predicts_by_torch_and_onnx(tmp_path, kind, tone):
    torch.manual_seed(0)
    arch = "spectrogram_cnn-w4-d1-plain"  # few layers: torch's exporter is slow
    network = build_network(arch, 3).eval()
    info = ModelInfo(arch, ("de", "en", "es"), small(kind))
    write_model(tmp_path, network.state_dict(), info)
    assert read_info(tmp_path).mel == info.mel
    y = tone(500, SR, 1.0)
    by_torch = LanguageIdentifier.load(tmp_path)
    scores = by_torch.log_probs((y, SR))
    with torch.inference_mode():
        image = torch.from_numpy(feature_image(y, info.mel))[None]
        expected = ImageScorer(network)(image)[0].numpy()
    assert by_torch.engine.name == "torch"
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    assert export_onnx(tmp_path).difference < 1e-3
    by_onnx = LanguageIdentifier.load(tmp_path)
    assert by_onnx.engine.name == "onnx"
    np.testing.assert_allclose(np.exp(by_onnx.log_probs((y, SR))), np.exp(scores), atol=1e-3)


def test_model_folder_states_its_kind(tmp_path):
    torch.manual_seed(0)
    info = ModelInfo("spectrogram_cnn-w4-d2", ("de", "en"), small("mfcc"))
    write_model(tmp_path, build_network(info.arch, 2).state_dict(), info)
    write_info(tmp_path, info)
    content = json.loads((tmp_path / "model.json").read_text())
    content["mel"]["kind"] = "mffc"
    (tmp_path / "model.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match=r"damaged.*kind='mffc'"):
        LanguageIdentifier.load(tmp_path)


def test_baseline_reads_rows_of_coefficients(tmp_path, rng):
    rows = []
    for language, level in (("de", 60), ("es", 190)):
        for i in range(6):
            image = rng.integers(level - 30, level + 30, (12, 40), dtype=np.uint8)
            name = f"{language}{i}.png"
            Image.fromarray(image).save(tmp_path / name)
            rows.append({"image": name, "language": language})
    table = pd.DataFrame(rows)
    train, test = table.iloc[::2], table.iloc[1::2]
    log_probs = score_baseline(tmp_path, train, test, ["de", "es"], 80.0, kind="chroma", n_jobs=1)
    assert log_probs.argmax(axis=1).tolist() == [0, 0, 0, 1, 1, 1]
    assert row_statistics(np.full((12, 40), 7, dtype=np.uint8)).tolist() == [7.0] * 12 + [0.0] * 12


def test_chroma_filters_are_computed_once():
    assert chroma_filters(SR, 256) is chroma_filters(SR, 256)


@pytest.mark.slow
def test_the_command_line_trains_on_mfcc(corpus, tmp_path, langid):
    quick = "--arch spectrogram_cnn-w4-d2 --weights none --batch-size 8 --precision fp32".split()
    mfcc = "--epochs 0,2,0 --jobs 1 --kind mfcc --n-mfcc 10".split()
    code, out, err = langid(corpus, "--out", tmp_path / "run", *MEL, *quick, *mfcc)
    assert code == 0, err
    assert "mean and deviation of each row of the image" in out
    info = read_info(tmp_path / "run")
    assert (info.mel.kind, info.mel.n_mfcc, info.mel.shape[0]) == ("mfcc", 10, 30)
    card = (tmp_path / "run" / "model" / "README.md").read_text(encoding="utf-8")
    assert "as an image of its cepstral coefficients (MFCC) and their deltas" in card
    assert len(read_clips(tmp_path / "run" / "images", read_index(tmp_path / "run" / "index.csv")))
    code, _, err = langid("predict", tmp_path / "run", corpus / "de", "--json", command=cli.main)
    assert code == 0, err


def test_waveform_networks_take_no_images(corpus, tmp_path, langid):
    code, _, err = langid(corpus, "--out", tmp_path / "run", "--arch", "m5", "--kind", "mfcc")
    assert code == 1
    assert "kind='mfcc' is not for arch 'm5', which takes waveforms" in err
    code, _, err = langid(corpus, "--out", tmp_path / "run", "--kind", "waveform")
    assert code == 1
    assert "kind='waveform' is not for arch 'resnet152', which takes images" in err
