"""From a run of `adawm adapt` to a bundle that is verified and driven with; one line per mistake."""

from __future__ import annotations

import json
import logging
import time
from base64 import b64encode
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from adawm_planner.adaptation.harness import ADAPTER_FILE
from adawm_planner.adaptation.student import factor_tensors
from adawm_planner.adapters.bundle import BUNDLE_FILES, SIGNATURE_FILE
from adawm_planner.adapters.from_run import FACTORS_FILE
from adawm_planner.adapters.keys import read_private_key
from adawm_planner.adapters.offline import open_adapters
from adawm_planner.adapters.store import AdapterStore
from adawm_planner.adapters.strict_json import canonical
from adawm_planner.cli.adapter import DAY_S, show
from adawm_planner.cli.main import adawm
from adawm_planner.data_types import Observation
from adawm_planner.dims import BEV_SHAPE, STATE_SIZE
from adawm_planner.evaluation.closed_loop import EvaluationConfig, _Loop
from adawm_planner.evaluation.model_pilot import ModelPilot
from adawm_planner.policy.agent import write_weights
from adawm_planner.runtime.engine import Engine, OnnxEngine
from tests.adapters.conftest import Maker


@dataclass
class Desk:
    """A run's folder, a key pair and a model."""

    folder: Path
    maker: Maker

    def run(self, *words: str | Path) -> Result:
        return CliRunner().invoke(adawm, ["adapter", *map(str, words)])

    def sign(self, part: str = "policy", counter: int = 7, **more: Any) -> Result:
        options = {
            "name": "wet-road",
            "key": self.folder / "key.pem",
            "output": self.folder / part,
            "model-dir": self.maker.model_dir,
            "part": part,
            "counter": counter,
            **more,
        }
        run = options.pop("run", self.folder / "run")
        return self.run("sign", run, *(word for name, value in options.items() for word in (f"--{name}", value)))

    def verify(self, bundle: Path, *words: str | Path) -> Result:
        return self.run("verify", bundle, "--model-dir", self.maker.model_dir, *words)


def write_factors(path: Path, maker: Maker, base: str) -> None:
    factors = {**maker.factors("dynamics"), **maker.factors("policy")}
    tensors = {name: tuple(torch.from_numpy(each) for each in pair) for name, pair in factors.items()}
    write_weights(path, factor_tensors(tensors), {"base": base})  # type: ignore[arg-type]


@pytest.fixture
def desk(maker: Maker, tmp_path: Path) -> Desk:
    assert FACTORS_FILE == ADAPTER_FILE
    write_factors(tmp_path / "run" / FACTORS_FILE, maker, maker.base.digest)
    desk = Desk(tmp_path, maker)
    assert desk.run("keygen", tmp_path / "key").exit_code == 0
    return desk


def one_line(result: Result, *words: str) -> None:
    assert result.exit_code == 2, result.output
    assert result.output.startswith("Error: ") and result.output.count("\n") == 1, result.output
    assert all(word in result.output for word in words), result.output


def test_a_run_becomes_one_bundle_per_part(desk: Desk) -> None:
    key = json_of(desk.run("keygen", desk.folder / "second", "--json", desk.folder / "k.json"), desk.folder / "k.json")
    assert key["schema"] == "adawm.key/1" and "private" in key
    for part in ("dynamics", "policy"):
        signed = json_of(desk.sign(part, json=desk.folder / "s.json"), desk.folder / "s.json")
        bundle, answer = desk.folder / part, desk.folder / "answer.json"
        assert sorted(path.name for path in bundle.iterdir()) == sorted(BUNDLE_FILES)
        result = desk.verify(bundle, "--trust", desk.folder / "key.pub", "--digest", signed["digest"], "--json", answer)
        assert "accepted" in result.output
        assert json_of(result, answer)["accepted"] is True
        shown = json_of(desk.run("inspect", bundle, "--json", answer), answer)
        assert shown["digest"] == signed["digest"] and shown["manifest"]["part"] == part
        assert all(
            name.startswith({"dynamics": "world_model.", "policy": "actor."}[part])
            for name in shown["manifest"]["layers"]
        )


