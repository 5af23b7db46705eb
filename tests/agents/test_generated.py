"""Agents on generated environments: each takes a space and learns, or says in a line why it can't."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from generated import FIXED, UNSHAPED, Generated, Script, scripts, sound_scripts
from rl_lab.seeding import Streams
from rl_lab.training.registry import make_learner
from rl_lab.types import EnvironmentFault, UsageError
from toys import interact, problem_on

FUZZ = settings(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
STEPS = 24
SMALL = {"hidden": (4,)}
AGENTS = {
    "random": {},
    "q-learning": {},
    "semi-gradient-sarsa": {"trace_decay": 0.5},
    "lspi": {"update_period_env_steps": 8},
    "bandit-ucb": {"ignore_observations": True},
    "dqn": {**SMALL, "learning_starts_env_steps": 8, "replay_capacity": 16, "batch_size": 4},
    "ppo": {**SMALL, "n_steps": 6, "batch_size": 6, "n_epochs": 1},
    "pqn": {**SMALL, "n_steps": 6, "batch_size": 6, "n_epochs": 1},
}
DISCRETE = st.builds(spaces.Discrete, st.integers(1, 5))
AGENT = pytest.mark.parametrize("agent", AGENTS)


def learn(agent: str, script: Script, num_envs: int) -> int | None:
    """Let an agent learn from environments of a script; return its gradient steps, or None where it refuses."""
    problem = problem_on(lambda: Generated(script), num_envs=num_envs, total_steps=STEPS)
    learner = make_learner(agent, **AGENTS[agent])
    if (reason := learner.refuse(problem)) is not None:
        assert reason.isprintable(), reason
        return None
    agent_ = learner.build_agent(learner.config, problem, Streams(0))
    return interact(agent_, problem).gradient_steps


@AGENT
@settings(FUZZ, max_examples=30)
@given(script=sound_scripts(st.one_of(FIXED, DISCRETE)), num_envs=st.sampled_from([1, 2]))
def test_a_sound_environment_is_refused_at_once_or_learned_from(agent, script, num_envs):
    taken = learn(agent, script, num_envs)
    if agent == "random":
        assert taken == 0
    elif taken is None:
        assert is_not_for(agent, script)
    else:
        assert taken > 0


def is_not_for(agent: str, script: Script) -> bool:
    """Say whether an agent may refuse a script's spaces."""
    actions, observations = script.action_space, script.observation_space
    counted = isinstance(actions, spaces.Discrete) and actions.start == 0
    if agent == "bandit-ucb":
        return not isinstance(actions, spaces.Discrete)
    if agent in ("semi-gradient-sarsa", "lspi"):
        bounded = isinstance(observations, spaces.Box) and bool(np.abs(_bounds(observations)).max() < 1e30)
        few = bounded and 8 * 9**observations.low.size <= 4_000
        return not isinstance(actions, spaces.Discrete) or not (
            few or isinstance(observations, spaces.Discrete)
        )
    if agent == "q-learning":
        return not counted or not isinstance(observations, spaces.Discrete) or observations.start != 0
    return not counted and (agent in ("dqn", "pqn") or not isinstance(actions, spaces.Box))


def _bounds(space: spaces.Box) -> np.ndarray:
    return np.concatenate((space.low, space.high), axis=None).astype(np.float64)


@AGENT
@settings(FUZZ, max_examples=30)
@given(script=scripts(), num_envs=st.sampled_from([1, 2]))
def test_whatever_comes_ends_in_one_line_or_in_learning(agent, script, num_envs):
    reason = ""
    try:
        learn(agent, script, num_envs)
    except (UsageError, EnvironmentFault) as error:
        reason = str(error)
    assert reason.isprintable()


@AGENT
@settings(FUZZ, max_examples=5)
@given(script=sound_scripts(UNSHAPED))
def test_spaces_without_a_fixed_shape_are_refused(agent, script):
    with pytest.raises(UsageError, match="no fixed shape"):
        learn(agent, script, 1)
