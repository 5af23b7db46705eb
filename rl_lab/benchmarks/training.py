"""Whole training runs on CartPole, beside those of SB3 and SBX."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rl_lab.benchmarks.work import Work, row
from rl_lab.runs.config import RunConfig
from rl_lab.runs.rows import read_rows
from rl_lab.training.launch import learn
from rl_lab.training.registry import make_learner, preset_fields

QUIET: dict[str, Any] = {"wandb": "disabled", "video_episodes": 0, "eval_episodes": 0, "device": "cpu"}
FLUSHING = "sb3, subnormal numbers flushed"


def lab_seconds(agent: str, shares: dict[str, float] | None = None, **fields: Any) -> float:
    """Train in a run directory and return the seconds of training; `shares` is filled with how they were spent."""
    with tempfile.TemporaryDirectory() as folder:
        summary = learn(agent, "CartPole-v1", run_dir=f"{folder}/run", **QUIET, **fields).summary
        assert summary is not None
        if shares is not None:
            shares |= shares_of(Path(folder) / "run", summary["train_seconds"])
    return summary["train_seconds"]


def shares_of(run_dir: Path, train_seconds: float) -> dict[str, float]:
    """Return the seconds of acting, stepping, storing, sampling and learning, added up over a run's rows."""
    totals: Counter[str] = Counter()
    for metrics in read_rows(run_dir):
        totals.update({k: v for k, v in metrics.items() if k.endswith("_seconds") and k != "train_seconds"})
    totals["update_seconds"] -= totals["sample_seconds"]
    return {"train_seconds": train_seconds} | {name: round(s, 2) for name, s in totals.most_common()}


def plain_sb3_seconds(total_steps: int, **arguments: Any) -> float:
    """Train SB3's DQN as its own users do and return the seconds of learn()."""
    from stable_baselines3 import DQN

    model = DQN("MlpPolicy", "CartPole-v1", seed=0, device="cpu", **arguments)
    begun = time.perf_counter()
    model.learn(total_steps)
    return time.perf_counter() - begun


def plain_sb3_ppo_seconds(total_steps: int, num_envs: int, **arguments: Any) -> float:
    """Train SB3's PPO as its own users do and return the seconds of learn()."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env

    model = PPO("MlpPolicy", make_vec_env("CartPole-v1", num_envs), seed=0, device="cpu", **arguments)
    begun = time.perf_counter()
    model.learn(total_steps)
    return time.perf_counter() - begun


def flushing(seconds: Callable[[], float]) -> float:
    """Return what `seconds` measures where the processor takes subnormal numbers for 0: SB3 at its best."""
    from rl_lab.agents.sb3.denormals import flushed_denormals

    with flushed_denormals(True):
        return seconds()


def both_ways(theirs: Callable[[], float]) -> dict[str, Callable[[], float]]:
    """Return SB3's side as its users run it, and with subnormal numbers flushed, by the name of the peer."""
    return {"sb3": theirs, FLUSHING: partial(flushing, theirs)}


def acting(steps: int = 20_000) -> list[Work]:
    """Return acting and storing without gradient steps: N = 1, MLP 256-256, epsilon 0.1 on both sides."""
    fields: dict[str, Any] = {
        "total_steps": steps,
        "hidden": (256, 256),
        "gradient_steps_per_update": 0,
        "learning_starts_env_steps": 0,
        "epsilon_initial": 0.1,
        "epsilon_final": 0.1,
        "target_period_env_steps": 10_000,
    }
    return [beside_sb3(f"acting and storing, CartPole-v1, N = 1, MLP 256-256, {steps} steps", "dqn", fields)]


def beside_sb3(name: str, agent: str, fields: dict[str, Any]) -> Work:
    """Return a run of an agent with these fields beside plain SB3's DQN with the corresponding arguments."""
    theirs = partial(plain_sb3_seconds, fields["total_steps"], **sb3_arguments(fields))
    return Work(name, "sb3", partial(lab_seconds, agent, **fields), theirs)


def sb3_arguments(fields: dict[str, Any], agent: str = "sb3-dqn") -> dict[str, Any]:
    """Return the arguments of SB3's algorithm that correspond to the lab's fields."""
    of_run = {field.name for field in dataclasses.fields(RunConfig)}
    own = {name: value for name, value in fields.items() if name not in of_run}
    return make_learner(agent, **own).config.arguments(fields.get("num_envs", 1))


