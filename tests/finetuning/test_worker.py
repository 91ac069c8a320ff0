"""Rounds on stored experience, the state machine over its pipe, and a supervisor that starts a dead worker again."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection, Pipe
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.patience import HANG_S

pytest.importorskip("torch")

import torch
from safetensors.torch import load_file, save_file

from adawm_planner.adaptation.select_part import Part
from adawm_planner.adaptation.strategies import strategy_of
from adawm_planner.adapters.base_model import read_base_model
from adawm_planner.adapters.keys import read_trust
from adawm_planner.adapters.verify import Context, VerifiedAdapter, verify_folder
from adawm_planner.config.finetuning import STRATEGIES, ReplayConfig, RoundConfig, UpdateGateConfig
from adawm_planner.durable import staged_beside
from adawm_planner.finetuning import round as round_module
from adawm_planner.finetuning import worker_process
from adawm_planner.finetuning.episodes import split
from adawm_planner.finetuning.gate import GateReport, too_few
from adawm_planner.finetuning.material import Material, NotYet, material_of
from adawm_planner.finetuning.memory import (
    BASE,
    BEGUN_FILE,
    KEPT_BUNDLES,
    STATE_FILE,
    Known,
    Made,
    Memory,
    acting,
    bundle_folder,
    read_known,
    told_bundle,
)
from adawm_planner.finetuning.messages import (
    Gone,
    Message,
    Phase,
    RoundDone,
    Settings,
    Status,
    Trouble,
    Wish,
    decode,
    encode,
)
from adawm_planner.finetuning.replay_store import ReplayStore, chunk_files
from adawm_planner.finetuning.round import LostStudentError, Workshop, in_turn, put_together, run_round
from adawm_planner.finetuning.supervisor import Supervisor
from adawm_planner.finetuning.worker import Worker
from tests.adaptation.conftest import random_episodes
from tests.finetuning.workplace import Workplace, driven, fill
from tests.full_disk import no_larger_file

WANTED = Wish(active=True, paused=False, strategy="model", forced=0)


def material(place: Workplace, adapters: tuple[str, ...] = (), begin: int = 0) -> Material:
    """Driving of which as many episodes are held out as the gate needs.

    An adapter's digest, made with a key of this run, is in what decides which are: of 40, too few in one of 13 draws.
    """
    for seed in range(5, 25):
        stretches = split(driven(random_episodes(40, seed, level=1.0), place.base, adapters, begin))
        found = material_of(stretches, place.base, RoundConfig(decisions=100))
        assert isinstance(found, Material)
        if too_few(found.held_out, Part.NOTHING, UpdateGateConfig()) is None:
            return found
    raise AssertionError("no episodes are held out")


def one_round(place: Workplace, workshop: Workshop, memory: Memory, name: str, found: Material) -> RoundDone:
    driving = acting(memory, found.policy.adapter_digests)
    assert not isinstance(driving, str), driving
    return run_round(workshop, memory, found, driving, name, 3, lambda: 9, lambda phase: None, lambda done, text: None)


@contextmanager
def worker(settings: Settings) -> Iterator[Connection]:
    """A worker in a thread of this process; ends when the context is left."""
    ours, theirs = Pipe(duplex=True)
    loop = Worker(settings, theirs)

    def work() -> None:
        try:
            loop.run()
        except Gone:
            theirs.close()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield ours
    finally:
        ours.close()
        thread.join(HANG_S)
        assert not thread.is_alive()


def heard(channel: Connection, wanted: Callable[[Message], bool], seconds: float = HANG_S) -> list[Message]:
    """All messages up to the first one that is wanted."""
    messages, deadline = list[Message](), time.monotonic() + seconds
    while time.monotonic() < deadline:
        if channel.poll(0.1):
            messages.append(decode(channel.recv_bytes()))
            if wanted(messages[-1]):
                return messages
    raise AssertionError(f"not heard in {seconds} s: {messages[-3:]}")


def phases(messages: list[Message]) -> list[str]:
    """Phases in order, each once in a row."""
    seen = [message.phase for message in messages if isinstance(message, Status)]
    return [phase for k, phase in enumerate(seen) if k == 0 or seen[k - 1] != phase]


def is_phase(phase: Phase) -> Callable[[Message], bool]:
    return lambda message: isinstance(message, Status) and message.phase == phase.value


def is_round(message: Message) -> bool:
    return isinstance(message, RoundDone)


def test_strategies_are_all_that_make_adapters() -> None:
    from adawm_planner.adaptation.strategies import STRATEGIES as ALL

    assert set(STRATEGIES) == {name for name, strategy in ALL.items() if strategy.low_rank}


def test_messages_survive_the_pipe_and_nothing_else_does(place: Workplace) -> None:
    for message in (place.settings(), WANTED, Trouble("x"), Status("idle", "", 1, 2, cuts={"lost": 3})):
        assert decode(encode(message)) == message
    for data in (b"", b"{}", b"[]", b'{"kind": "Wish"}', b'{"kind": "Trouble", "text": "x", "more": 1}', b"\x80\x04."):
        with pytest.raises(ValueError, match="not a message between node and worker"):
            decode(data)


# ---------------------------------------------------------------- material


def test_a_round_takes_the_newest_of_the_acting_policy_and_nothing_held_out(place: Workplace) -> None:
    before = split(driven(random_episodes(20, 1), place.base))
    after = split(driven(random_episodes(30, 2), place.base, ("a" * 64,), begin=1000, number=20))
    found = material_of(before + after, place.base, RoundConfig(decisions=60, held_out_episodes=7))
    assert isinstance(found, Material) and found.held_out is not None and found.older is not None
    assert found.policy == after[-1].policy and len(found.outcomes) >= 4 and 60 <= len(found.rollouts) < 90
    assert found.held_out.count == 7 and found.held_out.episodes.held_out.all()
    assert found.recent is not None and found.recent.count == 5, "as few as the gate needs"
    assert not found.rollouts.held_out.any() and not found.older.held_out.any()
    rows = sum(len(one.episodes) for one in before + after if not one.episodes.held_out[0])
    assert len(found.rollouts) + len(found.older) == rows


def test_a_model_is_judged_on_driving_as_new_as_what_it_was_repaired_on(place: Workplace) -> None:
    stretches = split(driven(random_episodes(100, 1), place.base))
    found = material_of(stretches, place.base, RoundConfig(decisions=600, held_out_episodes=40))
    assert isinstance(found, Material) and found.held_out is not None and found.recent is not None
    held = [one for one in stretches if one.episodes.held_out[0]]
    begin = next(k for k, one in enumerate(stretches) if np.array_equal(one.episodes.state[0], found.rollouts.state[0]))
    as_new = sum(bool(one.episodes.held_out[0]) for one in stretches[begin:])
    assert found.recent.count == as_new and 5 < as_new < 20
    assert found.held_out.count == len(held) > 10
    assert np.array_equal(found.recent.episodes.state[-1], held[-1].episodes.state[-1])


def test_a_round_may_need_less_than_it_takes(place: Workplace) -> None:
    few, many = (split(driven(random_episodes(count, 1), place.base)) for count in (10, 60))
    asked = RoundConfig(decisions=200, least_decisions=1)
    found = material_of(few, place.base, asked)
    assert isinstance(found, Material) and len(found.outcomes) > 4 and len(found.rollouts) < 200
    assert isinstance(material_of(few, place.base, RoundConfig(decisions=200)), NotYet)
    ours, theirs = material_of(many, place.base, asked), material_of(many, place.base, RoundConfig(decisions=200))
    assert isinstance(ours, Material) and isinstance(theirs, Material)
    assert 200 <= len(ours.rollouts) == len(theirs.rollouts) < 220
    for least in (0, 201):
        with pytest.raises(ValueError, match=rf"least_decisions is {least}, must be in 1..round.decisions \(200\)"):
            RoundConfig(decisions=200, least_decisions=least)


def test_the_pieces_of_an_episode_are_counted_as_one(place: Workplace) -> None:
    """A message lost in each: the gate that holds the vehicle, and a clock that jumps, cut in the same way."""
    episodes = random_episodes(12, 1, length=60)
    begins = np.flatnonzero(episodes.first)
    whole = split(driven(episodes, place.base))
    pieces = split(one for one in driven(episodes, place.base) if one.experience.sequence - 15 not in begins)
    assert len(pieces) == 2 * len(whole)
    all_of_it = RoundConfig(decisions=1000, least_decisions=1)
    found, same = material_of(pieces, place.base, all_of_it), material_of(whole, place.base, all_of_it)
    assert isinstance(found, Material) and isinstance(same, Material)
    assert found.outcomes == same.outcomes and {"cut", "off_lane"} == set(found.outcomes)
    assert found.rollouts.first.sum() == 2 * len(found.outcomes)
    few = RoundConfig(decisions=20, least_episodes=4)
    found = material_of(pieces, place.base, few)
    assert isinstance(found, Material) and len(found.outcomes) == 4 and found.rollouts.first.sum() in (7, 8)
    train = list(dict.fromkeys(one.unit for one in pieces if not one.episodes.held_out[0]))
    found = material_of([one for one in pieces if one.unit < train[3]], place.base, few)
    assert isinstance(found, NotYet) and "in 3 episodes, a round needs 20 in 4" in found.reason


def test_a_round_of_all_that_may_be_asked_for_begins_and_one_of_more_is_refused(place: Workplace) -> None:
    """A fifth of what is read is held out: a round of nearly all of it would wait for ever."""
    stretches = split(driven(random_episodes(60, 1), place.base))
    window = sum(len(one.episodes) for one in stretches)
    assert isinstance(material_of(stretches, place.base, RoundConfig(window // 2, window=window)), Material)
    most = f"round.decisions is {window // 2 + 1}, must be at most {window // 2}, half of round.window"
    with pytest.raises(ValueError, match=most):
        RoundConfig(window // 2 + 1, window=window)


def test_why_there_is_no_round(place: Workplace) -> None:
    config = RoundConfig(decisions=100)

    def reason(stretches: list[object]) -> str:
        found = material_of(stretches, place.base, config)  # type: ignore[arg-type]
        assert isinstance(found, NotYet)
        return found.reason

    assert reason([]) == "no episode yet"
    old = split(driven(random_episodes(30, 1), place.base))
    new = split(driven(random_episodes(2, 2), place.base, ("a" * 64,), begin=1000))
    assert "a round needs 100 in 4" in reason([*old, *new])
    episodes = random_episodes(30, 1)
    held = replace(episodes, overruled=np.arange(len(episodes)) > 0)
    assert "carried out 0 training decisions in 0 episodes" in reason([*split(driven(held, place.base))])
    train = [one.number for one in split(driven(episodes, place.base)) if not one.episodes.held_out[0]]
    most = replace(episodes, overruled=np.cumsum(episodes.first) - 1 > train[2])
    assert "in 3 episodes, a round needs 100 in 4" in reason([*split(driven(most, place.base))])
    now = RoundConfig(decisions=1)
    assert isinstance(material_of(split(driven(most, place.base)), place.base, now), NotYet), (
        "one row is not an episode"
    )
    other = split(driven(random_episodes(30, 1), "c" * 64))
    assert "drives base model cccccccccccc, this finetuner adapts" in reason([*old, *other])


# ---------------------------------------------------------------- rounds


def test_a_round_leaves_a_bundle_that_the_planner_takes_and_the_next_one_goes_on_from_it(place: Workplace) -> None:
    workshop = Workshop(place.settings(vehicle_id="car-7"))
    memory = Memory(place.state_dir, place.base)
    done = one_round(place, workshop, memory, "model", material(place))
    assert done.updated == ["dynamics"] and done.gate is not None and done.gate["passed"], done.reason
    (made,) = memory.known.made
    assert (made.digest, made.counter, memory.known.round) == (done.produced, 1, 1)
    assert memory.known.last_chunk == 9  # what was driven while it was made is old driving
    context = Context(read_base_model(place.model_dir), read_trust([place.key.with_suffix(".pub")]), vehicle="car-7")
    folder = told_bundle(place.state_dir, done.bundle)
    assert folder == bundle_folder(place.state_dir, made) and not Path(done.bundle).is_absolute()
    found = verify_folder(folder, context, int(time.time()))
    assert isinstance(found, VerifiedAdapter), found
    assert found.manifest.gate == json.loads(json.dumps(done.gate)) and found.manifest.data_sha256
    assert found.manifest.expires_unix_s is not None

    student = workshop.student()
    put_together(student, workshop.base, memory, acting(memory, [made.digest]))  # type: ignore[arg-type]
    for name, (down, up) in found.factors.items():
        ours = student.factors()[name]
        assert (ours[0].numpy() == down).all() and (ours[1].numpy() == up).all()
    again = one_round(place, workshop, Memory(place.state_dir, place.base), "model", material(place, (made.digest,)))
    assert again.round == 2 and again.acting == [place.base, made.digest]
    assert again.scores["dynamics_mismatch"] < done.scores["dynamics_mismatch"] - done.scores["dynamics_standard_error"]


def test_after_the_dynamics_it_is_the_policys_turn() -> None:
    adawm = strategy_of("adawm")
    for last, chosen, wanted in (
        (Part.DYNAMICS, Part.DYNAMICS, Part.POLICY),
        (Part.DYNAMICS, Part.POLICY, Part.POLICY),
        (Part.POLICY, Part.POLICY, Part.POLICY),
        (Part.POLICY, Part.DYNAMICS, Part.DYNAMICS),
        (Part.NOTHING, Part.DYNAMICS, Part.DYNAMICS),
    ):
        assert in_turn(adawm, last).parts(0, chosen) == (wanted,)
    assert in_turn(adawm, Part.DYNAMICS).parts(0, Part.NOTHING) == ()
    assert in_turn(strategy_of("model"), Part.DYNAMICS).parts(0, Part.DYNAMICS) == (Part.DYNAMICS,)


@pytest.mark.parametrize("produced", ["", "d" * 64], ids=["refused by the gate", "published, does not drive"])
def test_its_turn_comes_where_driving_fails(place: Workplace, produced: str) -> None:
    """A dynamics that was repaired last, and is significantly wrong again."""
    workshop, found = Workshop(place.settings()), material(place)
    for outcome, wanted in (("success", "dynamics"), ("collision", "policy")):
        memory = Memory(place.state_dir / outcome, place.base)
        report = {"produced": produced, "acting": [place.base]}
        memory.keep(replace(memory.known, last_part="dynamics", report=report))
        outcomes = (outcome,) * len(found.outcomes)
        done = one_round(place, workshop, memory, "adawm", replace(found, outcomes=outcomes))
        assert (done.selected, done.updated) == ("dynamics", [wanted])


@pytest.fixture
def after_one(place: Workplace) -> tuple[Workshop, Memory, Made]:
    """A finetuner whose first adapter, of the dynamics, drives."""
    workshop, memory = Workshop(place.settings()), Memory(place.state_dir, place.base)
    assert one_round(place, workshop, memory, "model", material(place)).produced
    return workshop, memory, memory.known.made[0]


def test_a_bundle_names_every_adapter_that_drove_when_it_was_made(
    place: Workplace, after_one: tuple[Workshop, Memory, Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop, memory, world = after_one
    monkeypatch.setattr(round_module, "judge", lambda trial, *more: GateReport("policy", True, "planted", 5, 5, ()))
    done = one_round(place, workshop, memory, "policy", material(place, (world.digest,)))
    told = {}
    for made in memory.known.made:
        found = verify_folder(bundle_folder(place.state_dir, made), Context(workshop.base, None), int(time.time()))
        assert isinstance(found, VerifiedAdapter), found
        told[made.digest] = (found.manifest.part, found.manifest.parent, found.manifest.acting)
    assert told == {world.digest: ("dynamics", None, ()), done.produced: ("policy", None, (world.digest,))}


def zeroed(path: Path, key: str) -> None:
    """The same file with zeros for one tensor."""
    tensors = load_file(path)
    name = next(name for name, value in tensors.items() if name.startswith(key) and value.any())
    save_file({**tensors, name: torch.zeros_like(tensors[name])}, path)


DAMAGE: dict[str, tuple[str, Callable[[Path], object]]] = {
    "removed": ("is missing", lambda path: path.unlink()),
    "torn": ("is not the file that was written", lambda path: path.write_bytes(path.read_bytes()[:-5000])),
    "last 5 kB": (
        "is not the file that was written",
        lambda path: path.write_bytes(path.read_bytes()[:-5000] + bytes(5000)),
    ),
    "critic": ("is not the file that was written", lambda path: zeroed(path, "critic.")),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_student_that_is_lost_costs_no_more_than_what_no_bundle_has(
    place: Workplace, after_one: tuple[Workshop, Memory, Made], damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    workshop, memory, made = after_one
    why, harm = DAMAGE[damage]
    harm(memory.student(made.digest))
    student = workshop.student()
    critic = student.merged().critic.state_dict()
    put_together(student, workshop.base, memory, {"dynamics": made})
    told = capsys.readouterr().err
    assert f"students/{made.digest}.safetensors: the student behind adapter dynamics-1, which drives, {why}" in told
    context = Context(workshop.base, None)
    found = verify_folder(bundle_folder(place.state_dir, made), context, int(time.time()))
    assert isinstance(found, VerifiedAdapter) and found.factors
    for name, pair in found.factors.items():
        assert all((ours.numpy() == theirs).all() for ours, theirs in zip(student.factors()[name], pair, strict=True))
    assert all(torch.equal(value, critic[name]) for name, value in student.merged().critic.state_dict().items())
    again = one_round(place, workshop, memory, "model", material(place, (made.digest,)))
    assert again.round == 2 and again.acting == [place.base, made.digest]


def test_a_student_whose_sum_was_not_noted_is_compared_with_its_bundle(
    place: Workplace, after_one: tuple[Workshop, Memory, Made], capsys: pytest.CaptureFixture[str]
) -> None:
    """As in a state.json that was written before sums were noted."""
    workshop, memory, made = after_one
    path, state = memory.student(made.digest), place.state_dir / STATE_FILE
    values = json.loads(state.read_text())
    assert values["made"][0].pop("student") == hashlib.sha256(path.read_bytes()).hexdigest()
    state.write_text(json.dumps(values))
    memory = Memory(place.state_dir, place.base)
    old = memory.known.made[0]
    assert old == replace(made, student="")
    put_together(workshop.student(), workshop.base, memory, {"dynamics": old})
    assert capsys.readouterr().err == ""
    whole = path.read_bytes()
    for harm, why in (
        (lambda: zeroed(path, "world_model.rssm"), "is not what its bundle was made of"),
        (lambda: path.write_bytes(whole[:100]), "cannot be read"),
    ):
        path.write_bytes(whole)
        harm()
        put_together(workshop.student(), workshop.base, memory, {"dynamics": old})
        assert f"which drives, {why}" in capsys.readouterr().err


def test_a_bundle_that_drives_and_is_damaged_ends_the_round(
    place: Workplace, after_one: tuple[Workshop, Memory, Made]
) -> None:
    workshop, memory, made = after_one
    file = bundle_folder(place.state_dir, made) / "adapter_model.safetensors"
    file.write_bytes(bytes(len(file.read_bytes())))
    with pytest.raises(LostStudentError, match="dynamics-000001: the bundle of adapter dynamics-1.*restore the folder"):
        one_round(place, workshop, memory, "model", material(place, (made.digest,)))


def test_an_adapter_of_another_rank_sets_no_driving_aside(
    place: Workplace, after_one: tuple[Workshop, Memory, Made], tmp_path: Path
) -> None:
    _, memory, made = after_one
    fill(place, random_episodes(40, 5, level=1.0), (made.digest,))
    values = yaml.safe_load(Path(place.settings().config_file).read_text())
    values["presets"]["debug"]["lora"]["rank"] = 4
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(values))
    loop, theirs = Pipe(duplex=True)
    other = Worker(place.settings(config_file=str(tmp_path / "other.yaml")), theirs)
    other._wish = WANTED
    remedy = r"factors do not fit layer world_model.*; set config_file and preset as they were .* or roll it back"
    with pytest.raises(LostStudentError, match=f"^adapter dynamics-1 cannot be adapted further .*{remedy}"):
        other._collect()
    loop.close()
    assert read_known(place.state_dir, place.base) == memory.known


def test_a_student_that_the_disk_does_not_give_sets_no_driving_aside(
    place: Workplace, after_one: tuple[Workshop, Memory, Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, memory, made = after_one
    fill(place, random_episodes(40, 5, level=1.0), (made.digest,))
    victim, read_bytes = memory.student(made.digest), Path.read_bytes

    def broken(path: Path) -> bytes:
        if path == victim:
            raise OSError(5, "Input/output error")
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", broken)
    with pytest.raises(OSError, match="Input/output error"):
        collected(place, WANTED)
    assert read_known(place.state_dir, place.base) == memory.known


def test_an_update_that_does_not_drive_leaves_no_trace(place: Workplace) -> None:
    """The planner refused the first one: the next round begins at the base model again."""
    workshop, memory = Workshop(place.settings()), Memory(place.state_dir, place.base)
    first = one_round(place, workshop, memory, "model", material(place))
    second = one_round(place, workshop, memory, "model", material(place))
    assert first.scores["dynamics_mismatch"] == second.scores["dynamics_mismatch"]
    assert [one.counter for one in memory.known.made] == [1, 2]


def test_without_a_key_and_without_held_out_driving_nothing_is_trained(place: Workplace) -> None:
    memory = Memory(place.state_dir, place.base)
    done = one_round(place, Workshop(place.settings(key_file="")), memory, "model", material(place))
    assert done.updated == [] and done.gate is None and "no signing key" in done.reason
    few = replace(material(place), held_out=None)
    done = one_round(place, Workshop(place.settings()), memory, "model", few)
    assert done.updated == [] and done.gate is not None and "held-out episodes: 0, at least 5" in done.reason
    assert memory.known.made == () and done.produced == ""
    assert memory.known.last_chunk == 3  # the same one drives on: all that came since is new


def test_a_strange_adapter_is_told(place: Workplace) -> None:
    found = acting(Memory(place.state_dir, place.base), ["a" * 64])
    assert isinstance(found, str) and "aaaaaaaaaaaa, which was not made here" in found


def test_a_memory_of_another_model_or_damaged_is_refused(place: Workplace) -> None:
    memory = Memory(place.state_dir, place.base)
    memory.keep(replace(memory.known, round=3))
    anew = (
        "name another state_dir: a new one needs a new adapters.store of the planner too, because counters begin again"
    )
    with pytest.raises(ValueError, match=f"is of base model .*; {anew}"):
        read_known(place.state_dir, "c" * 64)
    (place.state_dir / STATE_FILE).write_text("{")
    with pytest.raises(ValueError, match=f"not a finetuner's state .*; restore it, or {anew}"):
        Memory(place.state_dir, place.base)


def filled(folder: Path, names: list[str], drives: str = "") -> Memory:
    """A memory of made-up bundles PART-COUNTER, the last round of which was driven by one of them."""
    memory = Memory(folder, "b" * 64)
    for name in names:
        part, counter = name.split("-")
        made = Made(name, part, int(counter))
        bundle_folder(folder, made).mkdir()
        memory.student(name).write_bytes(b"student")
        report = {"acting": ["b" * 64, drives]} if drives else None
        memory.keep(replace(memory.known, made=(*memory.known.made, made), report=report))
    return memory


def test_counters_raised_by_hand_are_gone_on_from(place: Workplace, after_one: tuple[Workshop, Memory, Made]) -> None:
    """As docs/adapters.md has it where a bundle loaded by hand left the finetuner's counters behind."""
    workshop, _, made = after_one
    path = place.state_dir / STATE_FILE
    values = json.loads(path.read_text())
    values["counters"]["dynamics"] = 50
    path.write_text(json.dumps(values))
    memory = Memory(place.state_dir, place.base)
    one_round(place, workshop, memory, "model", material(place))
    assert [one.counter for one in memory.known.made] == [made.counter, 51]


