"""config.json: the description of a run, with everything needed to run it again."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rl_lab.checks import plain_fields, require_kinds, shown
from rl_lab.environments.protocols import resolve_preprocessing
from rl_lab.problem import Problem
from rl_lab.runs.config import RunConfig
from rl_lab.runs.migrations import as_done_before, migrate_config
from rl_lab.runs.scrubbing import without_secrets
from rl_lab.runs.wandb_settings import named_fields, requested_again, resolve_mode
from rl_lab.storage import formats
from rl_lab.storage.errors import FormatTooNew
from rl_lab.storage.files import write_atomically
from rl_lab.storage.state_trees import weights_sha256
from rl_lab.storage.versions import versions
from rl_lab.types import UsageError

CONFIG = "config.json"
REQUIRED = ("agent", "fields", "env_id", "eval_gamma", "config_sha256")
STORED = {"agent": str, "fields": dict, "config_sha256": str, "versions": dict}
# Fields that change no result.
IDLE = (
    "wandb", "wandb_project", "wandb_entity", "wandb_name", "wandb_job_type", "wandb_tags", "wandb_notes",
    "wandb_upload", "group", "env_timeout_seconds", "stall_seconds", "video_every_steps",
)  # fmt: skip
# These don't enter the hash: they change no result, or what a path leads to has a hash of its own.
NOT_HASHED = (
    *IDLE, "run_dir", "init_from", "dataset", "versions", "config_sha256", "wandb_source", "extended_from",
)  # fmt: skip
# A field that was added later is left out of the hash while its value means what older versions did, so that the hashes
# of older runs stay the same. That value is the default if it changes no result, otherwise what `as_done_before` says.
LATER = {
    "wrappers": (), "final_policy": "last", "selection_episodes": 20, "horizon_steps": None, "eval_cvar_level": None,
}  # fmt: skip
HASHED = object()  # of a field that only says which agents a group is for: no value equals it
# The same for fields of agents, for each agent that has the first field of a group: others always had what is in it.
LATER_OF_AGENTS: tuple[dict[str, Any], ...] = (
    {"flush_denormals": False, "normalise_observations": False, "normalise_rewards": False},  # SB3's
    {"image_layer_norm": False},
    {"adam_epsilon": None},
    {"log_std_initial": HASHED, "reward_clip": None},  # policy gradients'
    {
        "distribution": "none", "v_min": -10.0, "v_max": 10.0, "atoms": 51, "quantiles": 200, "fractions": 64,
        "target_fractions": 64, "acting_fractions": 32, "cosines": 64, "munchausen": False, "munchausen_alpha": 0.9,
        "munchausen_temperature": 0.03, "munchausen_lowest": -1.0, "noisy": False, "noisy_sigma": 0.5, "heads": 1,
        "head_share": 1.0, "prior_scale": 0.0,
    },
    {
        "step_size": "linear", "step_size_power": 0.7, "bins": (), "bins_low": (), "bins_high": (),
        "exploration": "epsilon-greedy", "temperature": 1.0, "temperature_final": 0.05, "ucb_width": 1.0,
        "simulated": False,
    },
)  # fmt: skip
HASHED_FORMAT = 1  # so that equal configurations have equal hashes, whatever format they are stored in


@dataclass(frozen=True)
class Extension:
    """What a run was before it got a larger budget."""

    total_steps: int
    env_steps: int | None  # at which it had ended; None if it hadn't


@dataclass(frozen=True)
class RunDescription:
    """What a run is: its agent, its fields with "auto" resolved, and what it depends on."""

    agent: str
    fields: Mapping[str, Any]  # of the agent's own Config
    config: RunConfig  # device, preprocess, eval_gamma, and what W&B gets are resolved
    init_from_weights_sha256: str | None  # of the weights of a warm start
    dataset_sha256: str | None
    versions: Mapping[str, str]
    config_sha256: str = ""
    wandb_source: str | None = None  # what decided config.wandb; None: not stored yet when the run began
    extended_from: tuple[Extension, ...] = ()  # first to last

    @property
    def requested_wandb(self) -> str | None:
        """What the run was asked to do with W&B; None if that was left to W&B's settings."""
        return requested_again({"wandb": self.config.wandb, "wandb_source": self.wandb_source})

    @property
    def eval_gamma(self) -> float:
        """The discount of optimal_return and regret."""
        assert self.config.eval_gamma is not None
        return self.config.eval_gamma

    @property
    def all_fields(self) -> dict[str, Any]:
        """The fields of the run and of the agent, as a command line or `learn` takes them."""
        return dataclasses.asdict(self.config) | dict(self.fields)

    def to_json(self) -> dict[str, Any]:
        """Return the contents of config.json, which hold no secrets."""
        body = dataclasses.asdict(self.config) | {
            "format": formats.FORMAT,
            "agent": self.agent,
            "fields": dict(self.fields),
            "wandb_source": self.wandb_source,
            "init_from_weights_sha256": self.init_from_weights_sha256,
            "dataset_sha256": self.dataset_sha256,
            "versions": dict(self.versions),
            "config_sha256": self.config_sha256,
            "extended_from": [dataclasses.asdict(extension) for extension in self.extended_from],
        }
        return without_secrets(body)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> RunDescription:
        """Return the description that config.json holds in the current format.

        Fields that didn't exist yet when the run began have their defaults.

        Raises:
            UsageError: something is missing, or a field has a value that isn't allowed.
            TypeError: another part is of the wrong type.
        """
        if missing := [name for name in REQUIRED if name not in body]:
            raise UsageError(f"lacks {', '.join(missing)}")
        for name, kind in STORED.items():
            if not isinstance(body.get(name, kind()), kind):
                raise TypeError(f"{name} must be {kind.__name__}, got {shown(body[name])}")
        names = {f.name for f in dataclasses.fields(RunConfig)}
        return cls(
            agent=body["agent"],
            fields=dict(body["fields"]),
            config=_run_config({name: value for name, value in body.items() if name in names}),
            init_from_weights_sha256=body.get("init_from_weights_sha256"),
            dataset_sha256=body.get("dataset_sha256"),
            versions=dict(body.get("versions", {})),
            config_sha256=body["config_sha256"],
            wandb_source=body.get("wandb_source"),
            extended_from=tuple(Extension(**extension) for extension in body.get("extended_from", ())),
        )

    def extended(self, total_steps: int, ended_at: int | None) -> RunDescription:
        """Return the description of this run with a larger budget.

        Periods that were shares of the budget stay as they were.

        Args:
            ended_at: the environment step at which the run ended; None if it hasn't.
        """
        periods = ("eval_every_steps", "log_every_steps", "checkpoint_every_steps")
        kept: dict[str, Any] = {name: self.config.period(name) for name in periods}
        longer = dataclasses.replace(
            self,
            config=dataclasses.replace(self.config, total_steps=total_steps, **kept),
            extended_from=(*self.extended_from, Extension(self.config.total_steps, ended_at)),
        )
        return dataclasses.replace(longer, config_sha256=config_hash(longer))


