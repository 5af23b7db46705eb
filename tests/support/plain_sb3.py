"""What SB3 learns on its own, to compare its parameters with those of its runs in the lab."""

from __future__ import annotations

from typing import Any

import torch

from rl_lab.agents.sb3 import make_vec_env
from rl_lab.training.setup import configure, problem_of

QUIET = {"wandb": "disabled", "video_episodes": 0, "device": "cpu"}


def plain(
    agent: str, num_envs: int, seed: int, algorithm: Any, total_steps: int, policy: str = "MlpPolicy",
    around=lambda envs: envs, **arguments: Any,
):  # fmt: skip
    """Let SB3 learn on the same environments; `around` puts a wrapper of SB3's around their vector."""
    learner, config = configure(agent, {"env_id": "CartPole-v1", "num_envs": num_envs, "seed": seed} | QUIET)
    envs = around(make_vec_env(problem_of(config, learner), []))
    return algorithm(policy, envs, seed=seed, device="cpu", **arguments).learn(total_steps)


def parameters_of(policy) -> dict[str, torch.Tensor]:
    """The parameters of a policy of SB3's in the lab."""
    return policy._policy.state_dict()


def same_parameters(one, other) -> bool:
    """Whether two sets of parameters are equal to the bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
