"""Exported policies: the lab's actions over whole episodes, files that run alone, refusals, and smaller variants."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.wrappers import FrameStackObservation

from commands import call, require_refusal, snapshot
from mirrors import SPACES, Mirror
from rl_lab.cli.export import export as command
from rl_lab.evaluation.evaluate import evaluate
from rl_lab.exporting.acting import read_trained
from rl_lab.exporting.agreement import Disagrees, agreement
from rl_lab.exporting.choosing import choice_of
from rl_lab.exporting.export import Wanted, export
from rl_lab.exporting.files import ExportedPolicy, onnx_runner, runner_of, write_onnx, write_torch
from rl_lab.exporting.smaller import pruned
from rl_lab.storage.errors import NotWritten
from runs import SMALL_DQN, learn
from toys import Parts

gymnasium.register("test/Parts-v0", Parts, max_episode_steps=10)
gymnasium.register(
    "test/Stacked-v0",
    lambda **kwargs: FrameStackObservation(gymnasium.make("lab/GridWorldPixels-v0", **kwargs), 2),
)
for space in SPACES:
    gymnasium.register(f"mirrors/{'-'.join(space.split())}-v0", Mirror, kwargs={"space": space})

DQN = SMALL_DQN | {"total_steps": 150}
PG = {"total_steps": 128, "n_steps": 64}
RUNS = {
    "CartPole": (
        "dqn",
        "CartPole-v1",
        DQN | {"dueling": True, "layer_norm": True, "normalise_observations": True},
    ),
    "pixels": ("dqn", "lab/GridWorldPixels-v0", DQN),
    "T-maze": ("dqn", "lab/TMaze-v0", DQN | {"memory": "lstm", "memory_size": 8}),
    "attention": ("ppo", "lab/TMaze-v0", PG | {"memory": "attention", "memory_size": 8, "context": 4}),
    "gru": ("a2c", "lab/TMaze-v0", PG | {"memory": "gru", "memory_size": 8, "memory_layers": 2}),
    "rnn": ("ppo", "lab/TMaze-v0", PG | {"memory": "rnn", "memory_size": 8}),
    "embedding": ("dqn", "FrozenLake-v1", DQN | {"encoder": "embedding"}),
    "one-hot": ("dqn", "FrozenLake-v1", DQN),
    "Tuple": ("reinforce", "Blackjack-v1", PG),
    "Box": ("ppo", "Pendulum-v1", PG | {"normalise_observations": True, "log_std_initial": 0.0}),
    "table": ("q-learning", "FrozenLake-v1", {"total_steps": 300}),
    "Tuple table": ("q-learning", "Blackjack-v1", {"total_steps": 300}),
    "Dict": ("ppo", "test/Parts-v0", PG),
    "impala": ("dqn", "lab/GridWorldPixels-v0", DQN | {"encoder": "impala", "total_steps": 60}),
    "distribution": ("c51", "CartPole-v1", DQN | {"noisy": True, "dueling": True, "atoms": 11}),
    "heads": ("dqn", "CartPole-v1", DQN | {"heads": 3, "prior_scale": 1.0, "layer_norm": True}),
    "heads with a memory": (
        "iqn",
        "lab/TMaze-v0",
        DQN | {"heads": 2, "memory": "attention", "memory_size": 8, "context": 4},
    ),
    "pqn": ("pqn", "lab/GridWorldPixels-v0", PG | {"image_layer_norm": True, "total_steps": 64}),
    "stack": ("dqn", "test/Stacked-v0", DQN),
    "clone": ("clone", "FrozenLake-v1", {"total_steps": 200, "oracle": True}),
    "MultiDiscrete": ("ppo", "mirrors/MultiDiscrete-2-x-2-from--1-v0", PG),
    "MultiBinary": ("a2c", "mirrors/MultiBinary-v0", PG),
    "integers": ("ppo", "mirrors/Box-of-few-integers-v0", PG),
    "Dict of actions": ("ppo", "mirrors/Dict-v0", PG),
    "Tuple of a Dict": ("reinforce", "mirrors/Tuple-of-a-Dict-v0", PG),
    "solved": ("value-iteration", "FrozenLake-v1", {}),
    "solved pixels": ("value-iteration", "lab/GridWorldPixels-v0", {}),
}
SLOW = (
    "heads with a memory",
    "pqn",
    "attention",
    "gru",
    "impala",
    "MultiBinary",
    "Tuple of a Dict",
    "rnn",
    "one-hot",
    "Tuple table",
    "solved",
)


@pytest.fixture(scope="module")
def run_of(tmp_path_factory):
    """A run directory by its name, learned once."""
    made = {}

    def get(name):
        if name not in made:
            agent, env_id, fields = RUNS[name]
            made[name] = tmp_path_factory.mktemp("runs") / name.replace(" ", "-")
            learn(made[name], agent, env_id, **fields)
        return made[name]

    return get


@pytest.fixture
def exported(run_of, tmp_path):
    """A run's policy, and the same from an ONNX file."""

    def get(name, suffix=".onnx"):
        trained, path = read_trained(run_of(name)), tmp_path / f"policy{suffix}"
        (write_onnx if suffix == ".onnx" else write_torch)(path, trained)
        return trained, ExportedPolicy(runner_of(path), trained.signature)

    return get


