"""Why a bundle is not used: the rule, what was measured, the limit, and what to do about it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import Enum
from typing import NoReturn


class Reason(Enum):
    """The rule that refused; values are stable, for messages and logs."""

    UNREADABLE = "unreadable"  # the folder or a file cannot be opened or read
    SYMLINK = "symlink"
    NOT_A_FILE = "not_a_file"
    FILE_NAME = "file_name"  # a name with a folder in it
    EXTRA_FILE = "extra_file"
    MISSING_FILE = "missing_file"
    FILE_SIZE = "file_size"
    SIGNATURE_FORMAT = "signature_format"
    UNSIGNED = "unsigned"
    UNTRUSTED_KEY = "untrusted_key"
    BAD_SIGNATURE = "bad_signature"
    MANIFEST_FORMAT = "manifest_format"
    OTHER_DIGEST = "other_digest"  # not the bundle that was asked for
    OTHER_BASE = "other_base"
    OTHER_VEHICLE = "other_vehicle"
    NO_VEHICLE = "no_vehicle"
    PINNED = "pinned"
    CLOCK = "clock"  # this machine's clock went back
    NOT_YET_VALID = "not_yet_valid"
    EXPIRED = "expired"
    NO_EXPIRY = "no_expiry"
    DUPLICATE = "duplicate"  # known already; nothing to do
    COUNTER = "counter"  # a rollback
    COUNTER_STEP = "counter_step"  # a fast-forward
    PARENT = "parent"  # trained on top of a bundle that was rolled back
    ACTING = "acting"  # made beside an adapter that was rolled back
    FILE_DIGEST = "file_digest"
    UNKNOWN_LAYER = "unknown_layer"
    OTHER_PART = "other_part"  # a layer of another part
    RANK = "rank"
    SHAPE = "shape"
    DTYPE = "dtype"
    PEFT_CONFIG = "peft_config"
    TENSOR_FORMAT = "tensor_format"
    TENSOR_NAMES = "tensor_names"
    NOT_FINITE = "not_finite"
    ENTRY = "entry"
    NORM = "norm"
    NO_EFFECT = "no_effect"
    ONNX_FORMAT = "onnx_format"
    ONNX_DIFFERS = "onnx_differs"
    PROBE = "probe"
    BUSY = "busy"  # another adapter is being tried
    SHADOW = "shadow"  # it would have driven otherwise, or not at all, beside the live one
    PROBATION = "probation"  # it drove worse than the record
    FAULT = "fault"  # an error of this program while the adapter was tried, or a model output that is not finite
    OPERATOR = "operator"  # somebody rolled it back
    NO_STORE = "no_store"  # this planner is not set up to take adapters
    UNKNOWN_BUNDLE = "unknown_bundle"  # not in the store


@dataclass(frozen=True)
class Refusal:
    """A refused bundle."""

    reason: Reason
    rule: str  # what must hold
    measured: str
    limit: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.reason.value}: {self.rule}; found {self.measured}, allowed {self.limit}. {self.remedy}"

    def to_json(self) -> dict[str, str]:
        """Plain values; `reason` is the enum's value."""
        return {**asdict(self), "reason": self.reason.value}


class Refused(Exception):
    """Carries a refusal from the rule that failed to the caller of the check."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


def refuse(reason: Reason, rule: str, measured: object, limit: object, remedy: str) -> NoReturn:
    """Raise Refused. Values come from strangers: they are shortened, and control characters are made visible."""
    raise Refused(Refusal(reason, rule, shown(measured), shown(limit), remedy))


def shown(value: object, most: int = 200) -> str:
    """A value on one short printable line."""
    # Cut first: it may be as long as a message, and each sign of it four times as long.
    text = "".join(sign if sign.isprintable() else f"\\x{ord(sign):02x}" for sign in str(value)[: most + 1])
    return text if len(text) <= most else f"{text[:most]}..."
