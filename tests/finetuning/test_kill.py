"""A writer is killed at random moments; what it had closed is whole, and at most one chunk is lost."""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from adawm_planner.finetuning.chunk import ChunkFile, read
from adawm_planner.finetuning.replay_store import ReplayStore, chunk_files, read_decisions
from tests.patience import HANG_S

ROOT = Path(__file__).resolve().parents[2]
CHUNK = 5
KILLS = 40

WRITERS = """
import os, sys
from pathlib import Path
from adawm_planner.config.finetuning import ReplayConfig
from adawm_planner.finetuning.replay_store import ReplayStore
from tests.finetuning.decisions import decision

# Imported once: each line read is the first sequence number of another writer, forked, and its process is told.
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        store, k = ReplayStore(Path(sys.argv[1]), ReplayConfig(chunk_decisions=int(sys.argv[2]))), int(line)
        while True:
            store.append(decision(k))
            os.write(1, f"appended {k}\\n".encode())
            k += 1
    os.write(1, f"writer {pid}\\n".encode())
    os.waitpid(pid, 0)
    os.write(1, b"ended\\n")
"""


class Writers:
    """A process that forks a writer when told to."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-c", WRITERS, str(folder), str(CHUNK)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def run_and_kill(self, begin: int, seconds: float) -> int:
        """Let a writer append from `begin` on, kill it that long after its start; the last number it appended."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{begin}\n".encode())
        self._process.stdin.flush()
        descriptor, text, deadline, killed = self._process.stdout.fileno(), "", 0.0, False
        while not text.endswith("ended\n"):
            left = max(deadline - time.monotonic(), 0.0) if deadline and not killed else 5.0
            if select.select([descriptor], [], [], left)[0]:
                text += os.read(descriptor, 65536).decode()
            pids = [int(line.split()[1]) for line in text.splitlines(keepends=True) if line.startswith("writer ")]
            if pids and not deadline:
                deadline = time.monotonic() + seconds
            if deadline and not killed and time.monotonic() >= deadline:
                os.kill(pids[0], signal.SIGKILL)
                killed = True
        appended = [int(line.split()[1]) for line in text.splitlines() if line.startswith("appended ")]
        return appended[-1] if appended else begin - 1

    def close(self) -> None:
        self._process.communicate(timeout=HANG_S)


def test_a_kill_at_any_moment_loses_at_most_the_chunk_in_flight(tmp_path: Path) -> None:
    folder, rng = tmp_path / "store", random.Random(0)
    ReplayStore(folder).close()
    writers, begin, torn, closed = Writers(folder), 0, 0, set[ChunkFile]()
    for _ in range(KILLS):
        last = writers.run_and_kill(begin, rng.uniform(0.0, 0.12))
        files = chunk_files(folder)
        assert closed <= set(files), "a closed chunk is gone"
        fresh = [file for file in files if file not in closed]
        new = [one.experience.sequence for file in fresh for one in read(file)]  # raises for a damaged one
        assert new == list(range(begin, begin + len(new)))
        closed = set(files)
        parts = len(list(folder.glob("*.part")))
        with ReplayStore(folder) as store:
            assert len(store.quarantined) == parts
        torn += parts
        # A chunk may be closed by an append of which its writer could not tell any more.
        assert last + 1 - CHUNK < begin + len(new) <= last + 2, "more than the chunk in flight is lost"
        begin = last + 2
    writers.close()
    aside = list((folder / "quarantine").glob("*.part"))
    assert len(aside) == torn and all(path.with_name(f"{path.name}.reason.txt").exists() for path in aside)
    assert len(closed) > 20
    assert len(list(read_decisions(folder, damaged=pytest.fail))) == sum(file.count for file in closed)
