"""Every attack on an update is refused with its own reason, and the store with the live adapter stays as it was."""

from __future__ import annotations

import json
import os
import pickle
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from adawm_planner.adapters.bundle import (
    BUNDLE_FILES,
    MANIFEST_FILE,
    SIGNATURE_FILE,
    Files,
    sign_bundle,
    write_bundle,
)
from adawm_planner.adapters.keys import key_id
from adawm_planner.adapters.manifest import bundle_digest
from adawm_planner.adapters.onnx_file import ONNX_FILE, onnx_adapter
from adawm_planner.adapters.peft_files import CONFIG_FILE, TENSOR_FILE
from adawm_planner.adapters.refusal import Reason, Refusal
from adawm_planner.adapters.store import AdapterStore
from adawm_planner.adapters.strict_json import canonical
from adawm_planner.adapters.verify import Context, VerifiedAdapter, verify, verify_folder, verify_message
from adawm_planner.config.adapters import AdapterLimits
from tests.adapters.conftest import KEY, NOW, Maker
from tests.adapters.forgery import signed_again, with_factors, with_manifest_bytes, with_tensors

STRANGER = Ed25519PrivateKey.from_private_bytes(bytes(32))


class Vehicle:
    """What a planner does with an update: verify, and only then install. It has a live adapter with counter 6."""

    def __init__(self, maker: Maker, root: Path) -> None:
        self.store, self.root = AdapterStore(root, NOW), root
        self.context = replace(maker.context, vehicle="car-1")
        live = self.offer(maker.files(counter=6, name="live", factors=maker.factors(seed=9)))
        assert isinstance(live, VerifiedAdapter), live
        self.store.activate(live.digest, NOW)
        self.store.commit("policy", NOW)
        self.live = live.digest

    def offer(self, update: Files | Path, **changes: Any) -> VerifiedAdapter | Refusal:
        now = changes.pop("now", NOW)
        expected = changes.pop("expected_digest", None)
        context: Context = replace(self.context, seen=self.store.seen(), **changes)
        check = verify_folder if isinstance(update, Path) else verify
        found = check(update, context, now, expected)  # type: ignore[arg-type, operator]
        if isinstance(found, VerifiedAdapter):
            self.store.install(found, now)
        return found

    def snapshot(self) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in sorted(self.root.rglob("*")) if path.is_file()}

    def refuses(self, update: Files | Path, reason: Reason, **changes: Any) -> Refusal:
        before, seen = self.snapshot(), self.store.seen()
        found = self.offer(update, **changes)
        assert isinstance(found, Refusal), "accepted"
        assert found.reason is reason, str(found)
        assert all(found.to_json().values()), "rule, measured, limit and remedy are all told"
        assert self.snapshot() == before and self.store.seen() == seen
        assert self.store.part("policy").current == self.live
        return found


@pytest.fixture
def vehicle(maker: Maker, tmp_path: Path) -> Iterator[Vehicle]:
    vehicle = Vehicle(maker, tmp_path / "store")
    with vehicle.store:
        yield vehicle


def test_a_good_bundle_is_accepted_or_nothing_here_means_anything(vehicle: Vehicle, signed: Files) -> None:
    assert isinstance(vehicle.offer(signed), VerifiedAdapter)


# TUF's attacks


def test_arbitrary_installation(vehicle: Vehicle, maker: Maker, signed: Files) -> None:
    vehicle.refuses(maker.files(key=STRANGER), Reason.UNTRUSTED_KEY)
    claimed = json.loads(sign_bundle(signed, STRANGER)[SIGNATURE_FILE])
    claimed["key_id"] = key_id(KEY.public_key())
    vehicle.refuses({**signed, SIGNATURE_FILE: canonical(claimed)}, Reason.BAD_SIGNATURE)
    without = {name: content for name, content in signed.items() if name != SIGNATURE_FILE}
    vehicle.refuses(without, Reason.UNSIGNED)


