"""Encoders of the Hugging Face Hub as bodies: tiny ones, made here, without a network."""

import json
import shutil
import sys

import numpy as np
import pytest
import torch
import transformers
from hub_models import ENCODERS, HUB_SR, save_encoder
from safetensors.torch import load_file, save_file

from langid_fastai.clips.waveforms import takes_waveforms
from langid_fastai.errors import AudioError, ModelError
from langid_fastai.models.encoder_info import arch_name, read_encoder
from langid_fastai.models.folder import read_info, read_shapes, write_model
from langid_fastai.models.hub_encoder import encoder_of, stored_state
from langid_fastai.models.model_info import ModelInfo
from langid_fastai.models.names import mel_config_for, weights_words
from langid_fastai.models.networks import build_network, layer_groups, load_network
from langid_fastai.models.schedules import default_schedule


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    """Return the folder of a kind of encoder, made once."""
    made = {}

    def folder(kind):
        if kind not in made:
            made[kind] = save_encoder(tmp_path_factory.mktemp("hub") / f"tiny-{kind}", kind)
        return made[kind]

    return folder


@pytest.fixture(autouse=True)
def _nothing_remembered():
    read_encoder.cache_clear()


@pytest.fixture
def speech(rng):
    """Two clips of 1.5 s at full scale, as they are stored."""
    t = np.arange(3 * HUB_SR // 2) / HUB_SR
    buzz = np.sin(2 * np.pi * 200 * t) * (0.5 + 0.5 * np.sin(2 * np.pi * 3 * t))
    clips = np.stack([buzz + 0.01 * rng.standard_normal(len(t)), rng.standard_normal(len(t))])
    return (clips / np.abs(clips).max(axis=1, keepdims=True)).astype(np.float32)


def trained(folder, kind="hubert", arch=None):
    """Build a network, as if it had been trained."""
    torch.manual_seed(0)
    network = build_network(arch or f"hf:{folder}", 2, weights="pretrained").eval()
    with torch.no_grad():
        network[1][3].weight.mul_(10)
    return network


def write_folder(network, arch, folder, clip_seconds=1.5):
    info = ModelInfo(
        arch=arch_name(arch),
        vocab=("de", "es"),
        mel=mel_config_for(arch, {"clip_seconds": clip_seconds}),
        encoder=encoder_of(network),
        versions={"transformers": "4.0.0"},
    )
    write_model(folder, stored_state(network), info)
    return folder


@pytest.mark.parametrize("kind", ENCODERS)
def test_it_is_what_transformers_computes(encoders, kind, speech):
    """The same input and the same hidden states, from clips of any level."""
    folder = encoders(kind)
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    model = model.encoder if kind == "whisper" else model
    inputs = extractor(list(speech), sampling_rate=HUB_SR, return_tensors="pt")
    inputs = inputs[extractor.model_input_names[0]]
    body = trained(folder)[0]
    with torch.no_grad():
        hidden = model(inputs, output_hidden_states=True).hidden_states
        ours = body.front_end(0.3 * torch.from_numpy(speech))
        layers = body.encoder(ours, output_hidden_states=True).hidden_states
        statistics = body(torch.from_numpy(speech)[:, None])
    np.testing.assert_allclose(ours, inputs, atol=5e-5)
    assert len(hidden) == len(layers) == body.n_layers == 3
    for mine, theirs in zip(layers, hidden, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-4)
    assert statistics.shape == (2, 3, 32)


def by_hand(h):
    """Mean and deviation over time of normalised features."""
    h = (h - h.mean(axis=-1, keepdims=True)) / np.sqrt(h.var(axis=-1, keepdims=True) + 1e-5)
    return np.concatenate([h.mean(axis=1), np.sqrt(np.maximum(h.var(axis=1), 1e-6))], axis=1)


@pytest.mark.parametrize("kind", ["hubert", "whisper", "ast"])
def test_pooling_leaves_out_the_padding(encoders, kind, speech):
    body = trained(encoders(kind))[0]
    y = torch.from_numpy(speech)
    with torch.no_grad():
        layers = body.encoder(body.front_end(y), output_hidden_states=True).hidden_states
        pooled = body(y[:, None]).numpy()
    h = layers[1].numpy()
    if kind == "whisper":  # 1.5 s of 3 s, a step every 20 ms
        h = h[:, :75]
    if kind == "ast":  # 148 frames of 250: of 24 patches of 16 frames, every 10 frames, 14
        h = h[:, 2:].reshape(2, -1, 24, 16)[:, :, :14].reshape(2, -1, 16)
    np.testing.assert_allclose(pooled[:, 1], by_hand(h), atol=1e-4)


def test_three_layer_groups(tmp_path):
    """The front and the lower two thirds, the upper layers, the head; each weight once."""
    network = trained(save_encoder(tmp_path / "six", num_hidden_layers=6))
    groups = layer_groups(network)
    names = {id(p): name for name, p in network.named_parameters()}
    lower, upper, head = ([names[id(p)] for p in group] for group in groups)
    assert len(lower) + len(upper) + len(head) == len(names)
    upper_layers = {name.split(".")[4] for name in upper}
    assert all(name.startswith("0.encoder.encoder.layers.") for name in upper)
    assert upper_layers == {"3", "4", "5"}
    assert any("feature_extractor" in name for name in lower)
    assert all(name.startswith("1.") for name in head)


def test_the_name_determines_its_clips(encoders):
    arch = f"hf:{encoders('hubert')}"
    mel = mel_config_for(arch)
    assert (mel.sr, mel.kind, mel.clip_seconds) == (16_000, "waveform", 10.0)
    assert takes_waveforms(arch)
    assert default_schedule(arch, "pretrained") == "seed"
    assert weights_words(arch, "pretrained") == "weights of the Hugging Face Hub"
    assert mel_config_for(arch, {"clip_seconds": 4.0}).clip_seconds == 4.0
    with pytest.raises(AudioError, match=r"sr=8000 there, 16000 wanted"):
        mel_config_for(arch, {"sr": 8000})
    with pytest.raises(AudioError, match="takes waveforms"):
        mel_config_for(arch, {"kind": "mel"})


def test_the_longest_clip(encoders):
    """Clips that Whisper and AST would cut off are refused."""
    whisper, ast = (f"hf:{encoders(kind)}" for kind in ("whisper", "ast"))
    assert mel_config_for(whisper).clip_seconds == 3.0
    with pytest.raises(AudioError, match="at most 3 s at once; clip_seconds=4 is more"):
        mel_config_for(whisper, {"clip_seconds": 4.0})
    with pytest.raises(AudioError, match=r"at most 2\.515 s"):
        mel_config_for(ast, {"clip_seconds": 2.6})


@pytest.mark.parametrize("kind", ["xls-r", "whisper"])
def test_a_model_folder_is_complete(encoders, kind, tmp_path, speech):
    """It is built without the encoder's folder, and gives the same answers to the last digit."""
    encoder = shutil.copytree(encoders(kind), tmp_path / "encoder")
    network = trained(encoder)
    folder = write_folder(network, f"hf:{encoder}", tmp_path / "model")
    shutil.rmtree(encoder)
    loaded, info = load_network(folder)
    assert (info.arch, info.encoder.name, info.format_version) == ("hf:encoder", "encoder", 4)
    x = torch.from_numpy(speech)[:, None]
    with torch.no_grad():
        np.testing.assert_array_equal(loaded(x), network(x))


def test_matrices_are_stored_in_half_precision(encoders, tmp_path):
    encoder = encoders("hubert")
    network = build_network(f"hf:{encoder}", 2, weights="pretrained")
    with torch.no_grad():  # one out of the range of float16
        network[0].encoder.encoder.layers[0].feed_forward.output_dense.weight[0, 0] = 1e5
    folder = write_folder(network, f"hf:{encoder}", tmp_path / "model")
    for name, (dtype, shape) in read_shapes(folder).items():
        is_matrix = name.startswith("0.") and len(shape) > 1
        if name == "0.encoder.encoder.layers.0.feed_forward.output_dense.weight":
            is_matrix = False
        assert dtype == ("I64" if "num_batches" in name else "F16" if is_matrix else "F32"), name
    loaded = load_network(folder)[0][0].encoder.encoder.layers[0].feed_forward
    assert float(loaded.output_dense.weight[0, 0].detach()) == 1e5


def test_other_networks_are_stored_as_before():
    network = build_network("spectrogram_cnn", 2)
    assert {t.dtype for t in stored_state(network).values()} <= {torch.float32, torch.int64}


def test_training_starts_from_a_trained_model(encoders, tmp_path):
    """The body of a trained model, with a new head."""
    arch = f"hf:{encoders('hubert')}"
    network = trained(encoders("hubert"))
    with torch.no_grad():
        network[0].encoder.encoder.layer_norm.weight.fill_(0.5)
    folder = write_folder(network, arch, tmp_path / "model")
    other = build_network(arch, 4, weights=folder)
    assert set(other[0].encoder.encoder.layer_norm.weight.tolist()) == {0.5}
    with pytest.raises(ModelError, match="pass --arch hf:tiny-hubert"):
        build_network(f"hf:{encoders('wav2vec2')}", 4, weights=folder)
    with pytest.raises(ModelError, match="use --weights pretrained"):
        build_network(arch, 4, weights="imagenet")
    fresh = build_network(arch, 4, weights="none")
    assert set(fresh[0].encoder.encoder.layer_norm.weight.tolist()) == {1.0}


def changed(folder, tmp_path, name="config.json", **changes):
    """Copy an encoder with other settings; None removes one."""
    copy = shutil.copytree(folder, tmp_path / "changed", dirs_exist_ok=True)
    content = json.loads((copy / name).read_text()) | changes
    (copy / name).write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
    return f"hf:{copy}"


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("config.json", {"model_type": "bert"}, "model_type is 'bert', and must be wav2vec2, hub"),
        ("config.json", {"model_type": None}, "model_type is 'None'"),
        ("config.json", {"num_hidden_layers": 10**6}, "num_hidden_layers=1000000 is out of bounds"),
        ("config.json", {"hidden_size": 10**9}, "hidden_size=1000000000 is out of bounds"),
        ("config.json", {"conv_dim": [8] * 1000}, "conv_dim has more than 64 values"),
        ("config.json", {"hidden_act": "no-such"}, "do not describe an encoder"),
        ("config.json", {"num_hidden_layers": 3}, r"no weights for \d+ tensors of the encoder"),
        ("preprocessor_config.json", {"sampling_rate": 8000}, "takes sound at 8000 Hz; only"),
        (
            "preprocessor_config.json",
            {"feature_extractor_type": "ClapFeatureExtractor"},
            "by 'ClapFeatureExtractor', which is not supported",
        ),
    ],
)
def test_what_cannot_be_used_is_refused(encoders, tmp_path, name, changes, message):
    arch = changed(encoders("hubert"), tmp_path, name, **changes)
    with pytest.raises(ModelError, match=message):
        build_network(arch, 2, weights="pretrained")


