"""The command that compares agents."""

from __future__ import annotations

import dataclasses as dc
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from rl_lab.cli.parsing import parse
from rl_lab.runs.config import parse_pairs, read_fields
from rl_lab.runs.signals import STOPPED
from rl_lab.types import UsageError

if TYPE_CHECKING:
    from rl_lab.studies.decision import Plan
    from rl_lab.studies.study import Study

ABOUT = """Compare agents: train each on every environment with the same seeds and the same evaluation, and write
one page with curves, tables and videos."""


@dataclass(frozen=True)
class CompareOptions:
    """What the command takes."""

    env_id: tuple[str, ...] = ()
    """Environments: Gymnasium ids, namespace/id of an installed package, or module:id."""
    agents: tuple[str, ...] = ()
    """Agents, as rl-lab agents lists them; the names of Stable-Baselines3's begin with sb3-."""
    seeds: int | None = None
    """Number of seeds of each agent; by default 3."""
    first_seed: int | None = None
    """Lowest seed, which the others follow; by default 0. Presets tell on which seeds they were chosen: take others."""
    until_decided: bool = False
    """Add seeds in groups until it is decided for each pair of agents on each environment which one is better, or
    max-seeds are reached; instead of --seeds."""
    alpha: float | None = None
    """With --until-decided, the probability of calling any two equal agents different, over all looks, pairs and
    environments; by default 0.05."""
    max_seeds: int | None = None
    """With --until-decided, the most seeds of an agent on an environment; by default 40."""
    group_size: int | None = None
    """With --until-decided, how many seeds are added at a time; by default 5."""
    total_steps: int | None = None
    """Budget of each run in environment steps; by default the preset's, or that of rl-lab train."""
    workers: int = 1
    """Runs at a time, each in its own process."""
    batched: bool = False
    """Let all seeds of an agent learn together in one process: tabular agents in a simulation of the environment's
    model (it sets their field simulated), each run as it would be alone; dqn, ppo and a2c as one program, each run as
    it would be alone within rounding."""
    diagnose: bool = False
    """Say of one run of each agent on each environment why its policy falls short, as rl-lab diagnose does, and show it
    on the page."""
    engine: Literal["local", "ray"] = "local"
    """What carries out the runs: this machine, or a Ray cluster (that of RAY_ADDRESS, or one started here)."""
    join: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Runs to show that the study doesn't carry out; may be repeated. NAME=PATH: run directories, a folder with
    monitor.csv or evaluations.npz of SB3, or a CSV file with the columns agent, env_id, seed, return and env_steps;
    NAME@ENV_ID=PATH where they don't say what was played; zoo:AGENT: what rl-baselines3-zoo publishes."""
    out: str = "runs/comparison"
    """Folder of the study. A second call with the same folder runs only what is missing; it may add seeds, agents or
    environments, and more steps for agents none of whose schedules depends on the budget."""
    keep_horizon: bool = False
    """Where the study in --out gets more steps, compare agents whose schedules depend on the budget twice: with the
    former budget, and as variants NAME@STEPS with the larger one, whose schedules keep the former."""
    preset: str | None = None
    """Preset for every agent that has one of this name; {env_id} in it stands for the environment's id."""
    config: str | None = None
    """YAML or JSON file of fields for all agents; its agent, env_id, seed and run_dir are left out."""
    study: str | None = None
    """YAML file of a whole study, such as scripts/studies/classic.yaml; other options take precedence over it."""
    set: Annotated[tuple[tuple[str, ...], ...], tyro.conf.UseAppendAction] = ()
    """Fields as name=value for all agents, or as agent:name=value for one; may be repeated."""
    wandb: Literal["offline", "online", "disabled"] | None = None
    """Weights & Biases; by default what its own variables and settings say, else online if there is an API key,
    else offline."""
    wandb_project: str | None = None
    """Project of the W&B runs; by default WANDB_PROJECT, else the project in W&B's settings, else rl_lab."""
    wandb_entity: str | None = None
    """User or team of the W&B runs; by default WANDB_ENTITY, else W&B's own default."""
    wandb_group: str | None = None
    """Name under which W&B groups the runs; by default the study's folder and the environment."""
    wandb_tags: tuple[str, ...] | None = None
    """Tags of the W&B runs; by default WANDB_TAGS, split at commas."""
    wandb_notes: str | None = None
    """Notes of the W&B runs; by default WANDB_NOTES."""
    wandb_upload: tuple[Literal["videos", "pictures", "model", "code", "system"], ...] | None = None
    """What the W&B runs get beside rows, config and summary; by default videos."""


