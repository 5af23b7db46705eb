"""Deep Q-networks, with or without a memory.

Mnih et al. (2015), "Human-level control through deep reinforcement learning",
https://www.nature.com/articles/nature14236; with `double`: van Hasselt et al. (2016),
https://arxiv.org/abs/1509.06461; with `dueling`: Wang et al. (2016), https://arxiv.org/abs/1511.06581;
with `n_steps`: Sutton (1988), as in https://arxiv.org/abs/1710.02298; with `prioritised`: Schaul et al.
(2016), https://arxiv.org/abs/1511.05952; with `value_rescaling`: Pohlen et al. (2018),
https://arxiv.org/abs/1805.11593; with `memory`: DRQN, Hausknecht & Stone (2015), "Deep Recurrent
Q-Learning for Partially Observable MDPs", https://arxiv.org/abs/1507.06527, on windows that start from the
stored carry; with all of these and `burn_in_steps`, `sequence_period_steps`, `priority_eta`: the learner of
R2D2, Kapturowski et al. (2019), "Recurrent Experience Replay in Distributed Reinforcement Learning",
https://openreview.net/forum?id=r1lyTjAqYX.

With `distribution`: C51, Bellemare et al. (2017), https://arxiv.org/abs/1707.06887; QR-DQN, Dabney et al. (2018),
https://arxiv.org/abs/1710.10044; IQN, Dabney et al. (2018), https://arxiv.org/abs/1806.06923; with `noisy`: Fortunato
et al. (2018), https://arxiv.org/abs/1706.10295; with `heads`: Osband et al. (2016), https://arxiv.org/abs/1602.04621,
and with `prior_scale`: Osband et al. (2018), https://arxiv.org/abs/1806.03335; with `munchausen`: Vieillard et al.
(2020), https://arxiv.org/abs/2007.14430; all of Rainbow, Hessel et al. (2018), https://arxiv.org/abs/1710.02298, is the
preset `rainbow`.

Deviations from Mnih et al.: Adam replaces RMSProp, and the target period is counted in environment steps, which
pass while collecting too, as in other implementations (the preset `nature` does both as they did). The Huber loss
replaces clipped errors and has the same gradient. Evaluation is greedy, where they act at random one time in
twenty. With `n_steps` the rewards in between are those of the behaviour policy, without a correction.

Deviations from Osband et al.: the greedy policy follows the mean of the heads instead of a vote, and the heads that
learn from a step are drawn for each place of the replay. The loss is the mean over heads, which divides each one's own
gradient by their number. The random functions of `prior_scale` have one fixed random encoder in common.

Deviations from IQN: it acts by fixed fractions, also while exploring, and the target's best action follows from the
mean over the fractions drawn for the target. Deviations from Fortunato et al.: noise is drawn for every action, where
they keep it until the next gradient step, and with `double` the choice of the target's action and the prediction share
theirs.

Deviations from R2D2: there is one actor instead of many with their own epsilons. `sequence_length` includes the
burn-in: R2D2's windows of 80 steps after 40 of burn-in are a `sequence_length` of 120. A window that opens an
episode has no burn-in, as its carry is exact. All steps learned from have the same weight, however many of them
their window has.
"""

from __future__ import annotations

from rl_lab.training.interaction import Interaction
from rl_lab.training.learner import built_from
from rl_lab.training.lockstep import Together

from .agent import DQN
from .config import Config, gradient_steps_per_call, refuse
from .together import DQNsTogether, refuse_together

__all__ = ["DQN", "Config", "build", "gradient_steps_per_call", "refuse"]


@built_from(Config)
def build(config: Config) -> Interaction:
    """Learn action values with a deep Q-network, with or without memory; Discrete actions."""
    return Interaction(config, DQN, refuse, together=Together(refuse_together, DQNsTogether))
