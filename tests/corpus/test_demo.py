"""The demo corpus: names, lengths, disjoint speakers and sentences, reproducible, resumable."""

import random
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from langid_fastai.corpus import demo
from langid_fastai.corpus.demo import VOICES, make_demo, read_sentences
from langid_fastai.corpus.readers.kaggle import KAGGLE_NAME
from langid_fastai.errors import CorpusError

espeakng_loader = pytest.importorskip("espeakng_loader")

SMALL = {"train_voices": 2, "test_voices": 2, "train_clips": 2, "test_clips": 2, "seed": 3}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return make_demo(tmp_path_factory.mktemp("demo"), **SMALL)


def flacs(folder: Path) -> dict[str, Path]:
    return {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.suffix == ".flac"}


def test_names_and_counts(corpus):
    found = [(path.parent.name, KAGGLE_NAME.match(path.name)) for path in flacs(corpus).values()]
    assert all(match for _, match in found)
    for split in ("train", "test"):
        for language in ("de", "en", "es"):
            genders = [m["gender"] for s, m in found if (s, m["language"]) == (split, language)]
            assert sorted(genders) == ["f", "f", "m", "m"]  # two clips of a woman, two of a man
    assert not list(corpus.rglob("*.tmp"))


def test_default_is_648_and_144_clips(tmp_path, monkeypatch):
    pools = {"train": [], "test": []}
    monkeypatch.setattr(demo, "_read_aloud", lambda *what: what)
    monkeypatch.setattr(
        demo, "write_sound", lambda path, what, _sr: pools[path.parent.name].append(what)
    )
    make_demo(tmp_path)
    assert {split: len(clips) for split, clips in pools.items()} == {"train": 648, "test": 144}
    for split, clips in pools.items():
        assert {pool for _, pool, *_ in clips} == {split}
        found = {language for *_, language, _, _, _ in clips}
        assert found == {"de", "en", "es"} | ({"fr"} if split == "test" else set())
        assert all(read == read_sentences()[language] for read, _, language, *_ in clips)


def learned_sentences():
    """Sentences of the languages in training."""
    return {x: pools for x, pools in read_sentences().items() if pools["train"]}


def test_training_voices_do_not_read_test_sentences(monkeypatch):
    texts = []

    def speak(text, *_, **_options):
        texts.append(text)
        return np.full(demo.CLIP_SAMPLES, 10_000, dtype=np.int16)

    monkeypatch.setattr(demo, "speak", speak)
    for language, sentences in learned_sentences().items():
        for pool in ("train", "test"):
            for n in range(1, 20):
                demo._read_aloud(sentences, pool, language, "f3", n, 0)
        train, test = " ".join(texts[:19]), " ".join(texts[19:])
        texts.clear()
        assert not [s for s in sentences["test"] if s in train]
        assert any(s in test for s in sentences["test"])


def test_generated_sentences_are_well_formed():
    rng = random.Random(0)
    for language, sentences in learned_sentences().items():
        made = {demo._made_up(sentences["patterns"], rng) for _ in range(200)}
        assert len(made) > 190, language
        assert all(re.fullmatch(r"[A-ZÁÉÍÓÚÄÖÜ][^.]+\w\.", s) for s in made), language


def test_clips_are_ten_seconds_of_speech(corpus):
    for path in flacs(corpus).values():
        info = sf.info(path)
        assert (info.samplerate, info.channels, info.subtype) == (22_050, 1, "PCM_16")
        y, sr = sf.read(path)
        assert y.shape == (220_500,)
        assert 0.05 <= np.abs(y).max() < 1
        seconds = np.sqrt((y.reshape(10, sr) ** 2).mean(axis=1))  # rms of each second
        assert seconds.min() > 0.05 * seconds.max(), f"{path.name} falls silent"


def test_no_speaker_in_both_splits(corpus):
    sides = [
        {KAGGLE_NAME.match(p.name)["speaker"] for p in (corpus / split).iterdir()}
        for split in ("train", "test")
    ]
    assert [len(side) for side in sides] == [2, 2]
    assert not sides[0] & sides[1]


def test_cast_is_balanced_and_disjoint():
    for seed in range(20):
        cast = demo._cast(18, 6, seed)  # as long as there are female voices
        assert not set(cast["train"]) & set(cast["test"])
        for voices, n_each in [(cast["train"], 9), (cast["test"], 3)]:
            assert [len(set(voices) & set(VOICES[gender])) for gender in "fm"] == [n_each] * 2
        assert demo._cast(4, 6, seed)["test"] == cast["test"]


