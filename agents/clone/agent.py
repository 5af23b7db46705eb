"""The agent: it stores labelled steps and learns to predict the label from what was observed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rl_lab.agent import Policy
from rl_lab.nn.acting import make_acting_values
from rl_lab.nn.attended import attention_figures
from rl_lab.nn.cores import blank_carry
from rl_lab.nn.q_network import QNetwork, make_q_network
from rl_lab.policies import Figures, ValuePolicy, Values, shifted
from rl_lab.problem import Problem
from rl_lab.replay.sequences import SequenceReplay, Sequences
from rl_lab.replay.transitions import LazyReplay, TransitionReplay
from rl_lab.schedules import crossings
from rl_lab.seeding import Streams
from rl_lab.trees import leaves_of, map_leaves
from rl_lab.types import Array, Decision, Metrics, Obs, State, Step
from rl_lab.updates.fitting import NetworkClass
from rl_lab.updates.gradients import ActiveDropout, at_env_step, set_learning_rate, take_step
from rl_lab.updates.trained import Trained

from .action_classes import ActionClasses
from .config import Config
from .held_out import HeldOutEvaluator
from .labelled_steps import (
    NO_LABEL,
    NO_STEP,
    LabelledBatch,
    LabelledSampler,
    decode,
    encode,
    td_errors,
)
from .oracle import OraclePolicy


class ClonePolicy(ValuePolicy):
    """Takes the likeliest legal action; its network outputs logits times a temperature, not values."""

    def __init__(
        self,
        values: Values,
        classes: ActionClasses,
        initial_state: Callable[[int], State] | None = None,
        network: QNetwork | None = None,
        figures: Figures | None = None,
        temperature: float = 1.0,
    ):
        super().__init__(values, classes.num_outputs, initial_state, network=network, figures=figures)
        self._classes, self._temperature = classes, temperature

    def act(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> Decision:
        """Choose an action for each observation, [N, ...]."""
        logits, state = self._values(obs, state, is_first)
        return Decision(self._classes.to_actions(self._classes.predict(logits, mask)), state)

    def inspect(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> dict[str, Array]:
        """Return `logits` [N, M], the network's outputs divided by the temperature, with -inf for illegal actions."""
        shown = super().inspect(obs, state, is_first, mask)
        return {"logits": shown.pop("q_values") / self._temperature, **shown}


