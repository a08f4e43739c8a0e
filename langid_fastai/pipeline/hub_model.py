"""Compare a run with a model of the Hugging Face Hub on the same test recordings.

::

    langid evaluate runs/demo --against hf:facebook/mms-lid-126
    langid evaluate runs/demo --against hf:path/to/a/folder

The other model is any audio-classification model of `transformers` (extra ``hub``). No code of its
author is run, and weights are read from safetensors only.

Both are tested on the test clips of the run. Each clip is read again from its recording at the
sampling rate of the other model; a recording shorter than a clip is repeated, as in the run. The
score of a recording is the mean of its clips' log-probabilities. Labels are matched by language
code, see `match_languages`; if several labels of the other model match one of the run, their
probabilities are added. Only the languages of both are tested, and scores are normalised over them.
The run is calibrated on its validation split and the other model is not, so compare decisions
(accuracy, F1) rather than log loss.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from langid_fastai import evaluation
from langid_fastai.audio.files import excerpts, stream_audio
from langid_fastai.corpus.language_codes import match_languages
from langid_fastai.errors import AudioError, ModelError, RunError, first_line
from langid_fastai.mel_config import MelConfig
from langid_fastai.models.folder import read_info
from langid_fastai.models.hub import PREFIX, WEIGHT_FILES, download, is_hub_name, local_folder
from langid_fastai.pipeline.evaluate import clips_to_test, keep_sections, read_metrics, score_clips
from langid_fastai.pipeline.run_folder import Run
from langid_fastai.utils.dependencies import needs
from langid_fastai.utils.progress import track
from langid_fastai.utils.text import list_some

if TYPE_CHECKING:
    import torch
    from fastai.learner import Learner

__all__ = ["HubModel", "assess_against", "load_hub", "validate_against"]

BATCH = 8  # clips scored at once; on a CPU, larger batches are no faster
WARNING = (
    "the training data of the other model are unknown; if they include these recordings, its "
    "results are too optimistic"
)


@dataclass(frozen=True)
class HubModel:
    """An audio-classification model of `transformers`.

    Parameters
    ----------
    name : name on the Hub, or path of the model folder
    revision : commit on the Hub; None for a folder
    labels : class labels, in the order of the output
    sr : sampling rate of the input, Hz
    n_parameters : number of parameters of the network
    model, extractor : network in float32 and feature extractor, from `transformers`
    """

    name: str
    revision: str | None
    labels: tuple[str, ...]
    sr: int
    n_parameters: int
    model: Any
    extractor: Any

    def log_probs(self, clips: list[np.ndarray]) -> np.ndarray:
        """Compute the log-probability of each label for each clip.

        Parameters
        ----------
        clips : waveforms of shape (n_samples,), all of the same length, at `sr`

        Returns
        -------
        log_probs : float64, (n_clips, n_labels)
        """
        import torch

        inputs = self.extractor(clips, sampling_rate=self.sr, return_tensors="pt")
        with torch.inference_mode():
            logits = self.model(**inputs.to(self.model.device)).logits
        return torch.log_softmax(logits.double(), dim=-1).cpu().numpy()


def load_hub(name: str, device: str | torch.device = "cpu") -> HubModel:
    """Load an audio classifier from the Hugging Face Hub or a folder.

    Parameters
    ----------
    name : name on the Hub, such as ``facebook/mms-lid-126`` or ``facebook/mms-lid-126@revision``,
        or a folder written by `save_pretrained`
    device : device that runs the network, such as ``cpu`` or ``cuda``

    Raises
    ------
    ModelError : the extra `hub` is missing, the model cannot be downloaded or read, its weights
        are not in the safetensors format, or it is not an audio classifier
    """
    name = name.removeprefix(PREFIX)
    with needs("hub", f"{PREFIX}{name}", ModelError):
        import transformers
    from safetensors import SafetensorError

    transformers.utils.logging.disable_progress_bar()
    is_local = local_folder(PREFIX + name) is not None
    folder = download(PREFIX + name, ["*.json", *WEIGHT_FILES])
    try:
        extractor = transformers.AutoFeatureExtractor.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True
        )
        model, loading = transformers.AutoModelForAudioClassification.from_pretrained(
            folder,
            trust_remote_code=False,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
    # `transformers` raises many kinds of error; the remedy is the same for all.
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        raise ModelError(
            f"{PREFIX}{name} cannot be loaded ({first_line(error)}); give an audio-classification "
            "model of the Hub whose weights are safetensors, or a folder of one"
        ) from error
    if missing := sorted(loading["missing_keys"]):
        raise ModelError(
            f"{PREFIX}{name} has no weights for {list_some(missing, 2)}, so its answers would be "
            "chance; give a model that was trained to classify"
        )
    labels = [str(model.config.id2label[k]) for k in range(model.config.num_labels)]
    return HubModel(
        name,
        None if is_local else folder.name,
        tuple(labels),
        int(extractor.sampling_rate),
        sum(parameter.numel() for parameter in model.parameters()),
        model.to(device).float().eval(),  # some are stored in half precision; the input is float32
        extractor,
    )


def validate_against(against: str) -> None:
    """Check that the name of a model to compare with begins with ``hf:``.

    Raises
    ------
    RunError : the name does not begin with ``hf:``

    Examples
    --------
    >>> validate_against("hf:facebook/mms-lid-126")
    """
    if not is_hub_name(against) or against == PREFIX:
        raise RunError(f"--against {against!r} must be {PREFIX}<model>, such as {PREFIX}owner/name")


def assess_against(run: Run, learn: Learner, against: str) -> dict[str, Any]:
    """Score another model on the test recordings of a run, and add section `hub`.

    Parameters
    ----------
    run : run that has been trained and tested
    learn : trained Learner of the run
    against : ``hf:`` followed by the name of a model on the Hub, or by the path of a folder

    Returns
    -------
    metrics : content of ``metrics.json``

    Raises
    ------
    ModelError : see `load_hub`; or the models have fewer than two languages in common
    RunError : `against` does not begin with ``hf:``
    """
    validate_against(against)
    info, corpus = read_info(run.model), run.corpus()
    hub = load_hub(against, next(learn.model.parameters()).device)
    matched = match_languages(info.vocab, list(dict.fromkeys(hub.labels)))
    known, _ = clips_to_test(run, corpus, info)
    shared = [label for label in info.vocab if label in matched.values()]
    if len(shared) < 2:
        raise ModelError(
            f"{against}: only {len(shared)} of its labels ({list_some(hub.labels)}) match those of "
            f"the run ({list_some(info.vocab)}), but two are needed; labels are matched by "
            "language code, such as en, eng or en-GB"
        )
    clips = known[known["language"].isin(shared)].reset_index(drop=True)
    ours = _among(score_clips(run.images, learn, clips, info), info.vocab, shared)
    theirs = _score(hub, corpus.root, clips, info.mel)
    theirs = _among(theirs, [matched.get(label, "") for label in hub.labels], shared)
    section = _measure(clips, ours, theirs, shared) | {
        "model": hub.name,
        "revision": hub.revision,
        "n_parameters": hub.n_parameters,
        "cut": (
            f"both were given the run's clips of {info.mel.clip_seconds:g} s, the other model at "
            f"{hub.sr} Hz"
        ),
        "labels": {
            label: [theirs for theirs, ours in matched.items() if ours == label] for label in shared
        },
        "left_out": [label for label in info.vocab if label not in shared],
        "n_labels_unused": len(hub.labels) - len([x for x in hub.labels if x in matched]),
        "warnings": [WARNING],
    }
    others = [block for block in read_metrics(run).get("hub", []) if block["model"] != hub.name]
    return keep_sections(run, {"hub": [*others, section]})


def _measure(
    clips: pd.DataFrame, ours: np.ndarray, theirs: np.ndarray, shared: list[str]
) -> dict[str, Any]:
    """Return the metrics of both models on the same recordings, and their difference."""
    run, there = (evaluation.evaluate(clips, scores, shared) for scores in (ours, theirs))
    recordings, our_means = evaluation.average_clips(clips, ours)
    _, their_means = evaluation.average_clips(clips, theirs)
    truth = evaluation.encode(recordings, our_means, shared)
    return {
        **{name: run[name] for name in ("n_recordings", "n_clips", "n_groups", "n_speakers")},
        "run": run["recordings"],
        "there": there["recordings"],
        "difference": evaluation.compare_paired(
            our_means.argmax(axis=1) == truth,
            their_means.argmax(axis=1) == truth,
            recordings["group"],
        ),
        "languages": {
            label: {
                "n_recordings": run["languages"][label]["n_recordings"],
                "recall_run": run["languages"][label]["recall"],
                "recall_there": there["languages"][label]["recall"],
            }
            for label in shared
        },
    }


def _score(hub: HubModel, root: Path, clips: pd.DataFrame, mel: MelConfig) -> np.ndarray:
    """Return log-probabilities, (n_clips, n_labels), with the rows in the order of `clips`."""
    log_probs = np.empty((len(clips), len(hub.labels)))
    sounds = _sounds(root, clips, hub.sr, mel)
    sounds = track(sounds, total=len(clips), what=f"{PREFIX}{hub.name}", unit="clips")
    while batch := list(islice(sounds, BATCH)):
        log_probs[[row for row, _ in batch]] = hub.log_probs([y for _, y in batch])
    return log_probs


def _sounds(
    root: Path, clips: pd.DataFrame, sr: int, mel: MelConfig
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the row and the waveform of each clip, recording by recording."""
    n = round(mel.clip_seconds * sr)
    for path, part in clips.groupby("path", sort=False):
        part = part.sort_values("offset")
        spans = [(start, start + n) for start in (part["offset"] * sr).round().astype(int)]
        blocks = stream_audio(root / str(path), sr=sr, channel=mel.channel)
        for row, (_, y) in zip(part.index, excerpts(blocks, spans), strict=True):
            if not len(y):
                raise AudioError(f"{root / str(path)}: is shorter than it was; repeat the run")
            yield row, np.resize(y, n)


def _among(log_probs: np.ndarray, labels: list[str] | tuple[str, ...], shared: list[str]) -> Any:
    """Return log-probabilities of shared labels; probabilities of equal ones are added."""
    columns = [[k for k, label in enumerate(labels) if label == wanted] for wanted in shared]
    scores = np.stack([np.logaddexp.reduce(log_probs[:, c], axis=1) for c in columns], axis=1)
    return scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)