def sbx_seconds(total_steps: int, **arguments: Any) -> float:
    """Train SBX's DQN (JAX) and return the seconds of learn()."""
    from sbx import DQN

    known = {k: v for k, v in arguments.items() if k != "max_grad_norm"}  # SBX doesn't clip
    model = DQN("MlpPolicy", "CartPole-v1", seed=0, **known)
    begun = time.perf_counter()
    model.learn(total_steps)
    return time.perf_counter() - begun


# A run in a new process. The first one finds an empty cache of compiled code, the second one finds it filled.
FRESH = """
from rl_lab.benchmarks.training import lab_seconds, preset_fields
from rl_lab.training.devices import set_threads
set_threads(1)
print(lab_seconds("dqn", **preset_fields("dqn", "zoo:CartPole-v1")))
"""
FRESH_COMMAND = [sys.executable, "-P", "-c", FRESH]  # -P: modules in the current folder are never imported


def cold_rows() -> list[dict[str, Any]]:
    """Return rows of the seconds of training in new processes, without and with compiled code on disk."""
    theirs = plain_sb3_seconds(**zoo_arguments())
    rows = []
    with tempfile.TemporaryDirectory() as cache:
        env = os.environ | {"TORCHINDUCTOR_CACHE_DIR": cache}
        for what in ("nothing compiled yet", "new process, compiled before"):
            ours = float(subprocess.check_output(FRESH_COMMAND, text=True, env=env))
            rows.append(row(f"dqn, CartPole-v1, zoo hyperparameters, {what}", "sb3", "s", ours, theirs))
    return rows


def zoo_arguments() -> dict[str, Any]:
    """Return the zoo's hyperparameters for CartPole as arguments of SB3's DQN, including `total_steps`."""
    fields = preset_fields("dqn", "zoo:CartPole-v1")
    return {"total_steps": fields["total_steps"]} | sb3_arguments(fields)


def dqn() -> list[Work | dict[str, Any]]:
    """Return DQN with the zoo's hyperparameters for CartPole, with equally many gradient steps on both sides.

    SB3 is timed both ways: as its users run it, and with subnormal numbers flushed.
    """
    works: list[Work | dict[str, Any]] = []
    for hidden in ((256, 256), (64, 64)):
        fields = preset_fields("dqn", "zoo:CartPole-v1") | {"hidden": hidden}
        steps, arguments = fields["total_steps"], sb3_arguments(fields)
        peers = both_ways(partial(plain_sb3_seconds, steps, **arguments))
        if find_spec("sbx") is not None:  # optional
            peers["sbx"] = partial(sbx_seconds, steps, **arguments)
        name = f"dqn, CartPole-v1, zoo hyperparameters, net {hidden}, {steps} steps"
        shares: dict[str, float] = {}  # of the last turn
        ours = partial(lab_seconds, "dqn", shares, **fields)
        works += [Work(name, peer, ours, theirs, more=shares.copy) for peer, theirs in peers.items()]
    return [*works, *cold_rows()]


def ppo() -> list[Work]:
    """Return PPO with the zoo's hyperparameters for CartPole, N = 8, eager and compiled, beside SB3 both ways."""
    fields = preset_fields("ppo", "zoo:CartPole-v1")
    steps, num_envs = fields["total_steps"], fields["num_envs"]
    theirs = partial(plain_sb3_ppo_seconds, steps, num_envs, **sb3_arguments(fields, "sb3-ppo"))
    works: list[Work] = []
    for compile_ in ("no", "yes"):
        shares: dict[str, float] = {}
        name = f"ppo, CartPole-v1, zoo hyperparameters, N = {num_envs}, {steps} steps, compile {compile_!r}"
        ours = partial(lab_seconds, "ppo", shares, **fields, compile=compile_)
        works += [
            Work(name, peer, ours, side, more=partial(dict, shares))
            for peer, side in both_ways(theirs).items()
        ]
    return works


def sb3(steps: int = 10_000) -> list[Work]:
    """Return SB3's DQN run by the lab beside plain SB3: the cost of the lab's run directory and seeds."""
    fields = preset_fields("sb3-dqn", "zoo:CartPole-v1") | {"total_steps": steps}
    name = f"sb3-dqn through the lab, CartPole-v1, zoo hyperparameters, {steps} steps"
    return [beside_sb3(name, "sb3-dqn", fields)]
