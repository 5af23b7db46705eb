"""Behaviour cloning: what it learns from data and oracles, and whom its weights serve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

import rl_lab
from grids import GRID, grid_problem
from rl_lab.agents.clone import Clone, Config, build
from rl_lab.agents.dqn import DQN
from rl_lab.agents.dqn import Config as DQNConfig
from rl_lab.datasets.supervised import write_examples
from rl_lab.runs.rows import read_rows
from rl_lab.seeding import Streams
from rl_lab.training.loading import read_weights
from runs import learn

EXAMPLES = "lab/Examples-v0"


SCALARS = ("accuracy", "precision", "recall", "f1")


def learn_examples(folder: Path, data: Path, **fields: Any) -> rl_lab.Result:
    """Clone a folder of examples, judged by playing them; few evaluations."""
    fields = {
        "num_envs": 16,
        "eval_episodes": 10,
        "eval_every_steps": 10**6,
        "log_every_steps": 10**5,
    } | fields
    return learn(folder, "clone", EXAMPLES, env_kwargs={"path": str(data)}, dataset=str(data), **fields)


@pytest.mark.long
class TestClassifiers:
    def test_softmax_regression_recovers_the_coefficients_of_a_logistic_model(self, tmp_path):
        rng = np.random.default_rng(5)
        truth = np.array([[1.5, -1.0, 0.0], [-0.5, 1.0, 0.5], [-1.0, 0.0, -0.5]])  # centred over the classes
        intercept = np.array([0.4, -0.6, 0.2])
        inputs = rng.standard_normal((1500, 3)).astype(np.float32)
        labels = (inputs @ truth.T + intercept + rng.gumbel(size=(1500, 3))).argmax(axis=1)
        write_examples(tmp_path / "data", inputs, labels)
        decay = 0.01
        learn_examples(
            tmp_path / "run", tmp_path / "data", hidden=(), held_out=0.0, l2=decay, batch_size=512,
            total_steps=18_000, train_period_env_steps=16, gradient_steps_per_update=3,
            learning_rate=0.03, learning_rate_final=1e-5,
        )  # fmt: skip
        weights = read_weights(tmp_path / "run")
        found = np.column_stack([weights["head.weight"], weights["head.bias"]])
        theirs = LogisticRegression(C=1 / (len(inputs) * decay), tol=1e-8, max_iter=1000).fit(inputs, labels)
        expected = np.column_stack([theirs.coef_, theirs.intercept_])
        centred = found - found.mean(axis=0)
        np.testing.assert_allclose(centred, expected - expected.mean(axis=0), atol=0.02)
        np.testing.assert_allclose(
            centred, np.column_stack([truth, intercept]), atol=0.25
        )  # shrunk by the L2

    def test_cnn_classifies_digits_that_it_never_saw(self, tmp_path):
        digits = load_digits()
        write_examples(tmp_path / "data", (digits.images * 15).astype(np.uint8), digits.target)
        result = learn_examples(
            tmp_path / "run", tmp_path / "data", encoder="cnn", hidden=(64,), held_out=0.2, total_steps=18_000,
            train_period_env_steps=16, learning_rate=2e-3, learning_rate_final=1e-4,
        )  # fmt: skip
        summary = result.summary
        assert summary["held_out_labels"] == 359
        assert min(summary[f"held_out_{name}"] for name in SCALARS) >= 0.97

    def test_memories_recall_what_no_bag_of_inputs_holds(self, tmp_path):
        rng = np.random.default_rng(0)
        shown = np.stack(
            [rng.permutation(np.repeat(np.arange(4), 2)) for _ in range(1500)]
        )  # each symbol twice
        series = np.eye(4, dtype=np.float32)[shown]
        write_examples(tmp_path / "data", series, shown[:, 0], sequences=True)  # to be told 7 steps later
        fields = {
            "hidden": (), "held_out": 0.2, "train_period_env_steps": 32, "learning_rate": 1e-2,
            "learning_rate_final": 1e-3, "replay_capacity": 12_000,
        }  # fmt: skip
        memory = {"memory_size": 32, "sequence_length": 8}
        for name, steps in (("lstm", 16_000), ("attention", 12_000)):
            fields |= {"memory": name, "total_steps": steps}
            seen = {"context": 8} if name == "attention" else {}
            summary = learn_examples(tmp_path / name, tmp_path / "data", **fields, **memory, **seen).summary
            assert summary["held_out_accuracy"] >= 0.99
            assert summary["eval_return_mean"] == 1.0
        fields |= {"memory": "none", "total_steps": 8_000}
        last = learn_examples(tmp_path / "last", tmp_path / "data", **fields).summary
        assert last["held_out_accuracy"] < 0.4
        bag = LogisticRegression().fit(series[:1200].mean(axis=1), shown[:1200, 0])
        assert bag.score(series[1200:].mean(axis=1), shown[1200:, 0]) < 0.35


TRAIN_ON = {
    "total_steps": 2000, "learning_rate": 3e-5, "double": True, "average_decay": 0.99, "epsilon_initial": 0.3,
    "epsilon_final": 0.1, "learning_starts_env_steps": 400, "target_period_env_steps": 100, "eval_every_steps": 200,
}  # fmt: skip


class TestOracle:
    @pytest.mark.long
    def test_of_pixels_is_cloned_and_a_dqn_goes_on_from_it(self, tmp_path):
        summary = learn(
            tmp_path / "clone", "clone", "lab/GridWorldPixels-v0", oracle=True, epsilon=0.3, total_steps=4000,
            temperature=0.01, value_weight=100.0, learning_rate_final=1e-4, eval_every_steps=10**6, **GRID,
        ).summary  # fmt: skip
        best = summary["optimal_return"]
        assert best - summary["regret"] >= 0.99 * best
        assert summary["exact_eval_return"] == pytest.approx(0.94)
        assert summary["held_out_accuracy"] >= 0.99
        went_on = learn(
            tmp_path / "dqn",
            "dqn",
            "lab/GridWorldPixels-v0",
            init_from=str(tmp_path / "clone"),
            **GRID,
            **TRAIN_ON,
        )
        regrets = [row["regret"] for row in read_rows(went_on.run_dir) if "regret" in row]
        assert went_on.summary["gradient_steps"] == 400
        assert len(regrets) == 10
        assert max(regrets) <= 0.01 * best

    def test_labels_what_random_actions_lead_to(self):
        learner = build(oracle=True, epsilon=0.5)
        problem = grid_problem()
        assert learner.refuse(problem) is None
        teacher = Clone(learner.config, problem, Streams(0)).policy(explore=True)
        obs = problem.model.observe(np.zeros(2000, np.int64))
        decision = teacher.act(obs, (), np.zeros(2000, bool))
        assert len(set(decision.extras["label"].tolist())) == 1
        assert (
            0.5 < (decision.action == decision.extras["label"]).mean() < 0.75
        )  # of the random ones a quarter

    @pytest.mark.long
    def test_knows_taxi_and_its_masks(self, tmp_path):
        run = learn(
            tmp_path, "clone", "Taxi-v4", oracle=True, epsilon=0.5, total_steps=6000, eval_every_steps=10**6
        )
        assert run.summary["held_out_accuracy"] > 0.9
        assert sum(map(sum, run.summary["held_out_confusion"])) == run.summary["held_out_labels"]


NETWORKS = [
    {},
    {"hidden": ()},
    {"layer_norm": True, "dueling": True},
    {"memory": "lstm", "memory_size": 8},
]


class TestWeights:
    @pytest.mark.parametrize("fields", NETWORKS, ids=str)
    @pytest.mark.parametrize("pixels", ["GridWorld", "GridWorldPixels"])
    def test_are_those_of_a_dqn(self, fields, pixels):
        problem = grid_problem(pixels)
        clone = Clone(Config(**fields), problem, Streams(0))
        dqn = DQN(DQNConfig(**fields), problem, Streams(0))
        shapes = [{k: v.shape for k, v in a.state_dict()["weights"].items()} for a in (clone, dqn)]
        assert shapes[0] == shapes[1]
        dqn.load_state_dict({"weights": clone.state_dict()["weights"]})
        seen = []
        for agent in (clone, dqn):
            policy = agent.policy(explore=False)
            obs = problem.model.observe(np.arange(problem.model.num_states))
            seen.append(policy.act(obs, policy.initial_state(len(obs)), np.ones(len(obs), bool)).action)
        np.testing.assert_array_equal(*seen)