@pytest.mark.parametrize(
    "signature",
    [
        b"",
        b"{}",
        b"[]\n",
        b"null\n",
        b'{"key_id":1,"schema":"adawm.signature/1","signature":2}\n',
        canonical({"schema": "adawm.signature/1", "key_id": key_id(KEY.public_key()), "signature": "00"}),
        canonical({"schema": "adawm.signature/1", "key_id": "\x1b[1A\x1b[2Ktrusted", "signature": "00" * 64}),
        canonical({"schema": "adawm.signature/1", "key_id": key_id(KEY.public_key()), "signature": "zz" * 64}),
        canonical({"schema": "adawm.signature/2", "key_id": key_id(KEY.public_key()), "signature": "00" * 64}),
    ],
)
def test_a_signature_of_another_form(vehicle: Vehicle, signed: Files, signature: bytes) -> None:
    vehicle.refuses({**signed, SIGNATURE_FILE: signature}, Reason.SIGNATURE_FORMAT)


def test_endless_data(vehicle: Vehicle, signed: Files, tmp_path: Path) -> None:
    limits = AdapterLimits()
    vehicle.refuses({**signed, TENSOR_FILE: bytes(limits.largest_file + 1)}, Reason.FILE_SIZE)
    vehicle.refuses({**signed, MANIFEST_FILE: b" " * (limits.largest_text + 1)}, Reason.FILE_SIZE)
    write_bundle(tmp_path / "bundle", signed)
    with (tmp_path / "bundle" / ONNX_FILE).open("r+b") as file:
        file.truncate(2 * 2**30)  # sparse: nothing of it is read
    assert "2147483648" in vehicle.refuses(tmp_path / "bundle", Reason.FILE_SIZE).measured


def test_a_claim_of_2_gib(vehicle: Vehicle, signed: Files) -> None:
    claimed = signed_again(signed, lambda m: m["files"][TENSOR_FILE].update(bytes=2 * 2**30))
    vehicle.refuses(claimed, Reason.FILE_SIZE)
    header = json.dumps({"x": {"dtype": "F32", "shape": [2**29], "data_offsets": [0, 2**31]}}).encode()
    content = struct.pack("<Q", len(header)) + header + bytes(64)
    vehicle.refuses(signed_again({**signed, TENSOR_FILE: content}), Reason.TENSOR_FORMAT)
    huge = struct.pack("<Q", 2**62) + header
    vehicle.refuses(signed_again({**signed, TENSOR_FILE: huge}), Reason.TENSOR_FORMAT)


@pytest.mark.parametrize("name", ["adapter_model.bin", "README.md", "MANIFEST.JSON", "manifest.json ", "x\x1b[2J"])
def test_extraneous_dependencies(vehicle: Vehicle, signed: Files, tmp_path: Path, name: str) -> None:
    found = vehicle.refuses({**signed, name: b"x"}, Reason.EXTRA_FILE)
    assert str(found).isprintable()
    write_bundle(tmp_path / "bundle", signed)
    (tmp_path / "bundle" / name).write_bytes(b"x")
    vehicle.refuses(tmp_path / "bundle", Reason.EXTRA_FILE)


def test_fast_forward(vehicle: Vehicle, maker: Maker) -> None:
    step = AdapterLimits().counter_step
    vehicle.refuses(maker.files(counter=6 + step + 1), Reason.COUNTER_STEP)
    vehicle.refuses(maker.files(counter=2**63 - 1), Reason.COUNTER_STEP)
    assert isinstance(vehicle.offer(maker.files(counter=6 + step)), VerifiedAdapter)


def test_indefinite_freeze(vehicle: Vehicle, maker: Maker) -> None:
    files = maker.files(expires_unix_s=NOW + 100)
    vehicle.refuses(files, Reason.EXPIRED, now=NOW + 100)
    assert isinstance(vehicle.offer(files, now=NOW + 99), VerifiedAdapter)
    never = maker.files(expires_unix_s=None, counter=8)
    vehicle.context = replace(vehicle.context, limits=AdapterLimits(require_expiry=True))
    refusal = vehicle.offer(never)
    assert isinstance(refusal, Refusal) and refusal.reason is Reason.NO_EXPIRY


