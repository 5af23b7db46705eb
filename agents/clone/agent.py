"""The agent: it watches, and learns to tell the action from what was seen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rl_lab.agent import Policy
from rl_lab.nn.acting import make_acting_values, on_device
from rl_lab.nn.normalise import Statistics
from rl_lab.nn.q_network import QNetwork, make_q_network
from rl_lab.policies import ValuePolicy, legal
from rl_lab.problem import Problem
from rl_lab.replay.sequences import SequenceReplay
from rl_lab.replay.transitions import TransitionReplay
from rl_lab.schedules import crossings
from rl_lab.seeding import Streams, seed_of
from rl_lab.trees import leaves_of, map_leaves
from rl_lab.types import Array, Metrics, Obs, State, Step
from rl_lab.updates.fields import clip_of, learning_rate_of, make_optimiser, network_arguments, shifting
from rl_lab.updates.optimisers import WeightAverage, settle_moments
from rl_lab.updates.regularise import differentiate, dropouts_of, dropping
from rl_lab.updates.trained import Saved

from .config import Config
from .held_out import HeldOut, Split, confusion_of, figures_of, predictions
from .labels import NO_LABEL, NO_STEP, Drawn, Labelled, cross_entropy, decode, encode, td_errors
from .oracle import OraclePolicy


class ClonePolicy(ValuePolicy):
    """Takes the likeliest legal action; what lies behind it are logits, not values."""

    def inspect(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> dict[str, Array]:
        """Return the network's outputs [N, A] for the legal actions; -inf elsewhere."""
        return {"logits": legal(self._values(obs, state, is_first)[0], mask)}


