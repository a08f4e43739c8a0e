"""Variants of training recordings, written as a corpus or made in an export."""

import json

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import split_tones
from command_line import MEL, SR
from tones import make_tones

from langid_fastai import cli
from langid_fastai.audio.files import load_audio
from langid_fastai.augmentation.plan import make_plan, read_plan
from langid_fastai.augmentation.variants import write_variants
from langid_fastai.clips.export import export_images, read_clips
from langid_fastai.corpus.index import Corpus, make_index, read_index, used_rows
from langid_fastai.corpus.measure import measure_audio, summarize_corpus
from langid_fastai.corpus.readers.recognise import read_corpus
from langid_fastai.corpus.split import audit_split, split_corpus
from langid_fastai.errors import CorpusError, RunError
from langid_fastai.pipeline.run_folder import Run
from langid_fastai.preprocessing import MelConfig

split = split_tones.split

CONFIG = MelConfig(SR, 1.0, 256, 128, 32)


def test_variants_are_next_to_the_training_recordings(split, tmp_path):
    plan = make_plan("white_noise,speed", copies=2, seed=1)
    made = write_variants(split, tmp_path / "made", plan, n_jobs=1)
    n_train = (split.index["split"] == "train").sum()
    assert (made.n_made, made.n_kept, len(made.failed)) == (4 * n_train, 0, 0)
    again = measure_audio(read_corpus(tmp_path / "made" / "index.csv"))
    index = again.index
    variants = index[index["variant"] != ""]
    assert len(index) == len(split.index) + 4 * n_train
    assert set(variants["split"]) == {"train"}
    assert variants["variant"].value_counts().to_dict() == dict.fromkeys(plan.names, n_train)
    assert index["duration"].notna().all()
    assert audit_split(again).empty
    assert len(used_rows(index)) == len(index)
    # Same labels as their recordings.
    clean = index[index["variant"] == ""].set_index("recording")
    for name in ("language", "speaker", "group", "split"):
        assert (clean.loc[variants["recording"], name].to_numpy() == variants[name]).all()
    for path in split.index["path"]:
        assert (made.corpus.root / path).read_bytes() == (split.root / path).read_bytes()


def test_a_new_split_keeps_variants_with_their_recording(split, tmp_path):
    write_variants(split, tmp_path / "made", make_plan("gain"), n_jobs=1)
    index = read_index(tmp_path / "made" / "index.csv").assign(split="", speaker="", group="")
    index["group"] = index["recording"]
    found = read_corpus(tmp_path / "made" / "index.csv")
    fresh = split_corpus(found.with_index(index), valid=0.25, test=0.25, seed=4)
    assert fresh.index.groupby("recording")["split"].nunique().max() == 1


def test_variants_do_not_depend_on_the_number_of_processes(split, tmp_path):
    plan = make_plan("white_noise,pitch", seed=1)
    folders = [tmp_path / "one", tmp_path / "two"]
    for n_jobs, folder in enumerate(folders, start=1):
        write_variants(split, folder, plan, n_jobs=n_jobs)
    one, two = (
        {f.relative_to(folder): f.read_bytes() for f in folder.rglob("*") if f.is_file()}
        for folder in folders
    )
    assert one == two
    assert (
        len([path for path in one if path.suffix == ".flac"])
        == 2 * (split.index["split"] == "train").sum()
    )


def test_resumes_where_it_stopped(split, tmp_path):
    plan = make_plan("gain,polarity")
    write_variants(split, tmp_path / "made", plan, n_jobs=1)
    files = sorted((tmp_path / "made").rglob("*.flac"))
    stamps = {file: file.stat().st_mtime_ns for file in files}
    content = files[3].read_bytes()
    files[3].unlink()
    again = write_variants(split, tmp_path / "made", plan, n_jobs=1)
    assert again.n_made == 2  # those of one recording
    assert files[3].read_bytes() == content
    unchanged = [f for f in files if f.stat().st_mtime_ns == stamps[f]]
    assert len(unchanged) == len(files) - 2
    assert not list((tmp_path / "made").rglob("*.tmp"))


def test_a_changed_recording_gets_new_variants(tmp_path):
    folder = make_tones(tmp_path / "tones", {"de": 300, "es": 900}, seed=1)
    corpus = split_corpus(measure_audio(read_corpus(folder)), valid=0.25, test=0.25, seed=0)
    plan = make_plan("polarity")
    write_variants(corpus, tmp_path / "made", plan, n_jobs=1)
    path = corpus.index.loc[corpus.index["split"] == "train", "path"].iloc[0]
    file = folder / path
    other = np.full(3 * SR, 0.25)
    file.unlink()  # a new file: writing to the old one would change its hard link too
    sf.write(file, other, SR)
    again = write_variants(corpus, tmp_path / "made", plan, n_jobs=1)
    assert again.n_made == 1
    variant = (tmp_path / "made" / path).with_suffix(".polarity1.flac")
    np.testing.assert_allclose(load_audio(variant, sr=SR), -other, atol=1e-4)


