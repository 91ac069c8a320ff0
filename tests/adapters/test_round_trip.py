"""What is written is what peft, onnxruntime and `verify` read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel

from adawm_planner.adaptation.student import apply_factors
from adawm_planner.adapters.bundle import MANIFEST_FILE, SIGNATURE_FILE, read_bundle, write_bundle
from adawm_planner.adapters.manifest import parse_manifest
from adawm_planner.adapters.onnx_file import ONNX_FILE, load_onnx_adapter, onnx_adapter
from adawm_planner.adapters.probe import PROBE_OUTPUTS, Runner, check_probe, session_runner
from adawm_planner.adapters.refusal import Reason
from adawm_planner.adapters.verify import VerifiedAdapter, verify, verify_folder
from adawm_planner.policy.agent import Agent
from adawm_planner.world_model.rssm import State
from tests.adapters.conftest import LIMITS, NOW, Maker
from tests.full_disk import no_larger_file

ROOT = Path(__file__).resolve().parents[2]


def test_a_bundle_is_accepted_from_memory_and_from_its_folder(
    maker: Maker, signed: dict[str, bytes], tmp_path: Path
) -> None:
    write_bundle(tmp_path / "bundle", signed)
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted(["bundle", *signed]), "nothing is left over"
    assert read_bundle(tmp_path / "bundle", LIMITS) == signed
    for found in (verify(signed, maker.context, NOW), verify_folder(tmp_path / "bundle", maker.context, NOW)):
        assert isinstance(found, VerifiedAdapter), found
        assert found.files == signed and found.manifest.counter == 7
        for name, (down, up) in maker.factors().items():
            assert np.array_equal(found.factors[name][0], down) and np.array_equal(found.factors[name][1], up)


def test_a_written_folder_is_never_overwritten(signed: dict[str, bytes], tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundle", signed)
    with pytest.raises(ValueError, match="exists already"):
        write_bundle(tmp_path / "bundle", {MANIFEST_FILE: b"other"})
    assert read_bundle(tmp_path / "bundle", LIMITS) == signed
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def as_torch(factors: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(torch.from_numpy(each) for each in pair) for name, pair in factors.items()}


def test_peft_loads_the_folder_with_its_own_api(agent: Agent, maker: Maker, tmp_path: Path) -> None:
    import copy

    state, changed = State(torch.randn(4, agent.model_config.deter), torch.rand(4, agent.model_config.stochastic)), []
    for part, module in (("dynamics", "world_model"), ("policy", "actor")):
        factors = maker.factors(part)
        write_bundle(tmp_path / part, maker.files(part=part))
        merged = apply_factors(agent, as_torch(factors))
        ours = PeftModel.from_pretrained(copy.deepcopy(agent.get_submodule(module)), str(tmp_path / part)).eval()
        with torch.inference_mode():
            if part == "policy":
                outputs = [each(state.latent()) for each in (ours, merged.actor, agent.actor)]
            else:
                action, embedding = torch.eye(5)[:4], torch.randn(4, agent.world_model.encoder.norm.normalized_shape[0])
                models = (ours.base_model.model, merged.world_model, agent.world_model)
                steps = [each.rssm.imagine_step(state, action, sample=False) for each in models]
                posteriors = [each.rssm.posterior(state.h, embedding).flatten(1) for each in models]
                priors = [each.rssm.prior(state.h).flatten(1) for each in models]
                outputs = [torch.cat([s.h, p, q], -1) for s, p, q in zip(steps, posteriors, priors, strict=True)]
        torch.testing.assert_close(outputs[0], outputs[1], rtol=0, atol=1e-5)
        changed.append(float((outputs[0] - outputs[2]).abs().max()))
    assert min(changed) > 1e-3


@pytest.mark.parametrize("part", ["dynamics", "policy"])
def test_the_probe_passes_by_either_way_of_loading_and_fails_without(maker: Maker, part: str) -> None:
    found = verify(maker.files(part=part), maker.context, NOW)
    assert isinstance(found, VerifiedAdapter)
    loaded = load_onnx_adapter(found.files[ONNX_FILE])
    probe, tolerance = found.manifest.probe, LIMITS.probe_tolerance
    for runner in (session_runner(maker.session, found.factors), session_runner(maker.session, options=loaded.options)):
        assert check_probe(probe, maker.session, runner, tolerance) is None
    silent = check_probe(probe, maker.session, session_runner(maker.session), tolerance)
    assert silent is not None and silent.reason is Reason.PROBE
    other = session_runner(maker.session, maker.factors(part, seed=1))
    wrong = check_probe(probe, maker.session, other, tolerance)
    assert wrong is not None and wrong.reason is Reason.PROBE
    for output in range(len(PROBE_OUTPUTS)):
        nowhere = check_probe(probe, maker.session, spoilt(runner, output), tolerance)
        assert nowhere is not None and "difference nan" in str(nowhere)


def spoilt(run: Runner, output: int) -> Runner:
    """The same with NaN in one of its outputs."""

    def answer(inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        found = [np.array(each) for each in run(inputs)]
        found[output][...] = np.nan
        return found

    return answer


def test_a_signature_does_not_change_the_digest_and_the_manifest_survives(
    maker: Maker, signed: dict[str, bytes]
) -> None:
    manifest = parse_manifest(signed[MANIFEST_FILE])
    assert manifest.to_bytes() == signed[MANIFEST_FILE]
    again = maker.files()
    assert again[MANIFEST_FILE] == signed[MANIFEST_FILE] and again[SIGNATURE_FILE] == signed[SIGNATURE_FILE]


def test_a_manifest_names_what_acted_or_as_in_older_bundles_does_not(maker: Maker, signed: dict[str, bytes]) -> None:
    assert b"acting" not in signed[MANIFEST_FILE] and parse_manifest(signed[MANIFEST_FILE]).acting is None
    for acting in (), ("a" * 64, "b" * 64):
        files = maker.files(acting=acting)
        assert isinstance(verify(files, maker.context, NOW), VerifiedAdapter)
        manifest = parse_manifest(files[MANIFEST_FILE])
        assert manifest.acting == acting and manifest.to_bytes() == files[MANIFEST_FILE]


def test_no_room_for_onnxruntimes_file_is_an_error_of_the_disk(maker: Maker) -> None:
    with no_larger_file(1_000), pytest.raises(OSError, match=f"{ONNX_FILE}: cannot be written"):
        onnx_adapter(maker.factors())


def test_nothing_without_effect_is_written(maker: Maker) -> None:
    nothing = {name: (down, 0 * up) for name, (down, up) in maker.factors().items()}
    with pytest.raises(ValueError, match="moves no output of the probe"):
        maker.files(nothing)
    with pytest.raises(ValueError, match="nothing was adapted"):
        maker.files({})


def test_the_package_needs_no_torch() -> None:
    code = (
        "import sys, adawm_planner.adapters.verify, adawm_planner.adapters.store, adawm_planner.cli.adapter\n"
        "sys.exit(bool({'torch', 'peft'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
