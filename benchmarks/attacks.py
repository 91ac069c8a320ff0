"""Hostile updates at a planner that drives: each refused with its reason, and what they cost the tick.

The planner's own core, loop, swap thread and store, in one process. Blocks without a push alternate with blocks in
which one attack of every kind after the other is pushed, each as soon as the one before was refused, and with blocks of
a flood: many at every tick, more than can be looked at. Each decision is computed again, bit for bit, by an engine of
its own that holds the live adapter. What the transport does with a message before it is handed over is not in it.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import click
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from rich.console import Console
from rich.table import Table

from adawm_planner.adapters.base_model import read_base_model
from adawm_planner.adapters.bundle import MANIFEST_FILE, Draft, Files, build_bundle, sign_bundle
from adawm_planner.adapters.factors import PARTS
from adawm_planner.adapters.keys import key_id
from adawm_planner.adapters.manifest import bundle_digest
from adawm_planner.adapters.refusal import Reason
from adawm_planner.adapters.store import AdapterStore
from adawm_planner.adapters.verify import Context, VerifiedAdapter, verify
from adawm_planner.cli.options import FiniteRange, json_option, seed_option
from adawm_planner.config.adapters import AdapterLimits
from adawm_planner.config.hot_swap import SwapConfig
from adawm_planner.paths import default_model_dir
from adawm_planner.result_file import write_json
from adawm_planner.runtime.engine import OnnxEngine
from adawm_planner.runtime.swap import messages as m
from adawm_planner.runtime.swap.hot_swap import HotSwap
from adawm_planner.runtime.swap.thread import GIL_SWITCH_S, SwapThread
from benchmarks.forgery import hostile
from benchmarks.record import percentiles, with_origin
from benchmarks.swap import Car, References, Ticks, drive, random_factors

NOW = 1_800_000_000
FLOOD = 20
"""Pushes per tick of a flood."""

DRAIN_S = 30.0
"""What waits at the end of a block is refused within this, or the run is given up."""

MODES = ("quiet", "attacked", "flooded")


@dataclass
class Attacker:
    """Pushes, and notes what became of each; called before every tick of a block."""

    thread: SwapThread
    attacks: list[tuple[Reason, Files]]
    sent: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)  # refused for another reason than its own
    _expected: Reason | None = None  # of the push whose answer is awaited

    def push(self, files: Files) -> None:
        """One update as it comes over the wire."""
        digest = bundle_digest(files[MANIFEST_FILE]) if MANIFEST_FILE in files else ""
        self.thread.post(m.Push(lambda: (list(files.items()), digest)))
        self.sent += 1

    def one_by_one(self) -> None:
        """The next attack, once the one before has been refused."""
        if self.answered():
            self._expected, files = self.attacks[self.sent % len(self.attacks)]
            self.push(files)

    def flood(self) -> None:
        """Many of the attack that is found out last."""
        for _ in range(FLOOD):
            self.push(self.attacks[-1][1])

    def answered(self) -> bool:
        """Whether everything sent so far was refused; notes the reason of the one that was awaited."""
        report = self.thread.report
        if report.refusals < self.sent:
            return False
        if self._expected is not None:
            told = report.last_refusal.partition(":")[0]
            self.reasons[told] += 1
            if told != self._expected.value:
                self.wrong.append(f"{self._expected.value}, told was: {report.last_refusal}")
            self._expected = None
        return True

    def drain(self) -> None:
        """Wait until everything was refused. Raises ClickException for what is not."""
        until = time.monotonic() + DRAIN_S
        while not self.answered():
            if time.monotonic() > until:
                raise click.ClickException(
                    f"{self.thread.report.refusals} of {self.sent} pushes refused, the rest hang"
                )
            time.sleep(0.01)


@dataclass(frozen=True)
class Siege:
    """A planner that drives with a committed adapter, and what is thrown at it."""

    live: VerifiedAdapter
    swap: HotSwap
    car: Car
    attacks: list[tuple[Reason, Files]]


def prepare(model_dir: Path, root: Path, seed: int) -> Siege:
    """The planner with its store at `root`, whose committed adapter drives; the attacks follow on that adapter."""
    base, key = OnnxEngine(model_dir, "cpu"), Ed25519PrivateKey.generate()
    session = base.planner_session
    described = read_base_model(model_dir, session)
    context = Context(described, {key_id(key.public_key()): key.public_key()})
    factors = {part: random_factors(described, part, 8, seed) for part in PARTS}
    draft = Draft("live", "policy", described.digest, 7, NOW - 60, expires_unix_s=NOW + 86_400)
    good = sign_bundle(build_bundle(draft, factors["policy"], session, AdapterLimits()), key)
    live = verify(good, context, NOW)
    assert isinstance(live, VerifiedAdapter), live
    with AdapterStore(root, NOW) as store:
        store.install(live, NOW)
        store.activate(live.digest, NOW)
        store.commit("policy", NOW)
    swap = HotSwap(base, AdapterStore(root, NOW), context, SwapConfig(), lambda: car.core.history, lambda: NOW)
    car = Car(swap.restored, seed)
    following = Draft("next", "policy", described.digest, 8, NOW - 60, expires_unix_s=NOW + 86_400)
    return Siege(live, swap, car, list(hostile(following, good, factors, session, key)))


def besiege(model_dir: Path, root: Path, blocks: int, block: int, tick_s: float, seed: int) -> dict[str, Any]:
    """Drive `blocks` times through the three modes, `block` ticks of `tick_s` [s] each; `root` is for the store."""
    siege = prepare(model_dir, root, seed)
    thread = SwapThread(siege.swap, siege.car.loop)
    attacker = Attacker(thread, siege.attacks)
    acts = {"quiet": lambda: None, "attacked": attacker.one_by_one, "flooded": attacker.flood}

    def go_on(mode: str, count: int) -> bool:
        if count == block:
            return False
        acts[mode]()
        return True

    references = References(model_dir, ((siege.live,),))
    parts: dict[str, list[tuple[Ticks, int]]] = {mode: [] for mode in MODES}
    try:
        for _ in range(blocks):
            for mode in MODES:
                sent = attacker.sent
                ticks = drive(siege.car, thread, references, tick_s, partial(go_on, mode))
                parts[mode].append((ticks, attacker.sent - sent))
                attacker.drain()
        report = thread.report
    finally:
        thread.close()
    return {
        "sent": attacker.sent,
        "refused": report.refusals,
        "reasons": dict(attacker.reasons),
        "wrong_reasons": attacker.wrong,
        "swaps": report.swaps,
        "live_untouched": tuple(each.digest for each in report.adapters) == (siege.live.digest,),
        **{mode: summary(parts[mode]) for mode in MODES},
    }


def summary(blocks: list[tuple[Ticks, int]]) -> dict[str, Any]:
    """All blocks of a mode as one."""
    return {
        "ticks": sum(len(ticks.tick_ms) for ticks, _ in blocks),
        "pushes": sum(pushed for _, pushed in blocks),
        "missed_ticks": sum(ticks.missed for ticks, _ in blocks),
        "decisions": sum(ticks.decisions for ticks, _ in blocks),
        "mixtures": sum(ticks.mixtures for ticks, _ in blocks),
        "tick_ms": percentiles([each for ticks, _ in blocks for each in ticks.tick_ms]),
    }


@click.command()
@click.option("--blocks", type=click.IntRange(min=1), default=4, show_default=True, help="Blocks of each mode.")
@click.option("--block", type=click.IntRange(min=8), default=600, show_default=True, help="Ticks of a block.")
@click.option("--tick-ms", type=FiniteRange(min=1.0), default=50.0, show_default=True, help="Period of a tick.")
@seed_option(0)
@json_option
def attacks(blocks: int, block: int, tick_ms: float, seed: int, json_file: Path | None) -> None:
    """Hostile updates at a driving planner: refusals, the live adapter, the tick's time."""
    sys.setswitchinterval(GIL_SWITCH_S)  # as the planner does
    logging.getLogger("adawm_planner").setLevel(logging.CRITICAL)  # thousands of refusals
    with tempfile.TemporaryDirectory(prefix="adawm_attacks_") as folder:
        figures = besiege(default_model_dir(), Path(folder) / "store", blocks, block, 1e-3 * tick_ms, seed)
    show(figures | {"tick_period_ms": tick_ms})
    document = {"seed": seed, "tick_period_ms": tick_ms, "flood_per_tick": FLOOD, **figures}
    write_json(json_file, with_origin("attacks", document, ("onnxruntime", "numpy", "cryptography")))
    found = broken(figures)
    if found:
        raise click.ClickException("; ".join(found))


