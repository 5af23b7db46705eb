"""Tabular learning: one agent, of which each registered name fixes the rule and gives the fields that apply to it.

`q-learning`: Watkins (1989), "Learning from Delayed Rewards"; Watkins & Dayan (1992), "Q-learning",
https://link.springer.com/article/10.1007/BF00992698; the papers of the other rules are named where their arithmetic is,
in `rl_lab.mdp.learning`, and all of them are in Sutton & Barto (2018), "Reinforcement Learning: An Introduction".

Deviations: while exploring, ties are broken at random, since always taking the first action would make an untrained
agent repeat it. The step size can decay linearly or with each entry's updates, which convergence in stochastic
environments requires. Where a time limit cuts an episode off, every rule bootstraps from its last state; on-policy
rules, for which there is no next action, from the mean value under the behaviour.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from rl_lab.mdp.learning import rules, traces, windows
from rl_lab.training.interaction import Interaction
from rl_lab.training.learner import built_from
from rl_lab.training.simulation import Simulated

from .agent import MakeRule, Tabular, rows_of
from .config import (
    TRACES,
    Config,
    DynaConfig,
    DynaPlusConfig,
    GreedyTargetConfig,
    Learning,
    MonteCarloConfig,
    NStepConfig,
    PredictionConfig,
    SweepingConfig,
    TraceConfig,
    TreeBackupConfig,
    refuse,
)
from .learning import AtOnce, ByTraces, ByWindows
from .planning import Dyna, Sweeping
from .room import refuse_number
from .simulated import simulated_by
from .tables import Rule, Tables

__all__ = ["Tabular", "learner"]


def learner(
    name: str, config: Learning, make_rule: MakeRule, *, off_policy: bool = False, predicts: bool = False
) -> Interaction | Simulated:
    """Return the learner of a rule, which learns from steps or in simulation, as the config says.

    Args:
        off_policy: it can learn from the actions of another policy.
        predicts: it learns the values of states for a policy that acts uniformly at random.
    """
    build = partial(Tabular, make_rule=make_rule, predicts=predicts)
    stepping = Interaction(
        config,
        build,
        partial(refuse, name),
        takes_datasets=off_policy,
        refuse_number=partial(refuse_number, name),
    )
    simulated = getattr(config, "simulated", False)
    return Simulated(name, stepping, simulated_by, rows_of) if simulated else stepping


def _at_once(rule: int) -> MakeRule:
    return lambda config, tables, n: AtOnce(tables, config.gamma, rule, n)


def _by_traces(rule: int) -> MakeRule:
    def make(config: Any, tables: Tables, num_envs: int) -> Rule:
        kind = TRACES[config.traces]
        return ByTraces(tables, config.gamma, rule, num_envs, trace_decay=config.trace_decay, trace_kind=kind)

    return make


def _dyna(config: Any, tables: Tables, num_envs: int) -> Rule:
    direct = AtOnce(tables, config.gamma, rules.Q_LEARNING, num_envs)
    return Dyna(
        tables, config.gamma, direct,
        steps=config.planning_steps, outcomes=config.model_outcomes, bonus=getattr(config, "bonus", None),
    )  # fmt: skip


@built_from(GreedyTargetConfig)
def build_q_learning(config: GreedyTargetConfig) -> Interaction | Simulated:
    """Learn a table of action values (Q-learning); discrete observations and Discrete actions."""
    return learner("q-learning", config, _at_once(rules.Q_LEARNING), off_policy=True)


@built_from(GreedyTargetConfig)
def build_double_q_learning(config: GreedyTargetConfig) -> Interaction | Simulated:
    """Learn two tables, each of which values the other's choices (double Q-learning); acts on their mean."""
    return learner("double-q-learning", config, _at_once(rules.DOUBLE_Q), off_policy=True)


