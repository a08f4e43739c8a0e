"""The ONNX file contains everything and gives the answers of torch, or is not written."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import exported_onnx
import numpy as np
import onnx
import onnxruntime
import pytest
import soundfile as sf
import torch
from command_line import ARCH
from exported_onnx import LAST, SR, recordings_of
from safetensors.torch import load_file
from torch import nn

from langid_fastai.audio.files import load_audio
from langid_fastai.errors import AudioError, ModelError
from langid_fastai.evaluation import apply_temperature, predict_images
from langid_fastai.inference import onnx_export
from langid_fastai.inference.backends import _in_batches, onnx_metadata
from langid_fastai.inference.onnx_export import OPSET, export_onnx
from langid_fastai.inference.scorers import ImageScorer, WaveformScorer
from langid_fastai.learner import load_learner, make_dataloaders
from langid_fastai.models.folder import read_info, tensors_hash, write_model
from langid_fastai.pipeline.run_folder import Run
from langid_fastai.prediction import LanguageIdentifier
from langid_fastai.preprocessing import MelConfig, mel_image, write_png

folder = exported_onnx.folder

ROOT = Path(onnx_export.__file__).parents[2]


@pytest.fixture(scope="module")
def session(exported):
    return onnxruntime.InferenceSession(exported[0] / "model.onnx")


def without_onnx(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "torch")
    (copy / "model.onnx").unlink()
    return LanguageIdentifier.load(copy)


def assert_same_answers(ours, theirs, atol=1e-3):
    assert ours[0]["label"] == theirs[0]["label"]
    scores = [
        {answer["label"]: answer["score"] for answer in answers} for answers in (ours, theirs)
    ]
    assert scores[0] == pytest.approx(scores[1], abs=atol)


# The file


def test_the_export_reports_what_it_compared(exported, trained):
    folder, export = exported
    assert export.file == folder / "model.onnx"
    assert export.n_clips == export.n_same == 4 + len(recordings_of(trained))
    assert export.difference <= 1e-3
    assert sorted(file.name for file in folder.iterdir() if "onnx" in file.name) == ["model.onnx"]


def test_the_file_is_valid_for_any_batch_size_and_length(exported):
    onnx.checker.check_model(exported[0] / "model.onnx", full_check=True)
    model = onnx.load(exported[0] / "model.onnx")
    assert [(o.domain, o.version) for o in model.opset_import] == [("", OPSET)]
    [waveform] = model.graph.input
    [log_probs] = model.graph.output
    assert waveform.name == "waveform"
    assert [d.dim_param for d in waveform.type.tensor_type.shape.dim] == ["batch", "n_samples"]
    assert log_probs.name == "log_probs"
    sizes = [d.dim_param or d.dim_value for d in log_probs.type.tensor_type.shape.dim]
    assert sizes == ["batch", 2]


def test_metadata_have_what_another_program_needs(exported, session):
    info = read_info(exported[0])
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["vocab"]) == list(info.vocab)
    assert int(told["sr"]) == SR
    assert float(told["clip_seconds"]) == 1.0
    assert float(told["temperature"]) == info.calibration.temperature
    assert MelConfig(**json.loads(told["mel"])) == info.mel
    assert told["format"] == "langid_fastai-1"
    assert told["tensors"] == tensors_hash(exported[0])


def test_the_file_contains_no_paths_of_this_machine(exported):
    """torch records the source file and line of each node."""
    content = (exported[0] / "model.onnx").read_bytes()
    places = [ROOT, Path(torch.__file__).parent, Path(sys.prefix), exported[0]]
    assert not [place for place in places if str(place.resolve()).encode() + b"/" in content]
    assert b"langid_fastai/" not in content


def test_scores_sum_to_one_whatever_the_batch_and_length(session, rng):
    for shape in [(1, SR), (3, SR), (1, 3 * SR + 17), (2, 2 * SR)]:
        y = (rng.standard_normal(shape) / 10).astype(np.float32)
        [log_probs] = session.run(None, {"waveform": y})
        assert log_probs.shape == (shape[0], 2)
        np.testing.assert_allclose(np.exp(log_probs).sum(axis=1), 1, atol=1e-5)
        for row, alone in zip(log_probs, y, strict=True):
            [expected] = session.run(None, {"waveform": alone[None]})
            np.testing.assert_allclose(row, expected[0], atol=1e-4)


# The same answers


def test_answers_are_those_of_torch(exported, trained, tmp_path):
    with_onnx = LanguageIdentifier.load(exported[0])
    with_torch = without_onnx(exported[0], tmp_path)
    assert (with_onnx.engine.name, with_torch.engine.name) == ("onnx", "torch")
    for file in recordings_of(trained):
        assert_same_answers(with_onnx(file), with_torch(file))


def test_one_clip_has_the_scores_of_its_image(exported, trained, tmp_path):
    """Compare the evaluation path, through PNG and fastai, with the file."""
    run = Run(trained[0])
    identifier = LanguageIdentifier.load(exported[0])
    clips = [load_audio(file, sr=SR)[:SR] for file in recordings_of(trained)]
    pictures = [tmp_path / f"{i}.png" for i in range(len(clips))]
    for y, picture in zip(clips, pictures, strict=True):
        write_png(mel_image(y, identifier.info.mel), picture)
    learn = load_learner(run.folder, make_dataloaders(run.images))
    temperature = identifier.info.calibration.temperature
    expected = apply_temperature(predict_images(learn, pictures), temperature)
    found = np.stack([identifier.log_probs((y, SR)) for y in clips])
    np.testing.assert_allclose(np.exp(found), np.exp(expected), atol=1e-3)
    np.testing.assert_array_equal(found.argmax(axis=1), expected.argmax(axis=1))


CONFIGS = {
    "default": MelConfig(),
    "small": MelConfig(SR, 1.0, 256, 128, 32),
    "odd n_fft, no power of two": MelConfig(SR, 1.0, 401, 160, 24),
    "band and range": MelConfig(16_000, 2.0, 1024, 300, 64, 100.0, 5000.0, 60.0),
}


def sounds(config):
    """Speech-like, a tone, faint, loud, clicks in silence, with an offset."""
    rng = np.random.default_rng(0)
    t = np.arange(config.n_samples) / config.sr
    buzz = (np.mod(120 * t, 1) - 0.5) * (0.5 + 0.5 * np.sin(6 * np.pi * t)) ** 4
    noise = rng.standard_normal(len(t))
    clicks = np.zeros(len(t))
    clicks[len(t) // 3 :: len(t) // 4] = 1
    buzzes = [buzz + noise / 1000, np.sin(2000 * t), 2e-4 * noise, 1e6 * buzz, clicks, buzz + 0.1]
    return np.float32(buzzes)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_the_front_end_makes_the_images_of_training(config):
    scorer = WaveformScorer(ImageScorer(nn.Identity()), config)
    y = sounds(config)
    assert_same_images(scorer.images(torch.from_numpy(y)).numpy(), y, config)


@pytest.mark.parametrize("name", sorted(CONFIGS.keys() - {"small"}))
def test_the_front_end_in_onnxruntime_makes_the_same_images(name, tmp_path):
    """The small one is that of the exported model, whose answers are compared above."""
    config = CONFIGS[name]

    class Images(nn.Module):
        def __init__(self):
            super().__init__()
            self.scorer = WaveformScorer(ImageScorer(nn.Identity()), config)

        def forward(self, waveform):
            return self.scorer.images(waveform)

    y = sounds(config)
    program = torch.onnx.export(
        Images().eval(),
        (torch.zeros(2, config.n_samples),),
        dynamo=True,
        opset_version=OPSET,
        input_names=["waveform"],
        dynamic_shapes={"waveform": {0: "batch", 1: "n_samples"}},
        verbose=False,
    )
    program.save(tmp_path / "images.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "images.onnx")
    assert_same_images(session.run(None, {"waveform": y})[0], y, config)
    longer = np.float32([np.concatenate([y[0], y[1][:777]])])
    assert_same_images(session.run(None, {"waveform": longer})[0], longer, config)


def assert_same_images(images, waveforms, config):
    """Grey values differ by at most one, and only where the exact value is between two."""
    expected = np.stack([mel_image(y, config) for y in waveforms]).astype(float)
    assert images.shape == expected.shape
    assert np.abs(images - expected).max() <= 1
    assert (images != expected).mean() < 1e-2


def test_large_images_are_scored_in_smaller_batches():
    sizes = []

    def score(windows):
        sizes.append(len(windows))
        return windows[:, :2]

    y = np.arange(24, dtype=np.float32).reshape(8, 3)
    for config in (MelConfig(), MelConfig(n_mels=1024), MelConfig(hop_length=16, n_mels=16)):
        np.testing.assert_array_equal(_in_batches(score, config)(y), y[:, :2])
    assert sizes == [8, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1]


# Beside other models, without onnxruntime


def test_without_onnxruntime_torch_is_used(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert LanguageIdentifier.load(folder).engine.name == "torch"


def test_nothing_heavy_is_imported(exported, trained):
    """Heavy imports would slow down a cold start."""
    file = str(recordings_of(trained)[0])
    code = (
        "import sys\nfrom langid_fastai import LanguageIdentifier\n"
        f"answers = LanguageIdentifier.load({str(exported[0])!r})({file!r})\n"
        "heavy = ['torch', 'torchvision', 'fastai', 'librosa', 'pandas', 'matplotlib', 'onnx']\n"
        "print(len(answers), [name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "2 []"


# What can go wrong


def test_tensors_that_change_during_the_export_are_detected(folder, monkeypatch):
    """Otherwise, the old tensors would be exported with the hash of the new ones."""
    load = onnx_export.load_network

    def retrained(folder):
        loaded = load(folder)
        tensors = load_file(folder / "model.safetensors")
        write_model(folder, tensors | {LAST: -tensors[LAST]}, loaded[1])
        return loaded

    monkeypatch.setattr(onnx_export, "load_network", retrained)
    with pytest.raises(ModelError, match="its tensors changed while they were read"):
        export_onnx(folder)


@pytest.mark.parametrize("module", ["onnx", "onnxruntime", "onnxscript"])
def test_export_without_the_extra_names_it(folder, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModelError, match=rf"needs {module}.*langid_fastai\[onnx\]"):
        export_onnx(folder)


@pytest.mark.parametrize("difference", [0.01, np.nan])
def test_a_file_that_differs_from_torch_is_not_written(folder, monkeypatch, difference):
    (folder / "model.onnx").unlink()
    monkeypatch.setattr("langid_fastai.inference.onnx_export._compare", lambda *_: (0, difference))
    with pytest.raises(ModelError, match="no file is written"):
        export_onnx(folder)
    assert not [file for file in folder.iterdir() if "onnx" in file.name]


def test_a_file_for_a_single_length_is_not_written(folder, monkeypatch):
    export = torch.onnx.export

    def fixed(*argv, dynamic_shapes, **options):
        return export(*argv, **options)

    (folder / "model.onnx").unlink()
    monkeypatch.setattr(torch.onnx, "export", fixed)
    with pytest.raises(ModelError, match=r"does not take 1 × 8000 samples.*no file is written"):
        export_onnx(folder)
    assert not [file for file in folder.iterdir() if "onnx" in file.name]


def test_an_arch_that_cannot_be_exported_is_named(folder, monkeypatch):
    def refuse(*_, **__):
        raise torch.onnx.OnnxExporterError("step 1") from RuntimeError("no such operator\nmore")

    monkeypatch.setattr(torch.onnx, "export", refuse)
    with pytest.raises(ModelError, match=rf"'{ARCH}' cannot be exported \(no such operator\)"):
        export_onnx(folder)


def test_metadata_cover_all_that_answers_depend_on(exported):
    info = read_info(exported[0])
    told = onnx_metadata(info, "0")
    others = [
        replace(info, vocab=("es", "de")),
        replace(info, arch="resnet34"),
        replace(info, mel=replace(info.mel, fmax=3000.0)),
        replace(info, calibration=replace(info.calibration, temperature=9.0)),
    ]
    assert all(onnx_metadata(other, "0") != told for other in others)
    assert onnx_metadata(info, "1") != told


def test_an_export_cannot_be_compared_on_silence(folder, tmp_path):
    sf.write(tmp_path / "silence.wav", np.zeros(16_000), 8_000)
    with pytest.raises(AudioError, match=r"silence.wav: silent; compare on speech"):
        export_onnx(folder, [tmp_path / "silence.wav"])
