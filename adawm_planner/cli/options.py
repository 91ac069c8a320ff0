"""Options that several commands share, each defined once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from adawm_planner.config.seeds import HIGHEST_SEED, episode_seeds
from adawm_planner.result_file import check_folder, check_writable

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


SEED = click.IntRange(0, HIGHEST_SEED)
"""Type of every option that is a seed."""

MOST_EPISODES = 1_000_000
"""Of one run, as of the simulator bridge."""


class FiniteRange(click.FloatRange):
    """A range of numbers that are some: nan is in every range of click's own, infinity in those without an end."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number of a word."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{number} is not a finite number.", param, ctx)
        return number


@contextmanager
def mistake_in(option: str) -> Iterator[None]:
    """Tell what is wrong with an option's value as a mistake in the call, which is status 2."""
    try:
        yield
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=f"'{option}'") from None


def json_option(command: Decorated) -> Decorated:
    """`--json FILE`: write the result for machines, beside the table for people."""
    return click.option(
        "--json",
        "json_file",
        type=click.Path(dir_okay=False, writable=True, path_type=Path),
        callback=writable,
        help="Also write the result as JSON to this file.",
    )(command)


def writable(context: click.Context, parameter: click.Parameter, file: Path | None) -> Path | None:
    """Try the file before the run, and make its folder: a result must not be lost for want of either."""
    if file is not None:
        try:
            check_writable(file)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None
    return file


def writable_folder(context: click.Context, parameter: click.Parameter, folder: Path | None) -> Path | None:
    """Try the folder before the run, and leave it as it was: what was driven must not be lost for want of a place."""
    if folder is not None:
        try:
            check_folder(folder)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None
    return folder


def overwrite_option(command: Decorated) -> Decorated:
    """`--overwrite`: see `refuse_to_replace`."""
    return click.option("--overwrite", is_flag=True, help="Replace the model in --output.")(command)


def refuse_to_replace(output: Path, overwrite: bool) -> None:
    """Keep what is in a folder that a model would be written to. Raises UsageError when there is something."""
    if output.is_dir() and any(output.iterdir()) and not overwrite:
        raise click.UsageError(f"{output} is not empty; give another --output, or --overwrite to replace its model")


def check_seeds(seed: int, episodes: int) -> None:
    """Raise BadParameter where the last of these episodes has no seed."""
    with mistake_in("--seed"):
        episode_seeds(seed, episodes)


def vehicle_option(command: Decorated) -> Decorated:
    """`--vehicle V`: preset name or path."""
    return click.option("--vehicle", default="nominal", show_default=True, help="Vehicle preset, or a YAML file.")(
        command
    )


def seed_option(default: int) -> Callable[[Decorated], Decorated]:
    """`--seed S`: first episode's seed, with a command's own default."""
    text = "Seed of the first episode; the others follow by 1."
    return click.option("--seed", type=SEED, default=default, show_default=True, help=text)


def episodes_option(default: int) -> Callable[[Decorated], Decorated]:
    """`--episodes N` with a command's own default."""
    return click.option(
        "--episodes",
        type=click.IntRange(1, MOST_EPISODES),
        default=default,
        show_default=True,
        help="Number of episodes.",
    )


def model_options(command: Decorated) -> Decorated:
    """`--model-dir` and `--provider`: which world model, and what runs it."""
    folder = click.Path(exists=True, file_okay=False, path_type=Path)
    command = click.option(
        "--provider",
        type=click.Choice(["auto", "cpu", "cuda", "tensorrt"]),
        default="auto",
        show_default=True,
        help="onnxruntime provider.",
    )(command)
    return click.option(
        "--model-dir", type=folder, show_default="the shipped base model", help="Folder of the model to drive with."
    )(command)
