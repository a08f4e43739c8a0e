"""One ONNX file with everything inside: it answers as torch does, and only for its own model."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import soundfile as sf
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import load_file
from torch import nn

from langid_fastai import onnx_export
from langid_fastai.audio import load_audio
from langid_fastai.engines import _in_batches, onnx_metadata
from langid_fastai.errors import AudioError, ModelError
from langid_fastai.evaluation import apply_temperature, predict_images
from langid_fastai.learner import load_learner, make_dataloaders
from langid_fastai.model_folder import read_info, tensors_hash, write_info, write_model
from langid_fastai.onnx_export import OPSET, export_onnx
from langid_fastai.prediction import LanguageIdentifier
from langid_fastai.preprocessing import MelConfig, mel_image, write_png
from langid_fastai.run import Run
from langid_fastai.serving import ImageScorer, WaveformScorer

SR = 8000
ROOT = Path(onnx_export.__file__).parents[1]


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    """A copy of a trained model with its ``model.onnx``, and what the export said."""
    folder = tmp_path_factory.mktemp("exported") / "model"
    shutil.copytree(Run(trained[0]).model, folder)
    return folder, export_onnx(folder, recordings_of(trained))


@pytest.fixture
def folder(exported, tmp_path):
    """A copy to be spoiled."""
    return shutil.copytree(exported[0], tmp_path / "model")


@pytest.fixture(scope="module")
def session(exported):
    return onnxruntime.InferenceSession(exported[0] / "model.onnx")


def recordings_of(trained):
    run = Run(trained[0])
    return [run.corpus().root / p for p in run.corpus().index.query("split == 'test'")["path"]]


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


def test_the_export_says_what_it_compared(exported, trained):
    folder, export = exported
    assert export.file == folder / "model.onnx"
    assert export.n_clips == export.n_same == 4 + len(recordings_of(trained))
    assert export.difference <= 1e-3
    assert sorted(file.name for file in folder.iterdir() if "onnx" in file.name) == ["model.onnx"]


def test_the_file_is_sound_and_its_sizes_are_free(exported):
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


def test_the_file_tells_what_another_program_needs(exported, session):
    info = read_info(exported[0])
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["vocab"]) == list(info.vocab)
    assert int(told["sr"]) == SR
    assert float(told["clip_seconds"]) == 1.0
    assert float(told["temperature"]) == info.calibration.temperature
    assert MelConfig(**json.loads(told["mel"])) == info.mel
    assert told["format"] == "langid_fastai-1"
    assert told["tensors"] == tensors_hash(exported[0])


def test_the_file_tells_nothing_of_the_machine_that_made_it(exported):
    """torch notes the line of code behind each node, with its path."""
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
    """The path of the tests, by PNG and fastai, against the file."""
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
    """Speech-like, a tone, faint, loud, a click in silence."""
    rng = np.random.default_rng(0)
    t = np.arange(config.n_samples) / config.sr
    buzz = (np.mod(120 * t, 1) - 0.5) * (0.5 + 0.5 * np.sin(6 * np.pi * t)) ** 4
    noise = rng.standard_normal(len(t))
    click = np.zeros(len(t))
    click[len(t) // 3] = 1
    return np.float32([buzz + noise / 1000, np.sin(2000 * t), 2e-4 * noise, 1e6 * buzz, click])


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_the_front_end_makes_the_images_of_training(config):
    scorer = WaveformScorer(ImageScorer(nn.Identity()), config)
    y = sounds(config)
    assert_same_images(scorer.images(torch.from_numpy(y)).numpy(), y, config)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_the_front_end_by_onnxruntime_makes_them_too(config, tmp_path):
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
    """Grey values differ by one at most, and that where the exact value lies between two."""
    expected = np.stack([mel_image(y, config) for y in waveforms]).astype(float)
    assert images.shape == expected.shape
    assert np.abs(images - expected).max() <= 1
    assert (images != expected).mean() < 1e-2


# Only for its own model


def test_a_file_of_other_tensors_is_left_aside(folder, trained):
    tensors = load_file(folder / "model.safetensors")
    tensors["1.8.weight"] = tensors["1.8.weight"].flip(0).contiguous()  # de and es change places
    write_model(folder, tensors, read_info(folder))
    old = LanguageIdentifier.load(Run(trained[0]).model)
    with pytest.warns(UserWarning, match=r"model\.onnx is left aside.*of other tensors; make it"):
        new = LanguageIdentifier.load(folder)
    assert new.engine.name == "torch"
    for file in recordings_of(trained):
        np.testing.assert_allclose(new.log_probs(file), old.log_probs(file)[::-1], atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "differing"),
    [
        ({"calibration": {"temperature": 3.0}}, "temperature"),
        ({"vocab": ("es", "de")}, "vocab"),
        ({"mel": {"top_db": 60.0}}, "mel"),
    ],
)
def test_a_file_of_another_description_is_left_aside(folder, changes, differing):
    info = read_info(folder)
    for name, value in changes.items():
        within = isinstance(value, dict)
        info = replace(info, **{name: replace(getattr(info, name), **value) if within else value})
    write_info(folder, info)
    with pytest.warns(UserWarning, match=f"of other {differing}"):
        assert LanguageIdentifier.load(folder).engine.name == "torch"
    assert export_onnx(folder).difference <= 1e-3
    assert LanguageIdentifier.load(folder).engine.name == "onnx"


def test_another_threshold_needs_no_new_file(folder):
    info = read_info(folder)
    write_info(folder, replace(info, calibration=replace(info.calibration, threshold=0.99)))
    assert LanguageIdentifier.load(folder).engine.name == "onnx"


def test_a_file_without_our_metadata_is_left_aside(folder):
    model = onnx.load(folder / "model.onnx")
    del model.metadata_props[:]
    onnx.save(model, folder / "model.onnx")
    write_info(folder, replace(read_info(folder), onnx=None))
    with pytest.warns(UserWarning, match="left aside"):
        assert LanguageIdentifier.load(folder).engine.name == "torch"


@pytest.mark.parametrize("content", [b"", b"no model", b"\0" * 99])
def test_a_damaged_file_is_named(folder, content):
    (folder / "model.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.onnx: damaged.*langid export"):
        LanguageIdentifier.load(folder)


def test_a_bit_that_flipped_is_noticed(folder):
    """Without this it may answer, wrongly and with confidence."""
    content = bytearray((folder / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 0x40
    (folder / "model.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.onnx: damaged.*langid export"):
        LanguageIdentifier.load(folder)


def test_it_answers_without_the_tensors(folder, trained):
    recording = recordings_of(trained)[0]
    before = LanguageIdentifier.load(folder)(recording)
    (folder / "model.safetensors").unlink()
    assert LanguageIdentifier.load(folder)(recording) == before


def test_an_older_folder_tells_no_fingerprint(folder):
    write_info(folder, replace(read_info(folder), onnx=None, tensors=None))
    assert LanguageIdentifier.load(folder).engine.name == "onnx"
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"model\.safetensors: missing"):
        LanguageIdentifier.load(folder)


# A stranger's file, which says that it is of the model beside it


START = ("waveform", TensorProto.FLOAT, ["batch", "n_samples"])
END = ("log_probs", TensorProto.FLOAT, ["batch", "n_languages"])


def forge(folder, nodes, weights=(), *, start=START, end=END, saved=None):
    """Write a ``model.onnx`` of other contents, with the metadata of the right one."""
    graph = helper.make_graph(
        nodes,
        "forged",
        [helper.make_tensor_value_info(*start)],
        [helper.make_tensor_value_info(*end)],
        [numpy_helper.from_array(value, name) for name, value in weights],
    )
    opset = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=10)
    helper.set_model_props(model, onnx_metadata(read_info(folder), tensors_hash(folder)))
    onnx.save(model, folder / "model.onnx", **(saved or {}))
    write_info(folder, replace(read_info(folder), onnx=None))


def scores_of(n_columns, shape):
    """Nodes that give the first samples as scores, in another shape."""
    node = helper.make_node
    return [
        node("Slice", ["waveform", "zero", "n", "one"], ["scores"]),
        node("Reshape", ["scores", "shape"], ["log_probs"]),
    ], [
        ("zero", np.array([0])),
        ("one", np.array([1])),
        ("n", np.array([n_columns])),
        ("shape", np.array(shape)),
    ]


@pytest.mark.parametrize(
    ("n_columns", "shape", "message"),
    [
        (5, [-1, 5], r"shape \(8, 5\) for 8 windows and 2 languages"),
        (1, [-1, 1], r"shape \(8, 1\) for 8 windows and 2 languages"),
        (2, [1, -1], r"shape \(1, 16\) for 8 windows and 2 languages"),
    ],
)
def test_scores_of_another_shape_are_refused(folder, tone, n_columns, shape, message):
    nodes, weights = scores_of(n_columns, shape)
    forge(folder, nodes, weights)
    identifier = LanguageIdentifier.load(folder)
    assert identifier.engine.name == "onnx"
    with pytest.raises(
        ModelError, match=rf"is not the model beside it \(.*{message}.*make it anew"
    ):
        identifier.engine.score(np.zeros((8, SR), dtype=np.float32) + tone(440, SR)[:SR])


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        ("sound", ("log_probs", TensorProto.FLOAT, ["a", "b"]), "it takes .*'sound'"),
        ("waveform", ("scores", TensorProto.FLOAT, ["a", "b"]), "it gives .*'scores'"),
        ("waveform", ("log_probs", TensorProto.DOUBLE, ["a", "b"]), r"it gives .*tensor\(double\)"),
    ],
)
def test_other_ends_are_refused_on_loading(folder, start, end, message):
    operation = helper.make_node("Cast", [start], [end[0]], to=end[1])
    forge(folder, [operation], end=end, start=(start, TensorProto.FLOAT, ["a", "b"]))
    with pytest.raises(ModelError, match=f"is not the model beside it.*{message}"):
        LanguageIdentifier.load(folder)


@pytest.mark.parametrize("shape", [[], ["a"], ["a", "b", "c"]])
def test_scores_of_other_dimensions_are_refused_on_loading(folder, shape):
    sizes = ("shape", np.array([1] * len(shape), dtype=np.int64))
    axes = ("axes", np.array([0, 1]))
    nodes = [
        helper.make_node("ReduceMax", ["waveform", "axes"], ["highest"], keepdims=0),
        helper.make_node("Expand", ["highest", "shape"], ["log_probs"]),
    ]
    forge(folder, nodes, [sizes, axes], end=("log_probs", TensorProto.FLOAT, shape))
    with pytest.raises(ModelError, match=rf"it gives .*'tensor\(float\)', {len(shape)}\)"):
        LanguageIdentifier.load(folder)


def test_a_file_for_one_length_is_named_when_it_fails(folder):
    same = [helper.make_node("Identity", ["waveform"], ["log_probs"])]
    forge(folder, same, start=("waveform", TensorProto.FLOAT, ["batch", 2]))
    score = LanguageIdentifier.load(folder).engine.score
    with pytest.raises(
        ModelError, match=r"is not the model beside it \(.*invalid dimensions.*waveform"
    ):
        score(np.zeros((1, SR), dtype=np.float32))


def test_memory_that_nobody_has_is_an_error_of_the_file(folder):
    """4 TB, asked for while it runs."""
    nodes = [
        helper.make_node("Shape", ["waveform"], ["here"]),
        helper.make_node("Mul", ["here", "times"], ["there"]),
        helper.make_node("ConstantOfShape", ["there"], ["log_probs"]),
    ]
    forge(folder, nodes, [("times", np.array([1 << 20, 128]))])
    score = LanguageIdentifier.load(folder).engine.score
    with pytest.raises(ModelError, match=r"is not the model beside it.*langid export"):
        score(np.zeros((1, SR), dtype=np.float32))


def test_weights_in_other_files_are_not_read(folder):
    """onnxruntime would read any file in the folder, and follow a link from there."""
    weights = [("w", np.ones((SR, 2), dtype=np.float32))]
    external = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0}
    product = [helper.make_node("MatMul", ["waveform", "w"], ["log_probs"])]
    forge(folder, product, weights)
    assert LanguageIdentifier.load(folder).engine.name == "onnx"
    (folder / "model.onnx").unlink()
    forge(folder, product, weights, saved=external)
    assert (folder / "weights.bin").stat().st_size == 8 * SR
    with pytest.raises(ModelError, match=r"model\.onnx: damaged.*External data.*langid export"):
        LanguageIdentifier.load(folder)


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


def test_without_onnxruntime_torch_answers(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert LanguageIdentifier.load(folder).engine.name == "torch"


def test_nothing_heavy_is_imported(exported, trained):
    """What makes a cold start fast."""
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


def test_tensors_that_change_during_the_export_are_noticed(folder, monkeypatch):
    """Or the old ones would be exported under the hash of the new."""
    load = onnx_export.load_network

    def retrained(folder):
        loaded = load(folder)
        tensors = load_file(folder / "model.safetensors")
        write_model(folder, tensors | {"1.8.weight": -tensors["1.8.weight"]}, loaded[1])
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
    monkeypatch.setattr("langid_fastai.onnx_export._compare", lambda *_: (0, difference))
    with pytest.raises(ModelError, match="no file is written"):
        export_onnx(folder)
    assert not [file for file in folder.iterdir() if "onnx" in file.name]


def test_a_file_for_one_length_alone_is_not_written(folder, monkeypatch):
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
    with pytest.raises(ModelError, match=r"'resnet18' cannot be exported \(no such operator\)"):
        export_onnx(folder)


def test_metadata_name_all_that_answers_depend_on(exported):
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


def test_silence_is_nothing_to_compare_on(folder, tmp_path):
    sf.write(tmp_path / "silence.wav", np.zeros(16_000), 8_000)
    with pytest.raises(AudioError, match=r"silence.wav: silent; compare on speech"):
        export_onnx(folder, [tmp_path / "silence.wav"])
