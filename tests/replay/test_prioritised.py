"""The sum tree against a plain list, and prioritised draws against numbers worked out by hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rl_lab.replay import prioritised
from rl_lab.replay.prioritised import Prioritised, SumTree
from rl_lab.replay.transitions import TransitionReplay
from rl_lab.types import Step
from toys import spec_of
from worlds import World, lean, play, worlds

# Sums of whole numbers are exact, so that every mass has one right answer.
writes = st.lists(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 9)), max_size=12), max_size=6)


def written(capacity: int, batches) -> tuple[SumTree, list[float]]:
    """Return a tree and the plain list of its leaves after some batches of writes."""
    tree, leaves = SumTree(capacity), [0.0] * capacity
    for batch in batches:
        index = np.array([k % capacity for k, _ in batch], np.int64)
        values = np.array([value for _, value in batch], np.float64)
        tree[index] = values
        for k, value in zip(index, values, strict=True):
            leaves[k] = value
    return tree, leaves


@settings(deadline=None, max_examples=50)
@given(capacity=st.integers(1, 40), batches=writes)
def test_the_plain_loops_write_and_find_what_the_compiled_ones_do(capacity, batches):
    tree, _ = written(capacity, batches)
    nodes = np.zeros(2 * tree.size)
    for batch in batches:
        index = np.array([k % capacity for k, _ in batch], np.int64)
        prioritised.assign(nodes, index, np.array([value for _, value in batch], np.float64))
    assert np.array_equal(nodes, tree._nodes)
    masses = np.arange(0, tree.total, 0.5)
    assert np.array_equal(prioritised.find(nodes, masses), tree.find(masses))
    sums = nodes.copy()
    sums[1 : tree.size] = -1.0
    prioritised.rebuild(sums)
    assert np.array_equal(sums, nodes)


class TestSumTree:
    @settings(deadline=None, max_examples=150)
    @given(capacity=st.integers(1, 40), batches=writes)
    def test_leaves_and_total_are_those_of_the_list(self, capacity, batches):
        """The last of two writes to a leaf counts."""
        tree, leaves = written(capacity, batches)
        assert tree[np.arange(capacity)].tolist() == leaves
        assert tree.total == sum(leaves)

    @settings(deadline=None, max_examples=150)
    @given(capacity=st.integers(1, 40), batches=writes)
    def test_every_mass_is_found_where_the_list_has_it(self, capacity, batches):
        tree, leaves = written(capacity, batches)
        masses = np.arange(0, tree.total, 0.5)
        right = [next(k for k in range(capacity) if sum(leaves[: k + 1]) > mass) for mass in masses]
        assert tree.find(masses).tolist() == right

    @settings(deadline=None, max_examples=100)
    @given(capacity=st.integers(1, 70), seed=st.integers(0, 10_000))
    def test_a_leaf_of_zero_is_never_found_whatever_the_rounding(self, capacity, seed):
        rng = np.random.default_rng(seed)
        values = rng.random(capacity) ** 20 * (rng.random(capacity) < 0.4)
        values[rng.integers(capacity)] = 1e-9
        tree = SumTree(capacity)
        tree[np.arange(capacity)] = values
        edges = np.concatenate((np.cumsum(values), [tree.total]))
        found = tree.find(np.concatenate((edges, np.nextafter(edges, 0), np.nextafter(edges, np.inf))))
        assert (values[found] > 0).all()

    @settings(deadline=None, max_examples=100)
    @given(capacity=st.integers(1, 70), seed=st.integers(0, 10_000))
    def test_it_is_a_function_of_its_leaves(self, capacity, seed):
        """To the bit, whatever was written before and in which order."""
        rng, tree, other = np.random.default_rng(seed), SumTree(capacity), SumTree(capacity)
        for _ in range(5):
            index = rng.integers(capacity, size=8)
            tree[index] = rng.random(8) ** 9
        other.leaves[...] = tree.leaves
        other.rebuild()
        assert other._nodes.tobytes() == tree._nodes.tobytes()

    @pytest.mark.parametrize("index", [[-1], [0, 5]])
    def test_a_leaf_that_does_not_exist_is_refused(self, index):
        tree = SumTree(5)
        with pytest.raises(IndexError, match=r"allowed: 0 to 4"):
            tree[np.array(index)] = np.ones(len(index))
        assert tree.total == 0


def replay_of(steps: int, capacity: int = 3, **fields) -> TransitionReplay:
    """One environment's replay; step k observes k."""
    spec = spec_of(spaces.Box(0.0, 1e6, (1,), np.float32))
    replay = TransitionReplay(capacity, spec, sampler=Prioritised(**fields))
    for k in range(steps):
        count_on(replay, k)
    return replay


