"""How long each phase of the demonstration lasts, and what counts as recovered; values come from `story.yaml`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from adawm_planner.config.checks import above, share
from adawm_planner.config.presets import load_config

STORY_FILE = Path(__file__).with_name("story.yaml")


@dataclass(frozen=True)
class StoryConfig:
    """Every phase ends by a count of episodes at the latest."""

    preset: str

    nominal_episodes: int
    """Before the shift; 12 of 12 successes have a Wilson interval of 76-100 %. More of them would cost the first
    adapter time: held-out episodes from before the shift speak against it at the gate."""

    shifted_limit: int
    """After the shift, until an adapter that was made since drives; then the story ends without one."""

    adapting_limit: int
    """From there on, until success has recovered; then the story goes on and says that it has not."""

    window: int
    """Newest episodes by which recovery is judged."""

    regained: float
    """Share of the lost success rate that they must have regained."""

    recovered_episodes: int
    """Driven after that: fresh episodes, because those that ended the phase before were chosen for their success."""

    rolled_back_episodes: int
    """After the roll back."""

    round_decisions: int
    """New decisions after which the finetuner begins a round: twice its own default, so that by the first round after
    the shift most of the held-out episodes are from after it."""

    def __post_init__(self) -> None:
        counts = ("nominal_episodes", "shifted_limit", "adapting_limit", "window", "recovered_episodes")
        above("story", self, 0, *counts, "rolled_back_episodes", "round_decisions")
        share("story", self, "regained")
        if self.adapting_limit < self.window:
            raise ValueError(f"story.adapting_limit is {self.adapting_limit}, must be at least window ({self.window})")

    @property
    def most_episodes(self) -> int:
        """Episodes of a whole story at most, and so the seeds that it may take."""
        before = self.nominal_episodes + self.shifted_limit + self.adapting_limit
        return before + self.recovered_episodes + self.rolled_back_episodes


def load_story(preset: str = "default") -> StoryConfig:
    """The packaged configuration with a preset. Raises ValueError for an unknown preset or a value out of range."""
    return load_config(StoryConfig, STORY_FILE, preset)
