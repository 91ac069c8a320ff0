"""From a bundle to a commit or a refusal, with a real model that drives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adawm_planner.adapters.bundle import write_bundle
from adawm_planner.adapters.log import AppendLog
from adawm_planner.adapters.peft_files import TENSOR_FILE
from adawm_planner.adapters.refusal import Reason, Refusal, refuse
from adawm_planner.adapters.store import AdapterStore
from adawm_planner.runtime.active_adapters import BASE, load_adapters
from adawm_planner.runtime.engine import OnnxEngine
from adawm_planner.runtime.planner_core import Mode
from adawm_planner.runtime.planner_loop import Outgoing
from adawm_planner.runtime.swap import good
from adawm_planner.runtime.swap import messages as m
from adawm_planner.runtime.swap.state import Stage
from adawm_planner.runtime.warm import KEPT, History, advance, rewarm
from tests.adapters.conftest import NOW, Maker, random_factors
from tests.adapters.forgery import with_factors, with_tensors
from tests.runtime.inputs import frame, odometry, status, straight_route
from tests.runtime.swap_rig import OPEN, Rig, digest_of, outputs, same

Files = dict[str, bytes]


@pytest.fixture
def rig(maker: Maker, tmp_path: Path) -> Iterator[Rig]:
    made = Rig(maker, tmp_path / "store")
    yield made
    made.close()


@pytest.fixture(scope="module")
def policy(maker: Maker) -> Files:
    return maker.files()


@pytest.fixture(scope="module")
def dynamics(maker: Maker) -> Files:
    return maker.files(part="dynamics", name="world", counter=1)


def full(*arguments: Any, **options: Any) -> Any:
    raise OSError(28, "No space left on device")


def broken(*arguments: Any) -> Any:
    raise RuntimeError("planted")


def committed(rig: Rig, files: Files) -> None:
    rig.push(files)
    rig.drive(4)
    rig.episodes(True, True, True)
    assert rig.stage == "committed"


def test_the_whole_way(rig: Rig, policy: Files) -> None:
    rig.drive(2)
    rig.push(policy)
    assert rig.stage == "shadow"
    rig.drive(2)
    assert rig.stage == "shadow" and rig.core.engine.adapter_digests == ()
    rig.drive(2)
    assert rig.stage == "probation" and rig.core.engine.adapter_digests == (digest_of(policy),)
    assert rig.store.part("policy").active == digest_of(policy)
    answer = rig.drive(1)[0]
    assert answer.decision is not None and answer.decision.adapter_digests == (digest_of(policy),)
    rig.episodes(True, True)
    assert rig.stage == "probation"
    rig.episodes(True)
    report = rig.swap.report
    assert rig.stage == "committed" and rig.store.part("policy").good == (digest_of(policy),)
    assert (report.swaps, report.refusals) == (1, 0) and report.swap_ms > 0.0


def test_experience_names_who_decided(rig: Rig, policy: Files) -> None:
    rig.push(policy)
    ones = [one for answer in rig.drive(6) for one in answer.experiences]
    assert [one.adapter_digests for one in ones] == [()] * 3 + [(digest_of(policy),)] * 3


@pytest.mark.parametrize("part", ["dynamics", "policy"])
def test_after_the_flip_it_answers_as_a_cold_start_rewarmed_on_the_same_frames(
    rig: Rig, policy: Files, dynamics: Files, part: str
) -> None:
    rig.drive(5)
    rig.push(policy if part == "policy" else dynamics)
    rig.drive(3)
    past = rig.core.history
    found = next(answer.decision for answer in rig.drive(1) if answer.decision is not None)
    cold = OnnxEngine(rig.maker.model_dir, "cpu").with_adapters(load_adapters(rig.swap.report.adapters))
    assert found.adapter_digests == cold.adapter_digests != ()
    _, output = cold.step(rewarm(cold, past).carry, found.observation, False)
    np.testing.assert_allclose(output.probabilities, found.action.probabilities, rtol=0, atol=1e-5)


def test_a_state_of_another_dynamics_adapter_is_never_used(rig: Rig, dynamics: Files) -> None:
    committed(rig, dynamics)
    fresh = OnnxEngine(rig.maker.model_dir, "cpu")
    with pytest.raises(ValueError, match="start the episode anew or re-warm it"):
        fresh.step(rig.core.state.carry, rig.core.history.steps[-1].observation, False)  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="start the episode anew or re-warm it"):
        fresh.imagine(rig.core.state.carry)  # type: ignore[union-attr]


def test_bounded_history_and_catching_up(rig: Rig) -> None:
    rig.drive(3)
    warm = rewarm(rig.base, rig.core.history)
    rig.drive(2)
    assert rig.core.flip(warm), "two decisions behind"
    rig.drive(1)
    assert not rig.core.flip(warm), "three"
    rig.drive(KEPT)
    history = rig.core.history
    assert len(history.steps) == KEPT and history.count == 6 + KEPT
    assert advance(warm, history) is None
    caught = advance(rewarm(rig.base, history), history)
    assert caught is not None and caught.carry.h.tobytes() == rewarm(rig.base, history).carry.h.tobytes()
    assert advance(warm, History()) is not None


def test_no_flip_while_braking_and_none_is_lost(rig: Rig, policy: Files) -> None:
    rig.push(policy)
    rig.decide_unseen(3)
    assert rig.frame(spoilt=True).mode is Mode.BRAKING
    assert rig.stage == "ready" and rig.core.engine.adapter_digests == ()
    rig.frame(spoilt=True)
    assert rig.stage == "ready"
    rig.drive(2)
    assert rig.stage == "probation"


def test_neither_shadow_nor_a_flip_forward_while_the_gate_stops_the_vehicle(rig: Rig, policy: Files) -> None:
    rig.push(policy)
    rig.thread.taken_over("gate", True)
    rig.drive(6)
    assert rig.stage == "shadow" and rig.swap.report.figures["shadow_decisions"] == "0"
    rig.thread.taken_over("gate", False)
    rig.decide_unseen(3)
    rig.thread.taken_over("gate", True)
    rig.drive(2)
    assert rig.stage == "ready" and rig.core.engine.adapter_digests == ()
    rig.thread.taken_over("gate", False)
    rig.drive(1)
    assert rig.stage == "probation" and rig.core.engine.adapter_digests == (digest_of(policy),)
    rig.thread.taken_over("gate", True)
    rig.thread.post(m.Faulted("planted"))
    rig.drive(1)
    assert rig.stage == "rolled_back", "back is always allowed"


def test_both_parts_one_after_the_other(rig: Rig, policy: Files, dynamics: Files) -> None:
    rig.push(policy)
    rig.push(dynamics)
    rig.drive(4)
    rig.episodes(True, True, True)
    rig.drive(4)
    assert rig.stage == "probation"
    assert set(rig.core.engine.adapter_digests) == {digest_of(policy), digest_of(dynamics)}
    rig.episodes(True, *[False] * 6)
    assert rig.stage == "rolled_back" and rig.core.engine.adapter_digests == (digest_of(policy),)


def test_a_newer_bundle_takes_the_place_of_one_that_waits(rig: Rig, policy: Files, dynamics: Files) -> None:
    rig.push(policy)
    rig.push(dynamics)
    rig.push(rig.maker.files(part="dynamics", counter=2, name="newer"))
    assert "busy" in rig.swap.report.last_refusal and rig.swap.report.refusals == 1


def test_an_older_bundle_does_not_displace_a_newer_one_that_waits(rig: Rig, policy: Files, dynamics: Files) -> None:
    rig.push(policy)
    newer = rig.maker.files(part="dynamics", counter=2, name="newer")
    rig.push(newer)
    rig.push(dynamics)
    assert rig.swap.report.last_refusal.startswith("counter") and rig.swap.report.refusals == 1
    rig.drive(4)
    rig.episodes(True, True, True)
    rig.drive(4)
    assert digest_of(newer) in rig.core.engine.adapter_digests


def test_probation_rolls_a_bad_adapter_back(rig: Rig, policy: Files) -> None:
    rig.push(policy)
    rig.drive(4)
    assert rig.stage == "probation"
    rig.episodes(False, False, False)
    assert rig.stage == "probation", "neither proof nor good enough"
    rig.episodes(False)
    report = rig.swap.report
    assert rig.stage == "rolled_back" and report.swap is not None and report.swap.refusal is not None
    assert report.swap.refusal.reason is Reason.PROBATION and "0 of" in report.last_refusal
    assert rig.core.engine.adapter_digests == () and rig.store.part("policy").current is None


def test_an_adapter_that_ends_no_episode_is_rolled_back_and_the_record_has_one_failure(
    maker: Maker, tmp_path: Path, policy: Files
) -> None:
    rig = Rig(maker, tmp_path / "store", replace(OPEN, episode_decisions=10))
    rig.drive(25)
    assert [success for success, _ in rig.swap._good.record.results] == [False]
    rig.push(policy)
    rig.drive(4)
    assert rig.stage == "probation"
    rig.drive(38)
    assert rig.stage == "probation" and rig.swap.report.figures["probation_episodes"] == "3"
    rig.drive(2)
    assert rig.stage == "rolled_back" and rig.core.engine.adapter_digests == ()
    rig.close()


def test_what_was_trained_on_top_of_a_bundle_that_is_rolled_back_never_drives(rig: Rig, policy: Files) -> None:
    rig.push(policy)
    rig.drive(4)
    child = rig.maker.files(counter=8, name="child", parent=digest_of(policy))
    rig.push(child)
    assert rig.stage == "probation" and rig.swap.report.refusals == 0, "it waits"
    rig.episodes(False, False, False, False)
    assert rig.swap.report.last_refusal.startswith("parent:") and rig.core.engine.adapter_digests == ()
    assert digest_of(child) not in rig.store.seen().known
    rig.push(rig.maker.files(part="dynamics", counter=1, name="world"))
    good = rig.maker.files(counter=8, name="good")
    rig.push(good)
    rig.push(rig.maker.files(counter=9, name="later-child", parent=digest_of(policy)))
    assert rig.swap.report.last_refusal.startswith("parent:"), "and does not take the place of one that may drive"
    rig.drive(4)
    rig.episodes(True, True, True)
    rig.drive(4)
    assert digest_of(good) in rig.core.engine.adapter_digests


@pytest.mark.parametrize("by", ["operator", "restart"])
def test_whoever_rolled_the_parent_back_a_pushed_child_is_refused_and_an_operators_is_tried(
    rig: Rig, policy: Files, maker: Maker, tmp_path: Path, by: str
) -> None:
    rig.push(policy)
    rig.drive(4)
    if by == "operator":
        assert rig.ask(m.RollBack, "policy", False).success
    else:
        rig.close()
        again = Rig(maker, tmp_path / "store")
        rig.store, rig.thread, rig.swap, rig.core = again.store, again.thread, again.swap, again.core
    child = maker.files(counter=8, name="child", parent=digest_of(policy))
    rig.push(child)
    assert rig.swap.report.last_refusal.startswith("parent:") and digest_of(child) not in rig.store.seen().known
    write_bundle(tmp_path / "bundle", child)
    assert rig.ask(m.Load, tmp_path / "bundle", None).success and rig.stage == "shadow"


@pytest.mark.parametrize("by", ["probation", "operator"])
def test_what_was_made_beside_an_adapter_of_the_other_part_that_is_rolled_back_never_drives(
    rig: Rig, dynamics: Files, tmp_path: Path, by: str
) -> None:
    rig.push(dynamics)
    rig.drive(4)
    learnt_in_it = rig.maker.files(acting=(digest_of(dynamics),))
    rig.push(learnt_in_it)
    assert rig.stage == "probation" and rig.swap.report.refusals == 0, "it waits"
    if by == "probation":
        rig.episodes(*[False] * 5)
    else:
        assert rig.ask(m.RollBack, "dynamics", False).success
    assert rig.store.is_rolled_back(digest_of(dynamics)) and rig.swap.report.last_refusal.startswith("acting:")
    rig.drive(5)
    assert rig.core.engine.adapter_digests == () and digest_of(learnt_in_it) not in rig.store.seen().known
    later = rig.maker.files(counter=8, name="later", acting=(digest_of(dynamics),))
    rig.push(later)
    assert rig.swap.report.last_refusal.startswith("acting:"), "when it comes afterwards as well"
    write_bundle(tmp_path / "bundle", later)
    assert rig.ask(m.Load, tmp_path / "bundle", None).success and rig.stage == "shadow"


def test_what_was_made_beside_an_adapter_that_never_came_here_is_refused_unless_an_operator_loads_it(
    rig: Rig, tmp_path: Path
) -> None:
    foreign = rig.maker.files(acting=("a" * 64,))
    rig.push(foreign)
    assert rig.swap.report.last_refusal.startswith("acting:") and "never accepted here" in rig.swap.report.last_refusal
    assert digest_of(foreign) not in rig.store.seen().known
    write_bundle(tmp_path / "bundle", foreign)
    assert rig.ask(m.Load, tmp_path / "bundle", None).success and rig.stage == "shadow"


def test_what_was_made_beside_what_drives_is_taken(rig: Rig, policy: Files, dynamics: Files) -> None:
    committed(rig, dynamics)
    committed(rig, rig.maker.files(acting=(digest_of(dynamics),)))
    assert rig.swap.report.refusals == 0 and len(rig.core.engine.adapter_digests) == 2


def test_another_route_under_way_says_nothing_about_an_adapter_and_one_for_a_vehicle_that_stands_does(
    rig: Rig, policy: Files
) -> None:
    rig.push(policy)
    rig.drive(4)
    rig.core.set_route(straight_route(1900))
    rig.drive(1)
    assert rig.stage == "probation" and rig.swap.report.figures["probation_episodes"] == "0"
    rig.core.set_route(straight_route(1800))
    rig.k += 1
    still = {"odometry": odometry(rig.k, speed=0.0), "status": status(rig.k, speed=0.0)}
    rig.thread.after_answer(Outgoing(rig.core.answer(frame(rig.k, **still)), rig.k, 0.0, is_frame=True))
    figures = rig.swap.report.figures
    assert (figures["probation_episodes"], figures["probation_successes"]) == ("1", "0")
    rig.core.set_route(straight_route(1700))
    rig.core.note_collision()
    rig.drive(1)
    assert rig.swap.report.figures["probation_episodes"] == "2", "what it did before counts"


def test_what_was_trained_on_top_of_what_drives_is_taken(rig: Rig, policy: Files) -> None:
    committed(rig, policy)
    committed(rig, rig.maker.files(counter=8, name="child", parent=digest_of(policy)))
    assert rig.swap.report.refusals == 0


def test_an_error_while_driving_on_probation_rolls_back_at_once(
    rig: Rig, policy: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.push(policy)
    rig.drive(4)
    rig.thread.post(m.Faulted("the policy's probabilities are nan"))
    assert rig.stage == "reverting"
    rig.frame(spoilt=True)
    assert rig.stage == "rolled_back" and rig.core.engine.adapter_digests == ()
    assert "fault" in rig.swap.report.last_refusal


def test_an_engine_that_fails_while_it_goes_back_is_asked_again(
    rig: Rig, policy: Files, dynamics: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.push(policy)
    rig.drive(4)
    rig.push(dynamics)
    with monkeypatch.context() as patched:
        patched.setattr(OnnxEngine, "step", broken)
        for _ in range(2):
            rig.thread.post(m.Faulted("a device error"))
    assert rig.stage == "reverting" and rig.swap.ready is None
    assert "cannot drive again yet, it is tried again (planted)" in rig.swap.report.trouble
    assert rig.core.engine.adapter_digests == (digest_of(policy),)
    rig.drive(1)
    assert rig.core.engine.adapter_digests == () and rig.swap.report.trouble == ""
    assert rig.stage == "shadow", "the next one's turn has come"


def test_a_roll_back_whose_engine_cannot_be_made_is_tried_again(
    rig: Rig, policy: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed(rig, policy)
    replies: list[m.Reply] = []
    with monkeypatch.context() as patched:
        patched.setattr(OnnxEngine, "with_adapters", broken)
        rig.thread.post(m.RollBack("", False, replies.append))
    assert rig.swap.report.trouble and rig.swap.report.adapters and not replies
    rig.drive(2)
    assert rig.core.engine.adapter_digests == () and rig.swap.report.adapters == ()
    assert len(replies) == 1 and replies[0].success and not rig.swap.report.trouble


def test_an_operator_who_cannot_be_answered_ends_nothing(rig: Rig, policy: Files) -> None:
    committed(rig, policy)
    rig.swap.handle(m.ListAll("", broken))
    rig.swap.handle(m.RollBack("", False, broken))
    rig.drive(2)
    assert rig.core.engine.adapter_digests == () and rig.swap.ready is None


def test_an_operator_who_cannot_be_answered_keeps_no_other_from_hearing_it(rig: Rig, policy: Files) -> None:
    committed(rig, policy)
    replies: list[m.Reply] = []
    for answer in (broken, replies.append):
        rig.swap.handle(m.RollBack("", False, answer))
    rig.swap.dismiss("the planner was closed")
    assert len(replies) == 1


def test_who_loads_a_bundle_while_the_planner_cannot_go_back_is_told_that_it_waits(
    rig: Rig, policy: Files, dynamics: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That may take long, and nothing of it is the bundle's."""
    rolled_back: list[m.Reply] = []
    committed(rig, policy)
    write_bundle(tmp_path / "bundle", dynamics)
    with monkeypatch.context() as patched:
        patched.setattr(OnnxEngine, "with_adapters", broken)
        rig.thread.post(m.RollBack("", False, rolled_back.append))
        reply = rig.ask(m.Load, tmp_path / "bundle", None)
    assert reply == m.Reply(True, "verified: waits until the last good adapters drive again")
    rig.drive(1)
    assert rig.core.engine.adapter_digests == () and rig.stage == "shadow", "its turn has come"
    assert len(rolled_back) == 1 and rolled_back[0].success