def broken(figures: dict[str, Any]) -> list[str]:
    """What must not be, in words. A missed tick is a figure of the machine and none of these."""
    found = [f"refused for another reason than {each}" for each in figures["wrong_reasons"]]
    if figures["refused"] != figures["sent"]:
        found.append(f"{figures['sent'] - figures['refused']} of {figures['sent']} hostile updates were not refused")
    if figures["swaps"] or not figures["live_untouched"]:
        found.append(f"the live adapter is not what it was ({figures['swaps']} swaps)")
    mixtures = sum(figures[mode]["mixtures"] for mode in MODES)
    if mixtures:
        found.append(f"{mixtures} decisions are not those of the live adapter")
    return found


def show(figures: dict[str, Any]) -> None:
    """Print a row per mode, and what was refused."""
    view = Table(title=f"ticks of {figures['tick_period_ms']:g} ms")
    for column in ("", "ticks", "pushes", "missed", "mixtures", "p50 ms", "p99 ms", "p99.9 ms", "max ms"):
        view.add_column(column, justify="right" if column else "left")
    for mode in MODES:
        row = figures[mode]
        counts = (f"{row[name]:,}" for name in ("ticks", "pushes", "missed_ticks", "mixtures"))
        view.add_row(mode, *counts, *(f"{row['tick_ms'][name]:.2f}" for name in ("p50", "p99", "p99.9", "max")))
    console = Console()
    console.print(view)
    kinds = len(figures["reasons"])
    console.print(
        f"{figures['refused']:,} of {figures['sent']:,} refused, {kinds} reasons; the live adapter is "
        + ("untouched" if figures["live_untouched"] and not figures["swaps"] else "NOT what it was"),
        highlight=False,
    )


if __name__ == "__main__":
    attacks()
