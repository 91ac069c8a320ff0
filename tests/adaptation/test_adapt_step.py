"""The order of decisions within a round: what is looked at, what is repaired, and when a round ends.

Scores and updates are stubs here; what the rules and the updates themselves do is tested beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch

from adawm_planner.adaptation import adapt_step as module
from adawm_planner.adaptation.adapt_step import Past, Round, Setting, adapt_step
from adawm_planner.adaptation.fit import FitReport
from adawm_planner.adaptation.mismatch import Mismatch
from adawm_planner.adaptation.rollouts import Progress, Rollouts, quiet
from adawm_planner.adaptation.scores import Baseline, Failures, Scales, Score, Tally
from adawm_planner.adaptation.select_part import Part
from adawm_planner.adaptation.strategies import strategy_of
from adawm_planner.adaptation.student import Student
from adawm_planner.config.adaptation import AdaptationConfig, load_adaptation
from adawm_planner.policy.agent import Agent
from adawm_planner.pretraining.trainer import Replay
from tests.adaptation.conftest import random_episodes

LOW, HIGH = 0.0, 1.0
"""Scores, the one far from significant and the other far beyond it."""

BASELINE = Baseline("", {}, Tally(0, 100), {}, Scales(1.0, 1.0))
"""Only how driving ended is read of it: the scores are stubs."""

WELL, BADLY = ("success",) * 4, ("collision", "success", "timeout", "off_lane")


@dataclass
class Stage:
    """A round with given scores, and what it did."""

    agent: Agent
    config: AdaptationConfig
    fitted: list[tuple[Part, int, int]] = field(default_factory=list)  # part, updates, seed
    looks: int = 0
    seen: list[int] = field(default_factory=list)  # decisions that each look is at
    source: Replay | None = None

    def play(
        self,
        monkeypatch: pytest.MonkeyPatch,
        scores: Sequence[tuple[float, float]],
        strategy: str = "adawm",
        last: Part = Part.NOTHING,
        index: int = 1,
        unrepaired: Sequence[Rollouts] = (),
        outcomes: tuple[str, ...] = WELL,
        before: Sequence[str] = (),
    ) -> Round:
        """One round whose looks give these scores of dynamics and policy."""

        def measured(agent: Agent, new: Replay, *_: object) -> Mismatch:
            self.seen.append(len(new))
            dynamics, policy = (Score(value, 0.01, 10, 9.0) for value in scores[self.looks])
            self.looks += 1
            return Mismatch({"d": dynamics, "p": policy}, {}, ("d", "p"))

        monkeypatch.setattr(module, "measure_mismatch", measured)
        monkeypatch.setattr(module, "FITS", {part: self.fit(part) for part in (Part.DYNAMICS, Part.POLICY)})
        student = Student(self.agent, self.config, strategy_of(strategy).low_rank, 0)
        encoder = student.agent.world_model.encoder
        self.source = Replay(encoder, random_episodes(4, 1), 0.99)
        replay = Replay(encoder, self.source.episodes, 0.99)
        rollouts = Rollouts(random_episodes(4, 2), outcomes)
        setting = Setting(strategy_of(strategy), self.source, BASELINE, self.config)
        done = adapt_step(index, student, rollouts, replay, setting, Past(last, unrepaired, before), 7, quiet)
        assert len(replay) == len(self.source) + len(rollouts.episodes)
        assert replay.newest == len(rollouts.episodes)
        return done

    def fit(self, part: Part):  # type: ignore[no-untyped-def]  # one of FITS
        def fitted(
            student: Student, replay: Replay, config: AdaptationConfig, updates: int, seed: int, show: Progress
        ) -> FitReport:
            self.fitted.append((part, updates, seed))
            if not student.low_rank:
                with torch.no_grad():
                    student.agent.world_model.encoder.join.weight.mul_(2.0)
            return FitReport(part.value, updates, 0.0, 0, {})

        return fitted


@pytest.fixture
def stage(agent: Agent) -> Stage:
    return Stage(agent, load_adaptation(preset="debug"))


def chosen(done: Round) -> list[Part]:
    return [step.selection.part for step in done.steps]


def test_the_second_look_asks_what_the_repair_left(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The dynamics stays high: the first rule repairs it, the rule of the second look never again."""
    done = stage.play(monkeypatch, [(HIGH, LOW), (HIGH, LOW)], outcomes=BADLY)
    assert chosen(done) == [Part.DYNAMICS, Part.POLICY]
    assert [step.repaired for step in done.steps] == chosen(done)
    assert "dynamics repaired" in done.steps[1].selection.reason
    half = stage.config.fit.updates // 2
    assert stage.fitted == [(Part.DYNAMICS, half, 14), (Part.POLICY, half, 15)]


