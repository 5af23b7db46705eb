"""Acting and learning on an Atari game beside SB3, with the zoo's hyperparameters, and the bytes of its replay."""

from __future__ import annotations

import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from rl_lab.benchmarks.replay import STACKS, size
from rl_lab.benchmarks.training import QUIET, sb3_arguments, shares_of
from rl_lab.benchmarks.work import Work
from rl_lab.training.launch import learn
from rl_lab.training.registry import preset_fields

GAME = "Pong"
NUM_ENVS = 8
CAPACITY = 10_000  # of both replays
# What AtariWrapper and CnnPolicy do on the other side.
IN_WRAPPER = ("reward_clip",)
IN_POLICY = ("encoder", "hidden", "activation", "share_encoder")


def atari(
    acting_steps: int = 2_000, dqn_steps: int = 640, ppo_steps: int = 1_024
) -> list[Work | dict[str, Any]]:
    """Return acting alone, DQN and PPO, each on eight games in one process, and the bytes of a transition.

    Each agent is timed with eager updates and with compiled ones, which long runs use.
    """
    dqn = preset_fields("dqn", "zoo:atari") | {
        "num_envs": NUM_ENVS, "replay_capacity": CAPACITY, "train_period_env_steps": 4 * NUM_ENVS,
    }  # fmt: skip
    acting = dqn | {
        "total_steps": acting_steps, "gradient_steps_per_update": 0, "learning_starts_env_steps": 0,
        "epsilon_initial": 0.01,
    }  # fmt: skip
    learning = dqn | {
        "total_steps": dqn_steps, "learning_starts_env_steps": 100, "gradient_steps_per_update": NUM_ENVS,
    }  # fmt: skip
    ppo = preset_fields("ppo", "zoo:atari") | {"total_steps": ppo_steps, "num_envs": NUM_ENVS}
    return [
        beside_sb3("acting and storing", "dqn", acting),
        *(
            beside_sb3(f"{agent}, compile {choice!r}", agent, fields | {"compile": choice})
            for agent, fields in (("dqn", learning), ("ppo", ppo))
            for choice in ("no", "yes")
        ),
        size("Atari", STACKS, stack=4, actions=18),
    ]


def beside_sb3(name: str, agent: str, fields: dict[str, Any]) -> Work:
    """Return a run of an agent with these fields beside plain SB3's with the corresponding arguments."""
    shares: dict[str, float] = {}  # of the last turn
    said = {name: value for name, value in fields.items() if name not in (*IN_WRAPPER, *IN_POLICY, "compile")}
    arguments = sb3_arguments(
        said | {"hidden": ()}, f"sb3-{agent}"
    )  # behind the convolutions there are 512 units
    return Work(
        f"{name}, {GAME}, zoo hyperparameters, N = {NUM_ENVS}, {fields['total_steps']} decisions",
        "sb3",
        partial(lab_seconds, agent, shares, **fields),
        partial(plain_sb3_seconds, agent, fields["total_steps"], **arguments),
        more=shares.copy,
    )


def lab_seconds(agent: str, shares: dict[str, float], **fields: Any) -> float:
    """Train in a run directory and return the seconds of training, but for those of compiling.

    Args:
        shares: is filled with how they were spent.
    """
    with tempfile.TemporaryDirectory() as folder:
        summary = learn(agent, f"ALE/{GAME}-v5", run_dir=f"{folder}/run", **QUIET, **fields).summary
        assert summary is not None
        seconds = summary["train_seconds"] - summary["compile_seconds"]
        shares |= shares_of(Path(folder) / "run", seconds) | {
            "decisions_per_second": fields["total_steps"] / seconds
        }
    return seconds


def plain_sb3_seconds(agent: str, total_steps: int, **arguments: Any) -> float:
    """Train SB3's agent as its own users do and return the seconds of learn()."""
    import stable_baselines3
    from stable_baselines3.common.env_util import make_atari_env
    from stable_baselines3.common.vec_env import VecFrameStack

    envs = VecFrameStack(make_atari_env(f"{GAME}NoFrameskip-v4", NUM_ENVS, seed=0), 4)
    algorithm = {"dqn": stable_baselines3.DQN, "ppo": stable_baselines3.PPO}[agent]
    model = algorithm("CnnPolicy", envs, seed=0, device="cpu", **arguments)
    begun = time.perf_counter()
    model.learn(total_steps)
    seconds = time.perf_counter() - begun
    envs.close()
    return seconds
