"""Whose policy is watched: that of a run, of a model file of SB3's, the random one, or a person's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium

from rl_lab.agent import Policy
from rl_lab.evaluation.watch import rendering_env
from rl_lab.problem import Problem
from rl_lab.runs.config import RunConfig
from rl_lab.runs.description import read_description
from rl_lab.training.devices import limited_threads
from rl_lab.training.loading import kept_steps, load_policy
from rl_lab.training.registry import make_learner
from rl_lab.training.setup import problem_of
from rl_lab.types import UsageError
from rl_lab.watching.human import HumanPolicy

RANDOM, HUMAN = "random", "human"
READS_SB3 = "sb3-ppo"  # any of the lab's SB3 learners reads the files of all of SB3's algorithms
RISK = "its pickles run whatever code its author put into them"


@dataclass(frozen=True)
class Environment:
    """The environment of a policy that no run directory tells of."""

    env_id: str | None = None
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    preprocess: str = "auto"
    seed: int = 0
    like: RunConfig | None = None  # of a run beside which it is watched, and which then says everything

    def config(self, spec: str) -> RunConfig:
        """Return the config of a run in this environment.

        Args:
            spec: whose policy plays there, for the message.

        Raises:
            UsageError: there is no id.
        """
        if self.like is not None:
            return self.like
        if self.env_id is None:
            raise UsageError(f"{spec} plays no environment of its own (allowed: with --env-id ID)")
        return RunConfig(
            env_id=self.env_id,
            env_kwargs=dict(self.env_kwargs),
            preprocess=self.preprocess,  # type: ignore[arg-type]  # checked there
            seed=self.seed,
        )


@dataclass(frozen=True)
class ModelFile:
    """How a model file of SB3's is read.

    Attributes:
        algorithm: such as "dqn" or "recurrent-ppo"; None: as the file tells.
        statistics: of VecNormalize, which `VecNormalize.save` wrote; None for none.
        trust_pickles: let the pickles in these files run; without, no such file is read.
    """

    algorithm: str | None = None
    statistics: Path | None = None
    trust_pickles: bool = False


@dataclass(frozen=True)
class Watched:
    """A policy and where it plays."""

    policy: Policy  # the one of training: its carry, stacks and normalisation are inside
    config: RunConfig  # says what environment is made
    problem: Problem  # with the spaces, and the finite model if there is one
    label: str  # such as "dqn on CartPole-v1"
    note: str = ""  # what a person should know of it, in a line
    folder: Path | None = None  # the run directory; None if there is none
    is_newest: bool = False  # of a run: its last checkpoint, after which newer ones may come

    def make(self) -> gymnasium.Env:
        """Make the environment, which renders pictures uint8 [H, W, 3].

        Raises:
            UsageError: it can't be made.
        """
        return rendering_env(self.config)


def is_model_file(spec: str | Path) -> bool:
    """Return whether a spec, see `watched`, means a model file of SB3's."""
    return not _is_word(spec) and Path(spec).suffix.lower() == ".zip"


def is_run(spec: str | Path) -> bool:
    """Return whether a spec, see `watched`, means a run directory."""
    return not (_is_word(spec) or is_model_file(spec))


def _is_word(spec: str | Path) -> bool:
    return str(spec) in (RANDOM, HUMAN) and not isinstance(spec, Path)


def watched(
    spec: str | Path,
    *,
    best: bool = False,
    at_step: int | None = None,
    environment: Environment | None = None,
    model_file: ModelFile | None = None,
) -> Watched:
    """Return the policy that a word or a path means.

    Args:
        spec: a run directory, a .zip that SB3 saved, "random" or "human". (A run directory with such a name is meant
            by ./random.)
        best: of a run, the checkpoint with the best evaluation.
        at_step: of a run, the kept checkpoint at this environment step.
        environment: where a policy without a run plays.
        model_file: how a .zip of SB3's is read.

    Raises:
        UsageError: there is no such policy, it can't play there, its pickles aren't trusted, or an argument is given
            that would be ignored.
        CheckpointCorrupt: no checkpoint of the run is whole.
        FormatTooNew: a newer version wrote the run.
    """
    is_word, is_model = _is_word(spec), is_model_file(spec)
    _require_served(str(spec), is_word or is_model, is_model, best, at_step, environment, model_file)
    if not (is_word or is_model):
        return _of_run(Path(spec), best, at_step)
    config = (environment or Environment()).config(repr(str(spec)))
    if is_model:
        return _of_model(Path(spec), config, model_file or ModelFile())
    return _random(config) if spec == RANDOM else _human(config)


