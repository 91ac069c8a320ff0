"""The finetuner as a ROS 2 lifecycle node: experience in, mismatch reports and signed adapters out.

Thin on purpose: it keeps the replay and a worker process (`finetuning/worker`) in which all learning happens. No torch
is imported here, so taking in experience never waits for training.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adawm_msgs.msg import AdapterUpdate, MismatchReport
from adawm_msgs.msg import Experience as ExperienceMessage
from std_srvs.srv import Trigger

from adawm_planner.adapters.refusal import Refused
from adawm_planner.finetuning.gaps import Gaps
from adawm_planner.finetuning.memory import (
    PAUSED_FILE,
    bundle_folder,
    keep_paused,
    read_known,
    read_paused,
    told_bundle,
)
from adawm_planner.finetuning.messages import Phase, RoundDone, Settings, Status, Wish
from adawm_planner.finetuning.replay_store import ReplayStore, StoreBusyError, StoreWriteError
from adawm_planner.finetuning.supervisor import SILENT_S as WORKER_SILENT_S
from adawm_planner.finetuning.supervisor import WORKER, Supervisor
from adawm_planner.ros import qos
from adawm_planner.ros.diagnostics import ERROR, OK, WARN, State
from adawm_planner.ros.experience_input import captured_from
from adawm_planner.ros.finetuner_outputs import adapter_message, mismatch_message
from adawm_planner.ros.finetuner_parameters import (
    FINETUNER_PARAMETERS,
    replay_from,
    settings_from,
    state_dir_from,
)
from adawm_planner.ros.lifecycle import run
from adawm_planner.ros.watched_node import WatchedNode
from adawm_planner.runtime.model_files import digest

EXPERIENCE_TOPIC = "adawm_planner/experience"
"""Relative, so that planner and finetuner may be put into a namespace together."""

LISTEN_S = 0.1
"""Time between two looks at what the worker says [s]."""

SILENT_S = 10.0
"""Time without experience after which the diagnostics say so [s]."""

RECENT_S = 60.0
"""How long a malformed or lost message or a failed write is warned of [s]: for who looks once a minute.

