"""A session of watching: episodes that are played, paused, stepped, scrubbed through, and taken over by a human.

It knows nothing of clocks, threads and browsers: whoever owns it calls `advance` when the next step is due.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rl_lab.agent import Policy
from rl_lab.evaluation.evaluate import evaluation_seed
from rl_lab.types import Array, UsageError
from rl_lab.watching.keys import idle_action, keys_of
from rl_lab.watching.lane import Lane
from rl_lab.watching.pictures import Picture
from rl_lab.watching.played import Played
from rl_lab.watching.track import KEPT, Row, Track

HELD_SECONDS = 0.9  # for which an episode's last picture stands before the next begins
REMEMBERED = 1_000  # episodes played by a human, at most, that can be saved


@dataclass(frozen=True)
class PastEpisode:
    """A training episode, to be played once more from its actions."""

    number: int  # its row in episodes.csv, from 0
    seed: int
    actions: Sequence[Array]
    returned: float  # what it returned in training


@dataclass(frozen=True, slots=True)
class Shown:
    """What one lane shows, beside its picture."""

    picture: Picture
    rows: Sequence[Row]  # of the episode; only the first `count` are this view's
    count: int
    figures: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class View:
    """Everything that a page shows at one time."""

    episode_id: int  # another one for each episode begun
    figures: Mapping[str, Any]
    lanes: Sequence[Shown]


@dataclass
class Agent:
    """One of the agents that are watched, and its episode."""

    label: str
    track: Track
    action_names: Sequence[str] = ()
    note: str = ""
    fresh: Policy | None = None  # takes over at the next episode
    keys: Mapping[int, Sequence[str]] = field(init=False)

    def __post_init__(self) -> None:
        self.keys = keys_of(self.track.lane.envs.env, self.action_names)


def agent_of(
    label: str, lane: Lane, action_names: Sequence[str] = (), note: str = "", kept: int = KEPT
) -> Agent:
    """Return an agent for a session, which remembers the last `kept` moments with their pictures."""
    return Agent(label, Track(lane, kept), action_names, note)


class Session:
    """Plays the same episodes with one agent or several side by side.

    Episode e of seed s is evaluation episode e of a run with that seed, with the same frames, actions and figures.

    Args:
        fps: steps a second at normal speed.
    """

    def __init__(self, agents: Sequence[Agent], seed: int, fps: float = 30.0):
        assert agents
        self.agents, self.fps = list(agents), fps
        self.playing, self.factor = False, 1.0
        self.seed, self.episode = seed, 0
        self.past: PastEpisode | None = None
        self.human: int | None = None  # the index of the agent whose place a human has taken
        self.played: list[Played] = []
        self.position = 0  # the step that is shown
        self._held: int | None = None  # the action of the key that is held down
        self._pending: int | None = None  # of a key that was pressed, maybe released, and not played yet
        self._idle = idle_action(self.agents[0].track.lane.envs.env, self.agents[0].action_names)
        self._begun = 0
        self._begin()

    # Episodes --------------------------------------------------------------------------------------------

    def restart(self, seed: int | None = None) -> None:
        """Begin the first episode of a seed, or without one the open episode once more."""
        self._keep_played()
        if seed is not None:
            self.seed, self.episode, self.past = seed, 0, None
        self._begin()

    def next_episode(self) -> None:
        """Begin the next episode of the seed."""
        self._keep_played()
        if self.past is None:
            self.episode += 1
        self.past = None
        self._begin()

    def show_past(self, past: PastEpisode) -> None:
        """Play a training episode of the first agent once more; others play their own from the same seed."""
        self._keep_played()
        self.hand_back()
        self.past = past
        self._begin()

    def _begin(self) -> None:
        seed = evaluation_seed(self.seed, self.episode) if self.past is None else self.past.seed
        self._begun += 1
        self.position, self._pending, self._held = 0, None, None
        for i, agent in enumerate(self.agents):
            if agent.fresh is not None:
                agent.track.lane.replace(agent.fresh)
                agent.fresh = None
            script = self.past.actions if self.past is not None and i == 0 else None
            agent.track.begin(seed, script)

    # Time ------------------------------------------------------------------------------------------------

    @property
    def newest(self) -> int:
        """The step up to which the episode has been played."""
        return max(agent.track.last.step for agent in self.agents)

    @property
    def is_over(self) -> bool:
        """Whether the episode has ended for all agents, and its end is shown."""
        return self.position == self.newest and all(agent.track.last.ended for agent in self.agents)

    def advance(self) -> bool:
        """Show the next step: one that was played before, a new one, or the next episode's first.

        Returns:
            Whether there was one; not if a human is to move and presses no key.
        """
        if self.is_over:
            self.next_episode()
            return True
        if self.position < self.newest:
            self.position += 1
            return True
        return self._play_one()

    def _play_one(self) -> bool:
        action = None
        if self.human is not None and not self.agents[self.human].track.last.ended:
            action = next((a for a in (self._pending, self._held, self._idle) if a is not None), None)
            if action is None:
                return False
            self._pending = None
        for i, agent in enumerate(self.agents):
            agent.track.step(action if i == self.human else None)
        self.position += 1
        return True

    @property
    def seconds_to_next(self) -> float:
        """Seconds for which what is shown should stand, at the speed that is set."""
        if not self.factor:
            return 0.0
        return HELD_SECONDS if self.is_over else 1 / (self.fps * self.factor)

    def play(self) -> None:
        """Go on."""
        self.playing = True

    def pause(self) -> None:
        """Stop after what is shown."""
        self.playing = False

    def step(self) -> None:
        """Pause, and show the next step."""
        self.pause()
        self.advance()

    def set_speed(self, factor: float) -> None:
        """Set the speed as a multiple of the environment's; 0 for as fast as can be."""
        self.factor = factor

    def seek(self, step: int) -> None:
        """Pause at a step that was played.

        Raises:
            UsageError: the episode hasn't got there.
        """
        if not 0 <= step <= self.newest:
            raise UsageError(f"step {step} wasn't played (allowed: 0 to {self.newest})")
        self.pause()
        self.position = step

    # A human ---------------------------------------------------------------------------------------------

    def take_over(self, index: int = 0) -> None:
        """Let a human act in the place of an agent, from the newest step on.

        Raises:
            UsageError: there is no such agent, its actions have no keys, or recorded actions are being replayed.
        """
        if not 0 <= index < len(self.agents):
            raise UsageError(f"agent {index} isn't there (allowed: 0 to {len(self.agents) - 1})")
        if not self.agents[index].keys:
            raise UsageError("these actions can't be given with keys (allowed: where actions are counted)")
        if self.past is not None:
            raise UsageError("a past episode is as it was (allowed: another episode)")
        self.human, self.position = index, self.newest
        self._pending = self._held = None

    def hand_back(self) -> None:
        """Let the agent act again."""
        self.human = self._pending = self._held = None

    def press(self, action: int) -> None:
        """Take an action in the next step, and in those after it until `release`.

        Raises:
            UsageError: nobody has taken over, or there is no such action.
        """
        if self.human is None:
            raise UsageError("the agent acts (allowed: actions after taking over)")
        if action not in self.agents[self.human].keys:
            raise UsageError(f"action {action} isn't there (allowed: {_range(self.agents[self.human].keys)})")
        self._pending = self._held = action

    def release(self) -> None:
        """Say that no key is held any more; one that was pressed since the last step is still played."""
        self._held = None

    def _keep_played(self) -> None:
        """Remember the open episode if a human had a part in it."""
        self.played += self._played_now()
        del self.played[:-REMEMBERED]

    def _played_now(self) -> list[Played]:
        tracks = [agent.track for agent in self.agents if agent.track.human_steps]
        return [Played(t.lane.seed, tuple(t.lane.actions), t.human_steps, t.last.total) for t in tracks]

    def all_played(self) -> list[Played]:
        """Return the episodes in which a human had a part, the open one included."""
        return [*self.played, *self._played_now()]

    # What is shown ---------------------------------------------------------------------------------------

    def view(self) -> View:
        """Return everything that is shown now."""
        figures = {
            "playing": self.playing,
            "factor": self.factor,
            "fps": self.fps,
            "seed": self.seed,
            "episode": self.episode,
            "episode_seed": self.agents[0].track.lane.seed,
            "past": None if self.past is None else self.past.number,
            "check": self._check(),
            "position": self.position,
            "newest": self.newest,
            "over": self.is_over,
            "human": self.human,
            "waiting": self.playing and self._is_waiting(),
            "played": len(self.all_played()),
        }
        return View(self._begun, figures, [self._shown(agent) for agent in self.agents])

    def _is_waiting(self) -> bool:
        acting = self.human is not None and not self.agents[self.human].track.last.ended
        return acting and self._idle is None and self._held is None and self._pending is None

    def _check(self) -> dict[str, Any] | None:
        """Return how the return of a past episode compares with that of training, once it is over."""
        track = self.agents[0].track
        if self.past is None or not track.last.ended:
            return None
        agrees = track.last.total == self.past.returned
        return {"recorded": self.past.returned, "replayed": track.last.total, "agrees": agrees}

    def _shown(self, agent: Agent) -> Shown:
        moment = agent.track.at(self.position)
        figures = {
            "step": moment.step,
            "reward": moment.reward,
            "total": moment.total,
            "by": moment.by,
            "ended": moment.ended,
            "action": moment.action,
            "insight": moment.insight,
            "last_step": agent.track.last.step,
            "kept_from": agent.track.kept_from,
        }
        return Shown(moment.picture, agent.track.rows, len(agent.track.rows), figures)

    def close(self) -> None:
        """Close all environments."""
        for agent in self.agents:
            agent.track.close()


def _range(actions: Mapping[int, Any]) -> str:
    return f"{min(actions)} to {max(actions)}"
