"""Channels are averaged or chosen; those that cancel are noticed."""

import numpy as np
import pytest

from langid_fastai.audio.channels import channel_number
from langid_fastai.audio.files import count_channels, load_audio, stream_audio, usual_channel
from langid_fastai.errors import AudioError
from langid_fastai.mel_config import MelConfig

SR = 16_000


@pytest.fixture
def a(rng):
    return (0.1 * rng.standard_normal(25 * SR)).astype(np.float32)


@pytest.fixture
def b(rng):
    return (0.1 * rng.standard_normal(25 * SR)).astype(np.float32)


@pytest.fixture
def written(tmp_path, write_audio):
    def write(*channels):
        y = np.stack(channels, axis=1)
        return write_audio(tmp_path / "a.wav", y, SR, subtype="FLOAT")

    return write


@pytest.mark.parametrize(
    ("channels", "left_out"),
    [
        (lambda a, b, n: (a, -a), "2"),
        (lambda a, b, n: (-0.8 * a, a), "2"),
        (lambda a, b, n: (a + 0.1 * n, -a), "2"),
        (lambda a, b, n: (a + 0.01, -a + 0.01), "2"),
        (lambda a, b, n: (a, b, -a), "3"),
        (lambda a, b, n: (a, -a, b, -b), "2, 4"),
        (lambda a, b, n: (a, -a, 0 * a), "2"),
    ],
    ids=["inverted", "softer", "noise", "offset", "third", "two pairs", "dead"],
)
def test_channels_that_cancel_are_left_out(rng, a, b, written, caplog, channels, left_out):
    noise = (0.1 * rng.standard_normal(len(a))).astype(np.float32)
    y = np.stack(channels(a, b, noise))
    file = written(*y)
    kept = [i for i in range(len(y)) if str(i + 1) not in left_out]
    np.testing.assert_allclose(load_audio(file, sr=SR), y[kept].mean(axis=0), rtol=0, atol=1e-6)
    [record] = caplog.records  # once, not for each block
    assert record.getMessage().endswith(f"left out: channel {left_out}")


@pytest.mark.parametrize(
    "channels",
    [
        lambda a, b: (a, a),
        lambda a, b: (a, b),
        lambda a, b: (a, 0 * a),
        lambda a, b: (a, -0.01 * a),  # crosstalk of a call
        lambda a, b: (0 * a, 0 * a),
        lambda a, b: (a, 0.01 * b),
        lambda a, b: tuple(np.roll(a, 1000 * i) for i in range(16)),
    ],
    ids=["same", "two speakers", "dead", "crosstalk", "silent", "hiss", "sixteen"],
)
def test_other_channels_are_averaged(a, b, written, caplog, channels):
    y = np.stack(channels(a, b))
    np.testing.assert_allclose(load_audio(written(*y), sr=SR), y.mean(axis=0), rtol=0, atol=1e-6)
    assert caplog.records == []


def test_channel_is_chosen_by_name_or_number(a, b, written):
    file = written(a, b, -a)
    assert count_channels(file) == 3
    for channel, expected in (("left", a), (1, a), ("right", b), (2, b), ("3", -a)):
        np.testing.assert_array_equal(load_audio(file, sr=SR, channel=channel), expected)
    each = load_audio(file, sr=SR, channel="each")
    np.testing.assert_array_equal(each, np.stack([a, b, -a]), strict=True)
    blocks = list(stream_audio(file, sr=SR, channel="right"))
    np.testing.assert_array_equal(np.concatenate(blocks), b)


@pytest.mark.parametrize("channel", [0, -1, 1.5, True, "both", "", "0", "each"])
def test_no_channel(a, written, channel):
    with pytest.raises(AudioError, match="must be left, right, or a number; channels are counted"):
        channel_number(channel)
    with pytest.raises(AudioError, match="counted from 1"):
        next(stream_audio(written(a, a), channel=channel))


def test_missing_channel(a, written):
    with pytest.raises(AudioError, match=r"a\.wav: has 1 channel, so there is no channel 2"):
        load_audio(written(a), channel="right")
    with pytest.raises(AudioError, match=r"a\.wav: has 2 channels, so there is no channel 3"):
        load_audio(written(a, a), channel=3)


def test_channel_of_a_mel_config(tmp_path):
    config = MelConfig(channel="right")
    assert config.channel == 2
    config.write(tmp_path / "mel.json")
    assert MelConfig.read(tmp_path / "mel.json") == config
    assert "channel" not in MelConfig().to_dict()  # so an older version reads it
    with pytest.raises(AudioError, match="langid corpus cut CORPUS --channel each"):
        MelConfig(channel="each")


def test_channel_of_a_model(a, written, caplog):
    assert usual_channel(written(a, a), 2) == 2
    assert usual_channel(written(a), None) is None
    assert caplog.records == []
    assert usual_channel(written(a), 2) is None
    assert "the model uses channel 2; the file has 1" in caplog.text
