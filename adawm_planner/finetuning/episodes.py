"""Sealed decisions in the order in which they came in, unbroken stretches of driving as `Episodes` rows out.

A stretch is one policy's driving of one episode without a missing decision, so that no window of training data ever
spans a gap. It ends, and another begins, where

| cut | what was seen |
|---|---|
| reset | the planner began anew (`is_first`) |
| end | the episode ended (`is_last`); nothing belongs to it any more |
| lost | sequence numbers are missing: a message was lost, malformed, or in a damaged chunk |
| restart | the sequence went back: the planner was configured anew |
| episode | another episode number, or a decision after an episode's end, without `is_first` |
| clock | stamps are not one decision apart, within SplitConfig.step_error |
| policy | other base or adapter digests than the decision before |
| held | the gate or a driver overruled more decisions in a row than SplitConfig.most_overruled; these are left out |
| stream | the first or the last decision there is |

A stretch that begins at a reset and ends with its episode is complete; any other is cut short. Those are kept, as
episodes that a time limit ended, from SplitConfig.least_rows rows on: a vehicle resumes after every braking in the same
way, so a filter that begins in mid-drive is nothing new to the model. Shorter ones, and single rows, are dropped and
counted. The row at which the policy changed is in both stretches: it shows what the old policy's last action led to,
and is where the new one begins.

The stretches of one episode share its `unit`: they resemble each other, so they count as one episode, not as several.

Which episodes are held out goes by the seal of the decision that began them: no other decision has it, and it is the
same whenever the replay is read. What goes on with an episode whose beginning is not there is for training: its earlier
rows may have been trained on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

import numpy as np

from adawm_planner.config.finetuning import SplitConfig
from adawm_planner.data_types import Experience, Float32, Float64, Int64, Outcome
from adawm_planner.dims import DECISION_S, FRAME_S
from adawm_planner.finetuning.captured import Captured
from adawm_planner.pretraining.dataset import Episodes


class Cut(Enum):
    """Why a stretch begins or ends."""

    RESET = "reset"
    END = "end"
    LOST = "lost"
    RESTART = "restart"
    EPISODE = "episode"
    CLOCK = "clock"
    POLICY = "policy"
    HELD = "held"
    STREAM = "stream"


@dataclass(frozen=True)
class Policy:
    """Who drove."""

    base_digest: str
    adapter_digests: tuple[str, ...]

    @staticmethod
    def of(one: Captured) -> Policy:
        """Who made this decision."""
        return Policy(one.base_digest, one.adapter_digests)


@dataclass(frozen=True)
class Stretch:
    """One policy's unbroken driving; arrays of T rows as `episodes`."""

    episodes: Episodes  # one episode; labels are 0, because a vehicle has no expert
    probabilities: Float32  # (T, A) that each action was taken from; of the last row nothing was carried out
    value: Float32  # (T,) expected discounted return
    stamp_s: Float64  # (T,)
    sequence: Int64  # (T,)
    policy: Policy
    number: int  # the planner's count of episodes, which begins anew with the planner
    unit: int  # which episode of the stream this is a part of, from 0; episodes without a stretch count too
    began: Cut
    ended: Cut
    outcome: str  # success, collision or off_lane, as evaluation names them; cut where the episode was not seen to end

    @property
    def complete(self) -> bool:
        """Whether this is the whole of an episode."""
        return self.began is Cut.RESET and self.ended is Cut.END


