"""How columns are called in W&B: each by a rule, so that its panels sort themselves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import rl_lab
from rl_lab.runs.wandb_keys import FACTS, placed, summarised
from rl_lab.training.registry import agent_names
from rl_lab.training.setup import configure, problem_of
from runs import QUICK

FIXTURES = Path(__file__).parents[1] / "fixtures"
PLACED = {
    "env_steps": "env_steps",
    **{f"{n}_seconds": f"time/{n}_seconds" for n in (
        "train", "compile", "act", "step", "store", "update", "record", "reset", "sample", "wall", "cpu",
    )},
    "env_steps_per_second": "time/env_steps_per_second",
    "replay_size": "replay/size",
    "replay_age_env_steps": "replay/age_env_steps",
    **{f"eval_{n}": f"eval/{n}" for n in (
        "returns", "return_mean", "return_iqm", "return_std", "length_mean", "discounted_return_mean",
        "capped_episodes", "predicted_value_mean",
    )},
    "exact_eval_return": "eval/exact_return",
    **{n: f"eval/{n}" for n in (
        "optimal_return", "regret", "losing_states", "value_error_mean", "value_error_max", "held_out_loss",
        "held_out_accuracy", "held_out_precision", "held_out_recall", "held_out_f1", "held_out_labels",
        "held_out_confusion", "held_out_commonest",
    )},
    **{n: f"train/{n}" for n in (
        "best_arm", "best_score", "gain", "reward_error", "samples", "weight_max",
        "loss", "td_error", "epsilon", "learning_rate", "q_mean", "q_max", "gradient_steps", "target_mean",
        "grad_norm", "episode_return_mean", "episode_length_mean", "episodes", "policy_loss", "value_loss",
        "entropy", "entropy_loss", "approx_kl", "clip_fraction", "explained_variance", "clip_range", "action_std",
        "train_accuracy", "sweep", "bound", "v_start", "truncated_at_resume",
    )},
}  # fmt: skip


def columns(folder: Path) -> set[str]:
    """Every column of the metrics.jsonl files beneath a folder."""
    return {k for path in folder.rglob("metrics.jsonl") for line in path.open() for k in json.loads(line)}


def test_the_table_is_what_the_rules_give():
    assert {name: placed(name) for name in PLACED} == PLACED


def test_every_column_of_the_stored_runs_is_in_the_table():
    found = columns(FIXTURES)
    assert len(found) > 40
    assert found <= set(PLACED) | set(FACTS)


def first_accepted(agent: str) -> str:
    """The first environment that an agent takes."""
    for env_id in ("CartPole-v1", "FrozenLake-v1", "lab/Bandit-v0"):
        learner, config = configure(agent, {"env_id": env_id})
        if learner.refuse(problem_of(config, learner)) is None:
            return env_id
    raise AssertionError(agent)


@pytest.mark.long
def test_every_column_that_an_agent_writes_is_in_the_table(tmp_path):
    agents = agent_names()
    for agent in agents:
        fields = QUICK | {"total_steps": 300}
        if agent != "clone":  # it learns from a dataset; its columns are those of its stored run
            rl_lab.learn(agent, first_accepted(agent), run_dir=tmp_path / agent, **fields)
    assert len(list(tmp_path.rglob("summary.json"))) == len(agents) - 1
    assert columns(tmp_path) <= set(PLACED) | set(FACTS)


def test_a_key_with_a_folder_stays_and_no_two_columns_share_one():
    assert placed("mine/figure") == "mine/figure"
    assert len(set(PLACED.values())) == len(PLACED)


def test_the_summary_has_the_keys_of_the_rows_and_the_facts_their_own():
    given = {"eval_return_mean": 9.5, "seed": 3, "eval_gamma": 0.9, "eval_returns": [1.0], "regret": None,
             "versions": {}, "gradient_steps": 4, "stopped_early": "why", "env_steps": 7}  # fmt: skip
    assert summarised(given) == {
        "eval/return_mean": 9.5, "seed": 3, "eval_gamma": 0.9, "train/gradient_steps": 4, "stopped_early": "why",
        "env_steps": 7,
    }  # fmt: skip
