"""A window shorter than the frame: as librosa computes it, in images and inside model.onnx."""

import json
from dataclasses import replace

import librosa
import numpy as np
import pytest
import torch

from langid_fastai.clips.image_kinds import feature_image
from langid_fastai.errors import AudioError
from langid_fastai.inference.scorers import WaveformScorer
from langid_fastai.mel_config import MelConfig
from langid_fastai.preprocessing import (
    hann_window,
    mel_filters,
    mel_scale,
    power_to_db,
    stft_power,
)

SPEECH = MelConfig(16_000, 1.0, 512, 160, 32, 60.0, 3800.0, 80.0, win_length=400)


@pytest.fixture
def sound(rng):
    t = np.arange(16_000) / 16_000
    return (
        0.3 * np.sin(2 * np.pi * (300 + 400 * t) * t) + 0.05 * rng.standard_normal(16_000)
    ).astype(np.float32)


@pytest.mark.parametrize(("n_fft", "win_length"), [(512, 400), (512, 401), (511, 400), (512, 512)])
def test_power_is_that_of_librosa(sound, n_fft, win_length):
    ours = stft_power(sound, n_fft=n_fft, hop_length=160, win_length=win_length)
    theirs = librosa.stft(
        sound, n_fft=n_fft, hop_length=160, win_length=win_length, pad_mode="constant"
    )
    assert ours.shape[0] == theirs.shape[0]
    n = min(ours.shape[1], theirs.shape[1])  # librosa pads an odd frame by one sample less
    theirs = np.abs(theirs[:, :n]) ** 2
    np.testing.assert_allclose(ours[:, :n], theirs, rtol=1e-3, atol=1e-5 * theirs.max())


def test_mel_decibels_are_those_of_librosa(sound):
    theirs = librosa.feature.melspectrogram(
        y=sound,
        sr=16_000,
        n_fft=512,
        win_length=400,
        hop_length=160,
        n_mels=32,
        fmin=60,
        fmax=3800,
        pad_mode="constant",
    )
    theirs = librosa.power_to_db(theirs, ref=np.max)
    S = stft_power(sound, n_fft=512, hop_length=160, win_length=400)
    ours = power_to_db(mel_scale(S, mel_filters(16_000, 512, 32, 60.0, 3800.0)))
    np.testing.assert_allclose(ours, theirs, atol=0.01)


def test_no_win_length_is_the_whole_frame(sound):
    np.testing.assert_array_equal(
        stft_power(sound, n_fft=512, win_length=512), stft_power(sound, n_fft=512)
    )
    np.testing.assert_array_equal(hann_window(400), np.hanning(401)[:-1].astype(np.float32))


@pytest.mark.parametrize("kind", ["mel", "mfcc", "stft", "chroma"])
def test_win_length_applies_to_every_kind_and_in_torch(sound, kind):
    config = replace(SPEECH, kind=kind)
    image = feature_image(sound, config)
    assert (image != feature_image(sound, replace(config, win_length=None))).mean() > 0.1
    twin = WaveformScorer(torch.nn.Identity(), config).images(torch.from_numpy(sound)[None])[0]
    off = np.abs(twin.numpy() - image)
    assert off.max() <= 1  # at a border of rounding
    assert (off > 0).mean() < 0.01


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"win_length": 4096}, "win_length=4096 must be at most n_fft=2048"),
        ({"win_length": 400}, "hop_length=512 must be at most win_length=400"),
        ({"win_length": 0}, "win_length=0 must be a positive whole number"),
        ({"win_length": 1024.0}, "win_length=1024.0 must be a positive whole number"),
    ],
)
def test_an_invalid_window_is_refused(values, said):
    with pytest.raises(AudioError, match=said):
        MelConfig(**values)


def test_a_window_longer_than_the_frame_is_refused(sound):
    with pytest.raises(AudioError, match="win_length=600 must be 1 to n_fft=512"):
        stft_power(sound, n_fft=512, win_length=600)


def test_files_without_win_length_are_unchanged(tmp_path):
    file = tmp_path / "mel.json"
    MelConfig().write(file)
    content = json.loads(file.read_text())
    assert "win_length" not in content  # so an older version reads it
    assert MelConfig.read(file) == MelConfig()
    SPEECH.write(file)
    assert json.loads(file.read_text())["win_length"] == 400
    assert MelConfig.read(file) == SPEECH
