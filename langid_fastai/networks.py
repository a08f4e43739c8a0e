"""A name and a source of weights → a network with a fastai head.

The network is ``Sequential(body, head)``: a torchvision or timm model up to its classifier, and
fastai's head (average and maximum pooling, two linear layers). Its input is ``(n, 3, height,
width)``, its output ``(n, n_languages)``, unnormalised log-probabilities. A torchvision body and
the head are built without fastai, whose import takes seconds that a prediction would wait for.

Weights are ``imagenet``, ``none``, or a path: a torchvision state dict (``.pth``, ``.safetensors``)
or a model folder of this library, whose body is taken over. Weights that cannot be had are an
error, never silently random.
"""

from __future__ import annotations

import difflib
import pickle
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from urllib.error import HTTPError

import torch
import torchvision.models
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from langid_fastai.errors import ModelError, first_line
from langid_fastai.model_folder import ModelInfo, read_info, read_model, read_shapes

__all__ = [
    "build_network",
    "load_network",
    "layer_groups",
    "load_body",
    "fetch_state",
    "read_state",
]

State = Mapping[str, torch.Tensor]

# Parts of a ResNet's body that hold weights: first convolution, its norm, four stages.
RESNET_BLOCKS = 6

# What `torch.load` raises for a file that is damaged, or that is more than plain tensors.
UNREADABLE = (RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError)

# What stands between the last feature map of a torchvision model and its logits.
CLASSIFIER_NAMES = {"classifier", "fc", "head", "heads"}
CLASSIFIER_LAYERS = (
    nn.AdaptiveAvgPool2d,
    nn.AvgPool2d,
    nn.MaxPool2d,
    nn.Dropout,
    nn.Flatten,
    nn.Linear,
)

# Auxiliary classifiers serve ImageNet's training alone and stand among the body's children; the
# slow initial draw, and the input scaling of the published weights, are left out with them.
BUILDER_OPTIONS: dict[str, dict[str, bool]] = {
    "googlenet": {"aux_logits": False, "init_weights": False, "transform_input": False},
    "inception_v3": {"aux_logits": False, "init_weights": False, "transform_input": False},
}

# Height and width of the image that tries a body: not square, so that swapped axes show, and
# above the 75 pixels that inception_v3 needs.
TRIAL_SIZE = (96, 128)

# How safetensors names the types that networks hold.
STORED_TYPES = {torch.float32: "F32", torch.int64: "I64", torch.bool: "BOOL"}

# DenseNet's published files are older than the rule against dots in module names: `norm.1`.
OLD_DENSENET_KEY = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")


def build_network(arch: str, n_languages: int, *, weights: str | Path = "none") -> nn.Sequential:
    """Build body and head; the head is always new.

    Parameters
    ----------
    arch : a torchvision name (``resnet152``) or, with the extra `timm`, a timm name
    n_languages : outputs
    weights : ``imagenet``, ``none``, a state dict or a model folder

    Returns
    -------
    network : ``Sequential(body, head)`` in float32 on the CPU

    Raises
    ------
    ModelError : unknown name; no feature map before the classifier; weights that cannot be fetched,
        read, or do not fit

    Examples
    --------
    >>> network = build_network("resnet18", 3)
    >>> network(torch.zeros(2, 3, 128, 431)).shape
    torch.Size([2, 3])
    """
    if arch in torchvision.models.list_models(module=torchvision.models):
        builder = torchvision.models.get_model_builder(arch)
        return _torchvision_network(arch, builder, n_languages, weights)
    return _timm_network(arch, n_languages, weights)


def load_network(folder: str | Path) -> tuple[nn.Sequential, ModelInfo]:
    """Load a trained network from a model folder, in evaluation mode.

    Raises
    ------
    ModelError : no model folder, a damaged one, or tensors that are not those of its arch
    """
    folder = Path(folder)
    info = read_info(folder)
    network = build_network(info.arch, len(info.vocab))
    _validate_shapes(folder, info, network.state_dict())
    network.load_state_dict(read_model(folder)[1])
    return network.eval(), info


