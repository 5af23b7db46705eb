"""The best policy without memory on a quiz, by playing all of them."""

from __future__ import annotations

import itertools

import numpy as np


def best_by_enumeration(env, contents: list) -> float:
    """The best mean return over all deterministic policies from observations to actions, each played."""
    seen: dict[bytes, int] = {}
    for content in contents:
        for obs in play_content(env, content, lambda obs: 0)[1]:
            seen.setdefault(_bytes_of(obs), len(seen))
    best = -np.inf
    for actions in itertools.product(range(env.answers), repeat=len(seen)):
        chosen = [play_content(env, c, lambda o, a=actions: a[seen[_bytes_of(o)]])[0] for c in contents]
        best = max(best, float(np.mean(chosen)))
    return best


def play_content(env, content: dict, choose) -> tuple[float, list]:
    """Play an episode of this content: (return, observations that were acted on)."""
    env.reset(seed=0)
    vars(env).update(content)
    obs, total, over, met = env._see(0), 0.0, False, []
    while not over:
        met.append(obs)
        obs, reward, over, _, _ = env.step(choose(obs))
        total += reward
    return total, met


def _bytes_of(obs) -> bytes:
    return np.asarray(obs).tobytes()