The totals stay.
"""


class FinetunerNode(WatchedNode):
    """Replay, worker and topics; see docs/finetuning.md."""

    def __init__(self, worker: Sequence[str] = WORKER, **kwargs: Any) -> None:
        """Declare parameters; everything else waits for `configure`."""
        super().__init__("adawm_finetuner", FINETUNER_PARAMETERS, **kwargs)
        self.supervisor: Supervisor | None = None
        self._command = worker
        self._store: ReplayStore | None = None
        self._parts: list[tuple[Any, Any]] = []  # how to destroy, what
        self._mismatch: Any = None
        self._adapter: Any = None
        self._active = self._paused = False
        self._asked = self._answered = 0  # number of the newest request for a round, and of the newest answered one
        self._received = self._malformed = 0
        self._last_malformed = self._last_missing = self._write_problem = ""
        self._gaps = Gaps()
        self._received_at = time.monotonic()
        self._malformed_at = self._missing_at = self._unwritten_at = -math.inf  # when such a thing was seen last
        self._heard = self._earlier = 0  # newest round whose report has been taken, and newest one of earlier runs
        self._unpublished: list[RoundDone] = []
        self._offered = ""  # digest of the newest bundle that was published
        self._state_dir = Path()
        self._bundle: Path | None = None  # folder of the newest bundle

    def _open(self, values: dict[str, Any]) -> None:
        """Open the replay, start the worker, open the topics."""
        settings = settings_from(values)
        self._remember(settings)
        self._unwritten_at = -math.inf  # into an earlier store
        try:
            self._store = ReplayStore(state_dir_from(values) / "replay", replay_from(values))
        except StoreBusyError as error:
            raise ValueError(str(error)) from error
        self._paused = read_paused(self._state_dir)
        self.note("pause", State(OK, "paused, as before this start; call ~/resume" if self._paused else "not paused"))
        self.supervisor = Supervisor(settings, self._command)
        self._open_topics()
        if not settings.key_file:
            self.note("key", State(WARN, "signing_key is empty: rounds are measured and reported, nothing is trained"))
        else:
            self.note("key", State(OK, "adapters are signed"))

    def _start(self) -> None:
        """Begin to take experience and to learn; the newest adapter is offered again."""
        self._active, self._received_at = True, time.monotonic()
        self._gaps.forget()
        self._report()
        self._offer()

    def _stop(self) -> None:
        """Take no more experience and let the worker stand still; a round that was asked for is off."""
        self._active, self._answered = False, self._asked
        self._flush()

    def _remember(self, settings: Settings) -> None:
        """Take up what earlier runs have done. Raises ValueError as `read_known`."""
        self._state_dir = Path(settings.state_dir)
        known = read_known(self._state_dir, digest(Path(settings.model_dir)))
        self._earlier = 0 if known is None else known.round
        # Whether its report was published before the earlier run ended, nobody knows: the worker begins by telling it.
        self._heard, self._unpublished = self._earlier - 1, []
        made = known.made[-1] if known is not None and known.made else None
        self._bundle = None if made is None else bundle_folder(self._state_dir, made)
        self._offered = ""

    def _open_topics(self) -> None:
        make, destroy = self.create_lifecycle_publisher, self.destroy_lifecycle_publisher
        self._mismatch = make(MismatchReport, "~/mismatch", qos.MISMATCH)
        events = self.watch.publisher("~/adapter")
        self._adapter = make(AdapterUpdate, "~/adapter", qos.ADAPTER, event_callbacks=events)
        self._parts = [(destroy, self._mismatch), (destroy, self._adapter)]
        watched = self.watch.subscription(EXPERIENCE_TOPIC)
        experience = self.create_subscription(
            ExperienceMessage, EXPERIENCE_TOPIC, self._take, qos.EXPERIENCE, event_callbacks=watched
        )
        self._parts.append((self.destroy_subscription, experience))
        for name, answer in (("pause", self._pause), ("resume", self._resume), ("run_round", self._force)):
            self._parts.append((self.destroy_service, self.create_service(Trigger, f"~/{name}", answer)))
        self._parts.append((self.destroy_timer, self.create_timer(LISTEN_S, self._listen, clock=self.steady_clock)))

    def _close(self) -> None:
        for destroy, part in self._parts:
            destroy(part)
        self._parts = []
        if self.supervisor is not None:
            self.supervisor.stop()
        if self._store is not None:
            try:
                self._store.close()
            except StoreWriteError as error:
                self.get_logger().error(str(error))
        self.supervisor = self._store = None

    def _take(self, message: Any) -> None:
        """Store one decision; a malformed one is counted and dropped."""
        if not self._active or self._store is None:
            return
        self._received, self._received_at = self._received + 1, time.monotonic()
        try:
            one = captured_from(message)
            self._miss(self._gaps.take(one.experience.sequence, one.experience.stamp_s), message.sequence)
            self._store.append(one)
        except StoreWriteError as error:
            self._unwritten(error)
        except ValueError as error:
            self._malformed, self._last_malformed = self._malformed + 1, str(error)
            self._malformed_at = time.monotonic()
            self._miss(self._gaps.take_malformed(message.sequence), message.sequence)

    def _miss(self, lost: int, sequence: int) -> None:
        """Tell of the decisions that did not arrive before the one of this number, if there are any."""
        if lost:
            self._last_missing, self._missing_at = f"{lost} before sequence {sequence}", time.monotonic()

    def _flush(self) -> None:
        """Write the decisions in memory, so that a round can use them."""
        try:
            if self._store is not None:
                self._store.flush()
        except StoreWriteError as error:
            self._unwritten(error)

    def _unwritten(self, error: StoreWriteError) -> None:
        self._write_problem, self._unwritten_at = str(error), time.monotonic()

    def _pause(self, request: Any, response: Any) -> Any:
        self._paused = True
        try:
            keep_paused(self._state_dir, True)
        except OSError as error:
            text = (
                f"paused, but only until this node is started or configured anew: {self._state_dir / PAUSED_FILE} "
                f"cannot be written ({error}); free disk space or mend the folder, then call ~/pause again"
            )
            self.note("pause", State(WARN, text))
            return _answer(response, False, text)
        self.note("pause", State(OK, "paused, also after a restart; call ~/resume"))
        return _answer(response, True, "paused, also after a restart; experience is still stored")

    def _resume(self, request: Any, response: Any) -> Any:
        try:
            keep_paused(self._state_dir, False)
        except OSError as error:  # else a restart would pause it again, and nobody would expect that
            path = self._state_dir / PAUSED_FILE
            text = f"still paused: {path} cannot be removed ({error}); mend the folder, then call ~/resume again"
            return _answer(response, False, text)
        self._paused = False
        self.note("pause", State(OK, "not paused"))
        return _answer(response, True, "resumed")

    def _force(self, request: Any, response: Any) -> Any:
        if not self._active or self._paused:
            why = "paused, call ~/resume first" if self._paused else "inactive, activate the node first"
            return _answer(response, False, f"no round: the finetuner is {why}")
        self._asked += 1
        self._flush()
        return _answer(response, True, "a round begins as soon as there are enough episodes; see /diagnostics")

    def _listen(self) -> None:
        """Say what is wanted, and take what the worker says."""
        if self.supervisor is None:
            return
        deaths = self.supervisor.deaths
        self._want(self.supervisor)
        for message in self.supervisor.poll():
            if isinstance(message, Status):
                self.note("round", round_state(message))
            elif isinstance(message, RoundDone) and message.round > self._heard:
                self._finished(message)
                # At once: a round that is asked for before the next look would be taken for the one that is done.
                self._want(self.supervisor)
        if self.supervisor.deaths != deaths:
            wait = self.supervisor.restart_in_s
            self.get_logger().error(f"{self.supervisor.last_death}; started again in {wait:.0f} s")

    def _want(self, supervisor: Supervisor) -> None:
        """Tell the worker what is wanted now."""
        strategy = self.get_parameter("strategy").value
        forced = self._asked if self._asked > self._answered else 0
        supervisor.want(Wish(self._active, self._paused, strategy, forced))

    def _finished(self, done: RoundDone) -> None:
        """Report a round, and offer what it produced."""
        self._heard = done.round
        if done.round > self._earlier:  # earlier runs counted other requests
            # One that was asked for while another was under way is still to come.
            self._answered = max(self._answered, done.forced)
        self._unpublished.append(done)
        self._report()
        self.get_logger().info(f"round {done.round}: {done.reason}")
        if done.bundle:
            self._bundle = told_bundle(self._state_dir, done.bundle)
            self._offer()

    def _report(self) -> None:
        """Publish the rounds that nobody has been told of; the publisher of an inactive node would drop them."""
        if self._active:
            for done in self._unpublished:
                self._mismatch.publish(mismatch_message(done, self.get_clock().now().to_msg()))
            self._unpublished = []

    def _offer(self) -> None:
        """Publish the newest bundle, once."""
        if self._bundle is None or not self._active:
            return
        try:
            message = adapter_message(self._bundle, self.get_clock().now().to_msg())
        except (Refused, ValueError, OSError) as error:
            self.note("adapter", State(ERROR, f"{self._bundle} cannot be offered: {error}"))
            return
        if message.digest == self._offered:
            return
        expires = message.expiry.sec
        if expires and expires <= time.time():
            self.note("adapter", State(OK, f"{message.name} has expired and is not offered"))
            return
        self._adapter.publish(message)
        self._offered = message.digest
        self.note("adapter", State(OK, f"{message.name} offered, digest {message.digest[:12]}"))

    def _look(self) -> None:
        if self.supervisor is not None and self._store is not None:
            self.note("experience", self._experience_state())
            self.note("replay", self._replay_state(self._store))
            self.note("worker", worker_state(self.supervisor))

    def _experience_state(self) -> State:
        now = time.monotonic()
        silent = now - self._received_at
        missing = self._gaps.missing
        values = (
            ("received", str(self._received)),
            ("malformed", str(self._malformed)),
            ("missing", str(missing)),
        )
        if self._active and silent > SILENT_S:
            text = f"no experience for {silent:.0f} s on {EXPERIENCE_TOPIC}; is the planner active?"
            return State(WARN, text, values, key="silent")
        problems = []
        if now - self._malformed_at < RECENT_S:
            problems.append(f"{self._malformed} malformed messages dropped, the last because {self._last_malformed}")
        if now - self._missing_at < RECENT_S:
            problems.append(
                f"{missing} decisions sent by the planner did not arrive, the last {self._last_missing}; each gap ends "
                "an episode: look at the network, and whether this node gets its processor time"
            )
        if problems:
            return State(WARN, "; ".join(problems), values, key=f"{self._malformed} {missing}")
        return State(OK, "comes in" if self._received else "none yet", values)

    def _replay_state(self, store: ReplayStore) -> State:
        values = (
            ("decisions", str(store.decisions)),
            ("in_memory", str(store.pending)),
            ("megabytes", f"{store.size_bytes / 1e6:.1f}"),
            ("evicted_chunks", str(store.evicted)),
            ("lost_decisions", str(store.lost)),
            ("quarantined", str(len(store.quarantined))),
        )
        if store.problem:
            return State(ERROR, store.problem, values, key=str(store.lost))
        if time.monotonic() - self._unwritten_at < RECENT_S:
            text = f"kept on disk again, after {store.lost} decisions were lost, the last because {self._write_problem}"
            return State(WARN, text, values, key=f"again {store.lost}")
        return State(OK, "kept on disk", values)


def round_state(status: Status) -> State:
    """Say how far the loop is."""
    values = (
        ("phase", status.phase),
        ("rounds", str(status.round)),
        ("new_decisions", str(status.fresh)),
        ("done", str(status.done)),
        ("total", str(status.total)),
        ("cuts", ", ".join(f"{cut} {count}" for cut, count in sorted(status.cuts.items()))),
    )
    text = f"{status.phase}: {status.text}" + (f"; {status.trouble}" if status.trouble else "")
    level = WARN if status.phase == Phase.PAUSED.value or status.trouble else OK
    return State(level, text, values, key=f"{status.phase} {status.trouble}")


def worker_state(supervisor: Supervisor) -> State:
    """Say whether the training process lives, and goes on."""
    values = (
        ("pid", str(supervisor.pid or "")),
        ("deaths", str(supervisor.deaths)),
        ("silent_s", f"{supervisor.silent_s:.0f}"),
    )
    if supervisor.pid is None and supervisor.deaths:
        text = f"{supervisor.last_death}; started again in {supervisor.restart_in_s:.0f} s"
        return State(ERROR, text, values, key=supervisor.last_death)
    if supervisor.silent_s > WORKER_SILENT_S:
        text = (
            f"{supervisor.phase}, but has said nothing for {supervisor.silent_s:.0f} s ({WORKER_SILENT_S:g} at most): "
            f"it hangs or gets no processor time; after `kill -9 {supervisor.pid}` another is started and begins anew"
        )
        return State(WARN, text, values, key=f"silent {supervisor.phase}")
    if supervisor.deaths:
        return State(WARN, f"runs; {supervisor.deaths} deaths, the last: {supervisor.last_death}", values)
    return State(OK, "runs" if supervisor.pid else "starts", values)


def _answer(response: Any, success: bool, message: str) -> Any:
    response.success, response.message = success, message
    return response


def main(args: list[str] | None = None) -> None:
    """Run the finetuner until SIGINT or SIGTERM."""
    sys.exit(run(FinetunerNode, args))


if __name__ == "__main__":
    main()
