"""Encoder, recurrent model and heads as one module.

(State, Observation) -> (State, latent) while driving, sequences -> predictions while training. The policy
(`policy.agent`) reads the latent.
"""

from __future__ import annotations

from torch import Tensor, nn

from adawm_planner.config.world_model import WorldModelConfig
from adawm_planner.dims import ACTION_COUNT, STATE_SIZE
from adawm_planner.world_model.encoder import Encoder
from adawm_planner.world_model.heads import Decoder, TwoHotHead, mlp
from adawm_planner.world_model.rssm import RSSM, State


class WorldModel(nn.Module):
    """What the world is, what it will be, and what that is worth."""

    def __init__(self, config: WorldModelConfig) -> None:
        """Layers of the configured sizes."""
        super().__init__()
        self.config = config
        latent, hidden = config.latent, config.hidden
        self.encoder = Encoder(config)
        self.rssm = RSSM(config)
        self.embedding_head = mlp(latent, hidden, 1, config.embedding)
        self.state_head = mlp(latent, hidden, 1, STATE_SIZE)
        self.reward_head = TwoHotHead(latent, hidden, 1, config.bins, config.reward_limit)
        self.continue_head = mlp(latent, hidden, 1, 1)
        self.label_head = mlp(latent, hidden, 1, ACTION_COUNT)
        self.decoder = Decoder(latent, config)

    def observe_step(
        self, state: State, action: Tensor, first: Tensor, bev: Tensor, vector: Tensor
    ) -> tuple[State, Tensor]:
        """One deterministic filtering step, exactly as the exported planner takes it.

        Args:
            state: before the step.
            action: (B, A) one-hot taken before this observation.
            first: (B, 1) 1.0 where an episode begins.
            bev: (B, C, H, W) uint8.
            vector: (B, S) state features.

        Returns:
            The new state, and the posterior's log-probabilities (B, G, N).
        """
        return self.rssm.observe_step(state, action, first, self.encoder(bev, vector), sample=False)

    def reward(self, latent: Tensor) -> Tensor:
        """Reward (...) of latents (..., D + G * N) by its expected symlog: see `TwoHotHead.mean`."""
        return self.reward_head.mean(self.reward_head(latent))

    def continuation(self, latent: Tensor) -> Tensor:
        """Probability (...) that the episode goes on after these latents (..., D + G * N)."""
        return self.continue_head(latent).squeeze(-1).sigmoid()  # type: ignore[no-any-return]

    def vector(self, latent: Tensor) -> Tensor:
        """Predicted state features (..., S) of latents (..., D + G * N)."""
        vector: Tensor = self.state_head(latent)
        return vector

    def picture(self, latent: Tensor) -> Tensor:
        """Predicted BEV (B, C, H, W), 0..1, of latents (B, D + G * N)."""
        fill: Tensor = self.decoder(latent).sigmoid()
        return fill
