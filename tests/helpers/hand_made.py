"""Corpora without files, made by hand or by hypothesis, and checks of their split."""

from pathlib import Path

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from langid_fastai.corpus.index import SPLITS, Corpus, make_index, used_rows
from langid_fastai.corpus.split import audit_split

TIES = ("speaker", "group", "recording", "digest")

settings = hypothesis_settings(deadline=None, max_examples=25, derandomize=True)


def make_corpus(rows: list[dict[str, str]]) -> Corpus:
    return Corpus(Path("nowhere"), make_index(rows), "by hand")


def plain_corpus(
    n_speakers: int = 10, n_each: int = 5, languages: tuple[str, ...] = ("de", "es"), **columns: str
) -> Corpus:
    """Speakers of one language each, half of them women, with as many recordings each."""
    return make_corpus(
        [
            {
                "path": f"{language}/{number}_{i}.wav",
                "language": language,
                "speaker": f"{language}{number}",
                "gender": "fm"[number % 2],
            }
            | columns
            for language in languages
            for number in range(n_speakers)
            for i in range(n_each)
        ]
    )


def with_sides(corpus: Corpus, sides: dict[str, str]) -> Corpus:
    """Assign speakers to splits."""
    split = corpus.index["speaker"].map(sides).fillna("")
    return corpus.with_index(corpus.index.assign(split=split))


@st.composite
def corpora(draw: st.DrawFn, *, bilingual: bool = True, fewest: int = 1) -> Corpus:
    """Unusual corpora: groups within speakers, speakers in two languages, variants
    with and without the clean recording, copies of files, and unknown values."""
    languages = draw(st.sampled_from(["ab", "abc", "abcd"]))
    rows = []
    for language in languages:
        for person in range(draw(st.integers(fewest, 7))):
            gender = draw(st.sampled_from(["f", "m", ""]))
            shared = bilingual and draw(st.integers(0, 4)) == 0
            speaker = f"{'' if shared else language}{person}"
            is_known = draw(st.booleans())
            for n in range(draw(st.integers(1, 5))):
                name = f"{language}/{person}/{n}"
                copy = draw(st.integers(0, 20))
                variants = draw(st.sampled_from([[""], [""], ["", "noise1"], ["pitch1"]]))
                for variant in variants:
                    row = {"path": f"{name}{variant}", "language": language, "variant": variant}
                    row |= {"gender": gender, "recording": name if len(variants) > 1 else ""}
                    row["speaker"] = speaker if is_known else ""
                    row["group"] = "" if is_known and n % 2 else f"{speaker}/{n % 3}"
                    row["digest"] = f"{copy if bilingual else language + str(copy)}"
                    row["digest"] = row["digest"] if copy < 3 and not variant else ""
                    rows.append(row)
    return make_corpus(rows)


def assert_sound(corpus: Corpus) -> None:
    index = corpus.index
    assert index["split"].isin(SPLITS).all()
    for tie in set(TIES) & set(index):
        known = index[index[tie] != ""]
        assert (known.groupby(tie)["split"].nunique() <= 1).all(), tie
    used = used_rows(index)
    for side in SPLITS:
        assert set(used.loc[used["split"] == side, "language"]) == set(index["language"]), side
    assert audit_split(corpus).empty
