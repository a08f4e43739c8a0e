"""Publish a trained model on the Hugging Face Hub.

::

    lf.push("runs/demo", "me/spoken-languages", dry_run=True)     what would be uploaded
    lf.push("runs/demo", "me/spoken-languages")                   a private repository
    lf.LanguageIdentifier.load("hf:me/spoken-languages")

Only the model folder is uploaded: ``model.json``, ``model.safetensors``, the model card, and
``model.onnx`` if it was exported from these weights. The access token is the one that
huggingface_hub uses: log in with ``hf auth login``, or set ``HF_TOKEN``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from langid_fastai.errors import ModelError
from langid_fastai.models.encoder_info import arch_name
from langid_fastai.models.folder import (
    file_hash,
    model_folder,
    read_info,
    validate_tensors,
    write_info,
)
from langid_fastai.models.hub import MODEL_FILES, PREFIX, hub_errors, hub_name, is_hub_name
from langid_fastai.models.model_info import ModelInfo
from langid_fastai.models.names import PUBLISHED
from langid_fastai.utils.dependencies import needs

__all__ = ["Pushed", "push"]

# Files that every new repository has, or that this library writes.
OURS = {*MODEL_FILES, ".gitattributes"}


@dataclass(frozen=True)
class Pushed:
    """Result of an upload or of a dry run.

    Parameters
    ----------
    name : ``hf:owner/name@commit``, for `LanguageIdentifier.load`; without commit in a dry run
    url : URL of the repository; empty in a dry run
    files : size of each file by name, bytes
    """

    name: str
    url: str
    files: dict[str, int]


def push(
    folder: str | Path,
    repository: str,
    *,
    public: bool = False,
    dry_run: bool = False,
    tell: Callable[[str], None] = print,
) -> Pushed:
    """Upload a model folder to the Hugging Face Hub, into a new or existing repository.

    Parameters
    ----------
    folder : a model folder, or a run folder that contains one
    repository : ``owner/name``
    public : make a new repository public; by default only its owner can see it
    dry_run : list the files without uploading them
    tell : called with each line of progress text

    Raises
    ------
    ModelError : there is no model, or it is damaged; the extra `hub` is not installed; permission
        is denied; or the repository contains other files, or is public although `public` is False,
        or private although it is True

    Examples
    --------
    ::

        lf.push("runs/demo", "me/spoken-languages", dry_run=True).files
    """
    repository, revision = hub_name(PREFIX + repository.removeprefix(PREFIX))
    if revision or repository.count("/") != 1:
        raise ModelError(f"repository {repository!r} must be <owner>/<name>, such as me/languages")
    if is_hub_name(folder):
        raise ModelError(f"{folder} is already on the Hub; give a local folder")
    folder = model_folder(Path(folder))
    info = read_info(folder)
    validate_tensors(folder, info)
    with tempfile.TemporaryDirectory() as scratch:
        write_info(Path(scratch), _without_paths(info))
        sources = {name: folder / name for name in MODEL_FILES if (folder / name).exists()}
        sources["model.json"] = Path(scratch) / "model.json"
        if "model.onnx" in sources and info.onnx != file_hash(sources["model.onnx"]):
            tell("left out   model.onnx, which is of another model; see `langid export`")
            del sources["model.onnx"]
        if "README.md" not in sources:
            tell("no card    README.md is missing; `langid evaluate RUN` writes it for a run")
        sizes = {name: file.stat().st_size for name, file in sources.items()}
        for name, size in sizes.items():
            tell(f"{'would send' if dry_run else 'send':<10} {name} ({size / 1e6:.1f} MB)")
        if dry_run:
            return Pushed(PREFIX + repository, "", sizes)
        commit, url = _upload(repository, sources, public=public)
    name = f"{PREFIX}{repository}@{commit}"
    tell(f"{'public' if public else 'private':<10} {url}")
    tell(f"use it as  {name}")
    return Pushed(name, url, sizes)


def _without_paths(info: ModelInfo) -> ModelInfo:
    """Return a copy that contains no paths of this machine."""
    weights = str(info.training.get("weights", ""))
    if is_hub_name(weights):
        name = arch_name(weights)
    else:
        name = weights if weights in (*PUBLISHED, "none", "") else Path(weights).name
    return replace(info, training=info.training | {"weights": name}) if weights else info


def _upload(repository: str, sources: dict[str, Path], *, public: bool) -> tuple[str, str]:
    """Create the repository if it does not exist, and commit the files."""
    with needs("hub", f"a push to {repository}", ModelError):
        from huggingface_hub import CommitOperationAdd, HfApi
    with hub_errors(repository):
        api = HfApi()
        url = str(api.create_repo(repository, private=not public, exist_ok=True))
        there = api.model_info(repository)
        _refuse_other(repository, {file.rfilename for file in there.siblings or []})
        if bool(there.private) == public:
            raise ModelError(
                f"{PREFIX}{repository} exists and is {'private' if there.private else 'public'}; "
                + ("leave out --public" if public else "add --public")
                + ", change its settings on the Hub, or choose another name"
            )
        done = api.create_commit(
            repository,
            [CommitOperationAdd(name, file) for name, file in sources.items()],
            commit_message="Model of langid_fastai",
        )
    return done.oid, url


def _refuse_other(repository: str, files: set[str]) -> None:
    """Check that the repository is empty or contains a model of this library."""
    if "model.json" not in files and (others := sorted(files - OURS)):
        raise ModelError(
            f"{PREFIX}{repository} contains other files ({others[0]}, …), not a model of this "
            "library; choose another name"
        )
