"""Which of the gate's stops in normal driving count as needless."""

from __future__ import annotations

import pytest

pytest.importorskip("libsumo")

from adawm_planner.faults.normal import Account, count
from adawm_planner.faults.outcome import Said


def _said(*rows: tuple[str, str]) -> list[Said]:
    return [Said(float(k), "gate", state, rule, rule) for k, (state, rule) in enumerate(rows)]


def test_stops_for_inputs_and_planner_are_needless_and_those_for_the_route_are_not() -> None:
    account = Account()
    planner = Said(0.5, "planner", "", "input_missing", "input_missing")
    count(account, [*_said(("passing", ""), ("responding", "rss_same_direction"), ("passing", "")), planner])
    count(account, _said(("passing", ""), ("comfortable_stop", "route_departure"), ("hold", "route_departure")))
    count(account, _said(("passing", ""), ("responding", "input_stale"), ("emergency_stop", "input_stale")))
    assert (account.episodes, account.needless) == (3, 1)
    assert account.stops == {"route_departure": 1, "input_stale": 1}
    assert account.responses == {"rss_same_direction": 1, "input_stale": 1}


def test_what_comes_before_the_first_proposal_does_not_count() -> None:
    account = Account()
    count(account, _said(("standby", "proposal_missing"), ("hold", "proposal_missing"), ("passing", "")))
    assert (account.episodes, account.needless, account.stops) == (1, 0, {})


def test_an_episode_in_which_the_planner_never_drove_is_needless() -> None:
    account = Account()
    count(account, _said(("standby", "proposal_missing")))
    count(account, [])
    assert (account.episodes, account.needless, account.stops) == (2, 2, {"never_passed": 2})
