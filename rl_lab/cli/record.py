"""The command that records a policy's transitions as a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from rl_lab.agent import Policy
from rl_lab.cli.parsing import parse
from rl_lab.datasets.record import record_dataset
from rl_lab.datasets.writer import require_dataset_place
from rl_lab.environments.make import make_env
from rl_lab.runs.config import RunConfig
from rl_lab.runs.description import read_description
from rl_lab.runs.scrubbing import scrub
from rl_lab.storage.state_trees import weights_sha256
from rl_lab.training.devices import set_threads
from rl_lab.training.loading import load_policy, read_weights
from rl_lab.training.setup import configure, problem_of, require_accepted
from rl_lab.types import UsageError

ABOUT = """Record the transitions of a policy as a Minari dataset: of a run directory's greedy policy, or of an
agent that needs no training. Agents learn from it with rl-lab train --dataset DIR."""
UNTRAINED = ("random",)  # agents that act without having learned


@dataclass(frozen=True)
class RecordOptions:
    """What the command takes."""

    out: str
    """Folder of the dataset; it must not exist yet."""
    run_dir: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[RUN_DIR]")] = None
    """Run directory whose greedy policy to record; or give --agent and --env-id instead."""
    agent: str | None = None
    """Agent that acts without training: random."""
    env_id: str | None = None
    """Environment of --agent."""
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments of that environment, as name=value."""
    wrappers: tuple[str, ...] = ()
    """Wrappers around that environment, each module:Class, from the inside out."""
    preprocess: Literal["auto", "none", "atari", "nature", "dopamine", "machado", "v5"] | None = None
    """Wrappers of that environment; by default auto: Atari's for ALE ids, none for all others."""
    episodes: int | None = None
    """Episodes to record; by default 100, unless --steps is given."""
    steps: int | None = None
    """Transitions to record; the last episode may be left unfinished."""
    max_episode_steps: int = 10_000
    """Steps after which an episode is left unfinished, if the environment hasn't ended it by then."""
    epsilon: float = 0.0
    """Probability of replacing the policy's action by a random legal one, for more varied data."""
    seed: int | None = None
    """Seed of the episodes and random actions; by default the run's, or 0."""
    best: bool = False
    """Record the checkpoint with the best evaluation instead of the last."""


@dataclass(frozen=True)
class Source:
    """What is recorded: a policy in an environment, and the provenance that the dataset keeps."""

    policy: Policy
    config: RunConfig
    provenance: dict[str, Any]


def record(argv: Sequence[str]) -> int:
    """Record a policy's transitions; return the exit code.

    Raises:
        UsageError: a wrong option or value, nothing to record, or a folder that can't be made or is there already.
        NotWritten: the file system refused; there is no dataset then.
        CheckpointCorrupt: no checkpoint of the run is whole.
        FormatTooNew: a newer version wrote the run.
    """
    options: RecordOptions = parse(RecordOptions, argv, program="rl-lab record", about=ABOUT)
    require_dataset_place(options.out)
    source = _of_a_run(options) if options.run_dir is not None else _of_an_agent(options)
    from rl_lab.studies.page.formats import counted

    config = source.config
    told = record_dataset(
        source.policy,
        partial(make_env, config.env_id, **config.env_arguments),
        options.out,
        episodes=options.episodes,
        steps=options.steps,
        seed=config.seed,
        epsilon=options.epsilon,
        max_episode_steps=options.max_episode_steps,
        provenance=source.provenance,
    )
    transitions, played = counted(told["steps"], "transition"), counted(told["episodes"], "episode")
    print(f"{transitions} in {played}, mean return {told['episode_return_mean']:.6g}")
    print(f"dataset: {options.out}")
    return 0


def _of_a_run(options: RecordOptions) -> Source:
    """Return the greedy policy of a run directory.

    Raises:
        UsageError: there is no run, or options are given that the run decides.
    """
    for name in ("agent", "env_id", "env_kwargs", "wrappers", "preprocess"):
        if getattr(options, name):
            raise UsageError(
                f"{name} {getattr(options, name)!r} beside a run directory (allowed: one of the two)"
            )
    assert options.run_dir is not None
    description = read_description(Path(options.run_dir))
    config = RunConfig(
        env_id=description.config.env_id,
        **description.config.env_arguments,
        seed=description.config.seed if options.seed is None else options.seed,
    )
    set_threads(description.config.threads)
    policy = load_policy(options.run_dir, best=options.best)
    weights = weights_sha256(read_weights(options.run_dir, best=options.best))
    hashes = {"config_sha256": description.config_sha256, "weights_sha256": weights}
    return Source(policy, config, _described(description.agent, config) | hashes)


def _of_an_agent(options: RecordOptions) -> Source:
    """Return the policy of an agent that acts without having learned.

    Raises:
        UsageError: no agent is named, it has to learn first, or it can't take the environment.
    """
    if options.agent is None:
        raise UsageError(f"a run directory or --agent is missing (allowed: {', '.join(UNTRAINED)})")
    if options.best:
        raise UsageError("best goes with a run directory alone: an agent without training has no checkpoints")
    if options.agent not in UNTRAINED:
        raise UsageError(
            f"agent {options.agent!r} has no policy without training"
            f" (allowed: a run directory, or --agent {', '.join(UNTRAINED)})"
        )
    given = {name: getattr(options, name) for name in ("env_id", "env_kwargs", "wrappers", "preprocess")}
    fields = {name: value for name, value in given.items() if value is not None}
    learner, config = configure(options.agent, fields | {"seed": options.seed or 0})
    problem = problem_of(config, learner, for_acting=True)
    require_accepted(learner, problem)
    return Source(learner.load(problem, {}), config, _described(options.agent, config))


def _described(agent: str, config: RunConfig) -> dict[str, Any]:
    arguments = config.env_arguments
    arguments["env_kwargs"] = scrub(arguments["env_kwargs"])  # it is stored with the dataset
    return {"agent": agent, "env_id": config.env_id} | arguments