def compare(argv: Sequence[str]) -> int:
    """Compare agents and write a page; return the exit code.

    Raises:
        UsageError: a wrong option, name or value, or a folder that holds another study.
    """
    from rl_lab.studies.compare import compare_study, with_batches
    from rl_lab.studies.engines.engine import EngineFault
    from rl_lab.studies.live import make_board
    from rl_lab.studies.running import Stopped

    options: CompareOptions = parse(CompareOptions, argv, program="rl-lab compare", about=ABOUT)
    try:
        with make_board() as board:
            study = study_of(options)
            found = compare_study(
                with_batches(study, board.tell) if options.batched else study,
                options.out,
                workers=options.workers,
                tell=board.tell,
                signals=True,
                board=board,
                engine=options.engine,
                join=options.join,
                batched=options.batched,
                diagnose=options.diagnose,
            )
    except EngineFault as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Stopped as stopped:
        print(f"{stopped}; the same command continues")
        return STOPPED
    for verdict in found.verdicts:
        print(verdict)
    print(f"comparison page: {found.page}")
    for name, cause in found.failures.items():
        print(f"failed: {name}: {cause}", file=sys.stderr)
    return 1 if found.failures else 0


def _require_once(words: Sequence[str]) -> None:
    """Check that no field is given twice.

    Raises:
        UsageError: one is.
    """
    given = Counter(word.partition("=")[0] for word in words)
    if twice := [name for name, count in given.items() if count > 1]:
        raise UsageError(f"--set gives {twice[0]!r} {given[twice[0]]} times (allowed: once)")


def study_of(options: CompareOptions) -> Study:
    """Return the study that the options describe.

    Raises:
        UsageError: a file, field or preset that isn't there, or a wrong value.
    """
    from rl_lab.studies.compare import plan_of
    from rl_lab.studies.fields import OWN
    from rl_lab.studies.horizons import keep_horizons
    from rl_lab.studies.study import Study
    from rl_lab.studies.study_file import seeds_of

    numbers = {name: getattr(options, name) for name in ("alpha", "max_seeds", "group_size")}
    plan = plan_of(options.until_decided, **numbers)
    given = read_fields(options.config) if options.config else {}
    shared = {name: value for name, value in given.items() if name not in ("agent", *OWN)}
    single: dict[str, dict[str, Any]] = {}
    words = [word for given in options.set for word in given]
    _require_once(words)
    for word in words:
        agent, colon, pair = word.partition(":")
        if colon and "=" not in agent:  # Study refuses an agent that isn't compared
            single.setdefault(agent, {}).update(parse_pairs([pair]))
        else:
            shared |= parse_pairs([word])
    direct = ("total_steps", *(f.name for f in dc.fields(options) if f.name.startswith("wandb")))
    shared |= {k: getattr(options, k) for k in direct if getattr(options, k) is not None}
    if options.study is not None:
        study = _study_of_file(options, shared, single, plan)
    else:
        for name in ("env_id", "agents"):
            if not getattr(options, name):
                raise UsageError(
                    f"--{name.replace('_', '-')} is missing (allowed: one or more names, or --study FILE)"
                )
        study = Study(
            options.env_id,
            options.agents,
            seeds_of(options.seeds, plan),
            shared,
            single,
            options.preset,
            until_decided=plan,
            first_seed=options.first_seed or 0,
        )
    return keep_horizons(study, Path(options.out)) if options.keep_horizon else study


def _study_of_file(
    options: CompareOptions, shared: dict[str, Any], single: dict[str, dict[str, Any]], plan: Plan | None
) -> Study:
    """Return the study of a file, with what other options say in the place of what it says; tell how long it takes.

    Raises:
        UsageError: the file can't be read, or a name or value is wrong.
    """
    from rl_lab.studies.study_file import read_study_file

    assert options.study is not None
    file = read_study_file(options.study).given(
        shared, single, env_ids=options.env_id, agents=options.agents, preset=options.preset
    )
    print(f"{file.about} Expected time: {file.expected_time}.", flush=True)
    return file.study(options.seeds, options.first_seed, plan)
