"""The finetuner node over real topics: experience in, mismatch reports and signed adapters out, a dead worker back."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("adawm_msgs.msg")
pytest.importorskip("torch")

import rclpy
from adawm_msgs.msg import AdapterUpdate, Experience, MismatchReport
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from rclpy.parameter import Parameter
from std_srvs.srv import Trigger

from adawm_planner.adapters.base_model import read_base_model
from adawm_planner.adapters.keys import read_trust
from adawm_planner.adapters.verify import Context as Trusted
from adawm_planner.adapters.verify import VerifiedAdapter, verify_message
from adawm_planner.config.finetuning import RoundConfig
from adawm_planner.finetuning.episodes import split
from adawm_planner.finetuning.material import Material, material_of
from adawm_planner.finetuning.memory import PAUSED_FILE, Memory
from adawm_planner.finetuning.messages import RoundDone, Status
from adawm_planner.finetuning.replay_store import read_decisions
from adawm_planner.finetuning.round import Workshop, run_round
from adawm_planner.finetuning.supervisor import SILENT_S as WORKER_SILENT_S
from adawm_planner.ros import qos
from adawm_planner.ros.diagnostics import ERROR, OK, WARN
from adawm_planner.ros.finetuner_node import EXPERIENCE_TOPIC, RECENT_S, SILENT_S, FinetunerNode, round_state
from adawm_planner.ros.finetuner_parameters import FINETUNER_PARAMETERS
from adawm_planner.ros.parameters import markdown
from adawm_planner.ros.planner_outputs import experience_message
from tests.adaptation.conftest import random_episodes
from tests.finetuning.workplace import CONFIG, Workplace, driven, make_workplace
from tests.full_disk import no_larger_file
from tests.ros.spinner import Spinner
from tests.ros.stub_bridge import DOMAIN

pytestmark = pytest.mark.ros
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class Planner(Node):
    """Says what a planner says to the finetuner, and hears what it answers."""

    def __init__(self, context: Context, place: Workplace) -> None:
        super().__init__("stub_planner", context=context)
        self._engine: Any = SimpleNamespace(digest=place.base, adapter_digests=())
        self.experience = self.create_publisher(Experience, EXPERIENCE_TOPIC, qos.EXPERIENCE)
        self.reports: list[MismatchReport] = []
        self.states: dict[str, Any] = {}
        self.create_subscription(MismatchReport, "/adawm_finetuner/mismatch", self.reports.append, qos.MISMATCH)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._diagnosed, qos.STATUS)
        self.sent = self.episodes = 0

    def adapters(self) -> list[AdapterUpdate]:
        """Subscribe now; the list fills with what was and what will be sent."""
        found: list[AdapterUpdate] = []
        self.create_subscription(AdapterUpdate, "/adawm_finetuner/adapter", found.append, qos.ADAPTER)
        return found

    def drive(self, count: int, seed: int) -> Iterator[Experience]:
        """Messages of so many episodes that nothing in the model fits."""
        rows = random_episodes(count, seed, level=1.0)
        for one in driven(rows, self._engine.digest, (), self.sent, self.episodes):
            yield experience_message(one.experience, self._engine, 1.5)
        self.sent, self.episodes = self.sent + len(rows), self.episodes + count

    def _diagnosed(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.states[status.name.removeprefix("adawm_finetuner: ")] = status


class Bench(Spinner):
    """A finetuner and a stub planner on one executor."""

    def __init__(self, place: Workplace, **parameters: Any) -> None:
        home = place.model_dir.parent
        values = {
            "model_dir": str(place.model_dir),
            "state_dir": str(place.state_dir),
            "source_dir": str(home),
            "signing_key": str(place.key),
            "preset": "debug",
            "config_file": str(home / "learning.yaml"),
            "strategy": "model",
            "round_decisions": 100,
            "chunk_decisions": 20,
            "nice": 0,
        }
        self.context = Context()
        rclpy.init(context=self.context, domain_id=DOMAIN)
        overrides = [Parameter(name, value=value) for name, value in {**values, **parameters}.items()]
        self.finetuner = FinetunerNode(context=self.context, parameter_overrides=overrides)
        self.planner = Planner(self.context, place)
        super().__init__(self.context, self.finetuner, self.planner)

    def start(self) -> None:
        assert self.finetuner.trigger_configure() == SUCCESS and self.finetuner.trigger_activate() == SUCCESS
        assert self.spin_until(lambda: self.planner.experience.get_subscription_count() > 0)
        assert self.spin_until(lambda: "worker" in self.planner.states)

    def drive(self, count: int, seed: int = 5) -> None:
        """Send episodes no faster than they are taken."""
        wanted = self.finetuner._received
        for message in self.planner.drive(count, seed):
            self.planner.experience.publish(message)
            wanted += 1
            if wanted % 50 == 0:
                assert self.spin_until(lambda: self.finetuner._received >= wanted)  # noqa: B023
        assert self.spin_until(lambda: self.finetuner._received >= wanted)

    def value(self, state: str, key: str) -> str:
        values = (
            {each.key: each.value for each in self.planner.states[state].values} if state in self.planner.states else {}
        )
        return str(values.get(key, "0"))

    def call(self, name: str) -> Any:
        client = self.planner.create_client(Trigger, f"/adawm_finetuner/{name}")
        assert self.spin_until(client.service_is_ready)
        answer = client.call_async(Trigger.Request())
        assert self.spin_until(answer.done)
        return answer.result()

    def close(self) -> None:
        if not self.context.ok():
            return
        self.finetuner.trigger_shutdown()
        super().close()
        self.context.try_shutdown()


@pytest.fixture(scope="module")
def shared_place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return make_workplace(tmp_path_factory.mktemp("workplace"))


@pytest.fixture
def place(shared_place: Workplace, tmp_path: Path) -> Workplace:
    return replace(shared_place, state_dir=tmp_path / "state")


@pytest.fixture
def make(place: Workplace) -> Iterator[Callable[..., Bench]]:
    benches: list[Bench] = []

    def made(**parameters: Any) -> Bench:
        benches.append(Bench(place, **parameters))
        return benches[-1]

    yield made
    for bench in benches:
        bench.close()


def accepted(place: Workplace, update: AdapterUpdate) -> VerifiedAdapter:
    trusted = Trusted(read_base_model(place.model_dir), read_trust([place.key.with_suffix(".pub")]))
    files = [(each.name, bytes(each.data)) for each in update.files]
    found = verify_message(files, trusted, int(time.time()), update.digest)
    assert isinstance(found, VerifiedAdapter), found
    return found


def test_experience_becomes_a_report_and_an_adapter_that_the_planner_takes(
    place: Workplace, make: Callable[..., Bench]
) -> None:
    bench = make()
    bench.start()
    updates = bench.planner.adapters()
    assert bench.call("pause").success  # else a slow machine's round begins before there is enough to judge it by
    bench.drive(40)
    assert bench.call("resume").success
    broken = next(bench.planner.drive(1, 0))
    broken.action = 77
    bench.planner.experience.publish(broken)
    assert bench.spin_until(lambda: "action is 77" in bench.planner.states["experience"].message)
    assert bench.value("experience", "malformed") == "1"
    assert bench.spin_until(lambda: bool(bench.planner.reports and updates)), bench.planner.states
    report, update = bench.planner.reports[0], updates[0]
    assert (report.round, report.decision, report.strategy) == (1, MismatchReport.UPDATE_DYNAMICS, "model")
    assert list(report.base_and_adapter_digests) == [place.base] and report.dynamics_mismatch > 0.0
    assert report.decisions >= 100 and report.threshold == CONFIG.select.c and "gate passed" in report.reason
    found = accepted(place, update)
    assert (report.produced_digest, update.part, update.counter) == (found.digest, "dynamics", 1)
    assert found.manifest.gate["passed"] and update.expiry.sec == found.manifest.expires_unix_s
    stored = [one.experience.sequence for one in read_decisions(place.state_dir / "replay")]
    assert stored == list(range(len(stored))) and len(stored) >= bench.planner.sent - 21

    late = bench.planner.adapters()
    assert bench.spin_until(lambda: bool(late)) and late[0].digest == update.digest
    bench.close()
    bench = make()  # another process would do the same: the newest adapter is offered again, and counting goes on
    again = bench.planner.adapters()
    bench.start()
    assert bench.spin_until(lambda: bool(again)) and again[0].digest == update.digest
    bench.planner.sent, bench.planner.episodes = len(stored), 41
    assert bench.call("run_round").success
    bench.drive(2, seed=9)
    assert bench.spin_until(lambda: len(bench.planner.reports) > 1)
    assert [each.round for each in bench.planner.reports[:2]] == [1, 2], "the last report comes once more"


def test_a_killed_worker_comes_back_and_says_so(make: Callable[..., Bench]) -> None:
    bench = make()
    bench.start()
    assert bench.spin_until(lambda: "round" in bench.planner.states)
    first = bench.finetuner.supervisor.pid
    os.kill(first, signal.SIGKILL)
    assert bench.spin_until(lambda: "SIGKILL; started again" in bench.planner.states["worker"].message)
    assert bench.spin_until(lambda: bench.finetuner.supervisor.pid not in (None, first))
    bench.drive(40)
    assert bench.spin_until(lambda: bool(bench.planner.reports))
    assert "1 deaths" in bench.planner.states["worker"].message


def test_services_and_strategy(make: Callable[..., Bench]) -> None:
    bench = make(signing_key="")
    bench.start()
    assert "signing_key is empty" in bench.planner.states["key"].message
    assert bench.call("pause").success
    assert "paused" in bench.call("run_round").message
    bench.drive(40)
    assert bench.spin_until(lambda: "paused" in bench.planner.states.get("round", SimpleNamespace(message="")).message)
    change = bench.finetuner.set_parameters([Parameter("strategy", value="full")])[0]
    assert not change.successful and "must be one of none, model, policy, alternate, adawm" in change.reason
    assert bench.finetuner.set_parameters([Parameter("strategy", value="policy")])[0].successful
    assert not bench.finetuner.set_parameters([Parameter("threads", value=2)])[0].successful
    assert not bench.planner.reports
    assert bench.call("resume").success
    assert bench.spin_until(lambda: bool(bench.planner.reports))
    report = bench.planner.reports[0]
    assert report.strategy == "policy" and report.decision == MismatchReport.UPDATE_NOTHING
    assert "no signing key" in report.reason and report.produced_digest == ""
    assert bench.call("run_round").success  # as one ends, which must not swallow it
    assert bench.spin_until(lambda: len(bench.planner.reports) > 1), bench.planner.states["round"].message
    assert bench.finetuner.trigger_deactivate() == SUCCESS
    assert "inactive" in bench.call("run_round").message


def test_a_pause_holds_across_restarts_until_it_is_resumed(place: Workplace, make: Callable[..., Bench]) -> None:
    bench = make()
    bench.start()
    assert of(bench.finetuner, "pause") == (OK, "not paused")
    assert bench.call("pause").success and bench.call("pause").success
    bench.close()
    (place.state_dir / PAUSED_FILE).write_bytes(b"")  # a damaged one says as much
    bench = make()
    bench.start()
    assert of(bench.finetuner, "pause") == (OK, "paused, as before this start; call ~/resume")
    bench.drive(40)
    assert bench.spin_until(lambda: "paused" in bench.planner.states.get("round", SimpleNamespace(message="")).message)
    assert bench.planner.states["round"].level == bytes([WARN])
    assert not bench.planner.reports and "call ~/resume first" in bench.call("run_round").message
    assert bench.call("resume").success and of(bench.finetuner, "pause") == (OK, "not paused")
    bench.close()
    bench = make()
    bench.start()
    assert of(bench.finetuner, "pause") == (OK, "not paused")
    assert bench.spin_until(lambda: bool(bench.planner.reports)), "and trains"


def test_a_pause_that_cannot_be_kept_holds_and_is_told(place: Workplace, make: Callable[..., Bench]) -> None:
    bench = make()
    bench.start()
    with no_larger_file(0):
        answer = bench.call("pause")
    assert not answer.success and "only until this node is started or configured anew" in answer.message
    assert of(bench.finetuner, "pause") == (WARN, answer.message)
    assert bench.finetuner._paused and not list(place.state_dir.glob("*paused*"))
    assert bench.call("pause").success and of(bench.finetuner, "pause")[0] == OK
    (place.state_dir / PAUSED_FILE).unlink()
    (place.state_dir / PAUSED_FILE).mkdir()  # as whatever else cannot be removed
    answer = bench.call("resume")
    assert not answer.success and answer.message.startswith("still paused: ") and bench.finetuner._paused


def round_done(**changes: Any) -> RoundDone:
    names = ("mismatch", "standard_error", "baseline")
    scores = {f"{side}_{name}": 0.0 for side in ("dynamics", "policy") for name in names}
    return replace(RoundDone(1, "adawm", 9, 1, scores, 3.0, "nothing", [], "", [], None, "", ""), **changes)


def test_a_round_that_ends_while_the_node_is_inactive_is_reported_when_it_is_active(
    make: Callable[..., Bench],
) -> None:
    bench = make()
    bench.start()
    assert bench.spin_until(lambda: bench.finetuner.count_subscribers("/adawm_finetuner/mismatch") > 0)
    assert bench.finetuner.trigger_deactivate() == SUCCESS
    bench.finetuner._finished(round_done())
    bench.spin_for(1.0)
    assert not bench.planner.reports
    for _ in range(2):
        assert bench.finetuner.trigger_activate() == SUCCESS
        assert bench.spin_until(lambda: bool(bench.planner.reports))
        assert bench.finetuner.trigger_deactivate() == SUCCESS
    assert [each.round for each in bench.planner.reports] == [1]


def test_a_round_that_ended_as_the_node_did_is_reported_by_the_next_one(
    place: Workplace, make: Callable[..., Bench]
) -> None:
    memory = Memory(place.state_dir, place.base)
    memory.keep(replace(memory.known, round=4, report=asdict(round_done(round=4, forced=3))))
    bench = make()
    bench.start()
    assert bench.spin_until(lambda: bool(bench.planner.reports)) and bench.planner.reports[0].round == 4
    assert bench.finetuner._answered == 0, "the third request of this node is still to come"


def test_each_request_for_a_round_is_answered_by_one_that_began_after_it(
    make: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make()
    bench.start()
    node, wishes = bench.finetuner, list[int]()
    done = round_done()

    def wished() -> int:
        node._want(SimpleNamespace(want=lambda wish: wishes.append(wish.forced)))
        return wishes[-1]

    assert wished() == 0
    assert bench.call("run_round").success and wished() == 1
    assert bench.call("run_round").success and wished() == 2, "while the first is under way"
    node._finished(replace(done, forced=1))
    assert wished() == 2, "it is still to come"
    node._finished(done)
    assert wished() == 2, "a round that began by itself is not it"
    node._finished(replace(done, forced=2))
    assert wished() == 0
    assert bench.call("run_round").success and wished() == 3
    assert node.trigger_deactivate() == SUCCESS and node.trigger_activate() == SUCCESS
    assert wished() == 0


@pytest.mark.parametrize("of_before", [False, True], ids=["relative", "the whole path, as before"])
def test_the_adapter_of_a_state_dir_that_was_moved_is_offered(
    place: Workplace, make: Callable[..., Bench], tmp_path: Path, of_before: bool
) -> None:
    workshop, memory = Workshop(place.settings()), Memory(place.state_dir, place.base)
    stretches = split(driven(random_episodes(40, 5, level=1.0), place.base))
    found = material_of(stretches, place.base, RoundConfig(decisions=100))
    assert isinstance(found, Material)
    done = run_round(workshop, memory, found, {}, "model", 0, lambda: 0, lambda phase: None, lambda done, text: None)
    assert done.produced, done.reason
    if of_before:
        report = asdict(replace(done, bundle=str(place.state_dir / done.bundle)))
        memory.keep(replace(memory.known, report=report))
    place.state_dir.rename(tmp_path / "moved")
    bench = make(state_dir=str(tmp_path / "moved"))
    updates = bench.planner.adapters()
    bench.start()
    assert bench.spin_until(lambda: bool(updates and bench.planner.reports)), "the last report comes once more"
    assert [each.digest for each in updates] == [done.produced]
    assert of(bench.finetuner, "adapter")[0] == OK


def test_a_worker_that_hangs_is_told_with_its_phase_and_goes_on_living(
    make: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make()
    bench.start()
    node, now = bench.finetuner, [0.0]
    assert node.supervisor is not None
    assert bench.spin_until(lambda: node.supervisor.phase == "collecting")
    pid = node.supervisor.pid
    assert of(node, "worker") == (OK, "runs")
    os.kill(pid, signal.SIGSTOP)
    try:
        bench.spin_for(0.3)  # what it had said before is heard
        monkeypatch.setattr(node.supervisor, "_clock", lambda: time.monotonic() + now[0])
        assert of(node, "worker") == (OK, "runs")
        now[0] = WORKER_SILENT_S
        level, text = of(node, "worker")
        assert level == WARN and text.startswith("collecting, but has said nothing for 12") and str(pid) in text
        assert node.supervisor.pid == pid and node.supervisor.deaths == 0
    finally:
        os.kill(pid, signal.SIGCONT)
    assert bench.spin_until(lambda: of(node, "worker") == (OK, "runs"))


def of(node: FinetunerNode, name: str) -> tuple[int, str]:
    """Level and message of a state, as it is now."""
    node._look()
    state = node.diagnostics.states()[name]
    return state.level, state.message


def test_a_malformed_message_is_warned_of_for_a_while_and_hides_no_silence(make: Callable[..., Bench]) -> None:
    bench = make()
    node = bench.finetuner
    assert node.trigger_configure() == SUCCESS and node.trigger_activate() == SUCCESS
    whole, broken, *_ = bench.planner.drive(1, 5)
    broken.action = 77
    for message in (whole, broken, whole):
        node._take(message)
    level, text = of(node, "experience")
    assert level == WARN and text.startswith("1 malformed messages dropped, the last because action is 77")
    node._received_at -= SILENT_S + 1.0
    level, text = of(node, "experience")
    assert level == WARN and text.startswith("no experience for 11 s on adawm_planner/experience")
    node._take(whole)
    assert "malformed" in of(node, "experience")[1], "it is still recent"
    node._malformed_at -= RECENT_S
    assert of(node, "experience") == (OK, "comes in")
    assert ("malformed", "1") in node.diagnostics.states()["experience"].values


def test_decisions_that_do_not_arrive_are_counted_and_warned_of_for_a_while(make: Callable[..., Bench]) -> None:
    bench = make()
    node = bench.finetuner
    assert node.trigger_configure() == SUCCESS and node.trigger_activate() == SUCCESS
    messages = [*bench.planner.drive(2, 5)]
    messages[5].action = 77
    for message in (messages[0], messages[1], messages[1], messages[5], messages[6]):
        node._take(message)
    level, text = of(node, "experience")
    assert level == WARN and text.startswith("1 malformed messages dropped")
    assert "3 decisions sent by the planner did not arrive, the last 3 before sequence 5; each gap ends" in text
    node._malformed_at -= RECENT_S
    assert of(node, "experience")[1].startswith("3 decisions sent by the planner did not arrive")
    node._missing_at -= RECENT_S
    assert of(node, "experience") == (OK, "comes in")
    assert ("missing", "3") in node.diagnostics.states()["experience"].values
    assert node.trigger_deactivate() == SUCCESS
    node._take(messages[7])
    assert node.trigger_activate() == SUCCESS
    node._take(messages[9])
    assert ("missing", "3") in node._experience_state().values, "what comes while it is inactive is not waited for"
    node._take(messages[11])
    assert "4 decisions sent by the planner did not arrive, the last 1 before sequence 11" in of(node, "experience")[1]


def test_how_far_a_round_is_and_how_often_driving_was_cut_is_told() -> None:
    state = round_state(Status("updating", "round 3", 2, 120, 7, 40, cuts={"lost": 2, "end": 31}))
    assert (state.level, state.message) == (OK, "updating: round 3")
    wanted = {"phase": "updating", "rounds": "2", "new_decisions": "120", "done": "7", "total": "40"}
    assert dict(state.values) == {**wanted, "cuts": "end 31, lost 2"}


def test_a_full_disk_is_an_error_until_it_is_written_again_and_a_warning_a_while_longer(
    make: Callable[..., Bench],
) -> None:
    bench = make(chunk_decisions=2)
    node = bench.finetuner
    assert node.trigger_configure() == SUCCESS and node.trigger_activate() == SUCCESS
    messages = bench.planner.drive(1, 5)
    with no_larger_file(0):
        node._take(next(messages))
        assert of(node, "replay") == (OK, "kept on disk")
        node._take(next(messages))
    level, text = of(node, "replay")
    assert level == ERROR and "cannot be written" in text and "2 decisions are lost" in text
    node._unwritten_at -= RECENT_S
    node._take(next(messages))
    assert of(node, "replay")[0] == ERROR, "nothing was written since"
    node._take(next(messages))
    assert of(node, "replay") == (OK, "kept on disk")
    node._unwritten_at += RECENT_S
    level, text = of(node, "replay")
    assert level == WARN and text.startswith("kept on disk again, after 2 decisions were lost, the last because")
    assert ("lost_decisions", "2") in node.diagnostics.states()["replay"].values


@pytest.mark.parametrize(
    "parameters",
    [
        {"signing_key": "/no/such/key.pem"},
        {"model_dir": "/no/such/model"},
        {"config_file": "/no/such"},
        {"config_file": __file__},
        {"preset": "nope"},
    ],
)
def test_what_is_not_there_is_refused_at_configure(
    make: Callable[..., Bench], parameters: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert make(**parameters).finetuner.trigger_configure() == FAILURE
    assert next(iter(parameters.values())) in "".join(capfd.readouterr())


def test_missing_source_rollouts_are_told_before_anything_is_driven(
    make: Callable[..., Bench], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    finetuner = make(source_dir=str(tmp_path)).finetuner
    assert finetuner.trigger_configure() == FAILURE and finetuner.supervisor is None
    assert "run `adawm baseline --rollouts-only --preset debug" in "".join(capfd.readouterr())


def test_a_key_that_others_can_read_is_refused_and_never_shown(
    place: Workplace, make: Callable[..., Bench], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    open_key = tmp_path / "open.pem"
    open_key.write_bytes(place.key.read_bytes())
    open_key.chmod(0o644)
    assert make(signing_key=str(open_key)).finetuner.trigger_configure() == FAILURE
    shown = "".join(capfd.readouterr())
    assert "mode is 0644, others could read the private key" in shown
    assert open_key.read_text().splitlines()[1] not in shown


def test_a_second_finetuner_on_the_same_folder_is_refused(make: Callable[..., Bench]) -> None:
    one, other = make(), make()
    assert one.finetuner.trigger_configure() == SUCCESS
    assert other.finetuner.trigger_configure() == FAILURE


def test_every_parameter_says_what_it_is() -> None:
    for row in FINETUNER_PARAMETERS:
        assert row.description and row.problem(row.default) is None, row.name


def test_a_round_that_would_never_begin_is_refused() -> None:
    (row,) = [row for row in FINETUNER_PARAMETERS if row.name == "round_decisions"]
    most = RoundConfig().most_decisions
    assert row.problem(most) is None and row.problem(most + 1) is not None


def test_the_documentation_shows_the_parameters() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "finetuning.md"
    assert markdown(FINETUNER_PARAMETERS) in page.read_text()
