"""A session of watching: episodes that are played, paused, stepped, scrubbed through, and taken over by a human.

It knows nothing of clocks, threads and browsers: whoever owns it calls `advance` when the next step is due.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rl_lab.agent import Policy
from rl_lab.evaluation.evaluate import evaluation_seed
from rl_lab.types import Array, UsageError
from rl_lab.watching.keys import idle_action, keys_of
from rl_lab.watching.lane import Lane, Scene
from rl_lab.watching.past import Found, PastEpisode
from rl_lab.watching.played import Played
from rl_lab.watching.track import KEPT, Row, Track

FRAMES_PER_SECOND = 60.0  # views at most, on average
HELD_SECONDS = 0.9  # for which an episode's last picture stands before the next begins
REMEMBERED = 1_000  # episodes played by a human, at most, that can be saved


@dataclass(frozen=True)
class Pick:
    """Training episodes that are played once more from their actions, one after the other.

    Attributes:
        actions_of: reads the actions of an episode, each [...].
        changed: packages whose versions have changed since training, in words; "" if none have.
    """

    episodes: Sequence[PastEpisode]
    actions_of: Callable[[PastEpisode], Sequence[Array]]
    changed: str = ""
    place: int = 0  # of the one that is played

    @property
    def episode(self) -> PastEpisode:
        """The one that is played."""
        return self.episodes[self.place]

    def following(self) -> Pick | None:
        """Return the pick at its next episode; None after the last."""
        place = self.place + 1
        return replace(self, place=place) if place < len(self.episodes) else None


@dataclass(frozen=True, slots=True)
class Shown:
    """What one lane shows, beside its picture."""

    scene: Scene
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
    env_id: str = "the environment"
    fresh: tuple[Policy, str] | None = None  # takes over at the next episode, with its note
    keys: Mapping[int, Sequence[str]] = field(init=False)

    def __post_init__(self) -> None:
        self.keys = keys_of(self.track.lane.envs.env, self.action_names)


def agent_of(
    label: str,
    lane: Lane,
    action_names: Sequence[str] = (),
    note: str = "",
    kept: int = KEPT,
    env_id: str = "the environment",
) -> Agent:
    """Return an agent for a session, which remembers the last `kept` moments with what was drawn of them."""
    return Agent(label, Track(lane, kept), action_names, note, env_id)


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
        self.past: Pick | None = None
        self.frames_per_second = FRAMES_PER_SECOND  # that are drawn and sent at most, whatever the speed
        self.reasons = ""  # the method by which reasons of decisions are found; "" for none
        self.human: int | None = None  # the index of the agent whose place a human has taken
        self.played: list[Played] = []
        self.position = 0  # the step that is shown
        self._held: int | None = None  # the action of the key that is held down
        self._pending: int | None = None  # of a key that was pressed, maybe released, and not played yet
        self._idle = idle_action(self.agents[0].track.lane.envs.env, self.agents[0].action_names)
        self._begun = 0
        self._begin(None)

    # Episodes --------------------------------------------------------------------------------------------

    def restart(self, seed: int | None = None) -> None:
        """Begin the first episode of a seed, or without one the open episode once more."""
        past = self.past
        if seed is not None:
            self.seed, self.episode, past = seed, 0, None
        self._begin(past)

    def next_episode(self) -> None:
        """Begin the next of the picked training episodes; without any, or after the last, that of the seed.

        Raises:
            UsageError: the actions of the training episode can't be read; the open episode stays.
        """
        if self.past is None:
            self.episode += 1
            self._begin(None)
        else:
            self._begin(self.past.following())

    def show_past(self, past: Pick) -> None:
        """Play training episodes of the first agent once more; others play their own from the same seeds.

        Raises:
            UsageError: the actions of the first one can't be read; the open episode stays.
        """
        self._begin(past)
        self.hand_back()

    def _begin(self, past: Pick | None) -> None:
        script = (
            None if past is None else past.actions_of(past.episode)
        )  # before anything changes: it may fail
        self._keep_played()
        self.past = past
        seed = evaluation_seed(self.seed, self.episode) if self.past is None else self.past.episode.seed
        self._begun += 1
        self.position, self._pending, self._held = 0, None, None
        for i, agent in enumerate(self.agents):
            if agent.fresh is not None:
                policy, agent.note = agent.fresh
                agent.track.lane.replace(policy)
                agent.fresh = None
            agent.track.begin(seed, script if i == 0 else None)

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

        Raises:
            UsageError: see `next_episode`.
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
            action = self._asked()
            if action is None:
                return False
            self._pending = None
        for i, agent in enumerate(self.agents):
            agent.track.step(action if i == self.human else None)
        self.position += 1
        return True

    def _asked(self) -> int | None:
        """Return the action that the human takes next; None if no key stands for one that is legal."""
        illegal = self._illegal()
        asked = (self._pending, self._held, self._idle)
        return next((action for action in asked if action is not None and action not in illegal), None)

    def _illegal(self) -> list[int]:
        return [] if self.human is None else self.agents[self.human].track.lane.illegal()

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
            UsageError: nobody has taken over, there is no such action, or it is illegal at the newest step.
        """
        if self.human is None:
            raise UsageError("the agent acts (allowed: actions after taking over)")
        keys, illegal = self.agents[self.human].keys, self._illegal()
        if action not in keys:
            raise UsageError(f"action {action} isn't there (allowed: {_range(keys)})")
        if action in illegal:
            legal = ", ".join(str(one) for one in keys if one not in illegal)
            raise UsageError(f"action {action} is illegal here (allowed: {legal})")
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

    def set_reasons(self, method: str) -> None:
        """Find the reasons of what is decided by a method from now on; "" for none.

        Raises:
            UsageError: no agent's decisions can be explained so.
        """
        allowed = sorted({m for agent in self.agents for m in agent.track.lane.reasons.methods})
        if method and method not in allowed:
            raise UsageError(
                f"reasons by {method!r} can't be found here (allowed: {', '.join(allowed) or 'none'})"
            )
        self.reasons = method

    def view(self) -> View:
        """Return everything that is shown now; what was not drawn yet is drawn for it."""
        figures = {
            "playing": self.playing,
            "factor": self.factor,
            "fps": self.fps,
            "most_fps": self.frames_per_second,
            "seed": self.seed,
            "episode": self.episode,
            "episode_seed": self.agents[0].track.lane.seed,
            "past": None if self.past is None else self._told(self.past),
            "check": self._check(),
            "position": self.position,
            "newest": self.newest,
            "over": self.is_over,
            "human": self.human,
            "illegal": self._illegal(),
            "waiting": self.playing and self._is_waiting(),
            "played": len(self.all_played()),
            "reasons": self.reasons,
        }
        return View(self._begun, figures, [self._shown(agent) for agent in self.agents])

    def _is_waiting(self) -> bool:
        acting = self.human is not None and not self.agents[self.human].track.last.ended
        return acting and self._asked() is None

    def _told(self, past: Pick) -> dict[str, Any]:
        """Return what the page says of a training episode."""
        one = past.episode
        return {
            "row": one.row,
            "return": one.return_,
            "length": one.length,
            "env_steps": one.env_steps,
            "place": past.place,
            "of": len(past.episodes),
        }

    def _check(self) -> dict[str, Any] | None:
        """Return how a training episode compares with the record, once it has been played to its end."""
        last = self.agents[0].track.last
        if self.past is None or not last.ended:
            return None
        found = Found(self.past.episode, last.total, last.step, last.ended == "terminated")
        return {"agrees": found.agrees, "text": found.line(self.agents[0].env_id, self.past.changed)}

    def _shown(self, agent: Agent) -> Shown:
        moment, scene = agent.track.at(self.position, self.reasons)
        figures = {
            "step": moment.step,
            "reward": moment.reward,
            "total": moment.total,
            "by": moment.by,
            "ended": moment.ended,
            "action": moment.action,
            "insight": moment.insight,
            "contributions": scene.contributions,
            "note": agent.note,
            "last_step": agent.track.last.step,
            "kept_from": agent.track.kept_from,
        }
        return Shown(scene, agent.track.rows, len(agent.track.rows), figures)

    def close(self) -> None:
        """Close all environments."""
        for agent in self.agents:
            agent.track.close()


def _range(actions: Mapping[int, Any]) -> str:
    return f"{min(actions)} to {max(actions)}"
