"""Build a network with a fastai head from a name and a source of weights.

The network is ``Sequential(body, head)``: a torchvision or timm model up to its classifier, and
fastai's head (average and maximum pooling, two linear layers). The input is ``(n, 3, height,
width)``, the output ``(n, n_languages)``, unnormalised log-probabilities. Torchvision bodies and
the head are built without importing fastai, which would delay a prediction by seconds. Networks of
`langid_fastai.models.spectrogram_cnn`, `langid_fastai.models.spectrogram_crnn` and
`langid_fastai.models.speech_embedding` have the same form, as do those of
`langid_fastai.models.raw_waveform` and `langid_fastai.models.hub_encoder`, which take
``(n, 1, n_samples)``.

Weights are ``none``, ``pretrained``, or the path of a torchvision state dict (``.pth``,
``.safetensors``) or of a model folder of this library, whose body is used. Published weights were
trained on ImageNet (torchvision and timm; ``imagenet`` is the older name of ``pretrained``) or on
speech (``speech_embedding``). Unavailable weights raise an error.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import torchvision.models
from torch import nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from langid_fastai.clips.waveforms import RAW_ARCHS, takes_waveforms
from langid_fastai.errors import ModelError, first_line
from langid_fastai.models.folder import read_info, read_shapes, read_tensors
from langid_fastai.models.hub import fetch_model, is_hub_name
from langid_fastai.models.hub_encoder import build_hub_network, new_hub_network
from langid_fastai.models.model_info import ModelInfo
from langid_fastai.models.names import PUBLISHED, SPEECH_EMBEDDING
from langid_fastai.models.raw_waveform import build_raw_network
from langid_fastai.models.spectrogram_cnn import ARCH, build_spectrogram_cnn, is_spectrogram_cnn
from langid_fastai.models.spectrogram_crnn import ARCH as CRNN
from langid_fastai.models.spectrogram_crnn import build_spectrogram_crnn, is_spectrogram_crnn
from langid_fastai.models.speech_embedding import build_speech_embedding
from langid_fastai.models.weights import State, fetch_state, load_weights, local_state
from langid_fastai.utils.dependencies import needs

__all__ = ["build_network", "load_network", "layer_groups"]

# Parts of a ResNet's body that have weights: first convolution, its norm, four stages.
RESNET_BLOCKS = 6

# Layers between the last feature map of a torchvision model and its logits.
CLASSIFIER_NAMES = {"classifier", "fc", "head", "heads"}
HEAD_LAYERS = (nn.AdaptiveAvgPool2d, nn.AvgPool2d, nn.MaxPool2d, nn.Dropout, nn.Flatten, nn.Linear)

# Without auxiliary classifiers (used only to train on ImageNet, and otherwise part of the body),
# slow initialisation, and the input scaling of the published weights.
BUILDER_OPTIONS: dict[str, dict[str, bool]] = {
    "googlenet": {"aux_logits": False, "init_weights": False, "transform_input": False},
    "inception_v3": {"aux_logits": False, "init_weights": False, "transform_input": False},
}

# Height and width of the test image for a body: not square, to detect swapped axes, and larger than
# the 75 pixels that inception_v3 needs.
TRIAL_SIZE = (96, 128)

# Names of tensor types in safetensors.
STORED_TYPES = {torch.float32: "F32", torch.int64: "I64", torch.bool: "BOOL"}


def build_network(arch: str, n_languages: int, *, weights: str | Path = "none") -> nn.Sequential:
    """Build a network; the head has random weights.

    Parameters
    ----------
    arch : a torchvision name (``resnet152``), ``speech_embedding``, ``spectrogram_cnn``,
        ``spectrogram_crnn``, one of `RAW_ARCHS` (``m5``), an encoder of the Hugging Face Hub
        (``hf:owner/name``, extra `hub`) or, with the extra `timm`, a timm name
    n_languages : number of outputs
    weights : ``pretrained``, ``none``, a state dict file, a model folder or ``hf:owner/name``

    Returns
    -------
    network : ``Sequential(body, head)`` in float32 on the CPU

    Raises
    ------
    ModelError : unknown name; no feature map before the classifier; weights that cannot be fetched
        or read, or do not fit

    Examples
    --------
    >>> network = build_network("resnet18", 3)
    >>> network(torch.zeros(2, 3, 128, 431)).shape
    torch.Size([2, 3])
    """
    if is_hub_name(weights):
        weights = fetch_model(str(weights))
    if is_hub_name(arch):
        return build_hub_network(arch, n_languages, weights=weights)
    if takes_waveforms(arch):
        return build_raw_network(arch, n_languages, weights=weights)
    if arch == SPEECH_EMBEDDING:
        return build_speech_embedding(n_languages, weights=weights)
    if is_spectrogram_cnn(arch):
        return build_spectrogram_cnn(arch, n_languages, weights=weights)
    if is_spectrogram_crnn(arch):
        return build_spectrogram_crnn(arch, n_languages, weights=weights)
    if arch in torchvision.models.list_models(module=torchvision.models):
        builder = torchvision.models.get_model_builder(arch)
        return _torchvision_network(arch, builder, n_languages, weights)
    network = _timm_network(arch, n_languages, weights)
    head: Any = network[1]
    head[0] = _ConcatPool()  # equivalent to fastai's; see there
    return network


def load_network(folder: str | Path) -> tuple[nn.Sequential, ModelInfo]:
    """Load a trained network from a model folder, in evaluation mode.

    Raises
    ------
    ModelError : not a model folder, a damaged one, or tensors that do not match its arch
    """
    folder = Path(folder)
    info = read_info(folder)
    # The folder may name an arch with billions of weights: check its file before allocating them.
    with torch.device("meta") if info.encoder else _Weightless():
        wanted = _new_network(info).state_dict()
    _validate_shapes(folder, info, wanted)
    network = _new_network(info)
    network.load_state_dict(read_tensors(folder, info))
    return network.eval(), info


def _new_network(info: ModelInfo) -> nn.Sequential:
    if info.encoder:
        return new_hub_network(info.encoder, len(info.vocab))
    return build_network(info.arch, len(info.vocab))


def layer_groups(network: nn.Sequential) -> list[list[nn.Parameter]]:
    """Return parameters in three groups, for discriminative rates: early body, late body, head.

    The body is split where fastai's ResNet splitter does (before the third of a ResNet's four
    stages); other bodies are split before the last third of their blocks.
    """
    body, head = network[0], network[1]
    blocks = [body]
    # Replace the largest block that has parts by its parts.
    while len(blocks) < RESNET_BLOCKS and (open_ones := [b for b in blocks if _parts(b)]):
        largest = max(open_ones, key=lambda block: sum(p.numel() for p in block.parameters()))
        place = next(i for i, block in enumerate(blocks) if block is largest)
        blocks[place : place + 1] = _parts(largest)
    n_late = max(1, len(blocks) // 3)
    early = [p for block in blocks[:-n_late] for p in block.parameters()]
    known = {id(p) for p in early}
    late = [p for p in body.parameters() if id(p) not in known]
    return [early, late, list(head.parameters())]


def _parts(block: nn.Module) -> list[nn.Module]:
    return [part for part in block.children() if any(True for _ in part.parameters())]


def _torchvision_network(
    arch: str, builder: Callable[..., nn.Module], n_languages: int, weights: str | Path
) -> nn.Sequential:
    full = builder(weights=None, **BUILDER_OPTIONS.get(arch, {}))
    body, n_features = _torchvision_body(full, arch)
    source, state = weights, None
    if str(weights) in PUBLISHED:
        source = torchvision.models.get_model_weights(builder).DEFAULT.url
        state = fetch_state(source)
    elif str(weights) != "none":
        state = local_state(Path(weights), arch)
    network = nn.Sequential(body, _head(n_features, n_languages))
    if state is not None:
        load_weights(network, full, body, state, source=source, arch=arch)
    return network


def _torchvision_body(full: nn.Module, arch: str) -> tuple[nn.Sequential, int]:
    """Cut a model before its classifier, as fastai does, and count the output channels.

    Not every model applies its children in order, so the body is tested on an image: it must return
    a feature map.
    """
    body = _before_classifier(full)
    # The meta device computes only shapes: it is fast and needs no weights.
    image = torch.zeros(1, 3, *TRIAL_SIZE, device="meta")
    tensors = {n: t.to("meta") for n, t in [*body.named_parameters(), *body.named_buffers()]}
    try:
        with torch.no_grad():
            features = functional_call(
                body.eval(), tensors, image
            )  # (1, n_features, height, width)
    except (RuntimeError, AssertionError, ValueError, TypeError) as error:
        raise _no_body(arch) from error
    is_map = features.ndim == 4 and all(
        n_out < n_in for n_out, n_in in zip(features.shape[2:], TRIAL_SIZE, strict=True)
    )
    if not is_map:
        raise _no_body(arch)
    return body.train(), features.shape[1]


def _before_classifier(full: nn.Module) -> nn.Sequential:
    children = list(full.named_children())
    while children and _is_classifier(*children[-1]):
        children.pop()
    return nn.Sequential(*(child for _, child in children))


def _is_classifier(name: str, child: nn.Module) -> bool:
    leaves = [module for module in child.modules() if not list(module.children())]
    return name in CLASSIFIER_NAMES or all(isinstance(m, HEAD_LAYERS) for m in leaves)


class _ConcatPool(nn.Module):
    """Pool maximum and mean of each map: (n, n_features, h, w) → (n, 2 n_features, 1, 1)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # torch before 2.12 cannot export adaptive_max_pool2d to ONNX.
        return torch.cat([x.amax((2, 3), keepdim=True), x.mean((2, 3), keepdim=True)], dim=1)


