"""Stored episodes: what goes in comes out, and what is broken is refused."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest

from adawm_planner.dims import ACTION_COUNT, BEV_SHAPE, STATE_SIZE
from adawm_planner.pretraining.dataset import (
    Episodes,
    join,
    load_chunk,
    load_rounds,
    outcomes_of,
    save_chunk,
    sequence_starts,
)


def episode(length: int, seed: int = 0) -> Episodes:
    rng = np.random.default_rng(seed)
    return Episodes(
        bev=rng.integers(0, 256, (length, *BEV_SHAPE), dtype=np.uint8),
        state=rng.normal(size=(length, STATE_SIZE)).astype(np.float32),
        action=rng.integers(0, ACTION_COUNT, length),
        label=rng.integers(0, ACTION_COUNT, length),
        reward=rng.normal(size=length).astype(np.float32),
        first=np.arange(length) == 0,
        terminal=np.arange(length) == length - 1,
        held_out=np.zeros(length, bool),
        overruled=rng.random(length) < 0.2,
    )


def test_a_chunk_comes_back_bit_for_bit(tmp_path: Path) -> None:
    stored = join([episode(5), episode(7, 1)])
    save_chunk(tmp_path / "round-00" / "chunk-0000.npz", stored, {"outcomes": ["success", "collision"]})
    loaded, meta = load_chunk(tmp_path / "round-00" / "chunk-0000.npz")
    for field in fields(Episodes):
        assert np.array_equal(getattr(loaded, field.name), getattr(stored, field.name)), field.name
    assert meta["outcomes"].tolist() == ["success", "collision"]
    save_chunk(tmp_path / "round-01" / "chunk-9999.npz", episode(3), {"outcomes": ["success"]})
    save_chunk(tmp_path / "round-01" / "chunk-10000.npz", episode(2), {"outcomes": ["success"]})
    assert len(load_rounds(tmp_path, [0])) == 12
    assert np.flatnonzero(load_rounds(tmp_path, [1, 0]).first).tolist() == [0, 3, 5, 10]


def test_a_chunk_from_before_there_was_a_gate_says_that_none_spoke(tmp_path: Path) -> None:
    path, stored = tmp_path / "chunk-0000.npz", episode(5)
    save_chunk(path, stored, {})
    with np.load(path) as archive:
        np.savez(path, **{name: archive[name] for name in archive.files if name != "overruled"})
    loaded, _ = load_chunk(path)
    assert loaded.overruled.tolist() == 5 * [False] and np.array_equal(loaded.action, stored.action)


def test_a_broken_chunk_is_named(tmp_path: Path) -> None:
    path = tmp_path / "chunk-0000.npz"
    path.write_bytes(b"not an archive")
    with pytest.raises(ValueError, match="chunk-0000.npz: not a chunk"):
        load_chunk(path)
    with pytest.raises(ValueError, match="holds no driving data"):
        load_rounds(tmp_path, [0])


@pytest.mark.parametrize("shape", [(), (4,), (5, 1), (5, 2, 3), (0,)], ids=str)
@pytest.mark.parametrize("column", [field.name for field in fields(Episodes)])
def test_a_column_of_another_shape_is_named(tmp_path: Path, column: str, shape: tuple[int, ...]) -> None:
    path, stored = tmp_path / "chunk-0000.npz", episode(5)
    arrays = {field.name: getattr(stored, field.name) for field in fields(Episodes)}
    np.savez(path, **{**arrays, column: np.zeros(shape, arrays[column].dtype)})
    with pytest.raises(ValueError, match=r"chunk-0000.npz: not a chunk of driving data \(\w+ is of shape") as refused:
        load_chunk(path)
    # What has the wrong length may be the action itself, which all are compared with.
    assert column in str(refused.value) or column == "action"


@pytest.mark.parametrize(
    ("column", "values", "must"),
    [
        ("action", np.zeros(5), "column 'action' is float64, must be int64"),
        ("bev", np.zeros((5, *BEV_SHAPE), np.float32), "column 'bev' is float32, must be uint8"),
        ("first", np.arange(5) == 0, ""),
        ("first", (np.arange(5) == 0).astype(np.int64), "column 'first' is int64, must be bool"),
        ("label", np.full(5, ACTION_COUNT), f"column 'label' holds {ACTION_COUNT}, must be in 0..{ACTION_COUNT - 1}"),
        ("action", np.full(5, -1), f"column 'action' holds -1, must be in 0..{ACTION_COUNT - 1}"),
        ("reward", np.full(5, np.nan, np.float32), "column 'reward' holds what is no finite number"),
        ("state", np.full((5, STATE_SIZE), np.inf, np.float32), "column 'state' holds what is no finite number"),
    ],
)
def test_a_column_of_other_values_is_named(tmp_path: Path, column: str, values: np.ndarray, must: str) -> None:
    path, stored = tmp_path / "chunk-0000.npz", episode(5)
    arrays = {field.name: getattr(stored, field.name) for field in fields(Episodes)}
    np.savez(path, **{**arrays, column: values})
    if not must:
        load_chunk(path)
        return
    with pytest.raises(ValueError, match=r"chunk-0000.npz: not a chunk of driving data \(column") as refused:
        load_chunk(path)
    assert must in str(refused.value)


def test_an_array_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "chunk-0000.npz"
    with path.open("wb") as stream:
        np.save(stream, np.zeros(3))
    with pytest.raises(ValueError, match="chunk-0000.npz: not a chunk"):
        load_chunk(path)


def test_any_damage_is_a_chunk_or_refused_by_name(tmp_path: Path) -> None:
    path, rng = tmp_path / "chunk-0000.npz", np.random.default_rng(0)
    save_chunk(path, episode(1), {"outcomes": ["success"]})
    whole, refused = path.read_bytes(), 0
    for _ in range(1500):
        damaged = bytearray(whole)
        for place in len(whole) - 1 - rng.integers(0, [len(whole), 1000]):  # half of it in the table of contents
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            loaded, _ = load_chunk(path)
        except ValueError as error:
            refused += 1
            assert "chunk-0000.npz: not a chunk" in str(error)
        else:
            assert len(loaded) == len(episode(1)) and loaded.bev.dtype == np.uint8
    assert refused > 1000


def test_a_header_of_more_rows_than_there_is_memory_for_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "chunk-0000.npz"
    with ZipFile(path, "w") as archive, archive.open("bev.npy", "w") as stream:
        header = {"descr": "|u1", "fortran_order": False, "shape": (10**15, *BEV_SHAPE)}
        np.lib.format.write_array_header_1_0(stream, header)
    with pytest.raises(ValueError, match="chunk-0000.npz: not a chunk"):
        load_chunk(path)


@pytest.mark.parametrize("meta", [{}, {"outcomes": ["success"]}, {"outcomes": "success"}, {"outcomes": [1, 2]}])
def test_outcomes_that_are_not_one_for_each_episode_are_refused(tmp_path: Path, meta: dict[str, Any]) -> None:
    path = tmp_path / "chunk-0000.npz"
    save_chunk(path, join([episode(5), episode(7, 1)]), meta)
    with pytest.raises(
        ValueError, match=r"chunk-0000.npz: .*'meta_outcomes' is (missing|.* must be text of shape \(2,\))"
    ):
        outcomes_of(path, *load_chunk(path))


def test_previous_actions_do_not_cross_episodes() -> None:
    both = join([episode(4), episode(3, 1)])
    before = both.previous_action()
    assert before.shape == (7, ACTION_COUNT)
    assert before[0].sum() == 0.0 and before[4].sum() == 0.0
    assert before[1].argmax() == both.action[0] and before[6].argmax() == both.action[5]


def test_a_crash_is_seen_coming_and_a_success_is_not() -> None:
    crash, success = episode(6), episode(5, 1)
    crash.reward[-1], success.reward[-1] = -1.0, 1.0
    ahead = join([crash, success]).crash_ahead((1, 3))
    assert ahead[:6].T.tolist() == [[0, 0, 0, 0, 1, 1], [0, 0, 1, 1, 1, 1]]
    assert ahead[6:].sum() == 0.0


def test_returns_stop_at_the_end_of_their_episode() -> None:
    both = join([episode(3), episode(2, 1)])
    reward = both.reward
    by_hand = [reward[1] + 0.5 * reward[2], reward[2], 0.0, reward[4], 0.0]
    np.testing.assert_allclose(both.returns(0.5), by_hand, rtol=1e-6)


def test_only_episodes_that_ended_for_good_are_over() -> None:
    cut = replace(episode(3), terminal=np.zeros(3, bool))
    assert join([cut, episode(2, 1), cut]).over().tolist() == [False] * 3 + [True] * 2 + [False] * 3


def test_windows_stay_inside_and_fresh_ones_are_new() -> None:
    rng = np.random.default_rng(0)
    starts = sequence_starts(100, 10, 500, 0.0, 0, rng)
    assert starts.min() >= 0 and starts.max() == 90
    assert sequence_starts(100, 10, 50, 1.0, 20, rng).min() >= 80
    with pytest.raises(ValueError, match="fewer than one window"):
        sequence_starts(5, 10, 1, 0.0, 0, rng)


def test_a_share_of_the_windows_is_fresh() -> None:
    """Of all windows 10 in 91 lie in the newest 20 rows anyway; a quarter is drawn from there."""
    starts = sequence_starts(100, 10, 20_000, 0.25, 20, np.random.default_rng(0))
    among_all = 11 / 91
    assert (starts >= 80).mean() == pytest.approx(0.25 + 0.75 * among_all, abs=0.015)


def test_nothing_is_drawn_twice_as_fresh_where_nothing_is_new() -> None:
    starts = sequence_starts(1000, 10, 500, 0.3, 0, np.random.default_rng(0))
    assert np.array_equal(starts, sequence_starts(1000, 10, 500, 0.0, 0, np.random.default_rng(0)))
    assert (starts == 990).sum() < 5, "the last window is one of many"
