"""Collection: what is stored, that it depends on the job alone, and that it goes on after a kill."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from dataclasses import replace
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adawm_planner.config.presets import load_pretraining
from adawm_planner.dims import ACTION_COUNT
from adawm_planner.durable import staged_beside
from adawm_planner.pretraining.collect import (
    Fleet,
    Job,
    Rig,
    RigFactory,
    Round,
    collect_round,
    drive_episode,
    round_jobs,
    score,
)
from adawm_planner.pretraining.dataset import load_chunk, load_rounds, save_chunk
from tests.patience import HANG_S
from tests.pretraining.crossing import GO, STOP, crossing_rig

ROOT = Path(__file__).resolve().parents[2]
CONFIG = load_pretraining(preset="debug").collection


def test_an_episode_is_labelled_and_ends_with_its_crash() -> None:
    driven = drive_episode(crossing_rig(), Job(seed=2, driver="blind"), None)
    rows = driven.episodes
    assert driven.outcome == "collision"
    assert rows.first.tolist() == [True] + [False] * (len(rows) - 1)
    assert rows.terminal.tolist() == [False] * (len(rows) - 1) + [True]
    assert rows.reward[0] == 0.0 and rows.reward[-1] < -0.9
    assert set(rows.action[:-1]) == {GO}
    assert STOP in rows.label, "the expert would have stopped somewhere before this crash"


def test_the_expert_arrives_and_a_time_limit_is_not_terminal() -> None:
    rig = crossing_rig()
    assert drive_episode(rig, Job(seed=3, driver="expert"), None).outcome == "success"
    standing = replace(Job(seed=3, driver="learner"))

    class Waiting:
        def reset(self) -> None:
            pass

        def probabilities(self, observation: object) -> np.ndarray:
            return np.eye(ACTION_COUNT)[STOP]

        def chose(self, action: int) -> None:
            assert action == STOP

    driven = drive_episode(rig, standing, Waiting())
    assert driven.outcome == "timeout"
    assert not driven.episodes.terminal.any()


def test_noise_changes_actions_but_not_labels_alone() -> None:
    rig = crossing_rig()
    noisy = drive_episode(rig, Job(seed=5, driver="expert", noise=0.5, noise_decisions=3), None).episodes
    assert (noisy.action[:-1] != noisy.label[:-1]).any()
    clean = drive_episode(rig, Job(seed=5, driver="expert"), None).episodes
    assert (clean.action[:-1] == clean.label[:-1]).all()


def test_processes_drive_what_one_process_drives() -> None:
    jobs = list(islice(round_jobs(CONFIG, 1, 0, "", False), 4))
    with Fleet(crossing_rig, 0) as one, Fleet(crossing_rig, 2) as two:
        for left, right in zip(one.drive(iter(jobs)), two.drive(iter(jobs)), strict=True):
            assert left.job == right.job
            assert np.array_equal(left.episodes.bev, right.episodes.bev)
            assert np.array_equal(left.episodes.action, right.episodes.action)


def test_a_stopped_round_goes_on_with_the_next_episode(tmp_path: Path) -> None:
    with Fleet(crossing_rig, 0) as fleet:
        whole = collect_round(fleet, Round(CONFIG, 1, 0), tmp_path / "whole", 300)
        begun = collect_round(fleet, Round(CONFIG, 1, 0), tmp_path / "parts", 120)
        staged_beside(tmp_path / "parts" / "round-00" / "chunk-0009.npz").write_bytes(b"half a chunk")
        parts = collect_round(fleet, Round(CONFIG, 1, 0), tmp_path / "parts", 300)
        again = collect_round(fleet, Round(CONFIG, 1, 0), tmp_path / "parts", 300)
    assert 0.0 < begun.seconds < parts.seconds == again.seconds, "of all calls"
    assert parts.outcomes == whole.outcomes and parts.decisions == whole.decisions >= 300
    left, right = (load_rounds(tmp_path / name, [0]) for name in ("whole", "parts"))
    assert np.array_equal(left.state, right.state) and np.array_equal(left.held_out, right.held_out)


def test_a_stored_round_without_its_outcomes_is_refused_by_name(tmp_path: Path) -> None:
    with Fleet(crossing_rig, 0) as fleet:
        collect_round(fleet, Round(CONFIG, 1, 0), tmp_path, 60)
        chunk = tmp_path / "round-00" / "chunk-0000.npz"
        save_chunk(chunk, load_chunk(chunk)[0], {})
        with pytest.raises(ValueError, match="chunk-0000.npz: .*'meta_outcomes' is missing.*; remove .*round-00, then"):
            collect_round(fleet, Round(CONFIG, 1, 0), tmp_path, 60)


def weights_of(folder: Path, content: bytes) -> str:
    """A folder of a policy, as far as its identity goes."""
    folder.mkdir()
    (folder / "clone.safetensors").write_bytes(content)
    return str(folder)


OTHERS = [
    (Round(replace(CONFIG, task="left_turn_dense"), 1, 0), "the task of these episodes is right_turn_moderate and not"),
    (Round(replace(CONFIG, vehicle="heavy"), 1, 0), "the vehicle of these episodes is nominal and not heavy"),
    (Round(CONFIG, 7, 0), "the seed of these episodes is 1 and not 7"),
    (Round(replace(CONFIG, noise=0.5), 1, 0), "the noise of these episodes is 0.08 and not 0.5"),
]


@pytest.mark.parametrize(("other", "message"), OTHERS, ids=lambda value: "")
def test_another_run_s_episodes_are_refused(other: Round, message: str, tmp_path: Path) -> None:
    with Fleet(crossing_rig, 0) as fleet:
        collect_round(fleet, Round(CONFIG, 1, 0), tmp_path, 60)
        with pytest.raises(ValueError, match=message) as refused:
            collect_round(fleet, other, tmp_path, 60)
        assert str(tmp_path / "round-00" / "claim.json") in str(refused.value) and "--data" in str(refused.value)
        larger = Round(replace(CONFIG, workers=2, first_decisions=9000), 1, 0)
        assert collect_round(fleet, larger, tmp_path, 60).added == 0, (
            "how much is driven, and by how many, is no matter"
        )


def test_a_round_belongs_to_the_policy_that_drove_it(tmp_path: Path) -> None:
    first, moved, other = (weights_of(tmp_path / name, name[:1].encode()) for name in ("clone", "copied", "other"))
    with Fleet(crossing_rig, 0) as fleet:
        bad = replace(CONFIG, later_bad_drivers=1.0)  # the weights are never loaded
        collect_round(fleet, Round(bad, 1, 1, first), tmp_path / "data", 60)
        assert collect_round(fleet, Round(bad, 1, 1, moved), tmp_path / "data", 60).added == 0
        with pytest.raises(ValueError, match="the policy of these episodes is"):
            collect_round(fleet, Round(bad, 1, 1, other), tmp_path / "data", 60)


def test_a_task_of_one_s_own_is_known_by_its_content(tmp_path: Path) -> None:
    task = tmp_path / "mine.yaml"
    task.write_text("limits: 1")
    mine = Round(replace(CONFIG, task=str(task)), 1, 0)
    with Fleet(crossing_rig, 0) as fleet:
        collect_round(fleet, mine, tmp_path / "data", 60)
        assert collect_round(fleet, mine, tmp_path / "data", 60).added == 0
        task.write_text("limits: 2")
        with pytest.raises(ValueError, match="the task of these episodes is mine.yaml"):
            collect_round(fleet, mine, tmp_path / "data", 60)


@pytest.mark.parametrize(("content", "message"), [(None, "earlier version"), ("{", "damaged"), ("[]", "damaged")])
def test_episodes_that_nothing_tells_of_are_refused(content: str | None, message: str, tmp_path: Path) -> None:
    with Fleet(crossing_rig, 0) as fleet:
        collect_round(fleet, Round(CONFIG, 1, 0), tmp_path, 60)
        claim = tmp_path / "round-00" / "claim.json"
        claim.unlink()
        if content is not None:
            claim.write_text(content)
        with pytest.raises(ValueError, match=f"{message}.*--data"):
            collect_round(fleet, Round(CONFIG, 1, 0), tmp_path, 60)


def test_a_claim_without_episodes_binds_nobody(tmp_path: Path) -> None:
    with Fleet(crossing_rig, 0) as fleet:
        collect_round(fleet, Round(CONFIG, 1, 0), tmp_path, 0)
        assert collect_round(fleet, Round(CONFIG, 7, 0), tmp_path, 60).added >= 60


def test_jobs_keep_to_their_seeds() -> None:
    jobs = list(islice(round_jobs(CONFIG, 0, 0, "", False), 500))
    for job in jobs:
        low, high = CONFIG.validation_seeds if job.held_out else CONFIG.train_seeds
        assert low <= job.seed < high < 5001
    assert sum(job.held_out for job in jobs) == int(500 * CONFIG.validation)
    assert any(job.held_out for job in jobs[: int(1 / CONFIG.validation) + 1]), "a short round has some as well"
    assert {job.driver for job in jobs} == {"expert", "blind", "random"}
    assert 0.3 < np.mean([job.at_line for job in jobs]) < 0.5


def test_evaluation_seeds_are_refused() -> None:
    with pytest.raises(ValueError, match=r"validation_seeds is \[4200, 5200\), must lie in \[0, 5000\)"):
        replace(CONFIG, validation_seeds=(4200, 5200))
    with pytest.raises(ValueError, match="overlap"):
        replace(CONFIG, train_seeds=(0, 4500))


def test_score_counts_outcomes(tmp_path: Path) -> None:
    from adawm_planner.pretraining.clone import Clone, save_clone

    config = load_pretraining(preset="debug")
    save_clone(Clone(config.world_model, config.policy), tmp_path)
    with Fleet(crossing_rig, 0) as fleet:
        driven = score(fleet, str(tmp_path), range(4))
    assert sum(driven.outcomes.values()) == 4 and set(driven.outcomes) <= {"success", "collision", "timeout"}
    assert driven.success == driven.outcomes.get("success", 0) / 4 and driven.mean_decisions > 2


def in_a_worker() -> bool:
    return multiprocessing.parent_process() is not None


def shut_rig() -> Rig:
    if in_a_worker():
        raise ValueError("nothing opens here")
    return crossing_rig()


def killed_rig() -> Rig:
    """A rig whose process is killed in its second episode."""
    rig = crossing_rig()
    reset, calls = rig.env.reset, count(1)

    def reset_or_die(**options: Any) -> Any:
        if next(calls) == 2 and in_a_worker():
            os.kill(os.getpid(), signal.SIGKILL)
        return reset(**options)

    rig.env.reset = reset_or_die  # type: ignore[method-assign]
    return rig


@pytest.mark.parametrize(("factory", "driven"), [(shut_rig, 0), (killed_rig, 1)])
def test_a_worker_that_cannot_start_or_is_killed_ends_the_drive(factory: RigFactory, driven: int) -> None:
    jobs, ended = (Job(seed=seed, driver="expert") for seed in count()), []
    with Fleet(factory, 1) as fleet, pytest.raises(ValueError, match="a worker process ended abruptly"):
        for one in fleet.drive(jobs):
            ended.append(one.job.seed)
    assert ended == list(range(driven))


@pytest.mark.parametrize(("words", "message"), [(["--task", "nope"], "task 'nope'"), (["--vehicle", "tank"], "'tank'")])
def test_a_mistake_of_the_user_is_one_line_at_once(words: list[str], message: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "adawm_planner.cli.main", "collect", "--workers", "2", "--output", str(tmp_path)]
    done = subprocess.run([*command, *words], cwd=ROOT, capture_output=True, text=True, timeout=HANG_S, check=False)
    assert done.returncode == 1
    assert message in done.stderr and len(done.stderr.splitlines()) == 1
