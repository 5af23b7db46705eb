"""Steps written by hand, and how an agent is stopped and goes on as another one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rl_lab.problem import Problem
from rl_lab.seeding import EpisodeSeeds, Streams
from rl_lab.storage.checkpoint import Checkpoints
from rl_lab.training.loop import start, train
from rl_lab.types import Step


def step_of(
    obs,
    action,
    reward,
    next_obs,
    *,
    terminated=None,
    truncated=None,
    is_first=None,
    mask=None,
    next_mask=None,
) -> Step:
    """A step of N environments; flags that aren't given are False."""
    flags = (
        np.zeros(len(action), bool) if f is None else np.array(f) for f in (terminated, truncated, is_first)
    )
    ends, cut, opens = flags
    return Step(
        np.array(obs), np.array(action), np.array(reward, float), ends, cut, np.array(next_obs), opens, (), (),
        None if mask is None else np.array(mask), None if next_mask is None else np.array(next_mask),
    )  # fmt: skip


def learned(agent, *steps: Step):
    """Let an agent learn from steps, one update after each; return it."""
    for step in steps:
        agent.observe(step)
        agent.update()
    return agent


def agent_for(build, problem: Problem, **fields):
    """An agent as its learner builds it, and the streams that it draws from."""
    learner = build(**fields).resolved(problem)
    assert learner.refuse(problem) is None
    streams = Streams(problem.seed)
    return learner.build_agent(learner.config, problem, streams), streams


def states_after(build, problem: Problem, folder: Path, *, stop: int | None, **fields) -> list[str]:
    """Names that hash an agent's state after a third of the budget and at its end.

    With `stop` the agent is saved once it has taken so many steps, and another one loads that and goes on.
    """
    (agent, streams), names = agent_for(build, problem, **fields), []
    envs, seeds = problem.make(problem.num_envs), EpisodeSeeds(problem.seed, problem.num_envs)
    at = start(agent.policy(explore=True), envs, seeds)
    total = problem.total_steps
    for goal in sorted({total // 3, total} | ({stop} if stop else set())):
        at = [
            at,
            *(cursor for _, _, cursor in train(agent, agent.policy(explore=True), envs, seeds, goal, at)),
        ][-1]
        saved = {"agent": agent.state_dict(), "streams": streams.state_dict()}
        if goal == stop:
            place = folder / "stopped"
            Checkpoints(place).save(0, saved)
            state = Checkpoints(place).load()[1]
            agent, streams = agent_for(build, problem, **fields)
            agent.load_state_dict(state["agent"])
            streams.load_state_dict(state["streams"])
        if goal in (total // 3, total):
            names.append(Checkpoints(folder / f"{stop}-{goal}").save(0, saved).name)
    envs.close()
    return names