def test_a_clock_that_was_turned_back(vehicle: Vehicle, maker: Maker, signed: Files) -> None:
    """Turned back, an expired bundle would look fresh; the newest accepted creation is a time that has passed."""
    vehicle.refuses(signed, Reason.CLOCK, now=NOW - 60 - 301)
    vehicle.refuses(maker.files(created_unix_s=NOW + 301, expires_unix_s=None), Reason.NOT_YET_VALID)
    assert isinstance(vehicle.offer(maker.files(created_unix_s=NOW + 300)), VerifiedAdapter)


def test_a_clock_that_was_ahead_locks_nothing_out_after_a_roll_back(vehicle: Vehicle, maker: Maker) -> None:
    """Made and taken while both clocks were ten years ahead; then the clock was set right."""
    ahead = NOW + 10 * 365 * 86_400
    future = maker.files(counter=7, name="future", created_unix_s=ahead, expires_unix_s=None)
    found = vehicle.offer(future, now=ahead)
    assert isinstance(found, VerifiedAdapter)
    vehicle.store.activate(found.digest, NOW)
    vehicle.store.commit("policy", NOW)
    vehicle.live = found.digest
    newer = maker.files(counter=8, name="newer", factors=maker.factors(seed=3))
    refusal = vehicle.refuses(newer, Reason.CLOCK)
    assert f"policy adapter future, digest {found.digest[:12]} was made at {ahead} (" in refusal.limit
    assert "~/rollback_adapter" in refusal.remedy and "UTC" in refusal.limit and "..." not in refusal.limit
    vehicle.live = vehicle.store.rollback("policy", NOW, "operator") or ""
    vehicle.refuses(future, Reason.NOT_YET_VALID)
    vehicle.refuses(future, Reason.DUPLICATE, now=ahead)
    vehicle.refuses(maker.files(counter=7, name="replayed", factors=maker.factors(seed=4)), Reason.COUNTER)
    assert isinstance(vehicle.offer(newer), VerifiedAdapter)