def _run_config(stored: Mapping[str, Any]) -> RunConfig:
    fields = plain_fields(RunConfig, stored)
    require_kinds(RunConfig, fields)
    return RunConfig(**fields)


def describe(agent: str, agent_config: Any, config: RunConfig, problem: Problem) -> RunDescription:
    """Describe a run that is about to begin.

    Args:
        agent_config: an instance of the agent's Config dataclass, with "auto" resolved.
        config: as it was asked for.
        problem: with the device resolved, and the weights of a warm start and the dataset, if any.
    """
    wandb = resolve_mode(config.wandb)
    named = named_fields(config)
    resolved: dict[str, Any] = named | {
        "device": problem.device,
        "preprocess": resolve_preprocessing(config.env_id, config.preprocess),
        "eval_gamma": eval_gamma_of(config, agent_config),
        "wandb": wandb.mode,
        "group": named["group"] or f"{config.env_id}-{agent}",
    }
    weights = problem.initial_weights
    description = RunDescription(
        agent=agent,
        fields=dataclasses.asdict(agent_config),
        config=dataclasses.replace(config, **resolved),
        init_from_weights_sha256=None if weights is None else weights_sha256(weights),
        dataset_sha256=None if problem.dataset is None else problem.dataset.sha256,
        versions=versions(),
        wandb_source=wandb.source,
    )
    return dataclasses.replace(description, config_sha256=config_hash(description))


def eval_gamma_of(config: RunConfig, agent_config: Any) -> float:
    """Return the discount with which a run is evaluated."""
    return config.eval_gamma if config.eval_gamma is not None else getattr(agent_config, "gamma", 0.99)


def config_hash(description: RunDescription) -> str:
    """Return the SHA-256 of what decides a run's results, in hexadecimal digits."""
    hashed = {k: v for k, v in description.to_json().items() if k not in NOT_HASHED}
    before = as_done_before(hashed, hashed["fields"])
    fields = _without(hashed["fields"], before.pop("fields"))
    for later in LATER_OF_AGENTS:
        if next(iter(later)) in fields:
            fields = _without(fields, later)
    text = json.dumps(
        _without(hashed, LATER | before) | {"format": HASHED_FORMAT, "fields": fields}, sort_keys=True
    )
    return hashlib.sha256(text.encode()).hexdigest()


def _without(fields: Mapping[str, Any], later: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields, but for those that have the same value in `later`."""
    return {
        n: value for n, value in fields.items() if n not in later or _in_json(value) != _in_json(later[n])
    }


def _in_json(value: Any) -> Any:
    """Return a value as it is once it has been stored."""
    return list(value) if isinstance(value, tuple) else value


def write_description(folder: Path, description: RunDescription) -> None:
    """Write config.json into a run directory.

    Raises:
        NotWritten: the file system refused.
    """
    write_atomically(folder / CONFIG, json.dumps(description.to_json(), indent=1).encode())


def upgrade_description(folder: Path) -> None:
    """Rewrite the config.json of a run directory if it has an older format; secrets in it are removed.

    Raises:
        UsageError: it is damaged.
        FormatTooNew: a newer version wrote it.
        NotWritten: the file system refused; the file is as it was.
    """
    description = read_description(folder)
    if json.loads((folder / CONFIG).read_bytes())["format"] < formats.FORMAT:
        write_description(folder, description)


def read_description(folder: Path) -> RunDescription:
    """Read the config.json of a run directory, of any format up to the current one.

    Raises:
        UsageError: there is none, or it is damaged.
        FormatTooNew: a newer version wrote it.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise UsageError(f"{str(folder)!r} holds no run (allowed: a folder with a {CONFIG})")
    try:
        return RunDescription.from_json(migrate_config(json.loads(path.read_bytes()), path))
    except FormatTooNew:
        raise
    except UsageError as error:
        raise UsageError(f"{path} {error}") from error
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f"{path} is damaged: {' '.join(str(error).split())}") from error
