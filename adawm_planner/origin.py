"""Figures of one run in, the same with the command, commit, machine and packages that made them out."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SCHEMA = "adawm.benchmark/1"


def git(folder: Path, *words: str) -> str | None:
    """Answer of git about the checkout around `folder`, None where it is in none or there is no git."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def checkout() -> dict[str, Any]:
    """Commit that this code is of, and whether it is as committed; commit None where it runs from no checkout."""
    if not (ROOT / "setup.py").is_file():  # an installed copy: a repository around it is somebody else's
        return {"commit": None, "clean_checkout": False}
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

    def origin(self, packages: Sequence[str]) -> dict[str, Any]:
        """What made a result, for whoever wants to repeat it."""
        return {
            "command": ["adawm", *without_json(sys.argv[1:])],
            **self.checkout,
            "utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "machine": {
                "cpu": _cpu(),
                "cores": os.cpu_count(),
                "load_before": self.load,
                "system": platform.platform(),
                "python": platform.python_version(),
            },
            "packages": {package: _version(package) for package in packages},
        }


def with_origin(name: str, figures: Mapping[str, Any], packages: Sequence[str], start: Start) -> dict[str, Any]:
    """The figures of a benchmark with everything that is needed to repeat them."""
    return {"schema": SCHEMA, "benchmark": name, **start.origin(packages), **figures}


def without_json(words: Sequence[str]) -> list[str]:
    """A command line without `--json FILE` or `--json=FILE`: where a result went is no part of how it was made."""
    rest = iter(words)
    kept = list[str]()
    for word in rest:
        if word == "--json":
            next(rest, None)
        elif not word.startswith("--json="):
            kept.append(word)
    return kept


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
