"""Behaviour cloning: a classifier that maps observations, or with a memory all observations so far, to actions.

Pomerleau (1989), "ALVINN: An Autonomous Land Vehicle in a Neural Network",
https://proceedings.neurips.cc/paper/1988/hash/812b4ba287f5ee0bc9d43bbf5bbe87fb-Abstract.html;
Bain & Sammut (1995), "A Framework for Behavioural Cloning". Labels are the actions of recorded episodes, or
with `oracle` the first optimal actions of the environment's finite MDP. With `hidden` () it is softmax
regression, with images a CNN, and with `memory` a sequence classifier. `rl_lab.datasets.supervised` turns arrays
into episodes.

The network is that of `dqn` with the same fields, and its outputs divided by `temperature` are the logits, so
`dqn --init-from` can start from a clone's weights. Cross-entropy doesn't determine the scale of the outputs, so
the first bootstrapped targets would destroy what a plain clone has learned. With `value_weight` the outputs also
learn to be action values, from the one-step temporal-difference error of the actions taken, as in the first phase
of Hester et al. (2018), "Deep Q-learning from Demonstrations", https://arxiv.org/abs/1704.03732. Here the
cross-entropy replaces their margin, and the network serves as its own target network.

Deviations: a share of the episodes is held out: it is never learned from, and measures how well the clone does on
episodes that it hasn't seen. A step with only one legal action has no label. The logits of illegal actions are
learned like all others, which is harmless since they are never the label; the policy leaves them out. With a
memory, windows start from the stored carry, as in `dqn`.
"""

from __future__ import annotations

from rl_lab.problem import Problem
from rl_lab.training.interaction import Interaction
from rl_lab.training.learner import built_from

from .agent import Clone
from .config import Config, refuse, refuse_spaces

__all__ = ["Clone", "Cloning", "Config", "build", "refuse"]


class Cloning(Interaction):
    """The learner, which accepts a problem by more than its spaces."""

    def refuse(self, problem: Problem) -> str | None:
        """Return why this problem can't be cloned (one line), or None if it can."""
        return refuse(self.config, problem)


@built_from(Config)
def build(config: Config) -> Cloning:
    """Imitate recorded actions, or the exact optimum of a finite MDP (behaviour cloning); discrete actions."""
    return Cloning(config, Clone, refuse_spaces)
