"""DQN beyond the mean: which fields are refused, and which would do nothing."""

from __future__ import annotations

import pytest
from gymnasium import spaces

from rl_lab.agents.dqn import Config, refuse
from rl_lab.training.registry import make_learner
from rl_lab.training.setup import require_effect
from rl_lab.types import UsageError
from toys import Identity, problem_on, spec_of


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"distribution": "normal"},
            "distribution .normal. is unknown .allowed: none, categorical, quantile, implicit",
        ),
        ({"v_min": 2.0, "v_max": 2.0}, "v_min 2 must be below v_max 2"),
        ({"atoms": 1}, "atoms must be at least 2"),
        ({"munchausen_lowest": 0.5}, "munchausen_lowest must be at most 0, got 0.5"),
        ({"head_share": 0.0}, "head_share must be greater than 0"),
        ({"distribution": "quantile", "loss": "squared"}, "exclude each other"),
        ({"distribution": "categorical", "value_rescaling": True}, "atoms are in units of reward"),
        ({"munchausen": True, "double": True}, "munchausen and double exclude each other"),
        ({"munchausen": True, "value_rescaling": True}, "temperature is in units of reward"),
        ({"munchausen": True, "normalise_rewards": True}, "temperature is in units of reward"),
        ({"distribution": "categorical", "normalise_rewards": True}, "atoms are in units of reward"),
        ({"munchausen_temperature": float("inf")}, "munchausen_temperature"),
        (
            {"munchausen": True, "munchausen_temperature": 1e-45},
            "munchausen_temperature must be at least 1e-08",
        ),
        ({"v_max": 1e39}, "v_max 1e.39 must lie within 1e.30 of 0"),
        ({"prior_scale": 1.0, "heads": 2, "normalise_observations": True}, "a prior never changes"),
        ({"noisy": True, "heads": 2}, "noisy and heads 2 exclude each other"),
        ({"prior_scale": 1.0}, "prior_scale and heads 1 exclude each other"),
        ({"prior_scale": 1.0, "heads": 2, "distribution": "quantile"}, "it is added to means"),
        (
            {"prior_scale": 1.0, "heads": 2, "memory": "gru"},
            "prior_scale and memory 'gru' exclude each other",
        ),
    ],
)
def test_refuses_what_does_not_go_together(fields, message):
    with pytest.raises(UsageError, match=message):
        Config(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"head_share": 0.5}, "head_share 0.5 does nothing without heads 2 or more"),
        ({"noisy_sigma": 0.1}, "noisy_sigma 0.1 does nothing without noisy"),
        ({"munchausen_alpha": 0.5}, "munchausen_alpha 0.5 does nothing without munchausen"),
        ({"munchausen_temperature": 0.1, "distribution": "implicit"}, "does nothing without munchausen"),
        ({"v_max": 3.0}, "v_max 3.0 does nothing without distribution 'categorical'"),
        ({"atoms": 7, "distribution": "quantile"}, "atoms 7 does nothing without distribution 'categorical'"),
        (
            {"quantiles": 7, "distribution": "implicit"},
            "quantiles 7 does nothing without distribution 'quantile'",
        ),
        ({"cosines": 7}, "cosines 7 does nothing without distribution 'implicit'"),
        (
            {"acting_fractions": 7, "distribution": "categorical"},
            "does nothing without distribution 'implicit'",
        ),
    ],
)
def test_what_would_do_nothing_is_refused_where_it_is_given_and_passes_where_it_is_recorded(fields, message):
    with pytest.raises(UsageError, match=rf"{message}.* \(allowed: "):
        require_effect("dqn", fields)
    require_effect("dqn", {}, base=fields)
    learner, problem = make_learner("dqn", **fields), problem_on(lambda: Identity(3))
    learner.resolved(problem)
    assert learner.refuse(problem) is None


def test_refuses_environments_and_compilation_that_do_not_suit():
    masked = spec_of(spaces.Discrete(3), has_mask=True)
    assert refuse(Config(munchausen=True), masked) == (
        "munchausen needs the action masks of past steps, which the replay doesn't keep; toy has masks (allowed: false)"
    )
    assert refuse(Config(munchausen=True), spec_of(spaces.Discrete(3))) is None
    prior = {"heads": 2, "prior_scale": 1.0}
    assert refuse(Config(compile="yes", **prior), spec_of(spaces.Discrete(3))) == (
        "compile 'yes' requires prior_scale 0 (allowed for a new run: auto, no)"
    )
    resolved = Config(**prior).resolve(problem_on(lambda: Identity(3), total_steps=1_000_000))
    assert resolved.compile == "no"


@pytest.mark.parametrize(
    ("agent", "field", "learner"),
    [("c51", "quantiles", "qr-dqn"), ("qr-dqn", "fractions", "iqn"), ("iqn", "v_max", "c51")],
)
def test_an_agent_of_one_distribution_names_the_agent_that_has_a_field(agent, field, learner):
    with pytest.raises(UsageError, match=rf"^{field} 7 does nothing without agent {learner} \(allowed: "):
        require_effect(agent, {field: 7})
