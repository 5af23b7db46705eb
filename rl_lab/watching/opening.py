"""Puts a live page together: runs, their policies and environments, what is followed and where things are saved."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rl_lab.agent import Policy
from rl_lab.evaluation.watch import FPS
from rl_lab.runs.rows import EPISODES, read_actions
from rl_lab.training.devices import set_threads
from rl_lab.training.loading import load_policy
from rl_lab.types import UsageError
from rl_lab.watching.following import Following
from rl_lab.watching.guard import Guard
from rl_lab.watching.lane import Lane
from rl_lab.watching.messages import Command, Past, Save
from rl_lab.watching.past import past_episodes, picked
from rl_lab.watching.played import save_played
from rl_lab.watching.server import LivePage
from rl_lab.watching.session import Agent, PastEpisode, Session, agent_of
from rl_lab.watching.sources import Watched, watched
from rl_lab.watching.thoughts import Thoughts, thoughts_of

NICE = 10  # by how much a viewer lets other processes go first, such as a run that trains


def live_page(
    run_dirs: Sequence[str],
    guard: Guard,
    seed: int | None = None,
    best: bool = False,
    save_to: str | None = None,
) -> LivePage:
    """Return the page of one run, or of several on the same seeds.

    Args:
        seed: of the episodes; by default the first run's.
        best: watch the checkpoints with the best evaluation, and follow none.
        save_to: folder for datasets; by default "played" in the first run's.

    Raises:
        UsageError: there is no run, nothing was saved yet, or the runs play different games.
    """
    shown = [watched(Path(run_dir), best=best) for run_dir in run_dirs]
    _require_same_game(shown)
    set_threads(shown[0].config.threads)
    if hasattr(os, "nice"):
        os.nice(max(0, NICE - os.nice(0)))
    names = _labels(shown)
    agents = [_agent(one, label) for one, label in zip(shown, names, strict=True)]
    env = agents[0].track.lane.envs.env
    fps = float(env.metadata.get("render_fps") or FPS)
    session = Session(agents, shown[0].config.seed if seed is None else seed, fps)
    folders = [one.folder or Path(".") for one in shown]
    desk = Desk(folders, agents, best, Path(save_to) if save_to is not None else folders[0] / "played")
    page = LivePage(session, guard, hello(shown[0].config.env_id, session, desk), desk.carry, desk.idle)
    desk.tell = page.broadcast.tell
    for i, agent in enumerate(agents):
        desk.tell_map(i, agent.track.lane.policy)
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


def _labels(shown: Sequence[Watched]) -> list[str]:
    """Return a name for each agent; the folder too where two would be called the same."""
    labels = [one.label for one in shown]
    if len(set(labels)) == len(labels):
        return labels
    paths = [Path(one.folder or ".").absolute().parts for one in shown]
    differ = next((i for i, parts in enumerate(zip(*paths, strict=False)) if len(set(parts)) > 1), 0)
    return [f"{one.label}, {'/'.join(parts[differ:])}" for one, parts in zip(shown, paths, strict=True)]


def _agent(one: Watched, label: str) -> Agent:
    thoughts = thoughts_of(one)
    lane = Lane(one.policy, one.make, thoughts)
    return agent_of(label, lane, thoughts.facts.action_names, one.note)


def hello(env_id: str, session: Session, desk: Desk) -> dict[str, Any]:
    """Return what a page is told first, as JSON."""
    return {
        "type": "hello",
        "env_id": env_id,
        "agents": [
            {
                "label": agent.label,
                "note": agent.note,
                "action_names": list(agent.action_names),
                "keys": [[action, list(keys)] for action, keys in agent.keys.items()],
            }
            for agent in session.agents
        ],
        "past_episodes": desk.past_episodes(),
        "fps": session.fps,
    }


class Desk:
    """Carries out what a session can't do alone: saving, finding past episodes, following runs."""

    def __init__(self, folders: Sequence[Path], agents: Sequence[Agent], best: bool, save_to: Path):
        self._folders, self._agents, self._save_to = folders, agents, save_to
        self._following = [] if best else [Following(f, partial(load_policy, f)) for f in folders]
        self.tell: Callable[[dict[str, Any]], None] = lambda notice: None

    def carry(self, session: Session, command: Command) -> str | None:
        """Carry out a command; return a line for whoever asked, or None.

        Raises:
            UsageError: it can't be done now.
            NotWritten: a dataset could not be written.
        """
        if isinstance(command, Save):
            return self._save(session)
        if isinstance(command, Past):
            session.show_past(self._past(command.episode))
            return None
        command.apply(session)
        return None

    def _save(self, session: Session) -> str:
        place = _free_place(self._save_to)
        counts = save_played(session.all_played(), session.agents[0].track.lane.make, place)
        return f"saved {counts['episodes']} episodes, {counts['steps']} steps, to {place}"

    def past_episodes(self) -> int:
        """Return how many training episodes of the first run there are."""
        path = self._folders[0] / EPISODES
        return max(0, path.read_bytes().count(b"\n") - 1) if path.is_file() else 0

    def _past(self, which: str) -> PastEpisode:
        """Find a training episode of the first run."""
        folder = self._folders[0]
        (found,) = picked(past_episodes(folder) if self.past_episodes() else [], which, folder)
        actions = read_actions(folder, found.row, self._agents[0].track.lane.action_space)
        return PastEpisode(found.row, found.seed, list(actions), found.return_)

    def tell_map(self, agent: int, policy: Policy) -> None:
        """Tell the page what a policy thinks of every cell, where the environment is a grid."""
        explain = self._agents[agent].track.lane.explain
        cells = explain.grid(policy) if isinstance(explain, Thoughts) else None
        if cells is not None:
            self.tell({"type": f"map {agent}", "agent": agent, "cells": cells})

    def idle(self, session: Session) -> bool:
        """Look at the runs if it is time; new policies act from their next episode on."""
        for i, following in enumerate(self._following):
            if not following.is_due():
                continue
            notice, policy = following.look()
            if notice is not None:
                self.tell({**notice, "type": f"curves {i}", "agent": i})
            if policy is not None:
                session.agents[i].fresh = policy
                self.tell_map(i, policy)
                self.tell({"type": f"checkpoint {i}", "agent": i, "env_steps": following.env_steps})
        return False


def _free_place(folder: Path) -> Path:
    """Return the first numbered folder inside `folder` that isn't there yet."""
    number = 1
    while (folder / f"{number:03d}").exists():
        number += 1
    return folder / f"{number:03d}"
