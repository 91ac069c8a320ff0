"""Bundle directories in, the factors to drive with out: for commands on a desk, never for a vehicle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from adawm_planner.adapters.base_model import read_base_model
from adawm_planner.adapters.keys import read_trust
from adawm_planner.adapters.verify import Context, VerifiedAdapter, verify_folder


def open_adapters(
    folders: Sequence[Path], model_dir: Path, trust: Sequence[Path], allow_unsigned: bool
) -> list[VerifiedAdapter]:
    """Read bundles to evaluate; for any vehicle, expired or not.

    Args:
        folders: bundle directories, at most one per part.
        model_dir: of the base model.
        trust: public key files, or folders of them.
        allow_unsigned: do not ask for signatures.

    Raises:
        ValueError: a bundle is refused, two change the same part, or neither `trust` nor `allow_unsigned` is given.
    """
    if not trust and not allow_unsigned:
        raise ValueError("bundles are verified: give --trust with the signer's .pub, or --allow-unsigned")
    keys = None if allow_unsigned else read_trust(trust)
    context = Context(read_base_model(model_dir), keys, any_vehicle=True)
    adapters: list[VerifiedAdapter] = []
    for folder in folders:
        found = verify_folder(folder, context, now_unix_s=0, fresh=False)
        if not isinstance(found, VerifiedAdapter):
            raise ValueError(f"{folder}: {found}")
        if found.manifest.part in {each.manifest.part for each in adapters}:
            raise ValueError(f"{folder}: a second adapter of part {found.manifest.part}; give one per part")
        adapters.append(found)
    return adapters
