"""Games to be watched: a session of CartPole with a policy of fixed numbers, and a server of its page."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from functools import partial
from typing import Any

import gymnasium
import numpy as np

from rl_lab.environments.make import make_env
from rl_lab.policies import ValuePolicy
from rl_lab.watching.guard import Guard
from rl_lab.watching.human import HumanPolicy
from rl_lab.watching.lane import Lane
from rl_lab.watching.server import LivePage, listen, serve
from rl_lab.watching.session import Session, agent_of

make_cartpole = partial(make_env, "CartPole-v1", render_mode="rgb_array")


def balancing(sign: float = 1.0) -> ValuePolicy:
    """A memoryless policy that balances for a while; with -1 one that falls at once."""

    def values(obs, state, is_first):
        lean = sign * (obs[:, 2] + 0.5 * obs[:, 3])
        return np.stack([-lean, lean], axis=1).astype(np.float64), state

    return ValuePolicy(values, 2)


def remembering() -> ValuePolicy:
    """A policy with a carry, which counts steps and pushes to the right at every third."""

    def values(obs, state, is_first):
        (count,) = state
        count = np.where(is_first, 0.0, count) + 1.0
        lean = obs[:, 2] + 0.5 * obs[:, 3] + (count % 3 == 0) * 0.05
        return np.stack([-lean, lean], axis=1).astype(np.float64), (count,)

    return ValuePolicy(values, 2, lambda n: (np.zeros(n),))


def explain(policy, obs, state, is_first, mask, decision):
    """The Q-values alone."""
    values = policy.inspect(obs, state, is_first, mask)["q_values"][0].tolist()
    chosen = None if decision is None else int(decision.action[0])
    return {"kind": "q_values", "values": values, "chosen": chosen, "value": max(values)}


class Narrow(gymnasium.Env):
    """A corridor in which no action may be taken twice running: its mask says so, and the action is an error."""

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    observation_space = gymnasium.spaces.Discrete(6)
    action_space = gymnasium.spaces.Discrete(3, start=1)

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at, self.taken = 0, 2
        return 0, self._info()

    def step(self, action):
        assert action != self.taken, f"illegal action {action}"
        self.at, self.taken = self.at + 1, action
        return self.at, 1.0, self.at == 5, False, self._info()

    def render(self):
        return np.full((40, 40, 3), 20 * self.at, np.uint8)

    def _info(self):
        return {"action_mask": (np.arange(1, 4) != self.taken).astype(np.int8)}


make_narrow = partial(Narrow, render_mode="rgb_array")


class FirstLegal(HumanPolicy):
    """A policy for the corridor that takes the first legal action, and likes all as much."""

    def __init__(self):
        super().__init__(Narrow.action_space)

    def inspect(self, obs, state, is_first, mask=None):
        return {"q_values": np.zeros((len(obs), 3))}


def lane_of(policy, make=make_cartpole, **options) -> Lane:
    """A lane of CartPole, or of another environment."""
    return Lane(policy, make, explain, **options)


def session_of(
    *policies, seed: int = 0, kept: int = 600, make=make_cartpole, names=("left", "right"), **options
):
    """A session with these policies, with CartPole's frame rate."""
    agents = [
        agent_of(f"agent {i}", lane_of(p, make, **options), names, kept=kept, env_id="the game")
        for i, p in enumerate(policies)
    ]
    return Session(agents, seed, fps=50.0)


def hello_of(session, past: int = 0) -> dict:
    """What a page is told first; `past` training episodes can be picked."""
    agents = [
        {
            "label": a.label,
            "human": False,
            "reasons": list(a.track.lane.reasons.methods),
            "action_names": list(a.action_names),
            "keys": [[k, list(v)] for k, v in a.keys.items()],
        }
        for a in session.agents
    ]
    return {
        "type": "hello",
        "env_id": "CartPole-v1",
        "agents": agents,
        "past_episodes": past,
        "fps": session.fps,
    }


@contextmanager
def served(session, token=None, past=0, **options):
    """Serve a session's page in a thread; yield the page and its port."""
    listening = listen("127.0.0.1", 0)
    port = listening.getsockname()[1]
    page = LivePage(session, Guard(port, token), hello_of(session, past), **options)
    started, servers, errors = threading.Event(), [], []

    def start(server):
        servers.append(server)
        started.set()

    def run():
        try:
            serve(page, listening, start)
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert started.wait(60)
    page.errors = errors
    page.end = lambda: (setattr(servers[0], "should_exit", True), thread.join(60))
    try:
        yield page, port
    finally:
        page.end()
        listening.close()
        assert not thread.is_alive()