def layer_groups(network: nn.Sequential) -> list[list[nn.Parameter]]:
    """Parameters in three groups, for discriminative rates: early body, late body, head.

    The border in the body is that of fastai's ResNet splitter (before the third of a ResNet's four
    stages); other bodies are cut before the last third of their blocks.
    """
    body, head = network[0], network[1]
    blocks = [body]
    while len(blocks) < RESNET_BLOCKS:  # open the largest block that has parts
        largest = max(blocks, key=lambda block: sum(p.numel() for p in block.parameters()))
        parts = [part for part in largest.children() if any(True for _ in part.parameters())]
        if not parts:
            break
        place = next(i for i, block in enumerate(blocks) if block is largest)
        blocks[place : place + 1] = parts
    n_late = max(1, len(blocks) // 3)
    early = [p for block in blocks[:-n_late] for p in block.parameters()]
    known = {id(p) for p in early}
    late = [p for p in body.parameters() if id(p) not in known]
    return [early, late, list(head.parameters())]


def load_body(network: nn.Sequential, state: State, *, source: str | Path) -> None:
    """Take the body's weights from the state of another network of this library."""
    body = {name[2:]: value for name, value in state.items() if name.startswith("0.")}
    try:
        network[0].load_state_dict(body)
    except RuntimeError as error:
        raise ModelError(f"{source}: its body does not fit ({first_line(error)})") from error


def fetch_state(url: str) -> State:
    """Download a state dict, or take it from torch's cache folder.

    Raises
    ------
    ModelError : naming the address, the cache folder and both ways out
    """
    try:
        return torch.hub.load_state_dict_from_url(
            url, map_location="cpu", check_hash=True, weights_only=True, progress=True
        )
    except (OSError, RuntimeError) as error:  # no network, a refusal, a wrong hash
        if isinstance(error, HTTPError):
            error.close()
        cache = Path(torch.hub.get_dir()) / "checkpoints"
        raise ModelError(
            f"the weights cannot be downloaded from {url} ({first_line(error)}). Download that "
            f"file elsewhere and put it into {cache}, or pass it with --weights FILE; or train "
            "without weights: --weights none"
        ) from error


def read_state(path: Path) -> State:
    """Read a state dict from ``.safetensors``, or from a torch file without running its code."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ModelError(
            f"weights {str(path)!r}: no such file or folder; weights are 'imagenet', 'none', a "
            "state dict file or a model folder"
        ) from error
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path}: not a plain state dict; save one with torch.save(model.state_dict(), …)"
        ) from error
    except (SafetensorError, OSError, *UNREADABLE) as error:
        raise ModelError(f"{path}: no readable weights ({first_line(error)})") from error
    if not isinstance(state, Mapping) or not all(
        isinstance(v, torch.Tensor) for v in state.values()
    ):
        raise ModelError(f"{path}: not a plain state dict; save one with model.state_dict()")
    return state


def _torchvision_network(
    arch: str, builder: Callable[..., nn.Module], n_languages: int, weights: str | Path
) -> nn.Sequential:
    full = builder(weights=None, **BUILDER_OPTIONS.get(arch, {}))
    body, n_features = _torchvision_body(full, arch)
    source, state = weights, None
    if str(weights) == "imagenet":
        source = torchvision.models.get_model_weights(builder).DEFAULT.url
        state = fetch_state(source)
    elif str(weights) != "none":
        state = _local_state(Path(weights), arch)
    network = nn.Sequential(body, _head(n_features, n_languages))
    if state is not None:
        _load(network, full, body, state, source=source, arch=arch)
    return network


def _torchvision_body(full: nn.Module, arch: str) -> tuple[nn.Sequential, int]:
    """Cut before the classifier, as fastai's table does; count the channels that come out.

    Not every model is its children in order: one image shows whether the body gives a feature map.
    """
    body = _before_classifier(full)
    image = torch.zeros(1, 3, *TRIAL_SIZE)
    try:
        with torch.no_grad():
            features = body.eval()(image)  # (1, n_features, height, width)
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
    return name in CLASSIFIER_NAMES or all(isinstance(m, CLASSIFIER_LAYERS) for m in leaves)


class _ConcatPool(nn.Module):
    """Maximum and mean of each feature map: (n, n_features, h, w) → (n, 2 n_features, 1, 1)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pools = (nn.functional.adaptive_max_pool2d, nn.functional.adaptive_avg_pool2d)
        return torch.cat([pool(x, 1) for pool in pools], dim=1)


def _head(n_features: int, n_languages: int) -> nn.Sequential:
    """The head of fastai's `vision_learner`, layer by layer and number by number."""
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
        f"arch {arch!r} has no convolutional body to put a head on; take for example resnet34, "
        "mobilenet_v3_large, efficientnet_b0, densenet121 or convnext_tiny"
    )


