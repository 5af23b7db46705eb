"""Tabular learning: in compiled simulation beside pymdptoolbox, and through env.step beside the bare environment."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

from rl_lab.benchmarks.work import Work, timed
from rl_lab.environments.make import make_env
from rl_lab.mdp.exchange import to_pymdptoolbox
from rl_lab.mdp.learning.exploring import EPSILON_GREEDY
from rl_lab.mdp.learning.rules import Q_LEARNING
from rl_lab.mdp.learning.step_sizes import BY_TIME
from rl_lab.mdp.model import TabularModel, extract_model
from rl_lab.mdp.simulate import Simulation, all_cores, simulate
from rl_lab.mdp.simulated_learners import AT_ONCE, Kind, Numbers, SimulatedLearner
from rl_lab.training.launch import learn

ENV_ID, TIME_LIMIT, GAMMA = "FrozenLake8x8-v1", 200, 0.99
MILLION = 1_000_000
QUIET: dict[str, Any] = {"wandb": "disabled", "video_episodes": 0, "eval_episodes": 0, "pictures": False}

# The bars that the lab holds, in the rows of results.
TIMES_AS_FAST = 150.0  # as pymdptoolbox, in steps per second
STEPS_A_SECOND = 20e6  # of one sequence on one core
SHARE = 0.3  # of the bare environment's rate, through env.step with recording


def frozen_lake() -> TabularModel:
    """Return the model of FrozenLake 8x8."""
    model = extract_model(make_env(ENV_ID).unwrapped)
    assert model is not None
    return model


def q_learning(over_steps: int) -> SimulatedLearner:
    """Return epsilon-greedy Q-learning, whose epsilon and step size fall over so many steps."""
    numbers = Numbers(
        gamma=GAMMA, parameter_start=1.0, parameter_end=0.1, parameter_steps=over_steps / 2,
        rate_start=0.5, rate_end=0.01, rate_steps=float(over_steps), power=1.0, decay=0.0, n=1,
    )  # fmt: skip
    return SimulatedLearner(Kind(AT_ONCE, Q_LEARNING, EPSILON_GREEDY, BY_TIME), numbers)


def one_sequence_seconds(model: TabularModel, steps: int) -> float:
    """Simulate one learner on one core and return the seconds of a million steps."""
    simulation = Simulation(model, q_learning(steps), [0], time_limit=TIME_LIMIT, threads=1).prepare()
    return timed(lambda: simulation.advance(steps)) * MILLION / steps


def pymdptoolbox_seconds(model: TabularModel, steps: int) -> float:
    """Let pymdptoolbox's Q-learning take steps, as it explores, and return the seconds of a million."""
    from mdptoolbox.mdp import QLearning

    transitions, reward = to_pymdptoolbox(model)
    np.random.seed(0)  # noqa: NPY002  it draws from the global generator
    learning = QLearning(transitions, reward, GAMMA, n_iter=steps)
    return timed(learning.run) * MILLION / steps


def sequence_work(steps: int, peer_steps: int) -> Work:
    """Return a million steps of Q-learning by the lab on one core, and by pymdptoolbox."""
    model = frozen_lake()
    seconds: list[float] = []

    def ours() -> float:
        seconds.append(one_sequence_seconds(model, steps))
        return seconds[-1]

    def more() -> dict[str, Any]:
        rate = MILLION / float(np.median(seconds))
        return {
            "ratio_at_least": TIMES_AS_FAST, "steps_per_second": rate, "steps_per_second_at_least": STEPS_A_SECOND,
        }  # fmt: skip

    return Work(
        f"a million steps of Q-learning on {ENV_ID}, one sequence on one core",
        "pymdptoolbox QLearning",
        ours,
        lambda: pymdptoolbox_seconds(model, peer_steps),
        more=more,
    )


def seeds_work(seeds: int, steps: int) -> Work:
    """Return many seeds in one call on all cores, with exact regret at ten points, and the same on one core."""
    model = frozen_lake()

    def run(threads: int) -> Callable[[], float]:
        return lambda: timed(
            lambda: simulate(
                model, q_learning(steps), range(seeds), steps, time_limit=TIME_LIMIT, threads=threads
            )
        )

    return Work(
        f"{seeds:,} seeds of {steps:,} steps on {ENV_ID}, with exact regret at ten points",
        "the same on one core",
        run(all_cores()),
        run(1),
    )


def bare_seconds(num_envs: int, steps: int) -> float:
    """Step bare environments with random actions, one after the other, and return the seconds of a million steps."""
    rng = np.random.default_rng(0)
    envs = [make_env(ENV_ID) for _ in range(num_envs)]
    actions = rng.integers(0, 4, (steps // num_envs, num_envs)).tolist()
    for i, env in enumerate(envs):
        env.reset(seed=i)

    def play() -> None:
        for chosen in actions:
            for env, action in zip(envs, chosen, strict=True):
                _, _, terminated, truncated, _ = env.step(action)
                if terminated or truncated:
                    env.reset()

    return timed(play) * MILLION / (len(actions) * num_envs)


def stepped_seconds(num_envs: int, steps: int) -> float:
    """Let Q-learning learn through env.step, with everything that a run records; return the seconds of a million."""
    with tempfile.TemporaryDirectory() as folder:
        result = learn(
            "q-learning", ENV_ID, run_dir=f"{folder}/run", num_envs=num_envs, total_steps=steps, progress=False, **QUIET
        )  # fmt: skip
        assert result.summary is not None
        return result.summary["train_seconds"] * MILLION / result.summary["env_steps"]


def stepping_work(num_envs: int, steps: int) -> Work:
    """Return learning through env.step, with recording, and stepping the bare environment alone."""
    return Work(
        f"a million steps of Q-learning through env.step on {ENV_ID}, recorded, N = {num_envs}",
        "the bare environment, stepped alone",
        lambda: stepped_seconds(num_envs, steps),
        lambda: bare_seconds(num_envs, steps),
        more=lambda: {"ratio_at_least": SHARE},
    )


def tabular(
    steps: int = 20_000_000, peer_steps: int = 50_000, seeds: int = 1_000, seed_steps: int = 100_000,
    stepped: int = 100_000,
) -> list[Work]:  # fmt: skip
    """Return tabular Q-learning on FrozenLake 8x8.

    Args:
        steps: of one simulated sequence.
        peer_steps: of pymdptoolbox, at least 10,000.
        seeds: simulated in one call, of `seed_steps` steps each.
        stepped: through env.step.
    """
    return [
        sequence_work(steps, peer_steps),
        seeds_work(seeds, seed_steps),
        *(stepping_work(num_envs, stepped) for num_envs in (1, 8)),
    ]
