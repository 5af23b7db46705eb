"""What a compiled simulation needs of a tabular agent."""

from __future__ import annotations

from rl_lab.mdp.learning.exploring import EPSILON_GREEDY
from rl_lab.mdp.simulated_learners import Kind, Numbers, SimulatedLearner

from .agent import Tabular
from .config import BEHAVIOURS, STEP_SIZES, Config, Learning

OF_THE_KIND = ("family", "rule", "trace", "greedy_target")  # the rest of what a rule tells are numbers


def simulated_by(agent: Tabular, horizon: int) -> SimulatedLearner | None:
    """Return the agent as simulations take it; None if its rule isn't simulated.

    Args:
        horizon: environment steps over which schedules are spread.
    """
    config, how = agent.config, dict(getattr(agent.rule, "simulated", {}))
    if not how:
        return None
    codes = {name: how.pop(name) for name in OF_THE_KIND if name in how}
    behaviour, start, end, steps = _behaviour(config, horizon)
    numbers = Numbers(
        gamma=config.gamma,
        parameter_start=start,
        parameter_end=end,
        parameter_steps=float(steps),
        rate_start=config.learning_rate,
        rate_end=config.learning_rate_final,
        rate_steps=float(horizon),
        power=config.step_size_power,
        **{"decay": 0.0, "n": 1, **how},
    )
    kind = Kind(behaviour=behaviour, size=STEP_SIZES[config.step_size], **codes)
    return SimulatedLearner(kind, numbers, config.initial_value)


def _behaviour(config: Learning, horizon: int) -> tuple[int, float, float, float]:
    """Return the code of how it acts; the parameter at the start and at the end, and the steps between them."""
    if not isinstance(config, Config):  # it predicts, and acts at random whatever this says
        return EPSILON_GREEDY, 1.0, 1.0, 1.0
    start, end, steps = {
        "epsilon-greedy": (
            config.epsilon_initial,
            config.epsilon_final,
            config.epsilon_fraction * horizon,
        ),
        "boltzmann": (config.temperature, config.temperature_final, horizon),
        "ucb": (config.ucb_width, config.ucb_width, 1),
    }[config.exploration]
    return BEHAVIOURS[config.exploration], start, end, steps
