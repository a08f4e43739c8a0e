"""Run by `test_distributed` in two processes, and in one with the double batch size.

Run by torchrun: ``two_processes.py IMAGES OUT``, batches of 4 per process.
"""

import json
import sys
from pathlib import Path

import torch
from fastai.torch_core import set_seed
from tiny import tiny_network

from langid_fastai.callbacks.distributed import rank, take_launch
from langid_fastai.learner import make_dataloaders, wrap_network
from langid_fastai.training import Stage, fit_stages

STAGES = (
    Stage("head", "head", epochs=1, lr=1e-2),
    Stage("all", "all", epochs=2, lr=(1e-4, 1e-3, 1e-3), policy="one_cycle"),
    Stage("refreeze", "head", epochs=2, lr=1e-4),
)
VARIED = (Stage("all", "all", epochs=2, lr=1e-3, masks=1, mixup=0.4),)


class StoppedError(Exception):
    """Simulates a kill of all processes."""


def make_learn(images, batch_size, dropout=0.0, *, has_norm=False):
    set_seed(rank())  # different weights in each process: those of rank 0 must be used
    network = tiny_network(has_norm=has_norm)
    network[1][2].p = dropout  # each process draws its own
    dls = make_dataloaders(images, batch_size=batch_size, device="cpu")
    learn = wrap_network(dls, network, "tiny", weights="none", precision="fp32")
    learn.remove_cb(learn.progress)
    learn.logger = lambda *_: None
    return learn


def train(images, batch_size, out, *, stop_after=None):
    """Train in all modes, and return the results by name."""
    weights = {name: make_learn(images, batch_size) for name in ("plain", "cached")}
    weights |= {
        name: make_learn(images, batch_size, has_norm=True) for name in ("norms", "cached norms")
    }
    histories = {
        name: fit_stages(learn, STAGES, cache_frozen=name.startswith("cached"))
        for name, learn in weights.items()
    }
    if stop_after is not None:
        checkpoints = out / "checkpoints" if rank() == 0 else None

        def stop(history):
            if len(history) == stop_after:
                raise StoppedError("stopped")

        try:
            fit_stages(
                make_learn(images, batch_size), STAGES, checkpoints=checkpoints, on_epoch=stop
            )
        except StoppedError:
            weights["resumed"] = make_learn(images, batch_size)
            histories["resumed"] = fit_stages(weights["resumed"], STAGES, checkpoints=checkpoints)
    varied = make_learn(images, batch_size, dropout=0.25)
    drawn = []
    varied.model[1][2].register_forward_hook(
        lambda layer, _, y: drawn.append((y[0] == 0).tolist()) if layer.training else None
    )
    histories["varied"] = fit_stages(varied, VARIED)
    states = {name: learn.model.state_dict() for name, learn in weights.items()}
    plainly = {name: h.drop(columns="seconds").to_dict("list") for name, h in histories.items()}
    return states, plainly, drawn


if __name__ == "__main__":
    launch = take_launch()
    folder = Path(sys.argv[2])
    with launch.joined(torch.device("cpu")):
        states, histories, drawn = train(Path(sys.argv[1]), 4, folder, stop_after=4)
    torch.save(states, folder / f"{launch.rank}.pth")
    (folder / f"{launch.rank}.json").write_text(json.dumps([histories, drawn]))
