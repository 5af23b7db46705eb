"""Puts a live page together: policies and their environments, what is followed and where things are saved."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rl_lab.evaluation.watch import FPS
from rl_lab.training.devices import set_threads
from rl_lab.types import UsageError
from rl_lab.watching.desk import Desk
from rl_lab.watching.guard import Guard
from rl_lab.watching.human import HumanPolicy
from rl_lab.watching.lane import Lane
from rl_lab.watching.reasons import reasons_of
from rl_lab.watching.server import LivePage
from rl_lab.watching.session import Agent, Session, agent_of
from rl_lab.watching.sources import Watched
from rl_lab.watching.thoughts import thoughts_of


def live_page(
    shown: Sequence[Watched], guard: Guard, seed: int | None = None, save_to: str | None = None
) -> LivePage:
    """Return the page of one policy, or of several on the same seeds; a person begins in their own place.

    Args:
        shown: from `rl_lab.watching.sources`.
        seed: of the episodes; by default the first one's.
        save_to: folder for datasets; by default "played" in the first run's, or here without a run.

    Raises:
        UsageError: they play different games, or a person can't play this one with keys.
    """
    _require_same_game(shown)
    set_threads(shown[0].config.threads)
    agents = [_agent(one, label) for one, label in zip(shown, labels(shown), strict=True)]
    env = agents[0].track.lane.envs.env
    fps = float(env.metadata.get("render_fps") or FPS)
    session = Session(agents, shown[0].config.seed if seed is None else seed, fps)
    for i, one in enumerate(shown):
        if isinstance(one.policy, HumanPolicy):
            session.take_over(i)
    home = next((one.folder for one in shown if one.folder is not None), Path("."))
    desk = Desk(shown, agents, Path(save_to) if save_to is not None else home / "played")
    page = LivePage(session, guard, hello(shown[0].config.env_id, session, desk), desk.carry, desk.idle)
    desk.tell = page.broadcast.tell
    for i, agent in enumerate(agents):
        desk.tell_map(i, agent.track.lane.policy)
    page.note = desk.give_way(session)
    session.play()
    return page


def _require_same_game(shown: Sequence[Watched]) -> None:
    """Check that all agents play the same environment with the same arguments.

    Raises:
        UsageError: they don't.
    """
    first = shown[0].config
    for other in (one.config for one in shown[1:]):
        if (other.env_id, other.env_kwargs) != (first.env_id, first.env_kwargs):
            raise UsageError(
                f"{other.env_id} beside {first.env_id} (allowed: runs of the same environment with the same env_kwargs)"
            )


def labels(shown: Sequence[Watched]) -> list[str]:
    """Return a name for each; with the folder where two would be called the same, or the checkpoint in one folder."""
    names = [one.label for one in shown]
    if len(set(names)) == len(names):
        return names
    paths = [Path(one.folder or ".").absolute().parts for one in shown]
    if len(set(paths)) < len(paths):
        return [f"{one.label}, {one.note}" for one in shown]
    differ = next((i for i, parts in enumerate(zip(*paths, strict=False)) if len(set(parts)) > 1), 0)
    return [f"{one.label}, {'/'.join(parts[differ:])}" for one, parts in zip(shown, paths, strict=True)]


def _agent(one: Watched, label: str) -> Agent:
    """Return what plays, with what explains it; where its environment has a model, that is solved here."""
    thoughts = thoughts_of(one)
    lane = Lane(one.policy, one.make, thoughts)
    lane.begin(one.config.seed)
    lane.reasons = reasons_of(one.policy, thoughts.facts, *lane.asked)
    note = "" if label.endswith(one.note) else one.note
    if isinstance(one.policy, HumanPolicy):
        note = "you play, with the keys below the picture"
    return agent_of(label, lane, thoughts.facts.action_names, note, env_id=one.config.env_id)


def hello(env_id: str, session: Session, desk: Desk) -> dict[str, Any]:
    """Return what a page is told first, as JSON."""
    return {
        "type": "hello",
        "env_id": env_id,
        "agents": [
            {
                "label": agent.label,
                "action_names": list(agent.action_names),
                "human": isinstance(agent.track.lane.policy, HumanPolicy),
                "reasons": list(agent.track.lane.reasons.methods),
                "keys": [[action, list(keys)] for action, keys in agent.keys.items()],
            }
            for agent in session.agents
        ],
        "past_episodes": desk.past_episodes(),
        "fps": session.fps,
    }