def test_incomplete_folders(encoders, tmp_path):
    no_sound = shutil.copytree(encoders("hubert"), tmp_path / "no_sound")
    (no_sound / "preprocessor_config.json").unlink()
    with pytest.raises(ModelError, match=r"has no preprocessor_config\.json"):
        read_encoder(f"hf:{no_sound}")
    ours = write_folder(trained(encoders("hubert")), f"hf:{encoders('hubert')}", tmp_path / "model")
    with pytest.raises(ModelError, match=r"has no config\.json.*--weights hf:.* starts from it"):
        read_encoder(f"hf:{ours}")
    with pytest.raises(ModelError, match=r"must be hf:<owner>/<name>.*is there no such folder"):
        read_encoder(f"hf:{tmp_path / 'nowhere'}")


def test_pickles_are_refused(encoders, tmp_path):
    folder = shutil.copytree(encoders("hubert"), tmp_path / "pickled")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"pickles .* are not read.*`save_pretrained`"):
        build_network(f"hf:{folder}", 2, weights="pretrained")
    (folder / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ModelError, match="its weights cannot be read"):
        build_network(f"hf:{folder}", 2, weights="pretrained")


def test_weights_in_half_precision_and_in_several_files(encoders, tmp_path, speech):
    """As large encoders are published."""
    model = transformers.AutoModel.from_pretrained(encoders("hubert"))
    folder = shutil.copytree(encoders("hubert"), tmp_path / "half")
    (folder / "model.safetensors").unlink()
    model.half().save_pretrained(folder, max_shard_size="8KB")
    assert len(list(folder.glob("model-*-of-*.safetensors"))) > 1
    x = torch.from_numpy(speech)[:, None]
    network = trained(folder)
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    with torch.no_grad():
        np.testing.assert_allclose(network(x), trained(encoders("hubert"))(x), atol=0.05)