def test_disagreement_is_refused_in_shadow(maker: Maker, tmp_path: Path, policy: Files) -> None:
    rig = Rig(maker, tmp_path, replace(OPEN, shadow_variation=0.0))
    rig.push(policy)
    rig.drive(4)
    assert rig.stage == "refused" and "shadow" in rig.swap.report.last_refusal
    assert rig.store.part("policy").current is None and rig.core.engine.adapter_digests == ()
    rig.close()


def nan(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    last = sorted(tensors)[-1]
    return {**tensors, last: np.full_like(tensors[last], np.nan)}


BAD: dict[str, tuple[Callable[[Rig, Files], Files], Reason]] = {
    "truncated": (lambda rig, files: {**files, TENSOR_FILE: files[TENSOR_FILE][:-9]}, Reason.FILE_SIZE),
    "changed": (lambda rig, files: {**files, TENSOR_FILE: files[TENSOR_FILE][:-1] + b"\1"}, Reason.FILE_DIGEST),
    "unsigned": (lambda rig, files: {k: v for k, v in files.items() if k != "signature.json"}, Reason.UNSIGNED),
    "extra": (lambda rig, files: {**files, "model.pkl": b"\x80\x04."}, Reason.EXTRA_FILE),
    "nan": (lambda rig, files: with_tensors(files, nan), Reason.NOT_FINITE),
    "base": (lambda rig, files: rig.maker.files(base="0" * 64, counter=9), Reason.OTHER_BASE),
    "vehicle": (lambda rig, files: rig.maker.files(vehicle="other", counter=9), Reason.OTHER_VEHICLE),
    "counter": (lambda rig, files: rig.maker.files(counter=1), Reason.COUNTER),
    "leap": (lambda rig, files: rig.maker.files(counter=10**9), Reason.COUNTER_STEP),
    "expired": (lambda rig, files: rig.maker.files(expires_unix_s=NOW - 1, counter=9), Reason.EXPIRED),
    "probe": (
        lambda rig, files: with_factors(rig.maker.files(counter=9), rig.maker.factors(seed=3)),
        Reason.PROBE,
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_refusal_leaves_what_drives_untouched_bit_for_bit(rig: Rig, policy: Files, name: str) -> None:
    committed(rig, policy)
    rig.drive(1)
    engine, seen = rig.core.engine, [step.observation for step in rig.core.history.steps]
    before, log = outputs(engine, engine.initial(), seen), (rig.store.root / "log.jsonl").read_bytes()
    make, reason = BAD[name]
    files = make(rig, rig.maker.files(counter=8, name="second"))
    rig.push(files)
    report = rig.swap.report
    assert report.last_refusal.startswith(f"{reason.value}:") and report.refusals == 1
    assert rig.core.engine is engine and rig.swap.ready is None and rig.stage in ("committed", "refused")
    assert all(map(same, before, outputs(engine, engine.initial(), seen)))
    assert (rig.store.root / "log.jsonl").read_bytes() == log, "the store has not even heard of it"
    rig.drive(6)
    assert rig.core.engine is engine


def test_a_message_that_is_none_is_refused(rig: Rig) -> None:
    def unpack() -> Any:
        refuse(Reason.FILE_SIZE, "a message must be small", "much", "less", "ask")

    rig.thread.post(m.Push(unpack))
    assert rig.swap.report.last_refusal.startswith("file_size")


def test_a_message_that_breaks_its_reader_ends_no_other_bundle(rig: Rig, policy: Files) -> None:
    rig.push(policy)
    rig.drive(4)

    def unpack() -> Any:
        raise RuntimeError("planted")

    rig.thread.post(m.Push(unpack))
    assert rig.stage == "probation" and rig.swap.report.last_refusal.startswith("fault")


def test_an_operator_is_told_when_a_bundle_has_to_wait(
    rig: Rig, policy: Files, dynamics: Files, tmp_path: Path
) -> None:
    rig.push(policy)
    write_bundle(tmp_path / "bundle", dynamics)
    reply = rig.ask(m.Load, tmp_path / "bundle", None)
    assert reply.success and "waits" in reply.message
    assert "already" in rig.ask(m.Load, tmp_path / "bundle", None).message


def test_duplicates_change_nothing(rig: Rig, policy: Files) -> None:
    rig.push(policy)
    rig.push(policy)
    assert rig.swap.report.last_refusal.startswith("duplicate") and rig.stage == "shadow"
    rig.drive(4)
    rig.push(policy)
    assert rig.stage == "probation"
    rig.episodes(True, True, True)
    rig.push(policy)
    assert rig.stage == "committed" and rig.swap.report.swaps == 1 and rig.swap.report.refusals == 3


def test_a_counter_loaded_by_hand_is_the_least_for_the_finetuner_too(rig: Rig, tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundle", rig.maker.files(counter=50, name="by-hand"))
    assert rig.ask(m.Load, tmp_path / "bundle", None).success
    assert rig.ask(m.RollBack, "policy", True).success
    rig.push(rig.maker.files(counter=3, name="policy-3"))
    refusal = rig.swap.report.last_refusal
    assert refusal.startswith("counter:") and "found 3, allowed above 50" in refusal
    rig.push(rig.maker.files(counter=51, name="policy-51"))
    assert rig.stage == "shadow"


def test_without_trusted_keys_nothing_is_accepted(maker: Maker, tmp_path: Path, policy: Files) -> None:
    trusting_none = copy(maker)
    trusting_none.context = replace(maker.context, trust={})
    rig = Rig(trusting_none, tmp_path / "store")
    rig.push(policy)
    assert rig.swap.report.last_refusal.startswith("untrusted_key") and rig.stage is None
    rig.close()


def test_load_by_path(rig: Rig, policy: Files, tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundle", policy)
    refused = rig.ask(m.Load, tmp_path / "bundle", "0" * 64)
    assert not refused.success and "other_digest" in refused.message
    assert not rig.ask(m.Load, tmp_path / "nothing", None).success
    accepted = rig.ask(m.Load, tmp_path / "bundle", None)
    assert accepted.success and accepted.entries[0].bundle.digest == digest_of(policy)
    rig.drive(4)
    assert rig.stage == "probation"


def test_roll_back_and_pin(rig: Rig, policy: Files, dynamics: Files) -> None:
    assert not rig.ask(m.RollBack, "", False).success
    assert not rig.ask(m.RollBack, "wheels", False).success
    committed(rig, policy)
    second = rig.maker.files(counter=8, name="second")
    committed(rig, second)
    back = rig.ask(m.RollBack, "policy", False)
    assert back.success and rig.core.engine.adapter_digests == (digest_of(policy),)
    assert not rig.ask(m.Pin, digest_of(second), True).success
    assert rig.ask(m.Pin, digest_of(policy), True).success and rig.swap.report.pinned == {"policy"}
    rig.push(rig.maker.files(counter=9, name="third"))
    assert rig.swap.report.last_refusal.startswith("pinned")
    committed(rig, dynamics)
    assert rig.ask(m.RollBack, "", True).success and rig.core.engine.adapter_digests == ()
    assert rig.ask(m.Pin, "policy", False).success and rig.swap.report.pinned == frozenset()
    listed = rig.ask(m.ListAll, "policy")
    assert [entry.bundle.name for entry in listed.entries] == ["second", "first"]


def test_pinning_the_base_model_drops_what_is_on_its_way(rig: Rig, policy: Files) -> None:
    rig.push(policy)
    assert rig.ask(m.Pin, "policy", True).success
    assert rig.stage == "refused" and rig.swap.report.last_refusal.startswith("pinned")


def test_on_probation_nothing_can_be_pinned_and_an_operator_rolls_back(rig: Rig, policy: Files) -> None:
    rig.push(policy)
    rig.drive(4)
    assert "on probation" in rig.ask(m.Pin, digest_of(policy), True).message
    assert rig.ask(m.RollBack, "", False).success
    assert rig.stage == "rolled_back" and rig.core.engine.adapter_digests == ()


def test_an_operator_withdraws_what_runs_in_shadow(rig: Rig, policy: Files) -> None:
    rig.push(policy)
    reply = rig.ask(m.RollBack, "policy", False)
    assert reply.success and rig.stage == "refused" and rig.swap.report.last_refusal.startswith("operator")


def test_rolling_another_part_back_ends_a_probation_beside_it(rig: Rig, policy: Files, dynamics: Files) -> None:
    committed(rig, policy)
    rig.push(dynamics)
    rig.drive(4)
    assert rig.stage == "probation" and len(rig.core.engine.adapter_digests) == 2
    assert rig.ask(m.RollBack, "policy", False).success
    assert rig.core.engine.adapter_digests == () and rig.stage == "rolled_back"
    assert rig.store.part("dynamics").current is None


def test_a_restart_brings_back_what_was_committed_and_nothing_else(
    rig: Rig,
    policy: Files,
    dynamics: Files,
    maker: Maker,
    tmp_path: Path,
) -> None:
    committed(rig, policy)
    rig.push(dynamics)
    rig.drive(4)
    assert rig.stage == "probation"
    rig.thread.close()
    again = Rig(maker, tmp_path / "store")
    assert again.core.engine.adapter_digests == (digest_of(policy),)
    again.push(dynamics)
    assert again.swap.report.last_refusal.startswith("duplicate")
    again.drive(2)
    rig.store, rig.thread, rig.swap = again.store, again.thread, again.swap


def test_a_store_that_cannot_be_written_costs_the_candidate_alone(
    rig: Rig, policy: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AdapterStore, "install", full)
    rig.push(policy)
    assert rig.stage == "refused" and "No space left" in rig.swap.report.last_refusal
    monkeypatch.undo()
    rig.push(policy)
    rig.drive(4)
    monkeypatch.setattr(AdapterStore, "commit", full)
    rig.episodes(True, True, True)
    assert rig.stage == "rolled_back" and rig.core.engine.adapter_digests == ()


def test_an_operator_rolls_back_on_a_full_disk(rig: Rig, policy: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.push(policy)
    rig.drive(4)
    monkeypatch.setattr(AdapterStore, "rollback", full)
    reply = rig.ask(m.RollBack, "policy", False)
    assert not reply.success and "No space left" in reply.message
    rig.drive(1)
    assert rig.stage == "rolled_back" and rig.core.engine.adapter_digests == ()


def test_a_roll_back_of_both_parts_on_a_disk_that_is_full_half_way_takes_what_it_could(
    rig: Rig, policy: Files, dynamics: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed(rig, dynamics)
    committed(rig, policy)
    write = rig.store.rollback
    with monkeypatch.context() as patched:
        patched.setattr(rig.store, "rollback", lambda part, *more: (full if part == "policy" else write)(part, *more))
        reply = rig.ask(m.RollBack, "", False)
    assert not reply.success and "No space left" in reply.message
    rig.drive(1)
    assert rig.store.part("dynamics").current is None
    assert rig.core.engine.adapter_digests == (digest_of(policy),)
    assert [each.digest for each in rig.swap.report.adapters] == [digest_of(policy)]
    rig.push(rig.maker.files(counter=8, name="second"))
    rig.drive(4)
    rig.episodes(*[False] * 6)
    assert rig.core.engine.adapter_digests == (digest_of(policy),), "the dynamics do not come back with a way back"


@pytest.mark.parametrize("part", ["policy", ""])
@pytest.mark.parametrize("to_base", [False, True])
def test_an_operator_rolls_back_what_is_on_its_way_back_and_nothing_more_unless_to_the_base(
    rig: Rig, policy: Files, part: str, to_base: bool
) -> None:
    committed(rig, policy)
    rig.push(rig.maker.files(counter=8, name="second"))
    rig.drive(4)
    rig.swap.handle(m.Faulted("planted"))
    assert rig.stage == "reverting"
    replies: list[m.Reply] = []
    rig.swap.handle(m.RollBack(part, to_base, replies.append))
    assert replies == [], "the earlier one does not drive yet"
    rig.drive(1)
    drives = () if to_base else (digest_of(policy),)
    assert rig.stage == "rolled_back" and rig.core.engine.adapter_digests == drives
    assert replies[0].success and rig.store.part("policy").good == drives


@pytest.fixture
def narrow(maker: Maker, tmp_path: Path) -> Iterator[tuple[Rig, Files, Files]]:
    """Started with a rank that the newest committed bundle is above: the last good one drives."""
    low = maker.files(factors=random_factors(maker.base, "policy", rank=1))
    high = maker.files(random_factors(maker.base, "policy", rank=5), counter=8, name="high")
    before = Rig(maker, tmp_path / "narrow")
    committed(before, low)
    committed(before, high)
    before.close()
    narrowed = copy(maker)
    narrowed.context = replace(maker.context, limits=replace(maker.context.limits, rank=3))
    made = Rig(narrowed, tmp_path / "narrow")
    assert made.core.engine.adapter_digests == (digest_of(low),)
    assert made.store.part("policy").good == (digest_of(low), digest_of(high)), "it stays for another start"
    yield made, low, high
    made.close()


def test_a_roll_back_steps_back_from_what_drives_and_takes_what_is_above_it_along(
    narrow: tuple[Rig, Files, Files],
) -> None:
    rig, _, _ = narrow
    assert rig.ask(m.RollBack, "policy", False).success
    assert rig.core.engine.adapter_digests == () and rig.store.part("policy").good == ()


def test_a_pin_keeps_what_drives_after_another_start_too(narrow: tuple[Rig, Files, Files]) -> None:
    rig, low, high = narrow
    assert "does not drive" in rig.ask(m.Pin, digest_of(high), True).message
    reply = rig.ask(m.Pin, digest_of(low), True)
    assert reply.success and reply.message == f"policy is pinned to {digest_of(low)}" and reply.entries[0].pinned
    assert rig.store.part("policy").good == (digest_of(low),)


def left_over(rig: Rig, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full from the commit to the end of the way back: the store goes on naming what drives no longer."""
    rig.push(files)
    rig.drive(4)
    with monkeypatch.context() as patched:
        patched.setattr(AppendLog, "append", full)
        rig.episodes(True, True, True)
    assert rig.stage == "rolled_back" and digest_of(files) not in rig.core.engine.adapter_digests
    assert rig.store.part("policy").active == digest_of(files)


def test_what_a_full_disk_left_in_the_store_gives_way_to_the_next_bundle(
    rig: Rig, policy: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_over(rig, policy, monkeypatch)
    second = rig.maker.files(counter=8, name="second")
    with monkeypatch.context() as patched:
        patched.setattr(AdapterStore, "rollback", full)
        rig.push(second)
    assert rig.stage == "refused" and "No space left" in rig.swap.report.last_refusal
    assert digest_of(second) not in rig.store.seen().known, "or it could not be pushed again"
    committed(rig, second)
    assert rig.store.part("policy").good == (digest_of(second),)


def test_an_operator_rolls_back_and_pins_what_drives_and_not_what_a_full_disk_left(
    rig: Rig, policy: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed(rig, policy)
    left_over(rig, rig.maker.files(counter=8, name="second"), monkeypatch)
    assert rig.ask(m.Pin, digest_of(policy), True).success and rig.ask(m.Pin, "policy", False).success
    left_over(rig, rig.maker.files(counter=9, name="third"), monkeypatch)
    assert rig.ask(m.RollBack, "policy", False).success
    assert rig.core.engine.adapter_digests == () and rig.store.part("policy").current is None


def test_what_fails_its_probe_at_one_start_drives_at_another(
    rig: Rig, maker: Maker, tmp_path: Path, policy: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = maker.files(counter=8, name="second")
    committed(rig, policy)
    committed(rig, second)
    other_provider = Refusal(Reason.PROBE, "it must act as where it was made", "0.0025", "0.001", "see its maker")
    one, two = digest_of(policy), digest_of(second)
    rig.thread.close()
    for found, drives in ([other_provider, None], (one,)), ([other_provider, other_provider], ()), ([None], (two,)):
        probes = iter(found)
        with monkeypatch.context() as patched:
            patched.setattr(good, "check_probe", lambda *arguments, probes=probes: next(probes))
            again = Rig(maker, tmp_path / "store")
        assert again.core.engine.adapter_digests == drives
        assert again.store.part("policy").good == (one, two)
        again.thread.close()
    rig.thread = Rig(maker, tmp_path / "store").thread


def test_an_error_in_the_flip_costs_no_tick(rig: Rig, policy: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.push(policy)
    with monkeypatch.context() as patched:
        patched.setattr(rig.loop, "flip", broken)
        rig.drive(4)
        assert rig.core.engine.adapter_digests == ()
    rig.drive(1)
    assert rig.stage == "probation" and rig.core.engine.adapter_digests == (digest_of(policy),)


def test_a_flip_that_crosses_its_withdrawal_is_undone(rig: Rig, policy: Files) -> None:
    rig.push(policy)
    rig.decide_unseen(3)
    taken = rig.swap.ready
    assert taken is not None and taken.forward and rig.core.flip(taken.warm)
    rig.swap.handle(m.RollBack("", False, lambda reply: None))
    rig.swap.handle(m.Flipped(taken, 1e-6))
    rig.drive(1)
    assert rig.core.engine.adapter_digests == () and rig.swap.report.adapters == ()
    assert rig.store.part("policy").current is None


def test_what_was_given_up_as_it_was_taken_goes_back_while_another_bundle_runs_in_shadow(
    rig: Rig, policy: Files, dynamics: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.push(policy)
    rig.decide_unseen(3)
    taken = rig.swap.ready
    assert taken is not None and taken.forward and rig.core.flip(taken.warm)
    rig.push(dynamics)
    with monkeypatch.context() as patched:
        patched.setattr(rig.swap._flips, "follow", broken)
        rig.swap.handle(m.Decided(rig.core.history, None))
    assert rig.stage == "refused"
    rig.swap.handle(m.Decided(rig.core.history, None))
    assert rig.stage == "shadow", "the next one has begun, before it is heard that the first one drives"
    counted = rig.swap.report.figures["shadow_decisions"]
    rig.swap.handle(m.Flipped(taken, 1e-6))
    rig.decide_unseen(1)
    assert rig.swap.report.figures["shadow_decisions"] == counted, "it was not compared with what was given up"
    rig.frame()
    assert rig.core.engine.adapter_digests == () and rig.stage == "shadow"
    assert not rig.store.part("policy").held
    rig.drive(5)
    assert rig.stage == "probation" and rig.core.engine.adapter_digests == (digest_of(dynamics),)


def test_the_base_is_exact_when_nothing_is_active(rig: Rig, policy: Files) -> None:
    committed(rig, policy)
    rig.drive(3)
    seen = [step.observation for step in rig.core.history.steps]
    plain = OnnxEngine(rig.maker.model_dir, "cpu")
    base = rig.core.engine._engine.with_adapters(BASE)  # type: ignore[attr-defined]
    assert all(map(same, outputs(plain, plain.initial(), seen), outputs(base, base.initial(), seen)))
    adapted = outputs(rig.core.engine, rig.core.engine.initial(), seen)
    by_factors = OnnxEngine(rig.maker.model_dir, "cpu", factors=load_adapters(rig.swap.report.adapters).factors)
    assert all(map(same, adapted, outputs(by_factors, by_factors.initial(), seen)))
    with pytest.raises(ValueError, match="takes no adapters"):
        by_factors.with_adapters(BASE)


def test_two_adapters_of_a_part_are_refused(rig: Rig, policy: Files) -> None:
    committed(rig, policy)
    (one,) = rig.swap.report.adapters
    with pytest.raises(ValueError, match="only one of each part"):
        load_adapters([one, one])


def test_stages_are_only_final_when_nothing_is_on_its_way(rig: Rig, policy: Files) -> None:
    committed(rig, policy)
    assert rig.swap.report.swap is not None and rig.swap.report.swap.stage is Stage.COMMITTED
    assert not rig.swap.watching and rig.swap.report.figures == {}
