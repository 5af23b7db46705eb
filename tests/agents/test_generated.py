"""Agents on generated environments: each takes a space and learns, or says in a line why it can't."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from generated import FIXED, UNSHAPED, Generated, Script, scripts, sound_scripts
from rl_lab.agents.random import RandomPolicy
from rl_lab.agents.sb3 import make_vec_env
from rl_lab.datasets.dataset import Dataset
from rl_lab.datasets.record import record_dataset
from rl_lab.environments.actions import leaf_spaces
from rl_lab.environments.table_rows import count_rows
from rl_lab.seeding import Streams
from rl_lab.training.registry import make_learner
from rl_lab.types import EnvironmentFault, UsageError
from toys import imitate, interact, problem_on

FUZZ = settings(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
STEPS = 24
SMALL = {"hidden": (4,)}
ROLLOUT = {**SMALL, "n_steps": 6, "batch_size": 6, "n_epochs": 1}
REPLAY = {**SMALL, "learning_starts_env_steps": 8, "replay_capacity": 16, "batch_size": 4}
MEMORY = {"memory": "lstm", "memory_size": 3}
AGENTS = {
    "random": {},
    "q-learning": {},
    "semi-gradient-sarsa": {"trace_decay": 0.5, "tiles": (2,)},
    "lspi": {"update_period_env_steps": 12, "tiles": (2,)},
    "bandit-ucb": {"ignore_observations": True},
    "dqn": REPLAY,
    "ppo": ROLLOUT,
    "pqn": ROLLOUT,
}
OTHERS = {
    "dqn with memory": {**REPLAY, **MEMORY, "sequence_length": 4},
    "ppo with memory": ROLLOUT | MEMORY,
    "clone": REPLAY,
    "sb3-dqn": REPLAY,
    "sb3-ppo": ROLLOUT,
    "sb3-recurrent-ppo": {**ROLLOUT, "memory_size": 3},
}
FIELDS = AGENTS | OTHERS
BOUNDED = st.sampled_from([spaces.Box(-1, 1, (2,)), spaces.Box(np.float32([0, 3]), np.float32([5, 3.5]))])
SPACES = st.one_of(FIXED, st.builds(spaces.Discrete, st.integers(1, 5)), BOUNDED)
AGENT = pytest.mark.parametrize("agent", AGENTS)
Counted = spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary


def learn(agent: str, script: Script, num_envs: int) -> int | None:
    """Let an agent learn from environments of a script; return its gradient steps, or None where it refuses."""
    make, name = (lambda: Generated(script)), agent.removesuffix(" with memory")
    problem = problem_on(make, num_envs=num_envs, total_steps=STEPS)
    learner = make_learner(name, **FIELDS[agent])
    with TemporaryDirectory() as folder:
        if name == "clone":
            acting = RandomPolicy(script.action_space, lambda: np.random.default_rng(0))
            record_dataset(acting, make, folder, episodes=20)
            problem = replace(problem, dataset=Dataset(folder))
        if (reason := learner.refuse(problem)) is not None:
            assert reason.isprintable(), reason
            return None
        if name.startswith("sb3"):
            with closing(make_vec_env(problem, [])) as envs:
                return learner.make_model(problem, envs).learn(STEPS)._n_updates
        built = learner.build_agent(learner.config, problem, Streams(0))
        return (interact if problem.dataset is None else imitate)(built, problem).gradient_steps


@AGENT
@settings(FUZZ, max_examples=30)
@given(script=sound_scripts(SPACES), num_envs=st.sampled_from([1, 2]))
def test_a_sound_environment_is_learned_from_by_the_agents_that_take_it_and_no_other(agent, script, num_envs):
    require_learned_where_taken(agent, script, num_envs)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:.*ignores action masks:UserWarning")
@pytest.mark.parametrize("agent", OTHERS)
@settings(FUZZ, max_examples=15)
@given(script=sound_scripts(SPACES), num_envs=st.sampled_from([1, 2]))
def test_so_do_agents_with_memory_clones_and_those_of_sb3(agent, script, num_envs):
    require_learned_where_taken(agent, script, num_envs)


def require_learned_where_taken(agent: str, script: Script, num_envs: int) -> None:
    steps = learn(agent, script, num_envs)
    assert (steps is not None) == takes(agent, script), (script.observation_space, script.action_space)
    if steps is not None:
        assert (steps == 0) if agent == "random" else (steps > 0)


def takes(agent: str, script: Script) -> bool:
    """Say whether an agent takes a script's spaces, as docs/spaces.md has it."""
    actions, seen = script.action_space, script.observation_space
    if agent == "random" or agent.startswith("ppo"):
        return True
    if agent == "clone":
        return isinstance(actions, Counted)
    if agent in ("sb3-ppo", "sb3-recurrent-ppo"):
        return is_seen_by_sb3(seen, takes_counts=agent == "sb3-ppo")
    if not isinstance(actions, spaces.Discrete):
        return False
    if agent == "sb3-dqn":
        return is_seen_by_sb3(seen, takes_counts=True)
    if agent == "q-learning":
        return is_counted(seen)
    if agent in ("semi-gradient-sarsa", "lspi"):
        features = count_rows(seen) if is_counted(seen) else tiles_of(seen)
        return features is not None and (agent != "lspi" or features * int(actions.n) <= 4_000)
    return True


def is_counted(space: spaces.Space) -> bool:
    """Say whether a space is discrete, also in parts."""
    return all(isinstance(leaf, Counted) for leaf in leaf_spaces(space))


def tiles_of(space: spaces.Space) -> int | None:
    """Return how many tiles of half a side a space is seen in; None if it has none: no Box, or no finite bounds."""
    if not isinstance(space, spaces.Box):
        return None
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    is_bounded = max(np.abs(low).max(), np.abs(high).max()) < 1e30 and (low < high).all()
    return 8 * 3**low.size if is_bounded else None


def is_seen_by_sb3(space: spaces.Space, takes_counts: bool) -> bool:
    """Say whether SB3's networks take observations of a space; its recurrent ones take no MultiDiscrete."""
    if isinstance(space, spaces.Dict):
        parts = space.spaces.values()
        plain = not any(isinstance(part, spaces.Dict) for part in parts)
        return plain and all(is_seen_by_sb3(part, takes_counts) for part in parts)
    if isinstance(space, spaces.MultiDiscrete):
        return takes_counts and space.nvec.ndim == 1
    if isinstance(space, spaces.Box):
        is_image = space.dtype == np.uint8 and len(space.shape) == 3 and (space.high - space.low == 255).all()
        return space.shape != () and not is_image  # those that are drawn are smaller than its convolutions
    return not isinstance(space, spaces.Tuple)


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
