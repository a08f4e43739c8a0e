"""Many recordings at once have the answers of each alone, in order, whatever the batches."""

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from distributed import LocalCluster

from langid_fastai.errors import AudioError, ModelError, RunError
from langid_fastai.inference.backends import Engine
from langid_fastai.inference.onnx_export import export_onnx
from langid_fastai.models.folder import write_model
from langid_fastai.models.model_info import Calibration, ModelInfo
from langid_fastai.models.networks import build_network
from langid_fastai.prediction import LanguageIdentifier
from langid_fastai.preprocessing import MelConfig
from langid_fastai.utils.parallel import AHEAD

SR = 8000
VOCAB = ("ca", "de", "es")
BOUND = 1e-5


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """An untrained network for images."""
    return make_model(tmp_path_factory.mktemp("mel"), "spectrogram_cnn-w16-d4", "mel")


def make_model(folder, arch, kind):
    torch.manual_seed(0)
    mel = MelConfig(SR, 1.0, 256, 128, 32, kind=kind)
    info = ModelInfo(arch, VOCAB, mel, calibration=Calibration(0.3, 0.9, 0.05, 40))
    write_model(folder, build_network(arch, 3, weights="none").state_dict(), info)
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory, write_audio):
    """Recordings of many lengths; some are silent, too short, damaged or missing."""
    root, rng = tmp_path_factory.mktemp("audio"), np.random.default_rng(0)
    made = []
    for number, seconds in enumerate([1.0, 30.0, 0.5, 2.3, 1.0, 4.4, 1.7, 12.0]):
        y = 0.1 * rng.standard_normal(round(seconds * 11_025))
        y[len(y) // 3 : len(y) // 2] = 0  # a pause
        made.append(write_audio(root / f"{number}.flac", y, 11_025))
    made.insert(3, write_audio(root / "silent.wav", np.zeros(3 * SR), SR))
    (root / "text.mp3").write_text("no sound")
    made[5:5] = [root / "text.mp3", root / "missing.wav"]
    return [str(file) for file in made]


def one_by_one(identifier, files, timeline=False, **options):
    """Answers of single calls, or the reason why there are none."""
    results = []
    for file in files:
        try:
            predict = identifier.timeline if timeline else identifier
            results.append((file, predict(file, **options), ""))
        except AudioError as error:
            results.append((file, [], str(error).removeprefix(f"{file}: ")))
    return results


def assert_same(found, expected):
    assert [(p.path, p.failure) for p in found] == [(path, why) for path, _, why in expected]
    for prediction, (path, answers, _) in zip(found, expected, strict=True):
        without = [{k: v for k, v in a.items() if k != "score"} for a in answers]
        assert [{k: v for k, v in a.items() if k != "score"} for a in prediction.answers] == without
        ours, theirs = [[a["score"] for a in x] for x in (prediction.answers, answers)]
        np.testing.assert_allclose(ours, theirs, atol=BOUND, rtol=0, err_msg=path)


@pytest.mark.parametrize("timeline", [False, True])
@pytest.mark.parametrize(("jobs", "batch_size"), [(1, 3), (2, 8)])
def test_the_answers_are_those_of_each_alone(model, files, timeline, jobs, batch_size):
    identifier = LanguageIdentifier.load(model)
    options = {"candidates": ["de", "es"], "unknown": True, "timeline": timeline}
    found = identifier.predict_many(files, jobs=jobs, batch_size=batch_size, **options)
    assert_same(list(found), one_by_one(identifier, files, **options))


def test_a_network_of_waveforms_gets_waveforms(tmp_path, files):
    identifier = LanguageIdentifier.load(make_model(tmp_path, "m3", "waveform"))
    found = list(identifier.predict_many(files, jobs=1))
    assert_same(found, one_by_one(identifier, files))


def test_the_answers_of_onnx_are_those_of_each_alone(model, files):
    export_onnx(model)
    identifier = LanguageIdentifier.load(model)
    assert identifier.engine.name == "onnx"
    try:
        found = list(identifier.predict_many(files, jobs=1, top_k=2))
        assert_same(found, one_by_one(identifier, files, top_k=2))
    finally:
        (model / "model.onnx").unlink()


def test_durations_are_known_and_failures_have_a_reason(model, files):
    found = list(LanguageIdentifier.load(model).predict_many(files[:6], jobs=1))
    assert [round(p.duration, 1) for p in found] == [1.0, 30.0, 0.5, 3.0, 2.3, 0.0]
    assert ["silent" in p.failure for p in found] == [False, False, False, True, False, False]
    assert found[2].failure == "0.5 s of sound is too short; 1 s is needed"


def test_files_are_read_as_needed_and_the_caller_may_stop():
    read = []

    def names():
        for number in range(10_000):
            read.append(number)
            yield f"missing{number}.wav"

    predictions = identifier_of(lambda clips: clips).predict_many(names(), jobs=2)
    assert next(predictions).path == "missing0.wav"
    predictions.close()
    assert len(read) <= AHEAD + 2


def test_batches_are_full_and_of_several_recordings(tmp_path, write_audio):
    sizes = []

    def score(windows):
        sizes.append(len(windows))
        return np.zeros((len(windows), 3), dtype=np.float32)

    file = write_audio(tmp_path / "a.wav", 0.1 * np.ones(SR) * [(-1) ** i for i in range(SR)], SR)
    list(identifier_of(score).predict_many([str(file)] * 20, jobs=1, batch_size=8))
    assert sizes == [8, 8, 4]


@pytest.fixture
def three_threads():
    """The number of torch's threads, which is 1 in the other tests."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield 3
    torch.set_num_threads(before)


def test_batches_are_scored_at_the_same_time_with_one_thread_of_torch_each(files, three_threads):
    both = threading.Barrier(2, timeout=60)
    n_threads = set()

    def score(windows):
        both.wait()
        n_threads.add(torch.get_num_threads())
        return np.zeros((len(windows), 3), dtype=np.float32)

    identifier = identifier_of(score)
    list(identifier.predict_many(files[:1] * 4, jobs=1, batch_size=1, top_k=1))
    assert n_threads == {1}
    assert torch.get_num_threads() == three_threads
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == three_threads


def test_the_last_windows_are_divided_among_the_threads(files, three_threads):
    sizes = []

    def score(windows):
        sizes.append(len(windows))
        return np.zeros((len(windows), 3), dtype=np.float32)

    list(identifier_of(score).predict_many(files[:1] * 15, jobs=1, batch_size=8, top_k=1))
    assert sorted(sizes) == [1, 3, 3, 8]


def test_several_threads_give_the_answers_of_each_alone(model, files, three_threads):
    identifier = LanguageIdentifier.load(model)
    assert (identifier.engine.name, identifier.engine.n_threads) == ("torch", three_threads)
    found = list(identifier.predict_many(files, jobs=1, batch_size=3, top_k=2))
    assert_same(found, one_by_one(identifier, files, top_k=2))


def test_a_model_that_diverged_is_reported(tmp_path, write_audio, tone):
    file = write_audio(tmp_path / "a.wav", tone(440, SR), SR)
    identifier = identifier_of(lambda windows: np.full((len(windows), 3), np.nan, np.float32))
    with pytest.raises(ModelError, match=r"a\.wav: its scores are not finite"):
        list(identifier.predict_many([file], jobs=1))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"top_k": 0}, ModelError, "top_k=0 must be a whole number from 1"),
        ({"batch_size": 0}, ModelError, "batch_size=0 must be a whole number from 1"),
        ({"jobs": 0}, RunError, "jobs=0"),
        ({"candidates": ["xx"]}, ModelError, "does not know 'xx'"),
        ({"device": "nowhere"}, ModelError, "device 'nowhere' cannot be used here"),
        ({"precision": "fp16", "device": "cpu"}, ModelError, "'fp16' needs a GPU"),
        ({"precision": "fp8"}, ModelError, "must be one of fp32, bf16, fp16"),
    ],
)
def test_options_are_checked_before_anything_is_read(model, options, error, message):
    with pytest.raises(error, match=message):
        LanguageIdentifier.load(model).predict_many(["missing.wav"], **options)


def test_half_precision_is_close(model, files):
    identifier = LanguageIdentifier.load(model)
    half = identifier.predict_many(files[:2], jobs=1, precision="bf16", device="cpu")
    for prediction, answers in zip(half, map(identifier, files[:2]), strict=True):
        ours, theirs = [
            sorted((a["label"], a["score"]) for a in x) for x in (prediction.answers, answers)
        ]
        np.testing.assert_allclose([s for _, s in ours], [s for _, s in theirs], atol=0.05)


def identifier_of(score):
    info = ModelInfo("none", VOCAB, MelConfig(SR, 1.0, 256, 128, 32))
    return LanguageIdentifier(info, Engine("torch", score))


def test_a_cluster_gives_the_same_and_survives_a_killed_worker(model, files):
    identifier = LanguageIdentifier.load(model)
    many = [files[0], *files] * 2
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as local:
        found = []
        for prediction in identifier.predict_many(many, dask=local.scheduler_address, top_k=3):
            if not found:
                os.kill(local.workers[0].process.pid, signal.SIGKILL)
            found.append(prediction)
    assert_same(found, one_by_one(identifier, many, top_k=3))
