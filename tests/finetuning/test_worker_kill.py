"""A worker is killed at random moments; what it leaves is whole, and the next one goes on where it was."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

pytest.importorskip("torch")

from adawm_planner.adapters.base_model import read_base_model
from adawm_planner.adapters.keys import read_trust
from adawm_planner.adapters.verify import Context, VerifiedAdapter, verify_folder
from adawm_planner.finetuning.memory import Known, bundle_folder, read_known
from adawm_planner.finetuning.messages import Gone, RoundDone, Settings, Wish, decode, encode
from adawm_planner.finetuning.worker import Worker
from tests.adaptation.conftest import random_episodes
from tests.finetuning.workplace import Workplace, fill

KILLS = int(os.environ.get("ADAWM_KILLS", "20"))
WHOLE_S = 60.0
"""Longest life that is waited for [s]."""

FORK = multiprocessing.get_context("fork")  # torch is loaded once
WANTED = Wish(active=True, paused=False, strategy="model", forced=1)


def live(settings: Settings, channel: Connection) -> None:
    try:
        Worker(settings, channel).run()
    except Gone:
        os._exit(0)


def run_and_kill(settings: Settings, seconds: float) -> list[int]:
    """Rounds that a worker told of before it was killed that long after its start; with WHOLE_S at its first round."""
    ours, theirs = FORK.Pipe()
    process = FORK.Process(target=live, args=(settings, theirs))
    process.start()
    theirs.close()
    ours.send_bytes(encode(WANTED))
    told, deadline = list[int](), time.monotonic() + seconds
    while time.monotonic() < deadline and (seconds < WHOLE_S or not told):
        if ours.poll(min(max(deadline - time.monotonic(), 0.0), 0.05)):
            message = decode(ours.recv_bytes())
            if isinstance(message, RoundDone):
                told.append(message.round)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    ours.close()
    return told


def test_a_kill_at_any_moment_leaves_a_whole_memory_that_the_next_worker_goes_on_from(place: Workplace) -> None:
    settings, rng, before = place.settings(decisions=20), random.Random(0), Known(place.base)
    context = Context(read_base_model(place.model_dir), read_trust([place.key.with_suffix(".pub")]))
    begin = fill(place, random_episodes(40, 0, level=1.0))
    number, left, grown, begun = 40, 0, 0, time.monotonic()
    run_and_kill(settings, WHOLE_S)
    latest, before = 1.3 * (time.monotonic() - begun), read_known(place.state_dir, place.base) or before
    for life in range(KILLS):
        told = run_and_kill(settings, rng.uniform(0.0, latest))
        known = read_known(place.state_dir, place.base) or Known(place.base)
        assert before.round <= known.round <= before.round + 1
        assert all(each <= known.round for each in told), "a round was told of before it was on disk"
        assert known.made[: len(before.made)] == before.made
        assert [one.counter for one in known.made] == list(range(1, len(known.made) + 1))
        for one in known.made:
            found = verify_folder(bundle_folder(place.state_dir, one), context, int(time.time()), one.digest)
            assert isinstance(found, VerifiedAdapter), found
            assert (place.state_dir / "students" / f"{one.digest}.safetensors").stat().st_size
        left += torn(place.state_dir, known)
        if known.round > before.round:
            begin = fill(place, random_episodes(2, 100 + life, level=1.0), begin=begin, number=number)
            number, grown = number + 2, grown + 1
        # How long a round takes changes with what else the machine does: kills come later until one finishes.
        latest = min(WHOLE_S, latest * (0.9 if known.round > before.round else 1.15))
        before = known
    fill(place, random_episodes(2, 99, level=1.0), begin=begin, number=number)
    assert max(run_and_kill(settings, WHOLE_S)) >= before.round, "no round after all the kills"
    assert 0 < grown < KILLS, "every kill came too late, or too early"
    known = read_known(place.state_dir, place.base) or before
    assert torn(place.state_dir, known) == 0 and known.made
    print(f"{KILLS} kills, {grown} rounds finished, {left} times something unfinished was left and removed")


def torn(folder: Path, known: Known) -> int:
    """Whether a killed round left files that state.json does not name."""
    bundles = {bundle_folder(folder, one).name for one in known.made}
    students = {f"{one.digest}.safetensors" for one in known.made} | {"base.safetensors"}
    found = {path.name for name in ("bundles", "students") for path in folder.glob(f"{name}/*")}
    return int(bool(found - bundles - students))
