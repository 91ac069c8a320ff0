"""Adapters over ROS: pushed bundles and operators' services in, status and diagnostics out.

Conversion only; what happens to a bundle is runtime/swap/hot_swap.py's, in a thread of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from adawm_msgs.msg import AdapterInfo, AdapterUpdate, GateStatus
from adawm_msgs.srv import ListAdapters, LoadAdapter, PinAdapter, RollbackAdapter
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.exceptions import InvalidHandle
from rclpy.impl.rcutils_logger import RcutilsLogger
from rclpy.serialization import deserialize_message
from rclpy.service import Service
from rclpy.task import Future
from std_msgs.msg import Bool

from adawm_planner.adapters.base_model import read_base_model
from adawm_planner.adapters.keys import Trust, read_trust
from adawm_planner.adapters.refusal import Reason, Refusal, Refused, refuse
from adawm_planner.adapters.store import AdapterStore, Entry
from adawm_planner.adapters.store_state import Installed
from adawm_planner.adapters.verify import Context, VerifiedAdapter
from adawm_planner.adapters.wire import SENDER, check_layout, check_message_size
from adawm_planner.config.adapters import AdapterLimits
from adawm_planner.paths import user_path
from adawm_planner.ros import qos
from adawm_planner.ros.convert import expiry_stamp, ns_to_stamp
from adawm_planner.ros.diagnostics import ERROR, OK, WARN, State
from adawm_planner.ros.gate_topics import STATUS_TOPIC
from adawm_planner.ros.planner_parameters import adapter_limits_from, model_dir_from, swap_config_from
from adawm_planner.ros.watched_node import WatchedNode
from adawm_planner.runtime.engine import Engine, OnnxEngine
from adawm_planner.runtime.swap import messages as m
from adawm_planner.runtime.swap.hot_swap import HotSwap
from adawm_planner.runtime.swap.state import FINAL
from adawm_planner.runtime.swap.thread import GATE, SwapThread
from adawm_planner.runtime.warm import History

UPDATE_TOPIC = "adawm_finetuner/adapter"
OVERRIDE = "manual_override"
"""Intervention in the experience while a person drives."""

NO_STORE = Refusal(
    Reason.NO_STORE,
    "this planner must have a store for adapters",
    "adapters.store is empty",
    "a folder",
    "Set the parameters adapters.store and adapters.trust, and configure again",
)


def open_swap(values: dict[str, Any], engine: Engine, history: Callable[[], History]) -> HotSwap:
    """Open the store that the parameters name.

    Args:
        values: of the parameters.
        engine: of the base model.
        history: as HotSwap's.

    Raises:
        ValueError: the engine takes no adapters, or is of another model than model_dir holds by now; a key is none; or
            the store is damaged, open elsewhere, or in a folder that cannot be written.
        OSError: what is in the store cannot be restored.
    """
    if not isinstance(engine, OnnxEngine):
        raise ValueError(f"adapters.store is set, but a {type(engine).__name__} takes no adapters; leave it empty")
    model_dir = model_dir_from(values["model_dir"])
    base = read_base_model(model_dir, engine.planner_session)
    if base.digest != engine.digest:
        raise ValueError(
            f"{model_dir}: holds model {base.digest[:12]}, loaded was {engine.digest[:12]}; adapters must be checked "
            "against what drives: do not replace the model while a planner starts, and configure again"
        )
    context = Context(base, _trust(values["adapters.trust"]), adapter_limits_from(values), values["vehicle_id"] or None)
    store = _store(values["adapters.store"])
    try:
        return HotSwap(engine, store, context, swap_config_from(values), history, unix_s)
    except BaseException:
        store.close()
        raise


def _trust(value: str) -> Trust:
    try:
        return read_trust([user_path(value)] if value else [])
    except ValueError as error:
        advice = "give a public key (.pub) of `adawm adapter keygen`, or a folder of them"
        raise ValueError(f"adapters.trust: {error}; {advice}") from error


def _store(value: str) -> AdapterStore:
    try:
        return AdapterStore(user_path(value), unix_s())
    except ValueError as error:
        raise ValueError(f"adapters.store: {error}") from error
    except OSError as error:
        raise ValueError(
            f"adapters.store {value} cannot be used ({error.strerror or error}); give a folder that can be "
            "written, or leave it empty: then no adapters are taken"
        ) from error


def unix_s() -> int:
    """Wall clock, s since 1970."""
    return int(time.time())


class PlannerAdapters:
    """The subscription to bundles, the four services, and who takes over from the policy."""

    def __init__(
        self,
        node: WatchedNode,
        role: str,
        limits: AdapterLimits,
        swaps: SwapThread | None,
        intervened: Callable[[str], None],
    ) -> None:
        """Open topics and services.

        Args:
            role: of the ego vehicle.
            limits: of bundles.
            swaps: None refuses everything, with that reason.
            intervened: told by which rule the gate changes commands, or that a person drives; empty: neither.
        """
        self._node, self._limits, self._swaps = node, limits, swaps
        self._intervened, self._rule, self._overridden = intervened, "", False
        self.turned_away = 0  # bundles refused for want of a store
        override = f"/carla/{role}/vehicle_control_manual_override"
        table: list[tuple[type[Any], str, Any, Callable[[Any], None], bool]] = [
            # Raw: it may be large and hostile, and is unpacked where it costs no tick.
            (AdapterUpdate, UPDATE_TOPIC, qos.ADAPTER, self._on_update, True),
            (GateStatus, STATUS_TOPIC, qos.STATUS, self._on_gate, False),
            (Bool, override, qos.ROUTE, self._on_override, False),
        ]
        self._open = [
            node.create_subscription(kind, name, call, profile, raw=raw, event_callbacks=node.watch.subscription(name))
            for kind, name, profile, call, raw in table
        ]
        # Their own group: one that waits for its reply must not hold up the frames, which would be in its way.
        group = ReentrantCallbackGroup()
        services = {
            "~/load_adapter": (LoadAdapter, self._load),
            "~/rollback_adapter": (RollbackAdapter, self._roll_back),
            "~/list_adapters": (ListAdapters, self._list),
            "~/pin_adapter": (PinAdapter, self._pin),
        }
        self._services = [
            outliving(node.create_service(kind, name, call, callback_group=group), node.get_logger())
            for name, (kind, call) in services.items()
        ]

    def _tell_intervention(self) -> None:
        self._intervened(self._rule or (OVERRIDE if self._overridden else ""))

    def destroy(self) -> None:
        """Close topics and services; the swaps are closed by then, so that no request waits for them any more."""
        for subscription in self._open:
            self._node.destroy_subscription(subscription)
        for service in self._services:
            self._node.destroy_service(service)

    def _on_update(self, raw: bytes) -> None:
        if self._swaps is None:
            self.turned_away += 1  # told once a second: who sends many must cost the driving thread nothing
            return
        try:
            check_message_size(len(raw), self._limits)  # or what waits could fill the memory
        except Refused as refused:
            self._swaps.post(m.Turned(refused.refusal))
        else:
            self._swaps.post(m.Push(lambda: unpack(raw, self._limits)))

    def _on_gate(self, message: GateStatus) -> None:
        self._rule = message.rule if message.state != GateStatus.PASSING else ""
        self._tell_intervention()
        if self._swaps is not None:
            self._swaps.taken_over(GATE, message.state in (GateStatus.STOPPING, GateStatus.STOPPED))

    def _on_override(self, message: Bool) -> None:
        self._overridden = message.data
        self._tell_intervention()
        if self._swaps is not None:
            self._swaps.taken_over("driver", message.data)

    def _ask(self, make: Callable[[m.Answered], m.Event]) -> Future:
        """Post an event; the future has the reply. It is set in the swap's thread, and looked at by the executor."""
        future = Future()
        if self._swaps is None:
            future.set_result(m.Reply(False, str(NO_STORE)))
        else:
            self._swaps.post(make(future.set_result))
        return future

    async def _load(self, request: Any, response: Any) -> Any:
        digest = request.expected_digest or None
        folder = user_path(request.path)
        reply = await self._ask(lambda answer: m.Load(folder, digest, answer))
        return self._about_one(reply, response)

    async def _pin(self, request: Any, response: Any) -> Any:
        reply = await self._ask(lambda answer: m.Pin(request.digest, request.pinned, answer))
        return self._about_one(reply, response)

    async def _roll_back(self, request: Any, response: Any) -> Any:
        reply = await self._ask(lambda answer: m.RollBack(request.part, request.to_base, answer))
        response.success, response.message = reply.success, reply.message
        response.adapters = self._infos(reply.entries)
        return response

    async def _list(self, request: Any, response: Any) -> Any:
        reply = await self._ask(lambda answer: m.ListAll(request.part, answer))
        response.adapters = self._infos(reply.entries)
        response.base_digest = self._swaps.base_digest if self._swaps is not None else ""
        return response

    def _about_one(self, reply: m.Reply, response: Any) -> Any:
        response.success, response.message = reply.success, reply.message
        for info in self._infos(reply.entries):
            response.adapter = info
        return response

    def _infos(self, entries: Sequence[Entry]) -> list[AdapterInfo]:
        active = set() if self._swaps is None else {each.digest for each in self._swaps.report.adapters}
        return [adapter_info(each.bundle, each.bundle.digest in active, each.pinned) for each in entries]


