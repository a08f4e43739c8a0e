"""Make any number of file names as in known corpora, and recordings and images with such names.

The Kaggle set has 73 620 names: 540 in the test split, and 73 080 others, which are 30 fragments of
84 speakers in 29 versions (`langid_fastai.corpus.readers.kaggle`). Other numbers of names have
fewer or more fragments. Names of VoxLingua107 have 20 clips per video.
"""

import random
from collections.abc import Iterable, Iterator
from itertools import count, cycle, islice, product
from pathlib import Path
from string import ascii_lowercase

import numpy as np
import soundfile as sf
from PIL import Image

from langid_fastai.corpus.readers.kaggle import TEST_SPEAKERS

KAGGLE_TRAIN, KAGGLE_TEST = 73_080, 540
KAGGLE = KAGGLE_TRAIN + KAGGLE_TEST
LANGUAGES, GENDERS, N_SPEAKERS = ("de", "en", "es"), "fm", 14
N_VARIANTS = {"speed": 8, "pitch": 8, "noise": 12}
VARIANTS = ["", *(f".{kind}{i + 1}" for kind, n in N_VARIANTS.items() for i in range(n))]
CLIPS_PER_VIDEO = 20
# Several files, because a file can have only some ten thousand links (ext4: 65 000).
N_ORIGINALS = 8


def kaggle_names(n: int) -> list[str]:
    """Return relative paths of `n` files, with the same test fraction as in the Kaggle set."""
    n_test = n * KAGGLE_TEST // KAGGLE
    return [*islice(_train_names(), n - n_test), *islice(_test_names(), n_test)]


def voxlingua_names(n: int) -> list[str]:
    """Return relative paths of `n` clips in 107 languages, without a test split."""
    languages = ["".join(letters) for letters in islice(product(ascii_lowercase, repeat=2), 107)]
    names = []
    for i in range(n):
        video, clip = divmod(i, CLIPS_PER_VIDEO)
        times = f"{10 * clip:04d}.000-{10 * clip + 9:04d}.500"
        language = languages[video % len(languages)]
        names.append(f"{language}/{video:011d}__U__S{clip % 3}---{times}.wav")
    return names


def write_recordings(folder: Path, names: Iterable[str]) -> None:
    """Write a one-second tone for each name; all files differ in content, but not in size."""
    originals = [_flac(folder / f"original{i}.flac", 200 + 50 * i) for i in range(N_ORIGINALS)]
    contents = [original.read_bytes() for original in originals]
    for original in originals:
        original.unlink()
    for number, (name, content) in enumerate(zip(names, cycle(contents))):
        file = _in_folder(folder / name)
        # Replace the checksum in the FLAC header, which is not verified here.
        file.write_bytes(content[:26] + number.to_bytes(16, "big") + content[42:])


def link_recordings(folder: Path, names: Iterable[str]) -> None:
    """Link each name to one of a few recordings of one second."""
    originals = [_flac(folder / f"original{i}.flac", 200 + 50 * i) for i in range(N_ORIGINALS)]
    _link(folder, names, originals)


def link_images(folder: Path, names: Iterable[str], *, shape: tuple[int, int]) -> None:
    """Link each name to one of a few grey PNG files of this shape."""
    rng = np.random.default_rng(0)
    originals = [folder / f"original{i}.png" for i in range(N_ORIGINALS)]
    for original in originals:
        Image.fromarray(rng.integers(256, size=shape, dtype=np.uint8)).save(_in_folder(original))
    _link(folder, names, originals)


def _train_names() -> Iterator[str]:
    rng = random.Random(0)
    speakers = [
        (language, gender, f"{rng.getrandbits(128):032x}")
        for _, gender, language in product(range(N_SPEAKERS), GENDERS, LANGUAGES)
    ]
    for fragment in count(1):
        for (language, gender, speaker), variant in product(speakers, VARIANTS):
            yield f"train/{language}_{gender}_{speaker}.fragment{fragment}{variant}.flac"


def _test_names() -> Iterator[str]:
    cells = product(LANGUAGES, GENDERS)
    speakers = [(*cell, s) for cell, s in zip(cells, sorted(TEST_SPEAKERS), strict=True)]
    for fragment in count(1):
        for language, gender, speaker in speakers:
            yield f"test/{language}_{gender}_{speaker}.fragment{fragment}.flac"


def _flac(file: Path, pitch: float) -> Path:
    t = np.arange(8_000) / 8_000
    sf.write(_in_folder(file), 0.1 * np.sin(2 * np.pi * pitch * t), 8_000)
    return file


def _link(folder: Path, names: Iterable[str], originals: list[Path]) -> None:
    for name, original in zip(names, cycle(originals)):
        _in_folder(folder / name).hardlink_to(original)
    for original in originals:
        original.unlink()


def _in_folder(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    return file
