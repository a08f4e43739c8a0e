"""The run folder: its files, and the settings of the run.

::

    runs/<name>/
      run.json             settings, and findings of each step
      index.csv            the split clip index
      images/              spectrograms, mel.json, images.csv, failed.csv
      checkpoints/         state to resume interrupted training from
      history.csv          one row per epoch
      model/               model.json, model.safetensors
      metrics.json         everything that was measured
      predictions.csv      one row per test recording
      report.html          the report, with curves.png and confusion.png
      robustness/          scores of an unfinished test under harder conditions
      other/<corpus>/      images and predictions of a second corpus
      folds/<k>/<fold>/    cross-validation: history and scores of each fold

A step with other settings in the same folder is refused, so that all files of a folder come from
one run. The steps are in `langid_fastai.pipeline`: `prepare`, `train`, `evaluate`, `robustness` and
`cross_validate`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langid_fastai.corpus import LANGUAGE
from langid_fastai.corpus.index import Corpus, read_index, validate_index
from langid_fastai.errors import RunError
from langid_fastai.utils.files import is_there, write_json
from langid_fastai.utils.folder_lock import alone_in, is_left, sweep
from langid_fastai.utils.text import list_some

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["DEFAULTS", "Run", "default_folder"]


# Settings that older run folders lack, with the values they had in effect.
DEFAULTS = {"hold_out": (), "label": LANGUAGE, "cache_frozen": False, "mixup": 0.0}
# Values of settings that were renamed: old name → new name.
RENAMED = {"weights": {"imagenet": "pretrained"}}


@dataclass(frozen=True)
class Run:
    """The files of a run.

    Parameters
    ----------
    folder : run folder
    shared_images : folder of images that several runs share; by default ``images/`` of the run
    """

    folder: Path
    shared_images: Path | None = None
    # Cache of files that were read: stamp (inode, modification time, size) and content.
    _seen: dict[Path, tuple[Any, Any]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def index(self) -> Path:
        """Path of the split clip index, a CSV file."""
        return self.folder / "index.csv"

    @property
    def images(self) -> Path:
        """Folder of spectrogram images, by split and language."""
        return self.shared_images or self.folder / "images"

    @property
    def checkpoints(self) -> Path:
        """Folder of the state to resume interrupted training from."""
        return self.folder / "checkpoints"

    @property
    def model(self) -> Path:
        """Folder of the trained model."""
        return self.folder / "model"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Lock the folder against other commands, and remove partial files of killed ones.

        Raises
        ------
        RunError : the folder is not a run folder, or another command is using it
        """
        if self._is_begun():
            self.read()
        with alone_in(self.folder, RunError):
            for folder in (self.folder, self.checkpoints, self.model):  # `images` sweeps itself
                sweep(folder)
            yield

    def check(self, section: str, settings: dict[str, Any]) -> None:
        """Check that earlier work in the folder was done with the same settings.

        The settings of the corpus are fixed once the index is written, those of training once the
        first checkpoint is. Before that, they may still change.

        Parameters
        ----------
        section : ``corpus`` or ``training``
        settings : settings of this call, by name

        Raises
        ------
        RunError : the folder is not a run folder, or was made with other settings
        """
        if not self._is_begun():
            return
        there = self.read().get(section)
        work = {"corpus": self.index, "training": self.checkpoints / "last.pth"}[section]
        if there is None or not work.exists():
            return
        # An older version lacked some settings; it worked as with their defaults.
        there = _as_json(DEFAULTS | there)
        differing = [
            f"{name} was {there.get(name)!r}, now {value!r}"
            for name, value in _as_json(settings).items()
            if _newest(name, there.get(name)) != _newest(name, value)
        ]
        if differing:
            raise RunError(
                f"{self.folder} belongs to another run ({list_some(differing)}); choose another "
                "--out, or repeat the command that made it"
            )

    def note(self, section: str, found: Any) -> None:
        """Store settings, or the findings of a step, as a section of ``run.json``."""
        self.folder.mkdir(parents=True, exist_ok=True)
        known = self.read() if self._is_begun() else {}
        write_json(self.folder / "run.json", known | {section: found})

    def _is_begun(self) -> bool:
        """Return whether the folder contains more than locks and partial files."""
        if self.folder.exists() and not self.folder.is_dir():
            raise RunError(f"{self.folder} is a file; --out must be a folder, or a new name")
        return self.folder.exists() and any(not is_left(path) for path in self.folder.iterdir())

    def read(self) -> dict[str, Any]:
        """Return the content of ``run.json``."""
        try:
            text = self._once(self.folder / "run.json", lambda f: f.read_text(encoding="utf-8"))
            return json.loads(text)
        except OSError as error:
            raise RunError(
                f"{self.folder} is not a run folder (it has no run.json); choose another folder"
            ) from error
        except ValueError as error:
            raise RunError(f"{self.folder / 'run.json'}: damaged ({error})") from error

    def corpus(self) -> Corpus:
        """Return the split corpus of a prepared run, with all paths inside its root.

        Raises
        ------
        RunError : the run is not prepared
        CorpusError : the index was edited and is no longer valid
        """
        found = self.read().get("corpus_found")
        if found is None or not self.index.exists():
            raise RunError(f"{self.folder}: not prepared; run `langid prepare CORPUS` first")
        index = self._once(self.index, self._read_index)
        label = self.read()["corpus"].get("label", LANGUAGE)
        return Corpus(
            Path(found["root"]), index.copy(), found["layout"], tuple(found["notes"]), label=label
        )

    @staticmethod
    def _read_index(file: Path) -> pd.DataFrame:
        index = read_index(file)
        validate_index(index, source=file, one_language=True)
        return index

    def _once(self, file: Path, read: Callable[[Path], Any]) -> Any:
        """Return the content of a file, and read it again only if it has changed."""
        status = file.stat()
        stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
        known, content = self._seen.get(file, (None, None))
        if known != stamp:
            content = read(file)
            self._seen[file] = (stamp, content)
        return content


def default_folder(source: str) -> Path:
    """Return ``runs/<name of the corpus>``; an ``index.csv`` is named after its folder."""
    folder = source.removesuffix("/index.csv") if source != "index.csv" else "."
    path = Path(folder)
    if is_there(folder):
        return Path("runs") / (path.stem if path.is_file() else path.resolve().name)
    return Path("runs") / folder.rstrip("/").rpartition("/")[2][:100]


def _newest(name: str, value: Any) -> Any:
    """Return the value of a setting; a renamed value is replaced by its current name."""
    return RENAMED[name].get(value, value) if name in RENAMED else value


def _as_json(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings as they are after writing and reading JSON: tuples become lists."""
    return json.loads(json.dumps(settings))
