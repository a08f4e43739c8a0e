"""What is silent, and how loud a sound is, in every part of the library that decides it.

`BELOW` are sounds without speech: all of them are silence, alone and beside speech.
"""

import numpy as np
import pytest
import torch
from torch import nn

from langid_fastai.audio.levels import is_silent, prepare_sound, remove_offset, sound_level
from langid_fastai.clips.export import export_images
from langid_fastai.clips.waveforms import encode_waveform, read_waveform
from langid_fastai.corpus.make.cut import cut_corpus
from langid_fastai.corpus.readers.recognise import read_corpus
from langid_fastai.corpus.split import split_corpus
from langid_fastai.errors import AudioError
from langid_fastai.inference.backends import Engine
from langid_fastai.inference.scorers import ImageScorer, WaveformScorer
from langid_fastai.models.model_info import ModelInfo
from langid_fastai.prediction import LanguageIdentifier
from langid_fastai.preprocessing import MelConfig, mel_image

SR = 8_000
MEL = MelConfig(SR, 2.0, 256, 128, 32)
SECONDS = 8


def times(seconds=SECONDS, sr=SR):
    return np.arange(round(seconds * sr)) / sr


def sine(f, t):
    return np.sin(2 * np.pi * f * t)


def noise(t, level):
    return np.random.default_rng(0).normal(0, level, len(t))


