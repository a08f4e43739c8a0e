"""Download models from the Hugging Face Hub: ``hf:owner/name`` → a local folder.

::

    hf:owner/name             the newest commit
    hf:owner/name@v1.2        a tag, a branch, a commit, or a pull request (``refs/pr/1``)
    hf:path/to/a/folder       a local folder, used as it is

Only JSON, safetensors, ONNX and the model card are downloaded: none of them contains code. Every
file is compared with its hash on the Hub. Files are kept in the cache of huggingface_hub
(``~/.cache/huggingface``, or the folder in ``HF_HOME``), so the next use needs no network. For
private repositories, log in with ``hf auth login``, or set ``HF_TOKEN``.

Contents: `is_hub_name`, `hub_name` and `local_folder` read a name; `download` fetches files,
`fetch_model` a model folder of this library.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path

from langid_fastai.clips.waveforms import HUB_PREFIX as PREFIX
from langid_fastai.errors import ModelError, first_line
from langid_fastai.utils.dependencies import needs
from langid_fastai.utils.files import DENIED

__all__ = [
    "MODEL_FILES",
    "PREFIX",
    "WEIGHT_FILES",
    "absolute",
    "download",
    "fetch_model",
    "hub_errors",
    "hub_name",
    "is_hub_name",
    "local_folder",
]

# Files of `transformers`, and of a model folder of this library.
WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors")
MODEL_FILES = ("model.json", "model.safetensors", "model.onnx", "README.md")
NAME = re.compile(r"(?:[\w-][\w.-]*/)?[\w-][\w.-]*")
LOG_IN = "for a private one, log in with `hf auth login`, or set HF_TOKEN"


def is_hub_name(name: str | Path) -> bool:
    """Return whether the name of a model begins with ``hf:``.

    Examples
    --------
    >>> is_hub_name("hf:owner/name"), is_hub_name("runs/demo")
    (True, False)
    """
    return str(name).startswith(PREFIX)


def hub_name(name: str | Path) -> tuple[str, str | None]:
    """Split the name of a model on the Hub into its repository and its revision.

    Returns
    -------
    repository, revision : ``owner/name``; None for the newest commit

    Raises
    ------
    ModelError : not a name of the Hub

    Examples
    --------
    >>> hub_name("hf:owner/name@v1.2")
    ('owner/name', 'v1.2')
    """
    repository, _, revision = str(name).removeprefix(PREFIX).partition("@")
    if not is_hub_name(name) or not NAME.fullmatch(repository):
        raise ModelError(
            f"model {str(name)!r} must be {PREFIX}<owner>/<name>, also with @<revision>, or "
            f"{PREFIX}<folder>; is there no such folder?"
        )
    return repository, revision or None


def local_folder(name: str | Path) -> Path | None:
    """Return the existing local folder of ``hf:<folder>``; None for a model on the Hub."""
    folder = Path(str(name).removeprefix(PREFIX)).expanduser()
    return folder if folder.is_dir() else None


def absolute(name: str) -> str:
    """Make the path in ``hf:<folder>`` absolute; leave other names unchanged."""
    folder = local_folder(name) if is_hub_name(name) else None
    return name if folder is None else f"{PREFIX}{folder.resolve()}"


def download(name: str | Path, patterns: Sequence[str]) -> Path:
    """Download the matching files of a repository, unless cached, and return their folder.

    Parameters
    ----------
    name : ``hf:owner/name``, ``hf:owner/name@revision`` or ``hf:folder``
    patterns : file names or glob patterns, such as ``*.json``

    Returns
    -------
    folder : the local folder, or the snapshot of the commit in the cache of huggingface_hub

    Raises
    ------
    ModelError : the extra `hub` is not installed; no such repository or revision, or no access to
        it; no network; a damaged download
    """
    if (folder := local_folder(name)) is not None:
        return folder
    repository, revision = hub_name(name)
    with needs("hub", str(name), ModelError):
        from huggingface_hub import snapshot_download
    with hub_errors(repository, revision), _quiet_in_a_log():
        folder = Path(
            snapshot_download(repository, revision=revision, allow_patterns=list(patterns))
        )
    for file in folder.iterdir() if folder.is_dir() else ():
        if any(file.match(pattern) for pattern in patterns):
            _validate_content(file)
    return folder


@cache  # a command calls this repeatedly; a revision changed meanwhile would mix two models
def fetch_model(name: str) -> Path:
    """Download a model of this library, unless cached, and return its folder.

    Parameters
    ----------
    name : as for `download`

    Raises
    ------
    ModelError : as for `download`; or the repository is not a model of this library
    """
    folder = download(name, MODEL_FILES)
    if local_folder(name) is None and not (folder / "model.json").exists():
        raise ModelError(
            f"{name} is not a model of this library: it has no model.json. To train on an encoder "
            f"of the Hub: langid-train CORPUS --arch {name}"
        )
    return folder


@contextmanager
def hub_errors(repository: str, revision: str | None = None) -> Iterator[None]:
    """Convert errors of huggingface_hub to errors of this library.

    Raises
    ------
    ModelError : see `download`
    """
    from huggingface_hub import errors

    what = PREFIX + repository + (f"@{revision}" if revision else "")
    try:
        yield
    except errors.GatedRepoError as error:
        raise ModelError(
            f"{what}: its owner requires you to accept conditions; do so on its page on the Hub, "
            "and log in with `hf auth login`"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ModelError(
            f"{what}: the Hub has no such model, or it is private ({_status(error)}); check the "
            f"name; {LOG_IN}"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ModelError(
            f"{what}: the model has no revision {revision!r}; give a commit, a tag or a branch, or "
            "leave out @…"
        ) from error
    except errors.LocalEntryNotFoundError as error:
        raise ModelError(
            f"{what}: the Hub cannot be reached, and this model has not been downloaded completely "
            "before; connect to the internet and repeat, or download it elsewhere and give "
            f"{PREFIX}<folder>"
        ) from error
    except errors.HfHubHTTPError as error:
        raise ModelError(
            f"{what}: the Hub refuses ({_status(error)}: {first_line(error)}); {LOG_IN}, with a "
            "token that permits this"
        ) from error
    except OSError as error:
        if error.errno in DENIED:
            raise
        raise ModelError(_broken_off(what, error)) from error
    except ModelError:
        raise
    # The HTTP libraries behind it have classes of their own, and change from version to version.
    except Exception as error:
        raise ModelError(_broken_off(what, error)) from error


def _broken_off(what: str, error: Exception) -> str:
    return (
        f"{what}: the transfer broke off ({first_line(error)}); repeat the command, and it resumes"
    )


def _status(error: Exception) -> str:
    response = getattr(error, "response", None)
    return f"HTTP {response.status_code}" if response is not None else type(error).__name__


@contextmanager
def _quiet_in_a_log() -> Iterator[None]:
    """Disable progress bars inside the block, except on a terminal."""
    from huggingface_hub.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    if sys.stderr.isatty() or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def _validate_content(file: Path) -> None:
    """Compare a file in the cache with its hash, which the cache uses as its file name.

    The hash is the SHA-256 of a large file, and git's hash of a small one. Without symbolic links
    (Windows), the cache does not keep the hash.
    """
    if not file.is_symlink():
        return
    content = file.resolve()
    size = content.stat().st_size
    if re.fullmatch(r"[0-9a-f]{64}", content.name):
        new_hash = hashlib.sha256
    elif re.fullmatch(r"[0-9a-f]{40}", content.name):
        new_hash = partial(hashlib.sha1, f"blob {size}\0".encode(), usedforsecurity=False)
    else:
        return
    with content.open("rb") as stream:
        digest = hashlib.file_digest(stream, new_hash).hexdigest()
    if digest != content.name:
        raise ModelError(
            f"{content}: damaged, it differs from {file.name} on the Hub; remove this file, and "
            "repeat the command to download it again"
        )
