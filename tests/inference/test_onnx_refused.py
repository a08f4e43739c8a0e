"""A ``model.onnx`` that does not match the model in its folder is ignored or rejected."""

from dataclasses import replace

import exported_onnx
import numpy as np
import onnx
import pytest
from exported_onnx import LAST, SR, recordings_of
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import load_file

from langid_fastai.errors import ModelError
from langid_fastai.inference.backends import onnx_metadata
from langid_fastai.inference.onnx_export import OPSET, export_onnx
from langid_fastai.models.folder import read_info, tensors_hash, write_info, write_model
from langid_fastai.pipeline.run_folder import Run
from langid_fastai.prediction import LanguageIdentifier

folder = exported_onnx.folder


# Only for its own model


def test_a_file_of_other_tensors_is_ignored(folder, trained):
    tensors = load_file(folder / "model.safetensors")
    for name in (LAST, LAST.replace("weight", "bias")):  # de and es change places
        tensors[name] = tensors[name].flip(0).contiguous()
    write_model(folder, tensors, read_info(folder))
    old = LanguageIdentifier.load(Run(trained[0]).model)
    with pytest.warns(UserWarning, match=r"model\.onnx is ignored.*with other tensors; export it"):
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
def test_a_file_of_another_description_is_ignored(folder, changes, differing):
    info = read_info(folder)
    for name, value in changes.items():
        within = isinstance(value, dict)
        info = replace(info, **{name: replace(getattr(info, name), **value) if within else value})
    write_info(folder, info)
    with pytest.warns(UserWarning, match=f"with other {differing}"):
        assert LanguageIdentifier.load(folder).engine.name == "torch"
    if differing == "mel":  # exported again, it is used
        assert export_onnx(folder).difference <= 1e-3
        assert LanguageIdentifier.load(folder).engine.name == "onnx"


def test_another_threshold_needs_no_new_file(folder):
    info = read_info(folder)
    write_info(folder, replace(info, calibration=replace(info.calibration, threshold=0.99)))
    assert LanguageIdentifier.load(folder).engine.name == "onnx"


def test_a_file_without_our_metadata_is_ignored(folder):
    model = onnx.load(folder / "model.onnx")
    del model.metadata_props[:]
    onnx.save(model, folder / "model.onnx")
    write_info(folder, replace(read_info(folder), onnx=None))
    with pytest.warns(UserWarning, match="is ignored"):
        assert LanguageIdentifier.load(folder).engine.name == "torch"


@pytest.mark.parametrize("content", [b"", b"no model", b"\0" * 99])
def test_a_damaged_file_is_reported(folder, content):
    (folder / "model.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.onnx: damaged.*langid export"):
        LanguageIdentifier.load(folder)


def test_a_flipped_bit_is_detected(folder):
    """Otherwise, it may give wrong answers with high scores."""
    content = bytearray((folder / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 0x40
    (folder / "model.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.onnx: damaged.*langid export"):
        LanguageIdentifier.load(folder)


def test_onnx_predicts_without_the_tensors(folder, trained):
    recording = recordings_of(trained)[0]
    before = LanguageIdentifier.load(folder)(recording)
    (folder / "model.safetensors").unlink()
    assert LanguageIdentifier.load(folder)(recording) == before


def test_an_older_folder_has_no_fingerprint(folder):
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
        ModelError, match=rf"does not match the model in its folder \(.*{message}.*export it again"
    ):
        identifier.engine.score(np.zeros((8, SR), dtype=np.float32) + tone(440, SR)[:SR])


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        ("sound", ("log_probs", TensorProto.FLOAT, ["a", "b"]), "it takes .*'sound'"),
        ("waveform", ("scores", TensorProto.FLOAT, ["a", "b"]), "it returns .*'scores'"),
        (
            "waveform",
            ("log_probs", TensorProto.DOUBLE, ["a", "b"]),
            r"it returns .*tensor\(double\)",
        ),
    ],
)
def test_other_inputs_and_outputs_are_refused_on_loading(folder, start, end, message):
    operation = helper.make_node("Cast", [start], [end[0]], to=end[1])
    forge(folder, [operation], end=end, start=(start, TensorProto.FLOAT, ["a", "b"]))
    with pytest.raises(ModelError, match=f"does not match the model in its folder.*{message}"):
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
    with pytest.raises(ModelError, match=rf"it returns .*'tensor\(float\)', {len(shape)}\)"):
        LanguageIdentifier.load(folder)


def test_a_file_for_one_length_is_reported_when_it_fails(folder):
    same = [helper.make_node("Identity", ["waveform"], ["log_probs"])]
    forge(folder, same, start=("waveform", TensorProto.FLOAT, ["batch", 2]))
    score = LanguageIdentifier.load(folder).engine.score
    with pytest.raises(
        ModelError, match=r"does not match the model in its folder \(.*invalid dimensions.*waveform"
    ):
        score(np.zeros((1, SR), dtype=np.float32))


def test_a_file_that_requests_too_much_memory_is_an_error(folder):
    """4 TB, requested while it runs."""
    nodes = [
        helper.make_node("Shape", ["waveform"], ["here"]),
        helper.make_node("Mul", ["here", "times"], ["there"]),
        helper.make_node("ConstantOfShape", ["there"], ["log_probs"]),
    ]
    forge(folder, nodes, [("times", np.array([1 << 20, 128]))])
    score = LanguageIdentifier.load(folder).engine.score
    with pytest.raises(ModelError, match=r"does not match the model in its folder.*langid export"):
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
    message = r"model\.onnx: it has weights in other files, which are not read.*langid export"
    with pytest.raises(ModelError, match=message):
        LanguageIdentifier.load(folder)
    content = (folder / "model.onnx").read_bytes()
    longer = content.replace(b"\x08location", b"\x88\x80\x00location")  # another way to write 8
    assert longer != content
    (folder / "model.onnx").write_bytes(longer)
    with pytest.raises(ModelError, match=message):
        LanguageIdentifier.load(folder)


def test_a_label_may_be_the_word_location(folder):
    """A label "location" is not a file name."""
    write_info(folder, replace(read_info(folder), vocab=("location", "no location")))
    export_onnx(folder)
    assert b"location" in (folder / "model.onnx").read_bytes()
    assert LanguageIdentifier.load(folder).engine.name == "onnx"
