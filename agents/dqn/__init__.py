"""Deep Q-networks, memoryless or with an LSTM.

Mnih et al. (2015), "Human-level control through deep reinforcement learning",
https://www.nature.com/articles/nature14236; with `double`: van Hasselt et al. (2016),
https://arxiv.org/abs/1509.06461; with `dueling`: Wang et al. (2016), https://arxiv.org/abs/1511.06581;
with `n_steps`: Sutton (1988), as in https://arxiv.org/abs/1710.02298; with `prioritised`: Schaul et al.
(2016), https://arxiv.org/abs/1511.05952; with `memory`: Hausknecht & Stone (2015), "Deep Recurrent
Q-Learning for Partially Observable MDPs", https://arxiv.org/abs/1507.06527, on windows that start
from the stored carry.

Deviations, but for the preset `nature`: Adam instead of RMSProp; the target period is counted in
environment steps and runs while collecting, as peers do. The Huber loss stands for clipped errors (the
same gradient). Evaluation is greedy, where Mnih et al. act at random one time in twenty. With `n_steps`
the rewards in between are those of the behaviour, uncorrected.
"""

from __future__ import annotations

from typing import Any

from rl_lab.interaction import Interaction

from .agent import DQN
from .config import Config, refuse, steps_per_call

__all__ = ["DQN", "Config", "build", "refuse", "steps_per_call"]


def build(**fields: Any) -> Interaction:
    """Build the learner."""
    return Interaction(Config(**fields), DQN, refuse)
