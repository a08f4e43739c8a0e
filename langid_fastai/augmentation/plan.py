"""Plan the augmented variants of each training recording, and store the plan.

The plan of a folder of variants, or of their images, is in its ``augment.json``, so that variants
of different plans are never mixed.

Contents: `VariantPlan`; `make_plan` and `choose_plan` make one from options; `note_plan`,
`read_plan` and `refuse_other_plan` write, read and compare the file; `refuse_useless` rejects
variants without effect.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from langid_fastai.augmentation.waveform import (
    AUGMENTATIONS,
    Augmentation,
    augment_waveform,
    find_noises,
    parse_augmentations,
    require_extra,
    validate_rate,
)
from langid_fastai.errors import RunError
from langid_fastai.utils.files import write_json

__all__ = [
    "PLAN",
    "VariantPlan",
    "choose_plan",
    "make_plan",
    "note_plan",
    "read_plan",
    "refuse_other_plan",
    "refuse_useless",
]

PLAN = "augment.json"


@dataclass(frozen=True)
class VariantPlan:
    """The augmented variants to make of each training recording.

    Parameters
    ----------
    augmentations : augmentations to apply, each to its own variants; names must be unique
    copies : number of variants per augmentation, named ``pitch1``, ``pitch2``, …
    seed : random seed, combined with the names of the recording and the variant
    noises : folder of recordings without speech, for ``background_noise``

    Raises
    ------
    RunError : no augmentation, or a duplicate; `copies` below 1; `noises` without
        ``background_noise``, or the reverse

    Examples
    --------
    >>> plan = VariantPlan(parse_augmentations("white_noise,pitch"), copies=2)
    >>> plan.names
    ('white_noise1', 'white_noise2', 'pitch1', 'pitch2')
    """

    augmentations: tuple[Augmentation, ...]
    copies: int = 1
    seed: int = 0
    noises: str | None = None

    def __post_init__(self) -> None:
        names = [augmentation.name for augmentation in self.augmentations]
        if not names or len(set(names)) < len(names):
            raise RunError(f"augmentations {names} must be one or more, without duplicates")
        if isinstance(self.copies, bool) or not isinstance(self.copies, int) or self.copies < 1:
            raise RunError(f"copies={self.copies!r} must be a whole number, at least 1")
        if "background_noise" in names and self.noises is None:
            raise RunError("background_noise needs a folder of noises: --noises FOLDER")
        if "background_noise" not in names and self.noises is not None:
            raise RunError(
                f"noises {self.noises!r} are for background_noise only; augmentations are "
                f"{', '.join(names)}"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the variants of a recording."""
        return tuple(name for name, _ in self._numbered())

    def variants(self, y: np.ndarray, sr: int, key: str) -> Iterator[tuple[str, np.ndarray]]:
        """Generate the augmented variants of a waveform.

        Parameters
        ----------
        y : (n_samples,), waveform in [-1, 1]
        sr : sampling rate, Hz
        key : unique name of the waveform, e.g. its path

        Yields
        ------
        name, y : name and waveform of a variant, see `augment_waveform`
        """
        for name, augmentation in self._numbered():
            content = f"{self.seed}/{key}/{name}".encode()
            seed = int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")
            yield name, augment_waveform(y, sr, augmentation, seed=seed, noises=self.noises)

    def to_json(self) -> dict[str, Any]:
        """Return the plan as a JSON object, to store with its variants."""
        return asdict(self) | {"augmentations": [str(one) for one in self.augmentations]}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> VariantPlan:
        """Make a plan from the result of `to_json`."""
        text = ",".join(content["augmentations"])
        return cls(**content | {"augmentations": parse_augmentations(text)})

    def _numbered(self) -> Iterator[tuple[str, Augmentation]]:
        for augmentation in self.augmentations:
            for number in range(1, self.copies + 1):
                yield f"{augmentation.name}{number}", augmentation


def make_plan(
    names: str, *, copies: int = 1, seed: int = 0, noises: Path | None = None
) -> VariantPlan:
    """Make a plan from a user's options.

    Parameters
    ----------
    names : see `parse_augmentations`
    copies, seed : see `VariantPlan`
    noises : see `VariantPlan`; converted to an absolute path

    Raises
    ------
    RunError : see `VariantPlan`; no noises in the folder, or the extra `augment` is not installed
    """
    folder = str(noises.resolve()) if noises is not None else None
    plan = VariantPlan(parse_augmentations(names), copies, seed, folder)
    require_extra()  # raise before long work
    if folder is not None:
        find_noises(folder)
    return plan


def choose_plan(
    names: str | None, *, copies: int = 1, seed: int = 0, noises: Path | None = None
) -> VariantPlan | None:
    """Make a plan like `make_plan`, or return None if `names` is None.

    Raises
    ------
    RunError : see `make_plan`; or `copies` or `noises` is given without `names`
    """
    if names is not None:
        return make_plan(names, copies=copies, seed=seed, noises=noises)
    if copies != 1 or noises is not None:
        raise RunError("--copies and --noises are for augmented variants; name them with --augment")
    return None


def refuse_useless(plan: VariantPlan | None, kind: str, sr: int) -> None:
    """Check that each augmentation is possible and affects the input of the network.

    Parameters
    ----------
    plan : plan of the variants; None for no variants
    kind : kind of clip, see `MelConfig`; no kind shows the level, only waveforms show the polarity
    sr : sampling rate of the clips, Hz

    Raises
    ------
    RunError : an augmentation has no effect on clips of this kind
    AudioError : see `validate_rate`
    """
    unseen = {"level"} if kind == "waveform" else {"level", "sign"}
    for augmentation in plan.augmentations if plan else ():
        validate_rate(augmentation, sr)
        if AUGMENTATIONS[augmentation.name].changes in unseen:
            raise RunError(
                f"{augmentation.name} has no effect on clips of kind {kind!r}, which do not show "
                f"the {AUGMENTATIONS[augmentation.name].changes} of the audio: its variants would "
                "be copies. Leave it out"
            )


def read_plan(folder: Path) -> VariantPlan | None:
    """Read the plan of a folder; return None if it has none.

    Raises
    ------
    RunError : the file of the plan is damaged
    """
    content = _read_note(folder)
    return None if content is None else VariantPlan.from_json(content)


def note_plan(folder: Path, plan: VariantPlan | None) -> None:
    """Write the plan of a folder atomically, or remove its file if `plan` is None."""
    if plan is None:
        (folder / PLAN).unlink(missing_ok=True)
        return
    write_json(folder / PLAN, plan.to_json())


def refuse_other_plan(folder: Path, plan: VariantPlan | None) -> None:
    """Check that a folder was made with this plan.

    Raises
    ------
    RunError : the folder has another plan
    """
    there, requested = _read_note(folder), None if plan is None else plan.to_json()
    if there != requested:
        raise RunError(
            f"{folder} was made with other augmentations ({_words(there)}; now "
            f"{_words(requested)}); choose another --out, or the same augmentations"
        )


def _read_note(folder: Path) -> dict[str, Any] | None:
    try:
        return json.loads((folder / PLAN).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise RunError(f"{folder / PLAN}: damaged ({error}); regenerate the folder") from error


def _words(note: dict[str, Any] | None) -> str:
    if note is None:
        return "none"
    noises = f", noises {note['noises']}" if note["noises"] else ""
    names = ",".join(note["augmentations"])
    return f"{names}, copies {note['copies']}, seed {note['seed']}{noises}"
