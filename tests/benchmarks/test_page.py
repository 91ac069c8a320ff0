"""docs/performance.md is what the committed results say, and what cannot be a result is refused by name."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from adawm_planner.cli.main import adawm
from benchmarks.page import (
    GATED,
    PACED,
    PAGE,
    PROMISES,
    RESULTS,
    SECTIONS,
    SIDECAR,
    SOAK,
    SWAP,
    THROUGHPUT,
    TRAINING,
    markdown,
    pretraining,
)
from benchmarks.page_sections import origin
from benchmarks.targets import within

LEVELS = {"p50": 1.0, "p99": 2.0, "p99.9": 3.0, "max": 4.0}
STAGE = {**LEVELS, "mean": 1.5, "count": 6000}
HEAD = {
    "schema": "adawm.benchmark/1",
    "command": ["adawm", "benchmark", "x", "--json", "somewhere/secret.json", "--seed", "1"],
    "commit": "0123456789abcdef",
    "clean_checkout": True,
    "utc": "2026-01-01T00:00:00+00:00",
    "machine": {"cpu": "Processor", "cores": 2, "load_before": 0.5},
}


def latency(realtime: bool) -> dict[str, Any]:
    even = {"mean_error": 0.001, "rsd": 0.05, "largest_gap": 1.2}
    return {
        "gate": True,
        "realtime": realtime,
        "task": "right_turn_moderate",
        "frames": 6000,
        "lost": 0,
        "planner_ms": LEVELS,
        "planner_decision_frames_ms": LEVELS,
        "planner_other_frames_ms": LEVELS,
        "echo_ms": LEVELS,
        "ratio": {**LEVELS, "p99": 1.75},
        "stages_ms": {"planner": {"receive": STAGE, "inference": STAGE}, "gate": {"gate": STAGE}},
        "mean_ms": {"planner receive": 1.0, "between the nodes": 2.0, "round trip": 3.0},
        "period": {"planner": even, "echo": even} if realtime else None,
    }


def soak(ran_s: float = 3600.5) -> dict[str, Any]:
    used = {
        "rss_mib": {"first": 180.0, "median": 181.0, "max": 182.0, "last": 181.5},
        "pss_mib": 100.0,
        "growth": {"percent_per_hour": 0.4, "ci95": [0.2, 0.6], "over_s": 3000.0},
        "cpu_percent": {"mean": 12.0, "max": 20.0},
        "samples": 600,
        "processes": 1,
    }
    return {
        "task": "right_turn_moderate",
        "vehicle": "worn_brakes",
        "minutes": 60.0,
        "warm_up_minutes": 10.0,
        "ran_s": ran_s,
        "ended": "the time was over",
        "real_time_factor": 0.98,
        "planner": {"frames": 71000, "commands": 71000, "missed_ticks": 0},
        "frames_without_command": 0,
        "gate": {"commands_in": 71000, "commands_out": 71000, "limited": 2000, "stops": 1000},
        "stages_ms": {"planner": {"receive": STAGE}, "gate": {"gate": STAGE}},
        "finetuner_ended": None,
        "worker_deaths": 1,
        "episodes": {"count": 180, "outcomes": {"success": 150, "collision": 30}},
        "finetuning": {
            "rounds": {"dynamics": 3, "nothing": 12},
            "offered": 2,
            "came_to": {"committed": 2},
            "swaps": 4,
            "refusals": 1,
        },
        "processes": {"adawm_planner": used, "adawm_gate": used, "adawm_finetuner worker": {**used, "growth": None}},
    }


def documents() -> dict[str, dict[str, Any]]:
    """A whole set: some made up, the others as committed."""
    made = {GATED: latency(False), PACED: latency(True), SOAK: soak()}
    names = {GATED: "latency", PACED: "latency", SOAK: "soak"}
    found = {file: {**HEAD, "benchmark": names[file], **document} for file, document in made.items()}
    for file in (SIDECAR, SWAP, THROUGHPUT, TRAINING):
        found[file] = json.loads((RESULTS / file).read_text(encoding="utf-8"))
    return found


def written(folder: Path, found: dict[str, dict[str, Any]]) -> Path:
    for file, document in found.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(json.dumps(document), encoding="utf-8")
    return folder


def promise(page: str, text: str) -> list[str]:
    (line,) = [line for line in page.splitlines() if line.startswith(f"| {text}")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_page_is_that_of_the_committed_results() -> None:
    assert markdown(RESULTS) == PAGE.read_text(encoding="utf-8"), "run `adawm benchmark page`"


def test_what_is_missing_is_said_with_the_command_that_makes_it(tmp_path: Path) -> None:
    page = markdown(tmp_path)
    for section in SECTIONS:
        made = f"adawm benchmark {section.command} --json benchmarks/results/{section.file}"
        assert f"## {section.title}\n\nNot measured yet: `{made}` has not been run." in page
    assert page.count("| not measured yet | not shown |") == len(PROMISES)


def test_every_figure_comes_from_its_result(tmp_path: Path) -> None:
    page = markdown(written(tmp_path, documents()))
    assert "| planner: inference | 1.00 | 2.00 | 3.00 | 4.00 | 1.50 | 6,000 |" in page
    assert "| planner | +0.10 % | 0.050 | 1.20 |" in page
    assert "planner receive 1.00, between the nodes 2.00, round trip 3.00" in page
    assert "| `adawm_planner` | 12.0 | 20.0 | 181.0 | 182.0 | 100.0 | 0.40 (0.20 to 0.60) |" in page
    assert "too short a run |" in page and "2 adapters offered (2 came to committed); 4 swaps, 1 refusals" in page
    assert "60.0 of 60 minutes (ended: the time was over)" in page
    assert promise(page, "sensor to command with the gate")[2:] == ["1.75", "yes"]
    assert promise(page, "period of the commands")[2:] == ["+0.10 %, 0.050, 1.20 dt", "yes"]
    assert promise(page, "inference")[2:] == ["1.5 ms, 4.0 ms", "yes"]
    assert promise(page, "an hour with the sidecar: missed ticks")[2:] == ["0 of 71,000", "yes"]
    assert promise(page, "an hour with the sidecar: most memory")[2:] == ["191 MB", "yes"]
    assert promise(page, "an hour with the sidecar: growth of the gate")[2:] == ["0.40 (0.20 to 0.60)", "yes"]


def changed(found: dict[str, dict[str, Any]], file: str, path: str, value: Any) -> None:
    *way, last = path.split("/")
    at = found[file] = copy.deepcopy(found[file])
    for key in way:
        at = at[key]
    at[last] = value


@pytest.mark.parametrize(
    ("file", "path", "value", "text", "verdict"),
    [
        (GATED, "ratio/p99", 3.01, "sensor to command with the gate", "**no**"),
        (PACED, "period/planner/largest_gap", 1.51, "period of the commands", "**no**"),
        (PACED, "period/planner/mean_error", -0.011, "period of the commands", "**no**"),
        (PACED, "period/planner/rsd", 0.11, "period of the commands", "**no**"),
        (PACED, "stages_ms/planner/inference/max", 36.0, "inference", "**no**"),
        (SIDECAR, "with_over_without/p99.9/ci95", [1.0, 1.04], "finetuner at full load: p99.9", "yes"),
        (SIDECAR, "with_over_without/p99.9/ci95", [1.1, 1.2], "finetuner at full load: p99.9", "**no**"),
        (SIDECAR, "without_ms/missed_ticks", 1, "finetuner at full load: missed", "**no**"),
        (SWAP, "memory_growth", 0.011, "all those swaps", "**no**"),
        (SWAP, "mixtures", 1, "swap of adapters", "**no**"),
        (SWAP, "flip_ms/max", 1.1, "swap of adapters", "**no**"),
        (SWAP, "missed_ticks", 0, "swaps beside a busy process", "yes"),
        (SOAK, "planner/missed_ticks", 1, "an hour with the sidecar: missed ticks", "**no**"),
        (
            SOAK,
            "processes/adawm_gate/growth/ci95",
            [0.5, 1.5],
            "an hour with the sidecar: growth of the gate",
            "not shown",
        ),
        (SOAK, "ran_s", 150.0, "an hour with the sidecar: missed ticks", "not shown"),
        (THROUGHPUT, "ratio", 14.9, "environment: decisions", "**no**"),
        (TRAINING, "dynamics/ratio/seconds_per_update", 2.9, "dynamics update", "**no**"),
    ],
)
def test_promises_are_judged_by_their_figures(
    file: str, path: str, value: Any, text: str, verdict: str, tmp_path: Path
) -> None:
    found = documents()
    changed(found, file, path, value)
    assert promise(markdown(written(tmp_path, found)), text)[3] == verdict


def test_a_short_soak_says_so(tmp_path: Path) -> None:
    found = documents()
    found[SOAK] |= soak(150.0)
    assert promise(markdown(written(tmp_path, found)), "an hour with the sidecar: missed")[2].endswith(
        "in only 2.5 minutes"
    )


def test_within_needs_the_whole_interval() -> None:
    assert (within((0.1, 1.0), 1.0), within((1.01, 2.0), 1.0), within((0.5, 1.5), 1.0)) == (True, False, None)


def test_origin_names_the_command_without_where_its_result_went() -> None:
    line = origin({**HEAD, "clean_checkout": False, "commit": None})
    assert line.startswith("`adawm benchmark x --seed 1` at commit `unknown` with local changes, 2026-01-01")
    assert "secret" not in line


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not the result of a benchmark"),
        ("[]", "not the result of a benchmark"),
        ('{"schema": 1, "schema": 2}', "duplicate key 'schema'"),
        ('{"schema": "adawm.benchmark/1"}', "'benchmark'"),
        ('{"schema": "adawm.benchmark/1", "benchmark": "soak"}', "of 'soak', must be adawm.benchmark/1 of 'latency'"),
        ('{"schema": "adawm.benchmark/2", "benchmark": "latency"}', "adawm.benchmark/2 of 'latency'"),
        ('{"schema": "adawm.benchmark/1", "benchmark": "latency"}', "a figure is missing or no number"),
        ('{"schema": "adawm.benchmark/1", "benchmark": "latency", "ratio": {"p99": NaN}}', "NaN is not a number"),
        (json.dumps({**HEAD, "benchmark": "latency", **latency(False), "planner_ms": {"p50": "1"}}), "no number"),
    ],
)
def test_what_is_no_result_is_refused_by_its_name_and_the_page_stays(
    content: str, message: str, tmp_path: Path
) -> None:
    file, out = tmp_path / GATED, tmp_path / "page.md"
    file.parent.mkdir()
    file.write_text(content)
    out.write_text("before")
    done = CliRunner().invoke(adawm, ["benchmark", "page", "--results", str(tmp_path), "--out", str(out)])
    assert done.exit_code == 1 and "right_turn_moderate_gate.json" in done.output and message in done.output
    assert "adawm benchmark latency --gate" in done.output and "Traceback" not in done.output
    assert out.read_text() == "before"


@pytest.mark.parametrize(("minutes", "kept"), [(240, "yes"), (241, "**no**")])
def test_the_time_of_pretraining_is_the_model_cards(minutes: int, kept: str) -> None:
    line = pretraining(f"... Collection and training took {minutes} minutes in all.\n")
    assert line.endswith(f"| <= 4 h | {minutes} minutes | {kept} |")
    with pytest.raises(ValueError, match=r"MODEL_CARD\.md: does not say"):
        pretraining("nothing")


def test_the_command_writes_the_page_and_names_what_is_missing(tmp_path: Path) -> None:
    found = documents()
    del found[PACED]
    out = tmp_path / "page.md"
    words = ["benchmark", "page", "--results", str(written(tmp_path, found)), "--out", str(out)]
    done = CliRunner().invoke(adawm, words)
    assert done.exit_code == 0 and out.read_text() == markdown(tmp_path)
    assert "missing:" in done.output and "right_turn_moderate_gate_realtime.json" in done.output


def test_a_folder_without_any_result_leaves_the_page_as_it_is(tmp_path: Path) -> None:
    out = tmp_path / "page.md"
    out.write_text("before")
    done = CliRunner().invoke(adawm, ["benchmark", "page", "--results", str(tmp_path), "--out", str(out)])
    assert done.exit_code == 1 and out.read_text() == "before"
    assert f"Error: {tmp_path} holds no result, such as {SECTIONS[0].file}; {out} stays as it is" in done.output
