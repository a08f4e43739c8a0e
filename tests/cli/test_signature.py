"""Options of the command line from dataclasses: each default and help text is stated once."""

import inspect
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer
from typer.testing import CliRunner

from langid_fastai.augmentation.waveform import AUGMENTATIONS
from langid_fastai.cli import compare, corpus, group, train
from langid_fastai.cli.signature import with_settings
from langid_fastai.mel_config import MelConfig
from langid_fastai.pipeline.settings import (
    NAMES_HELP,
    AugmentSettings,
    CorpusSettings,
    TrainSettings,
)
from langid_fastai.utils.options import option


@dataclass(frozen=True)
class Soup:
    """Settings to test with."""

    name: str = option(metavar="NAME", help="What it is called.")
    salt: float = option(0.5, help="Grams of salt.")
    heat: Literal["low", "high"] = option("low", help="How hot.", panel="Stove")
    times: tuple[int, ...] | None = option(None, help="Minutes.", shown="as long as it takes")
    herbs: tuple[str, ...] | None = option(None, help="What it smells of.")
    pot: Path | None = option(None, help="Where it cooks.")
    spicy: bool = option(False, help="With chilli.")


def run(command, *words):
    """Result of a command line, and what the command was called with."""
    app, seen = typer.Typer(), {}
    app.command()(command(seen))
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "120"}), seen


def cook(seen):
    @with_settings(after={"n": "salt"})
    def cook(n: int = 1, *, soup: Soup, changes: Annotated[dict[str, Any], MelConfig]) -> None:
        seen.update(n=n, soup=soup, changes=changes)

    return cook


def test_a_command_gets_its_settings():
    words = "leek --salt 2 --heat high --times 1,2 --pot big --spicy --n 3 --sr 8000 --kind stft"
    result, seen = run(cook, *words.split())
    assert result.exit_code == 0, result.output
    assert seen["soup"] == Soup("leek", 2.0, "high", (1, 2), None, Path("big"), True)
    assert type(seen["soup"].heat) is str  # as it is written into files
    assert (seen["n"], seen["changes"]) == (3, {"sr": 8000, "kind": "stft"})


@pytest.mark.parametrize(
    ("words", "herbs"),
    [
        (["thyme,sage"], ("thyme", "sage")),
        (["thyme, dried", "sage"], ("thyme, dried", "sage")),
        (['"thyme, dried",sage'], ("thyme, dried", "sage")),
    ],
)
def test_a_list_of_labels_by_commas_or_by_repetition(words, herbs):
    _, seen = run(cook, "leek", *(x for word in words for x in ("--herbs", word)))
    assert seen["soup"].herbs == herbs


def test_what_is_not_given_is_the_default_or_absent():
    _, seen = run(cook, "leek")
    assert (seen["soup"], seen["changes"]) == (Soup("leek"), {})


def test_help_shows_the_facts_of_the_fields():
    text = run(cook, "--help")[0].output
    for fact in ("NAME", "Grams of salt.", "0.5", "low|high", "Stove", "as long as it takes"):
        assert fact in text
    assert text.index("--salt") < text.index("--n ") < text.index("--times")


def test_wrong_values_are_wrong_usage():
    for words in (["leek", "--times", "1,x"], ["leek", "--heat", "tepid"], []):
        assert run(cook, *words)[0].exit_code == 2


@pytest.mark.parametrize("command", [train.train, train.prepare, compare.compare, corpus.split])
def test_commands_have_the_defaults_of_the_settings(command):
    parameters = inspect.signature(command).parameters
    settings = [CorpusSettings, AugmentSettings, TrainSettings]
    facts = {x.name: x.default for of in settings for x in fields(of)}
    shared = facts.keys() & parameters.keys() - {"arch", "source"}
    assert {"seed", "valid", "test", "root"} <= shared
    assert {name: parameters[name].default for name in shared} == {n: facts[n] for n in shared}


def test_every_setting_has_a_help_text():
    for of in (CorpusSettings, TrainSettings, AugmentSettings, MelConfig):
        for each in fields(of):
            assert each.metadata["option"]["help"].endswith("."), each.name


def test_help_names_every_augmentation_in_order():
    assert NAMES_HELP.startswith(", ".join(AUGMENTATIONS) + ".")


def commands(group, path=()):
    """Yield every command below a group, with its words."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


# Nothing is done without a value of these, which the help need not say.
OFF = {
    *("names", "noises", "dask", "log", "recordings", "share"),
    *("corpus", "folds", "against", "sr", "candidates", "top_k"),
}
ALL = dict(commands(typer.main.get_command(group.app)))


@pytest.mark.parametrize("name", ALL)
def test_help_of_a_command_explains_itself(name):
    """Each command and option has a sentence, and each option a value, a default or is a switch."""
    command = ALL[name]
    assert command.help.partition("\n")[0].endswith((".", ")."))
    for parameter in command.params:
        if parameter.name in ("help", "install_completion", "show_completion"):
            continue
        assert (parameter.help or "").endswith("."), f"{name}: {parameter.name} has no sentence"
        if parameter.required or parameter.param_type_name == "argument" or parameter.is_flag:
            continue
        is_stated = parameter.default is not None or isinstance(parameter.show_default, str)
        assert is_stated or parameter.name in OFF, f"{name}: no default of {parameter.name}"
