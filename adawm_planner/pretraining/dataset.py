"""Driven episodes as compressed files, and as one long stream of decisions in memory.

`collect` writes the files, `trainer` draws batches from the stream. Row t of an episode holds observation t,
the reward and end flag that came with it, and the action taken after it; the last row's action is never used.
"""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from tokenize import TokenError
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from adawm_planner.data_types import Float32, Int64, UInt8
from adawm_planner.dims import ACTION_COUNT, BEV_SHAPE, STATE_SIZE
from adawm_planner.durable import replacing

Bool = NDArray[np.bool_]


@dataclass(frozen=True)
class Episodes:
    """One or more episodes, end to end; arrays of equal length N."""

    bev: UInt8  # (N, C, H, W)
    state: Float32  # (N, S)
    action: Int64  # (N,) taken after this observation
    label: Int64  # (N,) what the expert would do here
    reward: Float32  # (N,) that came with this observation, 0 on the first
    first: Bool  # (N,) begins an episode
    terminal: Bool  # (N,) ended it for good (a time limit does not)
    held_out: Bool  # (N,) for validation only
    overruled: Bool  # (N,) the action before it was not carried out as it was: the safety gate changed a command

    def __len__(self) -> int:
        return len(self.action)

    def __post_init__(self) -> None:
        """Raises ValueError for a column of another shape, and for rows before the first episode's begin."""
        rows = {"bev": BEV_SHAPE, "state": (STATE_SIZE,)}
        for field in fields(self):
            shape, wanted = getattr(self, field.name).shape, (self.action.size, *rows.get(field.name, ()))
            if shape != wanted:
                raise ValueError(f"{field.name} is of shape {shape}, must be {wanted}")
        if len(self) and not self.first[0]:
            raise ValueError("episodes do not begin with a first row")

    def previous_action(self) -> Float32:
        """One-hot (N, A) of the action taken before each observation, zero on the first."""
        one_hot = np.zeros((len(self), ACTION_COUNT), np.float32)
        one_hot[np.arange(1, len(self)), self.action[:-1]] = 1.0
        one_hot[self.first] = 0.0
        return one_hot

    def crash_ahead(self, horizons: Sequence[int]) -> Float32:
        """1.0 where the episode ends in a crash within each of `horizons` decisions, (N, len(horizons)).

        A crash is an end that costs.
        """
        ends = self._ends()
        crashed = self.terminal[ends] & (self.reward[ends] < 0.0)
        left = ends - np.arange(len(self))
        return (crashed[:, None] & (left[:, None] <= np.asarray(horizons))).astype(np.float32)

    def over(self) -> Bool:
        """Rows (N,) of episodes that ended for good; what follows the others is not known: a time limit cut them."""
        return self.terminal[self._ends()]

    def _ends(self) -> Int64:
        """Last row (N,) of each row's episode."""
        ends = np.flatnonzero(np.append(self.first[1:], True))
        return np.repeat(ends, np.diff(np.concatenate([[-1], ends])))

    def returns(self, discount: float) -> Float32:
        """Discounted sum (N,) of the rewards that come after each row in its episode; a part of them unless `over`."""
        total = np.zeros(len(self) + 1, np.float32)
        last = np.append(self.first[1:], True)
        for t in reversed(range(len(self) - 1)):
            total[t] = 0.0 if last[t] else self.reward[t + 1] + discount * total[t + 1]
        return total[:-1]

    def check_rewards(self, limit: float) -> None:
        """Raises ValueError for a decision whose reward is beyond +-limit: the model would take it for the limit."""
        worst = float(self.reward[np.argmax(np.abs(self.reward))]) if len(self) else 0.0
        if abs(worst) > limit:
            raise ValueError(
                f"a decision has a reward of {worst:.4g}, the model tells none beyond {limit:g} apart "
                "(world_model.reward_limit): make the task's reward weights smaller, or pretrain with a larger limit"
            )

    def select(self, keep: Bool) -> Episodes:
        """Only the rows where `keep` (N,) is set; whole episodes are expected."""
        return Episodes(**{field.name: getattr(self, field.name)[keep] for field in fields(self)})


OVERRULED = "overruled"
_COLUMNS = [field.name for field in fields(Episodes) if field.name != OVERRULED]
_KINDS = {
    "bev": np.uint8,
    "state": np.float32,
    "action": np.int64,
    "label": np.int64,
    "reward": np.float32,
    "first": np.bool_,
    "terminal": np.bool_,
    "held_out": np.bool_,
    OVERRULED: np.bool_,
}
# What reading damaged bytes ends in. RuntimeError: an entry that says it is encrypted, or packed in a way that Python
# cannot unpack; TokenError, MemoryError: a header that does not end, or that claims more rows than there is memory for.
_DAMAGE = (
    OSError,
    KeyError,
    ValueError,
    EOFError,
    TypeError,
    RuntimeError,
    MemoryError,
    TokenError,
    BadZipFile,
    zlib.error,
    lzma.LZMAError,
)