def test_damaged_recording_is_reported_and_the_others_are_made(tmp_path):
    folder = make_tones(tmp_path / "tones", {"de": 300, "es": 900}, seed=1)
    corpus = split_corpus(measure_audio(read_corpus(folder)), valid=0.25, test=0.25, seed=0)
    [first, second, *_] = corpus.index.loc[corpus.index["split"] == "train", "path"]
    (folder / first).write_bytes(b"no sound at all")
    (folder / second).unlink()
    made = write_variants(corpus, tmp_path / "made", make_plan("polarity"), n_jobs=1)
    assert made.failed["path"].tolist() == [first, second]
    assert "libsndfile cannot read it" in made.failed["reason"][0]
    assert "No such file" in made.failed["reason"][1]
    assert set(made.corpus.index.loc[made.corpus.index["variant"] != "", "recording"]).isdisjoint(
        {first, second}
    )
    assert len(pd.read_csv(tmp_path / "made" / "failed.csv")) == 2


def test_failed_recording_does_not_stop_the_others(tmp_path):
    folder = make_tones(tmp_path / "tones", {"de": 300, "es": 900}, seed=1)
    corpus = split_corpus(measure_audio(read_corpus(folder)), valid=0.25, test=0.25, seed=0)
    [first, second, *others] = corpus.index.loc[corpus.index["split"] == "train", "path"]
    sf.write(folder / first, np.full(400, 0.1), SR)  # 50 ms is long enough
    sf.write(folder / second, np.full(20_000, 0.1), 10_000)
    made = write_variants(corpus, tmp_path / "made", make_plan("mp3"), n_jobs=1)
    assert made.failed["path"].tolist() == [second]
    assert "mp3:8..32 at 10000 Hz" in made.failed["reason"][0]
    assert made.n_made == len(others) + 1


