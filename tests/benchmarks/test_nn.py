"""Networks beside plain torch: equal outputs and gradients, and what is timed leaves both sides alike."""

from __future__ import annotations

import platform
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from rl_lab.benchmarks import nn, plain


@pytest.fixture(autouse=True)
def single_passes(monkeypatch):
    monkeypatch.setattr(nn, "TURN_SECONDS", 0.0)


def small(peers: nn.Peers) -> nn.Peers:
    return replace(peers, batch=2)


def name_of(peers: nn.Peers) -> str:
    return peers.name


class TestTwins:
    @pytest.mark.parametrize("peers", [*nn.ENCODERS, *nn.CORES], ids=name_of)
    def test_have_the_same_parameters(self, peers):
        ours, theirs = nn.networks(peers)
        pairs = list(zip(ours.parameters(), theirs.parameters(), strict=True))
        assert all(torch.equal(mine, other) for mine, other in pairs)
        assert sum(mine.numel() for mine, _ in pairs) > 1_000

    @pytest.mark.parametrize("peers", nn.ENCODERS, ids=name_of)
    def test_of_encoders_have_the_same_outputs(self, peers):
        ours, theirs = nn.networks(peers)
        obs = nn.observations(peers.space, 3)
        q = ours(obs)[0]
        assert q.shape == (3, plain.ACTIONS)
        torch.testing.assert_close(q, theirs(obs), atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize("peers", nn.CORES, ids=name_of)
    def test_of_cores_carry_the_same_memory(self, peers):
        """Two windows, one after the other, give what one window of twice the length gives."""
        ours, theirs = nn.networks(peers)
        obs, never = nn.observations(peers.space, 6, 2), torch.zeros(6, 2, dtype=torch.bool)
        whole = ours(obs, ours.initial_state(2), never)[0]
        first, carry = theirs(obs[:3], theirs.carry(ours.initial_state(2)))
        second, _ = theirs(obs[3:], carry)
        torch.testing.assert_close(torch.cat((first, second)), whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("make", [nn.encoder_works, nn.core_works])
def test_a_twin_that_computes_something_else_is_noticed(make, monkeypatch):
    peers = small(nn.ENCODERS[0] if make is nn.encoder_works else nn.CORES[1])
    right = nn.networks

    def wrong(asked):
        ours, theirs = right(asked)
        with torch.no_grad():
            next(theirs.parameters()).add_(0.1)
        return ours, theirs

    monkeypatch.setattr(nn, "networks", wrong)
    with pytest.raises(AssertionError):
        make(peers)


def test_updates_leave_both_sides_with_the_weights_that_were_compared(monkeypatch):
    pair = nn.networks(nn.CORES[1])
    monkeypatch.setattr(nn, "networks", lambda peers: pair)
    before = [w.detach().clone() for w in pair[0].parameters()]
    forward, update, single = nn.core_works(small(nn.CORES[1]))
    for work in (forward, update, single):
        assert work.peer == "plain torch"
        assert work.ours() >= 0.0
        assert work.theirs() >= 0.0
    for network in pair:
        assert all(torch.equal(w, b) for w, b in zip(network.parameters(), before, strict=True))


def test_every_network_is_compared_forward_and_in_an_update(monkeypatch):
    monkeypatch.setattr(nn, "ENCODERS", [small(nn.ENCODERS[0]), small(nn.ENCODERS[5])])
    monkeypatch.setattr(nn, "CORES", [small(nn.CORES[0])])
    assert [work.work for work in nn.nn()] == [
        "mlp 64-64, forward, B = 2",
        "mlp 64-64, update, B = 2",
        "onehot, 64 values, forward, B = 2",
        "onehot, 64 values, update, B = 2",
        "mlp and rnn, forward, T = 16, B = 2",
        "mlp and rnn, update, T = 16, B = 2",
        "mlp and rnn, single step, N = 1",
    ]


def test_the_median_of_the_passes_counts(monkeypatch):
    processor, wall = iter([0.0, 3.0, 3.0, 4.0, 4.0, 9.0]), iter([0.0, 0.1, 0.2, 0.3])
    monkeypatch.setattr(nn, "TURN_SECONDS", 0.25)
    clocks = SimpleNamespace(process_time=lambda: next(processor), perf_counter=lambda: next(wall))
    monkeypatch.setattr(nn, "time", clocks)
    passes = []
    assert nn.median_seconds(lambda: passes.append(1)) == 3.0  # of 3, 1 and 5
    assert len(passes) == 3


FAULTS = """
import resource
import numpy as np
from rl_lab.benchmarks import nn

def faults():
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    blocks = [np.full(1_500_000, 1.0) for _ in range(5)]  # 12 MB each, more than glibc keeps by itself
    del blocks
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before

nn.keep_freed_memory()
print(*[faults() for _ in range(4)])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no mallopt")
def test_freed_memory_is_kept():
    """In a process of its own, whose heap holds nothing else and which nothing else follows."""
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    assert max([int(faults) for faults in done.stdout.split()][1:]) < 100  # thousands otherwise
