"""`adawm benchmark promises`: what is promised, what proves it, and how far: the table of docs/reliability.md.

Figures are read from committed results or computed from the code, never typed; where a result is missing the page says
so. Nothing is measured here.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from adawm_planner.adapters.refusal import Reason
from adawm_planner.cli.options import json_option
from adawm_planner.diagnosis.check import RULES as FINDINGS
from adawm_planner.dims import FRAME_S
from adawm_planner.faults.table import INPUT_LIMIT_S, Due, find
from adawm_planner.result_file import write_json, write_text
from adawm_planner.runtime.input_monitor import FAULTS as FAULTS_OF_INPUTS
from adawm_planner.safety.rss import safe_distance_lateral, safe_distance_same_direction
from adawm_planner.safety.verdict import RULES
from benchmarks import targets
from benchmarks.record import ROOT, with_origin
from benchmarks.targets import within

RESULTS = Path("benchmarks") / "results"
Document = Mapping[str, Any]

PACED = "latency/right_turn_moderate_gate_realtime.json"
SOAK, LATER = "soak/soak.json", "soak/soak_after.json"
FAULTS = "safety/faults.json"
FUZZ = "safety/fuzz.json"
MUTATION = "safety/mutation.json"
STOPPING = "safety/stopping.json"
GATE_STEP = "safety/gate_step.json"
SIDECAR = "finetuning/sidecar.json"
SWAP = "adapters/swap.json"
ATTACKS = "adapters/attacks.json"

INTRODUCTION = """# Promises, and what shows them

Each row is a promise, the tests and commands that prove it, the target, and what was measured. Written by
`adawm benchmark promises --page docs/reliability.md` from `benchmarks/promises.py`; every figure comes from a committed
file under `benchmarks/results/`, which says which command and machine made it, or is computed from the code. It is a
figure of the commit that is named beside its file: what was changed since then is not in it.

- **met**: the tests hold it, and every figure is within its target at its commit.
- **in part**: so far, and something of the promise is not shown; the last column says what.
- **not met**: a figure is beyond its target; where it has a 95 % interval, all of that.
- **not shown**: the interval of a figure lies on both sides of its target.
- **not measured yet**: a result that belongs to it is not there.

