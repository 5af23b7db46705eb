"""Whole runs beside SB3's: equal hyperparameters, equally many gradient steps, and the rows they end in."""

from __future__ import annotations

import json
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest
import stable_baselines3

from rl_lab.agents.sb3.denormals import flushes_denormals
from rl_lab.benchmarks import training
from rl_lab.benchmarks.work import Work
from rl_lab.training.registry import preset_fields

DQN_STEPS = 1_280  # five rollouts of 256 steps; the first update comes after 1,000
PPO_STEPS = 512  # two rollouts


@pytest.fixture
def short(monkeypatch):
    """Shortens the presets."""
    dqn = {"total_steps": DQN_STEPS, "batch_size": 8}
    changes = {
        "dqn": dqn,
        "sb3-dqn": dqn,
        "ppo": {"total_steps": PPO_STEPS, "n_epochs": 2, "batch_size": 128},
    }

    def fields(agent, preset):
        return preset_fields(agent, preset) | changes[agent]

    monkeypatch.setattr(training, "preset_fields", fields)


@pytest.fixture
def gradient_steps(monkeypatch):
    """What each side has taken, the lab's runs first."""
    taken = []
    learn = training.learn

    def learn_and_tell(*args, **fields):
        result = learn(*args, **fields)
        taken.append(result.summary["gradient_steps"])
        return result

    monkeypatch.setattr(training, "learn", learn_and_tell)
    for name in ("DQN", "PPO"):

        class Telling(getattr(stable_baselines3, name)):
            def learn(self, *args, **fields):
                super().learn(*args, **fields)
                taken.append(self._n_updates)

        monkeypatch.setattr(stable_baselines3, name, Telling)
    return taken


class TestBothSidesLearnAlike:
    def test_acting_alone_takes_no_gradient_step(self, gradient_steps):
        (work,) = training.acting(steps=200)
        assert work.ours() > 0.0
        assert work.theirs() > 0.0
        assert gradient_steps == [0, 0]

    def test_dqn_takes_equally_many(self, short, gradient_steps, monkeypatch):
        monkeypatch.setattr(training, "cold_rows", list)
        *_, work, flushing = training.dqn()
        assert (work.peer, flushing.peer) == ("sb3", training.FLUSHING)
        assert work.ours() > 0.0
        assert work.theirs() > 0.0
        assert gradient_steps == [2 * 128, 2 * 128]
        assert flushing.ours.keywords == work.ours.keywords

    def test_ppo_takes_equally_many(self, short, gradient_steps):
        """SB3 counts epochs, of 256 / 128 minibatches each."""
        work, flushing, compiled, _ = training.ppo()
        assert (work.peer, flushing.peer) == ("sb3", training.FLUSHING)
        assert work.ours() > 0.0
        assert work.theirs() > 0.0
        ours, epochs = gradient_steps
        assert (ours, epochs) == (2 * 2 * 2, 2 * 2)
        assert compiled.ours.keywords == work.ours.keywords | {"compile": "yes"}

    def test_sb3_through_the_lab_takes_as_many_as_sb3_alone(self, short, gradient_steps):
        (work,) = training.sb3(steps=DQN_STEPS)
        assert work.ours() > 0.0
        assert work.theirs() > 0.0
        assert gradient_steps == [2 * 128, 2 * 128]


def test_sb3_at_its_best_is_the_same_call_where_subnormal_numbers_are_flushed():
    flushed = []

    def theirs():
        flushed.append(flushes_denormals())
        return 2.5

    sides = training.both_ways(theirs)
    assert [side() for side in sides.values()] == [2.5, 2.5]
    assert flushed == [False, True]
    assert not flushes_denormals()


def test_sb3_gets_the_zoo_s_hyperparameters():
    found = training.zoo_arguments()
    fields = preset_fields("dqn", "zoo:CartPole-v1")
    assert found["total_steps"] == fields["total_steps"] == 50_000
    assert found["policy_kwargs"] == {"net_arch": [256, 256]}
    assert (found["train_freq"], found["gradient_steps"], found["learning_rate"]) == (256, 128, 2.3e-3)


def test_vector_steps_are_converted_for_several_environments():
    fields = {"num_envs": 4, "train_period_env_steps": 8, "total_steps": 100}
    assert training.sb3_arguments(fields)["train_freq"] == 2


