"""Process ids in, the memory and processor time of these processes and of those they start out."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psutil

from benchmarks.trend import growth

MIB = 2**20
PSS_EVERY = 12
"""Samples between two looks at the proportional set size, for which the kernel walks all pages of a process."""


@dataclass
class Use:
    """What the processes of one name have used, over all that bore it."""

    at_s: array[float] = field(default_factory=lambda: array("d"))  # since the watch began
    rss: array[float] = field(default_factory=lambda: array("d"))  # resident set size [bytes]
    cpu_s: array[float] = field(default_factory=lambda: array("d"))  # user and system time since the watch began
    pss: int | None = None  # newest proportional set size [bytes]
    seen: dict[tuple[int, float], float] = field(default_factory=dict)  # (id, start) -> its processor time [s]
    used_s: float = 0.0  # since the watch began

    def add(self, at_s: float, processes: Mapping[tuple[int, float], tuple[int, float]]) -> None:
        """Take a sample.

        Args:
            at_s: when.
            processes: (id, start) -> resident bytes and processor time [s] of those that run.
        """
        first = not self.at_s
        for key, (_, cpu_s) in processes.items():
            # What was used before the watch began does not count; a process that began later counts as a whole.
            self.used_s += cpu_s - self.seen.get(key, cpu_s if first else 0.0)
            self.seen[key] = cpu_s
        self.at_s.append(at_s)
        self.rss.append(float(sum(rss for rss, _ in processes.values())))
        self.cpu_s.append(self.used_s)


class ProcessWatch:
    """Samples processes and everything below them."""

    def __init__(self, roots: Mapping[str, int]) -> None:
        """Watch processes by name; what one of them starts is named after it."""
        self._roots = {pid: name for name, pid in roots.items()}
        self.uses: dict[str, Use] = {}
        self._samples = 0

    def sample(self, at_s: float) -> None:
        """Look at all that run; `at_s` [s] grows from sample to sample."""
        found: dict[str, dict[tuple[int, float], tuple[int, float]]] = {}
        sizes: dict[str, int] = {}
        for name, process in self._running():
            with suppress(psutil.NoSuchProcess):  # it may end while it is looked at
                with process.oneshot():
                    times = process.cpu_times()
                    key = (process.pid, process.create_time())
                    of_one = (process.memory_info().rss, times.user + times.system)
                if self._samples % PSS_EVERY == 0:
                    sizes[name] = sizes.get(name, 0) + process.memory_full_info().pss
                found.setdefault(name, {})[key] = of_one
        for name, processes in found.items():
            use = self.uses.setdefault(name, Use())
            use.add(at_s, processes)
            use.pss = sizes.get(name, use.pss)
        self._samples += 1

    def _running(self) -> Iterator[tuple[str, psutil.Process]]:
        running = {process.pid: process for process in psutil.process_iter(["ppid"])}
        parents = {pid: process.info["ppid"] for pid, process in running.items()}
        for pid, process in running.items():
            name = name_of(pid, parents, self._roots)
            if name is not None:
                yield name, process


def name_of(pid: int, parents: Mapping[int, int], roots: Mapping[int, str]) -> str | None:
    """What a process is called: a root by its name, what is below one after the nearest; None elsewhere.

    Args:
        pid: of the process.
        parents: process id -> that of its parent, of all that run.
        roots: process id -> name.
    """
    if pid in roots:
        return roots[pid]
    above = parents.get(pid)
    while above is not None and above not in roots:
        above = parents.get(above)
    return None if above is None else f"{roots[above]} worker"


def summary(use: Use, warm_up_s: float) -> dict[str, Any]:
    """Memory and processor of one name after the warm-up; of the whole run, without a growth, where it was shorter."""
    first = int(np.searchsorted(np.asarray(use.at_s), warm_up_s))
    settled = len(use.at_s) - first >= 2
    chosen = slice(first if settled else 0, None)
    at, rss, cpu = (np.asarray(each)[chosen] for each in (use.at_s, use.rss, use.cpu_s))
    spans = np.diff(at)
    percent = 100.0 * np.diff(cpu) / spans if spans.size else np.zeros(1)
    return {
        "rss_mib": {
            "first": float(rss[0] / MIB),
            "median": float(np.median(rss) / MIB),
            "max": float(rss.max() / MIB),
            "last": float(rss[-1] / MIB),
        },
        "pss_mib": None if use.pss is None else use.pss / MIB,
        "growth": growth(at, rss) if settled else None,
        "cpu_percent": {
            "mean": float(100.0 * (cpu[-1] - cpu[0]) / (at[-1] - at[0])) if spans.size else 0.0,
            "max": float(percent.max()),
        },
        "samples": len(at),
        "processes": len(use.seen),
    }