@built_from(Config)
def build_sarsa(config: Config) -> Interaction | Simulated:
    """Learn a table of the values of the policy that acts (SARSA), from the actions that it takes next."""
    return learner("sarsa", config, lambda c, t, n: ByWindows(t, c.gamma, windows.N_STEP_SARSA, n, n_steps=1))


@built_from(Config)
def build_expected_sarsa(config: Config) -> Interaction | Simulated:
    """Learn a table of the values of the policy that acts, from the mean over its next action (expected SARSA)."""
    return learner("expected-sarsa", config, _at_once(rules.EXPECTED_SARSA), off_policy=True)


@built_from(NStepConfig)
def build_n_step_sarsa(config: NStepConfig) -> Interaction | Simulated:
    """Learn a table of the values of the policy that acts, from n rewards at a time (n-step SARSA)."""
    return learner(
        "n-step-sarsa", config,
        lambda c, t, n: ByWindows(t, c.gamma, windows.N_STEP_SARSA, n, n_steps=c.n_steps),
    )  # fmt: skip


@built_from(TreeBackupConfig)
def build_tree_backup(config: TreeBackupConfig) -> Interaction | Simulated:
    """Learn a table from n steps off-policy, without importance weights (tree backup)."""

    def make(c: Any, tables: Tables, n: int) -> Rule:
        greedy = c.target == "greedy"
        return ByWindows(tables, c.gamma, windows.TREE_BACKUP, n, n_steps=c.n_steps, greedy_target=greedy)

    return learner("tree-backup", config, make, off_policy=True)


@built_from(TraceConfig)
def build_q_lambda(config: TraceConfig) -> Interaction | Simulated:
    """Learn a table of action values with eligibility traces, cut before exploring actions (Watkins's Q(lambda))."""
    return learner("q-lambda", config, _by_traces(traces.WATKINS_Q), off_policy=True)


@built_from(TraceConfig)
def build_sarsa_lambda(config: TraceConfig) -> Interaction | Simulated:
    """Learn a table of the values of the policy that acts, with eligibility traces (SARSA(lambda))."""
    return learner("sarsa-lambda", config, _by_traces(traces.SARSA_LAMBDA))


@built_from(MonteCarloConfig)
def build_monte_carlo(config: MonteCarloConfig) -> Interaction | Simulated:
    """Learn a table from the returns of whole episodes (Monte Carlo control, on-policy)."""
    rule = windows.FIRST_VISIT if config.first_visit else windows.EVERY_VISIT
    return learner("monte-carlo", config, lambda c, t, n: ByWindows(t, c.gamma, rule, n))


@built_from(DynaConfig)
def build_dyna_q(config: DynaConfig) -> Interaction | Simulated:
    """Learn a table and a model, and plan with it after every step (Dyna-Q)."""
    return learner("dyna-q", config, _dyna, off_policy=True)


@built_from(DynaPlusConfig)
def build_dyna_q_plus(config: DynaPlusConfig) -> Interaction | Simulated:
    """Learn as Dyna-Q does, and imagine more reward for what wasn't tried for long (Dyna-Q+)."""
    return learner("dyna-q-plus", config, _dyna, off_policy=True)


@built_from(SweepingConfig)
def build_learned_prioritised_sweeping(config: SweepingConfig) -> Interaction | Simulated:
    """Learn a model, and back up first what it shows to be most wrong (prioritised sweeping)."""

    def make(c: Any, tables: Tables, num_envs: int) -> Rule:
        return Sweeping(
            tables, c.gamma,
            backups=c.planning_steps, outcomes=c.model_outcomes, threshold=c.priority_threshold,
        )  # fmt: skip

    return learner("learned-prioritised-sweeping", config, make, off_policy=True)


@built_from(PredictionConfig)
def build_td_prediction(config: PredictionConfig) -> Interaction | Simulated:
    """Learn the values of states for a policy that acts at random, or that recorded a dataset (TD(lambda))."""
    return learner("td-prediction", config, _by_traces(traces.TD_LAMBDA), off_policy=True, predicts=True)
