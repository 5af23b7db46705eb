"""The thread counts of a notebook are as they were after each call, also after an error."""

from __future__ import annotations

import sys
import types
from contextlib import suppress

import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

import rl_lab
from rl_lab.training.devices import limited_threads
from rl_lab.types import UsageError
from runs import SMALL_DQN, learn


def counts():
    """Return torch's threads, and those of each library by its file."""
    return torch.get_num_threads(), {lib["filepath"]: lib["num_threads"] for lib in threadpool_info()}


@pytest.fixture(autouse=True)
def several():
    """Three threads for everybody; what is loaded already keeps that."""
    before = torch.get_num_threads()
    with threadpool_limits(3):
        torch.set_num_threads(3)
        yield
    torch.set_num_threads(before)


@pytest.fixture
def unchanged():
    """Compares the counts before and after a test, of the libraries that were loaded before."""
    torch_before, libraries = counts()
    assert torch_before == 3
    assert set(libraries.values()) == {3}
    yield
    torch_after, after = counts()
    assert torch_after == 3
    assert {path: after[path] for path in libraries} == libraries


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("threads") / "run"
    learn(folder, "dqn", "CartPole-v1", total_steps=60, threads=2, **SMALL_DQN)
    return folder


@pytest.mark.usefixtures("unchanged")
class TestAreAsBefore:
    @pytest.mark.parametrize("agent", ["dqn", "q-learning"])
    def test_after_learning_with_others(self, tmp_path, agent):
        seen = []
        env_id = "FrozenLake-v1" if agent == "q-learning" else "CartPole-v1"
        learn(tmp_path, agent, env_id, total_steps=60, threads=2, callbacks=[lambda _: seen.append(counts())])
        assert {threads for threads, _ in seen} == {2}
        assert {n for _, libraries in seen for n in libraries.values()} == {2}

    def test_after_an_error(self, tmp_path, monkeypatch):
        monkeypatch.setattr("rl_lab.training.session.Session.go", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            learn(tmp_path, "dqn", "CartPole-v1", total_steps=60)

    def test_after_a_refusal(self, tmp_path):
        with pytest.raises(UsageError):
            learn(tmp_path, "dqn", "Pendulum-v1", total_steps=60)

    def test_after_stopping_and_resuming(self, tmp_path):
        learn(tmp_path, "dqn", "CartPole-v1", total_steps=60, stop_at=20, **SMALL_DQN)
        assert rl_lab.resume(tmp_path).summary is not None
        assert rl_lab.resume(tmp_path).summary is not None  # finished already

    def test_after_loading_and_evaluating(self, run):
        policy = rl_lab.load_policy(run)
        envs = rl_lab.make_envs("CartPole-v1", num_envs=2)
        rl_lab.evaluate(policy, envs, episodes=2, seed=1)
        envs.close()

    def test_after_a_policy_that_cannot_be_loaded(self, run, monkeypatch):
        monkeypatch.setattr("rl_lab.training.loading.problem_of", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            rl_lab.load_policy(run)

    def test_after_a_block_that_limits_them(self):
        with limited_threads(1):
            assert counts()[0] == 1
            assert set(counts()[1].values()) == {1}


def test_torch_gets_its_own_count_back_where_it_has_threads_of_its_own(monkeypatch):
    """Built without OpenMP, it keeps a count that threadpoolctl doesn't know."""
    asked = []
    own = types.SimpleNamespace(get_num_threads=lambda: 5, set_num_threads=asked.append)
    monkeypatch.setitem(sys.modules, "torch", own)
    with suppress(ZeroDivisionError), limited_threads(2):
        raise ZeroDivisionError
    assert asked == [2, 5]
