"""From names and fields to a trained policy in a run directory, and back from there."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from rl_lab.agent import Policy
from rl_lab.datasets.dataset import Dataset
from rl_lab.environments.make import make_envs, resolve_preprocessing
from rl_lab.problem import Problem
from rl_lab.runs.config import RunConfig, split_fields
from rl_lab.runs.progress import make_progress
from rl_lab.runs.rows import EPISODES, METRICS, read_rows
from rl_lab.runs.run import Members, Run
from rl_lab.runs.signals import stop_on_signals
from rl_lab.runs.tracking import resolve_mode, start_mirror
from rl_lab.storage.checkpoint import Checkpoints
from rl_lab.storage.files import CheckpointMissing, write_atomically
from rl_lab.storage.locking import exclusive
from rl_lab.storage.state_trees import weights_sha256
from rl_lab.storage.versions import versions
from rl_lab.training.learner import Learner
from rl_lab.training.registry import config_of, make_learner, preset_fields
from rl_lab.types import UsageError

FORMAT = 1
# they change no result; what a path leads to has a hash of its own
NOT_HASHED = ("run_dir", "wandb", "group", "init_from", "dataset", "versions", "config_sha256")


@dataclass(frozen=True)
class Result:
    """What training leaves behind."""

    run_dir: Path
    policy: Policy
    summary: dict[str, Any] | None  # None: stopped by a signal after saving


def learn(
    agent: str,
    env_id: str | None = None,
    *,
    preset: str | None = None,
    progress: bool = False,
    signals: bool = False,
    **fields: Any,
) -> Result:
    """Train an agent by name in a fresh run directory.

    Args:
        preset: named fields of the agent; what is given in `fields` goes before them.
        progress: show a bar, or plain lines without a terminal.
        signals: on SIGINT and SIGTERM save at a step boundary and return without a summary.
        fields: those of RunConfig and of the agent's own Config.

    Raises:
        UsageError: a wrong name or value, or a run directory that holds another run.
    """
    given = (preset_fields(agent, preset) if preset else {}) | fields | ({"env_id": env_id} if env_id else {})
    learner, config = configure(agent, given)
    problem = problem_of(config, learner)
    if config.init_from is not None:
        problem = dataclasses.replace(problem, initial_weights=read_weights(config.init_from))
    require_accepted(learner, problem)
    learner = _resolved(agent, learner, problem)
    folder = _make_folder(config, agent)
    with exclusive(folder):
        _refuse_occupied(folder)
        described = _describe(agent, learner, config, problem)
        write_atomically(folder / "config.json", json.dumps(described, indent=1).encode())
        try:
            return _run(learner, config, described, problem, folder, progress, signals)
        except Exception:
            _clear_if_nothing_came_of_it(folder)
            raise


def resume(run_dir: str | Path, *, progress: bool = False, signals: bool = False) -> Result:
    """Go on with a run that was stopped or killed, from its last whole checkpoint.

    Raises:
        UsageError: no run there, a learner whose runs can't resume, or one that can't run here.
    """
    folder = Path(run_dir)
    described = read_config(folder)
    learner, config = _from_described(described)
    if not learner.resumes:
        raise UsageError(f"agent {described['agent']!r} can't resume exactly: start a new run from zero")
    if (folder / "summary.json").exists():
        summary = json.loads((folder / "summary.json").read_bytes())
        return Result(folder, load_policy(folder), summary)
    with exclusive(folder):
        problem = _warm_again(problem_of(config, learner), config, described, folder)
        _require_same_dataset(problem, described)
        require_accepted(learner, problem)
        return _run(learner, config, described, problem, folder, progress, signals, resuming=True)


def load_policy(run_dir: str | Path, *, best: bool = False) -> Policy:
    """Return the greedy policy that a run directory's last checkpoint holds.

    Args:
        best: take the checkpoint with the best evaluation instead.

    Raises:
        UsageError: there is no run, or nothing was saved yet.
    """
    learner, config = _from_described(read_config(Path(run_dir)))
    weights = read_weights(run_dir, best=best)
    set_threads(config.threads)
    return learner.load(problem_of(config, learner, for_acting=True), weights)


def read_weights(run_dir: str | Path, *, best: bool = False) -> dict[str, Any]:
    """Return the weights of a run directory's last (or best) checkpoint, and nothing else of it.

    Raises:
        UsageError: there is no run, or nothing was saved yet.
    """
    folder = Path(run_dir)
    read_config(folder)
    try:
        _, members = Checkpoints(folder / "checkpoints").load(only=("weights",), best=best)
    except CheckpointMissing as error:
        raise UsageError(f"run directory {str(folder)!r} has no checkpoint yet") from error
    return members["weights"]


def read_config(folder: Path) -> dict[str, Any]:
    """Return a run directory's config.json.

    Raises:
        UsageError: there is none.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise UsageError(f"{str(folder)!r} holds no run (allowed: a folder with a config.json)")
    try:
        described = json.loads(path.read_bytes())
        if described["format"] > FORMAT:
            raise UsageError(f"{path} has format {described['format']} (allowed: up to {FORMAT})")
        missing = {"agent", "fields", "env_id"} - set(described)
        if missing:
            raise UsageError(f"{path} lacks {', '.join(sorted(missing))}")
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"{path} is damaged: {' '.join(str(error).split())}") from error
    return described


