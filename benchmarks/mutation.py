"""`adawm benchmark mutation`: small changes to the safety core, and how many of them its own tests notice.

mutmut makes the mutants and runs `tests/safety` on each (settings in pyproject.toml); this counts what it found. A
mutant whose tests never end counts as killed, as in mutmut's own score, and one without a test as not killed.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from adawm_planner.cli.options import json_option
from adawm_planner.result_file import write_json
from benchmarks.record import ROOT, with_origin

STATS = Path("mutants") / "mutmut-cicd-stats.json"
KILLED = ("killed", "timeout", "segfault", "caught_by_type_check")
UNTRIED = ("not_checked", "check_was_interrupted_by_user")
"""Versions of mutmut differ in which of these they count."""


def summarise(stats: Mapping[str, int]) -> dict[str, Any]:
    """mutmut's counts and the share that was killed.

    Raises:
        ClickException: some mutants were not tried, or there is none.
    """
    total = stats["total"]
    tried = sum(count for name, count in stats.items() if name not in ("total", *UNTRIED))
    if tried < total or not total:
        raise click.ClickException(f"{max(total - tried, 0)} of {total} mutants were not tried; run it again to go on")
    killed = sum(stats.get(name, 0) for name in KILLED)
    return {**stats, "killed_share": round(killed / total, 4)}


@click.command()
@click.option(
    "--children",
    type=click.IntRange(min=1),
    default=os.cpu_count() or 1,
    show_default="all cores",
    help="Mutants at a time.",
)
@json_option
def mutation(children: int, json_file: Path | None) -> None:
    """Mutate the safety core and count what its tests notice; goes on where it was interrupted."""
    if importlib.util.find_spec("mutmut") is None:
        raise click.ClickException("mutmut is missing; `make setup` installs it")
    _mutmut("run", "--max-children", str(children))
    _mutmut("export-cicd-stats")
    figures = summarise(json.loads((ROOT / STATS).read_text(encoding="utf-8")))
    console = Console()
    console.print(f"{figures['total']} mutants, {figures['killed_share']:.1%} killed, {figures['survived']} survived")
    console.print("`mutmut results` names them, `mutmut show NAME` shows one", markup=False)
    about = {"target": "adawm_planner/safety", "tests": "tests/safety"}
    write_json(json_file, with_origin("mutation", {**about, **figures}, ("pytest", "hypothesis", "mutmut")))


def _mutmut(*words: str) -> None:
    # Its own words are kept; plugins of other packages (those of ROS 2) are not for these tests.
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run([sys.executable, "-m", "mutmut", *words], cwd=ROOT, env=environment, check=False)
    if done.returncode != 0:
        raise click.ClickException(f"mutmut {words[0]} ended with exit status {done.returncode}")
