"""The command lines: fields of dataclasses as options, errors in one line, exit codes."""

from __future__ import annotations

import contextlib
import dataclasses as dc
import io
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, get_origin

import tyro

from rl_lab.config import RunConfig, fields_of_run, parse_pairs, read_fields, split_fields
from rl_lab.registry import agent_names, make_learner, preset_fields
from rl_lab.signals import STOPPED
from rl_lab.types import UsageError


def main(command: Callable[[Sequence[str]], int], argv: Sequence[str] | None = None) -> NoReturn:
    """Run a command; turn what goes wrong into one line on stderr and an exit code."""
    try:
        code = command(sys.argv[1:] if argv is None else argv)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except BrokenPipeError:
        code = 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 130
    except Exception as error:
        import traceback

        cause = " ".join(str(error).split()) or type(error).__name__
        print(f"error: {type(error).__name__}: {cause}\n", file=sys.stderr)
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.exit(code)


def parse(kind: type, argv: Sequence[str], *, default: Any = None, description: str) -> Any:
    """Read a dataclass from the command line.

    Raises:
        UsageError: the parser's complaint as one line.
    """
    arguments: dict[str, Any] = {"description": description, "args": list(argv), "registry": _registry()}
    if default is not None:
        arguments["default"] = default
    if {"-h", "--help"} & set(argv):
        return tyro.cli(kind, **arguments)
    said = io.StringIO()
    with _wide_terminal(), contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            return tyro.cli(kind, **arguments)
        except SystemExit:
            raise UsageError(_one_line(said.getvalue())) from None


@contextlib.contextmanager
def _wide_terminal() -> Iterator[None]:
    """Keep a complaint from being wrapped."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "1000"
    try:
        yield
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before


def _one_line(box: str) -> str:
    """Take the message out of what tyro prints: a title, a rule, the message, a rule, the rest."""
    lines = [line.strip() for line in box.splitlines()]
    rules = [i for i, line in enumerate(lines) if line and not line.strip("-")]
    first, last = (rules[0] + 1, rules[1]) if len(rules) > 1 else (0, len(lines))
    text = " ".join(line for line in lines[first:last] if line)
    text = re.sub(r"^Error parsing (run|agent|command): ", "", text)  # ours, from a check of the config
    hints = [
        line.split()[0] for line in lines[last:] if line[:3].strip("-")[:1].isalpha() and line[:2] == "--"
    ]
    return f"{text} (close: {', '.join(hints)})" if hints and text.startswith("Unrecognized") else text


def _registry() -> tyro.constructors.ConstructorRegistry:
    """Teach tyro to read dicts as name=value words."""
    registry = tyro.constructors.ConstructorRegistry()

    @registry.primitive_rule
    def _pairs(
        info: tyro.constructors.PrimitiveTypeInfo,
    ) -> tyro.constructors.PrimitiveConstructorSpec | None:
        if get_origin(info.type) is not dict:
            return None
        return tyro.constructors.PrimitiveConstructorSpec(
            nargs="*",
            metavar="NAME=VALUE",
            instance_from_str=parse_pairs,
            is_instance=lambda value: isinstance(value, dict),
            str_from_instance=lambda value: [f"{k}={v}" for k, v in value.items()],
        )

    return registry


# train -----------------------------------------------------------------------------------------------


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
    from rl_lab.learning import learn, resume

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
    stored = _stored_run(argv) if "--resume" in argv else {}
    file, preset = _option(argv, "--config"), _option(argv, "--preset")
    if stored and (file or preset):
        raise UsageError(f"--resume goes on as the run was (allowed beside it: no --config {file or ''})")
    loaded = read_fields(file) if file else {}
    agent = _option(argv, "--agent") or stored.get("agent") or loaded.pop("agent", None)
    loaded.pop("agent", None)
    if agent is None and not {"-h", "--help"} & set(argv):
        raise UsageError(f"--agent is missing (allowed: {', '.join(agent_names())})")
    given = fields_of_run(stored) | {"run_dir": stored["run_dir"]} if stored else loaded
    given |= preset_fields(agent, preset) if agent and preset else {}
    parsed = _parse_fields(argv, agent, given)
    fields = {f.name: getattr(part, f.name) for part in (parsed.run, parsed.agent) for f in dc.fields(part)}
    if stored:
        begun = _completed(stored["agent"], given) | {"agent": stored["agent"]}
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


def _stored_run(argv: Sequence[str]) -> dict[str, Any]:
    """Return the config.json of the run to go on with."""
    from rl_lab.learning import read_config

    folder = _option(argv, "--run-dir") or _option(argv, "--run_dir")
    if folder is None:
        raise UsageError("--resume needs --run-dir DIR, the run to go on with")
    return read_config(Path(folder)) | {"run_dir": folder}


def _completed(agent: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return a run's fields, with the defaults of those that did not exist yet when it began."""
    from rl_lab.learning import configure

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