def test_what_killed_writers_left_is_removed(tmp_path: Path) -> None:
    filled(tmp_path, ["dynamics-1"])
    kept = sorted(tmp_path.rglob("*"))
    for path in (tmp_path / STATE_FILE, tmp_path / BEGUN_FILE, tmp_path / "students" / "base.safetensors"):
        staged_beside(path).write_bytes(b"half of it")
    Memory(tmp_path, "b" * 64)
    assert sorted(tmp_path.rglob("*")) == kept


def test_an_adapter_that_drives_is_kept_however_old_it_is(tmp_path: Path) -> None:
    names = ["dynamics-1", *(f"policy-{k}" for k in range(1, KEPT_BUNDLES + 10))]
    memory = filled(tmp_path, names, drives="dynamics-1")
    assert acting(memory, ["dynamics-1"]) == {"dynamics": Made("dynamics-1", "dynamics", 1)}
    again = Memory(tmp_path, "b" * 64)
    assert [one.digest for one in again.known.made] == ["dynamics-1", *names[-KEPT_BUNDLES:]]
    assert again.student("dynamics-1").is_file() and bundle_folder(tmp_path, again.known.made[0]).is_dir()
    assert len(list((tmp_path / "bundles").iterdir())) == len(list((tmp_path / "students").iterdir())) == 33
    gone = {"acting": ["b" * 64, names[-1]]}
    again.keep(replace(again.known, report=gone))
    assert len(again.known.made) == KEPT_BUNDLES and not again.student("dynamics-1").exists()