def count_on(replay, k: int) -> None:
    no = np.array([False])
    obs, next_obs = np.array([[k]], np.float32), np.array([[k + 1]], np.float32)
    first = np.array([k == 0])
    replay.add(Step(obs, np.array([0]), np.ones(1), no, no, next_obs, first, (), (), None, None))


def weights_of(replay, beta: float) -> list[float]:
    """Weights by index, from one batch in which all occur."""
    batch = replay.sample(600, np.random.default_rng(0), beta)
    assert batch.weight.dtype == np.float32
    found = dict(zip(batch.index.tolist(), batch.weight.tolist(), strict=True))
    return [found[k] for k in range(len(found))]


class TestByHand:
    """Errors 0.75, -3.75 and 8.75 with epsilon 0.25: priorities 1, 4, 9; with alpha 0.5 their roots 1, 2, 3."""

    @pytest.fixture
    def replay(self):
        replay = replay_of(3, alpha=0.5, epsilon=0.25)
        replay.update_priorities(np.array([0, 1, 2]), np.array([0.75, -3.75, 8.75]))
        return replay

    def test_priorities(self, replay):
        np.testing.assert_allclose(replay.state_dict()["sampler"]["leaves"], [1, 2, 3], atol=1e-6)

    def test_probabilities(self, replay):
        """Six equal shares hold exactly one, two and three of them."""
        index = replay.sample(6, np.random.default_rng(0)).index
        assert index.tolist() == [0, 1, 1, 2, 2, 2]

    def test_weights(self, replay):
        """(3 P)^-beta: 2, 1 and 2/3 for beta = 1, over the largest."""
        np.testing.assert_allclose(weights_of(replay, 1.0), [1, 1 / 2, 1 / 3], atol=1e-6)
        np.testing.assert_allclose(weights_of(replay, 0.5), [1, 2**-0.5, 3**-0.5], atol=1e-6)
        np.testing.assert_allclose(weights_of(replay, 0.0), [1, 1, 1], atol=1e-6)

    def test_weights_are_relative_to_the_batch(self, replay):
        replay.update_priorities(np.array([0]), np.array([1e-3]))
        batch = replay.sample(1, np.random.default_rng(0))
        assert batch.weight.tolist() == [1.0]

    def test_new_ones_get_the_largest_priority_ever_seen(self, replay):
        replay.update_priorities(np.array([2]), np.array([0.0]))  # the largest is no longer held
        count_on(replay, 3)  # takes index 0
        np.testing.assert_allclose(replay.state_dict()["sampler"]["leaves"], [3, 2, 0.5], atol=1e-6)

    def test_the_first_ones_get_one(self):
        replay = replay_of(2, alpha=0.5, epsilon=0.25)
        assert replay.state_dict()["sampler"]["leaves"].tolist() == [1, 1]

    def test_alpha_zero_is_uniform(self):
        replay = replay_of(3, alpha=0.0)
        replay.update_priorities(np.array([0, 1]), np.array([5.0, 0.1]))
        assert replay.sample(6, np.random.default_rng(0)).index.tolist() == [0, 0, 1, 1, 2, 2]
        np.testing.assert_allclose(weights_of(replay, 1.0), 1)

    def test_the_last_error_counts_where_a_transition_was_drawn_twice(self, replay):
        replay.update_priorities(np.array([1, 0, 1]), np.array([8.75, 0.75, 15.75]))
        np.testing.assert_allclose(replay.state_dict()["sampler"]["leaves"], [1, 4, 3], atol=1e-6)

    @pytest.mark.parametrize("error", [np.nan, np.inf, -np.inf])
    def test_an_error_that_is_not_finite_changes_nothing(self, replay, error):
        before = replay.state_dict()["sampler"]
        kept = before["leaves"].tolist(), before["largest"]
        with pytest.raises(FloatingPointError, match="TD errors that are not finite"):
            replay.update_priorities(np.array([0, 1]), np.array([100.0, error]))
        after = replay.state_dict()["sampler"]
        assert (after["leaves"].tolist(), after["largest"]) == kept

    @pytest.mark.parametrize("fields", [{"alpha": -0.1}, {"alpha": 1.1}, {"epsilon": 0.0}, {"alpha": np.nan}])
    def test_invalid_exponents_and_offsets_are_refused(self, fields):
        with pytest.raises(ValueError, match=r"alpha .* epsilon"):
            Prioritised(**fields)