def _head(n_features: int, n_languages: int) -> nn.Sequential:
    """Build the head of fastai's `vision_learner`, with the same layers and initial weights."""
    head = nn.Sequential(
        _ConcatPool(),
        nn.Flatten(),
        nn.BatchNorm1d(2 * n_features),
        nn.Dropout(0.25),
        nn.Linear(2 * n_features, 512, bias=False),
        nn.ReLU(inplace=True),
        nn.BatchNorm1d(512),
        nn.Dropout(0.5),
        nn.Linear(512, n_languages, bias=False),
    )
    for layer in head:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight)
        elif isinstance(layer, nn.BatchNorm1d):
            nn.init.constant_(layer.bias, 1e-3)
    return head


def _no_body(arch: str) -> ModelError:
    return ModelError(
        f"arch {arch!r} has no convolutional body to put a head on; use for example resnet34, "
        "mobilenet_v3_large, efficientnet_b0, densenet121 or convnext_tiny"
    )


def _timm_network(arch: str, n_languages: int, weights: str | Path) -> nn.Sequential:
    near = _nearest(arch, _torchvision_names())
    with needs("timm", f"arch {arch!r} is not a torchvision model{near}; a timm model", ModelError):
        import timm
        from fastai.vision.learner import create_timm_model
    if not timm.is_model(arch.split(".")[0]):
        names = [*_torchvision_names(), *timm.list_models()]
        raise ModelError(
            f"arch {arch!r} is not a torchvision or timm model, speech_embedding, spectrogram_cnn, "
            "spectrogram_crnn, or one of the networks for waveforms, m3 to "
            f"m34-res{_nearest(arch, [*names, *RAW_ARCHS])}"
        )
    if str(weights) in PUBLISHED:
        return _timm_pretrained(arch, n_languages)
    state = None if str(weights) == "none" else local_state(Path(weights), arch)
    try:
        network, _ = create_timm_model(arch, n_languages, pretrained=False)
    # Each model of timm raises its own errors for invalid names and options.
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ModelError(f"arch {arch!r}: timm cannot build it ({first_line(error)})") from error
    if state is not None:
        model = network[0].model
        load_weights(network, model, model, state, source=weights, arch=arch)
    return network


