"""The training loop: a killed and resumed stage ends as the uninterrupted one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from adawm_planner.policy.agent import write_weights
from adawm_planner.pretraining.fit import Run, Stage, fit, load_optimizer, optimizer_tensors, step_generator


class Killed(Exception):
    pass


def stage(updates: int, die_at: int = -1, losses: list[float] | None = None, patience: int = 99) -> Stage:
    torch.manual_seed(0)
    layer = nn.Linear(3, 1)
    optimizer = torch.optim.Adam(layer.parameters(), 0.05)

    def update(step: int) -> dict[str, float]:
        if step == die_at:
            raise Killed
        x = torch.from_numpy(step_generator(0, "line", step).normal(size=(8, 3))).float()
        loss = ((layer(x).squeeze(-1) - x.sum(-1)) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return {"loss": float(loss.detach())}

    def validate() -> dict[str, float]:
        if losses is not None:
            return {"loss": losses.pop(0)}
        return {"loss": float((layer(torch.eye(3)) - 1.0).square().mean().detach())}

    return Stage("line", update, validate, {"layer": layer}, {"adam": optimizer}, updates, 5.0, 5, patience)


def run(folder: Path) -> Run:
    return Run(folder, seed=0, threads=1, checkpoint_every=5)


def test_a_run_that_logs_nothing_writes_nothing(tmp_path: Path) -> None:
    one = run(tmp_path / "run")
    with one.progress("drive", 1) as show:
        show(1, "")
    assert not (tmp_path / "run").exists()
    one.log("line", {"loss": 1.0}, 1)
    assert len(list((tmp_path / "run" / "tensorboard").iterdir())) == 1


def test_a_killed_stage_resumes_to_the_same_weights(tmp_path: Path) -> None:
    whole, dying = stage(30), stage(30, die_at=17)
    fit(whole, run(tmp_path / "whole"))
    with pytest.raises(Killed):
        fit(dying, run(tmp_path / "killed"))
    resumed = stage(30)
    report = fit(resumed, run(tmp_path / "killed"))
    assert report.updates == 30 and report.reason == "updates"
    for left, right in zip(whole.modules["layer"].parameters(), resumed.modules["layer"].parameters(), strict=True):
        assert torch.equal(left, right)


def test_the_best_weights_stay_and_patience_ends_the_stage(tmp_path: Path) -> None:
    # Falls once and then only rises: the weights of the first validation (update 5) must come back.
    stopped, short = stage(100, losses=[1.0, 2.0, 3.0, 4.0], patience=3), stage(5)
    report = fit(stopped, run(tmp_path / "stopped"))
    fit(short, run(tmp_path / "short"))
    assert report.reason == "patience" and report.updates == 20 and report.best_loss == 1.0
    assert torch.equal(stopped.modules["layer"].weight, short.modules["layer"].weight)


def test_a_finished_stage_is_not_run_again(tmp_path: Path) -> None:
    fit(stage(10), run(tmp_path))
    again = stage(10, die_at=10)
    assert fit(again, run(tmp_path)).updates == 10


def test_optimizer_state_survives_as_plain_tensors() -> None:
    first, second = stage(1), stage(1)
    first.update(0)
    tensors = optimizer_tensors(first.optimizers["adam"])
    assert "0.exp_avg" in tensors and tensors["0.step"].item() == 1.0
    load_optimizer(second.optimizers["adam"], tensors)
    again = optimizer_tensors(second.optimizers["adam"])
    assert all(torch.equal(tensors[key], again[key]) for key in tensors)


DAMAGE: dict[str, Callable[[Path], None]] = {
    "empty": lambda path: path.write_bytes(b"") and None,
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]) and None,
    "a byte short": lambda path: path.write_bytes(path.read_bytes()[:-1]) and None,
    "text": lambda path: path.write_text("no checkpoint") and None,
    "no position": lambda path: write_weights(path, load_file(path)),
    "position of letters": lambda path: write_weights(
        path, load_file(path), {"step": "x", "best": "1", "stale": "0", "seconds": "1"}
    ),
    "nan": lambda path: rewrite(path, "now.layer.weight", torch.full((1, 3), torch.nan)),
    "another shape": lambda path: rewrite(path, "now.layer.weight", torch.ones(1, 4)),
    "another layer": lambda path: rewrite(path, "now.other.weight", torch.ones(1, 3)),
    "best of another shape": lambda path: rewrite(path, "best.layer.bias", torch.ones(7)),
    "optimizer of another shape": lambda path: rewrite(path, "optimizer.adam.0.exp_avg", torch.ones(9)),
    "optimizer of more layers": lambda path: rewrite(path, "optimizer.adam.7.exp_avg", torch.ones(1, 3)),
    "optimizer of letters": lambda path: rewrite(path, "optimizer.adam.x.exp_avg", torch.ones(1, 3)),
}


def rewrite(path: Path, name: str, value: torch.Tensor) -> None:
    with safe_open(path, framework="pt") as archive:
        meta = archive.metadata()
    write_weights(path, {**load_file(path), name: value}, meta)


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_checkpoint_is_refused_by_name_and_changes_nothing(tmp_path: Path, name: str) -> None:
    with pytest.raises(Killed):
        fit(stage(30, die_at=17), run(tmp_path))
    path = tmp_path / "checkpoints" / "line.safetensors"
    DAMAGE[name](path)
    resumed = stage(30)
    before = {key: value.clone() for key, value in resumed.modules["layer"].state_dict().items()}
    with pytest.raises(ValueError, match="remove it|restore the file") as refused:
        fit(resumed, run(tmp_path))
    assert str(path) in str(refused.value) and "line" in str(refused.value) and "\n" not in str(refused.value)
    after = resumed.modules["layer"].state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert not resumed.optimizers["adam"].state_dict()["state"]
