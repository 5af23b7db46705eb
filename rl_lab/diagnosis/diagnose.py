"""Diagnoses the policy of a run directory."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

from rl_lab.agent import Policy
from rl_lab.checks import count
from rl_lab.diagnosis.calibration import Calibration, calibrate
from rl_lab.diagnosis.loss_bias import LossBias, find_loss_bias
from rl_lab.diagnosis.report import Diagnosis
from rl_lab.diagnosis.split import RegretSplit, Splitter
from rl_lab.diagnosis.visited import NotKnown, Visits, count_visits, live_states
from rl_lab.evaluation.exact import action_probabilities, predicted_values
from rl_lab.mdp.rows import NeverEnds, NotConverged
from rl_lab.policies import shifted
from rl_lab.problem import Problem
from rl_lab.runs.description import RunDescription, read_description
from rl_lab.runs.directory import CHECKPOINTS
from rl_lab.seeding import untouched_torch
from rl_lab.storage.checkpoint import Checkpoints
from rl_lab.training.devices import limited_threads
from rl_lab.training.learner import Learner
from rl_lab.training.loading import read_weights
from rl_lab.training.registry import make_learner
from rl_lab.training.setup import problem_of
from rl_lab.types import Array

MOST_STATES = 10_000  # for which the regret is split


def diagnose(
    run_dir: str | Path, *, episodes: int | None = None, fits: int = 4, fit_steps: int = 1_000
) -> Diagnosis:
    """Say why the policy of a run's last checkpoint falls short of the optimum.

    On a finite MDP its exact regret is split into exploration, representation and the rest, and the fixed point of the
    run's loss is computed. On all environments its values are compared with the returns that follow. The run stays as
    it is, and nothing is written; `rl_lab.diagnosis.files.write_diagnosis` does that.

    Args:
        run_dir: the run directory.
        episodes: evaluation episodes to play; by default as many as the run's evaluations have, 0 for none.
        fits: initialisations from which a network is fitted to find what it can express.
        fit_steps: most gradient steps of each.

    Raises:
        UsageError: there is no run, nothing was saved yet, or a number that isn't allowed.
        CheckpointCorrupt: no checkpoint is whole.
        FormatTooNew: a newer version wrote it.
    """
    fits, fit_steps = count("fits", fits), count("fit_steps", fit_steps)
    episodes = None if episodes is None else count("episodes", episodes, least=0)
    folder = Path(run_dir)
    description = read_description(folder)
    weights = read_weights(folder)
    with limited_threads(description.config.threads), untouched_torch():
        return _Case(folder, description, weights).diagnosis(episodes, fits, fit_steps)


class _Case:
    """One run that is diagnosed."""

    def __init__(self, folder: Path, description: RunDescription, weights: dict[str, Any]):
        self._folder, self._description, self._weights = folder, description, weights
        self._config = description.config
        self._learner: Learner = make_learner(description.agent, **description.fields)
        self._problem: Problem = problem_of(self._config, self._learner, for_acting=True)
        self._policy: Policy = self._learner.load(self._problem, weights)

    def diagnosis(self, episodes: int | None, fits: int, steps: int) -> Diagnosis:
        """Return what was found."""
        split, loss, visits = None, None, None
        no_split = no_loss = None
        try:
            chosen = self._choices()
        except NotKnown as reason:
            no_split, chosen = str(reason), None
        if chosen is not None:
            try:
                visits = self._visits()
                split = self._split(chosen, visits, fits, steps)
            except (NotKnown, NeverEnds, NotConverged) as reason:
                no_split = str(reason)
            try:
                loss = self._loss(chosen)
            except (NotKnown, NeverEnds, NotConverged) as reason:
                no_loss = str(reason)
        return Diagnosis(
            run_dir=str(self._folder),
            agent=self._description.agent,
            env_id=self._config.env_id,
            seed=self._config.seed,
            env_steps=Checkpoints(self._folder / CHECKPOINTS).load(only=())[0],
            eval_gamma=self._description.eval_gamma,
            split=split,
            no_split=no_split,
            loss=loss,
            no_loss=no_loss,
            calibration=self._calibration(episodes),
            visits=visits,
            notes=() if visits is None else visits.notes,
            model=self._problem.model,
            layout=self._problem.layout,
        )

    def _choices(self) -> Array:
        """Return the learned policy as probabilities [S, A].

        Raises:
            NotKnown: there is no model, it is too large, or the policy's choice depends on more than the state.
        """
        model = self._problem.model
        if model is None:
            raise NotKnown(self._problem.no_model)
        if model.num_states > MOST_STATES:
            raise NotKnown(f"the model has {model.num_states} states, more than {MOST_STATES}")
        chosen = action_probabilities(self._acting(), model, self._config.eval_envs)
        if chosen is None:
            raise NotKnown("the policy remembers, so that its choice depends on more than the state")
        return chosen

    def _acting(self) -> Policy:
        """Return the policy with actions counted from 0, as the model has them."""
        return shifted(self._policy, -self._problem.spec.first_action)

    def _visits(self) -> Visits:
        model = self._problem.model
        assert model is not None
        knows_model = bool(getattr(self._learner, "knows_model", False))
        return count_visits(self._folder, self._config, self._problem, model, knows_model)

    def _split(self, chosen: Array, visits: Visits, fits: int, steps: int) -> RegretSplit:
        model = self._problem.model
        assert model is not None
        tell = getattr(self._learner, "function_class", None)
        function_class = None if tell is None else tell(self._problem, self._weights)
        splitter = Splitter(model, chosen, self._description.eval_gamma, visits)
        return splitter.split(function_class, seed=self._config.seed, fits=fits, steps=steps)

    def _loss(self, chosen: Array) -> LossBias | None:
        """Return the bias of the loss; None for learners that have no temporal-difference loss."""
        model = self._problem.model
        assert model is not None
        if (tell := getattr(self._learner.config, "td_rule", None)) is None:
            return None
        return find_loss_bias(
            model, chosen, tell(), eval_gamma=self._description.eval_gamma, live=live_states(model),
            predicted=predicted_values(self._acting(), model, self._config.eval_envs),
            can_act=self._config.dataset is None,
        )  # fmt: skip

    def _calibration(self, episodes: int | None) -> Calibration | None:
        config = self._config
        if not (wanted := config.eval_episodes if episodes is None else episodes):
            return None
        tell = getattr(self._learner, "exploring", None)
        exploring = None if tell is None else tell(self._problem, self._weights)
        with closing(self._problem.make(1)) as envs:
            return calibrate(
                self._policy, exploring, envs,
                episodes=wanted, seed=config.seed, gamma=self._description.eval_gamma,
                max_steps=config.eval_max_steps, total_steps=config.eval_steps(self._problem.spec.max_episode_steps),
            )  # fmt: skip
