"""`langid` and `langid-train`: parse, call, print. The work is done by `langid_fastai.steps`.

Heavy imports stand inside the commands, so that ``--help`` comes at once.
"""

from __future__ import annotations

import io
import shlex
import sys
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from langid_fastai.images import ExportResult
    from langid_fastai.run import Run

app = typer.Typer(
    help="Teach a computer which language is spoken in a recording, and test it honestly.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
corpus_app = typer.Typer(help="Look at, split and make corpora.", no_args_is_help=True)
app.add_typer(corpus_app, name="corpus")


STOPPED = 130  # exit code after an interrupt, as shells have it


class Schedule(str, Enum):
    """Named schedules, see `langid_fastai.training`."""

    seed = "seed"
    scratch = "scratch"


class Arithmetic(str, Enum):
    """What training computes in."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


CorpusArgument = Annotated[
    str,
    typer.Argument(
        metavar="CORPUS",
        help="A folder (its layout is recognised), an index CSV, 'demo', or "
        "'kaggle:<owner>/<dataset>'.",
    ),
]
OutOption = Annotated[
    Path | None, typer.Option("--out", help="Run folder; by default runs/<corpus name>.")
]
RootOption = Annotated[
    Path | None, typer.Option(help="Where the files of an index CSV lie, if not beside it.")
]
SpeakerOption = Annotated[
    str | None,
    typer.Option(
        metavar="REGEX",
        help="For a folder per language: finds who speaks in a path, as "
        "'(?P<speaker>[^/]+)/[^/]+$' for the folder a file lies in.",
    ),
]
ValidOption = Annotated[float, typer.Option(help="Share of the recordings for validation.")]
TestOption = Annotated[float, typer.Option(help="Share for the test, if the corpus has none.")]
SeedOption = Annotated[int, typer.Option(help="Of the split, new weights, order and dropout.")]
LeaksOption = Annotated[
    bool, typer.Option("--allow-leaks", help="Accept a split whose figures overstate.")
]
JobsOption = Annotated[int, typer.Option("--jobs", help="Processes for images; -1: all cores.")]

MEL = {"rich_help_panel": "Spectrogram"}
SrOption = Annotated[int, typer.Option(help="Hz that audio is brought to.", **MEL)]
ClipOption = Annotated[float, typer.Option(help="Seconds of sound in one image.", **MEL)]
NfftOption = Annotated[int, typer.Option("--n-fft", help="Samples per frame.", **MEL)]
HopOption = Annotated[int, typer.Option("--hop-length", help="Samples between frames.", **MEL)]
MelsOption = Annotated[int, typer.Option("--n-mels", help="Mel bands, the image height.", **MEL)]
FminOption = Annotated[float, typer.Option(help="Lowest edge, Hz.", **MEL)]
FmaxOption = Annotated[
    float | None, typer.Option(help="Highest edge, Hz; by default sr / 2.", **MEL)
]
DbOption = Annotated[float, typer.Option("--top-db", help="Dynamic range kept, dB.", **MEL)]


@app.command()
def train(
    corpus: CorpusArgument,
    out_folder: OutOption = None,
    arch: Annotated[str, typer.Option(help="Any torchvision name, or timm (extra).")] = "resnet152",
    weights: Annotated[
        str, typer.Option(help="'imagenet', 'none', a state dict file, or a model folder.")
    ] = "imagenet",
    schedule: Annotated[
        Schedule | None, typer.Option(help="By default seed with weights, scratch without.")
    ] = None,
    epochs: Annotated[
        str | None, typer.Option(metavar="N,N,N", help="Epochs of the stages, as 7,12,8.")
    ] = None,
    lr: Annotated[
        float | None, typer.Option(help="Rate of the stage that trains everything.")
    ] = None,
    find_lr: Annotated[
        bool, typer.Option("--find-lr", help="Only suggest a value for --lr, and stop.")
    ] = False,
    batch_size: Annotated[int, typer.Option(help="Images in a training batch.")] = 16,
    workers: Annotated[int, typer.Option(help="Processes that load images for training.")] = 0,
    device: Annotated[
        str | None, typer.Option(help="As 'cpu' or 'cuda'; by default a GPU.")
    ] = None,
    precision: Annotated[
        Arithmetic, typer.Option(help="auto: bf16 or fp16 where the hardware computes it.")
    ] = Arithmetic.auto,
    seed: SeedOption = 0,
    valid: ValidOption = 0.15,
    test: TestOption = 0.15,
    allow_leaks: LeaksOption = False,
    root: RootOption = None,
    speaker: SpeakerOption = None,
    jobs: JobsOption = -1,
    sr: SrOption = 22_050,
    clip_seconds: ClipOption = 10.0,
    n_fft: NfftOption = 2048,
    hop_length: HopOption = 512,
    n_mels: MelsOption = 128,
    fmin: FminOption = 0.0,
    fmax: FmaxOption = None,
    top_db: DbOption = 80.0,
) -> None:
    """Train and test a language classifier: index, images, three stages, test, report.

    Stopped and started again, it goes on where it was.
    """
    from langid_fastai import describe, preparation, steps
    from langid_fastai.corpus.index import summarize_corpus
    from langid_fastai.preprocessing import MelConfig
    from langid_fastai.run import Run, TrainChoice, choose_corpus, default_folder

    mel = MelConfig(sr, clip_seconds, n_fft, hop_length, n_mels, fmin, fmax, top_db)
    choice = TrainChoice(
        arch,
        weights if weights in ("imagenet", "none") else str(Path(weights).resolve()),
        schedule.value if schedule else None,
        _epochs(epochs),
        lr,
        batch_size,
        workers,
        device,
        precision.value,
        seed,
    )
    steps.choose_stages(choice)  # a slip here shows before the corpus is read
    run = Run(out_folder or default_folder(corpus))
    found = preparation.read_and_split(
        run,
        choose_corpus(corpus, root, speaker, valid, test, seed, allow_leaks),
    )
    _say(describe.corpus_lines(corpus, summarize_corpus(found)))
    network, plan = steps.make_network(run, found, choice)
    _say(describe.plan_lines(plan))
    exported = preparation.make_images(run, found, mel, n_jobs=jobs)
    _say(describe.image_lines(exported, run.images))
    learn = steps.make_learner(run, choice, network)
    if find_lr:
        rate = steps.suggest_lr(run, learn, choice)
        print(f"suggested  --lr {rate:.1e}; the curve: {run.folder / 'lr_find.png'}")
        return
    steps.train(
        run,
        learn,
        choice,
        plan,
        command=_command(),
        on_epoch=lambda history: _say([describe.epoch_line(history)]),
    )
    _say_result(run, steps.test(run, learn))
    _exit_if_failed(exported)


@app.command()
def prepare(
    corpus: CorpusArgument,
    out_folder: OutOption = None,
    seed: SeedOption = 0,
    valid: ValidOption = 0.15,
    test: TestOption = 0.15,
    allow_leaks: LeaksOption = False,
    root: RootOption = None,
    speaker: SpeakerOption = None,
    jobs: JobsOption = -1,
    sr: SrOption = 22_050,
    clip_seconds: ClipOption = 10.0,
    n_fft: NfftOption = 2048,
    hop_length: HopOption = 512,
    n_mels: MelsOption = 128,
    fmin: FminOption = 0.0,
    fmax: FmaxOption = None,
    top_db: DbOption = 80.0,
) -> None:
    """Make index and images only."""
    from langid_fastai import describe, preparation
    from langid_fastai.corpus.index import summarize_corpus
    from langid_fastai.preprocessing import MelConfig
    from langid_fastai.run import Run, choose_corpus, default_folder

    mel = MelConfig(sr, clip_seconds, n_fft, hop_length, n_mels, fmin, fmax, top_db)
    run = Run(out_folder or default_folder(corpus))
    found = preparation.read_and_split(
        run,
        choose_corpus(corpus, root, speaker, valid, test, seed, allow_leaks),
    )
    _say(describe.corpus_lines(corpus, summarize_corpus(found)))
    exported = preparation.make_images(run, found, mel, n_jobs=jobs)
    _say(describe.image_lines(exported, run.images))
    _exit_if_failed(exported)


@app.command()
def evaluate(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A trained run folder.")],
    device: Annotated[str | None, typer.Option(help="As 'cpu' or 'cuda'.")] = None,
) -> None:
    """Test a trained run again, and write its report anew."""
    from langid_fastai import steps
    from langid_fastai.learner import load_learner, make_dataloaders
    from langid_fastai.run import Run

    run = Run(run_folder)
    run.read()
    learn = load_learner(run.model, make_dataloaders(run.images, device=device))
    _say_result(run, steps.test(run, learn))


@corpus_app.command()
def audit(
    corpus: CorpusArgument,
    root: RootOption = None,
    speaker: SpeakerOption = None,
    valid: ValidOption = 0.15,
    test: TestOption = 0.15,
    seed: SeedOption = 0,
) -> None:
    """Show the split, and what stands on two sides of it; also for a run folder.

    Exit code 1 when something leaks.
    """
    from langid_fastai import describe, preparation
    from langid_fastai.corpus.index import summarize_corpus
    from langid_fastai.run import choose_corpus

    choice = choose_corpus(corpus, root, speaker, valid, test, seed, True)
    found, leaks = preparation.audit(choice)
    _say(describe.corpus_lines(corpus, summarize_corpus(found)))
    _say(describe.leak_lines(leaks, found.index))
    if len(leaks):
        raise typer.Exit(code=1)


@corpus_app.command()
def split(
    corpus: CorpusArgument,
    file: Annotated[Path, typer.Option("--out", help="Index CSV to write.")],
    root: RootOption = None,
    speaker: SpeakerOption = None,
    valid: ValidOption = 0.15,
    test: TestOption = 0.15,
    seed: SeedOption = 0,
    allow_leaks: LeaksOption = False,
) -> None:
    """Split a corpus without leaks and write its index, to look at or change by hand."""
    from langid_fastai import describe, preparation
    from langid_fastai.corpus.index import summarize_corpus, write_index
    from langid_fastai.run import choose_corpus

    choice = choose_corpus(corpus, root, speaker, valid, test, seed, allow_leaks)
    found = preparation.find_corpus(choice)
    write_index(found.index, file)
    _say(describe.corpus_lines(corpus, summarize_corpus(found)))
    print(f"index      {file}; train on it with: langid-train {file} --root {found.root}")


@corpus_app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Folder to make.")] = Path("demo-corpus"),
    train_voices: Annotated[int, typer.Option(help="Voices for training.")] = 36,
    test_voices: Annotated[int, typer.Option(help="Other voices, for the test.")] = 6,
    train_clips: Annotated[int, typer.Option(help="Clips of each in each language.")] = 6,
    test_clips: Annotated[int, typer.Option(help="The same, for the test voices.")] = 6,
    seed: SeedOption = 0,
) -> None:
    """Make the spoken demo corpus (eSpeak NG; extra `demo`)."""
    from langid_fastai.corpus.demo import make_demo

    made = make_demo(
        folder,
        train_voices=train_voices,
        test_voices=test_voices,
        train_clips=train_clips,
        test_clips=test_clips,
        seed=seed,
    )
    print(f"demo corpus in {made}; train on it with: langid-train {made}")


def main() -> NoReturn:
    """Run `langid`; what the user can mend becomes one line and exit code 1."""
    _run(app)


def train_main() -> NoReturn:
    """Run `langid-train`, which is `langid train`."""
    train_app = typer.Typer(pretty_exceptions_enable=False)
    train_app.command()(train)
    _run(train_app)


def _run(command: typer.Typer) -> NoReturn:
    import warnings

    from langid_fastai.errors import LangidError

    # fastai's own imports warn of torch functions it still uses; nothing a user can mend.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.jit")
    for stream in (sys.stdout, sys.stderr):  # a name in another script must not end the run
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        command()
    except SystemExit as end:  # typer turns an interrupt into this
        if end.code == STOPPED:
            print("stopped; the same command goes on from here", file=sys.stderr)
        raise
    except LangidError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    sys.exit(0)


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, flush=True)


def _say_result(run: Run, metrics: dict[str, Any]) -> None:
    from langid_fastai.describe import result_lines

    _say(result_lines(metrics))
    print(f"report     {run.folder / 'report.html'}")
    print(f"figures    {run.folder / 'metrics.json'}, predictions.csv, history.csv")
    print(f"model      {run.model}")


def _exit_if_failed(exported: ExportResult) -> None:
    """Files that could not be read are no reason to stop, but one to say so at the end."""
    if len(exported.failed):
        print(
            f"done, but for {len(exported.failed)} recordings or clips that failed, listed in "
            "images/failed.csv of the run; hence exit code 1",
            file=sys.stderr,
        )
        raise typer.Exit(code=1)


def _epochs(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} must be whole numbers with commas between, as 7,12,8", param_hint="--epochs"
        ) from None


def _command() -> str:
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