def _timm_network(arch: str, n_languages: int, weights: str | Path) -> nn.Sequential:
    try:
        import timm
        from fastai.vision.learner import create_timm_model
    except ModuleNotFoundError as error:
        raise ModelError(
            f"arch {arch!r} is no torchvision model{_nearest(arch, _torchvision_names())}; for the "
            "names of timm: pip install 'langid_fastai[timm]'"
        ) from error
    if not timm.is_model(arch.split(".")[0]):
        names = [*_torchvision_names(), *timm.list_models()]
        raise ModelError(f"arch {arch!r} is no torchvision or timm model{_nearest(arch, names)}")
    if str(weights) == "imagenet":
        return _timm_pretrained(arch, n_languages)
    state = None if str(weights) == "none" else _local_state(Path(weights), arch)
    network, _ = create_timm_model(arch, n_languages, pretrained=False)
    if state is not None:
        model = network[0].model
        _load(network, model, model, state, source=weights, arch=arch)
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
            "with --weights FILE; or train without weights: --weights none"
        ) from error


def _local_state(path: Path, arch: str) -> State:
    """State of a model folder of ours, which must be of the same arch, or of a weight file."""
    if not path.is_dir():
        return read_state(path)
    info, state = read_model(path)
    if info.arch != arch:
        raise ModelError(f"{path} holds arch {info.arch!r}, not {arch!r}; pass --arch {info.arch}")
    return state


def _validate_shapes(folder: Path, info: ModelInfo, state: State) -> None:
    """Compare names, types and shapes before a tensor is read."""
    stored = read_shapes(folder)
    wanted = {n: (STORED_TYPES[tensor.dtype], tuple(tensor.shape)) for n, tensor in state.items()}
    names = stored.keys() | wanted.keys()
    wrong = sorted(name for name in names if stored.get(name) != wanted.get(name))
    if wrong:
        raise ModelError(
            f"{folder}: {len(wrong)} tensors do not fit arch {info.arch!r} with {len(info.vocab)} "
            f"languages, as {wrong[0]!r}: {stored.get(wrong[0], 'absent')} there, "
            f"{wanted.get(wrong[0], 'absent')} wanted. Were its files written together?"
        )


def _load(
    network: nn.Sequential,
    full: nn.Module,
    body: nn.Module,
    state: State,
    *,
    source: str | Path,
    arch: str,
) -> None:
    """Load a body from a network of ours, or from a published model, of which `body` is a part."""
    if Path(source).is_dir():
        load_body(network, state, source=source)
        return
    state = {OLD_DENSENET_KEY.sub(r"\1\2", name): value for name, value in state.items()}
    in_body = {id(tensor) for tensor in [*body.parameters(), *body.buffers()]}
    own = full.state_dict(keep_vars=True)
    wanted = {name: tensor for name, tensor in own.items() if id(tensor) in in_body}
    if len(wanted) != len(body.state_dict()):  # what is not wanted would stay random
        raise ModelError(f"arch {arch!r}: its body holds tensors that no weight file names")
    missing = sorted(
        name
        for name, tensor in wanted.items()
        # Files from before torch 0.4.1 lack this counter, which no layer here reads.
        if not name.endswith("num_batches_tracked")
        and (name not in state or state[name].shape != tensor.shape)
    )
    if missing:
        raise ModelError(
            f"{source} does not fit arch {arch!r}: {len(missing)} of {len(wanted)} tensors of the "
            f"body are absent or of another shape, as {missing[0]!r}. Are they weights of another "
            "arch?"
        )
    # Tensor by tensor: `load_state_dict` of MNASNet refuses states without torch's metadata.
    with torch.no_grad():
        for name in wanted.keys() & state.keys():
            wanted[name].copy_(state[name])


def _torchvision_names() -> list[str]:
    return torchvision.models.list_models(module=torchvision.models)


def _nearest(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, sorted(set(names)), n=3)
    return f" (did you mean {', '.join(near)}?)" if near else ""
