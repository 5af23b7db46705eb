"""What a compiled simulation needs of a tabular agent."""

from __future__ import annotations

from rl_lab.mdp.learning.traces import TD_LAMBDA
from rl_lab.mdp.simulate import SimulatedLearner
from rl_lab.mdp.simulated_loop import TRACES, Kind, Numbers

from .agent import Tabular
from .config import BEHAVIOURS, STEP_SIZES, Config


def simulated_by(agent: Tabular, horizon: int) -> SimulatedLearner | None:
    """Return the agent as simulations take it; None if its rule isn't simulated.

    Args:
        horizon: environment steps over which schedules are spread.
    """
    config, how = agent.config, dict(getattr(agent.rule, "simulated", {}))
    if not how or not isinstance(config, Config) or (how["family"], how["rule"]) == (TRACES, TD_LAMBDA):
        return None
    start, end, steps = {
        "epsilon-greedy": (
            config.epsilon_initial,
            config.epsilon_final,
            config.epsilon_fraction * horizon,
        ),
        "boltzmann": (config.temperature, config.temperature_final, horizon),
        "ucb": (config.ucb_width, config.ucb_width, 1),
    }[config.exploration]
    numbers = Numbers(
        gamma=config.gamma,
        parameter_start=start,
        parameter_end=end,
        parameter_steps=float(steps),
        rate_start=config.learning_rate,
        rate_end=config.learning_rate_final,
        rate_steps=float(horizon),
        power=config.step_size_power,
        decay=how.pop("decay", 0.0),
        n=how.pop("n", 1),
    )
    kind = Kind(behaviour=BEHAVIOURS[config.exploration], size=STEP_SIZES[config.step_size], **how)
    return SimulatedLearner(kind, numbers, config.initial_value)