def test_malicious_mirror(vehicle: Vehicle, signed: Files) -> None:
    for name in (CONFIG_FILE, TENSOR_FILE, ONNX_FILE):
        content = bytearray(signed[name])
        content[len(content) // 2] ^= 1
        vehicle.refuses({**signed, name: bytes(content)}, Reason.FILE_DIGEST)
    other = signed[MANIFEST_FILE].replace(b'"name":"first"', b'"name":"final"')
    assert other != signed[MANIFEST_FILE]
    vehicle.refuses({**signed, MANIFEST_FILE: other}, Reason.BAD_SIGNATURE)


def test_mix_and_match(vehicle: Vehicle, maker: Maker, signed: Files) -> None:
    other = maker.files(maker.factors(seed=4), counter=8)
    for name in (TENSOR_FILE, ONNX_FILE):
        vehicle.refuses({**signed, name: other[name]}, Reason.FILE_DIGEST)
    vehicle.refuses({**signed, MANIFEST_FILE: other[MANIFEST_FILE]}, Reason.BAD_SIGNATURE)
    vehicle.refuses({**signed, SIGNATURE_FILE: other[SIGNATURE_FILE]}, Reason.BAD_SIGNATURE)
    vehicle.refuses(signed, Reason.OTHER_DIGEST, expected_digest="0" * 64)


def test_rollback(vehicle: Vehicle, maker: Maker) -> None:
    vehicle.refuses(maker.files(counter=5), Reason.COUNTER)
    vehicle.refuses(maker.files(counter=6, name="twin"), Reason.COUNTER)
    assert isinstance(vehicle.offer(maker.files(counter=1, part="dynamics")), VerifiedAdapter), "counted per part"


def test_a_duplicate_message(vehicle: Vehicle, maker: Maker) -> None:
    vehicle.refuses(maker.files(counter=6, name="live", factors=maker.factors(seed=9)), Reason.DUPLICATE)


def test_a_message_with_a_file_twice_or_another_digest(vehicle: Vehicle, signed: Files) -> None:
    digest, pairs = bundle_digest(signed[MANIFEST_FILE]), list(signed.items())
    twice = verify_message([*pairs, pairs[0]], vehicle.context, NOW, digest)
    assert isinstance(twice, Refusal) and twice.reason is Reason.EXTRA_FILE and "twice" in twice.measured
    other = verify_message(pairs, vehicle.context, NOW, "")
    assert isinstance(other, Refusal) and other.reason is Reason.OTHER_DIGEST
    assert isinstance(verify_message(pairs, vehicle.context, NOW, digest), VerifiedAdapter)


def test_a_compromised_key_is_taken_from_the_trust_list(vehicle: Vehicle, signed: Files) -> None:
    vehicle.refuses(signed, Reason.UNTRUSTED_KEY, trust={key_id(STRANGER.public_key()): STRANGER.public_key()})
    vehicle.refuses(signed, Reason.UNTRUSTED_KEY, trust={})


def test_wrong_target(vehicle: Vehicle, maker: Maker, signed: Files) -> None:
    vehicle.refuses(maker.files(base="ab" * 32), Reason.OTHER_BASE)
    vehicle.refuses(with_factors(signed, maker.factors("dynamics")), Reason.OTHER_PART)


# Uptane's further ones


@pytest.mark.parametrize("name", [name for name in BUNDLE_FILES if name != SIGNATURE_FILE])
def test_partial_bundle(vehicle: Vehicle, signed: Files, tmp_path: Path, name: str) -> None:
    part = {each: content for each, content in signed.items() if each != name}
    vehicle.refuses(part, Reason.MISSING_FILE)
    write_bundle(tmp_path / "bundle", part)
    vehicle.refuses(tmp_path / "bundle", Reason.MISSING_FILE)


def test_an_eavesdropper_learns_no_key(signed: Files) -> None:
    assert not [name for name, content in signed.items() if KEY.private_bytes_raw() in content]
    assert not [name for name, content in signed.items() if KEY.private_bytes_raw().hex().encode() in content]


def test_replay_to_another_vehicle(vehicle: Vehicle, maker: Maker, signed: Files) -> None:
    files = maker.files(vehicle="car-2")
    vehicle.refuses(files, Reason.OTHER_VEHICLE)
    vehicle.refuses(files, Reason.OTHER_VEHICLE, vehicle=None)
    vehicle.refuses(signed, Reason.NO_VEHICLE, limits=AdapterLimits(require_vehicle=True))
    assert isinstance(vehicle.offer(maker.files(vehicle="car-1")), VerifiedAdapter)


def test_a_pinned_part_takes_no_update(vehicle: Vehicle, signed: Files) -> None:
    vehicle.store.pin("policy", True, NOW)
    vehicle.refuses(signed, Reason.PINNED)
    vehicle.store.pin("policy", False, NOW)
    assert isinstance(vehicle.offer(signed), VerifiedAdapter)


# Files


def test_truncation(vehicle: Vehicle, signed: Files) -> None:
    for name in (CONFIG_FILE, TENSOR_FILE, ONNX_FILE):
        for length in (0, 1, len(signed[name]) - 1):
            vehicle.refuses({**signed, name: signed[name][:length]}, Reason.FILE_SIZE)
    vehicle.refuses({**signed, MANIFEST_FILE: signed[MANIFEST_FILE][:-1]}, Reason.BAD_SIGNATURE)
    for name, reason in ((TENSOR_FILE, Reason.TENSOR_FORMAT), (ONNX_FILE, Reason.ONNX_FORMAT)):
        for length in (0, 7, len(signed[name]) - 40):
            vehicle.refuses(signed_again({**signed, name: signed[name][:length]}), reason)


@pytest.mark.parametrize("name", BUNDLE_FILES)
def test_a_symlink(vehicle: Vehicle, signed: Files, tmp_path: Path, name: str) -> None:
    write_bundle(tmp_path / "bundle", signed)
    (tmp_path / "bundle" / name).rename(tmp_path / name)
    (tmp_path / "bundle" / name).symlink_to(tmp_path / name)
    vehicle.refuses(tmp_path / "bundle", Reason.SYMLINK)


def test_a_linked_folder_a_missing_one_and_a_file(vehicle: Vehicle, signed: Files, tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundle", signed)
    (tmp_path / "link").symlink_to(tmp_path / "bundle")
    vehicle.refuses(tmp_path / "link", Reason.SYMLINK)
    vehicle.refuses(tmp_path / "nowhere", Reason.UNREADABLE)
    vehicle.refuses(tmp_path / "bundle" / MANIFEST_FILE, Reason.UNREADABLE)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_pipe_or_a_folder_in_place_of_a_file(
    vehicle: Vehicle, signed: Files, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    write_bundle(tmp_path / "bundle", signed)
    (tmp_path / "bundle" / TENSOR_FILE).unlink()
    make(tmp_path / "bundle" / TENSOR_FILE)
    vehicle.refuses(tmp_path / "bundle", Reason.NOT_A_FILE)


@pytest.mark.parametrize("name", ["../manifest.json", "/etc/passwd", "a/b", "..", ".", ""])
def test_path_tricks(vehicle: Vehicle, signed: Files, name: str) -> None:
    vehicle.refuses({**signed, name: b"x"}, Reason.FILE_NAME)


def test_path_tricks_in_the_manifest(vehicle: Vehicle, signed: Files) -> None:
    def point_outside(manifest: dict[str, Any]) -> None:
        manifest["files"]["../../etc/passwd"] = manifest["files"].pop(TENSOR_FILE)

    vehicle.refuses(signed_again(signed, point_outside), Reason.MANIFEST_FORMAT)


class Bomb:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def test_a_pickle_is_never_loaded(vehicle: Vehicle, signed: Files, tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    content = pickle.dumps(Bomb(mark))
    vehicle.refuses({**signed, "adapter_model.bin": content}, Reason.EXTRA_FILE)
    vehicle.refuses(signed_again({**signed, TENSOR_FILE: content}), Reason.TENSOR_FORMAT)
    vehicle.refuses(signed_again({**signed, ONNX_FILE: content}), Reason.ONNX_FORMAT)
    vehicle.refuses(with_manifest_bytes(signed, content), Reason.MANIFEST_FORMAT)
    assert not mark.exists()
    pickle.loads(content)
    assert mark.exists(), "the bomb is a real one"


# The manifest's form


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.update(more=1), "unknown keys ['more']"),
        (lambda m: m.pop("counter"), "missing keys ['counter']"),
        (lambda m: m.update(schema="adawm.adapter/2"), "schema must be adawm.adapter/1"),
        (lambda m: m.update(counter=True), "counter must be a whole number"),
        (lambda m: m.update(counter=7.0), "counter must be a whole number"),
        (lambda m: m.update(counter=2**63), "counter must be a whole number"),
        (lambda m: m.update(counter=0), "counter must be a whole number"),
        (lambda m: m.update(counter="7"), "counter must be a whole number"),
        (lambda m: m.update(part="encoder"), "part must be one of dynamics, policy"),
        (lambda m: m.update(part=["policy"]), "part must be one of"),
        (lambda m: m.update(name="\x1b[2J"), "name must be"),
        (lambda m: m.update(name="a" * 65), "name must be"),
        (lambda m: m.update(base="AB" * 32), "base must be a sha256"),
        (lambda m: m.update(expires_unix_s=-1), "expires_unix_s must be"),
        (lambda m: m.update(vehicle=""), "vehicle must be"),
        (lambda m: m.update(mismatch={"x": "1"}), "mismatch.x must be a number"),
        (lambda m: m.update(mismatch={"\x1b[31mx": 1.0}), r"mismatch has key '\x1b[31mx', must be 1 to 128"),
        (lambda m: m["layers"].update({"\x1b[2J": m["layers"]["actor.net.0"]}), r"layers has key '\x1b[2J', must be"),
        (lambda m: m.update(gate=[]), "gate must be an object"),
        (lambda m: m.update(acting=None), "acting must be a list of at most 2 digests"),
        (lambda m: m.update(acting=["a" * 64] * 3), "acting must be a list of at most 2 digests"),
        (lambda m: m.update(acting=["A" * 64]), "acting must be a sha256"),
        (lambda m: m.update(layers={}), "layers must not be empty"),
        (lambda m: m.update(layers=[]), "layers must be an object"),
        (lambda m: m["layers"]["actor.net.0"].update(dtype="float16"), "dtype must be float32"),
        (lambda m: m["layers"]["actor.net.0"].pop("rank"), "missing keys ['rank']"),
        (lambda m: m["files"].pop(ONNX_FILE), "files must be"),
        (lambda m: m["probe"].update(count=65), "probe.count is 65, must be at most 64"),
        (lambda m: m["probe"]["outputs"].pop("value"), "probe.outputs must hold"),
        (lambda m: m["probe"]["outputs"]["value"].append(1.0), "probe.outputs must hold"),
        (lambda m: m["probe"]["outputs"].update(value=[None] * 8), "must be a number"),
        (lambda m: m["probe"]["outputs"].update(value=[10**400] * 8), "probe.outputs.value must be a number"),
        (lambda m: m.update(mismatch={"x": 10**400}), "mismatch.x must be a number"),
    ],
)
def test_a_manifest_of_another_form(
    vehicle: Vehicle, signed: Files, change: Callable[[dict[str, Any]], Any], words: str
) -> None:
    assert words in vehicle.refuses(signed_again(signed, change), Reason.MANIFEST_FORMAT).measured


def test_json_that_means_two_things(vehicle: Vehicle, signed: Files) -> None:
    content = signed[MANIFEST_FILE]
    for other, words in (
        (content.replace(b'"counter":7', b'"counter":7,"counter":9'), "duplicate key 'counter'"),
        (content.replace(b'"mismatch":{}', b'"mismatch":{"x":NaN}'), "NaN is not a number"),
        (content.replace(b'"mismatch":{}', b'"mismatch":{"x":1e999}'), "not JSON compliant"),
        (content.replace(b'"counter":7', b'"counter": 7'), "not in canonical form"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"counter":' + b"9" * 10_000 + b"}", "integer"),
        (b"\xff\xfe", "utf-8"),
        (b"", "Expecting value"),
    ):
        assert other != content
        assert words in vehicle.refuses(with_manifest_bytes(signed, other), Reason.MANIFEST_FORMAT).measured


# Layers and tensors


def test_unknown_layers(vehicle: Vehicle, maker: Maker, signed: Files) -> None:
    name, pair = next(iter(maker.factors().items()))
    for other in ("actor.net.99", "critic.head.net.0", "world_model.encoder.linear", "actor.net.0.weight"):
        vehicle.refuses(with_factors(signed, {other: pair}), Reason.UNKNOWN_LAYER)


def test_rank_above_its_limit(vehicle: Vehicle, maker: Maker, signed: Files) -> None:
    rank = AdapterLimits().rank + 1
    wide = {
        name: (np.repeat(down[:, :1], rank, 1) / rank, np.repeat(up[:1], rank, 0))
        for name, (down, up) in maker.factors().items()
    }
    assert str(rank) in vehicle.refuses(with_factors(signed, wide), Reason.RANK).measured


def test_wrong_shape_in_the_last_tensor(vehicle: Vehicle, maker: Maker, signed: Files) -> None:
    factors = maker.factors()
    name = list(factors)[-1]
    down, up = factors[name]
    wrong = {**factors, name: (down, np.concatenate([up, up], 1))}
    vehicle.refuses(with_factors(signed, wrong), Reason.SHAPE)

    def only_the_tensor(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        last = sorted(tensors)[-1]
        return {**tensors, last: tensors[last].reshape(-1, 1)}

    vehicle.refuses(with_tensors(signed, only_the_tensor), Reason.SHAPE)


def test_tensors_beside_or_missing(vehicle: Vehicle, signed: Files) -> None:
    vehicle.refuses(with_tensors(signed, lambda t: {**t, "more": np.zeros(1, np.float32)}), Reason.TENSOR_NAMES)
    vehicle.refuses(with_tensors(signed, lambda t: dict(list(t.items())[1:])), Reason.TENSOR_NAMES)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int32])
def test_other_number_types(vehicle: Vehicle, signed: Files, dtype: Any) -> None:
    files = with_tensors(signed, lambda tensors: {name: each.astype(dtype) for name, each in tensors.items()})
    vehicle.refuses(files, Reason.DTYPE)


def test_duplicate_keys_in_a_tensor_header(vehicle: Vehicle, signed: Files) -> None:
    content = signed[TENSOR_FILE]
    (length,) = struct.unpack("<Q", content[:8])
    entries = json.loads(content[8 : 8 + length])
    name = next(name for name in entries if name != "__metadata__")
    twice = content[8 : 8 + length].rstrip().removesuffix(b"}") + f', "{name}": {json.dumps(entries[name])}}}'.encode()
    forged = struct.pack("<Q", len(twice)) + twice + content[8 + length :]
    vehicle.refuses(signed_again({**signed, TENSOR_FILE: forged}), Reason.TENSOR_FORMAT)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", [0, 1])
def test_numbers_that_are_not_finite(vehicle: Vehicle, maker: Maker, signed: Files, value: float, side: int) -> None:
    factors = maker.factors()
    list(factors.values())[-1][side].flat[-1] = value
    vehicle.refuses(with_factors(signed, factors), Reason.NOT_FINITE)


def test_a_huge_norm_and_a_huge_number(vehicle: Vehicle, maker: Maker, signed: Files) -> None:
    factors = maker.factors()
    strong = {name: (down, 11 * up) for name, (down, up) in factors.items()}
    vehicle.refuses(with_factors(signed, strong), Reason.NORM)
    hidden = {name: (1e6 * down, 1e-6 * up) for name, (down, up) in factors.items()}
    vehicle.refuses(with_factors(signed, hidden), Reason.ENTRY)
    largest = {name: (np.full_like(down, 3e38), np.full_like(up, 3e38)) for name, (down, up) in factors.items()}
    vehicle.refuses(with_factors(signed, largest), Reason.ENTRY)


def test_an_adapter_that_does_nothing(vehicle: Vehicle, maker: Maker, signed: Files) -> None:
    nothing = {name: (down, 0 * up) for name, (down, up) in maker.factors().items()}
    vehicle.refuses(with_factors(signed, nothing), Reason.NO_EFFECT)


def test_two_files_with_different_factors(vehicle: Vehicle, maker: Maker, signed: Files) -> None:
    """peft would load one adapter and the planner another."""
    other = signed_again({**signed, ONNX_FILE: onnx_adapter(maker.factors(seed=3))})
    vehicle.refuses(other, Reason.ONNX_DIFFERS)
    fewer = onnx_adapter(dict(list(maker.factors().items())[1:]))
    vehicle.refuses(signed_again({**signed, ONNX_FILE: fewer}), Reason.ONNX_DIFFERS)


def test_a_setting_hidden_in_the_config(vehicle: Vehicle, signed: Files) -> None:
    values = json.loads(signed[CONFIG_FILE])
    for change in ({"lora_alpha": 1000}, {"use_rslora": True}, {"auto_mapping": {"parent_library": "os"}}):
        vehicle.refuses(signed_again({**signed, CONFIG_FILE: canonical({**values, **change})}), Reason.PEFT_CONFIG)