def outliving(service: Service, logger: RcutilsLogger) -> Service:
    """Let a service end before its last response: rclpy would raise out of the executor, and end the process."""
    send = service.send_response

    def send_if_open(response: Any, header: Any) -> None:
        try:
            send(response, header)
        except InvalidHandle:
            logger.warning(f"{service.srv_name}: closed before its caller was answered")

    service.send_response = send_if_open
    return service


def unpack(raw: bytes, limits: AdapterLimits) -> tuple[list[tuple[str, bytes]], str]:
    """Files and announced digest of a serialized AdapterUpdate.

    Everything else in the message only repeats the manifest, which is what is signed, so it is not looked at.

    Raises Refused for a message that claims more than a bundle has, or that cannot be read.
    """
    check_layout(raw, limits)
    try:
        message = deserialize_message(raw, AdapterUpdate)
    except Exception as error:  # rclpy's own classes, which share no base but Exception
        refuse(Reason.UNREADABLE, "a message must be an AdapterUpdate", error, "its type", SENDER)
    return [(file.name, bytes(file.data)) for file in message.files], message.digest


def adapter_info(bundle: Installed, active: bool, pinned: bool) -> AdapterInfo:
    """Return a bundle as services tell of it."""
    return AdapterInfo(
        part=bundle.part,
        name=bundle.name,
        digest=bundle.digest,
        parent_digest=bundle.parent or "",
        base_digest=bundle.base,
        counter=bundle.counter,
        created=ns_to_stamp(bundle.created_unix_s * 10**9),
        expiry=expiry_stamp(bundle.expires_unix_s),
        active=active,
        pinned=pinned,
    )


