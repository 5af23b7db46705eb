"""A run's greedy policy as one torch module from flat inputs to actions, as it is written to files."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rl_lab.agent import Policy
from rl_lab.exporting.choosing import Choice, MeansAlone, choice_of, choice_of_classes, side_by_side
from rl_lab.exporting.layers import traceable
from rl_lab.exporting.signature import IS_FIRST, MASK, Signature, signature_of, tree_of
from rl_lab.exporting.tables import SolvedTable, ValueTable
from rl_lab.function_class import OnePolicy, Table
from rl_lab.nn.actor_critic import ActorCritic
from rl_lab.nn.distributions import GaussianHead
from rl_lab.nn.joint_distributions import JointHead
from rl_lab.nn.q_network import QNetwork
from rl_lab.nn.recurrent import Memoryless, zero_where
from rl_lab.problem import Problem
from rl_lab.runs.description import RunDescription, read_description
from rl_lab.storage.state_trees import weights_sha256
from rl_lab.training.devices import limited_threads
from rl_lab.training.loading import load_policy, read_weights
from rl_lab.training.registry import make_learner
from rl_lab.training.setup import problem_of
from rl_lab.types import UsageError
from rl_lab.updates.fitting import NetworkClass


@dataclass(frozen=True)
class Trained:
    """A run's greedy policy, and what is needed to write it elsewhere."""

    run_dir: Path
    description: RunDescription
    problem: Problem
    policy: Policy
    module: ActingModule
    signature: Signature
    weights_sha256: str

    def with_module(self, module: ActingModule) -> Trained:
        """Return the same with another module."""
        return dataclasses.replace(self, module=module)


class ActingModule(nn.Module):
    """Maps the inputs of a signature, in their order, to actions, scores and the next carry.

    The carry is zeroed where `is_first`. Scores [N, M] are what decides: values, logits or means, side by side.
    """

    def __init__(self, scorer: nn.Module, choice: Choice, space: spaces.Space, signature: Signature):
        super().__init__()
        self.scorer, self.choice = scorer, choice
        self.space, self.signature = space, signature

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return actions [N, ...], scores [N, M] and the parts of the next carry."""
        given = dict(zip(self.signature.names, inputs, strict=True))
        obs = tree_of(self.space, [given[i.name] for i in self.signature.observations])
        carry = tuple(given[i.name] for i in self.signature.carry)
        if carry:
            carry = zero_where(carry, given[IS_FIRST])
        scores, carry = self.scorer(obs, carry)
        return (self.choice(scores, given.get(MASK)), scores, *carry)


class NetworkScorer(nn.Module):
    """Normaliser, encoder, core and head of a network for a single step."""

    def __init__(self, normaliser: nn.Module | None, encoder: nn.Module, core: nn.Module, head: nn.Module):
        super().__init__()
        self.normaliser, self.encoder, self.core, self.head = normaliser, encoder, core, head

    def forward(self, obs: Any, carry: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the scores [N, M] and the next carry."""
        features = self.encoder(obs if self.normaliser is None else self.normaliser(obs))
        if not isinstance(self.core, Memoryless):
            y, carry = self.core.unroll(features.unsqueeze(0), carry)  # type: ignore[operator]
            features = y[0]
        return side_by_side(self.head(features)), carry


class TableScorer(nn.Module):
    """A table, which needs no carry."""

    def __init__(self, table: nn.Module):
        super().__init__()
        self.table = table

    def forward(self, obs: Any, carry: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the scores [N, A] and ()."""
        return self.table(obs), ()


def read_trained(run_dir: str | Path, *, best: bool = False) -> Trained:
    """Return the policy of a run directory as a module.

    Raises:
        UsageError: there is no run or no checkpoint, or this policy can't be exported.
        CheckpointCorrupt: no checkpoint is whole.
        FormatTooNew: a newer version wrote it.
    """
    folder = Path(run_dir)
    description = read_description(folder)
    agent = description.agent
    if agent.startswith("sb3-"):
        raise UsageError(
            f"agent {agent!r} can't be exported: its network is Stable-Baselines3's own, whose page 'Exporting models'"
            " says how to (allowed: agents of the lab that learn)"
        )
    learner = make_learner(agent, **description.fields)
    problem = problem_of(description.config, learner, for_acting=True)
    tell, weights = getattr(learner, "function_class", None), read_weights(folder, best=best)
    with limited_threads(description.config.threads):
        kind = None if tell is None else tell(problem, weights)
    if isinstance(kind, OnePolicy):
        raise UsageError(
            f"agent {agent!r} can't be exported: it draws its actions at random (allowed: agents that learn)"
        )
    scorer, choice = _parts(agent, kind, problem, weights)
    policy = load_policy(folder, best=best)
    carry = policy.initial_state(1)
    if isinstance(scorer, NetworkScorer) and carry:
        carry = carry[: len(scorer.core.initial_state(1))]  # type: ignore[operator]  # a critic's memory decides nothing
    mask_size = choice.mask_size if problem.spec.has_mask and not _ignores_masks(weights) else 0
    signature = signature_of(problem.spec.observation_space, carry, mask_size)
    module = ActingModule(scorer, choice, problem.spec.observation_space, signature)
    return Trained(folder, description, problem, policy, module, signature, weights_sha256(weights))


def _parts(agent: str, kind: Any, problem: Problem, weights: Any) -> tuple[nn.Module, Choice]:
    space, actions = problem.spec.observation_space, problem.spec.action_space
    if isinstance(kind, Table) and "q" in weights:
        if not _ignores_masks(weights):
            return TableScorer(ValueTable(weights["q"], space)), choice_of_classes(actions)
        assert problem.model is not None
        return TableScorer(
            SolvedTable(problem.model, weights["policy"], weights["q"].shape[1])
        ), choice_of_classes(actions)
    if isinstance(kind, NetworkClass) and isinstance(kind.network, QNetwork):
        network: Any = traceable(kind.network)
        return NetworkScorer(
            network.normaliser, network.encoder, network.core, network.head
        ), choice_of_classes(actions)
    if isinstance(kind, NetworkClass) and isinstance(kind.network, ActorCritic):
        network = traceable(kind.network)
        tower = network.policy_tower
        head = _means_alone(network.policy_head)
        return NetworkScorer(network.normaliser, tower.encoder, tower.core, head), choice_of(actions)
    raise UsageError(
        f"agent {agent!r} can't be exported: it doesn't say what decides its actions (allowed: agents with a table, a"
        " QNetwork or an ActorCritic, which their function_class() names)"
    )


def _ignores_masks(weights: Any) -> bool:
    """Return whether the weights are a solution, whose actions don't depend on masks."""
    return "policy" in weights and "v" in weights


def _means_alone(head: nn.Module) -> nn.Module:
    if isinstance(head, JointHead):
        head.parts = nn.ModuleList(_means_alone(part) for part in head.parts)
        return head
    return MeansAlone(head) if isinstance(head, GaussianHead) else head


def example_inputs(trained: Trained, count: int = 2) -> tuple[Tensor, ...]:
    """Return valid inputs of a trained policy as tensors [count, ...]."""
    arrays = trained.signature.example(trained.problem.spec.observation_space, count)
    return tuple(torch.from_numpy(np.ascontiguousarray(a)) for a in arrays)
