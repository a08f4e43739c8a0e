"""Labels of two corpora, matched by what their language codes mean.

One corpus says ``en``, another ``eng``, a third ``en-US``. Codes are read by BCP 47 and ISO 639
with `langcodes`, which follows the tables of Unicode's CLDR: old codes are the new ones (``iw`` is
``he``), synonyms are one (``ger``, ``deu``), and the commonest member of a macrolanguage is that
language (``cmn`` is ``zh``). Names are not guessed at: ``german`` is no code and matches ``german``
only.

Conventions
-----------
A label is a code if its language is registered and somebody speaks it: not ``und`` or ``zxx``, no
private code. A word that happens to be a code (``pop`` is Pwapwâ) cannot be told from one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from langcodes import Language, LanguageTagError, standardize_tag

__all__ = ["is_language_code", "match_languages"]

# ISO 639-2: undetermined, uncoded, several, and no language at all.
NO_LANGUAGE = frozenset({"und", "mis", "mul", "zxx"})
PRIVATE = ("qaa", "qtz")  # first and last of those that ISO 639-2 leaves to everyone


def match_languages(ours: Sequence[str], theirs: Sequence[str]) -> dict[str, str]:
    """Find which of our labels means the same language as each of theirs.

    The same label comes first, then the same code in its standard form, then the same language
    whatever the script and the region, unless both sides name regions and these differ.

    Parameters
    ----------
    ours : labels of the model
    theirs : labels of another corpus

    Returns
    -------
    matches : theirs -> ours, in the order of theirs, without those that fit none of ours or
        several; more than one of theirs may go to one of ours

    Examples
    --------
    >>> match_languages(["en", "he", "jazz"], ["en-US", "eng", "iw", "hebrew", "jazz"])
    {'en-US': 'en', 'eng': 'en', 'iw': 'he', 'jazz': 'jazz'}
    >>> match_languages(["en-US", "en-GB", "de-AT"], ["en", "en-AU", "deu", "de-CH"])
    {'deu': 'de-AT'}
    """
    by_code, by_language = defaultdict(list), defaultdict(list)
    for label in filter(is_language_code, dict.fromkeys(ours)):
        by_code[standardize_tag(label)].append(label)
        by_language[_language(label)].append(label)
    matches = {}
    for label in theirs:
        if label in ours:
            matches[label] = label
        elif is_language_code(label):
            fitting = by_code.get(standardize_tag(label)) or _whatever_region(
                label, by_language.get(_language(label), [])
            )
            if len(fitting) == 1:
                matches[label] = fitting[0]
    return matches


def is_language_code(label: str) -> bool:
    """Whether a label is a code of a language, alone (``yua``) or with a region (``en-US``).

    Examples
    --------
    >>> [x for x in ("de", "nan", "en-US", "und", "jazz", "3", "") if is_language_code(x)]
    ['de', 'nan', 'en-US']
    """
    try:
        tag = Language.get(label)
    except LanguageTagError:
        return False
    language = tag.language or "und"
    is_private = language.startswith("x-") or PRIVATE[0] <= language <= PRIVATE[1]
    # `is_valid` does not look at a second language: it takes "no-car" for Norwegian with Carib.
    return tag.is_valid() and not (language in NO_LANGUAGE or is_private or tag.extlangs)


def _language(code: str) -> str:
    """The language of a code alone, as its macrolanguage where it is the commonest of that."""
    return str(Language.get(code).prefer_macrolanguage().language)


def _whatever_region(code: str, same_language: list[str]) -> list[str]:
    """Those of our codes of the same language that a code fits, when regions may be left out."""
    without_region = [ours for ours in same_language if not _has_region(ours)]
    return without_region or ([] if _has_region(code) else same_language)


def _has_region(code: str) -> bool:
    """Whether it names a territory or a dialect (``ca-valencia``)."""
    tag = Language.get(code)
    return bool(tag.territory or tag.variants)
