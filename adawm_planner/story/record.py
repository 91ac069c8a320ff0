"""Events with their times in, the facts for the next phase and the document "adawm.story/1" out. No input or output.

Next stages: `phases` decides on the facts, `figure` draws the document.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from adawm_planner.config.mapping import to_mapping
from adawm_planner.config.story import StoryConfig
from adawm_planner.data_types import Outcome
from adawm_planner.evaluation.episode import EpisodeResult
from adawm_planner.story.events import Driving, Drove, Event, Measured, Moved, Offered, Operated, Refused
from adawm_planner.story.phases import Facts, Phase, Tally, Turn, tally

SCHEMA = "adawm.story/1"


@dataclass(frozen=True)
class World:
    """What is driven in."""

    task: str
    vehicle: str


@dataclass(frozen=True)
class Setting:
    """What a story is about."""

    nominal: World
    shifted: World
    seed: int  # of the first episode; the others follow by 1, through all phases
    config: StoryConfig

    def world(self, phase: Phase) -> World:
        """Where a phase takes place."""
        return self.nominal if phase is Phase.NOMINAL else self.shifted


@dataclass(frozen=True)
class Kept:
    """An event, and when it happened."""

    wall_s: float  # since the story began
    episode: int  # episodes that had ended by then
    phase: Phase
    event: Event


@dataclass
class Chapter:
    """One phase as it was driven."""

    phase: Phase
    began_wall_s: float
    ended: Turn | None = None
    ended_wall_s: float | None = None
    results: list[EpisodeResult] = field(default_factory=list)
    adapters: list[tuple[str, ...]] = field(default_factory=list)  # one per episode

    @property
    def tally(self) -> Tally:
        """Successes of the phase."""
        return tally([_succeeded(result) for result in self.results])

    @property
    def driving_s(self) -> float:
        """Simulated time of its episodes [s]."""
        return sum(result.duration_s for result in self.results)


class Record:
    """Takes everything that happens, in order."""

    def __init__(self, setting: Setting) -> None:
        """Begin in the nominal phase, at 0 s."""
        self.setting = setting
        self.chapters = [Chapter(Phase.NOMINAL, 0.0)]
        self.kept: list[Kept] = []
        self.episodes = 0
        self.driving: tuple[str, ...] = ()  # adapters, now
        self.waited = 0
        self._at_shift: tuple[str, ...] = ()

    @property
    def phase(self) -> Phase:
        """Where the story is."""
        return self.chapters[-1].phase

    @property
    def recovered(self) -> bool:
        """Whether success has come back."""
        return any(chapter.phase is Phase.RECOVERED for chapter in self.chapters)

    def take(self, event: Event, wall_s: float) -> Kept:
        """Keep an event."""
        if isinstance(event, Drove):
            self.episodes += 1
            self.waited += event.waited
            self.chapters[-1].results.append(event.result)
            self.chapters[-1].adapters.append(event.adapters)
        elif isinstance(event, Driving):
            self.driving = event.adapters
        kept = Kept(wall_s, self.episodes, self.phase, event)
        self.kept.append(kept)
        return kept

    def turn(self, turn: Turn, wall_s: float) -> None:
        """Begin the next phase, or end the story."""
        self.chapters[-1].ended, self.chapters[-1].ended_wall_s = turn, wall_s
        if turn.after is None:
            return
        if turn.after is Phase.SHIFTED:
            self._at_shift = self.driving
        self.chapters.append(Chapter(turn.after, wall_s))

    def facts(self) -> Facts:
        """What the next phase depends on."""
        successes = {each.phase: tuple(_succeeded(result) for result in each.results) for each in self.chapters}
        adapted = bool(set(self.driving) - set(self._at_shift))
        return Facts(self.phase, successes, adapted)

    def newest(self, count: int) -> Tally:
        """Successes of the newest episodes of this phase."""
        return tally([_succeeded(result) for result in self.chapters[-1].results[-count:]])

    def events(self, *kinds: type) -> list[Kept]:
        """Events of these kinds, in order."""
        return [each for each in self.kept if isinstance(each.event, kinds)]

    def document(self, ros: dict[str, Any], wall_s: float) -> dict[str, Any]:
        """Everything as plain values, see docs/story.md.

        Args:
            ros: the planner's own account, as in adawm.evaluation/1.
            wall_s: length of the story.
        """
        setting = self.setting
        return {
            "schema": SCHEMA,
            "nominal": vars(setting.nominal),
            "shifted": vars(setting.shifted),
            "seed": setting.seed,
            "config": to_mapping(setting.config),
            "recovered": self.recovered,
            "recovery": self._recovery(),
            "phases": self._phases(wall_s),
            "rounds": [_at(each) | _round(each.event) for each in self.events(Measured)],
            "adapters": [_at(each) | vars(each.event) for each in self.events(Offered)],
            "stages": [_at(each) | _stage(each.event) for each in self.events(Moved)],
            "driving": [_at(each) | _driving(each.event) for each in self.events(Driving)],
            "refusals": [_at(each) | vars(each.event) for each in self.events(Refused)],
            "operator": [_at(each) | vars(each.event) for each in self.events(Operated)],
            "episodes": self._episodes(),
            "ros": ros,
            "wall_s": wall_s,
        }

    def _recovery(self) -> dict[str, float] | None:
        """From the shift to the episode by which success had recovered."""
        if not self.recovered:
            return None
        between = [each for each in self.chapters if each.phase in (Phase.SHIFTED, Phase.ADAPTING)]
        end = between[-1].ended_wall_s
        assert end is not None
        return {
            "episodes": sum(len(each.results) for each in between),
            "driving_s": sum(each.driving_s for each in between),
            "wall_s": end - between[0].began_wall_s,
            "adapters": len(self._arrived(*(each.phase for each in between))),
        }

    def _arrived(self, *phases: Phase) -> set[str]:
        """Adapters that drove in these phases."""
        chapters = [each for each in self.chapters if each.phase in phases]
        return {name for each in chapters for names in each.adapters for name in names}

    def _phases(self, wall_s: float) -> list[dict[str, Any]]:
        rows, first = [], 0
        for each in self.chapters:
            world, count, ends = self.setting.world(each.phase), each.tally, each.ended_wall_s
            distance = sum(result.distance_m for result in each.results)
            rows.append(
                {
                    "phase": each.phase.value,
                    **vars(world),
                    "first_episode": first,
                    "episodes": count.episodes,
                    "successes": count.successes,
                    "success_rate": count.rate,
                    "success_ci95": list(count.interval),
                    "mean_speed_mps": distance / each.driving_s if each.results else 0.0,
                    "driving_s": each.driving_s,
                    "began_wall_s": each.began_wall_s,
                    "wall_s": (wall_s if ends is None else ends) - each.began_wall_s,
                    "adapters": list(dict.fromkeys(name for names in each.adapters for name in names)),
                    "ended": "" if each.ended is None else each.ended.reason,
                }
            )
            first += count.episodes
        return rows

    def _episodes(self) -> list[dict[str, Any]]:
        rows = []
        for chapter in self.chapters:
            for result, adapters in zip(chapter.results, chapter.adapters, strict=True):
                rows.append(
                    {
                        "phase": chapter.phase.value,
                        "seed": result.seed,
                        "outcome": result.outcome.value,
                        "duration_s": result.duration_s,
                        "mean_speed_mps": result.mean_speed_mps,
                        "adapters": list(adapters),
                    }
                )
        return rows


def _succeeded(result: EpisodeResult) -> bool:
    return result.outcome is Outcome.SUCCESS


def _at(kept: Kept) -> dict[str, Any]:
    return {"wall_s": kept.wall_s, "episode": kept.episode, "phase": kept.phase.value}


def _round(event: Any) -> dict[str, Any]:
    names = {
        "dynamics": "dynamics_mismatch",
        "dynamics_error": "dynamics_standard_error",
        "policy": "policy_mismatch",
        "policy_error": "policy_standard_error",
    }
    return {names.get(key, key): value for key, value in vars(event).items()}


def _stage(event: Any) -> dict[str, Any]:
    return {**vars(event), "figures": dict(event.figures)}


def _driving(event: Any) -> dict[str, Any]:
    return {"adapters": list(event.adapters), "swaps": event.swaps}
