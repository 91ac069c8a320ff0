"""A small random agent, exported; factors of its layers; bundles of them, signed by a trusted key."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from adawm_planner.adapters.base_model import BaseModel, open_planner, read_base_model
from adawm_planner.adapters.bundle import Draft, build_bundle, sign_bundle
from adawm_planner.adapters.factors import Factors, part_of
from adawm_planner.adapters.keys import key_id
from adawm_planner.adapters.verify import Context, Seen
from adawm_planner.config.adapters import AdapterLimits
from adawm_planner.config.presets import load_pretraining
from adawm_planner.policy.agent import Agent, save_agent
from adawm_planner.runtime.export import export_model

torch.set_num_threads(1)

NOW = 1_800_000_000
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
LIMITS = AdapterLimits()


def random_factors(base: BaseModel, part: str, rank: int = 3, seed: int = 0) -> dict[str, tuple[Any, Any]]:
    """Factors whose change is a fifth of each layer's weights; the ranks differ from layer to layer."""
    rng, factors = np.random.default_rng(seed), {}
    for k, (name, layer) in enumerate(base.layers.items()):
        if part_of(name) == part:
            r = rank + k % 2
            down = rng.normal(size=(layer.inputs, r)).astype(np.float32)
            up = rng.normal(size=(r, layer.outputs)).astype(np.float32)
            up *= np.float32(0.2 * layer.norm / np.linalg.norm(down @ up))
            factors[name] = down, up
    return factors


class Maker:
    """Makes bundles; everything in them can be chosen."""

    def __init__(self, folder: Path) -> None:
        self.model_dir = folder
        self.session = open_planner(folder)
        self.base = read_base_model(folder, self.session)
        self.draft = Draft("first", "policy", self.base.digest, 7, NOW - 60, expires_unix_s=NOW + 3600)
        self.context = Context(self.base, {key_id(KEY.public_key()): KEY.public_key()}, seen=Seen({"policy": 6}))

    def factors(self, part: str = "policy", seed: int = 0) -> dict[str, tuple[Any, Any]]:
        return random_factors(self.base, part, seed=seed)

    def files(self, factors: Factors | None = None, key: Ed25519PrivateKey = KEY, **changes: Any) -> dict[str, bytes]:
        draft = replace(self.draft, **changes)
        factors = self.factors(draft.part) if factors is None else factors
        return sign_bundle(build_bundle(draft, factors, self.session, LIMITS), key)


@pytest.fixture(scope="session")
def agent() -> Agent:
    torch.manual_seed(0)
    sizes = load_pretraining(preset="debug")
    agent = Agent(sizes.world_model, sizes.policy).eval()
    with torch.no_grad():
        for name, parameter in agent.named_parameters():
            if name.endswith("logits.weight") or name.startswith(("critic.head.net.6", "actor.net.6")):
                parameter.copy_(torch.randn_like(parameter))
    return agent


@pytest.fixture(scope="session")
def maker(agent: Agent, tmp_path_factory: pytest.TempPathFactory) -> Maker:
    folder = tmp_path_factory.mktemp("base")
    save_agent(agent, folder / "agent")
    export_model(folder / "agent", folder / "model")
    return Maker(folder / "model")


@pytest.fixture(scope="session")
def signed(maker: Maker) -> dict[str, bytes]:
    """A bundle that is accepted; never changed in place."""
    return maker.files()