@pytest.mark.parametrize("left", ["bundles", "students"])
def test_a_lost_state_is_told_and_nothing_is_removed(tmp_path: Path, left: str) -> None:
    filled(tmp_path, ["dynamics-1"])
    (tmp_path / STATE_FILE).unlink()
    shutil.rmtree(tmp_path / ("bundles" if left == "students" else "students"))
    for _ in range(2):
        with pytest.raises(
            ValueError, match=rf"{STATE_FILE}: is missing, though {left}/dynamics-0*1.* is there; restore"
        ):
            Memory(tmp_path, "b" * 64)
    assert list((tmp_path / left).iterdir())


def test_a_first_round_that_was_killed_is_no_loss(tmp_path: Path) -> None:
    memory = Memory(tmp_path, "b" * 64)
    assert read_known(tmp_path, "b" * 64) == Known("b" * 64), "before anything can be left behind"
    for name in (BASE, "c" * 64):
        memory.student(name).write_bytes(b"student")
    (tmp_path / "bundles" / "dynamics-000001").mkdir()
    assert Memory(tmp_path, "b" * 64).known.made == () and not list((tmp_path / "bundles").iterdir())
    assert [path.name for path in (tmp_path / "students").iterdir()] == [f"{BASE}.safetensors"]


def test_what_others_put_there_is_removed_or_told_and_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("bundles", "students"):
        (tmp_path / name).mkdir()
        (tmp_path / name / ".DS_Store").write_text("x")
    memory, elsewhere = filled(tmp_path, ["dynamics-1"]), tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").write_text("x")

    def stray() -> list[Path]:
        found = [tmp_path / "bundles" / "note.txt", tmp_path / "bundles" / "old", tmp_path / "students" / "folder"]
        found[0].write_text("x")
        found[1].symlink_to(elsewhere)
        found[2].mkdir()
        return found

    assert stray() and Memory(tmp_path, "b" * 64).known == memory.known
    assert [path.name for path in (tmp_path / "bundles").iterdir()] == ["dynamics-000001"]
    assert [path.name for path in (tmp_path / "students").iterdir()] == ["dynamics-1.safetensors"]
    assert (elsewhere / "kept").exists() and capsys.readouterr().err == ""

    def refused(path: object, *arguments: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "unlink", refused)
    monkeypatch.setattr(Path, "unlink", refused)
    monkeypatch.setattr(shutil, "rmtree", refused)
    found = stray()
    assert Memory(tmp_path, "b" * 64).known == memory.known
    told = capsys.readouterr().err
    assert all(f"{path}: is of no round and cannot be removed (Permission denied); remove" in told for path in found)