BELOW = {
    "digital silence": lambda t: 0 * t,
    "offset": lambda t: 0 * t + 0.01,
    "large negative offset": lambda t: 0 * t - 0.5,
    "slow drift": lambda t: 0.05 * sine(0.1, t),
    "drift within a second": lambda t: 0.02 + 0.02 * sine(1.3, t),
    "hum of 50 Hz beside an offset": lambda t: 0.01 + 0.01 * sine(49.9, t),
    "hum of 60 Hz beside an offset": lambda t: 0.01 + 0.01 * sine(60.1, t),
    "step of the offset": lambda t: 0.01 * (t > t[-1] / 2),
    "step and hum": lambda t: 0.02 * (t > 0.7 * t[-1]) + 0.003 * sine(50, t),
    "a single click": lambda t: 1.0 * (np.arange(len(t)) == len(t) // 3),
    "rounding to 16 bits": lambda t: (
        np.round(np.random.default_rng(0).normal(0, 0.4, len(t))) / 2**15
    ),
}
ABOVE = {
    "soft tone": lambda t: 1e-4 * sine(200, t),
    "low voice": lambda t: 0.01 * sine(85, t) + 0.01 * sine(170, t),
    "noise of a room": lambda t: noise(t, 1e-4),
    "a short word": lambda t: 0.01 * sine(300, t) * (np.abs(t - 4) < 0.1),
    "hum with a voice": lambda t: 0.05 * sine(50, t) + 1e-3 * sine(250, t),
}


@pytest.fixture(params=BELOW)
def below(request):
    return BELOW[request.param](times()).astype(np.float32)


def syllables(seconds, sr=SR):
    """A buzz of 140 Hz, modulated like speech."""
    t = times(seconds, sr)
    return (0.3 * sine(2, t) ** 2 * (np.mod(140 * t, 1) - 0.5)).astype(np.float32)


@pytest.mark.parametrize("sr", [1_000, 8_000, 22_050, 48_000])
@pytest.mark.parametrize("seconds", [1.0, 2.53, 10.0])
@pytest.mark.parametrize("name", [*BELOW, *ABOVE])
def test_silence_is_what_has_no_speech(name, sr, seconds):
    t = times(max(seconds, 5) if name == "a short word" else seconds, sr)
    y = {**BELOW, **ABOVE}[name](t).astype(np.float32)
    assert is_silent(y, sr) == (name in BELOW)
    assert (sound_level(y, sr) == 0) == (name in BELOW)


def test_level_is_that_of_the_speech_alone(below):
    speech = syllables(SECONDS)
    level = sound_level(speech, SR)
    assert level == pytest.approx(np.std(speech), rel=0.1)
    assert sound_level(speech + below, SR) == pytest.approx(level, rel=0.05)


@pytest.mark.parametrize("n", [1, 2, 7, 799, 800, 801, 1_200, 1_600])
def test_short_pieces_have_a_level(n):
    assert sound_level(np.full(n, 0.3, dtype=np.float32), SR) == 0
    assert is_silent(np.full(n, 0.3, dtype=np.float32), SR)
    if n > 700:  # long enough for the tone
        assert sound_level(sine(440, times())[:n].astype(np.float32), SR) > 0.3


def test_offset_is_removed_from_each_waveform_of_a_batch():
    y = np.float32([[1, 2, 3], [0, 0, 6]])
    assert remove_offset(y).tolist() == [[-1, 0, 1], [-2, -2, 4]]
    assert remove_offset(y).dtype == np.float32


def test_silence_makes_no_clip(below):
    with pytest.raises(AudioError, match="silent: no sound above 100 Hz reaches -90 dB"):
        prepare_sound(below, SR)
    with pytest.raises(AudioError, match="silent"):
        mel_image(below, MEL)
    with pytest.raises(AudioError, match="silent"):
        encode_waveform(below, SR)


def test_offset_shows_in_no_kind_of_clip():
    y = syllables(2)
    shifted = y + np.float32(0.1)
    assert np.abs(mel_image(y, MEL).astype(int) - mel_image(shifted, MEL)).max() <= 1
    wavs = [read_waveform(encode_waveform(sound, SR)) for sound in (y, shifted)]
    np.testing.assert_allclose(*wavs, atol=1e-4)


def test_front_end_of_an_exported_model_removes_the_offset():
    scorer = WaveformScorer(ImageScorer(nn.Identity()), MEL)
    y = np.stack([syllables(2), syllables(2) + np.float32(0.1)])
    images = scorer.images(torch.from_numpy(y)).numpy()
    assert np.abs(images - mel_image(y[0], MEL)).max() <= 1


def identifier_that_records(seen):
    def score(windows):
        seen.extend(windows)
        return np.log(np.tile([0.9, 0.1], (len(windows), 1)))

    return LanguageIdentifier(ModelInfo("none", ("de", "es"), MEL), Engine("torch", score))


def test_prediction_refuses_silence(below):
    identifier = identifier_that_records([])
    with pytest.raises(AudioError, match="silent from start to end"):
        identifier((below, SR))
    assert identifier.timeline((below, SR)) == []


def test_pauses_are_not_scored_whatever_is_below_them(below):
    """Speech, then a quiet room: the timeline is that without the disturbance."""
    rng = np.random.default_rng(0)
    room = np.concatenate([syllables(SECONDS), 1e-4 * rng.standard_normal(SECONDS * SR)])
    sounds = [room, room + np.concatenate([below, below])]
    segments = [identifier_that_records([]).timeline((y.astype("f4"), SR)) for y in sounds]
    assert segments[0] == segments[1]
    assert segments[0][-1]["end"] == pytest.approx(SECONDS, abs=0.5)


def test_silence_is_not_exported(tmp_path, write_audio, below):
    for language in ("de", "es"):
        for i in range(3):
            write_audio(tmp_path / "in" / language / f"speech{i}.wav", syllables(2 + i), SR)
    write_audio(tmp_path / "in" / "de" / "below.wav", below, SR, subtype="FLOAT")
    corpus = split_corpus(read_corpus(tmp_path / "in"))
    result = export_images(corpus, tmp_path / "images", MEL, n_jobs=1)
    assert set(result.failed["path"]) == {"de/below.wav"}
    assert "de/below.wav" not in set(result.clips["path"])


def test_silence_is_not_cut_into_utterances(tmp_path, write_audio, below):
    write_audio(tmp_path / "in" / "de" / "below.wav", below, SR, subtype="FLOAT")
    write_audio(tmp_path / "in" / "es" / "speech.wav", syllables(5), SR)
    result = cut_corpus(read_corpus(tmp_path / "in"), tmp_path / "out", n_jobs=1)
    [(path, reason)] = result.failed.values.tolist()
    assert path == "de/below.wav"
    # A click is too short.
    assert reason in ("silent: there is nothing to cut", "has no utterance of 3 to 15 s")