def join(parts: Sequence[Episodes]) -> Episodes:
    """Several stretches end to end. Raises ValueError when there are none."""
    if not parts:
        raise ValueError("there are no episodes")
    return Episodes(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Episodes)})


def save_chunk(path: Path, episodes: Episodes, meta: dict[str, Any]) -> None:
    """Write a chunk so that it is either whole or absent; `meta` holds numbers and lists of numbers or text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {field.name: getattr(episodes, field.name) for field in fields(episodes)}
    arrays |= {f"meta_{key}": np.asarray(value) for key, value in meta.items()}
    with replacing(path) as staged, staged.open("wb") as stream:  # by its name, numpy would write to another
        np.savez_compressed(stream, **arrays)


def load_chunk(path: Path) -> tuple[Episodes, dict[str, Any]]:
    """Read a chunk and its meta values. Raises ValueError naming the file that is not one, and the wrong column."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in _COLUMNS}
            # What was driven without a gate may have been stored without the column.
            arrays[OVERRULED] = (
                archive[OVERRULED] if OVERRULED in archive else np.zeros(arrays["action"].shape, np.bool_)
            )
            meta = {key.removeprefix("meta_"): archive[key] for key in archive.files if key.startswith("meta_")}
        episodes = Episodes(**arrays)
        _check_values(episodes)
    except _DAMAGE as error:
        raise ValueError(f"{path}: not a chunk of driving data ({error})") from error
    return episodes, meta


def outcomes_of(path: Path, episodes: Episodes, meta: dict[str, Any]) -> tuple[str, ...]:
    """How each episode of a chunk ended. Raises ValueError naming the file unless there is one outcome per episode."""
    outcomes, count = meta.get("outcomes"), int(episodes.first.sum())
    if outcomes is None:
        raise ValueError(f"{path}: not a chunk of driving data (column 'meta_outcomes' is missing)")
    if outcomes.shape != (count,) or outcomes.dtype.kind != "U":
        raise ValueError(
            f"{path}: not a chunk of driving data (column 'meta_outcomes' is {outcomes.dtype} of shape "
            f"{outcomes.shape}, must be text of shape {(count,)}: one for each row where 'first' is set)"
        )
    return tuple(map(str, outcomes))


def seconds_of(path: Path, meta: dict[str, Any]) -> float:
    """What driving a chunk took [s], 0 where it was not stored.

    Raises ValueError naming the file unless it is one finite number.
    """
    seconds = meta.get("seconds", np.zeros(()))
    if seconds.shape != () or seconds.dtype.kind not in "fiu" or not np.isfinite(seconds):
        raise ValueError(f"{path}: not a chunk of driving data (column 'meta_seconds' must be one finite number)")
    return float(seconds)


def _check_values(episodes: Episodes) -> None:
    """Raises ValueError for a column that holds what none was ever written with."""
    for name, kind in _KINDS.items():
        found = getattr(episodes, name).dtype
        if found != kind:
            raise ValueError(f"column '{name}' is {found}, must be {np.dtype(kind)}")
    for name in ("action", "label"):
        values = getattr(episodes, name)
        wrong = values[(values < 0) | (values >= ACTION_COUNT)]
        if len(wrong):
            raise ValueError(f"column '{name}' holds {wrong[0]}, must be in 0..{ACTION_COUNT - 1}")
    for name in ("state", "reward"):
        if not np.isfinite(getattr(episodes, name)).all():
            raise ValueError(f"column '{name}' holds what is no finite number, must be finite")


def round_folder(folder: Path, index: int) -> Path:
    """Where a round's chunks are, below the folder of all."""
    return folder / f"round-{index:02d}"


def round_chunks(folder: Path, index: int) -> list[Path]:
    """Finished chunks of a round, in the order in which they were driven."""
    return sorted(round_folder(folder, index).glob("chunk-*.npz"), key=lambda path: (len(path.name), path.name))


def load_rounds(folder: Path, rounds: Iterable[int]) -> Episodes:
    """All chunks of some rounds, end to end. Raises ValueError when there are none."""
    files = [path for index in rounds for path in round_chunks(folder, index)]
    if not files:
        raise ValueError(f"{folder}: holds no driving data of these rounds; run `adawm collect` or `adawm pretrain`")
    return join([load_chunk(path)[0] for path in files])


def sequence_starts(count: int, length: int, batch: int, fresh: float, newest: int, rng: np.random.Generator) -> Int64:
    """First rows (B,) of windows of `length` rows, uniform over `count` rows.

    A share `fresh` of them lies within the `newest` last rows, none where nothing is new (`newest` 0). Windows may
    cross episodes: the first flags are there for that.
    """
    last = count - length
    if last < 0:
        raise ValueError(f"{count} decisions are fewer than one window of {length}")
    starts = rng.integers(0, last + 1, batch)
    recent = rng.random(batch) < (fresh if newest else 0.0)
    starts[recent] = rng.integers(max(0, min(last, count - newest)), last + 1, int(recent.sum()))
    return starts.astype(np.int64)
