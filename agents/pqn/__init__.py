"""PQN: Q-learning from rollouts of many environments, without a replay and without a target network.

Gallici et al. (2025), "Simplifying Deep Temporal Difference Learning", https://arxiv.org/abs/2407.04811, with the
authors' code, https://github.com/mttga/purejaxql: layer normalisation keeps learning stable, the targets are
lambda-returns of the rollout (Peng's Q(lambda)), and steps are learned from in shuffled minibatches, several times.

With `memory` the carry is threaded through acting and learning alike and reset where an episode begins; a minibatch
holds the whole sequences of some environments, from the carry that was stored when the rollout began.

Deviations: epsilon falls with every environment step, not with every rollout. Where a time limit cuts an episode off,
the return bootstraps from the true successor; in the authors' code a time limit ends the episode as termination does.
Illegal actions don't count in the largest value. The authors' recurrent form computes its targets anew in each
minibatch, learns again from the last steps of the rollout before, and shows the network its previous action; here
targets are computed once per rollout, each step belongs to one rollout, and the network sees observations alone.
"""

from __future__ import annotations

from rl_lab.training.interaction import Interaction
from rl_lab.training.learner import built_from

from .agent import PQN
from .config import Config, refuse

__all__ = ["PQN", "Config", "build", "refuse"]


@built_from(Config)
def build(config: Config) -> Interaction:
    """Learn action values by PQN from many environments at once, with or without memory; Discrete actions."""
    return Interaction(config, PQN, refuse, takes_datasets=False)
