"""Train a model on the images of a run, in steps that can be interrupted and resumed.

::

    settings = TrainSettings("resnet18", weights="none")
    network, plan = make_network(run, corpus, settings)        before images are made, to fail early
    learn = make_learner(run, settings, network)
    train(run, learn, settings, plan)                          checkpoints/, history.csv, model/
    calibrate(run, learn)                                    model/model.json

The images are made by `langid_fastai.pipeline.prepare`; the model is tested by
`langid_fastai.pipeline.evaluate`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from langid_fastai.augmentation.plan import read_plan
from langid_fastai.clips.export import read_clips
from langid_fastai.corpus.groups import speakers_of
from langid_fastai.corpus.index import Corpus
from langid_fastai.corpus.split import audit_split
from langid_fastai.errors import CorpusError, RunError
from langid_fastai.models.encoder_info import arch_name
from langid_fastai.models.schedules import (
    SCHEDULES,
    Stage,
    default_schedule,
    discriminative,
    refuse_uncacheable,
)
from langid_fastai.pipeline.run_folder import Run
from langid_fastai.pipeline.settings import TrainSettings
from langid_fastai.preprocessing import MelConfig
from langid_fastai.utils.environment import describe_device
from langid_fastai.utils.files import replacing
from langid_fastai.utils.progress import Steps
from langid_fastai.utils.settings_note import differences

if TYPE_CHECKING:  # torch and fastai take seconds to import
    from fastai.callback.core import Callback
    from fastai.learner import Learner
    from torch import nn

    from langid_fastai.callbacks.distributed import Launch
    from langid_fastai.models.model_info import Calibration

__all__ = [
    "make_network",
    "make_learner",
    "choose_stages",
    "body_differences",
    "suggest_lr",
    "train",
    "follow",
    "calibrate",
]


DEFAULT_FALSE_ALARM_RATE = 0.05
# Settings that may differ when training is resumed, as they are stored.
OF_THE_MACHINE = {"device": None, "workers": None, "precision": None}
REVISION = "encoder_revision"  # in run.json: commit of an encoder of the Hugging Face Hub


def make_network(
    run: Run, corpus: Corpus, settings: TrainSettings, *, launch: Launch | None = None
) -> tuple[nn.Sequential, dict[str, Any]]:
    """Build the network and describe its training, before the images are made.

    Parameters
    ----------
    launch : see `train`

    Returns
    -------
    network : body with its initial weights, and a head with random weights
    plan : description of the training, stored in ``metrics.json`` under `run`

    Raises
    ------
    CorpusError : the initial weights were trained on speakers that are now in the test split
    ModelError : see `build_network`, `pick_device`, `validate_vocab`
    RunError : the schedule is unknown, or training in this folder began with other settings
    """
    with Steps("loading PyTorch and fastai"):
        from fastai.torch_core import set_seed

        from langid_fastai.callbacks.precision import pick_device, pick_precision
        from langid_fastai.models.hub_encoder import encoder_of
        from langid_fastai.models.model_info import validate_vocab
        from langid_fastai.models.networks import build_network

    name, stages = choose_stages(settings)
    run.check("training", _binding(settings, name))
    _refuse_trained_on(run, corpus, settings)
    device = pick_device(settings.device)
    set_seed(settings.seed)
    trained = corpus.index.loc[corpus.index["split"] == "train", "language"].unique()
    validate_vocab(sorted(trained))
    arch = _pinned(settings.arch, run.read().get(REVISION))
    network = build_network(arch, len(trained), weights=settings.weights)
    encoder = encoder_of(network)
    if encoder and encoder.revision:
        run.note(REVISION, encoder.revision)
    return network, {
        "arch": arch_name(settings.arch),
        "weights": settings.weights,
        "n_parameters": sum(p.numel() for p in network.parameters()),
        "schedule": name,
        "stages": [asdict(stage) for stage in stages],
        "batch_size": settings.batch_size,
        "n_processes": launch.n_processes if launch else 1,
        "device": describe_device(device),
        "precision": pick_precision(device) if settings.precision == "auto" else settings.precision,
        "seed": settings.seed,
        "cache_frozen": settings.cache_frozen,
    }


def make_learner(run: Run, settings: TrainSettings, network: nn.Sequential) -> Learner:
    """Make the Learner of a run from its images and the network from `make_network`.

    Raises
    ------
    ModelError, RunError : see `language_learner`, `make_dataloaders`
    """
    from langid_fastai.learner import make_dataloaders, wrap_network

    dls = make_dataloaders(
        run.images,
        clips=read_clips(run.images, run.corpus().index),
        batch_size=settings.batch_size,
        workers=settings.workers,
        device=settings.device,
        seed=settings.seed,
    )
    return wrap_network(
        dls, network, settings.arch, weights=settings.weights, precision=settings.precision
    )


def choose_stages(settings: TrainSettings) -> tuple[str, tuple[Stage, ...]]:
    """Return the name of the schedule, and its stages with the changes in `settings`.

    Raises
    ------
    RunError : the schedule is unknown; `epochs` does not have one number per stage; `lr` or `mixup`
        is out of bounds; or `cache_frozen` is used with augmentation of the images
    """
    name = settings.schedule or default_schedule(settings.arch, settings.weights)
    if name not in SCHEDULES:
        raise RunError(f"schedule {name!r} must be one of {', '.join(SCHEDULES)}")
    stages = SCHEDULES[name]
    if settings.lr is not None and not 0 < settings.lr < 10:
        raise RunError(f"lr={settings.lr} must be between 0 and 10, such as 1e-4")
    if settings.lr is not None:
        stages = tuple(
            replace(s, lr=discriminative(settings.lr) if isinstance(s.lr, tuple) else settings.lr)
            if s.trains == "all"
            else s
            for s in stages
        )
    if settings.mixup:
        stages = tuple(replace(s, mixup=settings.mixup) for s in stages)
    if settings.epochs is not None:
        if (
            len(settings.epochs) != len(stages)
            or min(settings.epochs) < 0
            or not any(settings.epochs)
        ):
            raise RunError(
                f"epochs={settings.epochs} must be {len(stages)} numbers, one for each stage "
                f"({', '.join(s.name for s in stages)}), at least 0 and not all 0"
            )
        pairs = zip(stages, settings.epochs, strict=True)
        stages = tuple(replace(s, epochs=n) for s, n in pairs if n)
    if settings.cache_frozen:
        refuse_uncacheable(stages)
    return name, stages


def body_differences(run: Run, mel: MelConfig, settings: TrainSettings) -> str:
    """Describe how the images of a run differ from those that its body was trained on.

    Parameters
    ----------
    mel : settings of the images, used if the run has no images yet

    Returns
    -------
    differing : empty if they do not differ, or if the weights are not from a model folder
    """
    from langid_fastai.models.folder import read_info

    if settings.start is None:
        return ""
    note = run.images / "mel.json"
    ours = MelConfig.read(note) if note.exists() else mel
    return differences(asdict(read_info(settings.start).mel), asdict(ours))


def suggest_lr(run: Run, learn: Learner, settings: TrainSettings) -> float:
    """Suggest a learning rate for the stage that trains all layers; plot it to ``lr_find.png``."""
    from langid_fastai.training import find_lr

    stage = next(s for s in choose_stages(settings)[1] if s.trains == "all")
    return find_lr(learn, stage, plot=run.folder / "lr_find.png")


def train(
    run: Run,
    learn: Learner,
    settings: TrainSettings,
    plan: dict[str, Any],
    *,
    command: str = "",
    on_epoch: Callable[[pd.DataFrame], None] | None = None,
    cbs: Sequence[Callback] = (),
    launch: Launch | None = None,
) -> pd.DataFrame:
    """Train the stages that are not finished, and write the model folder.

    Parameters
    ----------
    learn : from `make_learner`
    plan : from `make_network`
    command : command line that the user typed, for the report
    on_epoch : called after each epoch with the history so far
    cbs : additional fastai callbacks, see `fit_stages`
    launch : this process in distributed training; its rank is 0, and the others call `follow`

    Returns
    -------
    history : one row per epoch
    """
    from langid_fastai.callbacks.loggers import BatchBar
    from langid_fastai.learner import save_learner
    from langid_fastai.training import fit_stages

    name, stages = choose_stages(settings)
    run.note("training", _binding(settings, name))

    def note(history: pd.DataFrame) -> None:
        run.note("plan", plan | {"command": command})  # noted by the process that trains
        _write_history(run, history)
        if on_epoch:
            on_epoch(history)

    together = launch.joined(learn.dls.device) if launch else nullcontext()
    training = Steps("training", unit="batches")
    with together, training as steps, learn.no_bar(), learn.no_logging():
        history = fit_stages(
            learn,
            stages,
            checkpoints=run.checkpoints,
            seed=settings.seed,
            cache_frozen=settings.cache_frozen,
            on_epoch=note,
            cbs=[*cbs, BatchBar(steps)],
        )
    _write_history(run, history)
    if "plan" not in run.read():  # killed between the first checkpoint and its note
        run.note("plan", plan | {"command": command})
    index, augment = run.corpus().index, read_plan(run.images)
    save_learner(
        learn,
        run.model,
        training={
            "schedule": name,
            "weights": settings.weights,
            "seed": settings.seed,
            "augment": [] if augment is None else list(augment.names),
            "heard": sorted(
                _group_hashes(index[index["split"] != "test"]) | _trained_on_before(settings)
            ),
        },
    )
    return history


def follow(
    run: Run, settings: TrainSettings, launch: Launch, *, cbs: Sequence[Callback] = ()
) -> Learner:
    """Take part in distributed training as a rank other than 0; nothing is written.

    Parameters
    ----------
    run : the run of rank 0, or a copy of its ``run.json``, ``index.csv`` and ``images/``
    settings : same settings as on rank 0
    launch : this process; its rank is not 0
    cbs : those callbacks of rank 0 that affect training

    Returns
    -------
    learn : trained Learner
    """
    from langid_fastai.callbacks.precision import pick_device
    from langid_fastai.models.networks import build_network
    from langid_fastai.training import fit_stages

    with launch.joined(pick_device(settings.device)):
        index = run.corpus().index
        n_languages = index.loc[index["split"] == "train", "language"].nunique()
        learn = make_learner(run, settings, build_network(settings.arch, n_languages))
        with learn.no_bar(), learn.no_logging():  # the weights come from rank 0
            fit_stages(
                learn,
                choose_stages(settings)[1],
                seed=settings.seed,
                cache_frozen=settings.cache_frozen,
                cbs=cbs,
            )
    return learn


def calibrate(run: Run, learn: Learner, *, false_alarm_rate: float | None = None) -> Calibration:
    """Fit temperature and threshold to the validation recordings, and store them in the model.

    Parameters
    ----------
    learn : trained Learner
    false_alarm_rate : fraction of recordings in known languages that may be rejected as unknown; by
        default the rate of the previous calibration, otherwise `DEFAULT_FALSE_ALARM_RATE`

    Returns
    -------
    calibration : calibration that was stored in ``model.json``
    """
    from langid_fastai import evaluation
    from langid_fastai.models.folder import read_info, write_info

    info = read_info(run.model)
    if false_alarm_rate is None:
        false_alarm_rate = info.calibration.false_alarm_rate or DEFAULT_FALSE_ALARM_RATE
    clips = read_clips(run.images, run.corpus().index, "valid")
    log_probs = evaluation.predict_images(learn, [run.images / image for image in clips["image"]])
    calibration = evaluation.calibrate(
        clips, log_probs, info.vocab, false_alarm_rate=false_alarm_rate
    )
    write_info(run.model, replace(info, calibration=calibration))
    return calibration


def _write_history(run: Run, history: pd.DataFrame) -> None:
    with replacing(run.folder / "history.csv") as unfinished:
        history.to_csv(unfinished, index=False)


def _binding(settings: TrainSettings, schedule: str) -> dict[str, Any]:
    """Return the settings that must be the same to resume."""
    return asdict(settings) | OF_THE_MACHINE | {"schedule": schedule}


def _pinned(arch: str, revision: str | None) -> str:
    """Add the commit that the run began with to an encoder's name, since a branch may move."""
    return f"{arch}@{revision}" if revision and "@" not in arch else arch


