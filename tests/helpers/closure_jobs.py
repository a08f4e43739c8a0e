"""Tasks of a user with the base requirements or one extra: small, in one process.

``python closure_jobs.py base [ARGUMENT ...]`` imports every module, accesses every public name,
reports which of them need which extra, and then runs the function `base`. ``python closure_jobs.py
EXTRA NAME,... [ARGUMENT ...]`` accesses the names that need this extra, and runs its function.
`tests/system/test_closures.py` starts it where only the closure can be imported.
"""

import importlib
import json
import pkgutil
import re
import subprocess
import sys
from contextlib import redirect_stderr
from dataclasses import replace
from io import StringIO
from pathlib import Path

from tones import make_tones

import langid_fastai as lf
from langid_fastai import cli
from langid_fastai.errors import LangidError

MEL = "--sr 8000 --clip-seconds 1 --n-fft 256 --hop-length 128 --n-mels 32".split()
SMALL = "--arch spectrogram_cnn-w4-d2 --weights none --epochs 1,1,1 --batch-size 8".split()
QUICK = [*MEL, *SMALL, "--jobs", "1", "--precision", "fp32"]


def touch(name):
    """Import a module, or access a public name."""
    if name.startswith("langid_fastai."):
        importlib.import_module(name)
    else:
        getattr(lf, name)


def touch_all():
    """Access all modules and public names: each works, or is refused because an extra is missing.

    Returns
    -------
    wanting : extra → names that are refused
    """
    modules = [module.name for module in pkgutil.walk_packages(lf.__path__, "langid_fastai.")]
    assert len(modules) > 80
    wanting = {}
    for name in [*modules, *lf.__all__]:
        try:
            touch(name)
        except LangidError as error:
            named = re.search(
                r"which is not installed: pip install 'langid_fastai\[(\w+)\]'", str(error)
            )
            if named is None:
                raise
            wanting.setdefault(named[1], []).append(name)
    return wanting


def langid(*argv):
    """Run a command of `langid` in this process, and return its exit code."""
    sys.argv = ["langid", *map(str, argv)]
    try:
        cli.main()
    except SystemExit as end:
        return end.code or 0


def do(*argv):
    """Run a command that must succeed."""
    code = langid(*argv)
    assert code == 0, (argv, code)


def base(corpus="", call=""):
    """Run what the README shows without an extra; by default with recordings made here."""
    corpus = corpus or make_tones(Path("tones"), {"de": 300, "es": 1200})
    call = call or min(Path(corpus).rglob("*.wav"))
    do("train", corpus, "--out", "run", *QUICK)
    do("evaluate", "run", "--jobs", 1)
    do("predict", "run", call, "--timeline")
    do("predict", "run", corpus, "--out", "answers/all.csv", "--jobs", 2)
    do("prepare", corpus, "--out", "prepared", *MEL, "--jobs", 1)
    do("corpus", "audit", corpus)
    do("corpus", "split", corpus, "--out", "split.csv")
    do("corpus", "cut", corpus, "--out", "utterances", "--shortest", 1, "--jobs", 1)
    notebook(call)
    refuse(corpus, call)


def notebook(call):
    """Use the Python API, from images to a prediction."""
    dls = lf.make_dataloaders("prepared/images", batch_size=8)
    learn = lf.language_learner(dls, "squeezenet1_1", weights="none")
    lf.fit_stages(learn, [replace(stage, epochs=1) for stage in lf.SEED_SCHEDULE])
    lf.save_learner(learn, "model")
    [answers] = [lf.LanguageIdentifier.load("model")(call)]
    assert {answer["label"] for answer in answers} == {"de", "es"}


