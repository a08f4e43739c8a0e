"""An encoder of the Hugging Face Hub as a body: ``hf:facebook/wav2vec2-xls-r-300m``.

wav2vec 2.0 (XLS-R, MMS), HuBERT (mHuBERT-147), WavLM, Whisper's encoder and the audio spectrogram
transformer (AST) are built by `transformers` (extra `hub`) from a configuration; no code of a
model's author is run, and weights are read from safetensors only.

The body prepares the sound as the encoder's own feature extractor does
(`langid_fastai.models.encoder_sound`), runs the encoder, and pools mean and standard deviation over
time of each of its layers, after they are brought to the same scale by a layer norm without
weights. The head mixes the layers by a learned softmax, as S. Yang et al. do ("SUPERB: Speech
processing universal performance benchmark", Interspeech 2021, https://arxiv.org/abs/2105.01051),
then batch norm, dropout and a linear layer. So `cache_frozen` stores ``n_layers × 2 n_features``
numbers a clip, and the mixture is trained with the head.

An encoder's own SpecAugment and its skipping of layers in training are off.

Conventions: ``Sequential(body, head)``, as every network of this library; the input is ``(n, 1,
n_samples)`` at 16 kHz, of any level; the output ``(n, n_languages)``, unnormalised
log-probabilities.

Contents: `build_hub_network` from weights, `new_hub_network` from an `EncoderInfo`; `encoder_of`;
`stored_state`, what a model folder holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from langid_fastai.errors import ModelError, first_line
from langid_fastai.models.encoder_info import (
    AST_FRAME,
    AST_HOP,
    ENCODER_FILES,
    EncoderInfo,
    arch_name,
    read_encoder,
)
from langid_fastai.models.encoder_sound import make_front_end
from langid_fastai.models.hub import PREFIX, WEIGHT_FILES, download, hub_name, local_folder
from langid_fastai.models.names import PUBLISHED
from langid_fastai.models.raw_waveform import load_trained_body
from langid_fastai.utils.dependencies import needs

__all__ = ["build_hub_network", "encoder_of", "new_hub_network", "stored_state"]

DROPOUT = 0.25
# Smallest variance over time of which the root is taken: a single frame has none.
LEAST_VARIANCE = 1e-6
# Largest value of a matrix for which float16 loses less than its rounding, 1 / 2048.
HALF_RANGE = (2.0**-10, 65_504.0)
# Of an encoder's own settings, those that change what it does in training only.
IN_TRAINING = {
    "apply_spec_augment": False,
    "mask_time_prob": 0.0,
    "mask_feature_prob": 0.0,
    "layerdrop": 0.0,
    "encoder_layerdrop": 0.0,
    "decoder_layers": 0,  # of Whisper only the encoder is used
}


def build_hub_network(
    arch: str, n_languages: int, *, weights: str | Path = "pretrained"
) -> nn.Sequential:
    """Build a network with an encoder as its body; the head has random weights.

    Parameters
    ----------
    arch : ``hf:owner/name``, ``hf:owner/name@revision`` or ``hf:folder``
    n_languages : outputs
    weights : ``pretrained``, those of the encoder; ``none``; or a model folder of the same arch

    Returns
    -------
    network : ``Sequential(body, head)`` in float32 on the CPU

    Raises
    ------
    ModelError : the encoder cannot be downloaded or read; its weights are not safetensors; weights
        that are not for it
    """
    info = read_encoder(arch)
    if str(weights) == "imagenet":
        raise ModelError(f"weights 'imagenet' are not for {arch!r}; take --weights pretrained")
    network = new_hub_network(info, n_languages)
    body: Any = network[0]
    if str(weights) in PUBLISHED:
        _load_published(body.encoder, arch, info)
    elif str(weights) != "none":
        load_trained_body(body, arch_name(arch), Path(weights))
    return network


def new_hub_network(info: EncoderInfo, n_languages: int) -> nn.Sequential:
    """Build a network with an encoder as its body, with random weights.

    Raises
    ------
    ModelError : the extra `hub` is not installed, or the settings do not make an encoder
    """
    body = _Body(info, _new_encoder(info))
    head = nn.Sequential(
        _LayerMix(body.n_layers),
        nn.BatchNorm1d(body.n_features),
        nn.Dropout(DROPOUT),
        nn.Linear(body.n_features, n_languages),
    )
    return nn.Sequential(body, head)


def encoder_of(network: nn.Sequential) -> EncoderInfo | None:
    """Return what encoder a network has; None if its body is none of the Hub."""
    return network[0].info if isinstance(network[0], _Body) else None


def stored_state(network: nn.Sequential) -> dict[str, torch.Tensor]:
    """Return the state of a trained network as a model folder holds it.

    The matrices of an encoder are stored in float16, where its range allows (see `HALF_RANGE`), and
    those of the network are rounded likewise, so that what is tested next is what is stored. Norms,
    biases, the head, and all other networks stay in float32.
    """
    state = network.state_dict()
    if encoder_of(network) is None:
        return state
    for name, tensor in state.items():
        if name.startswith("0.") and tensor.ndim > 1:
            low, high = HALF_RANGE
            if low <= float(tensor.abs().max()) <= high:
                half = tensor.half()
                tensor.copy_(half)  # shares the memory of the network
                state[name] = half
    return state


class _Body(nn.Module):
    """Waveforms, (n, 1, n_samples) → statistics of each layer, (n, n_layers, 2 n_features)."""

    def __init__(self, info: EncoderInfo, encoder: Any) -> None:
        super().__init__()
        self.info = info
        self.front_end = make_front_end(info)
        self.encoder = encoder
        self.config = encoder.config
        # The first layer's input counts too.
        self.n_layers = 1 + getattr(self.config, info.family.n_layers)
        self.n_features = 2 * getattr(self.config, info.family.n_features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Prepare the sound, run the encoder, pool over time."""
        y = x[:, 0]
        layers = self.encoder(self.front_end(y), output_hidden_states=True).hidden_states
        return torch.stack([self._statistics(self._spoken(h, y.shape[1])) for h in layers], dim=1)

    def _spoken(self, h: torch.Tensor, n_samples: int) -> torch.Tensor:
        """Leave out what is of the padding: (n, n_steps, n_features)."""
        sound, config = self.info.sound, self.config
        if "chunk_length" in sound:
            step = 2 * sound["hop_length"]
            return h[:, : (n_samples + step - 1) // step]  # ONNX rounds -(-n // step) towards 0
        if "max_length" in sound:
            patches = h[:, 2:]  # the first two are of no place
            patch, stride = config.patch_size, config.time_stride
            n_steps = (sound["max_length"] - patch) // stride + 1
            n_frames = min(1 + (n_samples - AST_FRAME) // AST_HOP, sound["max_length"])
            n_spoken = max(1, (n_frames - patch) // stride + 1)
            rows = patches.unflatten(1, (-1, n_steps))[:, :, :n_spoken]  # one row for each band
            return rows.flatten(1, 2)
        return h

    @staticmethod
    def _statistics(h: torch.Tensor) -> torch.Tensor:
        h = nn.functional.layer_norm(h.float(), h.shape[-1:])
        mean = h.mean(dim=1, keepdim=True)
        variance = (h - mean).square().mean(dim=1)
        return torch.cat([mean[:, 0], variance.clamp_min(LEAST_VARIANCE).sqrt()], dim=1)


class _LayerMix(nn.Module):
    """Learned mean over layers, (n, n_layers, n) → (n, n)."""

    def __init__(self, n_layers: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(n_layers))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (torch.softmax(self.logits, dim=0)[:, None] * x.float()).sum(dim=1)


def _new_encoder(info: EncoderInfo) -> nn.Module:
    """Build an encoder from its settings, with new weights."""
    with needs("hub", f"{PREFIX}{info.name}", ModelError):
        import transformers
    model = getattr(transformers, info.family.model)
    try:
        encoder = model(_config(info))
    # Each class checks its settings in its own way.
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ModelError(
            f"{info.name}: its settings do not make an encoder ({first_line(error)})"
        ) from error
    return _only_encoder(encoder)


def _config(info: EncoderInfo) -> Any:
    """The configuration of `transformers`, from settings that its class knows."""
    import transformers

    kind = getattr(transformers, info.family.config)
    known = kind().to_dict().keys()
    values = {k: v for k, v in (info.config | IN_TRAINING).items() if k in known}
    values.pop("model_type", None)
    return kind(**values)


def _only_encoder(model: Any) -> nn.Module:
    encoder: nn.Module = model.encoder if hasattr(model, "decoder") else model
    return encoder.float()


def _load_published(encoder: nn.Module, arch: str, info: EncoderInfo) -> None:
    """Fill an encoder with the weights of the Hub, or of a folder in its format."""
    import transformers

    pinned = arch if info.revision is None else f"{PREFIX}{info.name}@{info.revision}"
    folder = download(pinned, [*ENCODER_FILES, *WEIGHT_FILES])
    if not any(folder.glob("model*.safetensors")):
        raise _no_safetensors(arch, folder)
    model = getattr(transformers, info.family.model)
    try:
        with _quiet():
            loaded, report = model.from_pretrained(
                folder,
                config=_config(info),
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except (OSError, RuntimeError, ValueError, KeyError, SafetensorError) as error:
        raise ModelError(f"{arch}: its weights cannot be read ({first_line(error)})") from error
    own = {name for name, _ in encoder.named_parameters()}
    prefix = "encoder." if hasattr(loaded, "decoder") else ""
    missing = sorted(n for n in report["missing_keys"] if n.removeprefix(prefix) in own)
    if missing:
        raise ModelError(
            f"{arch}: its file has no weights for {len(missing)} tensors of the encoder, e.g. "
            f"{missing[0]!r}; is it complete?"
        )
    encoder.load_state_dict(_only_encoder(loaded).state_dict())


@contextmanager
def _quiet() -> Iterator[None]:
    """No list of the tensors that only a decoder or a head would use."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _no_safetensors(arch: str, folder: Path) -> ModelError:
    """Explain what to do about weights that are pickles."""
    way_out = "on a machine that you trust, load it with `transformers` and save it by "
    way_out += f"`save_pretrained`, then give {PREFIX}<folder>"
    if local_folder(arch) is None:
        converted = _converted(hub_name(arch)[0])
        if converted:
            return ModelError(
                f"{arch} has no safetensors, and pickles are not read, since they can contain "
                f"code; the Hub has converted it: {converted}"
            )
        way_out = f"look for a revision with safetensors, given as {arch}@<revision>, or {way_out}"
    return ModelError(
        f"{arch} has no model.safetensors, and pickles (.bin, .pt) are not read, since they can "
        f"contain code; {way_out}"
    )


def _converted(repository: str) -> str | None:
    """The pull request in which the Hub's converter offers safetensors, as an arch."""
    from huggingface_hub import HfApi

    try:
        for request in HfApi().get_repo_discussions(repository):
            if request.is_pull_request and request.author == "SFconvertbot":
                return f"{PREFIX}{repository}@refs/pr/{request.num}"
    except Exception:  # only a hint: whatever goes wrong, there is none
        return None
    return None