class TestShares:
    def write(self, folder, *rows):
        folder.mkdir()
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return folder

    def test_are_added_up_and_learning_excludes_sampling(self, tmp_path):
        rows = [
            {"env_steps": 1, "act_seconds": 1.0, "update_seconds": 3.0, "sample_seconds": 1.0, "loss": 0.5},
            {"env_steps": 2, "act_seconds": 0.5, "update_seconds": 2.0, "sample_seconds": 0.5},
        ]
        assert training.shares_of(self.write(tmp_path / "run", *rows), 9.0) == {
            "train_seconds": 9.0, "update_seconds": 3.5, "act_seconds": 1.5, "sample_seconds": 1.5,
        }  # fmt: skip

    def test_of_a_run_are_no_more_than_all_of_it(self):
        shares: dict[str, float] = {}
        seconds = training.lab_seconds("random", shares, total_steps=300)
        assert shares.pop("train_seconds") == seconds > 0.0
        assert 0.0 <= sum(shares.values()) <= seconds + 0.05  # each is rounded

    def test_stand_in_the_row_of_the_work_that_they_are_of(self, monkeypatch):
        def lab_seconds(agent, shares, **fields):
            shares["act_seconds"] = 1.0
            return 2.0

        monkeypatch.setattr(training, "cold_rows", list)
        monkeypatch.setattr(training, "lab_seconds", lab_seconds)
        for work in (training.dqn()[-1], training.ppo()[0]):
            assert work.more() == {}
            assert (work.ours(), work.more()) == (2.0, {"act_seconds": 1.0})


class TestPeersOfDQN:
    @pytest.fixture
    def sbx(self, monkeypatch):
        """Stands for the package, which is optional; tells what its DQN is called with."""
        told = []

        class DQN:
            def __init__(self, *args, **arguments):
                told.append(arguments)

            def learn(self, steps):
                told.append(steps)

        module = ModuleType("sbx")
        module.__spec__, module.DQN = ModuleSpec("sbx", None), DQN
        monkeypatch.setitem(sys.modules, "sbx", module)
        return told

    @pytest.fixture(autouse=True)
    def no_new_processes(self, monkeypatch):
        monkeypatch.setattr(training, "cold_rows", lambda: [{"work": "cold"}])

    def test_are_sb3_alone_without_sbx(self, monkeypatch):
        monkeypatch.setattr(training, "find_spec", lambda name: None)
        *works, cold = training.dqn()
        assert [work.peer for work in works] == ["sb3", training.FLUSHING] * 2
        assert cold == {"work": "cold"}

    def test_are_sb3_and_sbx_for_each_net(self, sbx):
        works = [work for work in training.dqn() if isinstance(work, Work)]
        assert [(work.peer, work.work.split("net ")[1]) for work in works] == [
            (peer, f"{net}, 50000 steps")
            for net in ((256, 256), (64, 64))
            for peer in ("sb3", training.FLUSHING, "sbx")
        ]

    def test_sbx_gets_what_sb3_gets_without_clipping(self, sbx):
        assert training.sbx_seconds(**training.zoo_arguments()) >= 0.0
        arguments, steps = sbx
        expected = training.zoo_arguments() | {"seed": 0}
        assert steps == expected.pop("total_steps")
        assert expected.pop("max_grad_norm") == 10.0
        assert arguments == expected


def test_the_second_new_process_finds_the_compiled_code_of_the_first(monkeypatch):
    """Each process tells how many files it finds, plus one, as its seconds, and leaves one."""
    code = (
        "import os, tempfile\nfolder = os.environ['TORCHINDUCTOR_CACHE_DIR']\n"
        "print(len(os.listdir(folder)) + 1)\ntempfile.mkstemp(dir=folder)\n"
    )
    monkeypatch.setattr(training, "FRESH_COMMAND", [sys.executable, "-c", code])
    monkeypatch.setattr(training, "plain_sb3_seconds", lambda **arguments: 3.0)
    rows = training.cold_rows()
    assert [(row["ours"], row["theirs"], row["ratio"]) for row in rows] == [(1.0, 3.0, 3.0), (2.0, 3.0, 1.5)]
    assert [row["work"].rpartition(", ")[2] for row in rows] == ["nothing compiled yet", "compiled before"]


def test_what_new_processes_run_is_valid():
    compile(training.FRESH, "FRESH", "exec")
    assert training.FRESH_COMMAND[-1] == training.FRESH
