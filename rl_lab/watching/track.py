"""What a lane has shown of its open episode: the last moments as they were, older ones by replaying the actions."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from rl_lab.types import Array
from rl_lab.watching.lane import Lane, Moment

KEPT = 600  # moments, each with its encoded picture: some 10 MB for CartPole

Row = tuple["float | None", "float | None", float]  # reward, the policy's value, return so far


class Track:
    """The open episode of a lane, from its first moment to the last one played.

    Attributes:
        rows: one for each moment. It is only ever appended to, and another list in the next episode, so that other
            threads may read the part whose length they know.
    """

    def __init__(self, lane: Lane, kept: int = KEPT):
        self.lane = lane
        self.rows: list[Row] = []
        self.human_steps = 0
        self._kept: deque[Moment] = deque(maxlen=kept)
        self._twin: Lane | None = None
        self._replayed: Moment | None = None  # the twin's last

    def begin(self, seed: int, script: Sequence[Array] | None = None) -> None:
        """Begin an episode; see `Lane.begin`."""
        self._kept.clear()
        self.rows, self._replayed, self.human_steps = [], None, 0
        self._add(self.lane.begin(seed, script))

    def step(self, human: int | None = None) -> None:
        """Play one step if the episode hasn't ended."""
        if self.last.ended:
            return
        self._add(self.lane.step(human))
        self.human_steps += self.last.by == "human"

    def _add(self, moment: Moment) -> None:
        self._kept.append(moment)
        self.rows.append((moment.reward, moment.insight.get("value"), moment.total))

    @property
    def last(self) -> Moment:
        """The newest moment."""
        return self._kept[-1]

    @property
    def kept_from(self) -> int:
        """The step of the oldest moment that is kept."""
        return self._kept[0].step

    def at(self, step: int) -> Moment:
        """Return the moment after `step` steps, or the last if the episode ended before; replay it if need be."""
        step = min(step, self.last.step)
        if step >= self.kept_from:
            return self._kept[step - self.kept_from]
        if self._twin is None:
            self._twin = self.lane.twin()
        if self._replayed is None or self._replayed.step > step or self._twin.policy is not self.lane.policy:
            self._twin.replace(self.lane.policy)
            self._replayed = self._twin.begin(self.lane.seed, self.lane.actions)
        while self._replayed.step < step:
            self._replayed = self._twin.step()
        return self._replayed

    def close(self) -> None:
        """Close the environments."""
        for lane in (self.lane, self._twin):
            if lane is not None:
                lane.close()
