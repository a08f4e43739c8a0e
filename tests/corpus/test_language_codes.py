"""Labels of two corpora are matched by language code, never by name."""

import langcodes
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from langid_fastai.corpus.language_codes import is_language_code, match_languages

settings = hypothesis_settings(deadline=None, max_examples=200, derandomize=True)

# The 107 languages of VoxLingua107, as its folders are named.
VOXLINGUA107 = (
    "ab af am ar as az ba be bg bn bo br bs ca ceb cs cy da de el en eo es et eu fa fi fo fr gl gn "
    "gu gv ha haw hi hr ht hu hy ia id is it iw ja jw ka kk km kn ko la lb ln lo lt lv mg mi mk ml "
    "mn mr ms mt my ne nl nn no oc pa pl ps pt ro ru sa sco sd si sk sl sn so sq sr su sv sw ta te "
    "tg th tk tl tr tt uk ur uz vi war yi yo zh"
).split()

NO_CODES = ["", " ", "3", "12", "jazz", "rock", "male", "noise", "music", "german", "English"]
NO_CODES += ["indian", "und", "und-US", "mul", "mis", "zxx", "root", "qaa", "qtz", "x-ours", "xx"]
NO_CODES += ["zzz", "de ", " de", "de--DE", "en-noise", "no-car", "my-own", "en-000", "*", "e\nn"]
NO_CODES += ["./en", "de.wav", "ＥＮ", "немецкий", "\0", "en-" * 50]


@pytest.mark.parametrize("label", NO_CODES)
def test_not_a_language_code(label):
    assert not is_language_code(label)
    assert match_languages([label, "en"], [label]) == {label: label}  # exact match only
    assert match_languages(["en", "de", "no", "my"], [label]) == {}
    assert match_languages([label], ["en", "de", "no", "my"]) == {}


@pytest.mark.parametrize("label", ["na", "nan", "no", "yua", "EN", "de-CH-1996", "iw"])
def test_language_code(label):
    assert is_language_code(label)


def test_all_of_voxlingua107_are_codes():
    assert len(VOXLINGUA107) == 107
    assert all(map(is_language_code, VOXLINGUA107))
    assert match_languages(VOXLINGUA107, VOXLINGUA107) == {x: x for x in VOXLINGUA107}


def test_three_letter_codes_match_voxlingua107():
    theirs = [langcodes.Language.get(label).to_alpha3() for label in VOXLINGUA107]
    assert match_languages(VOXLINGUA107, theirs) == dict(zip(theirs, VOXLINGUA107, strict=True))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("en", "eng"),
        ("en", "EN"),
        ("iw", "he"),
        ("jw", "jv"),
        ("de", "ger"),
        ("de", "deu"),
        ("fa", "per"),
        ("tl", "fil"),
        ("zh", "cmn"),
        ("ar", "arb"),
        ("et", "ekk"),
        ("en_us", "en-US"),
        ("de-DE", "deu_DE"),
    ],
)
def test_two_codes_of_one_language(ours, theirs):
    assert match_languages([ours, "fr"], [theirs]) == {theirs: ours}
    assert match_languages([theirs, "fr"], [ours]) == {ours: theirs}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("na", "nan"),  # Nauru, Min Nan
        ("no", "nn"),
        ("zh", "yue"),
        ("zh", "nan"),
        ("de", "gsw"),
        ("en", "sco"),
        ("es", "est"),  # Spanish, Estonian
        ("in", "indian"),
        ("sl", "sk"),
        ("en", "english"),
    ],
)
def test_two_languages(one, other):
    assert match_languages([one], [other]) == {}
    assert match_languages([other], [one]) == {}
    assert match_languages([one, other], [other, one]) == {other: other, one: one}


def test_names_as_in_fleurs():
    theirs = ["cmn_hans_cn", "en_us", "he_il", "fil_ph", "sr_rs", "yue_hant_hk", "ckb_iq"]
    assert match_languages(VOXLINGUA107, theirs) == {
        "cmn_hans_cn": "zh",
        "en_us": "en",
        "he_il": "iw",
        "fil_ph": "tl",
        "sr_rs": "sr",
    }


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        (["en"], ["en-US", "en-GB", "eng"], {"en-US": "en", "en-GB": "en", "eng": "en"}),
        (["en-US"], ["en", "eng-USA", "EN-us"], {"en": "en-US", "EN-us": "en-US"}),
        (["en-US"], ["en-GB"], {}),  # two regions of one language are two labels
        (["en-US", "en-GB"], ["en", "en-AU"], {}),
        (["en-US", "en-GB"], ["en-GB", "en_us"], {"en-GB": "en-GB", "en_us": "en-US"}),
        (
            ["en", "en-US"],
            ["en-GB", "en-US", "eng"],
            {"en-GB": "en", "en-US": "en-US", "eng": "en"},
        ),
        (["en", "eng"], ["EN", "en-US", "eng"], {"eng": "eng"}),  # two of our labels mean the same
        (["zh", "cmn"], ["zh-TW", "cmn"], {"cmn": "cmn"}),
        (["zh-Hant"], ["zh", "zh-Hans"], {"zh": "zh-Hant", "zh-Hans": "zh-Hant"}),  # the same audio
        (["zh-TW"], ["zh-HK"], {}),
        (["rm-sursilv"], ["rm", "rm-vallader"], {"rm": "rm-sursilv"}),
        (["pt-BR", "es"], ["por", "es-MX"], {"por": "pt-BR", "es-MX": "es"}),
        (["3", "jazz"], ["jazz", "Jazz", "03"], {"jazz": "jazz"}),
        (["en"], [], {}),
        ([], ["en"], {}),
        (["en", "en"], ["en", "eng", "eng"], {"en": "en", "eng": "en"}),
    ],
)
def test_regions_and_ambiguity(ours, theirs, expected):
    assert match_languages(ours, theirs) == expected


labels = st.one_of(
    st.text(max_size=12),
    st.from_regex(r"[a-zA-Z]{2,4}([-_][a-zA-Z0-9]{2,8}){0,3}", fullmatch=True),
    st.sampled_from([*VOXLINGUA107, *NO_CODES]),
)


@given(st.lists(labels, max_size=8), st.lists(labels, max_size=8))
@settings
def test_whatever_the_labels(ours, theirs):
    matches = match_languages(ours, theirs)
    for label, match in matches.items():
        assert label in theirs
        assert match in ours
        if label != match:  # two codes, each interpreted as the other's language
            assert is_language_code(label)
            assert is_language_code(match)
            assert label not in ours
            assert langcodes.tag_distance(label, match) < 10
    assert list(matches) == [label for label in dict.fromkeys(theirs) if label in matches]
    assert set(ours) & set(theirs) <= set(matches)
    assert match_languages(ours[::-1], theirs) == matches