def configure(agent: str, fields: Mapping[str, Any]) -> tuple[Learner, RunConfig]:
    """Build learner and run config from fields; a learner that runs on one device says which.

    Raises:
        UsageError: an unknown field, a missing env_id, or a value that isn't allowed.
    """
    of_run, of_agent = split_fields(fields, config_of(agent))
    if "env_id" not in of_run:
        raise UsageError("env_id is missing (allowed: a Gymnasium id, namespace/id or module:id)")
    learner, config = make_learner(agent, **of_agent), RunConfig(**of_run)
    _require_served(agent, learner, config)
    return learner, config


def _require_served(agent: str, learner: Learner, config: RunConfig) -> None:
    """Refuse what is asked of the run and this kind of learner has no way to do."""
    if config.dataset is not None and not getattr(learner, "takes_datasets", False):
        raise UsageError(
            f"agent {agent!r} can't learn from dataset {config.dataset!r}"
            " (allowed: agents that learn off-policy from steps, as dqn and q-learning do)"
        )
    if (name := config.asks_to_stop()) is not None and not getattr(learner, "stops_early", False):
        raise UsageError(
            f"agent {agent!r} isn't evaluated while it learns, so that {name} {getattr(config, name)} can't stop it"
            " (allowed: agents that learn from steps)"
        )


def problem_of(config: RunConfig, learner: Learner, *, for_acting: bool = False) -> Problem:
    """Return the problem that a config describes, with the device resolved; acting makes do with a CPU."""
    make = partial(
        make_envs,
        config.env_id,
        env_kwargs=config.env_kwargs,
        preprocess=config.preprocess,
        life_loss_terminates=config.life_loss_terminates,
    )
    return Problem(
        env_id=config.env_id,
        env_kwargs=config.env_kwargs,
        num_envs=config.num_envs,
        total_steps=config.total_steps,
        seed=config.seed,
        device=_device("auto" if for_acting else config.device),
        make=lambda n: make(n, vector="sync" if n == 1 else config.vector),
        dataset=None if config.dataset is None or for_acting else Dataset(config.dataset),
    )


def require_accepted(learner: Learner, problem: Problem) -> None:
    """Raise a UsageError with the learner's reason if it refuses the problem."""
    if (reason := learner.refuse(problem)) is not None:
        raise UsageError(reason)
    if problem.dataset is not None and (reason := problem.dataset.refuse(problem.spec)) is not None:
        raise UsageError(reason)


def _resolved(agent: str, learner: Learner, problem: Problem) -> Learner:
    """Decide what an agent's config leaves to "auto", so that a resumed run finds it decided."""
    resolve = getattr(learner.config, "resolve", None)
    if resolve is None:
        return learner
    return make_learner(agent, **dataclasses.asdict(resolve(problem)))


def set_threads(threads: int) -> None:
    """Bound the threads of BLAS and torch: two busy processes with two each starve one another."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(threads)
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(threads)


def _device(asked: str) -> str:
    """Resolve "auto": CUDA where there is one; learners without torch run on the CPU."""
    torch = import_module("torch") if asked == "cuda" else sys.modules.get("torch")
    has_cuda = torch is not None and torch.cuda.is_available()
    if asked == "cuda" and not has_cuda:
        raise UsageError("device 'cuda' is not there (allowed: auto, cpu)")
    return ("cuda" if has_cuda else "cpu") if asked == "auto" else asked


def _make_folder(config: RunConfig, agent: str) -> Path:
    """Make the run directory."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    name = f"{config.env_id.replace('/', '_').replace(':', '_')}-{agent}-seed{config.seed}-{stamp}"
    folder = Path(config.run_dir or Path("runs") / name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"run_dir {str(folder)!r} can't be made: {error.strerror}") from error
    return folder