class TestActions:
    @pytest.mark.parametrize(
        "name", [pytest.param(n, marks=pytest.mark.long) if n in SLOW else n for n in RUNS]
    )
    def test_are_the_labs(self, exported, name):
        found = agreement(*exported(name), observations=150)
        assert (found.equal + found.ties, found.holds) == (150, True)
        assert found.ties <= 3

    @pytest.mark.parametrize("name", ["CartPole", "T-maze", "Box", "solved pixels"])
    def test_are_the_labs_in_torch(self, exported, name):
        assert agreement(*exported(name, ".pt"), observations=100).holds

    @pytest.mark.parametrize("name", ["CartPole", "pixels", "T-maze"])
    def test_give_the_same_returns_over_whole_episodes_side_by_side(self, exported, name):
        trained, policy = exported(name)
        returns = []
        for each in (trained.policy, policy):
            envs = trained.problem.make(3)
            found = evaluate(each, envs, episodes=4, seed=5, max_steps=60)
            envs.close()
            returns.append((found.returns.tolist(), found.lengths.tolist()))
        assert returns[0] == returns[1]

    def test_of_a_box_stay_within_its_bounds(self, exported):
        trained, policy = exported("Box")
        obs = np.full((4, 3), 1e6, np.float32) * np.array([[1], [-1], [2], [0]], np.float32)
        ours = trained.policy.act(obs, (), np.ones(4, bool)).action
        theirs = policy.act(obs, (), np.ones(4, bool)).action
        np.testing.assert_allclose(theirs, ours, rtol=1e-5, atol=1e-6)
        assert theirs.dtype == ours.dtype
        assert np.abs(theirs).max() <= 2

    @pytest.mark.parametrize("dtype", [np.float32, np.int32])
    def test_of_a_box_are_clipped(self, dtype):
        choice = choice_of(gymnasium.spaces.Box(-200, 300, (2,), dtype))
        scores = torch.tensor([[-1e6, 1e6], [-3.4, 7.6]])
        expected = [[-200, 300], [-3, 8]] if dtype == np.int32 else [[-200, 300], [-3.4, 7.6]]
        np.testing.assert_allclose(choice(scores, None).numpy(), np.array(expected, dtype), rtol=1e-6)

    def test_follow_the_reset_of_the_carry_inside_the_file(self, exported):
        trained, policy = exported("T-maze")
        obs = np.zeros((2, *trained.problem.spec.observation_space.shape), np.float32)
        used = tuple(np.full((2, 8), 0.7, np.float32) for _ in range(2))
        fresh = policy.act(obs, policy.initial_state(2), np.ones(2, bool)).state
        again = policy.act(obs, used, np.array([True, False])).state
        np.testing.assert_array_equal(again[0][0], fresh[0][0])
        assert np.abs(again[0][1] - fresh[0][1]).max() > 1e-3

    @pytest.mark.parametrize("name", ["CartPole", "MultiDiscrete", "integers", "Dict of actions"])
    def test_of_which_one_entry_differs_are_noticed(self, exported, name):
        """A file that gives the right scores, but in the last entry the action with the lowest of them."""
        trained, policy = exported(name)
        last, honest = trained.module.choice.entries()[-1], policy.outputs

        def spoilt(*asked):
            action, scores, *carry = honest(*asked)
            action = action.copy()
            action.reshape(-1)[-1] = last.first + scores[0, -last.num_scores :].argmin()
            return [action, scores, *carry]

        policy.outputs = spoilt
        found = agreement(trained, policy, observations=30)
        assert (found.equal, found.ties, found.holds) == (0, 0, False)


