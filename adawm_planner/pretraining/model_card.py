"""A run's facts and evaluation results in, MODEL_CARD.md out.

Everything in the card was measured or read from files; scores come from the JSON files of `adawm evaluate`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adawm_planner.config.presets import PRETRAINING_FILE
from adawm_planner.config.yaml_file import read_mapping
from adawm_planner.pretraining.pipeline import COMMIT_FILE, FACTS_FILE, read_facts
from adawm_planner.runtime.model_files import MODEL_FILES, digest

CARD_FILE = "MODEL_CARD.md"

INTRODUCTION = """# Model card: base world-model planner

A DreamerV3-style recurrent state-space model with an actor and a critic. It sees a 5-channel 32x32 bird's-eye raster
(2.5 m per cell) and 11 numbers about the ego vehicle, decides at 5 Hz and chooses one of five accelerations; a
path-tracking controller steers. It was pretrained on one task with the nominal vehicle, and on nothing else."""

LIMITS = """## Limits
- Trained in simulation only, on one intersection, one manoeuvre and one vehicle. On other manoeuvres, densities and
  vehicles it is expected to be worse; the adaptation part of this project is about exactly that.
- The raster shows vehicles as boxes with known positions and velocities. Sensor noise, missed vehicles, pedestrians,
  signals and weather were never seen.
- Steering is not learned. The encoder was trained by cloning and then frozen: what the expert never needed to look
  at may be missing from the embedding, and from imagined pictures.
- Reward and critic take the expectation in symlog: a rare large cost counts for less than it costs (a chance of 30 % of
  -1.9 reads as -0.376, not -0.570), so imagined futures look somewhat safer than they are.
- It is a research model. Nothing in it bounds what it does; the safety gate of the stack has the last word."""


def write_card(output: Path, run: Path, scores: Sequence[Path]) -> None:
    """Write the card of the model in `output`, trained by the run in `run`; `scores` are JSON files.

    Raises ValueError when the run has no facts, or a score file is not one.
    """
    if not (run / FACTS_FILE).exists():
        raise ValueError(f"{run}: holds no finished stages ({FACTS_FILE} is missing)")
    facts = read_facts(run / FACTS_FILE)
    config = read_mapping(run / "config.yaml")
    sections = [
        INTRODUCTION,
        _data(config, facts),
        _making(config, run),
        _curves(facts),
        _scores(scores),
        LIMITS,
        _files(output),
    ]
    (output / CARD_FILE).write_text("\n\n".join(sections) + "\n")


def _data(config: dict[str, Any], facts: Sequence[dict[str, Any]]) -> str:
    collection = config["collection"]
    driven = [fact for fact in facts if fact["stage"].startswith("collect")]
    rows = "\n".join(f"| {f['stage']} | {f['decisions']} | {_counts(f['outcomes'])} |" for f in driven)
    train, validation = _span(collection["train_seeds"]), _span(collection["validation_seeds"])
    return f"""## Data
Task `{collection["task"]}`, vehicle `{collection["vehicle"]}`. Training seeds {train}, held-out and validation seeds
{validation}; seeds from 5000 on were never used. Round 0 is driven by the expert with random perturbations and by
blind and random drivers, the rounds after it by the clone (DAgger), the last ones by the policy itself. The privileged
expert labels every state.

| round | decisions | episodes by outcome |
|---|---|---|
{rows}"""


def _making(config: Mapping[str, Any], run: Path) -> str:
    commit = (run / COMMIT_FILE).read_text().strip() if (run / COMMIT_FILE).exists() else "unknown"
    return f"""## How it was made
```
adawm pretrain --preset {config["preset"]} --run RUN
adawm evaluate --task TASK --episodes 200 --seed SEED --json SCORES.json
adawm export --run RUN --scores SCORES.json --overwrite
```
Code of commit {commit}; seed {config["seed"]}, {config["threads"]} training thread(s), \
{max(1, config["collection"]["workers"])} driving process(es), no accelerator. All other settings: \
`{PRETRAINING_FILE.name}` with that preset."""


def _curves(facts: Sequence[dict[str, Any]]) -> str:
    total = sum(fact["seconds"] for fact in facts if not fact["stage"].startswith(("score", "final")))
    rows = "\n".join(f"| {f['stage']} | {f['seconds']:.0f} | {_told(f)} |" for f in facts)
    return f"""## Stages and curves
Success is of greedy episodes on validation seeds. Collection and training took {total / 60:.0f} minutes in all.

| stage | seconds | result |
|---|---|---|
{rows}"""


def _told(fact: dict[str, Any]) -> str:
    held_out = fact.get("held_out", {})
    told = [f"{key} {fact[key]:.3f}" for key in ("success", "mean_return") if key in fact]
    told += [f"{key} {fact[key]}" for key in ("decisions", "updates", "chosen") if key in fact]
    told += [
        f"held-out {key} {value:.3f}" for key, value in held_out.items() if key in ("loss", "accuracy", "plain_kl")
    ]
    return ", ".join(told)


def _scores(files: Sequence[Path]) -> str:
    head = "## Scores\n"
    if not files:
        return head + (
            "Not measured yet: run `adawm evaluate --task T --episodes 200 --seed 5000 --json FILE` and give the\n"
            "files to `adawm export --run RUN --scores FILE --output MODEL --overwrite`."
        )
    rows = "\n".join(row for path in files for row in _score_rows(path))
    return f"""{head}Each row is one `adawm evaluate` of the exported model, most probable action;
the interval is Wilson's 95 %. Seeds below 5000 also served to tune settings.

| task | vehicle | driver | episodes | first seed | success | collisions | timeouts | seconds |
|---|---|---|---|---|---|---|---|---|
{rows}"""


def _score_rows(path: Path) -> list[str]:
    """One row for each evaluation in the file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return [_score_row(one) for one in (found if isinstance(found, list) else [found])]
    except (OSError, KeyError, TypeError, ValueError, ZeroDivisionError, RecursionError) as error:
        raise ValueError(f"{path}: not a result of `adawm evaluate --json` ({error!r})") from error


def _score_row(score: Mapping[str, Any]) -> str:
    low, high = score["success_ci95"]
    seconds = sum(episode["duration_s"] for episode in score["detail"]) / len(score["detail"])
    return (
        f"| {score['task']} | {score['vehicle']} | {score['driver']} | {score['episodes']} | {score['seed']} "
        f"| {score['success_rate']:.3f} [{low:.3f}, {high:.3f}] | {score['collision_rate']:.3f} "
        f"| {score['timeout_rate']:.3f} | {seconds:.1f} |"
    )


def _files(output: Path) -> str:
    rows = "\n".join(f"| {name} | {(output / name).stat().st_size / 1e6:.2f} |" for name in MODEL_FILES)
    return f"## Files\nsha256 of all: `{digest(output)}`\n\n| file | MB |\n|---|---|\n{rows}"


def _span(seeds: Sequence[int]) -> str:
    return f"{seeds[0]} to {seeds[1] - 1}"


def _counts(outcomes: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in outcomes.items())