# compare ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CompareOptions:
    """What compare.py takes."""

    env_id: tuple[str, ...]
    """Environments."""
    agents: tuple[str, ...]
    """Learners; SB3's are named sb3-dqn, sb3-ppo, sb3-a2c."""
    seeds: int = 3
    """Seeds of each agent: 0, 1, ..."""
    total_steps: int | None = None
    """Budget of each run in environment steps; by default the preset's, or that of train.py."""
    workers: int = 1
    """Runs at a time, each in a process of its own."""
    out: str = "runs/comparison"
    """Folder of the study; a second call with it does only what is missing, of more seeds or agents too."""
    preset: str | None = None
    """Preset, for every agent that has it."""
    config: str | None = None
    """YAML or JSON file of fields for all agents."""
    set: tuple[str, ...] = ()
    """Fields as name=value for all agents, or as agent:name=value for one."""
    wandb: Literal["offline", "online", "disabled"] | None = None
    """Weights & Biases; by default offline without an API key."""


def compare(argv: Sequence[str]) -> int:
    """Compare agents; the command behind scripts/compare.py."""
    from rl_lab.report import write_report
    from rl_lab.study import Stopped, run_study

    options: CompareOptions = parse(CompareOptions, argv, description="Compare agents on equal terms.")
    if options.workers < 1:
        raise UsageError(f"workers must be at least 1, got {options.workers}")
    try:
        failures = run_study(_study(options), Path(options.out), workers=options.workers, signals=True)
    except Stopped as stopped:
        print(f"{stopped}; the same command goes on")
        return STOPPED
    print(f"comparison page: {write_report(options.out)}")
    for name, cause in failures.items():
        print(f"failed: {name}: {cause}", file=sys.stderr)
    return 1 if failures else 0


def _study(options: CompareOptions) -> Any:
    from rl_lab.study import Study

    shared = read_fields(options.config) if options.config else {}
    shared.pop("agent", None)
    single: dict[str, dict[str, Any]] = {}
    for word in options.set:
        agent, colon, pair = word.partition(":")
        if colon and agent in options.agents:
            single.setdefault(agent, {}).update(parse_pairs([pair]))
        else:
            shared |= parse_pairs([word])
    shared |= {k: getattr(options, k) for k in ("total_steps", "wandb") if getattr(options, k) is not None}
    return Study(options.env_id, options.agents, options.seeds, shared, single, options.preset)


# watch -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class WatchOptions:
    """What watch.py takes."""

    run_dir: tyro.conf.Positional[str]
    """Run directory to watch."""
    human: bool = False
    """Show a live window."""
    video: str | None = None
    """Write an mp4; without any of the three to RUN_DIR/videos/watch.mp4."""
    gif: str | None = None
    """Write a GIF."""
    episodes: int = 1
    """Episodes to watch."""
    seed: int | None = None
    """Seed of the episodes; by default the run's, whose evaluation episodes are shown."""
    best: bool = False
    """Watch the checkpoint with the best evaluation instead of the last."""
    training_episode: int | None = None
    """Show the training episode in this row of episodes.csv (from 0) exactly as it happened."""


def watch(argv: Sequence[str]) -> int:
    """Watch a trained agent; the command behind scripts/watch.py."""
    from rl_lab.learning import load_policy, read_config
    from rl_lab.watching import frames_per_second, live_window, show

    options: WatchOptions = parse(WatchOptions, argv, description="Watch a trained agent.")
    if options.episodes < 1:
        raise UsageError(f"episodes must be at least 1, got {options.episodes}")
    folder = Path(options.run_dir)
    described = read_config(folder)
    if options.training_episode is not None and described.get("dataset"):
        raise UsageError(
            f"--training-episode {options.training_episode}: the run played none, it learned from dataset"
            f" {described['dataset']!r} (allowed: without it)"
        )
    policy = load_policy(folder, best=options.best)
    if options.gif is not None and not options.gif.lower().endswith(".gif"):
        raise UsageError(f"--gif {options.gif!r} must end in .gif")
    files = [Path(f) for f in (options.video, options.gif) if f is not None]
    if not files and not options.human:
        files = [folder / "videos" / "watch.mp4"]
    fps = frames_per_second(described)
    window = [live_window(fps, f"{described['agent']} on {described['env_id']}")] if options.human else []
    count = show(
        policy, described, folder, files, window, options.episodes, options.seed, options.training_episode
    )
    print(f"{count} frames" + "".join(f", {f}" for f in files))
    return 0
