"""Fields that do nothing beside the others are refused where they are given, and told where a file holds them."""

from __future__ import annotations

import pytest

import rl_lab
from rl_lab.cli.train import parse_train
from rl_lab.evaluation import exact
from rl_lab.mdp.rows import NotConverged
from rl_lab.studies.fairness import shared_terms
from rl_lab.training.registry import agent_names, presets_of
from rl_lab.training.setup import require_effect
from rl_lab.types import UsageError

QUIET = {
    "total_steps": 50, "eval_episodes": 0, "video_episodes": 0, "pictures": False, "wandb": "disabled",
    "progress": False,
}  # fmt: skip
IDLE = {"exploration": "ucb", "epsilon_initial": 0.3}
SAYS = "epsilon_initial 0.3 does nothing without exploration epsilon-greedy"
TABLE = ["--agent", "q-learning", "--env-id", "FrozenLake-v1"]


@pytest.mark.parametrize(
    ("agent", "fields", "says"),
    [
        ("q-learning", IDLE, rf"^{SAYS} \(allowed: 1\.0\)$"),
        ("sarsa", {"temperature": 0.2}, "^temperature 0.2 does nothing without exploration boltzmann"),
        ("sarsa", {"exploration": "boltzmann", "ucb_width": 2}, "^ucb_width 2 does nothing without exploration ucb"),
        ("q-learning", {"step_size": "1/n", "learning_rate": 0.1}, "^learning_rate 0.1 .* step_size linear"),
        ("monte-carlo", {"learning_rate_final": 0.1}, "^learning_rate_final 0.1 .* without step_size linear"),
        ("td-prediction", {"step_size_power": 0.6}, r"^step_size_power 0.6 .* without step_size n\^-w"),
    ],
)  # fmt: skip
def test_a_field_that_does_nothing_is_refused(tmp_path, agent, fields, says):
    for run in ({}, {"num_seeds": 2}):
        with pytest.raises(UsageError, match=says):
            rl_lab.learn(agent, "FrozenLake-v1", run_dir=tmp_path / "run", **QUIET, **fields, **run)
    with pytest.raises(UsageError, match=says):
        rl_lab.simulate(agent, "FrozenLake-v1", seeds=2, total_steps=50, **fields)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("agent", "fields", "says"),
    [
        ("dqn", {"memory_size": 32}, r"^memory_size 32 does nothing without a memory \(allowed: 64\)$"),
        ("pqn", {"memory_layers": 2}, "^memory_layers 2 does nothing without a memory"),
        ("ppo", {"context": 8}, "^context 8 does nothing without memory attention"),
        ("a2c", {"memory": "gru", "context": 8}, "^context 8 does nothing without memory attention"),
        ("dqn", {"sequence_length": 8}, "^sequence_length 8 does nothing without a memory"),
        ("c51", {"sequence_period_steps": 4}, "^sequence_period_steps 4 does nothing without a memory"),
        ("qr-dqn", {"burn_in_steps": 4}, "^burn_in_steps 4 does nothing without a memory"),
        ("clone", {"sequence_length": 8}, "^sequence_length 8 does nothing without a memory"),
        ("clone", {"held_out": 0.0, "held_out_steps": 9}, "^held_out_steps 9 does nothing without held_out"),
        (
            "dqn",
            {"optimiser": "sgd", "adam_epsilon": 1e-3},
            r"^adam_epsilon 0.001 does nothing without optimiser adam, adamw or radam \(allowed: None\)$",
        ),
        ("a2c", {"adam_epsilon": 1e-3}, "^adam_epsilon 0.001 does nothing without optimiser adam"),
        ("dqn", {"priority_alpha": 0.5}, "^priority_alpha 0.5 does nothing without prioritised"),
        ("iqn", {"priority_beta": 0.5}, "^priority_beta 0.5 does nothing without prioritised"),
        ("dqn", {"memory": "lstm", "priority_eta": 0.5}, "^priority_eta 0.5 does nothing without prioritised"),
        ("dqn", {"prioritised": True, "priority_eta": 0.5}, "^priority_eta 0.5 does nothing without a memory"),
        (
            "dqn", {"target_period_updates": 10, "target_period_env_steps": 40},
            "^target_period_env_steps 40 does nothing without target_period_updates none",
        ),
        ("ppo", {"learning_rate_decay": "cosine"}, "^learning_rate_decay 'cosine' .* without learning_rate_final"),
        ("dqn", {"noisy_sigma": 0.4}, "^noisy_sigma 0.4 does nothing without noisy"),
    ],
)  # fmt: skip
def test_so_is_one_of_a_network(agent, fields, says):
    with pytest.raises(UsageError, match=says):
        require_effect(agent, fields)


@pytest.mark.parametrize(
    ("agent", "fields"),
    [
        ("dqn", {"memory": "lstm", "memory_size": 32, "memory_layers": 2, "sequence_length": 8}),
        ("dqn", {"memory": "gru", "sequence_period_steps": 4, "burn_in_steps": 4}),
        ("ppo", {"memory": "attention", "memory_size": 32, "context": 8}),
        ("clone", {"memory": "rnn", "sequence_length": 8, "held_out_steps": 9}),
        ("dqn", {"prioritised": True, "priority_alpha": 0.5, "priority_beta": 0.5}),
        ("dqn", {"prioritised": True, "memory": "gru", "priority_eta": 0.5}),
        ("dqn", {"target_period_env_steps": 40}),
        ("ppo", {"learning_rate_final": 1e-5, "learning_rate_decay": "cosine"}),
    ],
)
def test_what_is_needed_is_enough(agent, fields):
    require_effect(agent, fields)


def test_no_field_of_a_preset_does_nothing():
    for agent in agent_names():
        for fields in presets_of(agent).values():
            require_effect(agent, fields)