# ---------------------------------------------------------------- the loop


def test_the_loop_goes_through_its_phases_and_reports(place: Workplace) -> None:
    fill(place, random_episodes(40, 5, level=1.0))
    with worker(place.settings()) as channel:
        assert phases(heard(channel, is_phase(Phase.IDLE))) == ["idle"]
        channel.send_bytes(encode(WANTED))
        messages = heard(channel, is_round)
        order = [phase for phase in phases(messages) if phase not in ("idle", "collecting")]
        assert order == ["measuring", "updating", "gating", "bundling"]
        messages = heard(channel, is_phase(Phase.COLLECTING))
        assert isinstance(messages[-1], Status) and messages[-1].round == 1 and messages[-1].fresh < 100
        channel.send_bytes(encode(replace(WANTED, forced=1, strategy="none")))
        done = heard(channel, is_round)[-1]
    assert isinstance(done, RoundDone) and done.round == 2 and done.strategy == "none" and done.updated == []


def test_what_is_asked_for_takes_as_much_as_any_round_and_needs_less(place: Workplace) -> None:
    fill(place, random_episodes(40, 5))
    stretches = split(driven(random_episodes(40, 5), place.base))
    train = [len(one.episodes) for one in stretches if not one.episodes.held_out[0]]
    with worker(place.settings(decisions=1000, key_file="")) as channel:
        channel.send_bytes(encode(replace(WANTED, forced=1)))
        done = heard(channel, is_round)[-1]
    assert isinstance(done, RoundDone) and done.forced == 1
    assert (done.decisions, done.episodes) == (sum(train), len(train)) and 100 < sum(train) < 1000


