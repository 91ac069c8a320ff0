"""A bundle's files in, a verified adapter or the one rule that refuses it out.

Pure: no clock, no state, no file but the private copy that onnxruntime reads. The rules run in the order of the tables
at the end. Nothing of the content is interpreted before the signature over the manifest has been checked, and no tensor
before its file's digest has.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from adawm_planner.adapters import bundle as b
from adawm_planner.adapters.base_model import BaseModel
from adawm_planner.adapters.factors import Factors, part_of, runtime_inputs, update_norm
from adawm_planner.adapters.keys import Trust, is_signed_by
from adawm_planner.adapters.manifest import Manifest, bundle_digest, parse_manifest, utc
from adawm_planner.adapters.onnx_file import ONNX_FILE, read_onnx_adapter
from adawm_planner.adapters.peft_files import (
    CONFIG_FILE,
    TENSOR_FILE,
    factors_of,
    peft_config,
    read_tensors,
    tensor_names,
)
from adawm_planner.adapters.probe import check_form
from adawm_planner.adapters.refusal import Reason, Refusal, Refused, refuse, shown
from adawm_planner.config.adapters import AdapterLimits

SENDER = "Do not trust its sender; have the bundle made and signed again"
AGAIN = "Have the bundle made again for this planner"


@dataclass(frozen=True)
class Seen:
    """What the planner has accepted so far; `store.AdapterStore.seen` gives it."""

    counters: Mapping[str, int] = field(default_factory=dict)  # part -> highest counter
    known: frozenset[str] = frozenset()  # digests of accepted bundles
    pinned: frozenset[str] = frozenset()  # parts
    latest_unix_s: int = 0  # s, latest creation of a bundle that drives or may come back: signed, unlike the clock
    latest: str = ""  # that bundle, for messages


@dataclass(frozen=True)
class Context:
    """What a bundle is checked against."""

    base: BaseModel
    trust: Trust | None  # None: unsigned bundles are taken too; for evaluation offline, never for a vehicle
    limits: AdapterLimits = AdapterLimits()
    vehicle: str | None = None  # id of this vehicle; None: bundles for a certain vehicle are refused
    any_vehicle: bool = False  # do not look at vehicle ids; for evaluation offline, never for a vehicle
    seen: Seen = Seen()


@dataclass(frozen=True)
class VerifiedAdapter:
    """A bundle that passed every rule. Only `verify` makes one."""

    digest: str  # of the bundle, hex
    manifest: Manifest
    factors: Factors  # of every layer in the manifest
    files: b.Files  # exactly the bytes that were verified
    key_id: str | None  # of the signer; None: not signed


@dataclass
class _Work:
    """What the rules hand on to each other."""

    files: b.Files
    context: Context
    now_unix_s: int
    expected_digest: str | None
    key_id: str | None = None
    manifest: Manifest = field(init=False)
    factors: dict[str, tuple[np.ndarray, np.ndarray]] = field(init=False)

    @property
    def digest(self) -> str:
        return bundle_digest(self.files[b.MANIFEST_FILE])


def verify(
    files: b.Files, context: Context, now_unix_s: int, expected_digest: str | None = None, fresh: bool = True
) -> VerifiedAdapter | Refusal:
    """Check a bundle.

    Args:
        files: name -> content, as `bundle.read_bundle` or a message gives them.
        context: what it must fit.
        now_unix_s: wall clock, s since 1970.
        expected_digest: of the bundle that was asked for; None: any.
        fresh: False for a bundle that was accepted before and comes back after a restart: pin, clocks, expiry and
            counter, which are about accepting updates, are then not asked again.

    Returns:
        The adapter, or the first rule that it breaks.
    """
    work = _Work(files, context, now_unix_s, expected_digest)
    try:
        for check in (*IDENTITY_CHECKS, *(FRESHNESS_CHECKS if fresh else ()), *CONTENT_CHECKS):
            check(work)
    except Refused as refused:
        return refused.refusal
    return VerifiedAdapter(work.digest, work.manifest, work.factors, dict(files), work.key_id)


def verify_folder(
    folder: Path, context: Context, now_unix_s: int, expected_digest: str | None = None, fresh: bool = True
) -> VerifiedAdapter | Refusal:
    """`verify` the bundle in a directory."""
    try:
        files = b.read_bundle(folder, context.limits)
    except Refused as refused:
        return refused.refusal
    return verify(files, context, now_unix_s, expected_digest, fresh)


def verify_message(
    named: Iterable[tuple[str, bytes]], context: Context, now_unix_s: int, announced_digest: str
) -> VerifiedAdapter | Refusal:
    """`verify` the files of a message, in which a name could come twice.

    Args:
        named: name and content of each file, as in adawm_msgs/AdapterUpdate.files.
        context: what it must fit.
        now_unix_s: wall clock, s since 1970.
        announced_digest: what the message says the bundle's digest is. Its other fields repeat the manifest and are
            not needed: only what is signed counts.
    """
    files: dict[str, bytes] = {}
    for name, content in named:
        if name in files:
            return Refusal(
                Reason.EXTRA_FILE, "a message must hold each file once", shown(f"{name} twice"), "once", SENDER
            )
        files[name] = content
    return verify(files, context, now_unix_s, announced_digest)


def _files(work: _Work) -> None:
    b.check_names(list(work.files))
    for name, content in work.files.items():
        b.check_size(name, len(content), b.size_limit(name, work.context.limits))
    for name in b.BUNDLE_FILES:
        if name in work.files:
            continue
        if name == b.SIGNATURE_FILE and work.context.trust is None:
            continue
        reason = Reason.UNSIGNED if name == b.SIGNATURE_FILE else Reason.MISSING_FILE
        refuse(reason, "a bundle must be complete", f"no {name}", "all files", "Fetch it again, or sign it")


def _signature(work: _Work) -> None:
    trust = work.context.trust
    if trust is None:
        return
    try:
        work.key_id, signature = b.parse_signature(work.files[b.SIGNATURE_FILE])
    except ValueError as error:
        refuse(Reason.SIGNATURE_FORMAT, f"{b.SIGNATURE_FILE} must be readable", error, "its schema", SENDER)
    if work.key_id not in trust:
        refuse(
            Reason.UNTRUSTED_KEY,
            "the signer must be trusted",
            work.key_id,
            ", ".join(trust) or "no key",
            "Add the signer's .pub to the trust list only if you know it",
        )
    if not is_signed_by(trust[work.key_id], signature, work.files[b.MANIFEST_FILE]):
        refuse(Reason.BAD_SIGNATURE, "the signature must be of this manifest", "it is not", work.key_id, SENDER)


def _manifest(work: _Work) -> None:
    try:
        work.manifest = parse_manifest(work.files[b.MANIFEST_FILE])
        check_form(work.manifest.probe)
        if set(work.manifest.files) != set(b.DATA_FILES):
            raise ValueError(f"files must be {', '.join(b.DATA_FILES)}")
        if not work.manifest.layers:
            raise ValueError("layers must not be empty")
    except ValueError as error:
        refuse(Reason.MANIFEST_FORMAT, f"{b.MANIFEST_FILE} must be readable", error, "its schema", AGAIN)


def _asked_for(work: _Work) -> None:
    wanted = work.expected_digest
    if wanted is not None and work.digest != wanted:
        refuse(Reason.OTHER_DIGEST, "the bundle must be the one asked for", work.digest, wanted, "Check the digest")


def _base(work: _Work) -> None:
    ours = work.context.base.digest
    if work.manifest.base != ours:
        refuse(Reason.OTHER_BASE, "the bundle must be made for this base model", work.manifest.base, ours, AGAIN)


def _vehicle(work: _Work) -> None:
    theirs, ours = work.manifest.vehicle, work.context.vehicle
    if work.context.any_vehicle:
        return
    if theirs is None and work.context.limits.require_vehicle:
        refuse(Reason.NO_VEHICLE, "the bundle must name its vehicle", "none", ours or "any vehicle", AGAIN)
    if theirs is not None and theirs != ours:
        refuse(
            Reason.OTHER_VEHICLE,
            "the bundle must be for this vehicle",
            theirs,
            ours or "bundles for any vehicle, because this planner has no vehicle id",
            AGAIN,
        )


def _pin(work: _Work) -> None:
    if work.manifest.part in work.context.seen.pinned:
        refuse(
            Reason.PINNED,
            "the part must not be pinned",
            f"{work.manifest.part} is pinned",
            "not pinned",
            "Unpin it if updates are wanted again",
        )


def _clock(work: _Work) -> None:
    tolerance, latest = work.context.limits.clock_tolerance_s, work.context.seen.latest_unix_s
    if work.now_unix_s < latest - tolerance:
        refuse(
            Reason.CLOCK,
            "this machine's clock must not be behind the adapters it holds",
            f"{work.now_unix_s} s since 1970 ({utc(work.now_unix_s)})",
            f"{latest - tolerance} or later: {work.context.seen.latest} was made at {latest} ({utc(latest)})",
            "Set the clock if it is wrong. If it is right, that adapter was made while a clock was ahead: roll it "
            "back (~/rollback_adapter), then newer ones are taken again",
        )
    if work.manifest.created_unix_s > work.now_unix_s + tolerance:
        refuse(
            Reason.NOT_YET_VALID,
            "the bundle must not come from the future",
            f"created at {work.manifest.created_unix_s} s since 1970",
            f"{work.now_unix_s + tolerance} or earlier",
            "Set the clock of this machine or of the signer's",
        )


def _expiry(work: _Work) -> None:
    expires, now = work.manifest.expires_unix_s, work.now_unix_s
    if expires is None and work.context.limits.require_expiry:
        refuse(Reason.NO_EXPIRY, "the bundle must say when it expires", "never", "a time", AGAIN)
    if expires is not None and now >= expires:
        refuse(
            Reason.EXPIRED, "the bundle must not have expired", f"now {now} s since 1970", f"before {expires}", AGAIN
        )


def _counter(work: _Work) -> None:
    counter, seen = work.manifest.counter, work.context.seen
    highest = seen.counters.get(work.manifest.part, 0)
    if work.digest in seen.known:
        refuse(
            Reason.DUPLICATE, "a bundle is taken once", work.digest, "a new one", "Nothing to do: it is known already"
        )
    if counter <= highest:
        refuse(
            Reason.COUNTER,
            "the counter must be above the highest seen",
            counter,
            f"above {highest}",
            "An older bundle is not taken; roll back on the planner instead",
        )
    most = highest + work.context.limits.counter_step
    if counter > most:
        refuse(
            Reason.COUNTER_STEP,
            "the counter must not leap",
            counter,
            f"at most {most}",
            "It would lock later updates out; do not trust its sender",
        )


def _digests(work: _Work) -> None:
    for name, entry in work.manifest.files.items():
        content = work.files[name]
        if len(content) != entry.bytes:
            refuse(
                Reason.FILE_SIZE,
                f"{name} must have the manifest's size",
                f"{len(content)} bytes",
                f"{entry.bytes} bytes",
                "Fetch the bundle again",
            )
        found = hashlib.sha256(content).hexdigest()
        if found != entry.sha256:
            refuse(
                Reason.FILE_DIGEST,
                f"{name} must be the manifest's",
                f"sha256 {found}",
                entry.sha256,
                "Fetch the bundle again",
            )


def _layers(work: _Work) -> None:
    part, known, rank = work.manifest.part, work.context.base.layers, work.context.limits.rank
    for name, entry in work.manifest.layers.items():
        if name not in known:
            refuse(Reason.UNKNOWN_LAYER, "layers must be adaptable layers of the base", name, ", ".join(known), AGAIN)
        if part_of(name) != part:
            refuse(Reason.OTHER_PART, f"layers must belong to part {part}", name, part, AGAIN)
        if entry.rank > rank:
            refuse(
                Reason.RANK, f"the rank of {name} must be within its limit", entry.rank, rank, "Adapt at a lower rank"
            )
        sizes = known[name].inputs, known[name].outputs
        if (entry.inputs, entry.outputs) != sizes:
            refuse(Reason.SHAPE, f"{name} must have the base's sizes", (entry.inputs, entry.outputs), sizes, AGAIN)


def _config(work: _Work) -> None:
    if work.files[CONFIG_FILE] != peft_config(work.manifest.part, work.manifest.layers):
        refuse(
            Reason.PEFT_CONFIG,
            f"{CONFIG_FILE} must follow from the layers alone",
            "other settings",
            "those of `adawm adapter sign`",
            AGAIN,
        )


def _tensors(work: _Work) -> None:
    part, layers = work.manifest.part, work.manifest.layers
    try:
        tensors = read_tensors(work.files[TENSOR_FILE])
    except ValueError as error:
        refuse(Reason.TENSOR_FORMAT, f"{TENSOR_FILE} must be readable", error, "safetensors", AGAIN)
    wanted = tensor_names(part, layers)
    if set(tensors) != wanted:
        refuse(
            Reason.TENSOR_NAMES,
            f"{TENSOR_FILE} must hold the manifest's layers, no more, no less",
            sorted(set(tensors) ^ wanted),
            "no difference",
            AGAIN,
        )
    for name, each in tensors.items():
        if each.dtype != np.float32:
            refuse(Reason.DTYPE, f"{name} must be float32", each.dtype, "float32", AGAIN)
    work.factors = {}
    for name, entry in layers.items():
        down, up = factors_of(part, name, tensors)
        shapes = (entry.inputs, entry.rank), (entry.rank, entry.outputs)
        if (down.shape, up.shape) != shapes:
            refuse(
                Reason.SHAPE,
                f"factors of {name} must have the manifest's shapes",
                (down.shape, up.shape),
                shapes,
                AGAIN,
            )
        work.factors[name] = down, up


def _values(work: _Work) -> None:
    limits, moved = work.context.limits, 0.0
    for name, (down, up) in work.factors.items():
        if not (np.isfinite(down).all() and np.isfinite(up).all()):
            refuse(Reason.NOT_FINITE, f"factors of {name} must be finite", "NaN or infinity", "finite", AGAIN)
        largest = max(float(np.abs(down).max()), float(np.abs(up).max()))
        if largest > limits.entry:
            refuse(Reason.ENTRY, f"numbers of {name} must be within their limit", f"{largest:g}", limits.entry, AGAIN)
        norm, base = update_norm(down, up), work.context.base.layers[name].norm
        if not norm <= limits.norm_ratio * base:
            refuse(
                Reason.NORM,
                f"the change of {name} must not be large against its weights",
                f"norm {norm:g}",
                f"{limits.norm_ratio * base:g}, {limits.norm_ratio:g} times the weights'",
                AGAIN,
            )
        moved = max(moved, norm)
    if moved == 0.0:
        refuse(Reason.NO_EFFECT, "an adapter must change something", "every change is zero", "one above zero", AGAIN)


def _onnx(work: _Work) -> None:
    try:
        found = read_onnx_adapter(work.files[ONNX_FILE])
    except ValueError as error:
        refuse(Reason.ONNX_FORMAT, f"{ONNX_FILE} must be readable", error, "onnxruntime's adapter format", AGAIN)
    wanted = runtime_inputs(work.factors)
    differing = sorted(set(found) ^ set(wanted)) or [n for n in wanted if not _same(found[n], wanted[n])]
    if differing:
        refuse(
            Reason.ONNX_DIFFERS,
            f"{ONNX_FILE} must hold the factors of {TENSOR_FILE}",
            differing,
            "no difference",
            AGAIN,
        )


def _same(left: np.ndarray, right: np.ndarray) -> bool:
    return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()


Check = Callable[[_Work], None]

IDENTITY_CHECKS: tuple[Check, ...] = (_files, _signature, _manifest, _asked_for, _base, _vehicle)
FRESHNESS_CHECKS: tuple[Check, ...] = (_pin, _clock, _expiry, _counter)
CONTENT_CHECKS: tuple[Check, ...] = (_digests, _layers, _config, _tensors, _values, _onnx)
"""In this order; each raises Refused."""