class TestDraws:
    def test_frequencies_are_the_probabilities(self):
        rng, replay = np.random.default_rng(0), replay_of(50, 50, alpha=0.7)
        errors = rng.exponential(size=50)
        replay.update_priorities(np.arange(50), errors)
        drawn = [replay.sample(1, rng).index[0] for _ in range(20_000)]  # strata would hide an error
        p = (errors + 1e-6) ** 0.7
        found = stats.chisquare(np.bincount(drawn, minlength=50), 20_000 * p / p.sum())
        assert 0.001 < found.pvalue < 0.999

    def test_a_batch_takes_one_from_each_share(self):
        replay = replay_of(64, 64)
        for seed in range(20):
            assert replay.sample(64, np.random.default_rng(seed)).index.tolist() == list(range(64))

    @settings(deadline=None, max_examples=80)
    @given(world=worlds, rows=st.integers(1, 30), steps=st.integers(1, 80), seed=st.integers(0, 100))
    def test_only_held_transitions_have_priorities(self, world, rows, steps, seed):
        """Whatever was overwritten or has expired has none; each new one has the largest."""
        with lean():
            rng, n = np.random.default_rng(seed), world.num_envs
            replay = TransitionReplay(rows * n, world.spec(), sampler=Prioritised(0.5))
            priorities, largest = {}, 1.0  # by row ever written and environment
            for t in range(steps):
                replay.add(world.step())
                priorities |= {(t, i): largest for i in range(n)}
                batch, errors = replay.sample(3, rng), rng.normal(size=3) * 2
                replay.update_priorities(batch.index, errors)
                for index, error in zip(batch.index.tolist(), errors.tolist(), strict=True):
                    row = max(r for r in range(t + 1) if r % replay.rows == index // n)
                    assert replay.oldest <= row
                    priorities[row, index % n] = abs(error) + 1e-6
                    largest = max(largest, abs(error) + 1e-6)
                expected = np.zeros(rows * n)
                for (row, env), priority in priorities.items():
                    if row >= replay.oldest:
                        expected[row % replay.rows * n + env] = priority**0.5
                leaves = replay._sampler.tree.leaves
                np.testing.assert_allclose(leaves, expected, rtol=1e-12)

    def test_errors_of_transitions_no_longer_held_are_ignored(self):
        with lean():
            world = World(1, 0, mean_length=1)
            replay = TransitionReplay(60, world.spec(), sampler=Prioritised())
            play(replay, world, 50)
            batch = replay.sample(40, np.random.default_rng(0))
            play(replay, world, 40)
            assert len(replay) < 60  # some have expired, and not been overwritten
            replay.update_priorities(batch.index, np.full(40, 50.0))
            held = {row % 60 for row in range(replay.oldest, replay.written)}
            assert set(replay.sample(2_000, np.random.default_rng(1)).index.tolist()) == held


def test_a_loaded_tree_is_the_saved_one_to_the_bit():
    replay, other = (replay_of(70, 50) for _ in range(2))
    replay.update_priorities(np.arange(50), np.random.default_rng(0).normal(size=50))
    other._sampler.load_state_dict(replay._sampler.state_dict())
    assert other._sampler.tree._nodes.tobytes() == replay._sampler.tree._nodes.tobytes()
    assert other._sampler.largest == replay._sampler.largest


def test_a_uniform_replay_never_loads_numba():
    code = (
        "import sys, numpy as np; from gymnasium import spaces; from toys import spec_of;"
        "from rl_lab.replay.transitions import TransitionReplay;"
        "TransitionReplay(10, spec_of(spaces.Discrete(3))); assert 'numba' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1] / "support")
