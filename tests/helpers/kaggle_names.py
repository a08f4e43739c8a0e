"""File names as in the Kaggle set, for the tests of its reader and its download."""

import hashlib

LANGUAGES = ("de", "en", "es")
# The set's own test speakers, a woman and a man per language.
TEST = {
    ("en", "f"): "67a0cba10d171b24039a79faa1d4d603",
    ("en", "m"): "b74b2bf2af570393cae91f4ed89cece7",
    ("de", "f"): "63f5b79c76cf5a1a4bbd1c40f54b166e",
    ("de", "m"): "923551d571cc437382d0294dda2dd0aa",
    ("es", "f"): "50298ab71aaba8508ebeef49d853df11",
    ("es", "m"): "08111ce8d6a7ebc6cd2c27e62a3d98f0",
}
VARIANTS = (
    "",
    *(f"speed{i}" for i in range(1, 9)),
    *(f"pitch{i}" for i in range(1, 9)),
    *(f"noise{i}" for i in range(1, 13)),
)


def flac(language: str, gender: str, speaker: str, fragment: int, variant: str = "") -> str:
    transformation = f".{variant}" if variant else ""
    return f"{language}_{gender}_{speaker}.fragment{fragment}{transformation}.flac"


def make_speaker(language: str, gender: str, number: int) -> str:
    return hashlib.md5(f"{language}{gender}{number}".encode()).hexdigest()


def train_names(n_speakers: int, n_fragments: int, variants: tuple[str, ...]) -> list[str]:
    """File names of the training speakers, `n_speakers` per language and gender."""
    return [
        flac(language, gender, make_speaker(language, gender, number), fragment, variant)
        for language in LANGUAGES
        for gender in "fm"
        for number in range(n_speakers)
        for fragment in range(1, n_fragments + 1)
        for variant in variants
    ]


def own_test_names(n_fragments: int) -> list[str]:
    return [flac(*of, speaker, i + 1) for of, speaker in TEST.items() for i in range(n_fragments)]


TRAIN = train_names(3, 2, ("", "noise3"))
OWN_TEST = own_test_names(2)
