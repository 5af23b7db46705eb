"""What a run is asked to do: the fields that all agents share, and how fields are read from files and words."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import yaml

from rl_lab.checks import (
    above,
    at_least,
    at_most,
    finite,
    flags,
    one_of,
    plain_fields,
    require_kinds,
    shown,
    storable,
    unknown_name,
    within,
)
from rl_lab.runs.migrations import migrate_config
from rl_lab.runs.scrubbing import supplied
from rl_lab.runs.wandb_settings import requested_again
from rl_lab.storage.yaml_text import read_yaml_file
from rl_lab.types import UsageError

TAG_CHARACTERS = 64  # at most, of a tag in W&B
LISTING = "rl-lab train --agent NAME --help-all"  # of all fields
EPISODE_STEPS = 1_000  # that an evaluation allows for each episode of an environment without a time limit


@dataclass(frozen=True)
class RunConfig:
    """The fields of a run, whatever its agent.

    Raises:
        UsageError: a value that isn't allowed, or that does nothing beside the others.
    """

    # The boxes of a command's help, and what its short form shows; `rl_lab.cli.groups` reads both.
    GROUPS: ClassVar[dict[str, tuple[str, ...]]] = {
        "run": ("seed", "device", "threads"),
        "environment": (
            "env_id", "env_kwargs", "wrappers", "num_envs", "vector", "env_timeout_seconds", "preprocess",
            "life_loss_terminates",
        ),
        "budget": ("total_steps", "horizon_steps", "stop_at_return", "stop_after_evals", "stop_min_delta"),
        "evaluation": (
            "eval_episodes", "eval_every_steps", "eval_envs", "eval_gamma", "eval_cvar_level", "eval_max_steps",
            "eval_total_steps", "final_policy", "selection_episodes",
        ),
        "files": (
            "run_dir", "init_from", "dataset", "log_every_steps", "checkpoint_every_steps", "keep_checkpoints",
            "keep_best", "video_episodes", "video_every_steps", "pictures", "stall_seconds", "wandb",
        ),
        "Weights & Biases": (
            "wandb_project", "wandb_entity", "wandb_name", "group", "wandb_job_type", "wandb_tags", "wandb_notes",
            "wandb_upload",
        ),
    }  # fmt: skip
    # Other names of fields, on the command line and in files.
    ALIASES: ClassVar[dict[str, str]] = {"wandb_group": "group"}
    COMMON: ClassVar[tuple[str, ...]] = (
        "env_id", "env_kwargs", "total_steps", "num_envs", "seed", "device", "eval_episodes", "run_dir", "wandb",
    )  # fmt: skip

    env_id: str
    """Gymnasium id, namespace/id of an installed package, or module:id."""
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments of the environment, as name=value."""
    wrappers: tuple[str, ...] = ()
    """Wrappers around the environment, each module:Class, from the inside out, beneath preprocess."""
    preprocess: Literal["auto", "none", "atari", "nature", "dopamine", "machado", "v5"] = "auto"
    """What is made of Atari games: 4 grey 84x84 pictures of every 4th frame, by Gymnasium's wrappers (atari) or under a
    protocol, whose fields env_kwargs may change; auto: atari for ale_py's games, none for all others."""
    life_loss_terminates: bool = False
    """Zero the bootstrap when a life is lost; the episode and its return go on."""
    total_steps: int = 50_000
    """Budget in environment steps (agent decisions, summed over the vector)."""
    horizon_steps: int | None = None
    """Environment steps over which schedules are spread that depend on the budget, and after which they stay as they
    are; by default the budget."""
    num_envs: int = 1
    """Environments stepped together."""
    vector: Literal["sync", "async", "own"] = "sync"
    """How several environments run: in this process (sync), one in each (async), or as a vector of their own (own)."""
    env_timeout_seconds: float = 60.0
    """The longest that a step or reset may take in a process of its own; the run ends with an error then."""
    seed: int = 0
    """The seed that every random number of the run is derived from."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where networks are computed; auto: CUDA if available. Small networks are often faster on the CPU."""
    threads: int = 1
    """Threads of numpy and torch; more than one pays for large networks only."""
    run_dir: str | None = None
    """Folder of the run; by default runs/<env>-<agent>-seed<seed>-<time>."""
    eval_episodes: int = 20
    """Greedy episodes played in each evaluation; 0 for none."""
    eval_every_steps: int | None = None
    """Environment steps between evaluations; by default a tenth of the budget."""
    eval_envs: int = 4
    """Environments that an evaluation plays in at once; the episodes' seeds don't depend on it."""
    eval_gamma: float | None = None
    """Discount of optimal_return and regret; by default the agent's own."""
    eval_cvar_level: float | None = None
    """Share of the evaluation episodes, the worst ones, whose mean return is eval_return_cvar; None: no such figure."""
    eval_max_steps: int = 10_000
    """Steps after which an evaluation episode is cut off and marked as capped."""
    eval_total_steps: int | None = None
    """Steps, spent on the episodes of an evaluation in the order of their number, after which it is cut off and the
    open one is marked as capped; by default those between evaluations, or if more, 1000 for each episode (the
    environment's own time limit, if it has one)."""
    final_policy: Literal["last", "best"] = "last"
    """The policy that the run ends with. best: of those that were evaluated, the one with the highest mean return in
    episodes of its own (selection_episodes), which no reported figure uses; of equal ones the newest."""
    selection_episodes: int = 20
    """Greedy episodes by which final_policy best chooses, played with each evaluation."""
    stop_at_return: float | None = None
    """Mean evaluation return at which training stops before its budget is spent; by default never."""
    stop_after_evals: int | None = None
    """Training stops after so many evaluations in a row without a new best mean return; by default never."""
    stop_min_delta: float = 0.0
    """How much a mean return must exceed the best so far to count as a new best; for stop_after_evals."""
    log_every_steps: int | None = None
    """Environment steps between rows of metrics.jsonl; by default a hundredth of the budget."""
    checkpoint_every_steps: int | None = None
    """Environment steps between checkpoints; by default a fifth of the budget."""
    keep_checkpoints: int = 2
    """How many of the newest checkpoints are kept."""
    keep_best: int = 1
    """How many of the checkpoints with the best evaluations are kept too."""
    init_from: str | None = None
    """Run directory whose weights to start from; everything else starts fresh."""
    dataset: str | None = None
    """Recorded transitions to learn from instead of acting: a folder written by rl-lab record, or any Minari HDF5
    dataset. Evaluation still plays the environment. Actions that the data never shows may be overestimated."""
    video_episodes: int = 1
    """Episodes of the final policy filmed into videos/, the first 1000 steps of each; 0 for none."""
    video_every_steps: int | None = None
    """Environment steps between films of the policy as it is then, the first 1000 steps of its first evaluation
    episode, in videos/step-<env_steps>.mp4; by default only the final policy is filmed."""
    pictures: bool = True
    """Draw maps of values, policy and errors into pictures/ if the environment's model is known."""
    stall_seconds: float | None = 60.0
    """Seconds without an environment step, an update or an evaluation's step after which a line says what the run is
    waiting for; None for never."""
    wandb: Literal["offline", "online", "disabled"] | None = None
    """Weights & Biases; by default what its own settings say, else online if there is an API key."""
    group: str | None = None
    """Name under which W&B groups runs, also called wandb_group; by default WANDB_RUN_GROUP, else <env>-<agent>."""
    wandb_project: str | None = None
    """Project of the W&B run; by default WANDB_PROJECT, else the project in W&B's settings, else rl_lab."""
    wandb_entity: str | None = None
    """User or team of the W&B run; by default WANDB_ENTITY, else W&B's own default."""
    wandb_name: str | None = None
    """Name of the W&B run; by default WANDB_NAME, else <agent>-<env>-s<seed>."""
    wandb_job_type: str | None = None
    """Job type of the W&B run; by default WANDB_JOB_TYPE, else the agent."""
    wandb_tags: tuple[str, ...] = ()
    """Tags of the W&B run, each of 1 to 64 characters; by default WANDB_TAGS, split at commas."""
    wandb_notes: str | None = None
    """Notes of the W&B run; by default WANDB_NOTES."""
    wandb_upload: tuple[Literal["videos", "pictures", "model", "code", "system"], ...] = ("videos",)
    """What the W&B run gets beside rows, config and summary. model: the final weights, as an artifact that
    load_policy reads; code: the Python files in the working folder; system: use of CPU, memory and GPU."""

    def __post_init__(self) -> None:
        """Bring paths to text, and check the fields.

        Raises:
            UsageError: one has a value that isn't allowed, or that another one rules out; the message names them.
        """
        for name in ("run_dir", "init_from", "dataset"):
            if isinstance(path := getattr(self, name), os.PathLike):  # config.json holds text
                object.__setattr__(self, name, os.fspath(path))
        object.__setattr__(self, "wrappers", _names("wrappers", self.wrappers))
        at_least(self, 1, "total_steps", "threads", "eval_max_steps", "keep_checkpoints")
        at_least(self, 0, "seed", "eval_episodes", "video_episodes", "keep_best")
        at_most(self, 10**15, "total_steps", "horizon_steps", "eval_total_steps")  # years at any speed
        at_most(self, 65_536, "num_envs", "eval_envs")  # more would fill the memory before the first step
        at_least(self, 1, "num_envs", "eval_envs", "horizon_steps", "eval_total_steps", "video_every_steps")
        at_least(self, 1, "eval_every_steps", "log_every_steps", "checkpoint_every_steps")
        within(self, 0.0, 1.0, "eval_gamma", "eval_cvar_level")
        above(self, 0.0, "eval_cvar_level", "env_timeout_seconds", "stall_seconds")
        at_least(self, 1, "stop_after_evals", "selection_episodes")
        at_least(self, 0, "stop_min_delta")
        finite(self, "stop_at_return", "stop_min_delta")
        flags(self, "life_loss_terminates", "pictures")
        storable("env_kwargs", self.env_kwargs)
        if self.final_policy == "last" and self.selection_episodes != RunConfig.selection_episodes:
            raise UsageError(
                f"selection_episodes {self.selection_episodes} does nothing without final_policy best"
            )
        if self.eval_cvar_level is not None and not self.eval_episodes:
            raise UsageError(f"eval_cvar_level {self.eval_cvar_level} does nothing without eval_episodes")
        for name in ("preprocess", "vector", "device", "wandb", "final_policy"):
            one_of(self, name, _choices(RunConfig, name))
        self._require_what_wandb_takes()
        self._require_what_periods_need()

    def _require_what_wandb_takes(self) -> None:
        """Check the fields of the W&B run, and store those that hold several words as tuples.

        Raises:
            UsageError: W&B wouldn't take a value.
        """
        for name in ("wandb_tags", "wandb_upload"):
            object.__setattr__(self, name, _names(name, getattr(self, name)))
        for word in self.wandb_upload:
            if word not in (allowed := _choices(RunConfig, "wandb_upload")):
                raise UsageError(f"wandb_upload {word!r} is unknown (allowed: {', '.join(allowed)})")
        if wrong := [tag for tag in self.wandb_tags if not 1 <= len(tag) <= TAG_CHARACTERS]:
            raise UsageError(
                f"wandb_tags {wrong[0]!r} has {len(wrong[0])} characters (allowed: 1 to {TAG_CHARACTERS})"
            )
        for name in ("wandb_project", "wandb_entity", "wandb_name", "wandb_job_type", "wandb_notes", "group"):
            if not isinstance(value := getattr(self, name), str | None):
                raise UsageError(f"{name} must be text, got {value!r}")
        if self.wandb_project and (found := sorted(set("/\\#?%:") & set(self.wandb_project))):
            raise UsageError(
                f"wandb_project {self.wandb_project!r} holds {' '.join(found)} (allowed: none of / \\ # ? % :)"
            )

    def _require_what_periods_need(self) -> None:
        """Check that what ends training early, or films it, can take effect.

        Raises:
            UsageError: it can't.
        """
        if self.stop_min_delta and self.stop_after_evals is None:
            raise UsageError(f"stop_min_delta {self.stop_min_delta} does nothing without stop_after_evals")
        last = (self.total_steps - 1) // self.num_envs * self.num_envs  # the run ends after that anyway
        allowed = f"allowed: up to {last}" if last else "allowed: with more total_steps"
        if (films := self.video_every_steps) is not None and films > last:
            raise UsageError(f"video_every_steps {films} leaves no film before the run's end ({allowed})")
        if (name := self.asks_to_stop()) is None:
            return
        needs = f"{name} {getattr(self, name)} needs evaluations while training"
        if not self.eval_episodes:
            raise UsageError(f"{needs}; eval_episodes is 0 (allowed: 1 or more)")
        if (period := self.period("eval_every_steps")) > last:
            raise UsageError(f"{needs}; eval_every_steps {period} leaves none ({allowed})")

    @property
    def env_arguments(self) -> dict[str, Any]:
        """What `make_env` takes beside the id to make the environment that is played.

        Raises:
            UsageError: a secret among env_kwargs was not stored, and no variable supplies it.
        """
        return {
            "env_kwargs": supplied(self.env_kwargs),
            "wrappers": self.wrappers,
            "preprocess": self.preprocess,
        }

    def asks_to_stop(self) -> str | None:
        """Return the name of a field by which evaluations may end training; None if there is none."""
        names = ("stop_at_return", "stop_after_evals")
        return next((name for name in names if getattr(self, name) is not None), None)

    def eval_steps(self, time_limit: int | None) -> int:
        """Return the steps after which an evaluation is cut off.

        Args:
            time_limit: the environment's own, in steps of an episode; None without one.
        """
        of_episode = min(EPISODE_STEPS if time_limit is None else time_limit, self.eval_max_steps)
        usual = max(self.period("eval_every_steps"), self.eval_episodes * of_episode)
        return usual if self.eval_total_steps is None else self.eval_total_steps

    def period(self, name: str) -> int:
        """Return the period called `name` in environment steps; by default it is a share of the budget."""
        shares = {"eval_every_steps": 10, "log_every_steps": 100, "checkpoint_every_steps": 5}
        return getattr(self, name) or max(1, self.total_steps // shares[name])


def _names(field: str, given: Any) -> tuple[str, ...]:
    """Return a field that holds names as a tuple; one name alone may be given as text.

    Raises:
        UsageError: it holds something else.
    """
    names = (given,) if isinstance(given, str) else given
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise UsageError(f"{field} must be names, got {shown(given)}")
    return tuple(names)


@cache
def _choices(owner: type, name: str) -> tuple[str, ...]:
    """Return the strings that a Literal field allows."""
    import typing

    hint = typing.get_type_hints(owner)[name]
    parts = [hint, *typing.get_args(hint)]
    return tuple(v for p in parts for v in typing.get_args(p) if isinstance(v, str))


# Fields from outside ---------------------------------------------------------------------------------


def split_fields(fields: Mapping[str, Any], config: type) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split fields into those of RunConfig and those of an agent's Config, both as configs hold them.

    YAML reads yes and no as booleans: for fields whose values are these words they become words again.

    Args:
        config: the agent's Config, a dataclass.

    Raises:
        UsageError: a name that neither has, or a value of another type than the field's.
    """
    fields = {RunConfig.ALIASES.get(name, name): value for name, value in fields.items()}
    of_run = {f.name for f in dataclasses.fields(RunConfig)}
    of_agent = {f.name: str(f.type) for f in dataclasses.fields(config)}
    for name in fields:
        if name not in of_run | of_agent.keys():
            raise UsageError(unknown_name("field", name, sorted(of_run | of_agent.keys()), LISTING))
    ours = plain_fields(RunConfig, {k: v for k, v in fields.items() if k in of_run})
    own = plain_fields(config, {k: _in_words(of_agent[k], v) for k, v in fields.items() if k in of_agent})
    require_kinds(RunConfig, ours)
    require_kinds(config, own)
    return ours, own


def _in_words(kind: str, value: Any) -> Any:
    """Return "yes" or "no" for a boolean if the field's type names these words, else the value."""
    return (
        ("yes" if value else "no") if isinstance(value, bool) and re.search("[\"']yes[\"']", kind) else value
    )


def read_fields(path: str | Path) -> dict[str, Any]:
    """Return the fields in a YAML or JSON file as one flat dict.

    The config.json of a run serves too; its "agent" is among the fields then.

    Raises:
        UsageError: the file can't be read, or doesn't hold fields.
        FormatTooNew: it is a config.json that a newer version wrote.
    """
    loaded = read_yaml_file(path, "config file")
    if not isinstance(loaded, dict):
        raise UsageError(f"config file {str(path)!r} must hold name: value pairs, got {shown(loaded)}")
    if "config_sha256" in loaded:
        try:
            return _fields_of_run(migrate_config(loaded, Path(path)))
        except (LookupError, TypeError) as error:
            raise UsageError(f"config file {str(path)!r} is damaged: {error}") from error
    return {name: number_or_same(value) for name, value in loaded.items()}


def _fields_of_run(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the agent and the fields in a run's config.json, without those that belong to that run alone."""
    names = {f.name for f in dataclasses.fields(RunConfig)} - {"run_dir", "group", "wandb", "wandb_name"}
    found = {k: v for k, v in body.items() if k in names} | body["fields"] | {"agent": body.get("agent")}
    asked = requested_again(body)
    return found if asked is None else found | {"wandb": asked}


def number_or_same(value: Any) -> Any:
    """Return the number that a text like 1e-3 means: YAML takes only 1.0e-3 for a number."""
    if isinstance(value, str) and re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", value):
        return float(value)
    return value


def parse_pairs(pairs: tuple[str, ...] | list[str]) -> dict[str, Any]:
    """Return {"name": value} for words "name=value"; values are read as YAML.

    Raises:
        UsageError: a word of another form, or a value that YAML can't read.
    """
    out = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise UsageError(f"{shown(pair)} must be of the form name=value")
        try:
            out[name] = number_or_same(yaml.safe_load(text))
            json.dumps(out[name])  # fails for dates, bytes, and what holds itself
        except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
            raise UsageError(f"{shown(pair)} has a value that can't be read") from error
    return out
