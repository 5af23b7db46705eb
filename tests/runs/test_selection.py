"""A run may end with the best policy that it found, chosen by episodes that no reported figure uses."""

import json

import numpy as np
import pytest
import torch

import rl_lab
from rl_lab.evaluation.evaluate import evaluation_seed
from rl_lab.runs.directory import CHECKPOINTS
from rl_lab.runs.fingerprint import fingerprint, rows_without_times
from rl_lab.runs.selection import SCORE, Selection
from rl_lab.runs.wandb_uploads import model_files
from rl_lab.seeding import seed_of
from rl_lab.storage.checkpoint import Checkpoints
from rl_lab.storage.state_trees import weights_sha256
from rl_lab.types import UsageError
from runs import SMALL_DQN, differences, learn, stopping_in_evaluation

LAKE = {
    "total_steps": 1500, "learning_rate": 0.5, "learning_rate_final": 0.5, "epsilon_initial": 1.0, "epsilon_final": 1.0,
    "eval_every_steps": 100, "log_every_steps": 100, "checkpoint_every_steps": 300, "eval_episodes": 5,
    "final_policy": "best",
}  # fmt: skip


def lake(folder, **fields):
    return learn(folder, "q-learning", "FrozenLake-v1", **(LAKE | fields))


def chosen(folder):
    """Return what an evaluation's rows say should be chosen: (the highest score, the last step that has it)."""
    rows = [row for row in rows_without_times(folder) if SCORE in row]
    if rows[-1]["selected_env_steps"] != rows[-1]["env_steps"]:
        rows.pop()  # it tells of an earlier policy again
    score = max(row[SCORE] for row in rows)
    return score, max(row["env_steps"] for row in rows if row[SCORE] == score)


class TestSelection:
    def kept(self, *scores, which="best"):
        found = Selection(which)
        for step, score in enumerate(scores):
            found.offer(step, {SCORE: score}, lambda step=step: {"w": np.array([step])})
        return found

    @pytest.mark.parametrize(
        ("scores", "step"), [((1.0, 3.0, 2.0), 1), ((1.0, 3.0, 3.0, 2.0), 2), ((-5.0,), 0)]
    )
    def test_the_best_is_kept_and_of_equal_ones_the_newest(self, scores, step):
        assert self.kept(*scores).state_dict()["env_steps"] == step

    def test_the_last_policy_wins_if_none_was_better(self):
        found = self.kept(1.0, 3.0)
        assert found.better_than({SCORE: 3.0}) is None
        assert found.better_than({SCORE: 2.9}).env_steps == 1

    def test_an_evaluation_that_was_cut_short_offers_nothing(self):
        found = Selection("best")
        found.offer(3, None, lambda: pytest.fail("not kept"))
        assert found.state_dict() == {}

    def test_nothing_is_kept_where_the_last_is_wanted(self):
        found = self.kept(1.0, 3.0, which="last")
        assert found.state_dict() == {}
        assert found.better_than({SCORE: 0.0}) is None

    def test_weights_are_copies(self):
        weights = {"a": np.zeros(2), "b": (torch.zeros(2), 3)}
        found = Selection("best")
        found.offer(0, {SCORE: 1.0}, lambda: weights)
        weights["a"] += 1
        weights["b"][0].add_(1)
        kept = found.state_dict()["weights"]
        assert kept["a"].tolist() == [0, 0]
        assert kept["b"][0].tolist() == [0, 0]

    def test_goes_on_from_its_state(self):
        found = Selection("best")
        found.load_state_dict(self.kept(1.0, 3.0).state_dict())
        found.offer(9, {SCORE: 2.0}, lambda: pytest.fail("not kept"))
        assert found.better_than({SCORE: 2.0}).env_steps == 1


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run whose last policy isn't its best."""
    folder = tmp_path_factory.mktemp("best") / "run"
    return folder, lake(folder)