class Clone:
    """Minimises the cross-entropy of the labels on steps, or on windows, drawn from a replay."""

    def __init__(self, config: Config, problem: Problem, streams: Streams):
        spec = problem.spec
        self.config, self._problem = config, problem
        self.num_envs, self.classes = spec.num_envs, ActionClasses(spec.action_space)
        outputs = self.classes.num_outputs
        self.trained: Trained[QNetwork] = Trained(
            config,
            problem,
            streams,
            lambda: make_q_network(spec.observation_space, outputs, config, dueling=config.dueling),
        )
        self._parameters = list(self.trained.network.parameters())
        self._active_dropout = ActiveDropout(self.trained.network)
        self._oracle_rng, self._replay_rng = streams["oracle"], streams["replay"]
        self.evaluator = HeldOutEvaluator(config, problem, self._remembers)
        self.buffer = LazyReplay(self._make_replay)
        self.collect_env_steps = config.train_period_env_steps
        self.env_steps, self.gradient_steps = 0, 0

    @property
    def _remembers(self) -> bool:
        return not self.trained.network.is_memoryless

    # Acting ------------------------------------------------------------------------------------------

    def policy(self, *, explore: bool) -> Policy:
        """Return the clone, or with `explore` and an oracle the oracle's policy (recorded actions need no policy).

        With `explore` the carry is that of the network being learned, from which windows are unrolled.
        """
        trained = self.trained
        network = trained.network if explore else trained.average.network
        clone = ClonePolicy(
            make_acting_values(network, trained.device),
            self.classes,
            trained.initial_state,
            network,
            attention_figures(network, trained.device),
            self.config.temperature,
        )
        if not explore or not self.config.oracle:
            return clone
        oracle = OraclePolicy(self._problem, self.config.gamma, self.config.epsilon, self._oracle_rng, clone)
        return shifted(oracle, self._problem.spec.first_action)

    def function_class(self) -> NetworkClass:
        """Return the policies that take the action with the largest of such a network's logits."""
        return NetworkClass(self.trained.average.network, lambda network, obs: network(obs)[0])

    # Learning ----------------------------------------------------------------------------------------

    def observe(self, step: Step) -> None:
        """Store the step, with label and action encoded as one number in place of the action.

        Raises:
            FloatingPointError: a reward or observation isn't finite.
        """
        step = replace(step, action=self.classes.of_actions(step.action))
        self.evaluator.begin_episodes(step.is_first)
        is_held_out, label = self.evaluator.is_held_out, self._labels(step)
        try:
            code = encode(label, step.action, self.classes.num_classes)
            self.buffer.add(replace(step, action=np.where(is_held_out, NO_STEP, code)))
        except FloatingPointError as error:
            raise at_env_step(error, self.env_steps + self.num_envs) from None
        self.evaluator.add(step, label)
        if self.config.normalise_observations:
            self.trained.statistics.observe(map_leaves(lambda leaf: leaf[~is_held_out], step.obs))
        self.env_steps += self.num_envs

    def _labels(self, step: Step) -> Array:
        """Return the labels int64 [N], NO_LABEL where only one action is legal."""
        label = step.extras.get("label", step.action)
        return (
            label if step.mask is None else np.where(self.classes.count_legal(step.mask) > 1, label, NO_LABEL)
        )

    def update(self) -> Metrics | None:
        """Take the gradient steps that are due; return their metrics, or None without any.

        Raises:
            FloatingPointError: a loss or gradient isn't finite; the weights are those before that step.
        """
        config, after = self.config, self.env_steps
        before = after - self.num_envs
        due = crossings(before, after, config.train_period_env_steps) * config.gradient_steps_per_update
        if not due or after <= config.learning_starts_env_steps or not self.buffer.can_sample:
            return None
        set_learning_rate(self.trained.optimiser, self.trained.learning_rate(after))
        taken = [self.learn(self._sample()) for _ in range(due)]
        found = [figures for figures in taken if figures is not None]
        if not found:
            return None
        means = torch.stack(found).mean(dim=0).tolist()
        return dict(zip(("loss", "train_accuracy", "td_error", "grad_norm"), means, strict=True))

    def _sample(self) -> LabelledBatch:
        """Draw steps [B], or windows [T, B]."""
        drawn = self.buffer.sample(self.config.batch_size, self._replay_rng)
        if isinstance(drawn, Sequences):
            code = np.where(drawn.valid, drawn.action, NO_STEP)
            next_obs, state = None, drawn.state
        else:
            code, next_obs, state = drawn.action, drawn.next_obs, ()
        label, action = decode(code, self.classes.num_classes)
        fields = (
            drawn.obs, label, action, code != NO_STEP, drawn.reward, drawn.terminated, next_obs, drawn.next_mask, state
        )  # fmt: skip
        return LabelledBatch(*map(self.trained.tensors, fields))

    def learn(self, drawn: LabelledBatch) -> Tensor | None:
        """Take a gradient step; return loss, accuracy, TD error and gradient norm, [4], or None without any label.

        Raises:
            FloatingPointError: the loss or the gradient isn't finite; the weights are unchanged.
        """
        count = int((drawn.label != NO_LABEL).sum())
        if not count:
            return None
        with self._active_dropout:
            outputs, next_outputs = self._outputs(drawn)
        assert outputs.shape == (*drawn.label.shape, self.classes.num_outputs)
        logits = outputs / self.config.temperature
        loss = self.classes.cross_entropy(logits, drawn.label) / count
        objective, error = loss, torch.zeros_like(loss)
        if next_outputs is not None:
            error = td_errors(outputs, next_outputs, drawn, self.config.gamma)
            objective = objective + self.config.value_weight * error.square().mean()
            error = error.detach().abs().mean()
        norm = self._take_step(objective)
        right = (self.classes.predicted(logits) == drawn.label).sum() / count
        return torch.stack((loss.detach(), right, error, norm))

    def _take_step(self, objective: Tensor) -> Tensor:
        """Take a gradient step; return the gradient's norm []."""
        trained, number = self.trained, self.gradient_steps
        try:
            norm = take_step(objective, self._parameters, trained.optimiser, trained.clip, number)
        except FloatingPointError as error:
            raise at_env_step(error, self.env_steps) from None
        trained.average.follow(number, 1)
        self.gradient_steps += 1
        return norm

    def _outputs(self, drawn: LabelledBatch) -> tuple[Tensor, Tensor | None]:
        """Return the outputs [..., A] at the steps and, if values are learned, those at their successors."""
        network, shifted = self.trained.network, self.trained.shift
        if drawn.next_obs is None:
            steps, width = drawn.label.shape
            window = shifted(drawn.obs, True), drawn.state, (steps + 1, width)
            outputs = after = self._unroll(network, *window)
            if not self.config.value_weight:
                return outputs[:-1], None
            if self.config.dropout:
                with torch.no_grad():  # without a gradient nothing is dropped
                    after = self._unroll(network, *window)
            return outputs[:-1], after[1:].detach()
        outputs = network(shifted(drawn.obs, False))[0]
        if not self.config.value_weight:
            return outputs, None
        with torch.no_grad():
            return outputs, network(drawn.next_obs)[0]

    def _unroll(
        self, network: QNetwork, obs: Obs, state: tuple[Tensor, ...], shape: tuple[int, int]
    ) -> Tensor:
        """Return the outputs for windows that each lie within one episode; `shape` is (T, B), the result [T, B, A]."""
        return network(obs, state, torch.zeros(shape, dtype=torch.bool, device=self.trained.device))[0]

    # Figures -----------------------------------------------------------------------------------------

    @torch.no_grad()
    def _logits_of(self, obs: Obs, unrolled: bool) -> Array:
        """Return the logits [B, A] of observations [B, ...], or unrolled [T, B, A] of whole episodes [T, B, ...]."""
        network, tensors = self.trained.average.network, self.trained.tensors(obs)
        if unrolled:
            steps, width = leaves_of(obs)[0].shape[:2]
            outputs = self._unroll(network, tensors, network.initial_state(width), (steps, width))
        else:
            outputs = network(tensors)[0]
        return (outputs / self.config.temperature).cpu().numpy()

    def classify(self) -> tuple[Array, Array, float] | None:
        """Return labels and predictions [K] of the held-out steps and their mean cross-entropy; None without any."""
        return self.evaluator.classify(self._logits_of)

    def diagnostics(self) -> dict[str, float]:
        """Return the step size, the replay's size, the epochs, and the figures on the held-out episodes."""
        out = {
            "learning_rate": self.trained.learning_rate(self.env_steps),
            "replay_size": len(self.buffer),
        }
        if (epochs := self.evaluator.epochs) is not None:
            out["epochs"] = epochs
        return out | self.evaluator.figures(self._logits_of)

    def results(self) -> dict[str, Any]:
        """Return what goes into the summary: figures, confusion matrix, and the share of the commonest label."""
        return self.evaluator.results(self._logits_of)

    # State -------------------------------------------------------------------------------------------

    def _make_replay(self) -> TransitionReplay:
        spec, config = self._problem.spec, self.config
        if self._remembers:
            return SequenceReplay(config.replay_capacity, spec, blank_carry(config), config.sequence_length)
        sampler = LabelledSampler(self.classes.num_classes)
        replay = TransitionReplay(config.replay_capacity, spec, sampler=sampler)
        sampler.codes = replay.columns["action"].reshape(-1)
        return replay

    def state_dict(self) -> dict[str, Any]:
        """Return network, optimiser, replay, held-out steps and counters; leaves are live."""
        return {
            **self.trained.state_dict(),
            "replay": self.buffer.state_dict(),
            **self.evaluator.state_dict(),
            "env_steps": self.env_steps,
            "gradient_steps": self.gradient_steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a state in place; weights alone make a policy."""
        self.trained.load_state_dict(state)
        if "optimiser" in state:
            self.env_steps, self.gradient_steps = state["env_steps"], state["gradient_steps"]
            self.evaluator.load_state_dict(state)
            self.buffer.load_state_dict(state["replay"])
