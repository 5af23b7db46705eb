"""What every learner, every agent and every environment keeps: checks that serve third parties too.

A check raises AssertionError. `test_contracts.py` runs them over all that is registered.
"""

from __future__ import annotations

import ast
import csv
import dataclasses
import inspect
import json
import textwrap
import typing
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils.env_checker import check_env

from rl_lab.agent import Agent, Policy
from rl_lab.environments.masks import mask_of
from rl_lab.environments.vectors import VectorEnv
from rl_lab.mdp.model import extract_model
from rl_lab.problem import Problem
from rl_lab.runs.rows import read_rows
from rl_lab.seeding import EpisodeSeeds
from rl_lab.storage.checkpoint import Checkpoints
from rl_lab.storage.state_trees import weights_sha256
from rl_lab.training.learner import Learner
from rl_lab.training.loop import start, train

SUMMARY_KEYS = {
    "agent", "env_id", "seed", "total_steps", "env_steps", "gradient_steps", "train_seconds",
    "env_steps_per_second", "peak_rss_mb", "eval_returns", "eval_return_mean", "eval_return_iqm",
    "eval_gamma", "optimal_return", "regret", "exact_eval_return", "versions", "config_sha256",
    "weights_sha256",
}  # fmt: skip
EPISODE_COLUMNS = ["env_steps", "env_index", "episode", "seed", "return", "length", "terminated", "truncated"]

# Learners --------------------------------------------------------------------------------------------


def require_documented_config(config: type) -> None:
    """A frozen dataclass whose every field has a docstring beneath it."""
    assert dataclasses.is_dataclass(config)
    assert config.__dataclass_params__.frozen  # type: ignore[attr-defined]
    missing = {f.name for f in dataclasses.fields(config)} - documented_fields(config)
    assert not missing, f"{config.__qualname__}: no docstring beneath {sorted(missing)}"


def documented_fields(config: type) -> set[str]:
    """Return the fields with a docstring beneath them, in the class or in one that it builds on."""
    found: set[str] = set()
    for kind in config.__mro__[:-1]:
        tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
        body = next(n for n in ast.walk(tree) if isinstance(n, ast.ClassDef)).body
        for node, below in pairwise(body):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and _is_text(below):
                found.add(node.target.id)
    return found


def _is_text(node: ast.stmt) -> bool:
    value = node.value if isinstance(node, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str) and len(value.value) > 10


def require_refusals(learner: Learner, problems: list[Problem]) -> list[bool]:
    """Refusals are one line or None; returns which problems are accepted."""
    reasons = [learner.refuse(problem) for problem in problems]
    for reason in reasons:
        assert reason is None or (reason.strip() and "\n" not in reason)
    return [reason is None for reason in reasons]


def require_run_directory(folder: Path) -> None:
    """The files of a finished run, with the keys, columns and order that others rely on."""
    for name in ("config.json", "metrics.jsonl", "episodes.csv", "actions", "checkpoints", "summary.json"):
        assert (folder / name).exists(), f"{name} is missing"
    assert not list(folder.rglob("*.tmp"))
    require_summary(folder)
    require_rows(read_rows(folder))
    require_episodes(folder)


def require_summary(folder: Path) -> None:
    """Every key that others read, and figures that agree with the other files."""
    summary = json.loads((folder / "summary.json").read_bytes())
    config = json.loads((folder / "config.json").read_bytes())
    missing = SUMMARY_KEYS - summary.keys()
    assert not missing, f"summary.json lacks {missing}"
    for name in ("agent", "env_id", "seed", "total_steps", "config_sha256", "eval_gamma"):
        assert summary[name] == config[name], name
    assert len(summary["eval_returns"]) == config["eval_episodes"]
    np.testing.assert_allclose(summary["eval_return_mean"], np.mean(summary["eval_returns"]))
    weights = Checkpoints(folder / "checkpoints").load(only=("weights",))[1]["weights"]
    assert summary["weights_sha256"] == weights_sha256(weights)