def test_a_default_passes(tmp_path):
    fields = {"exploration": "ucb", "epsilon_initial": 1.0, "step_size": "1/n", "learning_rate": 0.5}
    rl_lab.learn("q-learning", "FrozenLake-v1", run_dir=tmp_path / "run", **QUIET, **fields)


def test_a_run_that_holds_such_a_field_is_told_loads_and_goes_on(tmp_path):
    with pytest.warns(UserWarning, match=SAYS):
        rl_lab.learn(
            "q-learning", "FrozenLake-v1", run_dir=tmp_path, base=IDLE | {"step_size": "1/n"}, **QUIET
        )
    assert rl_lab.load_policy(tmp_path) is not None
    assert rl_lab.resume(tmp_path, total_steps=80, progress=False).summary["env_steps"] == 80


def test_several_seeds_say_it_once(tmp_path, capsys):
    fields = QUIET | {"base": IDLE, "num_seeds": 3, "progress": True}
    rl_lab.learn("q-learning", "FrozenLake-v1", run_dir=tmp_path / "runs", **fields)
    assert capsys.readouterr().err.count(SAYS) == 1


@pytest.mark.parametrize("base", [[1], "x", {1: 2}])
def test_fields_beneath_that_have_no_names_are_refused(tmp_path, base):
    with pytest.raises(UsageError, match="base must hold fields by name, got "):
        rl_lab.learn("q-learning", "FrozenLake-v1", run_dir=tmp_path / "run", base=base, **QUIET)


def test_features_that_are_left_to_the_agent_decide_what_does_something(tmp_path):
    with pytest.raises(UsageError, match=r"^tilings 4 does nothing without features tiles \(allowed: 8\)$"):
        rl_lab.learn("lspi", "FrozenLake-v1", run_dir=tmp_path / "run", tilings=4, **QUIET)
    assert not (tmp_path / "run").exists()


def test_a_file_may_hold_such_a_field_and_an_option_may_not(tmp_path):
    file = tmp_path / "fields.yaml"
    file.write_text("epsilon_initial: 0.3\n")
    words = [*TABLE, "--config", str(file), "--exploration", "ucb"]
    assert parse_train(words)[1]["epsilon_initial"] == 0.3
    with pytest.raises(UsageError, match=r"^epsilon_initial 0\.4 does nothing"):
        parse_train([*words, "--epsilon-initial", "0.4"])
    with pytest.raises(UsageError, match=r"^temperature 0\.2 does nothing"):
        parse_train([*TABLE, "--temperature", "0.2"])


def test_a_study_tells_it_of_the_agent():
    lines: list[str] = []
    shared_terms("FrozenLake-v1", {"q-learning@ucb": IDLE, "sarsa": {"epsilon_initial": 0.3}}, lines.append)
    assert lines == [f"warning: q-learning@ucb: {SAYS}"]


class TestWithoutAnOptimum:
    """At gamma 1 the rental earns without end."""

    def test_the_agents_own_gamma_is_told_at_the_start(self, tmp_path, recwarn):
        result = rl_lab.learn("q-learning", "lab/CarRental-v0", run_dir=tmp_path, gamma=1.0, **QUIET)
        said = [str(one.message) for one in recwarn if "no optimum" in str(one.message)]
        assert result.summary["regret"] is None
        assert len(said) == 1
        assert said[0].startswith("gamma 1.0 gives lab/CarRental-v0 no optimum to compare with")

    def test_one_that_is_not_found_is_told_too(self, tmp_path, monkeypatch):
        def fail(model, gamma):
            raise NotConverged("stopped after max_sweeps")

        monkeypatch.setattr(exact, "optimum", fail)
        with pytest.warns(
            UserWarning, match=r"^eval_gamma 1\.0 gives FrozenLake-v1 no optimum .*: stopped after max"
        ):
            rl_lab.learn("random", "FrozenLake-v1", run_dir=tmp_path, eval_gamma=1.0, **QUIET)

    def test_an_optimum_that_is_finite_is_not_told(self, tmp_path, recwarn):
        rl_lab.learn("q-learning", "FrozenLake-v1", run_dir=tmp_path, gamma=1.0, **QUIET)
        assert not [one for one in recwarn if "optimum" in str(one.message)]


@pytest.mark.parametrize(("starts", "told"), [(0, False), (50, False), (51, True), (1_000, True)])
def test_a_run_that_ends_before_it_learns_says_so(tmp_path, recwarn, starts, told):
    rl_lab.learn(
        "dqn", "CartPole-v1", learning_starts_env_steps=starts, hidden=(4,), batch_size=4,
        run_dir=tmp_path / "run", **QUIET,
    )  # fmt: skip
    lines = [str(warning.message) for warning in recwarn]
    said = f"little or nothing will be learned: learning_starts_env_steps {starts} lies beyond total_steps 50"
    assert any(said in line for line in lines) == told


@pytest.mark.parametrize(("num_envs", "told"), [(1, None), (2, None), (3, 6)])
def test_returns_that_the_replay_cuts_short_are_told(tmp_path, recwarn, num_envs, told):
    """A replay of 20 holds 20, 10 or 6 steps of each environment; returns of 10 are asked for."""
    rl_lab.learn(
        "dqn", "CartPole-v1", n_steps=10, replay_capacity=20, num_envs=num_envs, hidden=(4,), batch_size=4,
        learning_starts_env_steps=20, run_dir=tmp_path / "run", **QUIET,
    )  # fmt: skip
    said = [str(warning.message) for warning in recwarn if "returns are cut" in str(warning.message)]
    assert said == (
        []
        if told is None
        else [
            "returns are cut at 6 steps: of replay_capacity 20 that is the share of each of 3 environments, and n_steps"
            " is 10"
        ]
    )