def test_what_is_asked_for_during_a_round_comes_after_it(place: Workplace) -> None:
    fill(place, random_episodes(40, 5, level=1.0))
    with worker(place.settings()) as channel:
        channel.send_bytes(encode(WANTED))
        heard(channel, is_phase(Phase.UPDATING))
        channel.send_bytes(encode(replace(WANTED, strategy="none", forced=1)))
        first, second = heard(channel, is_round)[-1], heard(channel, is_round)[-1]
    assert isinstance(first, RoundDone) and isinstance(second, RoundDone)
    assert (first.round, first.strategy, first.forced) == (1, "model", 0)
    assert (second.round, second.strategy, second.forced) == (2, "none", 1)


def test_what_is_asked_for_during_a_round_that_was_asked_for_comes_after_it(place: Workplace) -> None:
    fill(place, random_episodes(40, 5, level=1.0))
    with worker(place.settings()) as channel:
        channel.send_bytes(encode(replace(WANTED, forced=1)))
        heard(channel, is_phase(Phase.UPDATING))
        channel.send_bytes(encode(replace(WANTED, strategy="none", forced=2)))
        first, second = heard(channel, is_round)[-1], heard(channel, is_round)[-1]
    assert isinstance(first, RoundDone) and isinstance(second, RoundDone)
    assert (first.forced, second.forced, second.strategy) == (1, 2, "none")


