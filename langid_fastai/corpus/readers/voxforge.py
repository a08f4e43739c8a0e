"""Reader for VoxForge: sentences read by volunteers, one folder per submission.

http://www.voxforge.org, GPL; the archives of a language, unpacked into a folder named after it::

    de/Black_Galaxy-20080603-cou/wav/de1-001.wav
       └ user, date, code
    de/Black_Galaxy-20080603-cou/etc/README        Gender: Male, and more

The user is the speaker, except `anonymous`, which many people use: there, the submission is the
group.
"""

from __future__ import annotations

import re

from langid_fastai.corpus.index import Corpus, make_index
from langid_fastai.corpus.readers.find import Found
from langid_fastai.corpus.readers.listed import READ, gender_of
from langid_fastai.corpus.readers.split_folders import place_folders
from langid_fastai.errors import CorpusError

__all__ = ["VOXFORGE_PATH", "read_voxforge"]

VOXFORGE_PATH = re.compile(
    r"(?P<above>^|.*/)(?P<submission>(?P<user>[^/]+)-\d{8}-\w+)/(?:wav|flac)/[^/]+$"
)
GENDER = re.compile(r"^Gender:[ \t]*(\S+)", re.MULTILINE)


def read_voxforge(found: Found) -> Corpus:
    """Read the language from its folder, speaker and gender from the folder of the submission.

    Raises
    ------
    CorpusError : the submissions are not in folders of their languages
    """
    matches = {path: match for path in found.audio if (match := VOXFORGE_PATH.match(path))}
    places, notes = place_folders({match["above"].rstrip("/") for match in matches.values()})
    rows, left_out, genders = [], {}, {}
    for path, match in matches.items():
        split, parts = places[match["above"].rstrip("/")]
        if not parts:
            raise CorpusError(
                f"{found.root}: the submissions of VoxForge, such as {match['submission']}, are "
                "outside any language folder; put those of each language into a folder named "
                "after its code, and pass the folder above these"
            )
        readme = f"{match['above']}{match['submission']}/etc/README"
        if readme in found.others and readme not in left_out:
            left_out[readme] = READ
            text = (found.root / readme).read_text(encoding="utf-8", errors="replace")
            genders[readme] = gender_of(m[1]) if (m := GENDER.search(text)) else ""
        is_known = match["user"].lower() != "anonymous"
        rows.append(
            {
                "path": path,
                "language": parts[0],
                "speaker": match["user"] if is_known else "",
                "group": "" if is_known else match["submission"],
                "split": split,
                "gender": genders.get(readme, ""),
            }
        )
    notes.append("submissions by anonymous have no speaker; each is its own group")
    return Corpus(found.root, make_index(rows), "VoxForge", tuple(notes), left_out)