def test_settings_cannot_load_code(encoders, tmp_path):
    """Neither those of an encoder nor those in a model.json."""
    arch = changed(
        encoders("hubert"),
        tmp_path,
        auto_map={"AutoConfig": "strange.Config", "AutoModel": "strange.Model"},
        attn_implementation="kernels-community/flash-attn",
        _attn_implementation="kernels-community/flash-attn",
    )
    (tmp_path / "changed" / "strange.py").write_text("raise SystemExit('it was run')")
    network = trained(None, arch=arch)
    assert not {"auto_map", "attn_implementation"} & encoder_of(network).config.keys()
    folder = write_folder(network, arch, tmp_path / "model")
    content = json.loads((folder / "model.json").read_text())
    content["encoder"]["config"] |= {"attn_implementation": "kernels-community/flash-attn"}
    content["encoder"]["config"] |= {"_attn_implementation": "x", "auto_map": "strange.Config"}
    (folder / "model.json").write_text(json.dumps(content))
    loaded, _ = load_network(folder)
    assert loaded[0].encoder.config._attn_implementation in ("eager", "sdpa")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder": None}, "needs an encoder; others have none"),
        ({"arch": "resnet18"}, "needs an encoder; others have none"),
        ({"encoder": {"name": "x"}}, "encoder lacks config, revision, sound"),
        ({"config": {"model_type": "hubert", "num_hidden_layers": 10**6}}, "out of bounds"),
        ({"config": {"model_type": "hubert", "hidden_size": "x" * 98}}, "out of bounds"),
        ({"config": {"model_type": "hubert", "hidden_size": {"a": 1}}}, "out of bounds"),
        ({"config": []}, "config must be at most 256 settings"),
        ({"sound": {"sampling_rate": 16_000}}, "sound must have the settings"),
        ({"revision": "main"}, "revision must be a commit"),
        ({"name": "x\n"}, "printable"),
    ],
)
def test_a_damaged_description_is_refused(encoders, tmp_path, change, message):
    arch = f"hf:{encoders('hubert')}"
    folder = write_folder(trained(encoders("hubert")), arch, tmp_path / "model")
    content = json.loads((folder / "model.json").read_text())
    if not change.keys() & {"encoder", "arch"}:
        change = {"encoder": content["encoder"] | change}
    (folder / "model.json").write_text(json.dumps(content | change))
    with pytest.raises(ModelError, match=message):
        read_info(folder)


