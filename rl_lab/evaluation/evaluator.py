"""What a run asks of evaluation: the figures of a policy, and pictures and a film of the final one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from rl_lab.agent import Policy
from rl_lab.evaluation.evaluate import Evaluation, Interrupted, evaluate
from rl_lab.evaluation.statistics import cvar
from rl_lab.mdp.model import TabularModel
from rl_lab.policies import shifted
from rl_lab.problem import Problem
from rl_lab.runs.config import RunConfig
from rl_lab.runs.directory import film_name
from rl_lab.runs.evaluations import Figures
from rl_lab.runs.selection import SCORE
from rl_lab.seeding import seed_of, untouched_torch
from rl_lab.storage.errors import NotWritten

CVAR = "eval_return_cvar"  # the figure's name in rows and summary.json


class RunEvaluator:
    """Evaluates the policies of one run; implements `runs.evaluations.Evaluator`.

    Args:
        config: of the run, with "auto" resolved.
        problem: makes the environments, and knows the finite MDP if there is one.
        folder: the run directory, where pictures/ and videos/ go.
    """

    def __init__(self, config: RunConfig, problem: Problem, folder: Path):
        assert config.eval_gamma is not None
        self._config, self._problem, self._folder = config, problem, folder
        self._gamma = config.eval_gamma

    def measure(self, policy: Policy, should_stop: Callable[[], bool]) -> Figures | None:
        """Play the evaluation episodes and find the exact figures; None if `should_stop` cut it short.

        torch's global generators are left as they were.
        """
        with untouched_torch():
            try:
                return self._played(policy, should_stop) | self._exact(policy)
            except Interrupted:
                return None

    def _played(self, policy: Policy, should_stop: Callable[[], bool]) -> Figures:
        config = self._config
        chosen = {}
        if config.final_policy == "best":
            seed = seed_of(config.seed, "select")
            played = self._play(policy, config.selection_episodes, seed, should_stop)
            chosen = {SCORE: float(played.returns.mean())}
        if not config.eval_episodes:
            return {"eval_returns": [], "eval_return_mean": None, "eval_return_iqm": None, **chosen}
        played = self._play(policy, config.eval_episodes, config.seed, should_stop)
        risk = {} if (level := config.eval_cvar_level) is None else {CVAR: cvar(played.returns, level)}
        return {"eval_returns": played.returns.tolist(), **played.figures(), **risk, **chosen}

    def _play(self, policy: Policy, episodes: int, seed: int, should_stop: Callable[[], bool]) -> Evaluation:
        config = self._config
        envs = self._problem.make(min(config.eval_envs, episodes))
        try:
            return evaluate(
                policy,
                envs,
                episodes=episodes,
                seed=seed,
                gamma=self._gamma,
                max_steps=config.eval_max_steps,
                total_steps=config.eval_steps(self._problem.spec.max_episode_steps),
                should_stop=should_stop,
            )
        finally:
            envs.close()

    def _exact(self, policy: Policy) -> Figures:
        from rl_lab.evaluation.exact import FIGURES, exact_figures

        if self._problem.model is None:
            fault = self._problem.model_fault
            return dict.fromkeys(FIGURES) | ({} if fault is None else {"model_fault": fault})
        limit = self._problem.spec.max_episode_steps
        policy = shifted(policy, -self._problem.spec.first_action)  # the model counts actions from 0
        return exact_figures(policy, self._problem.model, self._gamma, limit, self._config.eval_envs)

    def film(self, env_steps: int, policy: Policy, should_stop: Callable[[], bool]) -> str | None:
        """Film the first evaluation episode of a policy that learning has reached, in an environment of its own.

        What is learned doesn't depend on it: torch's global generators are left as they were.

        Args:
            should_stop: asked at every step; the film ends where it says so.

        Returns:
            What is missing, in a line; None if nothing is.
        """
        from rl_lab.evaluation.watch import film

        path = self._folder / "videos" / film_name(env_steps)
        with untouched_torch():
            return film(path, policy, self._config, 1, should_stop)

    def show(self, policy: Policy, doing: Callable[[str], None] = lambda what: None) -> list[str]:
        """Draw and film a policy as far as the config asks for it; return what is missing and why, a line each.

        Args:
            doing: called with what is begun, in a few words.
        """
        return [*self._pictures(policy, doing), *self._video(policy, doing)]

    def _pictures(self, policy: Policy, doing: Callable[[str], None]) -> Iterator[str]:
        if not self._config.pictures or self._problem.model is None:
            return
        doing("drawing pictures")
        try:
            self._draw(policy, self._problem.model)
        except NotWritten as error:
            yield f"no pictures: {error}"
        except Exception as error:  # no picture is worth losing a run that has finished
            yield f"no pictures: {type(error).__name__}: {' '.join(str(error).split())}"

    def _draw(self, policy: Policy, model: TabularModel) -> None:
        from rl_lab.evaluation.pictures import draw_run  # brings matplotlib

        first = self._problem.spec.first_action
        draw_run(
            self._folder,
            shifted(policy, -first),
            model,
            self._problem.layout,
            gamma=self._gamma,
            width=self._config.eval_envs,
            first_action=first,
        )

    def _video(self, policy: Policy, doing: Callable[[str], None]) -> Iterator[str]:
        from rl_lab.evaluation.watch import film

        if not (episodes := self._config.video_episodes):
            return
        doing("filming")
        missing = film(self._folder / "videos" / "final.mp4", policy, self._config, episodes)
        if missing is not None:
            yield missing
