"""Random steps of N environments, and what a replay must remember of them: a plain list."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import strategies as st

from rl_lab.replay import frames
from rl_lab.types import EnvSpec, Step

ACTIONS = 3
STACK = 3
KINDS = ("plain", "dict", "tuple", "stack", "pictures")
WHERE = spaces.Box(0.0, 1e6, (2,), np.float32)  # (environment, count): no two are alike
PICTURE = spaces.Box(0, 255, (2, 1), np.uint8)
SPACES = {
    "plain": WHERE,
    "dict": spaces.Dict({"z": WHERE, "a": spaces.Dict({"n": spaces.Discrete(10_000), "p": PICTURE})}),
    "tuple": spaces.Tuple((PICTURE, spaces.Tuple((WHERE,)), spaces.Discrete(10_000))),
    "stack": spaces.Box(0.0, 1e6, (STACK, 2), np.float32),
    "pictures": spaces.Box(0, 255, (STACK, 3, 1), np.uint8),
}
CARRY = (np.zeros((1, 2), np.float32), np.zeros((1, 1, 3), np.float64))


class World:
    """Every frame is unique; in an episode the count grows by one a step."""

    def __init__(
        self, num_envs: int, seed: int, *, kind: str = "plain", has_mask: bool = False, mean_length: int = 4
    ):
        self.rng, self.num_envs = np.random.default_rng(seed), num_envs
        self.kind, self.has_mask, self.mean_length = kind, has_mask, mean_length
        self.frame_stack = STACK if kind in ("stack", "pictures") else 1
        self.counts = np.zeros((num_envs, STACK), np.int64)  # of the last frames, the newest last
        self.is_first = np.ones(num_envs, np.bool_)
        self.state = self._carry()
        self._open(self.is_first)
        self.obs = self._seen()

    def __repr__(self) -> str:
        return f"World({self.kind}, {self.num_envs} envs, mean_length {self.mean_length})"

    def spec(self) -> EnvSpec:
        return EnvSpec(
            "world", SPACES[self.kind], spaces.Discrete(ACTIONS), self.num_envs, None, self.has_mask,
            frame_stack=self.frame_stack,
        )  # fmt: skip

    def step(self) -> Step:
        rng, n, obs = self.rng, self.num_envs, self.obs
        over = rng.random(n) < 1 / self.mean_length
        terminated = over & (rng.random(n) < 0.5)
        truncated = over & ~terminated
        terminated |= ~over & (rng.random(n) < 0.05)  # a lost life: the episode goes on
        cut = rng.random(n) < 0.05  # the next step opens an episode although this one has no flag
        next_state = self._carry()
        self.counts = np.concatenate((self.counts[:, 1:], self.counts[:, -1:] + 1), axis=1)
        next_obs = self._seen()
        step = Step(
            obs, rng.integers(ACTIONS, size=n), rng.normal(size=n), terminated, truncated,
            next_obs, self.is_first, self.state, next_state, None, self._mask(),
        )  # fmt: skip
        self.state, self.is_first = next_state, over | cut
        self._open(self.is_first)
        # Handed on as the loop does it, or copied as a vector may do it.
        self.obs = self._seen() if self.is_first.any() or rng.random() < 0.5 else next_obs
        return step

    def _open(self, opens):
        """Show frames that were never shown; the older ones of a stack are any, not padding."""
        gaps = self.rng.integers(1, 9, size=self.counts.shape)
        fresh = self.counts[:, -1:] + 10 + gaps.cumsum(axis=1)
        self.counts = np.where(opens[:, None], fresh, self.counts)

    def _seen(self):
        env, count = np.arange(self.num_envs), self.counts[:, -1]
        where = np.stack([env, count], axis=1).astype(np.float32)
        picture = np.stack([count // 256, count % 256], axis=1).astype(np.uint8)[..., None]
        if self.kind == "plain":
            return where
        if self.kind == "dict":
            return {"z": where, "a": {"n": count.copy(), "p": picture}}
        if self.kind == "tuple":
            return picture, (where,), count.copy()
        parts = np.broadcast_to(env[:, None], self.counts.shape), self.counts // 256, self.counts % 256
        if self.kind == "pictures":
            return np.stack(parts, axis=-1).astype(np.uint8)[..., None]
        return np.stack((parts[0], self.counts), axis=-1).astype(np.float32)

    def identify(self, obs):
        """Return (environment, count) of observations [B, ...], int64 [B, 2]."""
        if self.kind == "pictures":
            env, high, low = obs[:, -1, :, 0].astype(np.int64).T
            return np.stack((env, 256 * high + low), axis=1)
        parts = {"dict": lambda: obs["z"], "tuple": lambda: obs[1][0], "stack": lambda: obs[:, -1]}
        return parts.get(self.kind, lambda: obs)().astype(np.int64)

    def _mask(self):
        return self.rng.random((self.num_envs, ACTIONS)) < 0.5 if self.has_mask else None

    def _carry(self):
        return tuple(self.rng.normal(size=(self.num_envs, *part.shape[1:])) for part in CARRY)


worlds = st.builds(
    World,
    num_envs=st.integers(1, 3),
    seed=st.integers(0, 10_000),
    kind=st.sampled_from(KINDS),
    has_mask=st.booleans(),
    mean_length=st.integers(1, 12),
)


class Twin:
    """What a replay holds, as a plain list of whole steps."""

    def __init__(self, capacity: int, world: World):
        self.rows, self.num_envs = max(1, capacity // world.num_envs), world.num_envs
        self.world, self.stack = world, world.frame_stack
        self.steps, self.dropped = [], 0  # dropped: rows that came before
        self.episode_steps = []  # of each row the steps since the episode began, [N]
        self._frames = [[] for _ in range(world.num_envs)]  # the row that each frame was written for
        self.frame_rows = frames.frame_rows(world.spec(), self.rows)

    def add(self, step: Step):
        row = self.dropped + len(self.steps)
        for stream, opens in zip(self._frames, step.is_first, strict=True):
            stream += [("opens", row)] * (self.stack if opens else 0) + [("follows", row)]
            del stream[: -self.frame_rows]
        before = self.episode_steps[-1] if self.episode_steps else np.full(self.num_envs, -1)
        self.episode_steps.append(np.where(step.is_first, 0, before + 1))
        self.steps.append(step)
        while len(self.steps) > self.rows or not self._first_is_whole():
            del self.steps[0], self.episode_steps[0]
            self.dropped += 1

    def _first_is_whole(self) -> bool:
        """Look for all frames of the oldest step's observation, in every environment."""
        row = self.dropped
        for stream, opens in zip(self._frames, self.steps[0].is_first, strict=True):
            if opens and stream.count(("opens", row)) < self.stack:
                return False
            if not opens and ("follows", row - 1) not in stream[self.stack - 1 :]:
                return False
        return True

    def places(self, length: int = 1, period: int = 1, burn_in: int = 0) -> set[tuple[int, int]]:
        """(row, environment) of each first step of a window."""
        every = {(k, i) for k in range(len(self.steps) - length + 1) for i in range(self.num_envs)}
        return {
            (k, i)
            for k, i in every
            if self.episode_steps[k][i] % period == 0
            and (self.episode_steps[k][i] == 0 or len(self.stretch(k, i, length)) > burn_in)
        }

    def find(self, obs) -> list[tuple[int, int]]:
        """Row and environment of each observation [B]; they must be held."""
        known = {
            tuple(key): (k, i)
            for k, step in enumerate(self.steps)
            for i, key in enumerate(self.world.identify(step.obs).tolist())
        }
        return [known[tuple(key)] for key in self.world.identify(obs).tolist()]

    def ends(self, row: int, env: int) -> bool:
        """Say whether a window must stop after this step."""
        step = self.steps[row]
        last = row + 1 == len(self.steps)
        return bool(step.terminated[env] or step.truncated[env] or last or self.steps[row + 1].is_first[env])

    def stretch(self, row: int, env: int, length: int) -> list[Step]:
        """Return the steps from a row until the episode or `length` ends, whatever lives are lost."""
        out = [self.steps[row]]
        while len(out) < length and not self.steps[row + len(out)].is_first[env]:
            out.append(self.steps[row + len(out)])
        return out

    def window(self, row: int, env: int, length: int) -> list[Step]:
        """Return the steps from a row until the episode, what was written or `length` ends."""
        out = [self.steps[row]]
        while len(out) < length and not self.ends(row + len(out) - 1, env):
            out.append(self.steps[row + len(out)])
        return out


