"""The README's picture from a real episode: what the model sees, what it imagines next, and what really came.

`adawm benchmark picture --seed 5001 --time 8 --output docs/images/imagined.png`
"""

from __future__ import annotations

from pathlib import Path

import click
import cv2
import numpy as np

from adawm_planner.cli.options import SEED, FiniteRange
from adawm_planner.data_types import UInt8
from adawm_planner.dims import DECISION_S
from adawm_planner.observation.picture import bev_picture, imagined_picture
from adawm_planner.paths import default_model_dir
from adawm_planner.runtime.drive_step import DriveConfig, DriveState, drive_step
from adawm_planner.runtime.engine import OnnxEngine
from adawm_planner.simulator.tasks import load_task, load_vehicle
from adawm_planner.simulator.world import World

SHOWN = (2, 5, 8, 11, 14)
"""Imagined decisions that are shown: 0.6 s to 3 s ahead."""

TILE_SCALE = 7
SEEN_SCALE = 15


@click.command()
@click.option("--task", default="right_turn_moderate", show_default=True)
@click.option("--seed", type=SEED, default=5001, show_default=True, help="Episode.")
@click.option(
    "--time", "moment", type=FiniteRange(min=0.0), default=8.0, show_default=True, help="Moment of the episode [s]."
)
@click.option("--model-dir", type=click.Path(path_type=Path), default=None, help="Model; the shipped one by default.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("docs/images/imagined.png"), show_default=True)
def picture(task: str, seed: int, moment: float, model_dir: Path | None, output: Path) -> None:
    """Write the README's picture: what the model sees at a moment, imagines next, and what really came."""
    engine = OnnxEngine(model_dir or default_model_dir())
    seen, imagined = drive(task, seed, engine, round(moment / DECISION_S))
    composed = compose(seen[0], imagined, np.stack(seen[1:]))
    output.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(output), composed):
        raise click.ClickException(f"{output} cannot be written")
    click.echo(f"{output}: {composed.shape[1]} x {composed.shape[0]}, seed {seed}, {moment:.1f} s")


def drive(task: str, seed: int, engine: OnnxEngine, decision: int) -> tuple[list[UInt8], UInt8]:
    """Drive an episode; the BEV at a decision and at those after it, and what was imagined at it (K, C, H, W)."""
    world = World(load_task(task), load_vehicle("nominal"))
    frame, state = world.reset(seed), DriveState.initial(engine)
    seen: list[UInt8] = []
    imagined: UInt8 | None = None
    while len(seen) < decision + SHOWN[-1] + 2:
        if frame.outcome is not None:
            raise click.ClickException(
                f"seed {seed} ends after {len(seen) * DECISION_S:.1f} s: choose an earlier moment"
            )
        command, state, decided = drive_step(world.scene(frame), state, engine, DriveConfig())
        if decided is not None:
            seen.append(decided.observation.bev)
            if len(seen) == decision + 1:
                imagined = engine.imagine(state.carry).bev
        frame = world.tick(command)
    assert imagined is not None
    return seen[decision:], imagined


def compose(now: UInt8, imagined: UInt8, real: UInt8) -> UInt8:
    """Lay out what is seen beside what is imagined (above) and what came (below)."""
    rows = [_row(imagined, "imagined"), _row(real, "what came")]
    right = np.concatenate(rows, axis=0)
    left = cv2.resize(bev_picture(now, SEEN_SCALE), (right.shape[0], right.shape[0]), interpolation=cv2.INTER_AREA)
    gap = np.full((right.shape[0], 12, 3), 255, dtype=np.uint8)
    return np.concatenate([left, gap, right], axis=1)


def _row(bevs: UInt8, title: str) -> UInt8:
    tiles = [imagined_picture(bevs[[k]], DECISION_S * (k + 1), TILE_SCALE, 1) for k in SHOWN]
    row = np.concatenate(tiles, axis=1)
    cv2.putText(row, title, (8, row.shape[0] - 10), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
    return row
