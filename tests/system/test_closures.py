"""The package with the base requirements alone, and with each extra alone.

The environment of the tests has every extra; here a process sees only what ``pip install
langid_fastai`` or ``pip install 'langid_fastai[extra]'`` installs (`tests/helpers/closure.py`).
With the base requirements, every module is imported and every public name is accessed; with an
extra, those that were refused without it. Then the main use runs, small
(`tests/helpers/closure_jobs.py`).
"""

import json
import re
import shutil

import app_server
import kaggle_server
import pytest
from closure import EXTRAS, JOBS, Closure
from encoding import encode, glide
from web_site import WebSite, make_site

kaggle = kaggle_server.kaggle


@pytest.fixture
def recording(corpus):
    return min(corpus.rglob("*.wav"))


def run(folder, extra, *arguments):
    """Run a job where only its closure can be imported; what it prints."""
    done = Closure(folder, "" if extra == "base" else extra).run(JOBS, extra, *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"done {extra}"
    return done.stdout


@pytest.fixture(scope="module")
def wanting(corpus, tmp_path_factory):
    """Train, test, predict, prepare, audit, split, cut; in a notebook; and what extras are for.

    With the base requirements. Gives the modules and names that want an extra, by extra.
    """
    text = run(tmp_path_factory.mktemp("base"), "base", corpus, min(corpus.rglob("*.wav")))
    return json.loads(re.search(r"^wanting (.*)$", text, re.MULTILINE)[1])


@pytest.fixture
def do(tmp_path, monkeypatch, wanting):
    """Run the job of an extra."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run_job(extra, *arguments):
        (tmp_path / "closure").mkdir()
        run(tmp_path / "closure", extra, ",".join(wanting.get(extra, [])), *arguments)

    return run_job


def test_every_extra_has_a_test():
    assert {f"test_{extra}" for extra in EXTRAS} <= globals().keys()


@pytest.mark.slow
def test_base(wanting):
    """Train, test, predict, prepare, audit, split, cut; in a notebook; errors name extras."""
    assert {"crawl", "s3"} <= wanting.keys() <= set(EXTRAS)


def test_hidden_distributions_are_hidden(tmp_path):
    """Prove that these tests can fail: without the extra, accelerate cannot be imported."""
    code = (
        "import importlib.util, importlib.metadata as m\n"
        "print(importlib.util.find_spec('accelerate'), importlib.util.find_spec('torch') is None)\n"
        "print('accelerate' in {d.metadata['Name'] for d in m.distributions()})\n"
        "import subprocess, sys\n"
        "print(subprocess.run([sys.executable, '-c', 'import accelerate']).returncode)"
    )
    done = Closure(tmp_path).run("-c", code)
    assert done.stdout.split() == "None False False 1".split(), done.stderr


@pytest.mark.slow
def test_app(do, tmp_path, recording, monkeypatch):
    """The page is served, and predicts."""
    do("app")
    monkeypatch.setenv("PYTHONPATH", Closure(tmp_path / "closure", "app").env()["PYTHONPATH"])
    model = app_server.write_tiny_model(tmp_path / "model")
    with app_server.running(model, tmp_path / "scratch") as address:
        assert "ca" in str(app_server.identify(address, recording))


@pytest.mark.slow
def test_augment(do, corpus, tmp_path, write_audio, rng):
    write_audio(tmp_path / "noises" / "a.wav", 0.1 * rng.standard_normal(16_000), 8_000)
    do("augment", corpus, tmp_path / "noises")


def test_crawl(do):
    with WebSite() as web:
        make_site(web)
        do("crawl", web.url)


def test_dask(do, corpus):
    do("dask", corpus)


def test_demo(do):
    do("demo")


@pytest.mark.slow
def test_distributed(do, corpus):
    do("distributed", corpus)


def test_formats(do, trained, tmp_path):
    call = encode(tmp_path / "call.m4a", glide(16_000), 16_000, "ipod", "aac")
    do("formats", trained[0], call)


def test_hub(do, trained, tmp_path):
    from hub_models import save_wav2vec2

    run = shutil.copytree(trained[0], tmp_path / "run")
    do("hub", run, save_wav2vec2(tmp_path / "hub", ["deu", "spa"]))


def test_kaggle(do, kaggle):
    do("kaggle", kaggle_server.HANDLE)


def test_onnx(do, trained, recording, tmp_path):
    do("onnx", shutil.copytree(trained[0] / "model", tmp_path / "model"), recording)


def test_parquet(do, trained, recording):
    do("parquet", trained[0], recording)


def test_s3(do, s3, corpus):
    do("s3", corpus)


@pytest.mark.slow
def test_timm(do, corpus):
    do("timm", corpus)
