"""Synthesise a demo corpus from written sentences, with file names as in the Kaggle set.

eSpeak NG, a formant synthesiser, reads sentences written for this project (demo_sentences.json)::

    <folder>/train/de_f_<md5 of the voice's name>.fragment1.flac     ten seconds of running speech
    <folder>/test/…
    <folder>/README.txt                                              languages, voices, seed

Conventions: a *voice* is an eSpeak NG variant (``f3``, ``Andy``) and counts as one speaker, who
reads every language under the same ID. Test voices, test sentences and held-out languages are in
the test split only, never in training. Waveforms are int16 at 22 050 Hz. Speech is synthetic:
accuracy here shows that the pipeline works, not that a model would recognise human speech.

Licence: eSpeak NG is GPL-3.0. It is installed as a shared library from PyPI (``espeakng-loader``,
extra ``demo``) and called at run time; this package contains neither it nor its speech.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import random
import sys
from collections.abc import Collection
from itertools import product, zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from langid_fastai.audio.files import write_sound
from langid_fastai.errors import CorpusError
from langid_fastai.utils.dependencies import needs
from langid_fastai.utils.files import write_whole
from langid_fastai.utils.folder_lock import is_left
from langid_fastai.utils.progress import track

if sys.platform == "win32":
    from _ctypes import FreeLibrary as unload
else:
    from _ctypes import dlclose as unload

__all__ = ["HELD_OUT", "SAMPLE_RATE", "VOICES", "make_demo", "read_sentences", "speak"]

# Languages read by the test voices only, to test whether a model rejects unknown languages.
HELD_OUT = ("fr",)

# Variants that differ from each other: their mel cepstra are further apart than those of one voice
# reading two texts. Variants that whisper, sound metallic or clip are omitted. A variant without a
# gender counts as male, like eSpeak's default voice.
VOICES = {
    "f": ["Alicia", "Andrea", "Annie", "anika", "belinda", "f1", "f2", "f3", "f4", "f5",
          "grandma", "linda", "steph"],
    "m": ["Alex", "Andy", "Gene", "Hugo", "Lee", "Mario", "adam", "boris", "david", "edward",
          "grandpa", "gustave", "ian", "iven3", "john", "m1", "m2", "m3", "m5", "m7", "m8",
          "marcelo", "max", "michel", "mike2", "norbert", "pablo", "pedro", "quincy", "robert",
          "sandro", "victor"],
}  # fmt: skip
SAMPLE_RATE = 22_050  # Hz, as in the Kaggle set
CLIP_SAMPLES = 10 * SAMPLE_RATE
VOLUME = 45  # percent; at eSpeak's default of 100, a quarter of the voices clip; at 60, one
MIN_PEAK = 0.05  # of full scale; every voice here is louder

# From eSpeak NG's speak_lib.h.
_SYNCHRONOUS, _DONT_EXIT, _UTF8 = 2, 0x8000, 1
_RATE, _VOLUME, _PITCH = 1, 2, 3
_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


def make_demo(
    folder: str | Path,
    *,
    languages: Collection[str] = ("de", "en", "es"),
    held_out: Collection[str] = HELD_OUT,
    train_voices: int = 36,
    test_voices: int = 6,
    train_clips: int = 6,
    test_clips: int = 6,
    seed: int = 0,
) -> Path:
    """Make the demo corpus, or complete one with the same settings.

    The same settings give the same bytes. The default is 648 training and 144 test clips, 36 of
    them in a held-out language: two hours of speech, made in about fifteen seconds.

    Parameters
    ----------
    folder : folder that is new, empty, or from an earlier call; existing clips are kept
    languages : codes of languages in demo_sentences.json, for training and test
    held_out : codes of further languages, for the test split only
    train_voices, test_voices : number of speakers, together at most 45; alternately female and
        male until all female voices are used
    train_clips, test_clips : number of ten-second clips per voice and language
    seed : random seed for the test voices, each speaker's rate and pitch, and each clip's sentences

    Returns
    -------
    folder : path of the corpus

    Raises
    ------
    CorpusError : `espeakng_loader` is missing, `folder` contains something else, a language is
        unknown, or a number is below 1 or above the number of voices
    """
    folder = Path(folder)
    sentences = read_sentences()
    for language in languages:
        _check_known("language", language, [x for x in sentences if sentences[x]["train"]])
    for language in held_out:
        _check_known("held_out", language, [x for x in sentences if x not in languages])
    n_clips = {"train": train_clips, "test": test_clips}
    if min(n_clips.values()) < 1:
        raise CorpusError(f"train_clips={train_clips}, test_clips={test_clips} must be at least 1")
    cast = _cast(train_voices, test_voices, seed)
    _find_espeak()  # raises before anything is written
    _claim(folder, languages, held_out, cast, n_clips, seed)

    for split, voices in cast.items():
        (folder / split).mkdir(exist_ok=True)
        spoken = [*languages, *(held_out if split == "test" else ())]
        pairs = list(product(voices, spoken))
        what = f"demo corpus, {split}"
        for voice, language in track(pairs, total=len(pairs), what=what, unit="voices"):
            gender = "f" if voice in VOICES["f"] else "m"
            speaker = hashlib.md5(voice.encode(), usedforsecurity=False).hexdigest()
            for n in range(1, n_clips[split] + 1):
                path = folder / split / f"{language}_{gender}_{speaker}.fragment{n}.flac"
                if not path.exists():
                    y = _read_aloud(sentences[language], split, language, voice, n, seed)
                    write_sound(path, y, SAMPLE_RATE)
    return folder


def speak(
    text: str, language: str, voice: str, *, rate: int = 175, pitch: int = 50, seed: int = 0
) -> np.ndarray:
    """Synthesise any text with eSpeak NG, including pauses, e.g. to make your own corpus.

    Numbers in digits are read in any language. The same call gives the same samples.

    Parameters
    ----------
    text : text in the script of the language
    language : eSpeak's code of the language or accent, e.g. ``it`` or ``en-gb-scotland``
    voice : name of a voice in `VOICES`
    rate : speaking rate, words per minute
    pitch : mean pitch on eSpeak's scale, 0 to 100
    seed : random seed for the breath noise

    Returns
    -------
    y : int16, (n_samples,), at `SAMPLE_RATE`; truncated to ten seconds

    Raises
    ------
    CorpusError : `espeakng_loader` is missing, or eSpeak does not have the language or voice

    Examples
    --------
    >>> y = speak("1, 2, 3", "it", "Alicia")
    >>> y.dtype.name, 1 < len(y) / SAMPLE_RATE < 5
    ('int16', True)
    """
    _check_known("voice", voice, VOICES["f"] + VOICES["m"])
    library, data = _find_espeak()
    pcm = bytearray()

    @_Callback
    def collect(wav: int | None, n: int, _events: int | None) -> int:
        if wav and n > 0:
            pcm.extend(ctypes.string_at(wav, 2 * n))
        return int(len(pcm) >= 2 * CLIP_SAMPLES)  # 1 makes eSpeak stop

    espeak = ctypes.CDLL(library)
    try:
        sr = espeak.espeak_Initialize(_SYNCHRONOUS, 0, str(data).encode(), _DONT_EXIT)
        if sr != SAMPLE_RATE:
            raise CorpusError(
                f"{data}: eSpeak NG returns {sr}, not {SAMPLE_RATE} Hz; reinstall espeakng-loader, "
                "in a shorter path if this one is longer than 150 characters"
            )
        espeak.espeak_SetSynthCallback(collect)
        if espeak.espeak_SetVoiceByName(f"{language}+{voice}".encode()):
            raise CorpusError(
                f"language={language!r} must be a language of eSpeak NG, e.g. it or en-us"
            )
        for parameter, value in [(_RATE, rate), (_PITCH, pitch), (_VOLUME, VOLUME)]:
            espeak.espeak_SetParameter(parameter, value, 0)
        espeak.espeak_ng_SetRandSeed(ctypes.c_long(seed))  # for the breath noise
        utf8 = text.encode() + b"\0"
        espeak.espeak_Synth(utf8, ctypes.c_size_t(len(utf8)), 0, 0, 0, _UTF8, None, None)
        espeak.espeak_Terminate()
    finally:
        # The state of eSpeak's pitch flutter survives `espeak_Terminate`. Reloading the library
        # takes a millisecond and makes a clip independent of previous ones.
        unload(espeak._handle)
    return np.frombuffer(pcm, dtype=np.int16)[:CLIP_SAMPLES]


def read_sentences() -> dict[str, dict[str, Any]]:
    """Read the sentences of the demo corpus from demo_sentences.json.

    Returns
    -------
    sentences : language → sentences for ``train`` and ``test``, and ``patterns``: parts that are
        combined into further training sentences; held-out languages have test sentences only
    """
    file = Path(__file__).with_name("demo_sentences.json")
    return json.loads(file.read_text(encoding="utf-8"))


def _read_aloud(
    sentences: dict[str, Any], split: str, language: str, voice: str, fragment: int, seed: int
) -> np.ndarray:
    """Synthesise ten seconds, int16 (CLIP_SAMPLES,), of sentences in random order."""
    speaker = random.Random(f"{seed}/{voice}")
    clip = random.Random(f"{seed}/{language}/{voice}/{fragment}")
    pool = list(sentences[split])
    if split == "train":  # otherwise a network memorises the words of a few repeated sentences
        pool += [_made_up(sentences["patterns"], clip) for _ in pool]
    text = " ".join(_shuffled(pool, clip))
    # Words per minute (eSpeak's default is 175), and pitch from 0 to 100 (default 50): each speaker
    # has a mean, and each clip varies around it. Training voices vary more, since they are few.
    spread = {"train": 40, "test": 10}[split]
    rate = round(150 + 35 * speaker.random() + spread * (clip.random() - 0.5))
    pitch = round(40 + 20 * speaker.random() + spread * (clip.random() - 0.5))
    noise = round(2**30 * clip.random())
    y = speak(text, language, voice, rate=rate, pitch=pitch, seed=noise)
    peak = np.abs(y / 32767).max(initial=0)
    if len(y) != CLIP_SAMPLES or not MIN_PEAK <= peak < 1:
        raise CorpusError(
            f"voice={voice!r}, language={language!r}: {len(y)} samples with peak {peak:.2f} must "
            f"be {CLIP_SAMPLES} with a peak from {MIN_PEAK} to below 1; did eSpeak NG change?"
        )
    return y


def _made_up(patterns: dict[str, list[str]], rng: random.Random) -> str:
    """Return a random sentence (subject, action, place, time) in the language's word order."""
    parts = [patterns[part][int(rng.random() * len(patterns[part]))] for part in patterns["order"]]
    text = " ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def _find_espeak() -> tuple[str, Path]:
    """Return the path of the shared library, and its data folder; raise if a voice is missing."""
    with needs("demo", "the demo corpus", CorpusError):
        import espeakng_loader
    data = Path(espeakng_loader.get_data_path())
    # eSpeak ignores an unknown variant: two speakers would have the same voice.
    known = sorted(path.name for path in (data / "voices" / "!v").glob("*"))
    for voice in VOICES["f"] + VOICES["m"]:
        _check_known("voice", voice, known)
    return espeakng_loader.get_library_path(), data