def test_a_small_folder_cannot_request_much_memory(encoders, tmp_path):
    """Shapes are compared with the file before anything is allocated."""
    arch = f"hf:{encoders('hubert')}"
    folder = write_folder(trained(encoders("hubert")), arch, tmp_path / "model")
    content = json.loads((folder / "model.json").read_text())
    content["encoder"]["config"] |= {"hidden_size": 1 << 20, "intermediate_size": 1 << 20}
    (folder / "model.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match="tensors do not fit arch 'hf:tiny-hubert'"):
        load_network(folder)


def test_tensors_of_another_version_are_explained(encoders, tmp_path):
    folder = write_folder(
        trained(encoders("hubert")), f"hf:{encoders('hubert')}", tmp_path / "model"
    )
    tensors = load_file(folder / "model.safetensors")
    first = min(tensors)
    tensors[f"{first}.renamed"] = tensors.pop(first)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(
        ModelError, match=r"made with transformers 4\.0\.0, and [\d.]+ is installed"
    ):
        load_network(folder)


def test_without_the_extra(encoders, tmp_path, monkeypatch):
    arch = f"hf:{encoders('hubert')}"
    folder = write_folder(trained(encoders("hubert")), arch, tmp_path / "model")
    monkeypatch.setitem(sys.modules, "transformers", None)
    for build in (lambda: build_network(arch, 2), lambda: load_network(folder)):
        with pytest.raises(ModelError, match=r"pip install 'langid_fastai\[hub\]'"):
            build()


@pytest.mark.parametrize("kind", ["wavlm", "whisper", "ast"])
def test_onnx_is_the_same(encoders, tmp_path, kind):
    """With the front end inside; `export_onnx` compares several lengths and batches."""
    from langid_fastai.inference.onnx_export import export_onnx

    arch = f"hf:{encoders(kind)}"
    folder = write_folder(trained(encoders(kind)), arch, tmp_path / "model", clip_seconds=1.0)
    assert export_onnx(folder).difference < 1e-5
