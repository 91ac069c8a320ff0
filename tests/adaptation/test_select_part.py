"""The decision: C, significance, hysteresis, and a reason that says which of them spoke."""

from __future__ import annotations

import pytest

from adawm_planner.adaptation.scores import Score
from adawm_planner.adaptation.select_part import Part, select_next, select_part
from adawm_planner.adaptation.strategies import STRATEGIES, strategy_of
from adawm_planner.config.adaptation import SelectConfig

CONFIG = SelectConfig(c=2.0, significance=3.0, hysteresis=0.2)


def score(value: float, error: float = 0.01) -> Score:
    return Score(value, error, 20, 19.0)


@pytest.mark.parametrize(
    ("dynamics", "policy", "expected", "word"),
    [
        (0.02, 0.02, Part.NOTHING, "neither"),
        (-0.5, -0.5, Part.NOTHING, "neither"),
        (0.20, 0.02, Part.DYNAMICS, "only the dynamics"),
        (0.02, 0.20, Part.POLICY, "only the policy"),
        (0.30, 0.10, Part.DYNAMICS, "> C x policy = 0.2000"),
        (0.15, 0.10, Part.POLICY, "<= C x policy = 0.2000"),
    ],
)
def test_the_rule(dynamics: float, policy: float, expected: Part, word: str) -> None:
    selection = select_part(score(dynamics), score(policy), Part.NOTHING, CONFIG)
    assert selection.part is expected
    assert word in selection.reason


def test_the_choice_does_not_flip_on_noise() -> None:
    just_above, just_below = score(0.21), score(0.19)
    for value in (just_above, just_below):
        assert select_part(value, score(0.1), Part.DYNAMICS, CONFIG).part is Part.DYNAMICS
        assert select_part(value, score(0.1), Part.POLICY, CONFIG).part is Part.POLICY
    assert select_part(score(0.30), score(0.1), Part.POLICY, CONFIG).part is Part.DYNAMICS
    assert select_part(score(0.10), score(0.1), Part.DYNAMICS, CONFIG).part is Part.POLICY


@pytest.mark.parametrize(
    ("repaired", "dynamics", "policy", "expected", "word"),
    [
        (Part.DYNAMICS, 0.01, 0.20, Part.POLICY, "the policy is significantly"),
        (Part.DYNAMICS, 0.90, 0.20, Part.POLICY, "the policy is significantly"),
        (Part.DYNAMICS, 0.90, 0.01, Part.POLICY, "the rest is not the model's"),
        (Part.DYNAMICS, 0.01, 0.01, Part.NOTHING, "neither"),
        (Part.POLICY, 0.20, 0.90, Part.DYNAMICS, "the dynamics is significantly"),
        (Part.POLICY, 0.01, 0.20, Part.POLICY, "the policy is significantly"),
        (Part.POLICY, 0.01, 0.01, Part.NOTHING, "neither"),
    ],
)
def test_after_a_repair(repaired: Part, dynamics: float, policy: float, expected: Part, word: str) -> None:
    selection = select_next(score(dynamics), score(policy), repaired, CONFIG)
    assert selection.part is expected
    assert word in selection.reason and selection.reason.startswith(f"{repaired.value} repaired")


@pytest.mark.parametrize("name", ["c", "significance"])
def test_nonsense_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"select.{name} is 0"):
        SelectConfig(**{"c": 1.0, "significance": 1.0, "hysteresis": 0.0, name: 0.0})


def test_strategies() -> None:
    def parts(name: str, index: int, chosen: Part) -> list[str]:
        return [part.value for part in strategy_of(name).parts(index, chosen)]

    assert parts("none", 1, Part.DYNAMICS) == []
    assert parts("model", 1, Part.POLICY) == ["dynamics"]
    assert parts("policy", 1, Part.DYNAMICS) == ["policy"]
    assert [parts("alternate", index, Part.NOTHING)[0] for index in (1, 2, 3)] == ["policy", "dynamics", "policy"]
    assert parts("full", 1, Part.NOTHING) == ["dynamics", "policy"]
    assert parts("adawm", 1, Part.NOTHING) == []
    assert parts("adawm", 1, Part.POLICY) == ["policy"]
    assert [name for name, strategy in STRATEGIES.items() if not strategy.low_rank] == ["full"]
    with pytest.raises(ValueError, match="strategy 'best' is unknown"):
        strategy_of("best")
