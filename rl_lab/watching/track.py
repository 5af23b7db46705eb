"""What a lane has played of its open episode: the last moments as they were, older ones by replaying the actions."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from rl_lab.types import Array
from rl_lab.watching.lane import Lane, Moment, Scene

KEPT = 600  # moments, each with its encoded picture: some 10 MB for CartPole

Row = tuple["float | None", "float | None", float]  # reward, the policy's value, return so far


class Track:
    """The open episode of a lane, from its first moment to the last one played.

    A moment that is kept was drawn only if it was shown; others are drawn when they are asked for, by replaying.

    Attributes:
        rows: one for each moment. It is only ever appended to, and another list in the next episode, so that other
            threads may read the part whose length they know.
    """

    def __init__(self, lane: Lane, kept: int = KEPT):
        self.lane = lane
        self.rows: list[Row] = []
        self.human_steps = 0
        self._kept: deque[Moment] = deque(maxlen=kept)
        self._by: list[str] = []  # who chose the step that led to each moment
        self._twin: Lane | None = None
        self._replayed: Moment | None = None  # the twin's last

    def begin(self, seed: int, script: Sequence[Array] | None = None) -> None:
        """Begin an episode; see `Lane.begin`."""
        self._kept.clear()
        self.rows, self._by, self._replayed, self.human_steps = [], [], None, 0
        self._add(self.lane.begin(seed, script))

    def step(self, human: int | None = None) -> None:
        """Play one step if the episode hasn't ended."""
        if self.last.ended:
            return
        self._add(self.lane.step(human))
        self.human_steps += self.last.by == "human"

    def _add(self, moment: Moment) -> None:
        self._kept.append(moment)
        self._by.append(moment.by)
        self.rows.append((moment.reward, moment.insight.get("value"), moment.total))

    @property
    def last(self) -> Moment:
        """The newest moment."""
        return self._kept[-1]

    @property
    def kept_from(self) -> int:
        """The step of the oldest moment that is kept."""
        return self._kept[0].step

    def at(self, step: int, reasons: str = "") -> tuple[Moment, Scene]:
        """Return the moment after `step` steps, or the last if the episode ended before, and its scene.

        Args:
            reasons: see `Lane.scene`.
        """
        step = min(step, self.last.step)
        kept = self._kept[step - self.kept_from] if step >= self.kept_from else None
        if kept is not None and kept.scene is not None and kept.scene.reasons == reasons:
            return kept, kept.scene
        lane = self.lane if kept is self.last else self._replaying(step)
        scene = lane.scene(reasons)
        if kept is not None:
            kept.scene = scene
            return kept, scene
        assert self._replayed is not None
        return replace(self._replayed, insight=lane.insight(), by=self._by[step]), scene

    def _replaying(self, step: int) -> Lane:
        """Return a lane of its own that stands where this one stood after `step` steps."""
        if self._twin is None:
            self._twin = self.lane.twin()
        if self._replayed is None or self._replayed.step > step or self._twin.policy is not self.lane.policy:
            self._twin.replace(self.lane.policy)
            self._replayed = self._twin.begin(self.lane.seed, self.lane.actions, explained=False)
        while self._replayed.step < step:
            self._replayed = self._twin.step(explained=False)
        return self._twin

    def close(self) -> None:
        """Close the environments."""
        for lane in (self.lane, self._twin):
            if lane is not None:
                lane.close()
