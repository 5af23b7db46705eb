"""What a run's loss itself does to its values: the exact fixed points of its own and of the squared loss on the model.

The predicted value at the start differs from the optimum by three amounts that add up: what n-step targets of the
policy that acts leave out, the bias of the loss, and what learning has left over.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rl_lab.diagnosis.visited import NotKnown
from rl_lab.evaluation.exact import expected_return
from rl_lab.mdp.model import TabularModel
from rl_lab.mdp.solve import solve
from rl_lab.mdp.td_fixed_point import FixedPoint, TDRule, fixed_point
from rl_lab.mdp.td_targets import TooManyTargets, n_step_targets
from rl_lab.types import Array

ROUNDING = 1e-9  # of values, relative; a smaller bias is none


@dataclass(frozen=True, eq=False)
class LossBias:
    """Values at which learning with a table would stay, whatever the data; starts are averaged as episodes begin."""

    loss: str
    n_steps: int
    gamma: float
    """Discount of the targets and of all values here."""
    optimal_value: float
    """At the start, of the best policy."""
    squared_value: float
    """At the start, at the fixed point of the squared loss."""
    loss_value: float
    """At the start, at the fixed point of the run's loss."""
    predicted_value: float | None
    """At the start, by the learned policy; None if it predicts none."""
    largest_bias: float
    """The difference of the two fixed points' values that is largest in size, over all live states."""
    regret: float
    """What the policy that is greedy at the loss's fixed point loses against that of the squared loss, by exact
    return; negative if it gains."""
    optimal_values: Array
    """[S]"""
    squared_values: Array
    """[S]"""
    loss_values: Array
    """[S]"""

    @property
    def from_targets(self) -> float:
        """How much the targets themselves move the value at the start, with any loss; 0 for one-step targets."""
        return self.squared_value - self.optimal_value

    @property
    def from_loss(self) -> float:
        """How much the loss moves the value at the start."""
        return self.loss_value - self.squared_value

    @property
    def from_learning(self) -> float | None:
        """The rest of the predicted value's error at the start; None without a prediction."""
        return None if self.predicted_value is None else self.predicted_value - self.loss_value


def find_loss_bias(
    model: TabularModel,
    policy: Array,
    rule: TDRule,
    *,
    eval_gamma: float,
    live: Array,
    predicted: Array | None,
    can_act: bool = True,
) -> LossBias:
    """Compute the fixed points of a rule.

    Args:
        policy: the learned policy, [S, A]; with the rule's epsilon it acts between the steps of a target.
        eval_gamma: discount of `regret`.
        live: states that aren't the end of an episode, bool [S].
        predicted: the learned policy's values [S]; None if it has none.
        can_act: False for a run that learned from others' steps.

    Raises:
        NotKnown: the fixed points can't be computed; the message says why.
        NeverEnds, NotConverged: the model can't be solved.
    """
    _require_known(rule, can_act)
    behaviour = _behaviour(model, policy, rule.epsilon)
    try:
        targets = n_step_targets(model, behaviour, rule.gamma, rule.n_steps, reward_clip=rule.reward_clip)
    except TooManyTargets as error:
        raise NotKnown(f"{rule.n_steps}-step targets: {error}") from error
    squared = fixed_point(model, targets, "squared", rule.gamma)
    own = squared
    if rule.loss != "squared":
        own = fixed_point(model, targets, rule.loss, rule.gamma, delta=rule.delta)
    own_v = _settled(own, squared)
    bias = np.where(live, own_v - squared.v, 0.0)
    return LossBias(
        loss=rule.loss,
        n_steps=rule.n_steps,
        gamma=rule.gamma,
        optimal_value=float(model.initial @ (optimal := solve(model, rule.gamma).v)),
        squared_value=float(model.initial @ squared.v),
        loss_value=float(model.initial @ own_v),
        predicted_value=None if predicted is None else float(model.initial @ predicted),
        largest_bias=float(bias[np.abs(bias).argmax()]),
        regret=_return_of(model, squared, eval_gamma) - _return_of(model, own, eval_gamma),
        optimal_values=optimal,
        squared_values=squared.v,
        loss_values=own_v,
    )


def _require_known(rule: TDRule, can_act: bool) -> None:
    """Check that the fixed points of a rule can be computed.

    Raises:
        NotKnown: they can't.
    """
    if rule.unknown is not None:
        raise NotKnown(rule.unknown)
    if rule.gamma >= 1.0:
        raise NotKnown(f"gamma {rule.gamma} has no unique fixed point (it has below 1)")
    if rule.n_steps > 1 and not can_act:
        raise NotKnown(
            f"{rule.n_steps}-step targets depend on the policy that acted, and a dataset doesn't tell it"
        )


def _behaviour(model: TabularModel, policy: Array, epsilon: float) -> Array:
    """Return the policy [S, A] that takes a random available action with probability epsilon."""
    random = model.available / model.available.sum(axis=1, keepdims=True)
    return (1.0 - epsilon) * policy + epsilon * random


def _settled(own: FixedPoint, squared: FixedPoint) -> Array:
    """Return the values of a fixed point [S], those of the other where they differ by rounding alone."""
    near = np.abs(own.v - squared.v) <= ROUNDING * np.maximum(1.0, np.abs(squared.v))
    return np.where(near, squared.v, own.v)


def _return_of(model: TabularModel, point: FixedPoint, gamma: float) -> float:
    """Return the exact return of the policy that is greedy in values, the first of those that tie but for rounding."""
    tied = point.q >= point.v[:, None] - ROUNDING * np.maximum(1.0, np.abs(point.v[:, None]))
    return expected_return(model, np.eye(model.num_actions)[tied.argmax(axis=1)], gamma)