def test_sentences():
    sentences = read_sentences()
    assert list(sentences) == ["de", "en", "es", "fr"]
    assert list(learned_sentences()) == ["de", "en", "es"]
    for language, pools in sentences.items():
        if language in learned_sentences():
            assert len(set(pools["train"])) == len(pools["train"]) >= 60, language
        assert len(set(pools["test"])) == len(pools["test"]) >= 30, language
        assert not set(pools["train"]) & set(pools["test"]), language
        assert all(re.search(r"[.?!]$", s) for s in pools["train"] + pools["test"]), language


def test_voices_have_their_gender():
    variants = Path(espeakng_loader.get_data_path()) / "voices" / "!v"
    for gender, voices in VOICES.items():
        for voice in voices:
            text = (variants / voice).read_text(encoding="utf-8", errors="replace")
            found = re.search(r"^gender\s+(male|female)", text, re.MULTILINE | re.IGNORECASE)
            assert (found[1][0].lower() if found else "m") == gender, voice


def test_every_voice_speaks_every_language():
    spoken = [
        demo._read_aloud(pools, "test", language, voice, 1, seed=0).tobytes()
        for language, pools in read_sentences().items()
        for voice in VOICES["f"] + VOICES["m"]
    ]  # _read_aloud itself checks length and peak
    assert len(set(spoken)) == len(spoken)


def test_same_seed_same_bytes(corpus, tmp_path):
    again = make_demo(tmp_path / "again", **SMALL)
    first, second = flacs(corpus), flacs(again)
    assert len(first) == 28  # two test voices read two clips of French too
    assert first.keys() == second.keys()
    assert all(first[name].read_bytes() == second[name].read_bytes() for name in first)
    assert len({path.read_bytes() for path in first.values()}) == len(first)  # all different


def test_resume_makes_only_what_is_missing(tmp_path):
    settings = SMALL | {"train_clips": 1, "test_clips": 1, "languages": ("es",)}
    make_demo(tmp_path, **settings)
    lost, *kept = flacs(tmp_path).values()
    bytes_before = lost.read_bytes()
    times = [path.stat().st_mtime_ns for path in kept]
    lost.unlink()
    make_demo(tmp_path, **settings)
    assert lost.read_bytes() == bytes_before  # although synthesised alone, not after the others
    assert [path.stat().st_mtime_ns for path in kept] == times


def test_killed_while_writing_leaves_no_clip(tmp_path, monkeypatch):
    def killed(path, content):
        with path.open("wb") as file:
            file.write(content[:9])
        if ".flac" in path.name:
            raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", killed)
    with pytest.raises(KeyboardInterrupt):
        make_demo(tmp_path, **SMALL)
    assert not flacs(tmp_path)


def test_readme_lists_voices_and_seed(corpus):
    readme = (corpus / "README.txt").read_text(encoding="utf-8")
    cast = demo._cast(2, 2, seed=3)
    for line in [*(" ".join(cast[split]) for split in cast), "eSpeak NG", "seed             3"]:
        assert line in readme


def test_folder_of_other_settings_is_refused(corpus, tmp_path):
    with pytest.raises(CorpusError, match=r"same settings.*choose another folder"):
        make_demo(corpus, **SMALL | {"seed": 4})
    (tmp_path / "train").mkdir()
    with pytest.raises(CorpusError, match="new, empty"):
        make_demo(tmp_path, **SMALL)


def test_missing_extra_names_the_command(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(CorpusError, match=r"pip install 'langid_fastai\[demo\]'"):
        make_demo(tmp_path / "demo")
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train_voices": 40, "test_voices": 6}, "at most 45"),
        ({"test_voices": 0}, "test_voices=0 must each be at least 1"),
        ({"test_clips": 0}, "test_clips=0 must be at least 1"),
        ({"languages": ("de", "tlh")}, "language='tlh' must be one of de, en, es"),
    ],
    ids=str,
)
def test_bad_settings(tmp_path, settings, message):
    with pytest.raises(CorpusError, match=re.escape(message)):
        make_demo(tmp_path / "demo", **settings)
    assert not (tmp_path / "demo").exists()


def test_unknown_voice_lists_known_voices(tmp_path, monkeypatch):
    # eSpeak itself would use its default voice.
    monkeypatch.setitem(VOICES, "f", ["nosuch", *VOICES["f"][1:]])
    with pytest.raises(CorpusError, match=r"voice='nosuch' must be one of .*belinda.*steph"):
        make_demo(tmp_path / "demo")