OF_A_RUN = ("config.json", METRICS, EPISODES, "actions", "checkpoints", "summary.json")


def _refuse_occupied(folder: Path) -> None:
    """Refuse a folder that holds a run, or what is left of one."""
    if found := [name for name in OF_A_RUN if (folder / name).exists()]:
        raise UsageError(
            f"run_dir {str(folder)!r} already holds a run ({found[0]}; allowed: an empty folder, or --resume)"
        )


def _clear_if_nothing_came_of_it(folder: Path) -> None:
    """Take back what a run that failed before its first row has written, so that a corrected one may follow."""
    if Checkpoints(folder / "checkpoints").manifests() or read_rows(folder):
        return
    for path in (folder / name for name in OF_A_RUN):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _warm_again(problem: Problem, config: RunConfig, described: dict[str, Any], folder: Path) -> Problem:
    """Read the weights of a warm start once more if the run was killed before it saved them itself.

    Raises:
        UsageError: they are gone, or not those that the run began with.
    """
    if config.init_from is None or Checkpoints(folder / "checkpoints").manifests():
        return problem
    weights = read_weights(config.init_from)
    if weights_sha256(weights) != described["init_from_weights_sha256"]:
        raise UsageError(f"init_from {config.init_from!r} has other weights than the run began with")
    return dataclasses.replace(problem, initial_weights=weights)


def _require_same_dataset(problem: Problem, described: dict[str, Any]) -> None:
    """Refuse to go on with other recorded transitions than the run began with."""
    begun_with = str(described.get("dataset_sha256"))
    if problem.dataset is not None and problem.dataset.sha256 != begun_with:
        raise UsageError(
            f"dataset {str(problem.dataset.path)!r} has SHA-256 {problem.dataset.sha256[:12]}...,"
            f" the run began with {begun_with[:12]}... (allowed: the same)"
        )


def _describe(agent: str, learner: Learner, config: RunConfig, problem: Problem) -> dict[str, Any]:
    """Return config.json: everything needed to run it again, with what "auto" resolved to."""
    gamma = config.eval_gamma if config.eval_gamma is not None else getattr(learner.config, "gamma", 0.99)
    described = dataclasses.asdict(config) | {
        "format": FORMAT,
        "agent": agent,
        "fields": dataclasses.asdict(learner.config),
        "device": problem.device,
        "preprocess": resolve_preprocessing(config.env_id, config.preprocess),
        "eval_gamma": gamma,
        "wandb": resolve_mode(config.wandb),
        "group": config.group or f"{config.env_id}-{agent}",
        "init_from_weights_sha256": _hash_of(problem.initial_weights),
        "dataset_sha256": None if problem.dataset is None else problem.dataset.sha256,
        "versions": versions(),
    }
    hashed = {k: v for k, v in described.items() if k not in NOT_HASHED}
    text = json.dumps(hashed, sort_keys=True)
    return described | {"config_sha256": hashlib.sha256(text.encode()).hexdigest()}


def _hash_of(weights: Mapping[str, Any] | None) -> str | None:
    return None if weights is None else weights_sha256(weights)


def _from_described(described: dict[str, Any]) -> tuple[Learner, RunConfig]:
    names = {f.name for f in dataclasses.fields(RunConfig)}
    return (
        make_learner(described["agent"], **described["fields"]),
        RunConfig(**{k: v for k, v in described.items() if k in names}),
    )


def _restored(checkpoints: Checkpoints) -> Members | None:
    """Return the last whole checkpoint; None if the run was killed before its first."""
    checkpoints.sweep_temporaries()
    try:
        return checkpoints.load()[1]
    except CheckpointMissing:
        return None


def _run(
    learner: Learner,
    config: RunConfig,
    described: dict[str, Any],
    problem: Problem,
    folder: Path,
    progress: bool,
    signals: bool,
    *,
    resuming: bool = False,
) -> Result:
    set_threads(config.threads)
    checkpoints = Checkpoints(folder / "checkpoints", config.keep_checkpoints, config.keep_best)
    restored = _restored(checkpoints) if resuming else None
    at = restored["run"]["at"] if restored else 0
    run = Run(
        folder,
        config,
        described,
        problem,
        checkpoints,
        restored=restored,
        progress=make_progress(config.total_steps, at) if progress else None,
    )
    run.mirror(start_mirror(folder, described["wandb"]))
    try:
        with stop_on_signals(run, enabled=signals):
            policy = learner.learn(problem, run)
    finally:
        run.close()
    return Result(folder, policy, run.summary)