class TestMasks:
    def test_only_let_legal_actions_pass(self, tmp_path):
        learn(tmp_path / "run", "dqn", "Taxi-v4", **DQN)
        trained = read_trained(tmp_path / "run")
        assert trained.signature.has_mask
        write_onnx(tmp_path / "a.onnx", trained)
        policy = ExportedPolicy(onnx_runner(tmp_path / "a.onnx"), trained.signature)
        obs, is_first = np.arange(6), np.ones(6, bool)
        for masked in (np.eye(6, dtype=bool), ~np.eye(6, dtype=bool), None):
            ours = trained.policy.act(obs, (), is_first, masked).action
            theirs = policy.act(obs, (), is_first, masked).action
            np.testing.assert_array_equal(theirs, ours)
        np.testing.assert_array_equal(policy.act(obs, (), is_first, np.eye(6, dtype=bool)).action, obs)


def test_a_folder_without_a_run_is_refused_before_anything_is_loaded(capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "rl_lab.exporting.export", None)  # importing it fails
    require_refusal(call(capsys, command, tmp_path / "NOPE"), "NOPE", "holds no run")


@pytest.fixture
def broken(monkeypatch):
    """Files whose last layer has the wrong sign."""

    def write(path, trained, module=None):
        module = read_trained(trained.run_dir).module
        for parameter in module.scorer.head.parameters():
            parameter *= -1
        write_onnx(path, trained, module)

    return lambda: monkeypatch.setattr("rl_lab.exporting.export.write_onnx", write)


class TestThatFails:
    def test_writes_nothing_and_says_so_in_a_line(self, capsys, run_of, tmp_path, broken):
        broken()
        code, out, err = call(capsys, command, run_of("CartPole"), "--out", tmp_path / "out", "--no-card")
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert err.startswith(
            f"error: {tmp_path / 'out' / 'policy.onnx'} isn't to be used, and wasn't written"
        )
        assert "of 1,000 actions equal the lab's" in err
        assert not (tmp_path / "out").exists()

    def test_leaves_an_earlier_export_as_it_was(self, run_of, tmp_path, broken, monkeypatch):
        """Whether the file is wrong, or something fails after it was written."""
        wanted = Wanted(episodes=1, card=False)
        export(run_of("CartPole"), out=tmp_path, wanted=wanted)
        before = snapshot(tmp_path)
        with monkeypatch.context() as patch:
            patch.setattr("rl_lab.exporting.export.measure", failing)
            with pytest.raises(NotWritten, match="the disk is full"):
                export(run_of("table"), out=tmp_path, wanted=wanted)
        assert snapshot(tmp_path) == before
        broken()
        with pytest.raises(Disagrees, match="isn't to be used"):
            export(run_of("CartPole"), out=tmp_path, wanted=wanted)
        assert snapshot(tmp_path) == before
        assert not [path for path in tmp_path.iterdir() if path.is_dir()]

    @pytest.mark.long
    def test_leaves_no_clone_that_the_next_try_would_meet(self, run_of, tmp_path, monkeypatch):
        wanted = Wanted(episodes=1, card=False, distil=(4,), distil_episodes=12, distil_steps=10)
        with monkeypatch.context() as patch:
            patch.setattr("rl_lab.exporting.export.measure", failing)
            with pytest.raises(NotWritten, match="the disk is full"):
                export(run_of("CartPole"), out=tmp_path / "out", wanted=wanted)
        assert not (tmp_path / "out").exists()
        export(run_of("CartPole"), out=tmp_path / "out", wanted=wanted)
        assert list((tmp_path / "out" / "distilled").rglob("config.json"))


