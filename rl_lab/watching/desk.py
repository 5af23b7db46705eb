"""Carries out what a session can't do alone: saving, finding past episodes, following runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rl_lab.agent import Policy
from rl_lab.runs.description import read_description
from rl_lab.runs.rows import EPISODES, read_actions
from rl_lab.training.loading import load_newest
from rl_lab.types import Array
from rl_lab.watching.courtesy import NICE, TRAINING_FRAMES, give_way
from rl_lab.watching.following import Following, is_training
from rl_lab.watching.messages import Command, Past, Save
from rl_lab.watching.past import PastEpisode, changed_since, past_episodes, picked
from rl_lab.watching.played import save_played
from rl_lab.watching.session import FRAMES_PER_SECOND, Agent, Pick, Session
from rl_lab.watching.sources import Watched
from rl_lab.watching.thoughts import Thoughts

GENTLE = (
    f"The run is being trained: so as not to slow it, the viewer has the lowest priority (nice {NICE}) and shows at"
    f" most {TRAINING_FRAMES:g} pictures a second."
)
ONLY_FEWER = (
    f"The run is being trained: so as not to slow it, the viewer shows at most {TRAINING_FRAMES:g} pictures a second;"
    " its priority can't be lowered on this system."
)


class Desk:
    """Does what needs files for the session of the live page.

    Args:
        shown: what is watched, in the order of the session's agents.
        save_to: folder for datasets of what is played.
    """

    def __init__(self, shown: Sequence[Watched], agents: Sequence[Agent], save_to: Path):
        self._shown, self._agents, self._save_to = shown, agents, save_to
        self._following = {
            i: Following(one.folder, partial(load_newest, one.folder))
            for i, one in enumerate(shown)
            if one.folder is not None and one.is_newest
        }
        self._gentle = ""  # what the pages were told of it
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
            session.show_past(self._pick(command.episode))
            return None
        command.apply(session)
        return None

    def _save(self, session: Session) -> str:
        place = _free_place(self._save_to)
        counts = save_played(session.all_played(), session.agents[0].track.lane.make, place)
        return f"saved {counts['episodes']} episodes, {counts['steps']} steps, to {place}"

    def past_episodes(self) -> int:
        """Return how many training episodes there are of what is watched first."""
        folder = self._shown[0].folder
        path = None if folder is None else folder / EPISODES
        return max(0, path.read_bytes().count(b"\n") - 1) if path is not None and path.is_file() else 0

    def _pick(self, which: str) -> Pick:
        """Find training episodes of the first run. Raises UsageError if there are none such."""
        folder = self._shown[0].folder or Path(".")
        found = picked(past_episodes(folder) if self.past_episodes() else [], which, folder)
        space = self._agents[0].track.lane.action_space

        def actions_of(episode: PastEpisode) -> list[Array]:
            return list(read_actions(folder, episode.row, space))

        return Pick(found, actions_of, changed_since(read_description(folder)))

    def tell_map(self, agent: int, policy: Policy) -> None:
        """Tell the page what a policy thinks of every cell, where the environment is a grid."""
        explain = self._agents[agent].track.lane.explain
        cells = explain.grid(policy) if isinstance(explain, Thoughts) else None
        if cells is not None:
            self.tell({"type": f"map {agent}", "agent": agent, "cells": cells})

    def idle(self, session: Session) -> bool:
        """Look at the runs if it is time; new policies act from their next episode on."""
        for i, following in self._following.items():
            if not following.is_due():
                continue
            notice, policy = following.look()
            if notice is not None:
                self.tell({**notice, "type": f"curves {i}", "agent": i})
            if policy is not None:
                session.agents[i].fresh = policy, f"the checkpoint at step {following.checkpoint}"
                self.tell_map(i, policy)
                self.tell({"type": f"checkpoint {i}", "agent": i, "env_steps": following.checkpoint})
            self.give_way(session)
        return False

    def give_way(self, session: Session) -> str:
        """Take little from runs that train, and return in a line that this is done; "" where none trains."""
        trains = any(is_training(following.folder) for following in self._following.values())
        session.frames_per_second = TRAINING_FRAMES if trains else FRAMES_PER_SECOND
        if trains != bool(self._gentle):
            self._gentle = "" if not trains else GENTLE if give_way() else ONLY_FEWER
            self.tell({"type": "gentle", "text": self._gentle})
        return self._gentle


def _free_place(folder: Path) -> Path:
    """Return the first numbered folder inside `folder` that isn't there yet."""
    number = 1
    while (folder / f"{number:03d}").exists():
        number += 1
    return folder / f"{number:03d}"