def test_a_replay_that_began_anew_is_new_driving(place: Workplace) -> None:
    memory = Memory(place.state_dir, place.base)
    memory.keep(replace(memory.known, round=7, last_chunk=500))
    fill(place, random_episodes(40, 5))
    newest = chunk_files(place.state_dir / "replay")[-1].index
    with worker(place.settings(key_file="")) as channel:
        channel.send_bytes(encode(WANTED))
        done = heard(channel, is_round)[-1]
        assert isinstance(done, RoundDone) and done.round == 8
        told = heard(channel, is_phase(Phase.COLLECTING))[-1]
    assert isinstance(told, Status) and told.fresh == 0
    known = read_known(place.state_dir, place.base)
    assert known is not None and known.last_chunk == newest < 500


def test_a_pause_holds_and_too_little_is_told(place: Workplace) -> None:
    end = fill(place, random_episodes(3, 5))
    with worker(place.settings()) as channel:
        channel.send_bytes(encode(replace(WANTED, forced=1)))
        told = heard(channel, lambda message: isinstance(message, Status) and "a round needs" in message.text)
        assert "training decisions in" in told[-1].text  # type: ignore[union-attr]
        channel.send_bytes(encode(replace(WANTED, paused=True)))
        heard(channel, is_phase(Phase.PAUSED))
        fill(place, random_episodes(40, 6, level=1.0), begin=end, number=3)
        for _ in range(2):  # of its Statuses, one a second
            told = heard(channel, lambda message: isinstance(message, Status))
            assert len(told) == 1 and phases(told) == ["paused"]
        channel.send_bytes(encode(WANTED))
        heard(channel, is_round)


def test_how_often_driving_was_cut_is_told(place: Workplace) -> None:
    *most, last, _ = driven(random_episodes(3, 5), place.base)
    with ReplayStore(place.state_dir / "replay", ReplayConfig(chunk_decisions=20)) as store:
        for one in (*most[:5], *most[6:], last):
            store.append(one)
    with worker(place.settings()) as channel:
        channel.send_bytes(encode(replace(WANTED, forced=1)))
        told = heard(channel, lambda message: isinstance(message, Status) and "a round needs" in message.text)[-1]
    assert isinstance(told, Status) and told.cuts == {"lost": 1, "end": 2, "stream": 1}


def test_after_a_pause_it_is_told_again_why_there_is_no_round(place: Workplace) -> None:
    """What there is has not changed, so it is not looked at again; that the pause is over is told all the same."""
    fill(place, random_episodes(3, 5))
    ours, theirs = Pipe(duplex=True)
    loop = Worker(place.settings(), theirs)
    loop._wish = replace(WANTED, forced=1)
    loop._collect()
    loop._tell(Phase.PAUSED, "paused; call ~/resume")
    loop._collect()
    told = [decode(ours.recv_bytes()) for _ in range(3) if ours.poll()]
    assert phases(told) == ["collecting", "paused", "collecting"]
    assert isinstance(told[-1], Status) and "a round needs" in told[-1].text and told[-1] == told[0]


def test_a_pause_holds_an_update_under_way(place: Workplace) -> None:
    fill(place, random_episodes(40, 5, level=1.0))
    with worker(place.settings()) as channel:
        channel.send_bytes(encode(WANTED))
        heard(channel, is_phase(Phase.MEASURING))
        channel.send_bytes(encode(replace(WANTED, paused=True)))
        told = heard(channel, is_phase(Phase.PAUSED))[-1]
        assert isinstance(told, Status) and "round 1 stands still in its update" in told.text
        channel.send_bytes(encode(WANTED))
        assert "updating" in phases(heard(channel, is_round))


def collected(place: Workplace, wish: Wish) -> tuple[Worker, list[Message]]:
    """A worker that has just been started and has looked twice for a round, and what it said."""
    ours, theirs = Pipe(duplex=True)
    loop = Worker(place.settings(key_file=""), theirs)
    loop._wish = wish
    for _ in range(2):
        loop._told_at = 0.0
        loop._collect()
    messages = []
    while ours.poll():
        messages.append(decode(ours.recv_bytes()))
    return loop, messages