def failing(*given, **named):
    raise NotWritten("the disk is full")


class TestFiles:
    def test_are_the_same_bytes_each_time(self, run_of, tmp_path):
        for name in ("a", "b"):
            write_onnx(tmp_path / name, read_trained(run_of("T-maze")))
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()

    @pytest.mark.parametrize("to", ["onnx", "torch"])
    def test_run_without_the_lab(self, run_of, tmp_path, to):
        found = export(run_of("CartPole"), to, tmp_path, wanted=Wanted(episodes=1, card=False))
        code = (
            "import sys, runpy; sys.modules['rl_lab'] = None; runpy.run_path('play.py', run_name='__main__')"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            env=os.environ,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"return {found.rows[0].returns[0]:g} in ")  # the episode of the film
        assert found.files[-1].name == "table.md"

    def test_say_what_goes_in_and_comes_out(self, run_of, tmp_path):
        export(run_of("T-maze"), out=tmp_path, wanted=Wanted(episodes=1, card=False))
        body = json.loads((tmp_path / "policy.json").read_text())
        assert [i["name"] for i in body["inputs"]] == ["obs", "carry.0", "carry.1", "is_first"]
        assert body["inputs"][1] == {
            "name": "carry.0",
            "role": "carry",
            "dtype": "float32",
            "shape": ["N", 8],
        }
        assert [o["name"] for o in body["outputs"]] == ["action", "scores", "next_carry.0", "next_carry.1"]
        assert body["action_space"]["n"] == 4

    def test_take_images_as_bytes(self, run_of):
        (image,) = read_trained(run_of("pixels")).signature.inputs
        assert (image.dtype, len(image.shape)) == ("uint8", 3)