def state_of(replay):
    """All arrays of a replay as lists."""
    state = replay.state_dict()
    rings = [*state["columns"].values(), *[ring for leaf in state["frames"] for ring in leaf]]
    return [(ring.array.tolist(), ring.written) for ring in rings] + [
        np.asarray(x).tolist() for x in state["sampler"].values()
    ]


def play(replay, world: World, steps: int) -> None:
    """Let a replay remember some more steps."""
    for _ in range(steps):
        replay.add(world.step())


def filled(replay, world: World, steps: int, capacity: int) -> Twin:
    """Let a fresh replay and its twin remember the same steps."""
    twin = Twin(capacity, world)
    for _ in range(steps):
        step = world.step()
        replay.add(step)
        twin.add(step)
    return twin


@contextmanager
def lean():
    """Leave the frames little slack, so that many short episodes cost transitions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frames, "SMALL_BYTES", 0)
        patch.setattr(frames, "ROOMY_BYTES", 0)
        patch.setattr(frames, "SLACK", 10)
        yield


def item(obs, *at):
    """Return one observation out of a batch."""
    if isinstance(obs, dict):
        return {key: item(part, *at) for key, part in obs.items()}
    if isinstance(obs, tuple):
        return tuple(item(part, *at) for part in obs)
    return obs[at]


def assert_same(one, other):
    """Compare two observations, kinds and dtypes included."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert sorted(one) == sorted(other)
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    else:
        assert np.asarray(one).dtype == np.asarray(other).dtype
        np.testing.assert_array_equal(one, other)