def test_clip_masked_to_silence_loses_only_that_variant(write_audio, tmp_path):
    y = np.zeros(SR, dtype=np.float32)
    word = slice(SR // 2, SR // 2 + SR // 8)  # in the part that is masked
    y[word] = 0.5 * np.sin(np.arange(SR // 8))
    paths = [f"{language}/1.wav" for language in ("de", "es")]
    for path in paths:
        write_audio(tmp_path / "clicks" / path, y, SR)
    index = make_index([{"path": p, "language": p[:2], "split": "train"} for p in paths])
    corpus = Corpus(tmp_path / "clicks", index, "a test")
    plan = make_plan("time_mask:0.9,room", copies=2)
    made = export_images(corpus, tmp_path / "images", CONFIG, augment=plan, n_jobs=1)
    assert len(made.failed)
    assert made.failed["reason"].str.fullmatch(r"time_mask[12]: silent: .*").all()
    assert made.clips["image"].str.contains("~room[12]").sum() == 4
    assert len(made.clips) + len(made.failed) == 2 * 5


def test_zero_jobs_are_refused(split, tmp_path):
    with pytest.raises(RunError, match="jobs=0 must be a number of processes"):
        write_variants(split, tmp_path / "made", make_plan("gain"), n_jobs=0)
    assert not (tmp_path / "made").exists()


def test_a_folder_of_variants_is_read_by_its_index(split, tmp_path):
    """By file names, variants would be separate recordings, in any split."""
    made = write_variants(split, tmp_path / "made", make_plan("gain"), n_jobs=1).corpus
    found = read_corpus(tmp_path / "made")
    pd.testing.assert_frame_equal(found.index, made.index, check_dtype=False)
    summary = summarize_corpus(measure_audio(found))
    assert summary["n_recordings"] == len(split.index)
    assert summary["n_variants"] == (split.index["split"] == "train").sum()


def test_files_that_differ_only_in_suffix_have_separate_variants(split, tmp_path):
    root = tmp_path / "mine"
    index = split.index.copy()
    for path in index["path"]:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        y, sr = sf.read(split.root / path)
        sf.write(root / path, y, sr)
    path = index.loc[index["split"] == "train", "path"].iloc[0]
    twin = path.replace(".wav", ".flac")
    sf.write(root / twin, 0.5 * sf.read(root / path)[0], SR)
    row = index[index["path"] == path].assign(path=twin)
    corpus = read_corpus(root).with_index(pd.concat([index, row], ignore_index=True))
    made = write_variants(corpus, tmp_path / "made", make_plan("polarity"), n_jobs=1).corpus
    assert {f"{path}.polarity1.flac", f"{twin}.polarity1.flac"} <= set(made.index["path"])
    assert made.index["path"].is_unique
    assert all((made.root / p).exists() for p in made.index["path"])


def test_variants_beyond_full_scale_are_attenuated(split, tmp_path):
    made = write_variants(split, tmp_path / "made", make_plan("gain:30"), n_jobs=1).corpus
    path = made.index.loc[made.index["variant"] == "gain1", "path"].iloc[0]
    y = load_audio(made.root / path, sr=SR)
    source = load_audio(split.root / path.replace(".gain1.flac", ".wav"), sr=SR)
    assert np.abs(y).max() == pytest.approx(1, abs=1e-3)
    np.testing.assert_allclose(y, source / np.abs(source).max(), atol=1e-3)


def test_foreign_folders_are_refused(split, tmp_path, corpus):
    plan = make_plan("gain")
    with pytest.raises(RunError, match="is inside the corpus"):
        write_variants(split, corpus / "made", plan, n_jobs=1)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match=r"not empty and does not contain augment\.json"):
        write_variants(split, tmp_path / "full", plan, n_jobs=1)
    write_variants(split, tmp_path / "made", plan, n_jobs=1)
    with pytest.raises(RunError, match=r"copies 1, seed 0; now gain:-12\.\.12, copies 1, seed 1"):
        write_variants(split, tmp_path / "made", make_plan("gain", seed=1), n_jobs=1)
    with pytest.raises(CorpusError, match="split must be one of"):
        write_variants(read_corpus(corpus), tmp_path / "other", plan, n_jobs=1)


def test_export_augments_only_training_clips(split, tmp_path):
    plan = make_plan("white_noise,speed", copies=2)
    plain = export_images(split, tmp_path / "plain", CONFIG, n_jobs=1)
    made = export_images(split, tmp_path / "images", CONFIG, augment=plan, n_jobs=1)
    clips = read_clips(tmp_path / "images", split.index)
    counts = clips.groupby("split")["variant"].value_counts().unstack(fill_value=0)
    assert len(clips) == len(made.clips)
    for side in ("valid", "test"):
        assert counts.loc[side, list(plan.names)].sum() == 0
    assert (counts.loc["train", list(plan.names)] == counts.loc["train", ""]).all()
    assert made.n_variants == 4 * counts.loc["train", ""]
    # The clips themselves are pixel for pixel those of a plain export.
    for name in plain.clips["image"]:
        there = (tmp_path / "images" / name).read_bytes()
        assert there == (tmp_path / "plain" / name).read_bytes()
    contents = {(tmp_path / "images" / name).read_bytes() for name in clips["image"]}
    assert len(contents) == len(clips)  # no variant is a copy
    again = export_images(split, tmp_path / "images", CONFIG, augment=plan, n_jobs=1)
    assert again.n_made == 0
    assert read_plan(tmp_path / "images") == plan


def test_variants_of_the_corpus_are_not_augmented_again(split, tmp_path):
    made = write_variants(split, tmp_path / "made", make_plan("speed"), n_jobs=1).corpus
    export_images(made, tmp_path / "images", CONFIG, augment=make_plan("pitch"), n_jobs=1)
    clips = read_clips(tmp_path / "images", made.index, "train")
    n = clips.groupby("path")["variant"].agg(lambda variants: sorted(set(variants)))
    assert set(map(tuple, n)) == {("", "pitch1"), ("speed1",)}


def test_augmented_images_depend_on_the_seed_only(split, tmp_path):
    plan = make_plan("pitch", seed=2)
    for n_jobs, name in enumerate(("one", "two"), start=1):
        export_images(split, tmp_path / name, CONFIG, augment=plan, n_jobs=n_jobs)
    names = sorted(p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*~*.png"))
    assert names
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_folds_do_not_train_on_variants_of_their_test(split, tmp_path):
    """Their images are made as if all were in training."""
    everything = split.with_index(split.index.assign(split="train"))
    export_images(everything, tmp_path / "images", CONFIG, augment=make_plan("speed"), n_jobs=1)
    clips = read_clips(tmp_path / "images", split.index)
    assert set(clips.loc[clips["variant"] != "", "split"]) == {"train"}
    assert clips["image"].str.startswith("train/").all()


@pytest.mark.parametrize(
    ("kind", "name", "shows"),
    [("mel", "gain", "level"), ("mfcc", "polarity", "sign"), ("waveform", "gain", "level")],
)
def test_variants_that_would_be_copies_are_refused(split, tmp_path, kind, name, shows):
    config = MelConfig(SR, 1.0, 256, 128, 32, kind=kind)
    with pytest.raises(
        RunError, match=f"{name} has no effect on clips of kind '{kind}'.*the {shows} of"
    ):
        export_images(split, tmp_path / "images", config, augment=make_plan(name), n_jobs=1)


def test_polarity_is_an_augmentation_for_waveforms(split, tmp_path):
    config = MelConfig(SR, 1.0, 256, 128, 32, kind="waveform")
    plan = make_plan("polarity")
    made = export_images(split, tmp_path / "images", config, augment=plan, n_jobs=1)
    name = made.clips["image"][made.clips["image"].str.contains("~polarity1")].iloc[0]
    one, other = (
        sf.read(tmp_path / "images" / n)[0] for n in (name, name.replace("~polarity1", ""))
    )
    np.testing.assert_allclose(one, -other, atol=1e-4)


def test_another_plan_in_the_same_folder_is_refused(split, tmp_path):
    export_images(split, tmp_path / "images", CONFIG, augment=make_plan("pitch"), n_jobs=1)
    with pytest.raises(RunError, match=r"other augmentations \(pitch:-2\.\.2, .*; now none\)"):
        export_images(split, tmp_path / "images", CONFIG, n_jobs=1)
    export_images(split, tmp_path / "plain", CONFIG, n_jobs=1)
    with pytest.raises(RunError, match=r"other augmentations \(none; now pitch"):
        export_images(split, tmp_path / "plain", CONFIG, augment=make_plan("pitch"), n_jobs=1)


def test_the_command_writes_a_corpus_to_train_on(corpus, tmp_path, langid):
    argv = ["corpus", "augment", corpus, "--out", tmp_path / "made", "--with", "white_noise,pitch"]
    options = ["--valid", 0.25, "--test", 0.25, "--jobs", 1]
    code, out, err = langid(*argv, *options, command=cli.main)
    assert code == 0, err
    assert "variants   16 made now, 0 already there" in out
    assert "langid-train" in out
    code, out, _ = langid(*argv, *options, command=cli.main)
    assert code == 0
    assert "variants   0 made now, 16 already there" in out
    code, out, err = langid("corpus", "audit", tmp_path / "made" / "index.csv", command=cli.main)
    assert code == 0, err
    code, _, err = langid(*argv[:-1], "echo", *options, command=cli.main)
    assert code == 1
    assert "augmentation 'echo' must be one of" in err


def test_command_prints_the_next_step_with_a_held_out_language(tmp_path, langid):
    folder = make_tones(tmp_path / "tones", {"de": 300, "es": 900, "fr": 1500})
    argv = ["corpus", "augment", folder, "--out", tmp_path / "made", "--with", "white_noise"]
    sides = ["--valid", 0.25, "--test", 0.25, "--jobs", 1]
    code, out, err = langid(*argv, *sides, "--hold-out", "fr", command=cli.main)
    assert code == 0, err
    assert "index.csv --hold-out fr" in out
    index = read_index(tmp_path / "made" / "index.csv")
    assert set(index.loc[index["language"] == "fr", "variant"]) == {""}
    again = split_corpus(read_corpus(tmp_path / "made"), hold_out=("fr",)).index
    assert dict(zip(again["path"], again["split"], strict=True)) == dict(
        zip(index["path"], index["split"], strict=True)
    )


@pytest.mark.slow
def test_training_on_augmented_clips(corpus, tmp_path, langid):
    small = "--arch spectrogram_cnn-w4-d2 --weights none --batch-size 8 --precision fp32".split()
    varied = "--augment white_noise:10..20,speed --mixup 0.4 --epochs 0,2,0 --jobs 1".split()
    code, out, err = langid(corpus, "--out", tmp_path / "run", *MEL, *small, *varied)
    assert code == 0, err
    assert "of them from augmented variants, for training" in out
    run = Run(tmp_path / "run")
    noted = run.read()["images"]["augment"]
    assert noted["augmentations"] == ["white_noise:10..20", "speed:0.9..1.1"]
    assert run.read()["training"]["mixup"] == 0.4
    model = json.loads((run.model / "model.json").read_text(encoding="utf-8"))
    assert model["training"]["augment"] == ["white_noise1", "speed1"]
    code, _, err = langid(corpus, "--out", tmp_path / "run", *MEL, *small, *varied[2:])
    assert code == 1
    assert "other augmentations" in err
    code, _, err = langid(corpus, "--out", tmp_path / "new", *small, "--copies", 2)
    assert code == 1
    assert "name them with --augment" in err
