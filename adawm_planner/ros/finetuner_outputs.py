"""Rounds and bundles in, the finetuner's messages out."""

from __future__ import annotations

import array
import math
from pathlib import Path
from typing import Any

from adawm_msgs.msg import AdapterUpdate, BundleFile, MismatchReport

from adawm_planner.adapters.bundle import MANIFEST_FILE, SIGNATURE_FILE, parse_signature, read_bundle
from adawm_planner.adapters.manifest import bundle_digest, parse_manifest
from adawm_planner.config.adapters import AdapterLimits
from adawm_planner.finetuning.messages import RoundDone
from adawm_planner.ros.convert import expiry_stamp

DECISIONS = {
    (): MismatchReport.UPDATE_NOTHING,
    ("dynamics",): MismatchReport.UPDATE_DYNAMICS,
    ("policy",): MismatchReport.UPDATE_POLICY,
}
"""Parts that were trained -> MismatchReport.decision."""


def mismatch_message(done: RoundDone, stamp: Any) -> MismatchReport:
    """The report of a round; the visitation proxies, which cost more than all else, are NaN: not computed on board."""
    message = MismatchReport(
        round=done.round,
        decisions=done.decisions,
        episodes=done.episodes,
        strategy=done.strategy,
        threshold=done.threshold,
        dynamics_visitation=math.nan,
        policy_visitation=math.nan,
        decision=DECISIONS[tuple(done.updated)],
        reason=done.reason,
        base_and_adapter_digests=list(done.acting),
        produced_digest=done.produced,
        **done.scores,
    )
    message.header.stamp = stamp
    return message


def adapter_message(folder: Path, stamp: Any) -> AdapterUpdate:
    """A signed bundle as it goes over the wire.

    Raises:
        Refused, ValueError: the folder holds no whole signed bundle.
    """
    files = read_bundle(folder, AdapterLimits())
    if not {MANIFEST_FILE, SIGNATURE_FILE} <= set(files):
        raise ValueError(f"{folder}: holds no signed bundle; remove it, the next round makes another")
    manifest = parse_manifest(files[MANIFEST_FILE])
    signer, signature = parse_signature(files[SIGNATURE_FILE])
    message = AdapterUpdate(
        part=manifest.part,
        name=manifest.name,
        digest=bundle_digest(files[MANIFEST_FILE]),
        parent_digest=manifest.parent or "",
        base_digest=manifest.base,
        counter=manifest.counter,
        expiry=expiry_stamp(manifest.expires_unix_s),
        files=[BundleFile(name=name, data=array.array("B", content)) for name, content in sorted(files.items())],
        key_id=signer,
        signature=array.array("B", signature),
    )
    message.header.stamp = stamp
    return message
