"""Figures of one run in, a result file out that says which command, commit and machine made it."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from adawm_planner.data_types import Float64
from adawm_planner.git import git
from adawm_planner.result_file import write_json

ROOT = Path(__file__).resolve().parents[1]
SCHEMA = "adawm.benchmark/1"
LEVELS = {"p50": 50.0, "p99": 99.0, "p99.9": 99.9, "max": 100.0}
"""Name -> percentile."""


def percentiles(samples: Sequence[float] | Float64) -> dict[str, float]:
    """Median, 99th and 99.9th percentile, and maximum, in the unit of the samples."""
    values = np.asarray(samples)
    found = np.percentile(values, list(LEVELS.values()))
    return {name: float(value) for name, value in zip(LEVELS, found, strict=True)}


def checkout() -> dict[str, Any]:
    """Commit of this checkout and whether it is as committed; commit None where it is no checkout."""
    clean = git(ROOT, "status", "--porcelain", "--untracked-files=no") == ""
    return {"commit": git(ROOT, "rev-parse", "HEAD"), "clean_checkout": clean}


@dataclass(frozen=True)
class Start:
    """What a measurement began with: by its end it has loaded the machine, and the checkout may have gone on."""

    checkout: Mapping[str, Any]
    load: float  # processes, average of the minute before

    @staticmethod
    def now() -> Start:
        """Of a measurement that begins now."""
        return Start(checkout(), os.getloadavg()[0])


COMMAND = Start.now()
"""Of the command: it imports this module before it measures anything."""


def with_origin(
    name: str, figures: Mapping[str, Any], packages: Sequence[str], start: Start = COMMAND
) -> dict[str, Any]:
    """The figures with everything that is needed to repeat them."""
    return {
        "schema": SCHEMA,
        "benchmark": name,
        "command": ["adawm", *without_json(sys.argv[1:])],
        **start.checkout,
        "utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": {
            "cpu": _cpu(),
            "cores": os.cpu_count(),
            "load_before": start.load,
            "system": platform.platform(),
            "python": platform.python_version(),
        },
        "packages": {package: _version(package) for package in packages},
        **figures,
    }


def without_json(words: Sequence[str]) -> list[str]:
    """A command line without `--json FILE`: where a result went is no part of how it was made."""
    rest = iter(words)
    kept = list[str]()
    for word in rest:
        if word == "--json":
            next(rest, None)
        else:
            kept.append(word)
    return kept


def write(path: Path | None, result: Mapping[str, Any]) -> None:
    """Write a result where the user asked for it."""
    write_json(path, result)


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