class EpisodeSplitter:
    """Takes decisions one by one and gives each stretch when it is complete."""

    def __init__(self, config: SplitConfig | None = None) -> None:
        self._config = config or SplitConfig()
        self._rows: list[Captured] = []
        self._last: Captured | None = None
        self._began = Cut.STREAM
        self._overruled = 0  # decisions in a row
        self._held_out = False  # the episode that the rows are of
        self._unit = -1  # its number
        self.cuts: Counter[Cut] = Counter()  # ends of stretches, dropped ones included
        self.dropped_rows = 0  # rows of stretches that were too short
        self.duplicates = 0  # decisions that came twice in a row, taken once

    def add(self, one: Captured) -> list[Stretch]:
        """Take the next decision; returns the stretches that end before or with it, usually none."""
        last, self._last = self._last, one
        if last is not None and last.seal == one.seal:
            self.duplicates += 1
            return []
        overruled = bool(one.experience.intervention) and not one.experience.is_first
        self._overruled = self._overruled + 1 if overruled else 0
        cut = Cut.STREAM if last is None else self._cut(last, one)
        begins = self._begins_episode(last, cut, one)
        held_out, unit = self._is_held_out(begins, one), self._unit + begins
        if self._overruled > self._config.most_overruled:
            done = self._close(Cut.HELD)
            self._began, self._held_out, self._unit = Cut.HELD, held_out, unit
            self.dropped_rows += 1
            return done
        done = []
        if cut is not None:
            if cut is Cut.POLICY:
                self._rows.append(one)
            done += self._close(cut)
            self._began = Cut.RESET if one.experience.is_first else cut
        self._held_out, self._unit = held_out, unit
        self._rows.append(one)
        return done + self._close(Cut.END) if one.experience.is_last else done

    def finish(self) -> list[Stretch]:
        """The stretch under way, as far as it has come; the next decision begins another one."""
        self._last = None
        return self._close(Cut.STREAM)

    def _begins_episode(self, last: Captured | None, cut: Cut | None, one: Captured) -> bool:
        """Whether `one` is of another episode than `last`, its beginning seen or not; `cut` is as `_cut` has it."""
        if last is None or one.experience.is_first or cut in (Cut.RESTART, Cut.EPISODE):
            return True
        return one.experience.episode != last.experience.episode

    def _is_held_out(self, begins: bool, one: Captured) -> bool:
        """Whether the episode that `one` is of is for validation only; `begins` is as `_begins_episode` has it."""
        if one.experience.is_first:
            return is_held_out(one.seal, self._config.held_out)
        return self._held_out and not begins

    def _cut(self, last: Captured, one: Captured) -> Cut | None:
        """Why `one` does not go on where `last` was; None where it does."""
        before, now = last.experience, one.experience
        if now.sequence != before.sequence + 1:
            return Cut.LOST if now.sequence > before.sequence else Cut.RESTART
        if now.is_first:
            return Cut.RESET
        if now.episode != before.episode or before.is_last:
            return Cut.EPISODE
        if not self._is_one_step(now.stamp_s - before.stamp_s, now.is_last):
            return Cut.CLOCK
        return None if Policy.of(last) == Policy.of(one) else Cut.POLICY

    def _is_one_step(self, seconds: float, is_last: bool) -> bool:
        """Whether this time can lie between two decisions; an episode may end in the middle of one."""
        least = 0.0 if is_last else (1.0 - self._config.step_error) * DECISION_S
        return least <= seconds <= (1.0 + self._config.step_error) * DECISION_S

    def _close(self, cut: Cut) -> list[Stretch]:
        rows, self._rows = self._rows, []
        if not rows:
            return []
        self.cuts[cut] += 1
        end = rows[-1].experience
        if _took_no_time(rows):
            rows.pop()
        complete = self._began is Cut.RESET and cut is Cut.END
        if len(rows) < (2 if complete else self._config.least_rows):
            self.dropped_rows += len(rows)
            return []
        return [_stretch(rows, end, self._began, cut, self._held_out, self._unit)]


def split(
    decisions: Iterable[Captured], config: SplitConfig | None = None, cuts: Counter[Cut] | None = None
) -> list[Stretch]:
    """All stretches of a stream of decisions, the unfinished last one included.

    Args:
        decisions: in the order in which they came.
        config: default SplitConfig.
        cuts: where the splitter's `cuts` are added; None: nobody asks for them.
    """
    splitter = EpisodeSplitter(config)
    done = [stretch for one in decisions for stretch in splitter.add(one)] + splitter.finish()
    if cuts is not None:
        cuts.update(splitter.cuts)
    return done


def _took_no_time(rows: list[Captured]) -> bool:
    """Whether the last row only says how the episode ended in the very frame of the decision before it.

    As a transition it would teach that an action changes nothing; the decision's own row is the last one.
    """
    if len(rows) < 2:
        return False
    before, last = rows[-2].experience, rows[-1].experience
    return last.is_last and last.stamp_s - before.stamp_s < 0.5 * FRAME_S


def _stretch(rows: list[Captured], end: Experience, began: Cut, ended: Cut, held_out: bool, unit: int) -> Stretch:
    """Rows as `collect` has them; `end` says how it ended: the last row, or what came in the same frame."""
    ones, count = [row.experience for row in rows], len(rows)
    action = np.array([one.action.index for one in ones], np.int64)
    reward = np.array([one.reward.total for one in ones], np.float64)
    first, terminal = np.arange(count) == 0, np.zeros(count, np.bool_)
    if end is not ones[-1]:
        reward[-1] += end.reward.total
    action[-1], reward[0], terminal[-1] = 0, 0.0, end.is_terminal  # not taken; not earned here
    episodes = Episodes(
        bev=np.stack([one.observation.bev for one in ones]),
        state=np.stack([one.observation.state for one in ones]),
        action=action,
        label=np.zeros(count, np.int64),
        reward=reward.astype(np.float32),
        first=first,
        terminal=terminal,
        held_out=np.full(count, held_out),
        overruled=np.array([bool(one.intervention) for one in ones]),
    )
    return Stretch(
        episodes=episodes,
        probabilities=np.stack([one.action.probabilities for one in ones]),
        value=np.array([one.value for one in ones], np.float32),
        stamp_s=np.array([one.stamp_s for one in ones], np.float64),
        sequence=np.array([one.sequence for one in ones], np.int64),
        policy=Policy.of(rows[0]),
        number=ones[0].episode,
        unit=unit,
        began=began,
        ended=ended,
        outcome=_outcome(end),
    )


def is_held_out(seal: bytes, share: float) -> bool:
    """Whether the episode that this decision began is for validation only.

    Not by the episode's number, which begins at 0 at every start of the planner: one that is started for every trip of
    four episodes would never leave any. The seal is a sha256, so its first bytes are as good as chance.
    """
    return int.from_bytes(seal[:8], "big") < share * 2.0**64


def _outcome(end: Experience) -> str:
    if not end.is_terminal:
        return "cut"
    if end.reward.collision < 0.0:
        return Outcome.COLLISION.value
    return Outcome.SUCCESS.value if end.reward.destination > 0.0 else Outcome.OFF_LANE.value