def test_nothing_of_a_stranger_moves_the_terminal(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert desk.sign().exit_code == 0
    signature = desk.folder / "policy" / SIGNATURE_FILE
    content = signature.read_bytes()
    signature.write_bytes(canonical({**json.loads(content), "key_id": "\x1b[1A\x1b[2Ktrusted"}))
    one_line(desk.run("inspect", desk.folder / "policy"), r"key_id is '\x1b[1A\x1b[2Ktrusted', must be 16")
    signature.write_bytes(b'{"\\u001b[2J":1,"\\u001b[2J":1}\n')
    one_line(desk.run("inspect", desk.folder / "policy"), r"duplicate key '\x1b[2J'")
    show({"name": "\x1b[2Jx"}, "title")
    assert r"\x1b[2Jx" in capsys.readouterr().out


def json_of(result: Result, file: Path) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    values: dict[str, Any] = json.loads(file.read_text())
    return values


def test_what_the_run_measured_goes_into_the_manifest(desk: Desk) -> None:
    scores = {
        "task": "t",
        "vehicle": "v",
        "episodes": 5,
        "success_rate": 0.5,
        "success_ci95": [0.1, 0.9],
        "collision_rate": 0.5,
        "detail": [],
    }
    document = {
        "rounds": [
            {"dynamics_mismatch": 9.0, "policy_mismatch": 9.0},
            {"dynamics_mismatch": 0.25, "policy_mismatch": 0.5},
            {"dynamics_mismatch": 7.0, "policy_mismatch": 7.0},
        ],
        "trial": {"chosen": 2},
        "before": scores,
        "after": {**scores, "success_rate": 1.0},
        "source_after": scores,
    }
    (desk.folder / "run" / "adaptation.json").write_text(json.dumps(document))
    for index in (1, 2, 3):
        (desk.folder / "run" / f"rollouts-{index:02d}.npz").write_bytes(b"data")
    assert desk.sign().exit_code == 0
    answer = desk.folder / "a.json"
    manifest = json_of(desk.run("inspect", desk.folder / "policy", "--json", answer), answer)["manifest"]
    assert manifest["mismatch"] == {"dynamics_mismatch": 0.25, "policy_mismatch": 0.5}
    assert manifest["gate"]["after"]["success_rate"] == 1.0 and "detail" not in manifest["gate"]["after"]
    assert manifest["data_sha256"] == sha256(2 * sha256(b"data").digest()).hexdigest(), "of the first two rounds"
    (desk.folder / "run" / "rollouts-01.npz").unlink()
    one_line(desk.sign(output=desk.folder / "again"), "adaptation.json: damaged")
    alone = desk.sign(run=desk.folder / "run" / FACTORS_FILE, output=desk.folder / "again")
    assert alone.exit_code == 0, "as the message says"
    (desk.folder / "again").rename(desk.folder / "made")
    (desk.folder / "run" / "adaptation.json").write_text("{}")
    one_line(desk.sign(output=desk.folder / "again"), "adaptation.json: damaged")


def test_a_refused_bundle_is_an_answer(desk: Desk) -> None:
    desk.sign()
    assert desk.run("keygen", desk.folder / "stranger").exit_code == 0
    answer = desk.folder / "a.json"
    result = desk.verify(desk.folder / "policy", "--trust", desk.folder / "stranger.pub", "--json", answer)
    assert result.exit_code == 1 and result.output.startswith("refused, untrusted_key: ")
    assert result.output.count("\n") == 1
    assert json.loads(answer.read_text())["refusal"]["reason"] == "untrusted_key"
    unsigned = desk.folder / "policy" / "signature.json"
    unsigned.unlink()
    assert "unsigned" in desk.verify(desk.folder / "policy", "--trust", desk.folder / "key.pub").output
    assert desk.verify(desk.folder / "policy", "--allow-unsigned").exit_code == 0


def test_a_store_is_listed_and_its_counter_counts(desk: Desk) -> None:
    desk.sign()
    store, trust = desk.folder / "store", ("--trust", desk.folder / "key.pub")
    (adapter,) = open_adapters([desk.folder / "policy"], desk.maker.model_dir, [desk.folder / "key.pub"], False)
    with AdapterStore(store, 0) as opened:
        opened.install(adapter, 0)
        opened.activate(adapter.digest, 0)
        opened.commit("policy", 0)
        opened.pin("policy", True, 0)
    answer = desk.folder / "list.json"
    (row,) = json_of(desk.run("list", store, "--json", answer), answer)["adapters"]
    assert (row["name"], row["counter"], row["status"], row["pinned"]) == ("wet-road", 7, "committed", True)
    assert "committed, pinned" in desk.run("list", store).output
    assert "pinned" in desk.verify(desk.folder / "policy", *trust, "--store", store).output
    with AdapterStore(store, 0) as opened:
        opened.pin("policy", False, 0)
    desk.sign(counter=6, output=desk.folder / "older")
    assert "counter: " in desk.verify(desk.folder / "older", *trust, "--store", store).output


def test_mistakes_are_one_line(desk: Desk, maker: Maker) -> None:
    folder = desk.folder
    one_line(desk.run("keygen", folder / "key"), "key.pem", "never overwritten")
    one_line(desk.sign(key=folder / "key.pub"), "key.pub", "this is the public key")
    one_line(desk.sign(key=folder / "nowhere.pem"), "nowhere.pem", "cannot be read")
    one_line(desk.sign(name="wet road"), "name must be 1 to 64 letters")
    one_line(desk.sign(parent="abc"), "parent must be a sha256")
    one_line(desk.sign(run=folder / "key.pub"), "not the adapter_factors.safetensors")
    one_line(desk.sign(run=folder), "not the adapter_factors.safetensors")
    write_factors(folder / "other.safetensors", maker, "ab" * 32)
    one_line(desk.sign(run=folder / "other.safetensors"), "made for base model abababababab")
    one_line(desk.sign(**{"model-dir": folder}), "planner.onnx")
    assert not (folder / "policy").exists(), "a mistake writes nothing"
    assert desk.sign().exit_code == 0
    one_line(desk.sign(), "exists already")
    one_line(desk.verify(folder / "policy"), "--trust", "--allow-unsigned")
    one_line(desk.verify(folder / "policy", "--trust", folder / "run"), "holds no *.pub file")
    one_line(desk.verify(folder / "policy", "--allow-unsigned", "--store", folder), "no adapter store")
    one_line(desk.run("list", folder), "no adapter store")
    one_line(desk.run("inspect", folder), "extra_file")
    for result in (desk.run("inspect", folder / "nowhere"), desk.sign(counter=0), desk.sign(part="encoder")):
        assert result.exit_code == 2 and "Traceback" not in result.output


def test_factors_without_effect_are_not_signed(desk: Desk, maker: Maker) -> None:
    nothing = {name: (torch.from_numpy(a), torch.zeros(b.shape)) for name, (a, b) in maker.factors().items()}
    write_weights(desk.folder / "n.safetensors", factor_tensors(nothing), {"base": maker.base.digest})
    one_line(desk.sign(run=desk.folder / "n.safetensors"), "moves no output of the probe")
    one_line(desk.sign("dynamics", run=desk.folder / "n.safetensors"), "nothing was adapted in it")


def test_what_no_planner_would_take_is_not_signed(desk: Desk, maker: Maker) -> None:
    strong = {n: (torch.from_numpy(a), torch.from_numpy(20 * b)) for n, (a, b) in maker.factors().items()}
    write_weights(desk.folder / "n.safetensors", factor_tensors(strong), {"base": maker.base.digest})
    one_line(desk.sign(run=desk.folder / "n.safetensors"), "norm: ")
    assert not (desk.folder / "policy").exists()


def test_the_digits_of_a_table_are_told_apart_from_a_digest(desk: Desk) -> None:
    signed = json_of(desk.sign(json=desk.folder / "s.json"), desk.folder / "s.json")["digest"]
    words = [desk.folder / "policy", "--trust", desk.folder / "key.pub", "--digest"]
    short = desk.verify(*words, signed[:12])  # type: ignore[arg-type]
    assert short.exit_code == 2 and f"'{signed[:12]}' is not the 64 hexadecimal digits" in short.output
    assert "`adawm adapter inspect BUNDLE` shows them" in short.output
    assert desk.verify(*words, signed).exit_code == 0  # type: ignore[arg-type]
    assert signed in desk.run("inspect", desk.folder / "policy").output.replace("\n", "").replace(" ", "")
    assert desk.verify(*words, "0" * 64).exit_code == 1  # type: ignore[arg-type]


def test_the_private_key_is_neither_shown_nor_logged(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    made, signed = desk.run("keygen", desk.folder / "k"), desk.sign(key=desk.folder / "key.pem")
    assert (made.exit_code, signed.exit_code) == (0, 0)
    for name, text in (("k", made.output), ("key", signed.output)):
        key = read_private_key(desk.folder / f"{name}.pem").private_bytes_raw()
        written = (desk.folder / f"{name}.pem").read_text().splitlines()[1]
        told = "".join((text + caplog.text).split())  # a table folds what is long
        assert not any(secret in told for secret in (written, key.hex(), b64encode(key).decode()))


@pytest.mark.parametrize("days", ["0.000001", "0", "-1", "nan", "inf", "1e300"])
def test_a_life_that_is_none_is_refused(desk: Desk, days: str) -> None:
    result = desk.sign(**{"expires-days": days})
    assert result.exit_code == 2 and "Traceback" not in result.output
    assert f"{float(days):g} is not in 0.0007..36500 days" in result.output
    assert not (desk.folder / "policy").exists()


def test_life_and_vehicle_of_a_bundle_are_what_was_signed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    file, trust = desk.folder / "a.json", ("--trust", desk.folder / "key.pub")
    with monkeypatch.context() as earlier:
        then = time.time() - 0.4 * DAY_S
        earlier.setattr(time, "time", lambda: then)
        assert desk.sign(**{"expires-days": 0.5, "vehicle-id": "car-2"}).exit_code == 0
    bundle = desk.folder / "policy"
    manifest = json_of(desk.run("inspect", bundle, "--json", file), file)["manifest"]
    assert manifest["expires_unix_s"] - manifest["created_unix_s"] == 43200 and manifest["vehicle"] == "car-2"
    assert desk.verify(bundle, *trust, "--vehicle-id", "car-2").exit_code == 0
    other = desk.verify(bundle, *trust, "--vehicle-id", "car-1", "--json", file)
    assert other.exit_code == 1 and "other_vehicle" in other.output
    later = time.time() + 0.2 * DAY_S
    monkeypatch.setattr(time, "time", lambda: later)
    over = desk.verify(bundle, *trust, "--vehicle-id", "car-2")
    assert over.exit_code == 1 and "expired" in over.output


def test_an_evaluation_drives_with_its_adapters(desk: Desk) -> None:
    """And says so: the base model is never scored under an adapter's name."""
    desk.sign()
    config = EvaluationConfig(
        "right_turn_moderate",
        model_dir=desk.maker.model_dir,
        provider="cpu",
        adapters=(desk.folder / "policy",),
        trust=(desk.folder / "key.pub",),
    )
    seen = Observation(np.full(BEV_SHAPE, 128, np.uint8), np.ones(STATE_SIZE, np.float32))

    def decides(engine: Engine) -> list[float]:
        return engine.step(engine.initial(), seen, True)[1].probabilities.tolist()

    adapted, base = _Loop(config), _Loop(replace(config, adapters=(), trust=()))
    assert [name.rsplit("-", 1)[0] for name in adapted.adapters] == ["wet-road"] and base.adapters == ()
    assert isinstance(adapted.pilot, ModelPilot) and isinstance(base.pilot, ModelPilot)
    itself = OnnxEngine(desk.maker.model_dir, "cpu", threads=1, factors=desk.maker.factors("policy"))
    assert decides(adapted.pilot._engine) == decides(itself) != decides(base.pilot._engine)


def test_evaluation_takes_verified_bundles_only(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as earlier:  # expired by now, which evaluation does not mind
        yesterday = time.time() - DAY_S
        earlier.setattr(time, "time", lambda: yesterday)
        for part in ("dynamics", "policy"):
            desk.sign(part, **{"expires-days": 0.5, "vehicle-id": "car-2"})
    bundles, model = [desk.folder / "dynamics", desk.folder / "policy"], desk.maker.model_dir
    trust = [desk.folder / "key.pub"]
    assert [each.manifest.part for each in open_adapters(bundles, model, trust, False)] == ["dynamics", "policy"]
    with pytest.raises(ValueError, match="give --trust with the signer's .pub, or --allow-unsigned"):
        open_adapters(bundles, model, [], False)
    with pytest.raises(ValueError, match="a second adapter of part policy"):
        open_adapters([bundles[1], bundles[1]], model, trust, False)
    (bundles[1] / "signature.json").unlink()
    with pytest.raises(ValueError, match="policy: unsigned: "):
        open_adapters(bundles, model, trust, False)
    assert open_adapters(bundles, model, [], True)[1].key_id is None
    (bundles[1] / "manifest.json").write_bytes(b"{}\n")
    with pytest.raises(ValueError, match="policy: manifest_format: "):
        open_adapters(bundles, model, [], True)


def test_the_engine_drives_and_imagines_with_the_factors(maker: Maker) -> None:
    factors = {**maker.factors("dynamics"), **maker.factors("policy")}
    seen = Observation(np.full(BEV_SHAPE, 200, np.uint8), np.ones(STATE_SIZE, np.float32))
    base, adapted = OnnxEngine(maker.model_dir, "cpu"), OnnxEngine(maker.model_dir, "cpu", factors=factors)
    carries, outputs = zip(*(each.step(each.initial(), seen, True) for each in (base, adapted)), strict=True)
    assert np.abs(outputs[0].probabilities - outputs[1].probabilities).max() > 1e-3
    imagined = [each.imagine(carries[0]).probabilities for each in (base, adapted)]
    assert np.abs(imagined[0] - imagined[1]).max() > 1e-3
    assert base.digest == adapted.digest
    unknown = {"actor.net.99": next(iter(factors.values()))}
    with pytest.raises(ValueError, match="takes no factors"):
        OnnxEngine(maker.model_dir, "cpu", factors=unknown)