def test_each_look_follows_the_repair_just_before_it(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_adaptation(preset="debug")
    stage = Stage(agent, replace(config, steps=3))
    done = stage.play(monkeypatch, [(LOW, HIGH), (HIGH, HIGH), (HIGH, LOW)], outcomes=BADLY)
    assert chosen(done) == [Part.POLICY, Part.DYNAMICS, Part.POLICY]
    assert ["policy repaired" in step.selection.reason for step in done.steps] == [False, True, False]
    assert "dynamics repaired" in done.steps[2].selection.reason


@pytest.mark.parametrize(
    ("last", "first"),
    [(Part.DYNAMICS, Part.DYNAMICS), (Part.POLICY, Part.POLICY), (Part.NOTHING, Part.POLICY)],
)
def test_the_first_look_knows_the_round_before(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, last: Part, first: Part
) -> None:
    """The policy is ahead by less than the hysteresis."""
    done = stage.play(monkeypatch, [(1.0, 1.1), (LOW, LOW)], last=last, outcomes=BADLY)
    assert chosen(done)[0] is first


def test_the_dynamics_ahead_by_little_waits_for_the_policy(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    done = stage.play(monkeypatch, [(1.1, 1.0), (LOW, LOW)], last=Part.POLICY, outcomes=BADLY)
    assert chosen(done)[0] is Part.POLICY


def test_nothing_to_repair_ends_the_round(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    done = stage.play(monkeypatch, [(LOW, LOW), (HIGH, HIGH)])
    assert chosen(done) == [Part.NOTHING]
    assert done.steps[0].fits == () and done.steps[0].repaired is Part.NOTHING
    assert stage.looks == 1 and stage.fitted == []


def test_nothing_left_to_repair_ends_it_after_the_second_look(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    done = stage.play(monkeypatch, [(HIGH, HIGH), (LOW, HIGH)])
    assert chosen(done) == [Part.DYNAMICS, Part.NOTHING]
    assert [part for part, _, _ in stage.fitted] == [Part.DYNAMICS]


def test_a_policy_that_drives_well_is_left_alone(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its score."""
    assert chosen(stage.play(monkeypatch, [(LOW, HIGH), (LOW, HIGH)])) == [Part.NOTHING]


def test_rounds_that_repaired_nothing_are_looked_at_again(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only looked at: the replay has had them since their own rounds."""
    before = [Rollouts(random_episodes(3, 3), WELL[:3]), Rollouts(random_episodes(5, 4), (*WELL, "collision"))]
    done = stage.play(monkeypatch, [(HIGH, LOW), (LOW, HIGH)], unrepaired=before, outcomes=(*WELL[:3], "timeout"))
    assert stage.seen == [sum(len(one.episodes) for one in [*before, done.rollouts])] * 2
    assert done.failures == Failures(Tally(2, 12), Tally(0, 100))


def test_driving_that_failed_lately_is_repaired_until_it_has_recovered(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round that went well is too short to show that all do."""
    lately = stage.play(monkeypatch, [(HIGH, LOW), (LOW, HIGH)], before=BADLY)
    assert chosen(lately) == [Part.DYNAMICS, Part.POLICY] and lately.failures == Failures(Tally(3, 8), Tally(0, 100))
    long_ago = stage.play(monkeypatch, [(LOW, HIGH)] * 4, before=(*BADLY, *WELL * stage.config.select.recovery))
    assert chosen(long_ago) == [Part.NOTHING]


def test_driving_that_fails_is_no_less_wrong_for_scores_that_see_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the policy is left to be repaired, and goes on learning: nobody has driven with what it learned."""
    done = stage.play(monkeypatch, [(LOW, LOW)] * 2, outcomes=BADLY)
    assert chosen(done) == [Part.POLICY, Part.POLICY]
    assert "3 of 4 episodes failed, 0 of 100 at home" in done.steps[0].selection.reason


def test_a_choice_that_was_not_obeyed_is_made_again(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """`policy` repairs the policy whatever was chosen, so the dynamics was not repaired when the second look comes."""
    done = stage.play(monkeypatch, [(HIGH, LOW), (HIGH, LOW)], strategy="policy")
    assert chosen(done) == [Part.DYNAMICS, Part.DYNAMICS]
    assert [part for part, _, _ in stage.fitted] == [Part.POLICY, Part.POLICY]


def test_taking_turns_counts_the_steps_of_the_run(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.play(monkeypatch, [(LOW, LOW)] * 2, strategy="alternate", index=2)
    assert [part for part, _, _ in stage.fitted] == [Part.DYNAMICS, Part.POLICY]


@pytest.mark.parametrize("estimator", ["direct", "visitation"])
def test_what_a_full_update_makes_stale_is_embedded_again_where_it_is_read(
    agent: Agent, monkeypatch: pytest.MonkeyPatch, estimator: str
) -> None:
    config = load_adaptation(preset="debug")
    stage = Stage(agent, replace(config, mismatch=replace(config.mismatch, estimator=estimator)))
    before = Replay(agent.world_model.encoder, random_episodes(4, 1), 0.99).embedding
    stage.play(monkeypatch, [(LOW, LOW)] * 2, strategy="full")
    assert stage.source is not None
    assert np.array_equal(stage.source.embedding, before) is (estimator == "direct")


def test_both_parts_of_a_full_step_share_its_updates(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.play(monkeypatch, [(LOW, LOW)] * 2, strategy="full")
    share = stage.config.fit.updates // 4
    assert [(part, updates) for part, updates, _ in stage.fitted] == [(Part.DYNAMICS, share), (Part.POLICY, share)] * 2