class TestRun:
    def test_ends_with_the_policy_whose_own_episodes_went_best(self, run):
        folder, result = run
        score, step = chosen(folder)
        assert step < 1500, "the last policy is as good as any: choose another seed"
        assert result.summary["selected_env_steps"] == step
        assert score > next(row for row in rows_without_times(folder) if SCORE in row)[SCORE]

    def test_its_weights_are_those_of_that_step(self, run, tmp_path):
        _, result = run
        step = result.summary["selected_env_steps"]
        lake(tmp_path / "cut", stop_at=step)
        weights = Checkpoints(tmp_path / "cut" / CHECKPOINTS).load()[1]["weights"]
        assert weights_sha256(weights) == result.summary["weights_sha256"]

    def test_everything_reported_is_of_that_policy(self, run):
        folder, result = run
        loaded = rl_lab.load_policy(folder)
        obs, first = np.arange(16), np.ones(16, bool)
        values = [p.inspect(obs, (), first)["q_values"] for p in (loaded, result.policy)]
        np.testing.assert_array_equal(*values)
        envs = rl_lab.make_envs("FrozenLake-v1", 4)
        played = rl_lab.evaluate(loaded, envs, episodes=5, seed=0)
        assert played.returns.tolist() == result.summary["eval_returns"]
        assert rows_without_times(folder)[-1]["eval_returns"] == result.summary["eval_returns"]

    def test_it_was_chosen_by_episodes_of_their_own(self, run):
        folder, _ = run
        envs = rl_lab.make_envs("FrozenLake-v1", 4)
        policy = rl_lab.load_policy(folder)
        means = [
            rl_lab.evaluate(policy, envs, episodes=20, seed=seed).returns.mean()
            for seed in (seed_of(0, "select"), 0)
        ]
        assert rows_without_times(folder)[-1][SCORE] == means[0] != means[1]

    def test_training_is_the_same_as_without(self, run, tmp_path):
        folder, _ = run
        lake(tmp_path, final_policy="last")
        ends = [Checkpoints(f / CHECKPOINTS).load()[1]["weights"] for f in (folder, tmp_path)]
        assert weights_sha256(ends[0]) == weights_sha256(ends[1])
        assert (folder / "episodes.csv").read_bytes() == (tmp_path / "episodes.csv").read_bytes()
        assert "selected_env_steps" not in json.loads((tmp_path / "summary.json").read_bytes())

    def test_the_uploaded_model_holds_both_weights(self, run):
        """`load_policy` reads the chosen ones; the last ones stand beside them in the manifest."""
        folder, _ = run
        body = json.loads(Checkpoints(folder / CHECKPOINTS).manifests()[-1].read_bytes())["members"]
        names = {path.name for path in model_files(folder)}
        assert {body[member]["tensors"]["file"] for member in ("weights", "selected")} <= names

    def test_a_warm_start_takes_the_chosen_weights(self, run, tmp_path):
        folder, result = run
        learn(tmp_path, "q-learning", "FrozenLake-v1", total_steps=9, init_from=str(folder))
        config = json.loads((tmp_path / "config.json").read_bytes())
        assert config["init_from_weights_sha256"] == result.summary["weights_sha256"]


def test_episodes_for_choosing_are_not_those_that_are_reported():
    for seed in range(5):
        reported = {evaluation_seed(seed, e) for e in range(1000)}
        assert not reported & {evaluation_seed(seed_of(seed, "select"), e) for e in range(1000)}


@pytest.mark.parametrize("at", [250, 1100])
def test_a_run_that_is_stopped_ends_as_if_it_had_not_been(run, tmp_path, at):
    whole, _ = run
    assert lake(tmp_path / "cut", stop_at=at).summary is None
    assert rl_lab.resume(tmp_path / "cut").summary is not None
    assert differences(fingerprint(whole), fingerprint(tmp_path / "cut")) == set()
    assert rows_without_times(whole) == rows_without_times(tmp_path / "cut")


@pytest.mark.parametrize(
    "which", [4, 14, 15]
)  # 14 is of the last policy, 15 of the one that is chosen instead
def test_a_signal_in_an_evaluation_changes_nothing(run, tmp_path, which):
    with stopping_in_evaluation(which):
        assert lake(tmp_path / "cut").summary is None
    assert rl_lab.resume(tmp_path / "cut").summary is not None
    assert differences(fingerprint(run[0]), fingerprint(tmp_path / "cut")) == set()


def test_an_extended_run_chooses_as_the_longer_one_would_have(run, tmp_path):
    lake(tmp_path / "short", total_steps=900)
    rl_lab.resume(tmp_path / "short", total_steps=1500)
    assert differences(fingerprint(run[0]), fingerprint(tmp_path / "short")) == set()


def test_early_stopping_may_end_with_an_earlier_policy(tmp_path):
    summary = lake(tmp_path, stop_after_evals=5, total_steps=5000, eval_episodes=20, seed=2).summary
    assert summary["stopped_early"]
    assert summary["selected_env_steps"] == chosen(tmp_path)[1] < summary["env_steps"]


@pytest.mark.parametrize("agent", ["dqn", "sb3-dqn", "ppo"])
def test_deep_agents_end_with_the_best_too(tmp_path, agent):
    fields = {"final_policy": "best", "total_steps": 600, "eval_every_steps": 100, "learning_rate": 0.05}
    fields |= {"n_steps": 50, "batch_size": 50} if agent == "ppo" else {"learning_starts_env_steps": 50}
    fields |= {k: SMALL_DQN[k] for k in ("hidden",)}
    summary = learn(tmp_path, agent, "CartPole-v1", **fields).summary
    assert summary["selected_env_steps"] == chosen(tmp_path)[1]
    envs = rl_lab.make_envs("CartPole-v1", 2)
    played = rl_lab.evaluate(rl_lab.load_policy(tmp_path), envs, episodes=2, seed=0)
    assert played.returns.tolist() == summary["eval_returns"]


def test_episodes_that_nothing_chooses_by_are_refused(tmp_path):
    with pytest.raises(UsageError, match="selection_episodes 5 does nothing without final_policy best"):
        lake(tmp_path, selection_episodes=5, final_policy="last")


def test_no_episodes_to_choose_by_are_refused(tmp_path):
    with pytest.raises(UsageError, match="selection_episodes"):
        lake(tmp_path, selection_episodes=0)
