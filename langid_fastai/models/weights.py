"""Download weights, or read them from a file or model folder, and load them into a network.

Contents: `fetch_state` downloads a state dict; `read_state` reads one from a file, and
`local_state` from a file or model folder; `load_weights` loads one into a body.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.error import HTTPError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from langid_fastai.errors import ModelError, first_line
from langid_fastai.models.folder import read_model

__all__ = ["UNREADABLE", "State", "fetch_state", "load_weights", "local_state", "read_state"]

State = Mapping[str, torch.Tensor]

# Raised by `torch.load` if a file is damaged, or has other content than plain tensors.
UNREADABLE = (RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError)

# DenseNet's published files have module names with dots (`norm.1`), which torch no longer allows.
OLD_DENSENET_KEY = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")


def fetch_state(url: str) -> State:
    """Download a state dict, or read it from torch's cache folder.

    Raises
    ------
    ModelError : the download fails; the message has the URL, the cache folder and alternatives
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
            "from scratch: --weights none"
        ) from error


def read_state(path: Path) -> State:
    """Read a state dict from a safetensors file, or from a torch file without running its code."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ModelError(
            f"weights {str(path)!r}: no such file or folder; weights are 'pretrained', 'none', a "
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


def local_state(path: Path, arch: str) -> State:
    """Read a state dict from a weight file, or from a model folder with the same arch.

    Raises
    ------
    ModelError : the folder has another arch; or see `read_state` and `read_model`
    """
    if not path.is_dir():
        return read_state(path)
    info, state = read_model(path)
    if info.arch != arch:
        raise ModelError(f"{path} has arch {info.arch!r}, not {arch!r}; pass --arch {info.arch}")
    return state


def load_weights(
    network: nn.Sequential,
    full: nn.Module,
    body: nn.Module,
    state: State,
    *,
    source: str | Path,
    arch: str,
) -> None:
    """Load the weights of a body from a model of this library, or from a published model.

    Parameters
    ----------
    network : ``Sequential(body, head)``, changed in place
    full : the published model, which contains `body`
    body : body of `network`
    state : from `fetch_state` or `local_state`
    source : URL, file or folder of `state`; a folder contains a model of this library
    arch : name of the network

    Raises
    ------
    ModelError : a tensor of the body is missing from the state, or has another shape
    """
    if Path(source).is_dir():
        _load_body(network, state, source=source)
        return
    state = {OLD_DENSENET_KEY.sub(r"\1\2", name): value for name, value in state.items()}
    in_body = {id(tensor) for tensor in [*body.parameters(), *body.buffers()]}
    own = full.state_dict(keep_vars=True)
    wanted = {name: tensor for name, tensor in own.items() if id(tensor) in in_body}
    if len(wanted) != len(body.state_dict()):  # the others would stay random
        raise ModelError(f"arch {arch!r}: its body has tensors that no weight file contains")
    missing = sorted(
        name
        for name, tensor in wanted.items()
        # Files from before torch 0.4.1 lack this counter, which no layer here uses.
        if not name.endswith("num_batches_tracked")
        and (name not in state or state[name].shape != tensor.shape)
    )
    if missing:
        raise ModelError(
            f"{source} does not fit arch {arch!r}: {len(missing)} of {len(wanted)} tensors of the "
            f"body are missing or have another shape, e.g. {missing[0]!r}. Are they weights of "
            "another arch?"
        )
    # Tensor by tensor: `load_state_dict` of MNASNet rejects states without torch's metadata.
    with torch.no_grad():
        for name in wanted.keys() & state.keys():
            wanted[name].copy_(state[name])


def _load_body(network: nn.Sequential, state: State, *, source: str | Path) -> None:
    """Load the weights of the body from the state of a model of this library."""
    body = {name[2:]: value for name, value in state.items() if name.startswith("0.")}
    try:
        network[0].load_state_dict(body)
    except RuntimeError as error:
        raise ModelError(f"{source}: its body does not fit ({first_line(error)})") from error