class Clone:
    """Minimises the cross-entropy of the labels, on steps or on windows drawn from a replay."""

    def __init__(self, config: Config, problem: Problem, streams: Streams):
        spec = problem.spec
        assert isinstance(spec.action_space, spaces.Discrete)
        self.config, self.device, self._problem = config, torch.device(problem.device), problem
        self.num_actions, self.num_envs = int(spec.action_space.n), spec.num_envs
        streams.use_torch()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(problem.seed, "initial weights"))
            self.network = make_q_network(
                spec.observation_space, self.num_actions, dueling=config.dueling, **network_arguments(config)
            ).to(self.device)
        self.optimiser = make_optimiser(config, self.network)
        self._clip, self._dropouts = clip_of(config), dropouts_of(self.network)
        self._parameters = list(self.network.parameters())
        self._average = WeightAverage(self.network, config.average_decay)
        self._values = make_acting_values(self.network, self.device)
        self._average_values = make_acting_values(self._average.network, self.device)
        self._statistics = Statistics(self.network.normaliser)
        self._saved = Saved(self.network, self._average, self.optimiser, self._statistics)
        self._oracle_rng, self._replay_rng = streams["oracle"], streams["replay"]
        self._shifted = shifting(config, spec.observation_space, streams)
        self._split = Split(config.held_out, problem)
        self.replay: TransitionReplay | None = (
            None  # allocated, like what is held out, when the first step comes
        )
        self.held_out: HeldOut | None = None
        self._learning_rate = learning_rate_of(config, problem.total_steps)
        self.collect_env_steps = config.train_period_env_steps
        self.env_steps, self.gradient_steps = 0, 0
        self._episodes = np.full(self.num_envs, -1)  # the open episode's number in each column
        self._is_held_out = np.zeros(self.num_envs, np.bool_)

    # Acting ------------------------------------------------------------------------------------------

    def policy(self, *, explore: bool) -> Policy:
        """Return the clone, or the teacher where there is an oracle (recorded actions need none).

        While learning it is the live network whose carry is stored, to be unrolled from.
        """
        clone = ClonePolicy(
            self._values if explore else self._average_values,
            self.num_actions,
            None if self.network.is_memoryless else self._initial_state,
        )
        if not explore or not self.config.oracle:
            return clone
        return OraclePolicy(self._problem, self.config.gamma, self.config.epsilon, self._oracle_rng, clone)

    def _initial_state(self, num_envs: int) -> State:
        return tuple(part.cpu().numpy() for part in self.network.initial_state(num_envs))

    def _tensor(self, array: Array) -> Tensor:
        return on_device(array, self.device)

    # Learning ----------------------------------------------------------------------------------------

    def observe(self, step: Step) -> None:
        """Store the step, with label and action as one code in the action's place.

        Raises:
            FloatingPointError: a reward or observation isn't finite.
        """
        if self.replay is None or self.held_out is None:
            self._allocate()
        assert self.replay is not None
        assert self.held_out is not None
        if step.is_first.any():
            self._episodes = self._episodes + step.is_first
            self._find_held_out()
        label = self._labels(step)
        new = self._is_held_out & self._is_shown_first()
        if not self._remembers:
            new = new & (label != NO_LABEL)
        try:
            code = encode(label, step.action, self.num_actions)
            self.replay.add(replace(step, action=np.where(self._is_held_out, NO_STEP, code)))
        except FloatingPointError as error:
            raise FloatingPointError(f"{error}, env step {self.env_steps + self.num_envs}") from None
        self.held_out.add(step, label, np.flatnonzero(new))
        if self.config.normalise_observations:
            self._statistics.observe(map_leaves(lambda leaf: leaf[~self._is_held_out], step.obs))
        self.env_steps += self.num_envs

    def _labels(self, step: Step) -> Array:
        """Return the labels int64 [N]; where one action alone is legal there is none."""
        label = step.extras.get("label", step.action)
        return label if step.mask is None else np.where(step.mask.sum(axis=-1) > 1, label, NO_LABEL)

    def _find_held_out(self) -> None:
        opened = enumerate(self._episodes.tolist())
        self._is_held_out = np.array([k >= 0 and self._split.holds_out(i, k) for i, k in opened])

    def _is_shown_first(self) -> Array:
        """Say of each column [N] whether its episode wasn't shown in an epoch before."""
        total = self._recorded_episodes
        numbers = self._episodes * self.num_envs + np.arange(self.num_envs)
        return np.ones(self.num_envs, np.bool_) if total is None else numbers < total

    @property
    def _recorded_episodes(self) -> int | None:
        return None if self._problem.dataset is None else self._problem.dataset.num_episodes

    @property
    def _remembers(self) -> bool:
        return not self.network.is_memoryless

    def update(self) -> Metrics | None:
        """Take the gradient steps that are due."""
        config, after = self.config, self.env_steps
        before = after - self.num_envs
        assert self.replay is not None
        due = crossings(before, after, config.train_period_env_steps) * config.gradient_steps_per_update
        if not due or after <= config.learning_starts_env_steps or not self.replay.can_sample:
            return None
        for group in self.optimiser.param_groups:
            group["lr"] = self._learning_rate(after)
        taken = [self.learn(self._sample()) for _ in range(due)]
        found = [figures for figures in taken if figures is not None]
        if not found:
            return None
        means = torch.stack(found).mean(dim=0).tolist()
        return dict(zip(("loss", "train_accuracy", "td_error", "grad_norm"), means, strict=True))

    def _sample(self) -> Drawn:
        """Draw steps [B], or windows [T, B]."""
        assert self.replay is not None
        if isinstance(self.replay, SequenceReplay):
            drawn: Any = self.replay.sample(self.config.batch_size, self._replay_rng)
            code = np.where(drawn.valid, drawn.action, NO_STEP)
            next_obs, state = None, drawn.state
        else:
            drawn = self.replay.sample(self.config.batch_size, self._replay_rng)
            code, next_obs, state = drawn.action, drawn.next_obs, ()
        label, action = decode(code, self.num_actions)
        fields = (
            drawn.obs, label, action, code != NO_STEP, drawn.reward, drawn.terminated, next_obs, drawn.next_mask, state
        )  # fmt: skip
        return Drawn(*(map_leaves(self._tensor, field) for field in fields))

    def learn(self, drawn: Drawn) -> Tensor | None:
        """Take a gradient step; return loss, accuracy, TD error and gradient norm [4], or None without a label.

        Raises:
            FloatingPointError: loss or gradient isn't finite; the weights stay as they were.
        """
        count = int((drawn.label != NO_LABEL).sum())
        if not count:
            return None
        with dropping(*self._dropouts):
            outputs, next_outputs = self._outputs(drawn)
        assert outputs.shape == (*drawn.label.shape, self.num_actions)
        logits = outputs / self.config.temperature
        loss = cross_entropy(logits, drawn.label) / count
        objective, error = loss, torch.zeros_like(loss)
        if next_outputs is not None:
            error = td_errors(outputs, next_outputs, drawn, self.config.gamma)
            objective = objective + self.config.value_weight * error.square().mean()
            error = error.detach().abs().mean()
        norm = differentiate(objective, self._parameters, self._clip)
        if not torch.isfinite(objective.detach() + norm):
            raise FloatingPointError(
                f"loss {loss.item()}, gradient norm {norm.item()} at gradient step {self.gradient_steps},"
                f" env step {self.env_steps}"
            )
        self.optimiser.step()
        settle_moments(self.optimiser, self.gradient_steps)
        self._average.follow(self.gradient_steps, 1)
        self.gradient_steps += 1
        right = (logits.argmax(-1) == drawn.label).sum() / count
        return torch.stack((loss.detach(), right, error, norm))

    def _outputs(self, drawn: Drawn) -> tuple[Tensor, Tensor | None]:
        """Return the outputs [..., A] at the steps and, where values are learned, at their successors."""
        if drawn.next_obs is None:
            steps, width = drawn.label.shape
            window = self._shifted(drawn.obs, True), drawn.state, (steps + 1, width)
            outputs = after = self._unroll(self.network, *window)
            if not self.config.value_weight:
                return outputs[:-1], None
            if self.config.dropout:
                with torch.no_grad():  # where nothing is dropped
                    after = self._unroll(self.network, *window)
            return outputs[:-1], after[1:].detach()
        outputs = self.network(self._shifted(drawn.obs, False))[0]
        if not self.config.value_weight:
            return outputs, None
        with torch.no_grad():
            return outputs, self.network(drawn.next_obs)[0]

    def _unroll(
        self, network: QNetwork, obs: Obs, state: tuple[Tensor, ...], shape: tuple[int, int]
    ) -> Tensor:
        """Return the outputs [T, B, A] for windows of one episode each."""
        return network(obs, state, torch.zeros(shape, dtype=torch.bool, device=self.device))[0]

    # Figures -----------------------------------------------------------------------------------------

    @torch.no_grad()
    def _logits_of(self, obs: Obs, unrolled: bool) -> Array:
        network, tensors = self._average.network, map_leaves(self._tensor, obs)
        if unrolled:
            steps, width = leaves_of(obs)[0].shape[:2]
            outputs = self._unroll(network, tensors, network.initial_state(width), (steps, width))
        else:
            outputs = network(tensors)[0]
        return (outputs / self.config.temperature).cpu().numpy()

    def judge(self) -> tuple[Array, Array, float] | None:
        """Return labels and predictions [K] of what is held out, and their mean cross-entropy; None if nothing is."""
        held_out = self.held_out
        if held_out is None or not (held_out.label[: held_out.written] != NO_LABEL).any():
            return None
        return predictions(held_out, self._logits_of, self._remembers)

    def diagnostics(self) -> dict[str, float]:
        """Return the figures on the episodes that are held out, and how much was seen."""
        out = {
            "learning_rate": self._learning_rate(self.env_steps),
            "replay_size": 0 if self.replay is None else len(self.replay),
        }
        if (total := self._recorded_episodes) is not None:
            out["epochs"] = float((self._episodes + 1).sum()) / total  # those that were begun
        return out | self._held_out_figures()

    def _held_out_figures(self) -> dict[str, float]:
        if (judged := self.judge()) is None:
            return {}
        label, predicted, loss = judged
        figures = {"loss": loss} | figures_of(label, predicted) | {"labels": len(label)}
        return {f"held_out_{name}": value for name, value in figures.items()}

    def results(self) -> dict[str, Any]:
        """Return what the summary says: the figures, the confusion matrix, and the share of the commonest label."""
        if (judged := self.judge()) is None:
            return {}
        label, predicted, _ = judged
        return self._held_out_figures() | {
            "held_out_commonest": float(np.bincount(label).max() / len(label)),
            "held_out_confusion": confusion_of(label, predicted, self.num_actions),
        }

    # State -------------------------------------------------------------------------------------------

    def _allocate(self) -> None:
        spec, config = self._problem.spec, self.config
        carry = self._initial_state(1) if self._remembers else ()
        self.held_out = HeldOut(config.held_out_steps, spec)
        if carry:
            self.replay = SequenceReplay(config.replay_capacity, spec, carry, config.sequence_length)
        else:
            sampler = Labelled(self.num_actions)
            self.replay = TransitionReplay(config.replay_capacity, spec, sampler=sampler)
            sampler.codes = self.replay.columns["action"].reshape(-1)

    def state_dict(self) -> dict[str, Any]:
        """Return network, optimiser, replay, what is held out, and counters; leaves are live."""
        return {
            **self._saved.state_dict(),
            "replay": {} if self.replay is None else self.replay.state_dict(),
            "held_out": {} if self.held_out is None else self.held_out.state_dict(),
            "episodes": self._episodes.tolist(),
            "env_steps": self.env_steps,
            "gradient_steps": self.gradient_steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a state in, in place; weights alone make a policy."""
        self._saved.load_state_dict(state)
        if "optimiser" in state:
            self.env_steps, self.gradient_steps = state["env_steps"], state["gradient_steps"]
            self._episodes = np.array(state["episodes"])
            self._find_held_out()
        if state.get("replay"):
            self._allocate()
            assert self.replay is not None
            assert self.held_out is not None
            self.replay.load_state_dict(state["replay"])
            self.held_out.load_state_dict(state["held_out"])
