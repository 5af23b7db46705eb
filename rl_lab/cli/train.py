"""The command that trains one agent."""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, ClassVar

import tyro

from rl_lab.checks import at_least
from rl_lab.cli.groups import Part
from rl_lab.cli.owners import with_owners
from rl_lab.cli.parsing import asks_for_help, parse_parts
from rl_lab.cli.words import plain_words
from rl_lab.runs.config import RunConfig, read_fields, split_fields
from rl_lab.runs.signals import STOPPED
from rl_lab.training.registry import agent_names, config_of, preset_fields, presets_of, with_tuples
from rl_lab.types import UsageError

if TYPE_CHECKING:
    from rl_lab.runs.description import RunDescription

MORE = "--help-all shows every option."


@dataclass(frozen=True)
class TrainOptions:
    """What the command itself takes."""

    GROUPS: ClassVar[dict[str, tuple[str, ...]]] = {
        "run": ("agent", "preset", "config", "resume", "num_seeds")
    }

    COMMON: ClassVar[tuple[str, ...]] = ("agent", "preset", "config", "resume")

    agent: str
    """Name of the agent; rl-lab agents lists them."""
    preset: str | None = None
    """Named set of values for the fields; options override it."""
    config: str | None = None
    """YAML or JSON file of fields, such as a run's config.json; preset and options override it."""
    resume: bool = False
    """Continue the run in --run-dir; a larger budget extends it."""
    num_seeds: int | None = None
    """Train so many runs at once, whose seeds count on from the given one: tabular agents in a compiled simulation;
    dqn, ppo and a2c as one program."""

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            UsageError: one has a value that isn't allowed.
        """
        at_least(self, 1, "num_seeds")
        if self.resume and self.num_seeds is not None:
            raise UsageError(f"num_seeds {self.num_seeds} can't be given with --resume (allowed: one run)")


@dataclass(frozen=True)
class NoFields:
    """Stands for the fields of the agent while none is named."""


def train(argv: Sequence[str]) -> int:
    """Train an agent; return the exit code.

    Raises:
        UsageError: a wrong option, name or value, or a run directory that holds another run.
        CheckpointCorrupt: no checkpoint of the run to resume is whole.
        FormatTooNew: a newer version wrote the run to resume.
        RuntimeError: a signal stopped a run that can't be resumed.
    """
    from rl_lab.training.launch import learn, resume

    options, fields = parse_train(argv)
    if options.resume:
        budget = fields["total_steps"]
        result = resume(fields["run_dir"], total_steps=budget, progress=True, signals=True)
    elif options.num_seeds is not None:
        return _train_seeds(options.agent, options.num_seeds, fields)
    else:
        result = learn(options.agent, progress=True, signals=True, base=fields)
    if result.summary is None and not result.resumes:
        raise RuntimeError(f"stopped; {options.agent} can't resume exactly and has to start again from zero")
    if result.summary is None:
        print(
            f"stopped after saving; continue with: rl-lab train --resume --run-dir={quote(str(result.run_dir))}"
        )
        return STOPPED
    if result.finished_before:
        print(
            f"finished already, nothing to resume: {_told(result.summary)}; run directory: {result.run_dir}"
        )
        return 0
    print(_told(result.summary))
    print(f"run directory: {result.run_dir}")
    return 0


def _train_seeds(agent: str, num_seeds: int, fields: dict[str, Any]) -> int:
    """Train an agent with several seeds; return the exit code."""
    from rl_lab.training.launch import learn

    results = learn(agent, num_seeds=num_seeds, progress=True, signals=True, base=fields)
    for result in results:
        if result.summary is not None:
            print(f"{result.run_dir.name}: {_told(result.summary)}")
    print(f"run directories: {results[-1].run_dir.parent}")
    stopped = [result.run_dir for result in results if result.summary is None]
    missing = num_seeds - len(results)
    for folder in stopped:
        print(
            f"stopped after saving {folder.name}{f', {missing} of {num_seeds} not begun' if missing else ''};"
            f" continue this one with: rl-lab train --resume --run-dir={quote(str(folder))}"
        )
    return STOPPED if stopped else 0


def _told(summary: dict[str, Any]) -> str:
    """Return the summary as one readable line."""
    steps, seconds = summary["env_steps"], f"{summary['train_seconds']:.1f} s"
    frames = f" ({summary['env_frames']} frames)" if "env_frames" in summary else ""
    rate = f"({summary['env_steps_per_second']:.0f} steps/s of training)"
    taken = f"{steps} environment steps{frames} in {seconds} {rate}"
    parts = [taken if steps else f"done in {seconds}"]  # a solver takes no steps
    names = {
        "eval_return_mean": "mean return",
        "exact_eval_return": "exact return",
        "optimal_return": "discounted optimum",
        "regret": "regret to it",
    }
    parts += [f"{text} {summary[n]:.6g}" for n, text in names.items() if summary.get(n) is not None]
    if summary.get("eval_limit") is not None:
        parts.append(f"{summary['eval_capped_episodes']} evaluation episodes cut off")
    parts += ["stopped early"] * (summary.get("stopped_early") is not None)
    return ", ".join(parts)


def parse_train(argv: Sequence[str]) -> tuple[TrainOptions, dict[str, Any]]:
    """Return the command's own options, and all fields of the run and the agent. Builds no learner.

    Raises:
        UsageError: an unknown agent, option or value, or a value that differs from that of the run to resume.
        SystemExit: after printing the help.
    """
    argv = plain_words(argv, TrainOptions)  # --resume=True
    stored, folder = _stored_run(argv) if "--resume" in argv else (None, "")
    file, preset = _option(argv, "--config"), _option(argv, "--preset")
    if stored and (file or preset):
        raise UsageError(
            f"--resume continues the run as it was (allowed beside it: no --config {file or ''})"
        )
    loaded = read_fields(file) if file else {}
    agent = _option(argv, "--agent") or (stored and stored.agent) or loaded.pop("agent", None)
    loaded.pop("agent", None)
    if agent is None and not asks_for_help(argv):
        raise UsageError(f"--agent is missing (allowed: {', '.join(agent_names())})")
    given = stored.all_fields | {"run_dir": folder} if stored else loaded
    given |= preset_fields(agent, preset) if agent and preset else {}
    about = describe(agent) if asks_for_help(argv) else ""
    try:
        parsed = parse_parts(parts_of(agent, given), argv, program="rl-lab train", about=about)
    except UsageError as error:
        raise UsageError(with_owners(str(error), agent)) from None
    options = TrainOptions(**{field.name: parsed.pop(field.name) for field in dc.fields(TrainOptions)})
    if stored:
        begun = _completed(stored.agent, given) | {
            "agent": stored.agent,
            "total_steps": parsed["total_steps"],
        }
        _require_same(parsed | {"agent": options.agent}, begun)
    else:
        from rl_lab.training.setup import require_effect

        require_effect(options.agent, parsed, given)
    return options, parsed


def parts_of(agent: str | None, given: dict[str, Any]) -> list[Part]:
    """Return the fields of the command, the run and the agent, with what is given as their defaults.

    Raises:
        UsageError: an unknown agent, or a given value that isn't allowed.
    """
    config = config_of(agent) if agent else NoFields
    of_run, of_agent = split_fields(given, config)
    return [
        Part(TrainOptions(agent or tyro.MISSING), "run"),
        Part(RunConfig(**({"env_id": tyro.MISSING} | of_run)), "run"),
        Part(config(**with_tuples(of_agent)), agent or ""),
    ]


def describe(agent: str | None) -> str:
    """Return what stands above the options in the help."""
    if agent is None:
        names = ", ".join(agent_names())
        return f"Train an agent, one of: {names}.\n\nWith --agent NAME the help lists its fields too. {MORE}"
    presets = ", ".join(presets_of(agent)) or "none"
    head = f"Train {agent} in a run directory, or continue a run with --resume. {MORE}"
    return f"{head}\n\nPresets of {agent}: {presets}."


def _option(argv: Sequence[str], name: str) -> str | None:
    """Return the value of an option that decides which parser is built, read before there is one; the last counts."""
    found = None
    for i, word in enumerate(argv):
        option, equals, value = word.partition("=")
        if option.replace("_", "-") == name:
            found = value if equals else next(iter(argv[i + 1 :]), None)
    return found


def _stored_run(argv: Sequence[str]) -> tuple[RunDescription, str]:
    """Return the description and the folder of the run to resume.

    Raises:
        UsageError: no folder is named, or it holds no run.
    """
    from rl_lab.runs.description import read_description

    folder = _option(argv, "--run-dir")
    if folder is None:
        raise UsageError("--resume needs --run-dir DIR, the run to continue")
    return read_description(Path(folder)), folder


def _completed(agent: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return a run's fields; those that didn't exist when it began have their defaults."""
    config = config_of(agent)
    of_run, of_agent = split_fields(given, config)
    return dc.asdict(RunConfig(**of_run)) | dc.asdict(config(**with_tuples(of_agent)))


def _require_same(asked: dict[str, Any], stored: dict[str, Any]) -> None:
    """Raise a UsageError if a value differs from the stored one: the run's config would no longer be true."""
    for name, value in asked.items():
        was = tuple(stored[name]) if isinstance(stored[name], list) else stored[name]
        if value != was:
            raise UsageError(
                f"{name} {value!r} differs from the run's {was!r} (allowed with --resume: the same)"
            )