Tests are named as pytest does, without `tests/`; `make test` has all that they need. A target that is not reached is
in bold type.
"""


class State(Enum):
    """How far a promise is shown."""

    MET = "met"
    IN_PART = "in part"
    NOT_MET = "not met"
    NOT_SHOWN = "not shown"
    NOT_MEASURED = "not measured yet"


class Sense(Enum):
    """On which side of its target a figure has to be."""

    AT_MOST = "≤"
    AT_LEAST = "≥"


@dataclass(frozen=True)
class Figure:
    """One number against its target."""

    what: str
    read: Callable[[Document], float]  # of the file's document; raises KeyError where it lacks the figure
    target: float
    unit: str = ""
    sense: Sense = Sense.AT_MOST
    digits: int = 2
    file: str = ""  # under benchmarks/results; empty: computed from the code
    ci95: Callable[[Document], Sequence[float]] | None = None  # where it has an interval, as `read`

    @property
    def known(self) -> bool:
        """Whether its file is there."""
        return not self.file or (ROOT / RESULTS / self.file).is_file()

    def document(self) -> Document:
        """What its file holds; it must be there."""
        text = (ROOT / RESULTS / self.file).read_text(encoding="utf-8") if self.file else "{}"
        found: Document = json.loads(text)
        return found

    def value(self) -> float:
        """The figure; its file must be there."""
        return float(self.read(self.document()))

    def interval(self) -> tuple[float, float]:
        """Its 95 % interval, or itself twice."""
        low, high = self.ci95(self.document()) if self.ci95 else (self.value(),) * 2
        return float(low), float(high)

    def kept(self) -> bool | None:
        """Whether it is within its target; None: its interval shows neither."""
        low, high = self.interval()
        if self.sense is Sense.AT_LEAST:
            return within((-high, -low), -self.target)
        return within((low, high), self.target)

    def line(self) -> str:
        """What, value, target and origin."""
        unit = f" {self.unit}" if self.unit else ""
        if not self.known:
            return f"{self.what}: not measured yet (`{self.file}`)"
        origin = f" (`{self.file}` at {self.document()['commit'][:7]})" if self.file else ""
        ci95 = " ({:.{digits}f} to {:.{digits}f})".format(*self.interval(), digits=self.digits) if self.ci95 else ""
        shown = f"{self.value():,.{self.digits}f}{ci95}{unit}, {self.sense.value} {self.target:,.10g}{unit}"
        verdict = {True: shown, False: f"**{shown}**", None: f"{shown}, not shown"}[self.kept()]
        return f"{self.what}: {verdict}{origin}"


@dataclass(frozen=True)
class Promise:
    """One row; without figures and without anything held it is not measured."""

    number: int
    promise: str
    target: str
    tests: tuple[str, ...]  # FILE::FUNCTION under tests/
    figures: tuple[Figure, ...] = ()
    held: str = ""  # figures that the tests themselves fail beyond
    commands: tuple[str, ...] = ()
    lacking: str = ""  # what of it is not shown

    @property
    def state(self) -> State:
        """How far it is shown."""
        kept = [each.kept() for each in self.figures if each.known]
        if False in kept:
            return State.NOT_MET
        if len(kept) < len(self.figures) or not (kept or self.held):
            return State.NOT_MEASURED
        if None in kept:
            return State.NOT_SHOWN
        return State.IN_PART if self.lacking else State.MET


def _worst(*names: str, key: str = "braked_s") -> Callable[[Document], float]:
    """The largest of a figure over faults; infinite where one of them has none."""

    def read(document: Document) -> float:
        rows = {row["fault"]: row for row in document["rows"]}
        values = [rows[name][key] for name in names]
        return max(float("inf") if value is None else float(value) for value in values)

    return read


def _stops_without_standstill(document: Document) -> float:
    due = [row for row in document["rows"] if find(row["fault"]).promise.due is Due.STOP]
    return sum(row["standstill_s"] is None for row in due)


def _way(acceleration: float) -> Callable[[Document], float]:
    """Longest way to standstill of the nominal vehicle without a planner [m]."""

    def read(document: Document) -> float:
        rows = [
            row
            for row in document["rows"]
            if (row["gone"], row["vehicle"], row["acceleration"]) == ("the planner", "nominal", acceleration)
        ]
        return max(float(row["stands_m"]) for row in rows)

    return read


def _period(key: str, what: str, unit: str = "") -> Figure:
    return Figure(what, lambda d: abs(d["period"]["planner"][key]), targets.PERIOD[key], unit, digits=3, file=PACED)


def _inference(key: str, what: str) -> Figure:
    limit = targets.INFERENCE_MS[key]
    return Figure(what, lambda d: d["stages_ms"]["planner"]["inference"][key], limit, "ms", digits=1, file=PACED)


def _faults(what: str, read: Callable[[Document], float], target: float, unit: str = "", digits: int = 2) -> Figure:
    return Figure(what, read, target, unit, digits=digits, file=FAULTS)


def _in_frames(what: str, *names: str) -> Figure:
    """Braking after faults of the inputs, judged as the campaign does."""
    return _faults(what, _worst(*names, key="braked_frames"), round(INPUT_LIMIT_S / FRAME_S), "frames", 0)


def _swap(what: str, key: str, target: float) -> Figure:
    return Figure(what, lambda d: d[key], target, digits=0, file=SWAP)


def _broken(name: str) -> Callable[[Document], float]:
    """1 if the promise at a fault was not kept, else 0."""
    return lambda document: float(next(bool(row["broken"]) for row in document["rows"] if row["fault"] == name))


def _missed_more(document: Document) -> float:
    return float(document["with_ms"]["missed_ticks"] - document["without_ms"]["missed_ticks"])


def _slowed(what: str, over: str) -> Figure:
    def found(document: Document) -> Document:
        ratio: Document = document[over]["p99.9"]
        return ratio

    return Figure(
        what, lambda d: found(d)["ratio"], targets.SIDECAR_RATIO, file=SIDECAR, ci95=lambda d: found(d)["ci95"]
    )


def _growth(what: str, process: str, file: str) -> Figure:
    def found(document: Document) -> Document:
        growth: Document | None = document["processes"][process]["growth"]
        if growth is None:
            raise ValueError(f"{file}: {process} has no growth, the run was too short; measure it again for an hour")
        return growth

    limit = targets.GROWTH_PERCENT
    return Figure(what, lambda d: found(d)["percent_per_hour"], limit, "%", file=file, ci95=lambda d: found(d)["ci95"])


def _rss_error(document: Document) -> float:
    """Largest difference between the code and the formulas written out, at 50 km/h and side by side [m]."""
    v = 50.0 / 3.6
    same = v + 3.5 / 2.0 + (v + 3.5) ** 2 / 8.0 - v**2 / 16.0
    beside = (0.1 + 0.2**2 / 1.6) + (0.4 + 0.4**2 / 1.6) + 0.1
    found = (
        float(safe_distance_same_direction(v, v, 1.0, 3.5, 4.0, 8.0)),
        float(safe_distance_lateral(0.0, 0.0, 1.0, 2.0, 0.2, 0.8, 0.1)),
    )
    return max(abs(found[0] - same), abs(found[1] - beside))


def functions(file: str) -> tuple[str, ...]:
    """Names of the test functions of a file under tests/."""
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    return tuple(node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"))


_INPUTS = ("odometry", "objects", "vehicle_status")
_ALONE = tuple(f"{topic}_{kind}" for topic in _INPUTS for kind in ("kill", "freeze", "slow_10", "slow_4", "delay_10"))
_ALL = ("everything_kill", "everything_freeze", "everything_slow_10")
_PROCESSES = (
    ("planner", "adawm_planner"),
    ("gate", "adawm_gate"),
    ("finetuner", "adawm_finetuner"),
    ("finetuner's worker", "adawm_finetuner worker"),
)
_DEAD = ("planner_kill", "planner_sigstop", "planner_busy_loop")

PROMISES = (
    Promise(
        1, "Commands come at their rate", "mean period within 1 % of 0.05 s, largest gap 1.5 periods, RSD 0.10",
        ("cli/test_benchmark.py::test_latency_answers_every_frame_and_gives_ratios",
         "benchmarks/test_latency.py::test_period_is_measured_in_frames",
         "runtime/test_planner_loop.py::test_one_answer_per_frame_with_its_stamp",
         "ros/test_gate_node.py::test_one_command_per_frame_and_the_gate_alone_publishes_them"),
        (_period("mean_error", "error of the mean period", "of 0.05 s"),
         _period("largest_gap", "largest gap", "periods"),
         _period("rsd", "RSD")),
        commands=(f"adawm benchmark latency --gate --realtime --frames 6000 --seed 4000 --json {RESULTS / PACED}",),
        lacking="rclpy's single-threaded executor alone: its experimental events executor ends the node at an adapter "
        "service (docs/planner_node.md); the largest gap is one of 6,000 frames, and was 1.61 periods in another run "
        "at the same commit",
    ),
    Promise(
        2, "Inference fits into the cycle", "35 ms at most, the mean 25 ms, on the CPU",
        ("cli/test_benchmark.py::test_latency_answers_every_frame_and_gives_ratios",
         "runtime/test_stages.py::test_stages_last_from_cut_to_cut"),
        (_inference("max", "longest inference"), _inference("mean", "mean inference")),
        commands=(f"adawm benchmark latency --gate --realtime --frames 6000 --seed 4000 --json {RESULTS / PACED}",),
        lacking="no budget for an accelerator: none was measured",
    ),
    Promise(
        3, "An input that is gone, frozen, slow or late stops the vehicle", "braking within 3 periods and 0.3 s",
        ("faults/test_stack.py::test_a_topic_that_is_gone_ends_in_an_emergency_stop",
         "runtime/test_gate_loop.py::test_a_missing_part_brakes_and_is_named",
         "runtime/test_gate_loop.py::test_silence_brakes_again_and_again_in_real_time_and_becomes_an_emergency_stop",
         "safety/test_inputs.py::test_what_is_late_is_named_with_its_age_and_its_limit",
         "safety/test_gate.py::test_faults_that_come_and_go_become_a_stop_in_the_end"),
        (_faults("longest of each input alone", _worst(*_ALONE), 0.3, "s"),
         _faults("the same in frames", _worst(*_ALONE, key="braked_frames"), 3.0, "frames", 0),
         _faults("all inputs at once", _worst(*_ALL), 0.3, "s"),
         _faults("the same in frames", _worst(*_ALL, key="braked_frames"), 3.0, "frames", 0)),
        commands=("adawm faults",),
        lacking="a delay that all topics share and that does not change, which the gate cannot see; one run per fault",
    ),
    Promise(
        4, "A dead or hung planner stops the vehicle", "braking within 0.25 s",
        ("faults/test_stack.py::test_a_killed_planner_is_stopped_for_and_its_silence_is_the_reason",
         "ros/test_gate_node.py::test_a_killed_planner_is_braked_for_by_the_gate_process",
         "runtime/test_gate_loop.py::test_a_dead_planner_is_answered_for_within_a_quarter_of_a_second"),
        (_faults("SIGKILL, SIGSTOP, endless loop", _worst(*_DEAD), 0.25, "s"),
         _faults("exception in the callback of a frame after it", _worst("planner_callback_error"), 0.3, "s"),
         _faults("a planner that is not there yet", _worst("planner_late"), 0.25, "s")),
        commands=("adawm faults --fault planner_kill --episodes 0",),
        lacking="one run per fault, and how late it is depends on when in a period the planner dies",
    ),
    Promise(
        5, "A timeout is braked for, not only noted", "0 faults without a braking command, all stops end standing",
        ("faults/test_page.py::test_no_fault_lacks_a_braking_command_and_no_stop_is_needless",
         "safety/test_gate.py::test_every_fault_brakes_at_once_and_becomes_a_stop_when_it_lasts",
         "safety/test_states.py::test_every_state_with_every_event"),
        (_faults("faults without a braking command", lambda d: d["summary"]["without_braking_command"], 0.0, digits=0),
         _faults("stops without a standstill", _stops_without_standstill, 0.0, digits=0),
         _faults("promises not kept, of all faults", lambda d: len(d["summary"]["promises_broken"]), 0.0, digits=0),
         _faults("needless stops after a fault", lambda d: d["summary"]["needless_stops"], 0.0, digits=0),
         _faults("normal episodes with a needless stop", lambda d: d["normal"]["needless"], 0.0, digits=0)),
        commands=("adawm faults",),
        lacking="one run per fault; the normal episodes are of the pretraining task",
    ),
    Promise(
        6, "No command leaves that exceeds a limit", "0 escapes of 10^6; every line and branch; 95 % of mutants killed",
        ("benchmarks/test_fuzz.py::test_nothing_escapes_and_every_kind_of_case_comes_up",
         "benchmarks/test_fuzz.py::test_the_oracle_sees_an_escape",
         "benchmarks/test_mutation.py::test_the_committed_share_is_that_of_the_counts_and_as_promised"),
        (Figure("escapes", lambda d: d["escapes"], 0.0, digits=0, file=FUZZ),
         Figure("proposals", lambda d: d["proposals"], 1e6, digits=0, sense=Sense.AT_LEAST, file=FUZZ),
         Figure("mutants killed", lambda d: d["killed_share"], 0.95, digits=4, sense=Sense.AT_LEAST, file=MUTATION)),
        held="every line and branch of `safety/`, and of the input monitor, the watchdog and the gate's loop in "
        "`runtime/`: `make coverage` fails below 100 %",
        commands=("adawm benchmark fuzz", "make mutation", "make coverage"),
        lacking="mutants are of `safety/` alone, not of the input monitor, the watchdog and the gate's loop in "
        "`runtime/`, which no fuzzed proposal goes through either",
    ),
    Promise(
        7, "What breaks a rule is not forwarded, with the limits as they are shipped", "0 forwarded",
        ("safety/test_gate.py::test_with_the_shipped_limits_nothing_that_breaks_a_rule_is_forwarded",
         "safety/test_gate.py::test_there_is_a_breach_of_every_rule",
         "launch/test_launch_files.py::test_files_show_every_other_parameter_with_its_own_default",
         "ros/test_gate_node.py::test_nonsense_is_answered_with_brakes_and_told"),
        held=f"0 forwarded, with a breach of each of {len(RULES)} rules",
    ),
    Promise(
        8, "Collisions are checked without the plan", "RSS to 1e-6; 0 stops for going downhill; 1 ms for 64 others",
        ("safety/test_rss.py::test_following_at_the_same_speed_gives_the_published_distances",
         "safety/test_rss.py::test_side_by_side_at_rest_gives_the_published_distance",
         "safety/test_following.py::test_human_parameters_give_the_published_distance",
         "safety/test_braking.py::test_a_standing_obstacle_is_braked_for_at_the_stopping_distance",
         "safety/test_braking.py::"
         "test_a_crossing_car_that_will_be_there_is_braked_for_and_one_that_will_be_gone_is_not",
         "safety/test_braking.py::test_braking_at_the_first_warning_always_stops_in_time",
         "safety/test_braking.py::test_who_is_met_is_who_a_polygon_library_finds_on_the_way",
         "safety/test_gate.py::test_downhill_nothing_is_stopped"),
        (Figure("error of the distances", _rss_error, 1e-6, "m", digits=9),
         Figure("99 % of steps with 64 others", lambda d: d["step_ms"]["p99"], 1.0, "ms", file=GATE_STEP)),
        held="published distances 41.4 m and 0.725 m; 0 stops downhill",
        commands=(f"adawm benchmark gate_step --json {RESULTS / GATE_STEP}",),
        lacking="held against ad-rss-lib's formulas and published values, not against the library itself; the gate's "
        "own parameters ask for less distance than the published ones, and nobody beside the vehicle is judged "
        "(docs/gate.md); the time is of 99 % of steps, not of all",
    ),
    Promise(
        9, "A stop works without planner and model", "35 m in all from 50 km/h",
        ("benchmarks/test_stopping.py::test_a_dead_planner_leaves_at_most_35_m_from_50_kmh",
         "runtime/test_damaged_model.py::test_what_happens_to_the_files_of_a_model_that_drives_changes_nothing",
         "safety/test_gate.py::test_comfortable_braking_sets_in_gradually_and_stays_where_it_braked_harder"),
        (Figure("from a steady 50 km/h", _way(0.0), 35.0, "m", digits=1, file=STOPPING),
         Figure("while accelerating through 50 km/h", _way(3.0), 35.0, "m", digits=1, file=STOPPING),
         _faults("over DDS: SIGKILL, SIGSTOP, endless loop", _worst(*_DEAD, key="standstill_m"), 35.0, "m", 1)),
        commands=(f"adawm benchmark stopping --json {RESULTS / STOPPING}", "adawm faults"),
        lacking="brakes or tyres that give less than nominal ones; a gate that is dead itself brakes for nobody",
    ),
    Promise(
        10, "Every refusal says why", "name, measured, limit and remedy, on /diagnostics and in the CLI: all causes",
        ("ros/test_gate_diagnostics.py::test_every_cause_says_name_measured_limit_and_what_to_do",
         "safety/test_gate.py::test_a_vehicle_is_not_let_go_while_a_rule_brakes_and_it_is_told_which",
         "safety/test_verdict.py::test_every_line_has_rule_measured_limit_and_action",
         "ros/test_diagnostics.py::test_fault_state_names_rule_topic_age_and_limit",
         "runtime/test_input_monitor.py::test_every_rule_in_the_code_is_in_the_table_and_the_docs_hold_it",
         "adapters/test_refusal.py::test_every_reason_is_given_by_the_code_and_explained_in_the_docs",
         "adapters/test_cli.py::test_a_refused_bundle_is_an_answer",
         "diagnosis/test_check.py::test_every_rule_is_one_line_with_something_to_do"),
        held=f"a line for each of {len(RULES)} rules of the gate, {len(FAULTS_OF_INPUTS)} faults of the planner's "
        f"inputs, {len(Reason)} reasons to refuse an adapter and {len(FINDINGS)} findings of the doctor",
        lacking="a node that refuses to be configured says why in one line of its log, and on no topic",
    ),
    Promise(
        11, "A swap of adapters is atomic", "0 mixtures in 10^4 swaps; the old adapter drives on after every failure",
        ("benchmarks/test_swap_under_load.py::test_three_hundred_swaps_without_a_mixture",
         "runtime/test_hot_swap.py::test_a_refusal_leaves_what_drives_untouched_bit_for_bit",
         "runtime/test_hot_swap.py::test_an_error_in_the_flip_costs_no_tick",
         "runtime/test_hot_swap.py::test_a_store_that_cannot_be_written_costs_the_candidate_alone"),
        (_swap("decisions that are not exactly one adapter's", "mixtures", 0.0),
         Figure("swaps", lambda d: d["swaps"], 1e4, "", Sense.AT_LEAST, 0, SWAP)),
        commands=("adawm benchmark swap",),
        lacking="a failure at each tensor: a bundle is refused as a whole before any of it drives, which is tested "
        "with damage in its last tensor",
    ),
    Promise(
        12, "A swap of adapters costs no cycle", "flip within 1 ms, 0 missed cycles, nothing is compiled again",
        ("runtime/test_swap_thread.py::test_what_is_retired_is_freed_in_the_other_thread",
         "runtime/test_engine.py::test_every_layer_to_adapt_is_an_input_of_free_rank",
         "ros/test_adapter_swap.py::test_a_pushed_bundle_is_shadowed_flipped_and_committed"),
        (Figure("longest flip", lambda d: d["flip_ms"]["max"], targets.FLIP_MS, "ms", file=SWAP),
         _swap("missed ticks beside a busy process", "missed_ticks", 0.0)),
        commands=("adawm benchmark swap",),
        lacking="compilations are not counted: adapters share the sessions, and factors of any rank are their inputs",
    ),
    Promise(
        13, "No adapter is silently without effect", "path, files, layers, rank, effect and probe: 100 % refused",
        ("adapters/test_attacks.py::test_a_linked_folder_a_missing_one_and_a_file",
         "adapters/test_attacks.py::test_partial_bundle",
         "adapters/test_attacks.py::test_truncation",
         "adapters/test_attacks.py::test_unknown_layers",
         "adapters/test_attacks.py::test_tensors_beside_or_missing",
         "adapters/test_attacks.py::test_rank_above_its_limit",
         "adapters/test_attacks.py::test_an_adapter_that_does_nothing",
         "adapters/test_round_trip.py::test_the_probe_passes_by_either_way_of_loading_and_fails_without",
         "runtime/test_hot_swap.py::test_load_by_path"),
        held="each is refused with its reason, and so is an engine that answers the probe as if it had no adapter",
    ),
    Promise(
        14, "A recurrent state never mixes adapters", "1e-5 from a cold start that is re-warmed on the same frames",
        ("runtime/test_hot_swap.py::test_after_the_flip_it_answers_as_a_cold_start_rewarmed_on_the_same_frames",
         "runtime/test_hot_swap.py::test_a_state_of_another_dynamics_adapter_is_never_used",
         "runtime/test_hot_swap.py::test_bounded_history_and_catching_up"),
        held="1e-5 at most in the probability of an action; an engine refuses a state of another dynamics adapter",
    ),
    Promise(
        15, "A hostile or broken update is refused", "all attacks of TUF's and Uptane's lists, each with its reason",
        ("adapters/test_attacks.py::test_arbitrary_installation",
         "adapters/test_attacks.py::test_rollback",
         "adapters/test_attacks.py::test_indefinite_freeze",
         "adapters/test_attacks.py::test_a_pickle_is_never_loaded",
         "ros/test_adapter_swap.py::test_every_attack_is_refused_with_its_reason_while_it_drives_every_frame",
         "benchmarks/test_attacks.py::test_every_attack_is_refused_while_the_live_adapter_decides"),
        (Figure("hostile updates not refused", lambda d: d["sent"] - d["refused"], 0.0, digits=0, file=ATTACKS),
         Figure("missed ticks meanwhile", lambda d: d["attacked"]["missed_ticks"] + d["flooded"]["missed_ticks"],
                0.0, digits=0, file=ATTACKS)),
        commands=("adawm benchmark attacks",),
        held=f"{len(functions('adapters/test_attacks.py')) - 1} kinds in `adapters/test_attacks.py`, all refused; "
        "every frame has its command meanwhile",
        lacking="slow retrieval, which is for the transport to time out",
    ),
    Promise(
        16, "A kill leaves nothing unusable; a bad adapter is taken back", "0 unusable states; back within a cycle",
        ("adapters/test_store.py::test_a_kill_at_every_step_leaves_a_store_that_drives_with_what_was_committed",
         "adapters/test_store.py::test_a_damaged_adapter_gives_way_to_the_last_good_one",
         "ros/test_adapter_swap.py::test_a_planner_killed_at_any_moment_loses_no_committed_adapter",
         "runtime/test_hot_swap.py::test_an_error_while_driving_on_probation_rolls_back_at_once",
         "runtime/test_hot_swap.py::test_probation_rolls_a_bad_adapter_back"),
        held="0 unusable states, with a kill at each of the store's steps on the disk (over 60); back at the next one",
        commands=('ADAWM_KILLS=50 make test ARGS="tests/ros/test_adapter_swap.py -k any_moment -s"',),
        lacking="killed processes, no loss of power; each step once, not a thousand times; an adapter that is worse "
        "and not hopeless: one that takes success from 0.9 to 0.6 is committed in 94 of 100 (docs/adapters.md)",
    ),
    Promise(
        17, "Only what drives better is promoted", "an equal one in 5 % at most; one worse by 3 points caught in 95 %",
        ("finetuning/test_gate.py::test_an_update_that_changes_nothing_passes_in_at_most_one_of_twenty",
         "finetuning/test_gate.py::test_a_better_model_passes_and_a_worse_one_is_refused",
         "runtime/test_probation_power.py::test_the_tables_in_the_docs_are_what_is_simulated"),
        lacking="adapters that are known to be equal, worse or better, driven on the same routes; the tests judge "
        "held-out decisions and simulate probation, which finds only very bad ones (docs/adapters.md)",
    ),
    Promise(
        18, "Nothing is forgotten over generations", "1 point on fixed routes over 50 generations; still able to learn",
        (),
        lacking="50 adapters in a row; what a single run does to the pretraining task is in docs/adaptation.md",
    ),
    Promise(
        19, "Replay is what happened", "0 wrong of 10^6; torn chunks are set aside, never trained on",
        ("finetuning/test_replay_store.py::test_a_hundred_thousand_decisions_are_what_they_were",
         "finetuning/test_replay_store.py::test_a_flipped_bit_quarantines_its_chunk_and_no_other",
         "finetuning/test_kill.py::test_a_kill_at_any_moment_loses_at_most_the_chunk_in_flight",
         "finetuning/test_captured.py::test_a_seal_sees_a_change_of_any_field",
         "finetuning/test_same_as_collect.py::test_the_same_drive_gives_the_same_rows",
         "ros/test_experience_input.py::test_a_decision_survives_bit_for_bit",
         "ros/test_convert.py::test_odometry_takes_pose_from_map_and_twist_from_body"),
        held="0 wrong of 10^5; of 40 kills every torn chunk is set aside",
        commands=('ADAWM_DECISIONS=1000000 make test ARGS="tests/finetuning/test_replay_store.py -k thousand"',),
        lacking="10^6 in the tests: that is the command's, and takes ten times as long",
    ),
    Promise(
        20, "Finetuning does not disturb driving", "p99.9 grows by 5 % at most; 0 more missed ticks; it may die",
        ("ros/test_finetuner_node.py::test_a_killed_worker_comes_back_and_says_so",
         "finetuning/test_worker_kill.py::"
         "test_a_kill_at_any_moment_leaves_a_whole_memory_that_the_next_worker_goes_on_from",
         "finetuning/test_worker.py::test_the_worker_is_nice_to_other_sessions_too",
         "cli/test_drive_finetuner.py::test_a_sidecar_may_die"),
        (_slowed("p99.9 with, over without", "with_over_without"),
         _slowed("the same, over a core that only counts", "with_over_spinning"),
         Figure("ticks missed more", _missed_more, 0.0, digits=0, file=SIDECAR),
         _faults("needless stops when it is killed", _broken("finetuner_out_of_memory"), 0.0, digits=0)),
        commands=("adawm benchmark sidecar --seed 4000",),
        lacking="speed noise and late frames in closed loop, as in Bench2Drive-Robust; a computer with a core to "
        "spare: of two cores, any second busy one costs as much (docs/finetuning.md); the load is the finetuner's fits "
        "in a process of their own, without its node",
    ),
    Promise(
        21, "It is cheap to run for long", "memory grows by less than 1 % an hour; 5 % of a core for the clock",
        ("benchmarks/test_swap_under_load.py::test_growth_is_measured_after_the_start",
         "benchmarks/test_soak.py::test_a_few_seconds_of_a_real_one",
         "benchmarks/test_trend.py::test_the_interval_holds_the_truth_about_as_often_as_it_says"),
        (*(_growth(f"{name}'s memory grew in {hour}", process, file)
           for hour, file in (("an hour", SOAK), ("the hour after it", LATER))
           for name, process in _PROCESSES),
         Figure("planner's memory grew over all swaps", lambda d: 100.0 * d["memory_growth"],
                targets.GROWTH_PERCENT, "%", file=SWAP),
         Figure("driven", lambda d: d["ran_s"] / 60.0, 60.0, "min", Sense.AT_LEAST, 0, SOAK)),
        commands=(f"adawm benchmark soak --minutes 60 --json {RESULTS / SOAK}",),
        lacking="a clock of 1 kHz; the planner subscribes to no camera, so that an image costs it nothing",
    ),
    Promise(
        22, "It connects or complains", "each pair of qualities of service gives data, or a diagnostic within 1 s",
        ("ros/test_qos_matrix.py::test_every_input_of_the_planner_connects_or_complains",
         "ros/test_qos_matrix.py::test_a_subscription_with_a_deadline_connects_or_complains",
         "ros/test_qos_matrix.py::test_a_cause_that_is_gone_ends_the_complaint",
         "ros/test_planner_node.py::test_pause_is_quiet_and_driving_goes_on_after_it",
         "diagnosis/test_clock.py::test_each_state_of_time_has_its_finding"),
        (_in_frames("20 % of messages lost: braking after", "everything_loss"),
         _in_frames("a clock that goes back: braking after", "everything_time_backward")),
        held="every pair of reliability, durability and deadline gives data or names the policy",
        lacking="Fast DDS alone: no second middleware comes as a wheel, and none was tried; the tests bear with a busy "
        "machine for longer than 1 s (docs/doctor.md has what it took); braking counts in frames, as in the campaign, "
        "because a command answers a frame",
    ),
    Promise(
        23, "Scores mean what they say", "equal to the published formulas' own code to 1e-6; each names its formula",
        ("evaluation/test_metrics.py::test_driving_score_follows_leaderboard_2_1",
         "evaluation/test_metrics.py::test_driving_score_is_the_formula_and_falls_with_every_collision",
         "evaluation/test_metrics.py::test_comfort_equals_the_closed_form",
         "evaluation/test_metrics.py::test_local_polynomial_matches_scipy",
         "evaluation/test_report.py::test_document_counts_each_outcome_and_keeps_designs_fields"),
        held="CARLA Leaderboard 2.1's driving score and nuPlan's comfort in closed form, to 1e-6",
        lacking="closed forms, not the published code; Leaderboard 2.0, Bench2Drive, PDMS and EPDMS are not computed",
    ),
)  # fmt: skip


def markdown(promises: Iterable[Promise] = PROMISES) -> str:
    """The whole page."""
    lines = [
        INTRODUCTION,
        "| # | promise | target | measured | state | shown by | not shown |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in promises:
        measured = [*(each.line() for each in row.figures), *([f"held by the tests: {row.held}"] if row.held else [])]
        shown = [f"`{each}`" for each in (*row.tests, *row.commands)]
        cells = (str(row.number), row.promise, row.target, _cell(measured), row.state.value, _cell(shown), row.lacking)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(parts: Sequence[str]) -> str:
    return "<br>".join(parts)


@click.command()
@click.option("--page", type=click.Path(dir_okay=False, path_type=Path), help="Write docs/reliability.md to this file.")
@json_option
def promises(page: Path | None, json_file: Path | None) -> None:
    """Show what is promised, what was measured of it, and what is not shown."""
    console = Console(highlight=False)
    for row in PROMISES:
        console.print(f"{row.number:2d} {row.state.value:16s} {row.promise}", markup=False, soft_wrap=True)
        for each in row.figures:
            console.print(f"      {each.line()}", markup=False, soft_wrap=True)
    if page is not None:
        write_text(page, markdown())
    states = {str(row.number): row.state.value for row in PROMISES}
    write_json(json_file, with_origin("promises", {"states": states}, ()))
