"""Networks with an encoder of the Hugging Face Hub as body: ``hf:facebook/wav2vec2-xls-r-300m``.

wav2vec 2.0 (XLS-R, MMS), HuBERT (mHuBERT-147), WavLM, Whisper's encoder and the audio spectrogram
transformer (AST) are built by `transformers` (extra `hub`) from a configuration; no code from the
Hub is run, and weights are read from safetensors only.

The body computes the features of the encoder (`langid_fastai.models.encoder_sound`), runs the
encoder, normalises each layer by a layer norm without weights, and computes its mean and standard
deviation over time. The head averages the layers with learned softmax weights (S. Yang et al.,
"SUPERB: Speech processing universal performance benchmark", Interspeech 2021,
https://arxiv.org/abs/2105.01051), followed by batch norm, dropout and a linear layer. So
`cache_frozen` stores ``n_layers × 2 n_features`` numbers per clip, and the layer weights are
trained with the head.

The encoder's own SpecAugment and layer dropout are disabled.

Conventions: ``Sequential(body, head)``, like every network of this library; the input is ``(n, 1,
n_samples)`` at 16 kHz, of any level; the output ``(n, n_languages)``, unnormalised
log-probabilities.

Contents: `build_hub_network`, with published weights; `new_hub_network`, from an `EncoderInfo`;
`encoder_of`; `stored_state`, the tensors of a model folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
from langid_fastai.models.hub import (
    PREFIX,
    WEIGHT_FILES,
    download,
    hub_errors,
    hub_name,
    local_folder,
)
from langid_fastai.models.names import PUBLISHED
from langid_fastai.models.raw_waveform import load_trained_body
from langid_fastai.utils.dependencies import needs

__all__ = ["build_hub_network", "encoder_of", "new_hub_network", "stored_state"]

DROPOUT = 0.25
# Minimum variance over time before the square root: that of a single frame is 0.
LEAST_VARIANCE = 1e-6
# Bounds on the largest absolute value of a matrix in float16; outside, it loses precision.
HALF_RANGE = (2.0**-10, 65_504.0)
# Settings of an encoder that apply only in training, all disabled.
IN_TRAINING = {
    "apply_spec_augment": False,
    "mask_time_prob": 0.0,
    "mask_feature_prob": 0.0,
    "layerdrop": 0.0,
    "encoder_layerdrop": 0.0,
    "decoder_layers": 0,  # Whisper's decoder is not used
}


def build_hub_network(
    arch: str, n_languages: int, *, weights: str | Path = "pretrained"
) -> nn.Sequential:
    """Build a network with an encoder as its body; the head has random weights.

    Parameters
    ----------
    arch : ``hf:owner/name``, ``hf:owner/name@revision`` or ``hf:folder``
    n_languages : number of outputs
    weights : ``pretrained`` for those on the Hub, ``none``, or a model folder of the same arch

    Returns
    -------
    network : ``Sequential(body, head)`` in float32 on the CPU

    Raises
    ------
    ModelError : the encoder cannot be downloaded or read; its weights are not safetensors, or do
        not fit
    """
    info = read_encoder(arch)
    if str(weights) == "imagenet":
        raise ModelError(f"weights 'imagenet' are not for {arch!r}; use --weights pretrained")
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
    ModelError : the extra `hub` is not installed, or the settings do not describe an encoder
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
    """Return the encoder of a network; None if its body is not from the Hub."""
    return network[0].info if isinstance(network[0], _Body) else None


def stored_state(network: nn.Sequential) -> dict[str, torch.Tensor]:
    """Return the state of a trained network, as it is stored in a model folder.

    The matrices of an encoder are converted to float16 where `HALF_RANGE` allows, and those in
    `network` are rounded in place, so that later tests use the stored values. Norms, biases, the
    head, and networks without an encoder stay in float32.
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
    """Map waveforms (n, 1, n_samples) to statistics of layers (n, n_layers, 2 n_features)."""

    def __init__(self, info: EncoderInfo, encoder: Any) -> None:
        super().__init__()
        self.info = info
        self.front_end = make_front_end(info)
        self.encoder = encoder
        self.config = encoder.config
        # The input of the first layer is used too.
        self.n_layers = 1 + getattr(self.config, info.family.n_layers)
        self.n_features = 2 * getattr(self.config, info.family.n_features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute features, run the encoder, pool over time."""
        y = x[:, 0]
        layers = self.encoder(self.front_end(y), output_hidden_states=True).hidden_states
        return torch.stack([self._statistics(self._spoken(h, y.shape[1])) for h in layers], dim=1)

    def _spoken(self, h: torch.Tensor, n_samples: int) -> torch.Tensor:
        """Remove the steps that are padding: (n, n_steps, n_features)."""
        sound, config = self.info.sound, self.config
        if "chunk_length" in sound:
            step = 2 * sound["hop_length"]
            return h[:, : (n_samples + step - 1) // step]  # ONNX rounds -(-n // step) towards 0
        if "max_length" in sound:
            patches = h[:, 2:]  # the first two tokens are not patches
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
    """Compute a weighted mean over layers: (n, n_layers, n_values) → (n, n_values)."""

    def __init__(self, n_layers: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(n_layers))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (torch.softmax(self.logits, dim=0)[:, None] * x.float()).sum(dim=1)


def _new_encoder(info: EncoderInfo) -> nn.Module:
    """Build an encoder from its settings, with random weights."""
    with needs("hub", f"{PREFIX}{info.name}", ModelError):
        import transformers
    model = getattr(transformers, info.family.model)
    try:
        encoder = model(_config(info))
    # Each class raises its own errors for invalid settings.
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ModelError(
            f"{info.name}: its settings do not describe an encoder ({first_line(error)})"
        ) from error
    return _only_encoder(encoder)


def _config(info: EncoderInfo) -> Any:
    """Make a configuration of `transformers`, from the settings that its class supports."""
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
    """Load weights from the Hub, or from a local folder in its format, into an encoder."""
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
    """Do not list unused tensors, such as those of a decoder or head, inside the block."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _no_safetensors(arch: str, folder: Path) -> ModelError:
    """Return an error with the remedy for weights that are pickles."""
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
    """Return the name of the Hub's pull request with safetensors; None if there is none."""
    from huggingface_hub import HfApi

    with suppress(ModelError), hub_errors(repository):  # only for a hint
        for request in HfApi().get_repo_discussions(repository):
            if request.is_pull_request and request.author == "SFconvertbot":
                return f"{PREFIX}{repository}@refs/pr/{request.num}"
    return None
