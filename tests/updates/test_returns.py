"""Losses of distributions against numbers computed by hand and against loops over atoms, as the papers have them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from return_twins import bellman_projected, greedy_action, quantile_huber
from rl_lab.nn.return_kinds import Categorical, ImplicitQuantiles, Quantiles
from rl_lab.updates.draws import Draws, Given
from rl_lab.updates.munchausen import Munchausen
from rl_lab.updates.returns import CategoricalLoss, Distribution, MeansLoss, QuantileLoss, ReturnRule
from rl_lab.updates.td import RESCALED, Batch, TDLoss

FIVE = CategoricalLoss(Categorical(0.0, 4.0, 5))  # atoms 0, 1, 2, 3, 4


def tensor(values):
    return torch.tensor(values, dtype=torch.float32)


def batch_of(rng, size, actions, *, masked=False, weighted=False, **rest):
    """Transitions at random, some of them terminated, some of two steps; no observations."""
    mask = torch.from_numpy(rng.random((size, actions)) < 0.6) | (torch.arange(actions) == 0)
    return Batch(
        obs=None,
        action=torch.from_numpy(rng.integers(actions, size=size)),
        reward=torch.from_numpy(rng.normal(size=size).astype(np.float32)),
        discount=torch.from_numpy(rng.choice([0.9, 0.81], size).astype(np.float32)),
        terminated=torch.from_numpy((rng.random(size) < 0.3).astype(np.float32)),
        next_obs=None,
        next_mask=mask if masked else None,
        weight=torch.from_numpy(rng.random(size).astype(np.float32)) if weighted else None,
        **rest,
    )


def normal(rng, *shape):
    return torch.from_numpy(rng.normal(size=shape).astype(np.float32))


# Categorical ----------------------------------------------------------------------------------------------


class TestProjection:
    @pytest.mark.parametrize(
        ("atom", "expected"),
        [
            (2.0, [0, 0, 1, 0, 0]),
            (2.25, [0, 0, 0.75, 0.25, 0]),
            (-3.0, [1, 0, 0, 0, 0]),  # clipped
            (9.0, [0, 0, 0, 0, 1]),
            (0.5, [0.5, 0.5, 0, 0, 0]),
        ],
    )
    def test_hand_computed(self, atom, expected):
        found = FIVE.project(Distribution(tensor([[atom]]), tensor([[1.0]])))
        np.testing.assert_allclose(found.numpy(), [expected], atol=1e-6)

    def test_a_shifted_and_shrunk_distribution(self):
        """Half of the atoms moved to 1 + 0.5 z = 1, 1.5, 2, 2.5, 3."""
        weights = tensor([[0.1, 0.2, 0.3, 0.2, 0.2]])
        found = FIVE.project(Distribution(1 + 0.5 * FIVE.kind.support(weights).expand(1, 5), weights))
        np.testing.assert_allclose(found.numpy(), [[0, 0.2, 0.5, 0.3, 0]], atol=1e-6)

    @settings(deadline=None, max_examples=60)
    @given(st.integers(0, 2**32 - 1), st.integers(2, 60), st.integers(1, 40))
    def test_equals_the_papers_loop(self, seed, count, atoms):
        rng = np.random.default_rng(seed)
        loss = CategoricalLoss(Categorical(-2.0, 3.0, count))
        z, p = rng.uniform(-4, 5, (3, atoms)).astype(np.float32), rng.dirichlet(np.ones(atoms), 3)
        found = loss.project(Distribution(torch.from_numpy(z), tensor(p.tolist())))
        for row in range(3):
            np.testing.assert_allclose(
                found[row], bellman_projected(z[row], p[row], -2.0, 3.0, count), atol=1e-4
            )
        np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)

    def test_loss_is_the_divergence_and_0_at_the_target(self):
        target = Distribution(tensor([[1.0, 3.0]]), tensor([[0.25, 0.75]]))
        uniform = FIVE(torch.zeros(1, 5), target, None)
        expected = 0.25 * math.log(0.25 * 5) + 0.75 * math.log(0.75 * 5)
        assert uniform.item() == pytest.approx(expected, rel=1e-5)
        exact = FIVE(tensor([[-1e4, math.log(0.25), -1e4, math.log(0.75), -1e4]]), target, None)
        assert exact.item() == pytest.approx(0.0, abs=1e-6)

    def test_gradient_is_that_of_the_cross_entropy(self):
        logits = tensor([[0.3, -0.2, 0.5, 0.1, 0.0]]).requires_grad_()
        target = Distribution(tensor([[1.0, 2.25]]), tensor([[0.5, 0.5]]))
        FIVE(logits, target, None).sum().backward()
        wanted = tensor([[0, 0.5, 0.375, 0.125, 0]])
        np.testing.assert_allclose(logits.grad, logits.detach().softmax(-1) - wanted, atol=1e-6)

    def test_priorities_are_the_divergences(self):
        losses = tensor([0.1, 0.7])
        assert FIVE.errors(losses, tensor([0.0, 0.0]), tensor([5.0, 5.0])) is losses


# Quantiles ------------------------------------------------------------------------------------------------


class TestQuantileHuber:
    def test_hand_computed(self):
        """Quantiles 0 and 2 at fractions 1/4 and 3/4 against atoms 1 and 4."""
        found = QuantileLoss(Quantiles(2))(
            tensor([[0.0, 2.0]]), Distribution(tensor([[1.0, 4.0]]), None), None
        )
        first = (0.25 * 0.5 + 0.25 * 3.5) / 2  # both above
        second = (0.25 * 0.5 + 0.75 * 1.5) / 2  # 1 lies below: |3/4 - 1|
        assert found.item() == pytest.approx(first + second, rel=1e-6)

    def test_drawn_fractions_by_hand(self):
        """Returns 0 and 2 at the fractions 0.1 and 0.6, drawn for this row, against returns 1 and 4 of the target."""
        kind = ImplicitQuantiles(8, 2, 2)
        returns, drawn = tensor([[0.0, 2.0]]), tensor([[0.1, 0.6]])
        found = QuantileLoss(kind)(returns, Distribution(tensor([[1.0, 4.0]]), None), drawn)
        first = (0.1 * 0.5 + 0.1 * 3.5) / 2  # both above
        second = (0.4 * 0.5 + 0.6 * 1.5) / 2  # 1 lies below: |0.6 - 1|
        assert found.item() == pytest.approx(first + second, rel=1e-6)

    @settings(deadline=None, max_examples=60)
    @given(st.integers(0, 2**32 - 1), st.integers(1, 7), st.integers(1, 7), st.booleans())
    def test_equals_a_loop(self, seed, count, atoms, drawn):
        rng = np.random.default_rng(seed)
        theta, z = normal(rng, 3, count) * 2, normal(rng, 3, atoms) * 2
        fractions = torch.from_numpy(rng.random((3, count), np.float32)) if drawn else None
        kind = ImplicitQuantiles(8, count, atoms) if drawn else Quantiles(count)
        found = QuantileLoss(kind)(theta, Distribution(z, None), fractions)
        for row in range(3):
            at = fractions[row].tolist() if drawn else [(2 * i + 1) / (2 * count) for i in range(count)]
            expected = quantile_huber(theta[row].tolist(), at, z[row].tolist())
            assert found[row].item() == pytest.approx(expected, rel=1e-4, abs=1e-6)

    def test_descent_finds_the_quantiles_of_the_target(self):
        """Of the atoms 0, 1, ..., 99, a tenth lies below the first of five quantiles, and so on."""
        theta, target = torch.zeros(1, 5, requires_grad=True), torch.arange(100.0)[None]
        loss = QuantileLoss(Quantiles(5))
        for _ in range(60):
            (gradient,) = torch.autograd.grad(loss(theta, Distribution(target, None), None).sum(), theta)
            theta.data -= 30 * gradient
        np.testing.assert_allclose(theta.detach()[0], [9.5, 29.5, 49.5, 69.5, 89.5], atol=1.0)


# From batches to targets ------------------------------------------------------------------------------------


class TestRule:
    @pytest.mark.parametrize("double", [False, True])
    @pytest.mark.parametrize("masked", [False, True])
    def test_categorical_targets_equal_a_loop(self, double, masked):
        rng, kind = np.random.default_rng(3), Categorical(-3.0, 3.0, 7)
        batch = batch_of(rng, 12, 3, masked=masked, weighted=True, next_q=normal(rng, 12, 3, 7))
        outputs, online = normal(rng, 12, 3, 7), normal(rng, 12, 3, 7)
        loss, q, target, errors = ReturnRule(CategoricalLoss(kind))(
            outputs, online if double else None, batch
        )
        z, total = np.linspace(-3, 3, 7), 0.0
        for i in range(12):
            mask = batch.next_mask[i] if masked else None
            p = batch.next_q[i].softmax(-1).numpy()
            chooses = online[i].softmax(-1).numpy() if double else p
            best = greedy_action(chooses @ z, mask)
            keeps = float(batch.discount[i]) * (1 - float(batch.terminated[i]))
            atoms = float(batch.reward[i]) + keeps * z
            assert target[i].item() == pytest.approx(float(p[best] @ atoms), abs=1e-5)
            mine = outputs[i, batch.action[i]].log_softmax(-1).numpy()
            assert q[i].item() == pytest.approx(float(np.exp(mine) @ z), abs=1e-5)
            m = bellman_projected(atoms, p[best], -3.0, 3.0, 7)
            divergence = sum(x * (math.log(x) - y) for x, y in zip(m, mine, strict=True) if x > 1e-9)
            assert errors[i].item() == pytest.approx(divergence, abs=1e-4)
            total += divergence * float(batch.weight[i]) / 12
        assert loss.item() == pytest.approx(total, abs=1e-4)

    @pytest.mark.parametrize("double", [False, True])
    @pytest.mark.parametrize("implicit", [False, True])
    def test_quantile_targets_equal_a_loop(self, double, implicit):
        rng = np.random.default_rng(4)
        given = Given(None, torch.from_numpy(rng.random((12, 5), np.float32)))
        draws = Draws(given, given) if implicit else None
        kind = ImplicitQuantiles(3, 5, 6) if implicit else Quantiles(5)
        width = 6 if implicit else 5
        batch = batch_of(rng, 12, 3, masked=True, next_q=normal(rng, 12, 3, width), draws=draws)
        outputs, online = normal(rng, 12, 3, 5), normal(rng, 12, 3, 5)
        loss, q, target, errors = ReturnRule(QuantileLoss(kind))(outputs, online if double else None, batch)
        total = 0.0
        for i in range(12):
            chooses = (online if double else batch.next_q)[i].mean(-1).tolist()
            best = greedy_action(chooses, batch.next_mask[i])
            keeps = float(batch.discount[i]) * (1 - float(batch.terminated[i]))
            atoms = [float(batch.reward[i]) + keeps * x for x in batch.next_q[i, best].tolist()]
            mine = outputs[i, batch.action[i]].tolist()
            at = draws.online.fractions[i].tolist() if implicit else [0.1, 0.3, 0.5, 0.7, 0.9]
            total += quantile_huber(mine, at, atoms) / 12
            assert q[i].item() == pytest.approx(np.mean(mine), abs=1e-5)
            assert target[i].item() == pytest.approx(np.mean(atoms), abs=1e-5)
            assert errors[i].item() == pytest.approx(np.mean(atoms) - np.mean(mine), abs=1e-5)
        assert loss.item() == pytest.approx(total, abs=1e-4)

    @pytest.mark.parametrize("double", [False, True])
    @pytest.mark.parametrize("loss", ["huber", "squared"])
    def test_means_are_learned_as_by_the_usual_loss(self, double, loss):
        rng = np.random.default_rng(5)
        batch = batch_of(rng, 20, 4, masked=True, weighted=True, next_q=3 * normal(rng, 20, 4))
        q, online = normal(rng, 20, 4), normal(rng, 20, 4) if double else None
        usual = TDLoss(double, loss, RESCALED)
        other = TDLoss(double, loss, RESCALED, rule=ReturnRule(MeansLoss(loss, RESCALED)))
        for ours, theirs in zip(
            other.from_values(q, online, batch), usual.from_values(q, online, batch), strict=False
        ):
            torch.testing.assert_close(ours, theirs)

    def test_a_head_learns_from_its_own_steps_and_its_own_target(self):
        rng = np.random.default_rng(6)
        learns = torch.from_numpy((rng.random((9, 3)) < 0.5).astype(np.float32))
        learns[4] = 0
        nothing = Given(None, None)
        batch = batch_of(
            rng, 9, 2, masked=True, weighted=True, next_q=normal(rng, 9, 3, 2), draws=Draws(nothing, nothing, learns)
        )  # fmt: skip
        outputs = normal(rng, 9, 3, 2).requires_grad_()
        loss, q, target, errors = ReturnRule(MeansLoss(), heads=3)(outputs, None, batch)
        loss.backward()
        alone = [
            TDLoss(False, "huber").from_values(
                outputs.detach()[:, h].requires_grad_(),
                None,
                batch._replace(next_q=batch.next_q[:, h], weight=batch.weight * learns[:, h], draws=None),
            )
            for h in range(3)
        ]
        assert loss.item() == pytest.approx(sum(x[0].item() for x in alone) / 3, rel=1e-5)
        torch.testing.assert_close(q, torch.stack([x[1] for x in alone]).mean(0))
        torch.testing.assert_close(target, torch.stack([x[2] for x in alone]).mean(0))
        sizes = torch.stack([(x[2] - x[1]).abs() for x in alone], -1)
        of_learners = [sizes[b][learns[b] > 0].tolist() or [0.0] for b in range(9)]  # priorities are theirs
        assert min(map(len, of_learners)) < max(map(len, of_learners))
        assert errors.tolist() == pytest.approx([sum(few) / len(few) for few in of_learners], rel=1e-5)
        assert ((outputs.grad.abs().sum(-1) > 0) == (learns > 0)).all()

    def test_nothing_follows_an_end(self):
        rng = np.random.default_rng(7)
        batch = batch_of(rng, 6, 2, next_q=normal(rng, 6, 2, 5))._replace(terminated=torch.ones(6))
        for rule in (
            ReturnRule(QuantileLoss(Quantiles(5))),
            ReturnRule(CategoricalLoss(Categorical(-9, 9, 5))),
        ):
            found = rule.target(None, batch)
            torch.testing.assert_close(found.atoms, batch.reward[:, None].expand(6, 5))


# Munchausen ---------------------------------------------------------------------------------------------------


class TestMunchausen:
    SOFT = Munchausen(alpha=0.5, temperature=2.0, lowest=-1.0)

    def test_hand_computed(self):
        """Values 2 log 3 and 0 at temperature 2: probabilities 3/4 and 1/4."""
        p, surprise = self.SOFT.policy(tensor([[2 * math.log(3), 0.0]]), None)
        np.testing.assert_allclose(p, [[0.75, 0.25]], atol=1e-6)
        np.testing.assert_allclose(surprise, [[-2 * math.log(0.75), -2 * math.log(0.25)]], rtol=1e-5)
        bonus = self.SOFT.bonus(tensor([[2 * math.log(3), 0.0]] * 2), torch.tensor([0, 1]))
        np.testing.assert_allclose(
            bonus, [0.5 * 2 * math.log(0.75), 0.5 * -1.0], rtol=1e-5
        )  # the second at its bound

    def test_illegal_actions_have_no_part_in_it(self):
        p, surprise = self.SOFT.policy(tensor([[1.0, 50.0, 1.0]]), torch.tensor([[True, False, True]]))
        np.testing.assert_allclose(p, [[0.5, 0, 0.5]], atol=1e-6)
        np.testing.assert_allclose(surprise, [[2 * math.log(2), 0, 2 * math.log(2)]], rtol=1e-5)

    def test_targets_of_means_equal_a_loop(self):
        rng = np.random.default_rng(8)
        batch = batch_of(rng, 10, 3, masked=True, next_q=normal(rng, 10, 3), now_q=normal(rng, 10, 3))
        found = ReturnRule(MeansLoss(), self.SOFT).target(None, batch).mean()
        for i in range(10):
            now, after = batch.now_q[i].double().numpy(), batch.next_q[i].double().numpy()
            log_now = now / 2 - np.log(np.exp(now / 2).sum())
            legal = batch.next_mask[i].numpy()
            log_p = after / 2 - np.log(np.exp(after / 2)[legal].sum())
            value = sum(math.exp(log_p[a]) * (after[a] - 2 * log_p[a]) for a in range(3) if legal[a])
            reward = float(batch.reward[i]) + 0.5 * max(2 * log_now[batch.action[i]], -1.0)
            keeps = float(batch.discount[i]) * (1 - float(batch.terminated[i]))
            assert found[i].item() == pytest.approx(reward + keeps * value, abs=1e-5)

    def test_distributions_have_the_mean_of_the_soft_value(self):
        """The same action values give the same mean target, whatever the distributions around them."""
        rng = np.random.default_rng(9)
        kind = Categorical(-2.0, 2.0, 5)
        following, now = normal(rng, 10, 3, 5), normal(rng, 10, 3, 5)
        for loss in (CategoricalLoss(kind), QuantileLoss(Quantiles(5))):
            means = loss.kind.means
            batch = batch_of(np.random.default_rng(1), 10, 3, masked=True, next_q=following, now_q=now)
            plain = batch._replace(next_q=means(following), now_q=means(now))
            expected = ReturnRule(MeansLoss(), self.SOFT).target(None, plain).mean()
            torch.testing.assert_close(ReturnRule(loss, self.SOFT).target(None, batch).mean(), expected)