def _timm_pretrained(arch: str, n_languages: int) -> nn.Sequential:
    import timm
    from fastai.vision.learner import create_timm_model

    try:
        return create_timm_model(arch, n_languages, pretrained=True)[0]
    except (OSError, RuntimeError) as error:
        from huggingface_hub.constants import HF_HUB_CACHE

        cfg = timm.get_pretrained_cfg(arch)
        where = f"https://huggingface.co/{cfg.hf_hub_id}" if cfg and cfg.hf_hub_id else arch
        raise ModelError(
            f"the weights of {arch!r} cannot be downloaded from {where} ({first_line(error)}; "
            f"cache folder {HF_HUB_CACHE}). Download its model.safetensors elsewhere and pass it "
            "with --weights FILE; or train from scratch: --weights none"
        ) from error


class _Weightless(TorchFunctionMode):
    """Create new weight tensors with a shape but without memory.

    ``torch.device("meta")`` would do so for all tensors, including those from which RegNet computes
    its widths.
    """

    makers = (torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        options = kwargs or {}
        return func(*args, **(options | {"device": "meta"} if func in self.makers else options))


def _validate_shapes(folder: Path, info: ModelInfo, state: State) -> None:
    """Check names, types and shapes of the tensors in a file, before reading them."""
    stored = read_shapes(folder)
    wanted = {n: (STORED_TYPES[tensor.dtype], tuple(tensor.shape)) for n, tensor in state.items()}
    names = stored.keys() | wanted.keys()
    wrong = sorted(name for name in names if stored.get(name) != wanted.get(name))
    if info.encoder:  # see `stored_state`
        wrong = [n for n in wrong if n not in wanted or stored.get(n) != ("F16", wanted[n][1])]
    if wrong:
        hint = "Were its files written together?"
        if info.encoder:  # the names of its tensors depend on the version of `transformers`
            made_with, here = info.versions.get("transformers"), version("transformers")
            hint += f" It was made with transformers {made_with}, and {here} is installed"
        raise ModelError(
            f"{folder}: {len(wrong)} tensors do not fit arch {info.arch!r} with {len(info.vocab)} "
            f"languages, e.g. {wrong[0]!r}: {stored.get(wrong[0], 'absent')} in the file, "
            f"{wanted.get(wrong[0], 'absent')} expected. {hint}"
        )


def _torchvision_names() -> list[str]:
    models = torchvision.models.list_models(module=torchvision.models)
    return [*models, *RAW_ARCHS, ARCH, CRNN, SPEECH_EMBEDDING]


def _nearest(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, sorted(set(names)), n=3)
    return f" (did you mean {', '.join(near)}?)" if near else ""
