"""Memory and processor time of processes by name: restarts, warm-up, and what a process starts itself."""

from __future__ import annotations

import subprocess
import sys
from array import array

import pytest

pytest.importorskip("psutil")
pytest.importorskip("scipy")

from benchmarks.process_use import MIB, ProcessWatch, Use, name_of, summary


def used(samples: int, every_s: float = 5.0) -> Use:
    """A process of 100 MiB that takes half a core, and a whole one for the first minute."""
    use, cpu_s = Use(), 3.0
    for k in range(samples):
        use.add(every_s * k, {(7, 1.0): (100 * MIB, cpu_s)})
        cpu_s += every_s * (1.0 if every_s * k < 60.0 else 0.5)
    return use


def test_processor_time_counts_from_the_first_look() -> None:
    use = Use()
    use.add(0.0, {(7, 1.0): (10, 100.0), (8, 1.0): (20, 50.0)})
    use.add(5.0, {(7, 1.0): (10, 102.0), (8, 1.0): (20, 51.0)})
    assert list(use.cpu_s) == [0.0, 3.0] and list(use.rss) == [30.0, 30.0]


def test_a_process_that_was_started_anew_counts_as_a_whole_and_nothing_is_lost() -> None:
    use = Use()
    use.add(0.0, {(7, 1.0): (10, 100.0)})
    use.add(5.0, {(7, 1.0): (10, 101.0)})
    use.add(10.0, {(7, 9.0): (50, 4.0)})  # the same id, another start
    use.add(15.0, {(7, 9.0): (50, 5.0)})
    assert list(use.cpu_s) == [0.0, 1.0, 5.0, 6.0] and len(use.seen) == 2


def test_only_what_comes_after_the_warm_up_counts() -> None:
    found = summary(used(121), 60.0)
    assert found["cpu_percent"] == pytest.approx({"mean": 50.0, "max": 50.0})
    assert found["rss_mib"] == {"first": 100.0, "median": 100.0, "max": 100.0, "last": 100.0}
    assert found["growth"]["percent_per_hour"] == 0.0
    assert (found["samples"], found["processes"], found["pss_mib"]) == (109, 1, None)


def test_a_run_shorter_than_its_warm_up_has_figures_but_no_growth() -> None:
    found = summary(used(121), 3600.0)
    assert found["growth"] is None and found["samples"] == 121 and found["cpu_percent"]["max"] == pytest.approx(100.0)
    one = summary(used(1), 0.0)
    assert one["growth"] is None and one["cpu_percent"] == {"mean": 0.0, "max": 0.0}


def test_growth_begins_after_the_warm_up() -> None:
    use = used(241)
    use.rss = array("d", [float(MIB) * (100 + min(at, 600.0) / 6.0) for at in use.at_s])
    assert summary(use, 600.0)["growth"]["percent_per_hour"] == 0.0
    assert summary(use, 0.0)["growth"]["percent_per_hour"] > 100.0


@pytest.mark.parametrize(
    ("pid", "name"),
    [(2, "node"), (3, "node worker"), (4, "node worker"), (1, "all"), (9, None), (5, "all worker"), (8, None)],
)
def test_a_process_is_named_after_the_nearest_root(pid: int, name: str | None) -> None:
    parents = {1: 0, 2: 1, 3: 2, 4: 3, 5: 1, 8: 7, 7: 0, 9: 404}
    assert name_of(pid, parents, {1: "all", 2: "node"}) == name


HELD = "import time; held = b'x' * 30_000_000; print(1, flush=True); time.sleep(60)"
PARENT = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {HELD!r}], stdout=subprocess.PIPE)
child.stdout.readline()
print(1, flush=True)
sys.stdin.readline()
child.kill()
child.wait()
busy_until = time.process_time() + 0.1
while time.process_time() < busy_until:
    pass
print(2, flush=True)
sys.stdin.readline()
"""


def test_real_processes_are_seen_while_they_run() -> None:
    words = [sys.executable, "-c", PARENT]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdin is not None and parent.stdout is not None
        watch = ProcessWatch({"test": parent.pid})
        assert parent.stdout.readline() == "1\n"
        watch.sample(0.0)
        parent.stdin.write("\n")
        parent.stdin.flush()
        assert parent.stdout.readline() == "2\n"
        watch.sample(1.0)
    worker, own = watch.uses["test worker"], watch.uses["test"]
    assert len(worker.at_s) == 1 and worker.rss[0] > 30e6 and worker.pss is not None and worker.pss > 30e6
    assert len(own.at_s) == 2 and own.cpu_s[1] >= 0.04
