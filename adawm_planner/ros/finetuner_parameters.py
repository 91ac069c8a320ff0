"""The finetuner node's parameter table, and what its worker is told from its values."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from adawm_planner.adaptation.source_file import source_there
from adawm_planner.adapters.keys import read_private_key
from adawm_planner.config.adaptation import load_adaptation
from adawm_planner.config.finetuning import STRATEGIES, TRAINING_PACKAGES, ReplayConfig, RoundConfig
from adawm_planner.finetuning.messages import Settings
from adawm_planner.paths import install_extra, user_path
from adawm_planner.ros.parameters import Parameter
from adawm_planner.ros.planner_parameters import model_dir_from, vehicle_problem
from adawm_planner.runtime.model_files import digest

_ROUND: Final = RoundConfig()
_REPLAY: Final = ReplayConfig()
STATE_DIR: Final = "~/.ros/adawm_finetuner"
LEAST_LIFE_H: Final = 1.0 / 60.0
"""Shortest life of an adapter that ends [h], as in `adawm adapter sign`: one that is over when it is signed is none."""


def _life_problem(hours: float) -> str:
    """What is wrong with the life of an adapter; empty: nothing."""
    return f"must be 0 or at least {LEAST_LIFE_H:.4f} h, a minute" if 0.0 < hours < LEAST_LIFE_H else ""


FINETUNER_PARAMETERS: Final = (
    Parameter("autostart", bool, True, "configure and activate at start; false waits for lifecycle transitions"),
    Parameter("model_dir", str, "", "folder of the base model that the planner drives; empty: the installed one"),
    Parameter("state_dir", str, STATE_DIR, "folder of replay, bundles and progress; kept between runs"),
    Parameter(
        "source_dir", str, "",
        "folder of the base model's source rollouts, of `adawm baseline --rollouts-only --cache`; empty: state_dir",
    ),
    Parameter(
        "signing_key", str, "",
        "private key file of `adawm adapter keygen`; empty: measure and report, never make an adapter",
    ),
    Parameter("vehicle_id", str, "", "only vehicle that may take the adapters; empty: any", check=vehicle_problem),
    Parameter(
        "strategy", str, "adawm",
        "what a round repairs; `full` is not among them, because a full update cannot be an adapter",
        choices=STRATEGIES, dynamic=True,
    ),
    Parameter("preset", str, "default", "named patch of the adaptation's configuration"),
    Parameter("config_file", str, "", "adaptation's configuration instead of the packaged adaptation.yaml"),
    Parameter(
        "round_decisions", int, _ROUND.decisions, "new decisions after which a round begins; 5 come in a second", "",
        20, _ROUND.most_decisions,
    ),
    Parameter(
        "expires_h", float, 720.0, "life of an adapter from its making; 0: for ever", "h", 0.0, 87600.0,
        check=_life_problem,
    ),
    Parameter("chunk_decisions", int, _REPLAY.chunk_decisions, "decisions that a crash may lose at most", "", 1, 10000),
    Parameter(
        "replay_bytes", int, _REPLAY.most_bytes, "size of the replay on disk; the oldest driving goes first", "bytes",
        2**24, 2**40,
    ),
    Parameter("threads", int, 1, "threads of training", low=1, high=64),
    Parameter("nice", int, 19, "niceness of the training process; 19 lets everybody else go first", low=0, high=19),
)  # fmt: skip


def settings_from(values: dict[str, Any]) -> Settings:
    """What the worker is told.

    Raises:
        ValueError: model_dir, signing_key, preset or config_file names nothing usable, the base model's source rollouts
            are missing, or a package is.
    """
    missing = [name for name in TRAINING_PACKAGES if find_spec(name) is None]
    if missing:
        raise ValueError(f"{', '.join(missing)} not installed: run {install_extra('train')}")
    state = state_dir_from(values)
    files = {name: _file(name, values[name]) for name in ("signing_key", "config_file")}
    if files["signing_key"]:
        read_private_key(Path(files["signing_key"]))  # now, so that an unfit one is told before anything is driven
    config_file = Path(files["config_file"]) if files["config_file"] else None
    # Looked at here, because a worker that found them missing would only be started again and again.
    config, model_dir = load_adaptation(config_file, values["preset"]), model_dir_from(values["model_dir"])
    source = str(user_path(values["source_dir"])) if values["source_dir"] else ""
    source_there(digest(model_dir), config, Path(source) if source else state, model_dir)
    return Settings(
        model_dir=str(model_dir),
        replay_dir=str(state / "replay"),
        state_dir=str(state),
        source_dir=source,
        preset=values["preset"],
        config_file=files["config_file"],
        decisions=values["round_decisions"],
        key_file=files["signing_key"],
        vehicle_id=values["vehicle_id"],
        expires_h=values["expires_h"],
        threads=values["threads"],
        nice=values["nice"],
    )


def state_dir_from(values: dict[str, Any]) -> Path:
    """The folder of replay, bundles and progress."""
    return user_path(values["state_dir"])


def replay_from(values: dict[str, Any]) -> ReplayConfig:
    """Size of the replay on disk. Raises ValueError when the sizes do not fit each other."""
    return ReplayConfig(values["chunk_decisions"], values["replay_bytes"])


def _file(name: str, value: str) -> str:
    if not value:
        return ""
    path = user_path(value)
    if not path.is_file():
        raise ValueError(f"{name} {path} is not a file; give an existing one, or leave it empty")
    return str(path)