def _require_served(
    spec: str,
    is_runless: bool,
    is_model: bool,
    best: bool,
    at_step: int | None,
    environment: Environment | None,
    model_file: ModelFile | None,
) -> None:
    """Check that nothing that is given would be ignored.

    Raises:
        UsageError: something would be.
    """
    if is_runless and best:
        raise UsageError(f"{spec!r} has no best checkpoint, since it is no run (allowed: without --best)")
    if is_runless and at_step is not None:
        raise UsageError(f"{spec!r} has no checkpoint {at_step}, since it is no run (allowed: without it)")
    if not is_runless and environment not in (None, Environment()):
        raise UsageError(of_its_own(spec))
    if not is_model and model_file not in (None, ModelFile()):
        raise UsageError(
            f"{spec!r} is no model file of SB3's, and these options are for such files (allowed: F.zip)"
        )


def of_its_own(spec: str) -> str:
    """Return a line that says why no environment is given for a run."""
    return f"run {spec!r} has an environment of its own (allowed: no env_id, env_kwargs and the like)"


def _of_run(folder: Path, best: bool, at_step: int | None) -> Watched:
    description = read_description(folder)
    learner = make_learner(description.agent, **description.fields)
    policy = load_policy(folder, best=best, at_step=at_step)
    config = description.config
    problem = problem_of(config, learner, for_acting=True)
    return Watched(
        policy,
        config,
        problem,
        _label(description.agent, config),
        _note(folder, best, at_step),
        folder,
        is_newest=not best and at_step is None,
    )


def _note(folder: Path, best: bool, at_step: int | None) -> str:
    if at_step is not None:
        return f"the checkpoint at step {at_step}"
    if best:
        return "the checkpoint with the best evaluation"
    steps = kept_steps(folder)
    return f"the last checkpoint, at step {steps[-1]}"


def _label(name: str, config: RunConfig) -> str:
    return f"{name} on {config.env_id}"


def _random(config: RunConfig) -> Watched:
    learner = make_learner(RANDOM)
    problem = problem_of(config, learner, for_acting=True)
    return Watched(learner.load(problem, {}), config, problem, _label(RANDOM, config))


def _human(config: RunConfig) -> Watched:
    problem = problem_of(config, make_learner(RANDOM), for_acting=True)
    policy = HumanPolicy(problem.spec.action_space)
    return Watched(
        policy, config, problem, _label(HUMAN, config), "it repeats the last action that was pressed"
    )


def _of_model(path: Path, config: RunConfig, file: ModelFile) -> Watched:
    """Return the policy of a model file of SB3's. Raises UsageError if it isn't trusted, or doesn't fit."""
    if not path.is_file():
        raise UsageError(f"model file {str(path)!r} is not there (allowed: a .zip that SB3 saved)")
    if not file.trust_pickles:
        raise UsageError(
            f"model file {str(path)!r} is not read: {RISK} (allowed: --trust-pickles, if you trust where it is from)"
        )
    learner = make_learner(READS_SB3)
    problem = problem_of(config, learner, for_acting=True)
    with limited_threads(config.threads):
        policy, algorithm = learner.read_model_file(  # type: ignore[attr-defined]  # SB3's learners have it
            problem, path, file.algorithm, file.statistics
        )
    note = f"from {path.name}, whose pickles were run"
    if file.statistics is not None:
        note += f", as were those of {file.statistics.name}"
    return Watched(policy, config, problem, _label(f"SB3's {algorithm}", config), note)