def require_rows(rows: list[dict[str, Any]]) -> None:
    """Rows of metrics: env_steps in each, never falling, no nan."""
    assert rows
    steps = [row["env_steps"] for row in rows]
    assert steps == sorted(steps)
    assert all(type(s) is int for s in steps)
    values = [v for row in rows for v in row.values() if isinstance(v, float)]
    assert np.isfinite(values).all()


def require_episodes(folder: Path) -> None:
    """The columns of episodes.csv; numbers count up in each environment, and lengths fit the actions."""
    with (folder / "episodes.csv").open(newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    assert reader.fieldnames == EPISODE_COLUMNS
    for env_index in {row["env_index"] for row in rows}:
        mine = [row for row in rows if row["env_index"] == env_index]
        assert [int(row["episode"]) for row in mine] == list(range(len(mine)))
        assert [int(row["env_steps"]) for row in mine] == sorted(int(row["env_steps"]) for row in mine)
    length = sum(int(row["length"]) for row in rows)
    size = (folder / "actions" / "actions.bin").stat().st_size
    assert size % max(length, 1) == 0
    assert (size > 0) == (length > 0)


def play(policy: Policy, envs: VectorEnv, steps: int, seed: int = 11) -> list[np.ndarray]:
    """Return the actions of a policy over some steps from seeded resets."""
    width, taken = envs.num_envs, []
    obs, info = envs.reset(seed=[seed + i for i in range(width)])
    state, is_first = policy.initial_state(width), np.ones(width, np.bool_)
    for t in range(steps):
        decision = policy.act(obs, state, is_first, mask_of(info))
        taken.append(np.array(decision.action))
        obs, _, terminated, truncated, info = envs.step(decision.action)
        state, is_first = decision.state, terminated | truncated
        if is_first.any():
            seeds = [seed + 100 * t + i for i in range(width)]
            obs, info = envs.reset(seed=seeds, options={"reset_mask": is_first})
    return taken


def require_same_play(one: Policy, other: Policy, make: Callable[[int], VectorEnv], widths=(1, 3)) -> None:
    """Two policies take the same actions, alone and in a vector."""
    for width in widths:
        envs = make(width)
        try:
            np.testing.assert_array_equal(play(one, envs, 60), play(other, envs, 60))
        finally:
            envs.close()


# Agents ----------------------------------------------------------------------------------------------


def addresses(tree: Any) -> list[int]:
    """Return where the arrays of a tree lie in memory."""
    if isinstance(tree, dict):
        return [a for key in sorted(tree) for a in addresses(tree[key])]
    if isinstance(tree, list | tuple):
        return [a for part in tree for a in addresses(part)]
    if hasattr(tree, "data_ptr"):
        return [tree.data_ptr()]
    return [tree.__array_interface__["data"][0]] if isinstance(tree, np.ndarray) else []


def require_state_in_place(
    agent: Agent, fresh: Agent, folder: Path, make: Callable[[int], VectorEnv]
) -> None:
    """A state goes through a checkpoint into a fresh agent, in place, and policies handed out see it."""
    acting = fresh.policy(explore=False)  # made before: it must follow the weights
    before = addresses(fresh.state_dict()["weights"])
    Checkpoints(folder).save(0, {"agent": agent.state_dict()})
    fresh.load_state_dict(Checkpoints(folder).load()[1]["agent"])
    assert addresses(fresh.state_dict()["weights"]) == before
    assert state_hash(fresh, folder / "fresh") == state_hash(agent, folder / "agent")
    assert fresh.gradient_steps == agent.gradient_steps
    require_same_play(acting, agent.policy(explore=False), make)


def state_hash(agent: Agent, folder: Path) -> str:
    """Hash an agent's whole state by way of a checkpoint that writes it anew."""
    path = Checkpoints(folder).save(0, {"agent": agent.state_dict()})
    return path.name


def learn_for(agent: Agent, problem: Problem, steps: int) -> None:
    """Let an agent learn for so many environment steps."""
    envs, seeds = problem.make(problem.num_envs), EpisodeSeeds(problem.seed, problem.num_envs)
    policy = agent.policy(explore=True)
    for _ in train(agent, policy, envs, seeds, steps, start(policy, envs, seeds)):
        pass
    envs.close()


def require_works_from_construction(agent: Agent, make: Callable[[int], VectorEnv]) -> None:
    """Acting, inspecting and figures work before the first step."""
    assert agent.collect_env_steps >= 1
    assert agent.gradient_steps == 0
    assert "weights" in agent.state_dict()
    assert all(isinstance(v, int | float) for v in agent.diagnostics().values())
    envs = make(2)
    try:
        for explore in (False, True):
            assert len(play(agent.policy(explore=explore), envs, 5)) == 5
        obs, info = envs.reset(seed=[0, 1])
        greedy = agent.policy(explore=False)
        state, is_first = greedy.initial_state(2), np.ones(2, np.bool_)
        for values in greedy.inspect(obs, state, is_first, mask_of(info)).values():
            assert len(values) == 2
    finally:
        envs.close()


# Environments ----------------------------------------------------------------------------------------


def require_environment(make: Callable[..., gymnasium.Env]) -> None:
    """The contract of an environment; `make` takes render_mode."""
    env = make(render_mode="rgb_array")
    try:
        check_env(env.unwrapped, skip_render_check=True)
        require_random_play(env, steps=1000, episodes=3)
        require_picture(env)
        require_model_shows_what_is_seen(env)
    finally:
        env.close()
    require_determinism(make(), make())


def require_random_play(env: gymnasium.Env, steps: int, episodes: int) -> None:
    """Random play stays within the spaces, for so many steps and so many episodes."""
    env.action_space.seed(0)
    obs, _ = env.reset(seed=0)
    assert obs in env.observation_space
    taken = ended = 0
    while taken < steps or ended < episodes:
        obs, reward, terminated, truncated, _ = env.step(env.action_space.sample())
        assert obs in env.observation_space
        assert np.isfinite(float(reward))
        assert isinstance(terminated, bool | np.bool_)
        assert isinstance(truncated, bool | np.bool_)
        taken += 1
        if terminated or truncated:
            ended += 1
            obs, _ = env.reset(seed=ended)
            assert obs in env.observation_space
        assert taken < 100 * steps, "no episode ends"


def require_determinism(one: gymnasium.Env, other: gymnasium.Env) -> None:
    """An episode is a function of its seed and its actions, whatever was played before."""
    other.reset(seed=99)
    other.step(other.action_space.sample())
    one.action_space.seed(3)
    for seed in (0, 1, 2**31 - 1):
        seen, again = one.reset(seed=seed)[0], other.reset(seed=seed)[0]
        np.testing.assert_array_equal(seen, again)
        over = False
        while not over:
            action = one.action_space.sample()
            ours, theirs = one.step(action), other.step(action)
            np.testing.assert_array_equal(ours[0], theirs[0])
            assert ours[1:4] == theirs[1:4]
            over = ours[2] or ours[3]
    one.close()
    other.close()


def require_picture(env: gymnasium.Env) -> None:
    """A frame is an RGB picture that shows something."""
    env.reset(seed=0)
    frame = env.render()
    assert isinstance(frame, np.ndarray)
    assert frame.dtype == np.uint8
    assert frame.ndim == 3
    assert frame.shape[2] == 3
    assert frame.min() < frame.max()


def require_model_shows_what_is_seen(env: gymnasium.Env) -> None:
    """Where there is a model, the observations it promises are those that are seen."""
    model = extract_model(env)
    if model is None:
        return
    shown = model.observe(np.arange(model.num_states))
    assert len(shown) == model.num_states
    dtype = env.observation_space.dtype
    assert all(env.observation_space.contains(np.asarray(x).astype(dtype)[()]) for x in shown)
    starts = shown[model.initial > 0]
    for seed in range(5):
        obs = np.asarray(env.reset(seed=seed)[0])
        assert any(np.array_equal(obs, start) for start in starts)


def implements(protocol: type, thing: Any) -> set[str]:
    """Return the names of a protocol that a thing lacks."""
    names = {n for n in vars(protocol) if not n.startswith("_")} | set(typing.get_type_hints(protocol))
    return {name for name in names if not hasattr(thing, name)}
