"""An identifier is passed to other processes as the folder that it was loaded from."""

import multiprocessing
import pickle
from dataclasses import replace

import pytest
from app_server import SR, write_tiny_model
from joblib import Parallel, delayed

from langid_fastai.errors import ModelError
from langid_fastai.inference.onnx_export import export_onnx
from langid_fastai.models.folder import write_info
from langid_fastai.prediction import LanguageIdentifier


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A model folder for each backend."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("torch", "onnx")}
    for folder in folders.values():
        write_tiny_model(folder)
    export_onnx(folders["onnx"])
    return folders


@pytest.fixture
def files(tmp_path, tone, write_audio):
    return [write_audio(tmp_path / f"{f}.wav", tone(f, SR, 2.5), SR) for f in (300, 500, 900)]


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("backend", ["torch", "onnx"])
def test_pool_of_processes(folders, files, backend, method):
    """Also if forked after torch was used here, so that its threads are missing in the worker."""
    identifier = LanguageIdentifier.load(folders[backend])
    assert identifier.engine.name == backend
    expected = identifier(files)
    with multiprocessing.get_context(method).Pool(1) as pool:
        answers = pool.map_async(identifier, files).get(timeout=120)
    for found, wanted in zip(answers, expected, strict=True):
        scores = {answer["label"]: answer["score"] for answer in wanted}
        assert {a["label"]: a["score"] for a in found} == pytest.approx(scores, abs=1e-5)


@pytest.mark.parametrize("backend", ["torch", "onnx"])
def test_joblib(folders, files, backend):
    identifier = LanguageIdentifier.load(folders[backend])
    found = Parallel(n_jobs=2)(delayed(identifier)(file, top_k=1) for file in files)
    assert [a[0]["label"] for a in found] == [identifier(f)[0]["label"] for f in files]


def test_pickle_is_small_and_loaded_once(folders):
    identifier = LanguageIdentifier.load(folders["torch"])
    content = pickle.dumps(identifier)
    assert len(content) < 1000
    assert pickle.loads(content) is pickle.loads(content)


def test_an_export_does_not_change_the_model(tmp_path, files):
    write_tiny_model(tmp_path)
    before = LanguageIdentifier.load(tmp_path)
    content = pickle.dumps(before)
    export_onnx(tmp_path)
    for again in (pickle.loads(content), pickle.loads(pickle.dumps(before))):
        assert again.engine.name == "onnx"
        assert again(files[0])[0]["label"] == before(files[0])[0]["label"]


def test_other_model_in_the_folder_is_refused(tmp_path):
    write_tiny_model(tmp_path)
    identifier = LanguageIdentifier.load(tmp_path)
    content = pickle.dumps(identifier)
    write_info(tmp_path, replace(identifier.info, vocab=tuple(reversed(identifier.info.vocab))))
    with pytest.raises(ModelError, match="its model has changed since the identifier was"):
        pickle.loads(content)
    with pytest.raises(ModelError, match="not loaded from a folder cannot be pickled"):
        pickle.dumps(replace(identifier, folder=None))
