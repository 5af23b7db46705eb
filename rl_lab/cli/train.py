"""The command that trains one agent."""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from rl_lab.cli.parsing import parse
from rl_lab.runs.config import RunConfig, read_fields, split_fields
from rl_lab.runs.signals import STOPPED
from rl_lab.training.registry import agent_names, make_learner, preset_fields
from rl_lab.types import UsageError

if TYPE_CHECKING:
    from rl_lab.runs.description import RunDescription


@dataclass(frozen=True)
class TrainOptions:
    """What train.py itself takes."""

    agent: str
    """Name of the learner."""
    preset: str | None = None
    """Named fields of the agent; options given beside it go before them."""
    config: str | None = None
    """YAML or JSON file of fields (a run's config.json too); options and preset go before it."""
    resume: bool = False
    """Go on with the run in --run-dir; nothing else is needed."""


@dataclass(frozen=True)
class NoFields:
    """The fields of no agent."""


def train(argv: Sequence[str]) -> int:
    """Train one agent; the command behind scripts/train.py."""
    from rl_lab.training.launch import learn, resume

    options, fields = parse_train(argv)
    if options.resume:
        result = resume(fields["run_dir"], progress=True, signals=True)
    else:
        result = learn(options.agent, progress=True, signals=True, **fields)
    if result.summary is None and not make_learner(options.agent).resumes:
        raise RuntimeError(f"stopped; {options.agent} can't resume exactly, and starts again from zero")
    if result.summary is None:
        print(f"stopped after saving; go on with: --resume --run-dir {result.run_dir}")
        return STOPPED
    print(_told(result.summary))
    print(f"run directory: {result.run_dir}")
    return 0


def _told(summary: dict[str, Any]) -> str:
    """Return the summary as a person reads it."""
    parts = [
        f"{summary['env_steps']} environment steps in {summary['train_seconds']:.1f} s"
        f" ({summary['env_steps_per_second']:.0f} steps/s)"
    ]
    names = {
        "eval_return_mean": "mean return",
        "exact_eval_return": "exact return",
        "optimal_return": "discounted optimum",
        "regret": "regret to it",
    }
    parts += [f"{text} {summary[n]:.6g}" for n, text in names.items() if summary.get(n) is not None]
    parts += ["stopped early"] * (summary.get("stopped_early") is not None)
    return ", ".join(parts)


def parse_train(argv: Sequence[str]) -> tuple[TrainOptions, dict[str, Any]]:
    """Return train.py's own options and all fields of the run and the agent.

    Raises:
        UsageError: an unknown agent, option or value; resuming with other values than the run has.
    """
    stored, folder = _stored_run(argv) if "--resume" in argv else (None, "")
    file, preset = _option(argv, "--config"), _option(argv, "--preset")
    if stored and (file or preset):
        raise UsageError(f"--resume goes on as the run was (allowed beside it: no --config {file or ''})")
    loaded = read_fields(file) if file else {}
    agent = _option(argv, "--agent") or (stored and stored.agent) or loaded.pop("agent", None)
    loaded.pop("agent", None)
    if agent is None and not {"-h", "--help"} & set(argv):
        raise UsageError(f"--agent is missing (allowed: {', '.join(agent_names())})")
    given = stored.all_fields | {"run_dir": folder} if stored else loaded
    given |= preset_fields(agent, preset) if agent and preset else {}
    parsed = _parse_fields(argv, agent, given)
    fields = {f.name: getattr(part, f.name) for part in (parsed.run, parsed.agent) for f in dc.fields(part)}
    if stored:
        begun = _completed(stored.agent, given) | {"agent": stored.agent}
        _require_same(fields | {"agent": parsed.command.agent}, begun)
    return parsed.command, fields


def _parse_fields(argv: Sequence[str], agent: str | None, given: dict[str, Any]) -> Any:
    """Parse options, run and agent as one flat command line, whose defaults are what is given."""
    config = make_learner(agent).Config if agent else NoFields
    of_run, of_agent = split_fields(given, config)
    flat: Any = tyro.conf.OmitArgPrefixes
    parts = [("command", flat[TrainOptions]), ("run", flat[RunConfig]), ("agent", flat[config])]
    default_config = make_learner(agent, **of_agent).config if agent else NoFields()
    kind = dc.make_dataclass("Train", parts)
    default = kind(
        TrainOptions(agent or tyro.MISSING), RunConfig(**({"env_id": tyro.MISSING} | of_run)), default_config
    )
    names = ", ".join(agent_names())
    about = f"Train an agent; with --agent NAME the agent's own fields are listed too. Agents: {names}."
    return parse(kind, argv, default=default, description=about)


def _option(argv: Sequence[str], name: str) -> str | None:
    """Return the value of one option, before the parser exists that it decides on."""
    for i, word in enumerate(argv):
        if word == name:
            return argv[i + 1] if i + 1 < len(argv) else None
        if word.startswith(name + "="):
            return word.partition("=")[2]
    return None


def _stored_run(argv: Sequence[str]) -> tuple[RunDescription, str]:
    """Return the description and the folder of the run to go on with."""
    from rl_lab.runs.description import read_description

    folder = _option(argv, "--run-dir") or _option(argv, "--run_dir")
    if folder is None:
        raise UsageError("--resume needs --run-dir DIR, the run to go on with")
    return read_description(Path(folder)), folder


def _completed(agent: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return a run's fields, with the defaults of those that did not exist yet when it began."""
    from rl_lab.training.setup import configure

    learner, config = configure(agent, given)
    return dc.asdict(config) | dc.asdict(learner.config)


def _require_same(asked: dict[str, Any], stored: dict[str, Any]) -> None:
    """A resumed run goes on as it was: another value would be a quiet lie in its config."""
    for name, value in asked.items():
        was = tuple(stored[name]) if isinstance(stored[name], list) else stored[name]
        if value != was:
            raise UsageError(
                f"{name} {value!r} differs from the run's {was!r} (allowed with --resume: the same)"
            )