class TestPruning:
    def test_sets_the_smallest_hidden_weights_to_zero(self, run_of):
        trained = read_trained(run_of("pixels"))
        module, _ = pruned(trained, 0.5)
        before, after = trained.module.state_dict(), module.state_dict()
        hidden = [n for n, w in before.items() if n.endswith("weight") and w.ndim > 1 and ".head." not in n]
        assert len(hidden) >= 3
        for name in hidden:
            gone = after[name] == 0
            assert int(gone.sum()) == before[name].numel() // 2
            assert before[name][gone].abs().max() <= before[name][~gone].abs().min()
            np.testing.assert_array_equal(after[name][~gone], before[name][~gone])
        same = set(before) - set(hidden)
        assert all(np.array_equal(before[name], after[name]) for name in same)

    @pytest.mark.parametrize(
        ("fields", "hidden", "last"),
        [
            ({"dueling": True}, 3, 2),  # a shared layer, and one of each stream
            ({"distribution": "categorical", "atoms": 5, "dueling": True, "noisy": True}, 3, 2),
            ({"distribution": "implicit", "cosines": 8}, 3, 1),  # that of fractions among them
            ({"heads": 3}, 2, 1),
            ({"heads": 3, "prior_scale": 1.0}, 4, 2),  # a prior has as many layers
        ],
    )
    def test_reaches_the_hidden_layers_of_heads(self, tmp_path, fields, hidden, last):
        small = {"total_steps": 40, "hidden": (8, 6), "batch_size": 4, "learning_starts_env_steps": 30}
        learn(tmp_path, "dqn", "CartPole-v1", **small, **fields)
        trained = read_trained(tmp_path)
        before, after = trained.module.state_dict(), pruned(trained, 0.5)[0].state_dict()
        weights = [name for name in before if name.endswith("weight")]
        halved = [name for name in weights if int((after[name] == 0).sum()) == before[name].numel() // 2]
        assert (len(halved), len(weights) - len(halved)) == (hidden, last)
        assert all(before[name].shape[-1] == 6 for name in set(weights) - set(halved))
        assert all(np.array_equal(before[name], after[name]) for name in set(before) - set(halved))


class TestRefuses:
    def test_a_random_agent(self, capsys, tmp_path):
        learn(tmp_path, "random", "FrozenLake-v1", total_steps=20)
        require_refusal(call(capsys, command, tmp_path), "'random'", "draws its actions at random")

    def test_networks_of_sb3(self, capsys, tmp_path, run_of, monkeypatch):
        text = (
            (run_of("CartPole") / "config.json").read_text().replace('"agent": "dqn"', '"agent": "sb3-dqn"')
        )
        (tmp_path / "config.json").write_text(text)
        require_refusal(call(capsys, command, tmp_path), "'sb3-dqn'", "Stable-Baselines3's own")

    def test_onnx_without_its_packages(self, capsys, run_of, monkeypatch):
        monkeypatch.setattr("rl_lab.exporting.files.find_spec", lambda name: None)
        require_refusal(call(capsys, command, run_of("table")), "pip install 'rl_lab[export]'", "--to torch")

    @pytest.mark.parametrize(
        ("name", "words", "told"),
        [
            ("table", ["--int8"], "--int8 needs a network"),
            ("heads", ["--int8"], "--int8 can't store the weights of several heads"),
            ("solved", ["--prune", "0.5"], "--prune needs a network"),
            ("CartPole", ["--prune", "1.5"], "got 1.5"),
            ("CartPole", ["--to", "torch", "--int8"], "--int8 goes with --to onnx"),
            ("CartPole", ["--episodes", "0"], "got 0"),
            ("CartPole", ["--distil", "0"], "got 0"),
            ("CartPole", ["--distil-steps", "9"], "distil_steps 9 does nothing without distil"),
            ("Box", ["--distil", "8"], "discrete actions alone"),
        ],
    )
    def test_what_does_not_fit(self, capsys, run_of, name, words, told):
        require_refusal(call(capsys, command, run_of(name), *words), told)

    def test_a_folder_without_a_run(self, capsys, tmp_path):
        require_refusal(call(capsys, command, tmp_path), str(tmp_path), "config.json")


class TestCommand:
    def test_prints_the_agreement_the_table_and_the_files(self, capsys, run_of, tmp_path):
        words = [run_of("pixels"), "--out", tmp_path, "--int8", "--prune", 0.5, "--episodes", 2, "--no-card"]
        code, out, err = call(capsys, command, *words)
        assert (code, err) == (0, "")
        assert out.startswith("1,000 of 1,000 actions equal the lab's")
        rows = json.loads((tmp_path / "table.json").read_text())["rows"]
        assert [row["policy"] for row in rows] == ["lab", "exported", "int8", "pruned 50 %"]
        for row in rows[1:]:
            assert row["bytes"] == (tmp_path / row["file"]).stat().st_size
            change = np.mean(row["returns"]) - np.mean(rows[0]["returns"])
            assert row["change"]["value"] == pytest.approx(change)
        assert rows[2]["bytes"] < rows[1]["bytes"] / 2
        assert "static, calibrated on 200 observations" in out
        assert (tmp_path / "table.md").read_text().count("\n| ") == 5


def test_percentages_are_of_the_labs_return():
    from rl_lab.evaluation.statistics import Estimate
    from rl_lab.exporting.measure import Measured

    row = SimpleNamespace(mean_return=Estimate(-150.0, -160, -140), change=Estimate(-50.0, -60, -40))
    assert Measured.change_percent.fget(row) == pytest.approx(-50.0)