def active_infos(report: m.Report) -> list[AdapterInfo]:
    """Return what drives, as the status tells of it."""
    return [adapter_info(_installed(each), True, each.manifest.part in report.pinned) for each in report.adapters]


def _installed(adapter: VerifiedAdapter) -> Installed:
    names = ("part", "name", "base", "parent", "counter", "created_unix_s", "expires_unix_s")
    return Installed(digest=adapter.digest, **{name: getattr(adapter.manifest, name) for name in names})


def swap_state(report: m.Report, takes: bool) -> State:
    """Say what drives, and what is on its way; `takes` tells whether adapters are taken at all."""
    if not takes:
        return State(OK, "base model; no adapters are taken: adapters.store is empty")
    names = [f"{each.manifest.part} {each.manifest.name} {each.digest[:12]}" for each in report.adapters]
    text = "base model" + (" with " + ", ".join(names) if names else "")
    swap = report.swap
    if swap is not None:
        text += f"; {swap.part} {swap.digest[:12]} {swap.stage.value}"
    values = {
        "pinned": ", ".join(sorted(report.pinned)) or "none",
        "part": "none" if swap is None else swap.part,
        "digest": "none" if swap is None else swap.digest[:12],
        "stage": "none" if swap is None else swap.stage.value,
        "swaps": str(report.swaps),
        "swap_ms": f"{report.swap_ms:.3f}",
        "refusals": str(report.refusals),
        **({} if swap is None or swap.stage in FINAL else report.figures),
    }
    if report.trouble:
        text += f"; {report.trouble}"
    return State(ERROR if report.trouble else OK, text, tuple(values.items()), key=f"{text} {values['pinned']}")


def refusal_state(report: m.Report) -> State:
    """Say which bundle was refused last, and why."""
    if report.refusals == 0:
        return State(OK, "no bundle refused")
    count = str(report.refusals)
    return State(WARN, report.last_refusal, (("refusals", count),), key=count)