def refuse(corpus, call):
    """Check that the first command that needs an extra names it."""
    m4a = Path("call.m4a")
    m4a.write_bytes(b"\0\0\0\x20ftypM4A ")
    for extra, argv in {
        "app": ["app", "run"],
        "augment": ["prepare", corpus, "--augment", "gain", "--out", "x"],
        "crawl": ["corpus", "crawl", "web"],
        "dask": ["prepare", corpus, "--dask", "tcp://127.0.0.1:1", "--out", "y", *MEL],
        "demo": ["train", "demo", "--out", "z/run"],
        "formats": ["predict", "run", m4a],
        "hub": ["evaluate", "run", "--against", "hf:owner/name"],
        "kaggle": ["train", "kaggle:owner/name"],
        "onnx": ["export", "run"],
        "parquet": ["predict", "run", call, "--out", "answers.parquet"],
        "s3": ["corpus", "sync", corpus, "s3://bucket/x"],
        "timm": ["train", corpus, "--arch", "mobilenetv3_small_050", "--out", "t"],
    }.items():
        stderr = StringIO()
        with redirect_stderr(stderr):
            code = langid(*argv)
        assert code == 1, (argv, stderr.getvalue())
        assert f"pip install 'langid_fastai[{extra}]'" in stderr.getvalue(), (
            argv,
            stderr.getvalue(),
        )


def augment(corpus, noises):
    """Run all augmentations."""
    names = "time_mask,high_pass,white_noise,pitch,polarity,gain,background_noise,speed,room,mp3"
    do("corpus", "augment", corpus, "--out", "more", "--with", names, "--noises", noises)
    assert len(list(Path("more").rglob("*.flac"))) >= 10


def crawl(url):
    """Crawl a small site."""
    do("corpus", "crawl", "web", "--start", url, "--delay", 0, "--languages", "de,en,es")
    assert len(list(Path("web").rglob("*.mp3"))) == 12


def dask(corpus):
    """Export images on a local cluster."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as local:
        do("prepare", corpus, "--dask", local.scheduler_address, "--out", "run", *MEL)
    assert len(list(Path("run/images").rglob("*.png"))) == 32


def demo():
    """Make two speakers of the demo corpus."""
    from langid_fastai.corpus.demo import make_demo

    sizes = {"train_voices": 1, "test_voices": 1, "train_clips": 1, "test_clips": 1}
    assert (
        len(list(make_demo("demo", languages=("de",), held_out=(), **sizes).rglob("*.flac"))) == 2
    )


def distributed(corpus):
    """Train in two processes."""
    script = "from langid_fastai.cli import train_main; train_main()"
    Path("train.py").write_text(script)
    command = "-m torch.distributed.run --standalone --nproc-per-node=2 train.py".split()
    argv = [corpus, "--out", "run", *QUICK[:-4], "--jobs", "1", "--batch-size", "2"]
    subprocess.run([sys.executable, *command, *map(str, argv)], check=True)
    assert '"n_processes": 2' in Path("run/metrics.json").read_text()


def formats(model, call):
    """Read a recording that libsndfile cannot read."""
    do("predict", model, call)
    assert 2.9 < len(lf.load_audio(call, sr=8000)) / 8000 < 3.2


def hub(run, model):
    """Compare a model in the Hub's format with a run."""
    do("evaluate", run, "--against", f"hf:{model}", "--jobs", 1)


def kaggle(handle):
    """Download from a server that responds like Kaggle."""
    from langid_fastai.corpus.readers.kaggle import download_kaggle

    assert list(Path(download_kaggle(handle)).rglob("*.flac"))


def onnx(model, call):
    """Export a model, and predict with it."""
    do("export", model)
    do("predict", model, call)
    identifier = lf.LanguageIdentifier.load(model)
    assert identifier.engine.name == "onnx"


def parquet(model, call):
    """Write answers to a Parquet file."""
    do("predict", model, call, "--out", "answers.parquet", "--jobs", 1)
    assert Path("answers.parquet").read_bytes()[:4] == b"PAR1"


def s3(corpus):
    """Copy a corpus to a bucket and back."""
    do("corpus", "sync", corpus, "s3://speech/web")
    do("corpus", "sync", "s3://speech/web", "back")
    assert len(list(Path("back").rglob("*.wav"))) == 16


def timm(corpus):
    """Train a network of timm."""
    argv = ["--arch", "mobilenetv3_small_050", "--weights", "none", *MEL, *QUICK[-4:]]
    do("train", corpus, "--out", "run", "--epochs", "0,1,0", "--batch-size", 8, *argv)


if __name__ == "__main__":
    name, *arguments = sys.argv[1:]
    if name == "base":
        print("wanting", json.dumps(touch_all()))
    else:
        for wanted in filter(None, arguments.pop(0).split(",")):
            touch(wanted)
    if name in globals():
        globals()[name](*arguments)
    print("done", name)