def _cast(train_voices: int, test_voices: int, seed: int) -> dict[str, list[str]]:
    """Draw the voices of each split, alternately female and male."""
    rng = random.Random(f"{seed}/cast")
    pairs = zip_longest(_shuffled(VOICES["f"], rng), _shuffled(VOICES["m"], rng))
    voices = [voice for pair in pairs for voice in pair if voice]
    if min(train_voices, test_voices) < 1 or train_voices + test_voices > len(voices):
        raise CorpusError(
            f"train_voices={train_voices} and test_voices={test_voices} must each be at least 1 "
            f"and together at most {len(voices)}, the number of voices"
        )
    return {"train": voices[test_voices:][:train_voices], "test": voices[:test_voices]}


def _claim(
    folder: Path,
    languages: Collection[str],
    held_out: Collection[str],
    cast: dict[str, list[str]],
    n_clips: dict[str, int],
    seed: int,
) -> None:
    """Write README.txt; raise if the folder has other content, or a corpus with other settings."""
    numbers = " and ".join(f"{n} of each {split} voice" for split, n in n_clips.items())
    readme = f"""\
Demo corpus of langid_fastai: sentences read by the speech synthesiser eSpeak NG.

languages        {" ".join(languages)}
held out         {" ".join(held_out)} (test voices only)
training voices  {" ".join(cast["train"])}
test voices      {" ".join(cast["test"])}
clips            {numbers} in each language, ten seconds each
seed             {seed}

A file name's long number is the md5 of the voice's name. Each voice speaks every language.
"""
    path = folder / "README.txt"
    if path.exists() and path.read_text(encoding="utf-8") == readme:
        return
    if folder.exists() and not all(is_left(path) for path in folder.iterdir()):
        raise CorpusError(
            f"{folder} must be new, empty, or a demo corpus with the same settings (see its "
            "README.txt), so that no training voice is in the test split; choose another folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(readme.encode(), path)


def _check_known(what: str, name: str, known: Collection[str]) -> None:
    if name not in known:
        raise CorpusError(f"{what}={name!r} must be one of {', '.join(known)}")


def _shuffled(items: list[str], rng: random.Random) -> list[str]:
    # Python guarantees the same `random()` in all versions, but not the same `shuffle()`.
    return sorted(items, key=lambda _: rng.random())
