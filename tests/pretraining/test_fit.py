"""The training loop: a killed and resumed stage ends as the uninterrupted one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

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