def _group_hashes(index: pd.DataFrame) -> set[str]:
    """Return hashes of the names of groups and speakers, which do not reveal the names."""
    names = {*index["group"], *speakers_of(index)} - {""}
    return {hashlib.blake2b(name.encode(), digest_size=8).hexdigest() for name in names}


def _trained_on_before(settings: TrainSettings) -> set[str]:
    """Return hashes of all groups that the initial model, or one before it, was trained on."""
    from langid_fastai.models.folder import read_info

    return (
        set()
        if settings.start is None
        else set(read_info(settings.start).training.get("heard", []))
    )


def _refuse_trained_on(run: Run, corpus: Corpus, settings: TrainSettings) -> None:
    """Check that the initial model was not trained on speakers or groups of the test split."""
    tested = _group_hashes(corpus.index[corpus.index["split"] == "test"])
    n_known = len(tested & _trained_on_before(settings))
    remembered = run.read()
    if n_known and not remembered["corpus"]["allow_leaks"]:
        raise CorpusError(
            f"the model in {settings.weights} was trained on {n_known} of the {len(tested)} groups "
            "(speakers, videos, …) tested here; use the same split (--seed), test on other "
            "recordings, or add --allow-leaks, and the report will state that results are too "
            "optimistic"
        )
    found = remembered["corpus_found"]
    if n_known:
        run.note("corpus_found", found | {"leaks": len(audit_split(corpus)) + n_known})
