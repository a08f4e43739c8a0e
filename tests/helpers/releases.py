"""Small releases of published corpora, with empty audio files, in the layouts of their readers."""

from pathlib import Path


def write(root: Path, files: dict[str, str | bytes]) -> Path:
    """Write text files, and empty ones for audio."""
    for name, content in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def table(*rows: str) -> str:
    """Return lines whose fields are separated by bars as a tab-separated table."""
    return "".join(row.replace("|", "\t") + "\n" for row in rows)


def common_voice(root: Path) -> Path:
    """Two locales with splits, three clips and two that are only validated; one without splits."""
    header = "client_id|path|sentence|up_votes|age|gender|accents|locale|segment"
    files: dict[str, str | bytes] = {}
    for code in ("de", "sv-SE"):
        rows = {
            split: f'{code}-{split}|{code}_{split}.mp3|"Hej, sa hon.|2|twenties|{gender}||{code}|'
            for split, gender in (("train", "male_masculine"), ("dev", "female"), ("test", ""))
        }
        more = [
            f"{code}-new|{code}_new.mp3|x|2||||{code}|",
            f"{code}-test|{code}_2.mp3|x|2||||{code}|",
        ]
        files |= {f"{code}/{split}.tsv": table(header, row) for split, row in rows.items()}
        files[f"{code}/validated.tsv"] = table(header, *rows.values(), *more)
        files[f"{code}/invalidated.tsv"] = table(header, f"x|{code}_bad.mp3|x|0||||{code}|")
        names = (*rows, "new", "2", "bad")
        files |= {f"{code}/clips/{code}_{name}.mp3": "" for name in names}
    files["eo/validated.tsv"] = table(header, "eo-1|eo_1|x|2||||eo|", "eo-2|gone.mp3|x|2||||eo|")
    files["eo/clips/eo_1.mp3"] = ""
    return write(root, files)


def fleurs(root: Path) -> Path:
    """Two languages of three splits, of two speakers of one sentence."""
    files: dict[str, str | bytes] = {}
    for code in ("de_de", "cmn_hans_cn"):
        for split in ("train", "dev", "test"):
            rows = [f'7|{split}{n}.wav|"So.|so|s o|16000|{("MALE", "FEMALE")[n]}' for n in (0, 1)]
            files[f"{code}/{split}.tsv"] = table(*rows)
            files |= {f"{code}/audio/{split}/{split}{n}.wav": "" for n in (0, 1)}
    return write(root, files)


def voxpopuli(root: Path) -> Path:
    """Two languages of three splits."""
    files: dict[str, str | bytes] = {}
    for code in ("de", "hr"):
        for split in ("train", "dev", "test"):
            name = f"20090112-0900-PLENARY-5-{code}_{split}"
            header = "id|raw_text|normalized_text|speaker_id|split|gender"
            row = f"{name}|x|x|{'None' if split == 'dev' else split + code}|{split}|female"
            files[f"transcribed_data/{code}/asr_{split}.tsv"] = table(header, row)
            files[f"transcribed_data/{code}/2009/{name}.ogg"] = ""
    return write(root, files)


def common_language(root: Path) -> Path:
    """Two languages of three splits; the tables are in UTF-16."""
    files: dict[str, str | bytes] = {}
    for language in ("Welsh", "Hakha_Chin"):
        for split in ("train", "dev", "test"):
            header = "|client_id|path|sentence|age|gender"
            row = f'0|{language}_{split}_sp_0|a.wav|"x|teens|male'
            files[f"{language}/{split}.csv"] = table(header, row).encode("utf-16")
            files[f"{language}/{split}/{language}_{split}_sp_0/a.wav"] = ""
    return write(root, files)


def mls(root: Path) -> Path:
    """German as FLAC and Polish as Opus, of three speakers each."""
    files: dict[str, str | bytes] = {}
    for folder, suffix in (("mls_german", "flac"), ("mls_polish_opus", "opus")):
        header = "SPEAKER   |   GENDER   | PARTITION  |  MINUTES | BOOK ID | TITLE | CHAPTER\n"
        files[f"{folder}/metainfo.txt"] = header + "  101   |   F   | train | 9 | 7 | X | 1\n"
        for speaker, split in enumerate(("train", "dev", "test"), 101):
            files[f"{folder}/{split}/transcripts.txt"] = f"{speaker}_7_000000\tx\n"
            name = f"{speaker}_7_000000.{suffix}"
            files[f"{folder}/{split}/audio/{speaker}/7/{name}"] = ""
    return write(root, files)


def voxforge(root: Path) -> Path:
    """Two languages: two submissions of a user, one of anonymous."""
    files: dict[str, str | bytes] = {}
    for code in ("de", "ru"):
        for name in ("anna-20080603-cou", "anna-20090101-abc", "anonymous-20080425-jkl"):
            files[f"{code}/{name}/wav/{code}1-001.wav"] = ""
            files[f"{code}/{name}/etc/README"] = "User Name:x\n\nGender: Female\r\nAge Range: \n"
            files[f"{code}/{name}/etc/prompts-original"] = "x"
    return write(root, files)


def audiofolder(root: Path) -> Path:
    """Two splits, each with a table, one of JSON lines."""
    lines = '{"file_name": "a.wav", "label": "de", "speaker_id": "s1"}\n'
    lines += '{"file_name": "more/b.wav", "label": "es", "speaker_id": null}\n'
    files: dict[str, str | bytes] = {
        "data/train/metadata.jsonl": lines,
        "data/test/metadata.csv": "file_name,label,gender\nc.wav,de,male\n./d.wav,es,\n",
        **dict.fromkeys(("data/train/a.wav", "data/train/more/b.wav"), ""),
        **dict.fromkeys(("data/test/c.wav", "data/test/d.wav", "data/test/e.wav"), ""),
    }
    return write(root, files)


def kaldi(root: Path) -> Path:
    """Two data folders, with an absolute and a relative path each, and a line without language."""
    files: dict[str, str | bytes] = {}
    for split in ("train", "dev"):
        paths = {f"{split}1": f"{root}/wav/{split} 1.wav", f"{split}2": f"wav/{split}2.wav"}
        lines = [f"{key} {path}" for key, path in paths.items()]
        files[f"data/{split}/wav.scp"] = "\n".join([*lines, f"{split}3 wav/no.wav"]) + "\n"
        files[f"data/{split}/utt2lang"] = f"{split}1 de\n{split}2\tes\n"
        files[f"data/{split}/utt2spk"] = f"{split}1 s{split}1\n{split}2 s{split}2\n"
        files[f"data/{split}/spk2gender"] = f"s{split}1 f\n"
        files |= {f"wav/{split} 1.wav": "", f"wav/{split}2.wav": ""}
    files["wav/no.wav"] = ""
    return write(root, files)
