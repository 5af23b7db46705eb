"""Behaviour cloning: a classifier from observations, or from all that was seen so far, to actions.

Pomerleau (1989), "ALVINN: An Autonomous Land Vehicle in a Neural Network",
https://proceedings.neurips.cc/paper/1988/hash/812b4ba287f5ee0bc9d43bbf5bbe87fb-Abstract.html;
Bain & Sammut (1995), "A Framework for Behavioural Cloning". Labels are the actions of recorded episodes, or
with `oracle` the first optimal actions of the environment's finite MDP. With `hidden` () it is softmax
regression, with images a CNN, with `memory` a sequence classifier; `rl_lab.datasets.supervised` turns arrays into
episodes.

The network is that of `dqn` with the same fields, its outputs over `temperature` are the logits: `dqn
--init-from` takes a clone's weights. Cross-entropy leaves open how high the outputs are, so that the first
bootstrap would wipe a plain clone out; with `value_weight` the one-step temporal-difference error of the
actions taken pins them, as in the first phase of Hester et al. (2018), "Deep Q-learning from
Demonstrations", https://arxiv.org/abs/1704.03732 (whose margin is the cross-entropy here, and whose target
network is the network itself).

Deviations: a share of the episodes is held out, never learned from, and
says how good the clone is on what it hasn't seen. A step at which one action alone is legal has no label.
The logits of illegal actions are learned like all others, since they are never the label; the policy leaves
them out. With a memory, windows start from the stored carry, as in `dqn`.
"""

from __future__ import annotations

from rl_lab.problem import Problem
from rl_lab.training.interaction import Interaction
from rl_lab.training.learner import built_from

from .agent import Clone
from .config import Config, refuse, refuse_spaces

__all__ = ["Clone", "Cloning", "Config", "build", "refuse"]


class Cloning(Interaction):
    """The learner: whether it can learn depends on more than the spaces."""

    def refuse(self, problem: Problem) -> str | None:
        """Return why there is nothing to clone, or no way to."""
        return refuse(self.config, problem)


@built_from(Config)
def build(config: Config) -> Cloning:
    """Imitate recorded actions, or the exact optimum of a finite MDP (behaviour cloning); Discrete actions."""
    return Cloning(config, Clone, refuse_spaces)
