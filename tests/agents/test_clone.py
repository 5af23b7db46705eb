"""Behaviour cloning: its update against hand, what is held out, what it refuses, and how it goes on when stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from sklearn import metrics

import rl_lab
from commands import call, require_refusal
from grids import grid_problem
from recorded import ENVIRONMENTS, on_frozen_lake, record_random
from rl_lab.agents.clone import Clone, Config, build
from rl_lab.agents.clone.held_out import Split
from rl_lab.agents.clone.labelled_steps import (
    NO_LABEL,
    NO_STEP,
    LabelledBatch,
    cross_entropy,
    decode,
    encode,
    td_errors,
)
from rl_lab.cli.train import train
from rl_lab.datasets.dataset import Dataset
from rl_lab.environments.make import make_envs
from rl_lab.explanation.insight import softmax_by_entry
from rl_lab.mdp.rows import NeverEnds, NotConverged
from rl_lab.policies import greedy
from rl_lab.problem import Problem
from rl_lab.runs.fingerprint import fingerprint
from rl_lab.runs.rows import read_rows
from rl_lab.seeding import Streams
from rl_lab.types import UsageError
from rl_lab.updates import gradients
from runs import asking_to_stop, differences, learn
from toys import Counting, Identity, problem_on


@pytest.fixture(scope="module")
def lake(tmp_path_factory) -> Path:
    """30 episodes of random play on FrozenLake."""
    return on_frozen_lake(tmp_path_factory.mktemp("lake") / "data", episodes=30)


def batch(label: list[int], action: list[int], **fields: Any) -> LabelledBatch:
    length = len(label)
    given = {
        "obs": torch.zeros(length, 1), "label": torch.tensor(label), "action": torch.tensor(action),
        "counts": torch.ones(length, dtype=torch.bool), "reward": torch.zeros(length),
        "terminated": torch.zeros(length, dtype=torch.bool), "next_obs": torch.zeros(length, 1), "next_mask": None,
    }  # fmt: skip
    return LabelledBatch(**(given | fields))


class TestArithmetic:
    def test_codes_hold_label_and_action(self):
        label, action = (x.ravel() for x in np.meshgrid([NO_LABEL, 0, 1, 2], [0, 1, 2]))
        code = encode(label, action, 3)
        assert len(set(code.tolist()) | {NO_STEP}) == 13
        np.testing.assert_array_equal(decode(code, 3), (label, action))
        np.testing.assert_array_equal(decode(np.array([NO_STEP]), 3), ([NO_LABEL], [0]))

    def test_cross_entropy_counts_labelled_steps_alone(self):
        logits = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]]))
        found = cross_entropy(logits, torch.tensor([0, NO_LABEL, 2]))
        assert found.item() == pytest.approx(-np.log(0.5) - np.log(0.4))

    def test_td_error_by_hand(self):
        drawn = batch(
            [0, 1, NO_LABEL, NO_LABEL], [1, 0, 1, 0],
            reward=torch.tensor([1.0, 2.0, 3.0, 4.0]), terminated=torch.tensor([False, True, False, False]),
            next_mask=torch.tensor([[True, True], [True, True], [True, False], [True, True]]),
            counts=torch.tensor([True, True, True, False]),
        )  # fmt: skip
        outputs = torch.tensor([[5.0, 1.0], [2.0, 9.0], [0.0, 4.0], [0.0, 0.0]])
        after = torch.tensor([[1.0, 3.0], [7.0, 7.0], [2.0, 8.0], [1.0, 1.0]])
        found = td_errors(outputs, after, drawn, 0.5)
        assert found.tolist() == [1 + 1.5 - 1, 2 - 2, 3 + 1 - 4, 0]

    def test_l2_pulls_at_weights_and_leaves_biases(self):
        problem = problem_on(Identity)
        fields = {"hidden": (), "optimiser": "adam"}
        agents = [Clone(Config(l2=d, **fields), problem, Streams(0)) for d in (0.0, 0.3)]
        drawn = batch([0, 1, 2], [0, 1, 2], obs=torch.tensor([0, 1, 2]))
        gradients = []
        for agent in agents:
            weight = agent.trained.network.head.weight.detach().clone()
            agent.learn(drawn)
            gradients.append({n: p.grad.clone() for n, p in agent.trained.network.named_parameters()})
        pulled = gradients[1]["head.weight"] - gradients[0]["head.weight"]
        torch.testing.assert_close(pulled, 0.3 * weight, atol=1e-6, rtol=1e-5)
        assert torch.equal(gradients[0]["head.bias"], gradients[1]["head.bias"])

    def test_moments_are_settled_by_the_number_of_the_step(self, monkeypatch):
        numbers = []
        monkeypatch.setattr(gradients, "flush_subnormals", lambda optimiser, number: numbers.append(number))
        agent = Clone(Config(), problem_on(Identity), Streams(0))
        for _ in range(3):
            agent.learn(batch([0], [0], obs=torch.tensor([0])))
        assert numbers == [0, 1, 2]

    def test_a_batch_without_labels_changes_nothing(self):
        agent = Clone(Config(), problem_on(Identity), Streams(0))
        before = {k: v.clone() for k, v in agent.trained.network.state_dict().items()}
        assert agent.learn(batch([NO_LABEL], [0], obs=torch.tensor([0]))) is None
        assert all(torch.equal(v, before[k]) for k, v in agent.trained.network.state_dict().items())
        assert agent.gradient_steps == 0

    def test_a_step_that_is_not_finite_leaves_the_weights(self):
        agent = Clone(Config(), problem_on(Counting), Streams(0))
        before = {k: v.clone() for k, v in agent.trained.network.state_dict().items()}
        with pytest.raises(FloatingPointError, match="gradient step 0"):
            agent.learn(batch([1], [1], obs=torch.tensor([[float("nan")]])))
        assert all(torch.equal(v, before[k]) for k, v in agent.trained.network.state_dict().items())


def recorded_agent(path: Path, num_envs: int = 3, **fields: Any) -> tuple[Clone, Problem]:
    data = Dataset(path)
    problem = Problem(
        "FrozenLake-v1", {}, num_envs, 1000, 7, "cpu", lambda n: make_envs("FrozenLake-v1", n), None, data
    )
    return Clone(Config(**fields), problem, Streams(7)), problem


def consume(agent: Clone, problem: Problem, total_steps: int) -> np.ndarray:
    """Let the agent learn; return which of the steps [T, N] opened an episode."""
    from rl_lab.training.experience import experience
    from rl_lab.training.loop import start
    from rl_lab.training.loop import train as loop

    source = experience(problem)
    acting, seeds = source.acting(agent.policy(explore=True)), source.seeds()
    steps = loop(agent, acting, source.envs, seeds, total_steps, start(acting, source.envs, seeds))
    opened = np.stack([step.is_first for step, _, _ in steps])
    source.envs.close()
    return opened


class TestHeldOut:
    def test_takes_the_share_of_the_recorded_episodes_and_the_same_in_every_epoch(self, lake):
        _, problem = recorded_agent(lake)
        split, again = Split(0.3, problem), Split(0.3, problem)
        assert len(split._numbers) == 9
        assert split._numbers == again._numbers
        opened = [(i, k) for k in range(30) for i in range(3)]  # 3 epochs
        chosen = [split._order.number(i, k) for i, k in opened if split.holds_out(i, k)]
        assert sorted(chosen) == sorted(3 * list(split._numbers))

    def test_of_played_episodes_about_the_share(self):
        split = Split(0.2, problem_on(Identity, num_envs=2))
        held = [split.holds_out(i, k) for i in range(2) for k in range(1000)]
        assert 0.17 < np.mean(held) < 0.23

    @pytest.mark.parametrize("num_envs", [1, 3])
    def test_is_kept_once_and_never_learned_from(self, lake, num_envs):
        agent, problem = recorded_agent(lake, num_envs, held_out=0.3)
        data = problem.dataset
        opened = consume(agent, problem, 3 * sum(len(data.episode(e)) for e in range(30)))
        kept = [data.episode(e) for e in sorted(agent.evaluator._split._numbers)]
        seen = agent.evaluator.steps
        assert seen.written == sum(map(len, kept))
        expected = sorted((s, a) for e in kept for s, a in zip(e.observations[:-1], e.actions, strict=True))
        assert sorted(zip(seen.obs[: seen.written], seen.label[: seen.written], strict=True)) == expected
        codes = agent.buffer.replay.columns["action"][: agent.buffer.replay.written]
        number = np.cumsum(opened, axis=0) - 1  # of each step's episode in its column
        held = [[agent.evaluator._split.holds_out(i, int(k)) for i, k in enumerate(row)] for row in number]
        assert np.array_equal(codes == NO_STEP, held)
        assert 0.1 < np.mean(held) < 0.5
        assert (agent._sample().label != NO_LABEL).all()

    def test_figures_are_those_of_scikit_learn_on_the_policys_own_predictions(self, lake, tmp_path):
        fields = {"hidden": (16,), "held_out": 0.3, "total_steps": 800, "seed": 7, "num_envs": 2}
        result = learn(tmp_path, "clone", "FrozenLake-v1", dataset=str(lake), **fields)
        data, policy = Dataset(lake), rl_lab.load_policy(tmp_path)
        split = Split(0.3, recorded_agent(lake, 2)[1])
        kept = [data.episode(e) for e in split._numbers]
        obs = np.concatenate([e.observations[:-1] for e in kept])
        label = np.concatenate([e.actions for e in kept])
        predicted = policy.act(obs, (), np.zeros(len(obs), bool)).action
        summary = json.loads((tmp_path / "summary.json").read_bytes())
        assert summary["held_out_labels"] == len(label)
        assert summary["held_out_accuracy"] == pytest.approx(metrics.accuracy_score(label, predicted))
        for name, score in (("precision", metrics.precision_score), ("recall", metrics.recall_score)):
            expected = score(label, predicted, average="macro", zero_division=0)
            assert summary[f"held_out_{name}"] == pytest.approx(expected)
        assert summary["held_out_f1"] == pytest.approx(metrics.f1_score(label, predicted, average="macro"))
        assert (
            summary["held_out_confusion"]
            == metrics.confusion_matrix(label, predicted, labels=range(4)).tolist()
        )
        logits = policy.inspect(obs, (), np.zeros(len(obs), bool))["logits"].astype(np.float64)
        loss = metrics.log_loss(
            label, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), labels=range(4)
        )
        assert summary["held_out_loss"] == pytest.approx(loss, rel=1e-5)
        last = [row for row in read_rows(result.run_dir) if "held_out_accuracy" in row][-1]
        assert last["held_out_accuracy"] == summary["held_out_accuracy"]

    def test_with_memory_predicts_as_the_policy_does_when_it_plays_the_episodes(self, tmp_path):
        record_random(ENVIRONMENTS["vectors"], tmp_path / "data", episodes=12)
        fields = {"memory": "lstm", "memory_size": 8, "sequence_length": 4, "hidden": (8,), "held_out": 0.4}
        learn(
            tmp_path / "run", "clone", "CartPole-v1", dataset=str(tmp_path / "data"), total_steps=400,
            learning_rate=0.02, num_envs=2, **fields,
        )  # fmt: skip
        data, policy = Dataset(tmp_path / "data"), rl_lab.load_policy(tmp_path / "run")
        problem = Problem("", {}, 2, 400, 0, "cpu", None, None, data)
        confusion = np.zeros((2, 2), int)
        for number in Split(0.4, problem)._numbers:
            episode, state = data.episode(number), policy.initial_state(1)
            for t in range(len(episode)):
                decision = policy.act(episode.observations[t : t + 1], state, np.array([t == 0]))
                state = decision.state
                confusion[episode.actions[t], decision.action[0]] += 1
        summary = json.loads((tmp_path / "run" / "summary.json").read_bytes())
        assert summary["held_out_confusion"] == confusion.tolist()

    def test_greedy_policy_takes_the_first_best_legal_action(self):
        agent = Clone(Config(hidden=()), problem_on(Identity), Streams(0))
        with torch.no_grad():
            agent.trained.network.head.weight.zero_()
            agent.trained.network.head.bias.copy_(torch.tensor([0.0, 2.0, 2.0, 1.0]))
        mask = np.array([[True, True, True, True], [True, False, True, True], [True, False, False, True]])
        policy, obs = agent.policy(explore=False), np.zeros(3, np.int64)
        assert policy.act(obs, (), np.ones(3, bool), mask).action.tolist() == [1, 2, 3]
        seen = policy.inspect(obs, (), np.ones(3, bool), mask)
        assert set(seen) == {"logits"}
        np.testing.assert_array_equal(greedy(seen["logits"]), [1, 2, 3])

    def test_shows_the_probabilities_that_it_has_learned_with_its_temperature(self):
        agent = Clone(Config(hidden=(), temperature=0.5), problem_on(Identity), Streams(0))
        with torch.no_grad():
            agent.trained.network.head.weight.zero_()
            agent.trained.network.head.bias.copy_(torch.tensor([0.0, 1.0, 1.0, 0.0]))
        policy, obs = agent.policy(explore=False), np.zeros(1, np.int64)
        logits = policy.inspect(obs, (), np.ones(1, bool))["logits"]
        chances = np.exp([0.0, 2.0, 2.0, 0.0]) / np.exp([0.0, 2.0, 2.0, 0.0]).sum()  # outputs / 0.5
        np.testing.assert_allclose(softmax_by_entry(logits[0], [4]), chances, rtol=1e-6)


SMALL = {"hidden": (16,), "batch_size": 8, "replay_capacity": 120, "learning_starts_env_steps": 20}


LSTM = SMALL | {"memory": "lstm", "memory_size": 8, "sequence_length": 4}


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "recorded": ("FrozenLake-v1", SMALL | {"learning_rate_final": 1e-5, "l2": 0.01}),
    "recorded-lstm": ("FrozenLake-v1", LSTM | {"value_weight": 1.0}),
    "oracle": ("FrozenLake-v1", SMALL | {"oracle": True, "epsilon": 0.3, "value_weight": 1.0}),
    "oracle-lstm": ("Taxi-v4", LSTM | {"oracle": True, "epsilon": 0.3}),
}


@pytest.mark.long
class TestResume:
    @pytest.mark.parametrize("num_envs", [1, 3])
    @pytest.mark.parametrize("name", CASES)
    def test_goes_on_to_the_bit(self, name, num_envs, lake, tmp_path):
        env_id, fields = CASES[name]
        if not fields.get("oracle"):
            fields = fields | {"dataset": str(lake)}
        given = {"total_steps": 150 * num_envs, "num_envs": num_envs, "seed": 3, "held_out": 0.3} | fields
        learn(tmp_path / "whole", "clone", env_id, **given)
        learn(tmp_path / "cut", "clone", env_id, stop_at=51 * num_envs, **given)
        with asking_to_stop(133 * num_envs):
            assert rl_lab.resume(tmp_path / "cut").summary is None
        summary = rl_lab.resume(tmp_path / "cut").summary
        assert differences(fingerprint(tmp_path / "whole"), fingerprint(tmp_path / "cut")) == set()
        assert summary["held_out_labels"] > 0
        whole = json.loads((tmp_path / "whole" / "summary.json").read_bytes())
        assert summary["held_out_confusion"] == whole["held_out_confusion"]


class TestRefusals:
    @pytest.mark.parametrize(
        ("words", "named"),
        [
            (["FrozenLake-v1"], ("neither", "--dataset", "--oracle")),
            (["FrozenLake-v1", "--oracle", "--dataset", "LAKE"], ("both", "allowed")),
            (["CartPole-v1", "--oracle"], ("CartPole-v1", "no model", "allowed")),
            (["Pendulum-v1", "--oracle"], ("Discrete", "Pendulum-v1")),
            (["FrozenLake-v1", "--dataset", "LAKE", "--epsilon", "0.2"], ("epsilon 0.2", "allowed")),
            (["FrozenLake-v1", "--oracle", "--encoder", "cnn"], ("cnn", "Discrete(16)")),
            (["FrozenLake-v1", "--oracle", "--l2", "-1"], ("l2", "-1", "at least 0")),
            (["FrozenLake-v1", "--oracle", "--held-out", "1.0"], ("held_out", "1.0", "0.9")),
            (["FrozenLake-v1", "--oracle", "--temperature", "0"], ("temperature", "0")),
            (["FrozenLake-v1", "--oracle", "--epsilon", "1.5"], ("epsilon", "1.5")),
            (
                ["FrozenLake-v1", "--oracle", "--memory", "lstm", "--replay-capacity", "8"],
                ("sequence_length 16", "8"),
            ),
        ],
    )
    def test_in_one_line(self, words, named, lake, tmp_path, capsys):
        words = [str(lake) if word == "LAKE" else word for word in words]
        given = ["--agent", "clone", "--run-dir", str(tmp_path / "run"), "--env-id", *words]
        require_refusal(call(capsys, train, *given), *named)
        assert not (tmp_path / "run").exists()

    def test_a_single_episode_can_not_be_split(self, tmp_path):
        data = on_frozen_lake(tmp_path / "data", episodes=1)
        with pytest.raises(UsageError, match=r"held_out 0\.1 of 1 episode"):
            learn(tmp_path / "run", "clone", "FrozenLake-v1", dataset=str(data))

    def test_states_that_look_alike_make_no_oracle(self):
        problem = grid_problem()
        object.__setattr__(problem.model, "observe", lambda states: np.zeros(len(states), np.int64))
        assert "look alike" in build(oracle=True).refuse(problem)

    @pytest.mark.parametrize("error", [NeverEnds, NotConverged])
    def test_what_has_no_optimum_has_no_oracle(self, error, monkeypatch):
        def optimum(model, gamma):
            raise error("it goes on\nfor ever")

        monkeypatch.setattr("rl_lab.agents.clone.oracle.optimum", optimum)
        reason = build(oracle=True, gamma=1.0).refuse(grid_problem())
        assert "gamma 1.0: it goes on for ever (allowed" in reason

    def test_without_scikit_learn_says_how_to_get_it(self, monkeypatch):
        monkeypatch.setattr("rl_lab.agents.clone.config.find_spec", lambda name: None)
        assert "pip install 'rl_lab[clone]'" in build(oracle=True).refuse(grid_problem())
        assert build(oracle=True, held_out=0.0).refuse(grid_problem()) is None

    def test_actions_with_a_part_that_is_not_discrete(self):
        class Pushing(Identity):
            def __init__(self):
                super().__init__()
                self.action_space = spaces.Dict({"a": spaces.Discrete(4), "b": spaces.Box(-1, 1)})

        problem = problem_on(Pushing)
        object.__setattr__(problem, "dataset", object())
        assert (
            build()
            .refuse(problem)
            .startswith("clone needs actions whose parts are all discrete; toy has Dict")
        )

    def test_values_of_actions_of_several_parts(self):
        class Wheels(Identity):
            def __init__(self):
                super().__init__()
                self.action_space = spaces.MultiDiscrete([2, 2])

        problem = problem_on(Wheels)
        object.__setattr__(problem, "dataset", object())
        assert build(value_weight=0.5).refuse(problem).startswith("value_weight 0.5 needs Discrete actions")