def test_driving_that_a_round_fails_on_is_set_aside_for_good(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is on disk: a worker that ended would read it again at every start, and never finish another round."""
    end = fill(place, random_episodes(40, 5, level=1.0))
    newest = chunk_files(place.state_dir / "replay")[-1].index
    with monkeypatch.context() as patched:

        def fails(*arguments: object) -> None:
            raise ZeroDivisionError("planted\nin the material")

        patched.setattr("adawm_planner.finetuning.round.adapt_step", fails)
        told = collected(place, WANTED)[1][-1]
    assert isinstance(told, Status) and (told.phase, told.round, told.fresh) == ("collecting", 0, 0)
    wanted = f"round 1 failed on its driving (ZeroDivisionError: planted in the material): chunks up to {newest} of "
    assert told.trouble.startswith(wanted) and "are set aside" in told.trouble
    told = collected(place, replace(WANTED, forced=1))[1][-1]  # a new start knows of it
    assert isinstance(told, Status) and told.text == "no episode yet" and told.trouble.startswith(wanted)
    fill(place, random_episodes(40, 6, level=1.0), begin=end, number=40)
    loop, messages = collected(place, WANTED)
    [done] = [one for one in messages if isinstance(one, RoundDone)]
    assert done.round == 1 and isinstance(messages[-1], Status) and messages[-1].trouble == ""
    assert loop.memory.known.aside == newest and loop.memory.known.failed == ""


def test_a_lost_student_sets_no_driving_aside(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(place, random_episodes(40, 5, level=1.0))

    def lost(*arguments: object) -> None:
        raise LostStudentError("planted")

    monkeypatch.setattr("adawm_planner.finetuning.round.put_together", lost)
    with pytest.raises(LostStudentError, match="planted"):
        collected(place, WANTED)
    assert read_known(place.state_dir, place.base) == Known(place.base)


def test_memory_that_is_short_sets_no_driving_aside(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(place, random_episodes(40, 5, level=1.0))
    monkeypatch.setattr("adawm_planner.finetuning.round.adapt_step", lambda *arguments: torch.empty(10**15))
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        collected(place, WANTED)
    assert read_known(place.state_dir, place.base) == Known(place.base)


def test_a_full_disk_sets_no_driving_aside(place: Workplace) -> None:
    fill(place, random_episodes(40, 5, level=1.0))
    with no_larger_file(2_000), pytest.raises(OSError, match="File too large"):
        collected(place, WANTED)
    assert read_known(place.state_dir, place.base) == Known(place.base)


@pytest.mark.parametrize(
    ("error", "shown"), [(ValueError("what to do"), False), (OSError("full"), False), (KeyError("a mistake"), True)]
)
def test_only_a_mistake_of_ours_is_shown_with_its_trace(
    error: Exception, shown: bool, place: Workplace, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    ours, theirs = Pipe(duplex=True)
    ours.send_bytes(encode(place.settings()))
    monkeypatch.setattr(worker_process, "lower_priority", lambda *arguments: None)

    def fails(*arguments: object) -> None:
        raise error

    monkeypatch.setattr("adawm_planner.finetuning.worker.Worker", fails)
    assert worker_process.main([str(os.dup(theirs.fileno())), "0"]) == worker_process.FAILED_EXIT
    assert ("Traceback" in capfd.readouterr().err) is shown
    told = decode(ours.recv_bytes())
    assert isinstance(told, Trouble) and str(error) in told.text


# ---------------------------------------------------------------- death


def waits_of(supervisor: Supervisor, now: list[float], deaths: int) -> list[float]:
    """How long it waits after each of so many deaths; `now` is its clock."""
    waits = []
    for number in range(deaths):
        deadline = time.monotonic() + HANG_S
        while supervisor.deaths == number and time.monotonic() < deadline:
            supervisor.poll()
            time.sleep(0.02)
        waits.append(supervisor.restart_in_s)
        now[0] += waits[-1]
    supervisor.stop()
    return waits


def test_a_worker_that_cannot_work_says_why_and_is_started_again_later_and_later(place: Workplace) -> None:
    now = [0.0]
    supervisor = Supervisor(place.settings(preset="nonsense"), clock=lambda: now[0])
    assert waits_of(supervisor, now, 2) == [1.0, 2.0]
    assert "exit code 3" in supervisor.last_death and "no preset 'nonsense'" in supervisor.last_death


def test_the_worker_runs_nothing_that_lies_where_its_node_was_started(
    place: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads the signing key."""
    (tmp_path / "torch.py").write_text("raise SystemExit('foreign code ran')")
    monkeypatch.chdir(tmp_path)
    now = [0.0]
    supervisor = Supervisor(place.settings(preset="nonsense"), clock=lambda: now[0])
    waits_of(supervisor, now, 1)
    assert "no preset 'nonsense'" in supervisor.last_death


def test_a_worker_that_a_signal_without_a_name_ended_is_started_again(place: Workplace) -> None:
    code, now = "import os, signal; os.kill(os.getpid(), signal.SIGRTMIN + 1)", [0.0]
    supervisor = Supervisor(place.settings(), [sys.executable, "-c", code], clock=lambda: now[0])
    assert waits_of(supervisor, now, 2) == [1.0, 2.0]
    assert supervisor.last_death == f"the worker was ended by signal {signal.SIGRTMIN + 1}"


def test_a_worker_that_cannot_be_started_is_tried_again_later_and_later(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*arguments: object, **options: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    now = [0.0]
    supervisor = Supervisor(place.settings(), [sys.executable, "-c", ""], clock=lambda: now[0])
    open_before = len(list(Path("/proc/self/fd").iterdir()))
    with monkeypatch.context() as patched:
        patched.setattr("adawm_planner.finetuning.supervisor.subprocess.Popen", none_left)
        for deaths, wait in ((1, 1.0), (2, 2.0)):
            assert supervisor.poll() == [] and supervisor.pid is None and supervisor.deaths == deaths
            assert supervisor.restart_in_s == wait
            now[0] += wait
    assert "cannot be started ([Errno 11] Resource temporarily unavailable)" in supervisor.last_death
    assert len(list(Path("/proc/self/fd").iterdir())) == open_before
    supervisor.poll()
    assert supervisor.pid is not None
    supervisor.stop()


def test_a_worker_that_reads_nothing_holds_up_nobody_and_hears_the_newest_wish(
    place: Workplace, tmp_path: Path
) -> None:
    """As while it judges an update, and somebody asks for a round again and again."""
    code = (
        "import sys, time; from pathlib import Path; from multiprocessing.connection import Connection;"
        "from adawm_planner.finetuning.messages import Trouble, decode, encode; c = Connection(int(sys.argv[1]));"
        "c.recv_bytes()\n"
        f"while not Path({str(tmp_path / 'reads')!r}).exists(): time.sleep(0.02)\n"
        "while decode(c.recv_bytes()).forced < 5000: pass\n"
        "c.send_bytes(encode(Trouble('heard it'))); time.sleep(600)"
    )
    supervisor = Supervisor(place.settings(), [sys.executable, "-c", code])

    def ask() -> None:
        for number in range(5001):
            supervisor.want(replace(WANTED, forced=number))

    asking, heard_of = threading.Thread(target=ask, daemon=True), list[Message]()
    try:
        supervisor.poll()
        asking.start()
        asking.join(HANG_S)
        assert not asking.is_alive(), "the node stands still"
        (tmp_path / "reads").touch()
        deadline = time.monotonic() + HANG_S
        while not heard_of and time.monotonic() < deadline:
            heard_of = supervisor.poll()
            time.sleep(0.02)
    finally:
        supervisor.stop()
    assert heard_of == [Trouble("heard it")]


def test_how_long_a_worker_says_nothing_and_in_what_phase(place: Workplace) -> None:
    code = (
        "import sys, time; from multiprocessing.connection import Connection;"
        "from adawm_planner.finetuning.messages import Status, encode; c = Connection(int(sys.argv[1]));"
        "c.recv_bytes(); c.recv_bytes(); c.send_bytes(encode(Status('gating', '', 0, 0))); time.sleep(600)"
    )
    now = [0.0]
    supervisor = Supervisor(place.settings(), [sys.executable, "-c", code], clock=lambda: now[0])
    try:
        assert supervisor.silent_s == 0.0, "there is none"
        now[0] = 5.0
        supervisor.poll()
        assert (supervisor.silent_s, supervisor.phase) == (0.0, "starting")
        now[0] = 12.0
        assert supervisor.poll() == [] and supervisor.silent_s == 7.0
        supervisor.want(WANTED)
        deadline = time.monotonic() + HANG_S
        while not supervisor.poll() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert (supervisor.silent_s, supervisor.phase) == (0.0, "gating")
        now[0] += 200.0
        assert supervisor.poll() == [] and supervisor.silent_s == 200.0 and supervisor.pid is not None
    finally:
        supervisor.stop()


def test_an_old_round_told_anew_is_no_progress(place: Workplace) -> None:
    old = RoundDone(3, "adawm", 1, 1, {}, 1.0, "nothing", [], "", [], None, "", "")
    code = (
        "import sys; from multiprocessing.connection import Connection; c = Connection(int(sys.argv[1]));"
        f"c.recv_bytes(); c.send_bytes(bytes.fromhex('{encode(old).hex()}')); sys.exit(3)"
    )
    now = [0.0]
    supervisor = Supervisor(place.settings(), [sys.executable, "-c", code], clock=lambda: now[0])
    assert waits_of(supervisor, now, 3) == [1.0, 2.0, 4.0]


def test_the_worker_is_nice_to_other_sessions_too(place: Workplace) -> None:
    """In the session of its node its niceness would count within that session alone."""
    supervisor = Supervisor(place.settings(nice=19))
    try:
        supervisor.poll()
        pid = supervisor.pid
        assert pid is not None and os.getsid(pid) == pid
        group = Path(f"/proc/{pid}/autogroup")

        def lowered() -> bool:
            of_group = not group.exists() or group.read_text().split()[-1] == "19"
            return (
                os.getpriority(os.PRIO_PROCESS, pid) == 19 and of_group and os.sched_getscheduler(pid) == os.SCHED_IDLE
            )

        deadline = time.monotonic() + HANG_S
        while not lowered():
            assert time.monotonic() < deadline, "its niceness did not change"
            time.sleep(0.02)
    finally:
        supervisor.stop()


def test_the_worker_is_nice_before_it_loads_anything_large() -> None:
    """Its imports are seconds of work at every start, and a planner drives beside them."""
    code = "import sys, adawm_planner.finetuning.worker_process; print({'torch', 'numpy', 'peft'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=HANG_S)
    assert done.stdout == "set()\n"


def test_the_worker_ends_with_its_node(place: Workplace) -> None:
    """Killed, the node cannot tell it to."""
    code = (
        "import sys, time; from adawm_planner.finetuning.supervisor import Supervisor;"
        "from adawm_planner.finetuning.messages import Status, decode; s = Supervisor(decode(sys.argv[1].encode()))\n"
        "while not any(isinstance(each, Status) for each in s.poll()): time.sleep(0.05)\n"
        "print(s.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, encode(place.settings()).decode()], stdout=subprocess.PIPE
    ) as node:
        assert node.stdout is not None
        pid = int(node.stdout.readline())
        command = Path(f"/proc/{pid}/cmdline")
        assert command.read_bytes()
        node.kill()
    deadline = time.monotonic() + HANG_S
    while command.exists() and command.read_bytes():
        assert time.monotonic() < deadline, "the worker outlives its node"
        time.sleep(0.05)


def test_two_bundles_of_one_counter_never_exist_and_a_torn_round_leaves_nothing(place: Workplace) -> None:
    workshop, memory = Workshop(place.settings()), Memory(place.state_dir, place.base)
    done = one_round(place, workshop, memory, "model", material(place))
    state = (place.state_dir / STATE_FILE).read_bytes()
    one_round(place, workshop, memory, "model", material(place))
    (place.state_dir / STATE_FILE).write_bytes(state)  # as if it had been killed just before its last step
    memory = Memory(place.state_dir, place.base)
    assert [one.digest for one in memory.known.made] == [done.produced]
    assert sorted(path.name for path in (place.state_dir / "bundles").iterdir()) == ["dynamics-000001"]
    again = one_round(place, workshop, memory, "model", material(place))
    assert again.produced and memory.known.made[-1].counter == 2
    assert bundle_folder(place.state_dir, memory.known.made[-1]).is_dir()
