"""Generated environments: random spaces, and at random steps what no environment should give."""

from __future__ import annotations

from collections import OrderedDict, defaultdict, namedtuple
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from hypothesis import strategies as st

Pair = namedtuple("Pair", "first second")
ABSENT = object()


class Raises:
    """Stands in a script for an error at this place."""

    def __init__(self, error: Exception):
        self.error = error


@dataclass(frozen=True)
class Script:
    """All that an environment gives in an episode, by step; step 0 is the reset."""

    observation_space: spaces.Space
    action_space: spaces.Space
    observations: tuple[Any, ...]  # T + 1
    rewards: tuple[Any, ...]  # T
    terminated: tuple[Any, ...]  # T
    truncated: tuple[Any, ...]  # T
    infos: tuple[Any, ...]  # T + 1
    masks: tuple[Any, ...]  # T + 1; ABSENT where none is given
    has_method: bool = False  # masks are asked for instead of given in info
    answers: tuple[tuple[int, Any], ...] = ()  # (step, what reset or step returns as a whole)


class Generated(gymnasium.Env):
    """Plays a script, whatever the actions; it ends at its last step at the latest."""

    def __init__(self, script: Script):
        self.script, self.t = script, 0
        self.observation_space, self.action_space = script.observation_space, script.action_space
        if script.has_method:
            self.action_masks = lambda: _give(script.masks[self._at])

    @property
    def _at(self) -> int:
        return min(self.t, len(self.script.rewards))

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return self._answer((_give(self.script.observations[0]), self._info()))

    def step(self, action):
        self.t += 1
        at, script = self._at, self.script
        flags = (script.terminated[at - 1], script.truncated[at - 1])
        flags = flags if self.t <= len(script.rewards) else (False, True)
        obs, reward = _give(script.observations[at]), _give(script.rewards[at - 1])
        return self._answer((obs, reward, *flags, self._info()))

    def _info(self):
        info, mask = self.script.infos[self._at], self.script.masks[self._at]
        if self.script.has_method or mask is ABSENT or not isinstance(info, dict):
            return info
        return {**info, "action_mask": mask}

    def _answer(self, usual):
        return _give(dict(self.script.answers).get(self.t, usual))


def _give(value: Any) -> Any:
    if isinstance(value, Raises):
        raise value.error
    return value


# Odd things -------------------------------------------------------------------------------------------


class Mute:
    """Can't be shown."""

    def __repr__(self):
        raise RuntimeError("no words")

    def _repr_pretty_(self, printer, cycle):  # for Hypothesis's own reports
        printer.text("Mute()")


class Shy:
    """Can't be an array, nor an index."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("requires grad")

    def __index__(self):
        raise ValueError("no index")


class Silent(Exception):
    """An error that can't be shown."""

    def __str__(self):
        raise RuntimeError("no words")

    __repr__ = object.__repr__


RAGGED = [[1.0], [1.0, 2.0]]
THINGS = (
    None, "word", "1", b"", [], (), {}, set(), object(), Mute(), Shy(), RAGGED, [RAGGED, Mute()], 10**30, 10**400,
    -(10**5000), Fraction(1, 2), Decimal("0.5"), 1j, float("nan"), float("inf"), -np.inf, 1e300, -1, 0, 1, 2, 0.5,
    True, np.True_, np.float16(1), np.float32(2.5), np.int8(-1), np.uint64(2**63), np.longdouble("1e4000"),
    np.array(1.0), np.array([1.0]), np.array([[1.0]]), np.array([1, 2]), np.array("1"), np.array(None),
    np.array([1], object), np.datetime64("2020-01-01"), np.zeros(0), np.ma.array([1.0], mask=[True]), slice(None),
    np.array([True]), np.array(0), "a\nb", np.full(99, 1.0), lambda: 1, np.float64,
)  # fmt: skip
INFOS = (
    None, [], (), "info", 3, MappingProxyType({}), Mute(), OrderedDict(a=1), defaultdict(list), {"path": RAGGED},
    {"note": Mute()}, {3: object}, {"life_lost": True}, {"life_lost": np.array([0])}, {"life_lost": 2},
    {"life_lost": None}, {"life_lost": Mute()}, {"final_obs": 1, "final_info": {}, "episode": {"r": 1.0}},
    {"_action_mask": [True]}, {"action_mask": None},
)  # fmt: skip
ANSWERS = (
    None, (), [0, {}], ({}, {}, {}), "four", (0, 1.0, False, {}), [0, 1.0, False, False, {}], Mute(),
    (Mute(),) * 6, Raises(RuntimeError("the arm\nis stuck")), Raises(KeyError()), Raises(Silent()), 7,
)  # fmt: skip
DTYPES = (
    np.float64,
    np.float32,
    np.float16,
    np.int64,
    np.int8,
    np.uint8,
    np.uint64,
    np.bool_,
    ">f4",
    ">i2",
    object,
)
ENTRIES = (np.nan, np.inf, -np.inf, 1e300, -1, 0.5, 300, 2.0**63, 1.0, -(2.0**63))


def _with_entry(value: np.ndarray, entry: float) -> Any:
    """Return the array with another first entry, as floats where the array couldn't hold it."""
    out = value.astype(np.float64)
    out.reshape(-1)[:1] = entry
    back = out.astype(value.dtype) if value.dtype.kind == "f" else out
    return back


def _forms_of(value: Any) -> list[Any]:
    """Return an observation without parts in other shapes and types."""
    given = np.asarray(value)
    return [
        given.tolist(), given[None], given.ravel(), given[..., None], given.reshape(-1)[:-1],
        given.astype(np.complex128), given.astype(str), np.ma.array(given), np.repeat(given[None], 2, 0),
        [given.tolist()], given.T, np.array(given, order="F"), tuple(given.reshape(-1).tolist()),
    ]  # fmt: skip


def all_odd(value: Any) -> list[Any]:
    """Return every odd thing that may come instead of an observation without parts."""
    given = np.asarray(value)
    with np.errstate(all="ignore"):
        entered = [_with_entry(given, entry) for entry in ENTRIES]
        cast = [array.astype(dtype) for array in (given, *entered) for dtype in DTYPES]
    return [*THINGS, *_forms_of(value), *entered, *cast]


@st.composite
def odd_observations(draw: st.DrawFn, space: spaces.Space, value: Any) -> Any:
    """Draw what may come instead of a sound observation: another form of it, or anything."""
    if isinstance(space, spaces.Dict | spaces.Tuple) and draw(st.booleans()):
        return draw(_odd_parts(space, value))
    kind = draw(st.sampled_from(["thing", "dtype", "entry", "form"]))
    if kind == "thing" or isinstance(space, spaces.Dict | spaces.Tuple):
        return draw(st.sampled_from(THINGS))
    with np.errstate(all="ignore"):
        if kind == "dtype":
            return np.asarray(value).astype(draw(st.sampled_from(DTYPES)))
        if kind == "entry":
            return _with_entry(np.asarray(value), draw(st.sampled_from(ENTRIES)))
    return draw(st.sampled_from(_forms_of(value)))


def _odd_parts(space: spaces.Dict | spaces.Tuple, value: Any) -> st.SearchStrategy[Any]:
    """Draw a Dict or Tuple observation with a part too few, too many, odd, or in another container."""
    if isinstance(space, spaces.Tuple):
        wholes = [list(value), (*value, 0), value[:-1], dict(enumerate(value)), iter(value)]
        wholes += [Pair(*value)] if len(value) == 2 else []
        odd = [
            odd_observations(part, x).map(lambda o, i=i: (*value[:i], o, *value[i + 1 :]))
            for i, (part, x) in enumerate(zip(space.spaces, value, strict=True))
        ]
    else:
        wholes = [OrderedDict(value), {**value, "more": 1}, {}, list(value.values()), MappingProxyType(value)]
        odd = [
            odd_observations(part, value[key]).map(lambda o, key=key: {**value, key: o})
            for key, part in space.spaces.items()
        ]
    return st.one_of(st.sampled_from(wholes), *odd)


def odd_masks(size: int) -> st.SearchStrategy[Any]:
    """Draw a mask of `size` entries in some form, or anything."""
    entries = st.lists(st.sampled_from([0, 1]), min_size=size, max_size=size)
    forms = (list, tuple, np.array, np.int8, np.float32, lambda m: np.array(m, bool), lambda m: np.array(m, object),
             lambda m: [m], lambda m: m[:-1], lambda m: [*m, 1], str, lambda m: [0.5, *m[1:]], iter,
             lambda m: [np.nan, *m[1:]], lambda m: [[x] for x in m], lambda m: [0] * len(m), lambda m: [-x for x in m],
             lambda m: dict(enumerate(m)))  # fmt: skip
    formed = st.builds(lambda form, m: form(m), st.sampled_from(forms), entries)
    return st.one_of(formed, st.sampled_from((*THINGS, ABSENT)))


# Sound things -----------------------------------------------------------------------------------------


class Box(spaces.Box):
    """A Box that can be sampled in all dtypes; Gymnasium's fails on all of uint64."""

    def sample(self, mask=None, probability=None):
        if self.dtype.kind not in "iu":
            return super().sample(mask, probability)
        return self.np_random.integers(self.low, self.high, self.shape, self.dtype, endpoint=True)


SHAPES = ((), (1,), (2,), (2, 2), (1, 3, 2))


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    """Draw a Box: floats with or without bounds, or integers."""
    shape = draw(st.sampled_from(SHAPES))
    dtype = draw(
        st.sampled_from(
            [np.float32, np.float64, np.float16, np.uint8, np.int8, np.int16, np.int64, np.uint64]
        )
    )
    if np.issubdtype(dtype, np.floating):
        ends = [(-1, 1), (0, 1), (-np.inf, np.inf), (0, np.inf), (-np.inf, 3), (1000, 1001), (2, 2)]
    else:
        most = np.iinfo(dtype)
        ends = [(most.min, most.max), (0, 1), (0, most.max), (3, 9)]
    low, high = draw(st.sampled_from(ends))
    if draw(st.booleans()) and shape:  # bounds of each entry, which Gymnasium shows in several lines
        low, high = np.full(shape, low, dtype), np.full(shape, high, dtype)
        low.reshape(-1)[-1], high.reshape(-1)[-1] = (0, 5)
    return Box(low, high, shape, dtype)


LEAVES = st.one_of(
    boxes(),
    st.builds(spaces.Discrete, st.integers(1, 5), start=st.sampled_from([0, 0, 0, -2, 7])),
    st.sampled_from([
        spaces.MultiDiscrete([2, 3]), spaces.MultiDiscrete([[2, 3]]), spaces.MultiDiscrete([3], start=[4]),
    ]),
    st.sampled_from([spaces.MultiBinary(3), spaces.MultiBinary([2, 2])]),
)  # fmt: skip
FIXED = st.recursive(
    LEAVES,
    lambda parts: st.one_of(
        st.dictionaries(st.sampled_from("abc"), parts, min_size=1, max_size=2).map(spaces.Dict),
        st.lists(parts, min_size=1, max_size=2).map(spaces.Tuple),
    ),
    max_leaves=3,
)
UNSHAPED = st.sampled_from([
    spaces.Text(3), spaces.Sequence(spaces.Discrete(2)), spaces.Graph(spaces.Discrete(2), None),
    spaces.Dict(a=spaces.Text(3)), spaces.Tuple([spaces.Sequence(spaces.Discrete(2))]),
])  # fmt: skip
PLAIN_SPACES = (
    spaces.Discrete(3), spaces.Discrete(3, start=-1), spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(2),
    spaces.Box(-1, 1, (2,)), spaces.Box(-1, 1, (2, 2), np.float64), spaces.Box(-np.inf, np.inf, (2,), np.float16),
    *(Box(np.iinfo(kind).min, np.iinfo(kind).max, (2,), kind) for kind in (np.uint8, np.int8, np.int64, np.uint64)),
)  # fmt: skip
UNEVEN = spaces.Box(np.array([[-1, 0], [0, -2]], np.float32), np.array([[1, 1], [2, 2]], np.float32))
ACTIONS = (
    spaces.Discrete(3), spaces.Discrete(3), spaces.Discrete(1), spaces.Discrete(2, start=5),
    spaces.MultiDiscrete([2, 3]), spaces.Box(-1, 1, (2,)), UNEVEN,
)  # fmt: skip
REWARDS = (0.0, 1.0, -2.5, np.float32(0.5), 3, True, np.array([1.0]), np.int8(2))


def mask_length(space: spaces.Space) -> int:
    """Return how many entries a mask has; 3 for actions that take none, so that one is refused."""
    return {spaces.Discrete: lambda: int(space.n), spaces.MultiDiscrete: lambda: int(space.nvec.sum())}.get(
        type(space), lambda: 3
    )()


@st.composite
def sound_scripts(
    draw: st.DrawFn, observations: st.SearchStrategy = FIXED, steps: int = 4, actions=ACTIONS
) -> Script:
    """Draw a script that breaks nothing: samples of a space, with masks (in info or by a method) or without."""
    space, action_space = draw(observations), draw(st.sampled_from(actions))
    length = draw(st.integers(1, steps))
    space.seed(draw(st.integers(0, 99)))
    masked = draw(st.booleans()) and not isinstance(action_space, spaces.Box)
    size = mask_length(action_space)
    return Script(
        space,
        action_space,
        tuple(space.sample() for _ in range(length + 1)),
        tuple(draw(st.sampled_from(REWARDS)) for _ in range(length)),
        (False,) * (length - 1) + (draw(st.booleans()),),
        (False,) * (length - 1) + (True,),
        tuple(
            draw(st.sampled_from([{}, {"path": np.arange(i)}, {"life_lost": True}]))
            for i in range(length + 1)
        ),
        tuple([1] * size if masked else ABSENT for _ in range(length + 1)),
        masked and draw(st.booleans()),
    )


@st.composite
def scripts(draw: st.DrawFn) -> Script:
    """Draw a script that is sound but for up to two places, each at a random step."""
    script = draw(sound_scripts())
    for _ in range(draw(st.integers(0, 2))):
        script = draw(_spoiled(script))
    return script


@st.composite
def _spoiled(draw: st.DrawFn, script: Script) -> Script:
    names = [
        "observations",
        "observations",
        "rewards",
        "terminated",
        "truncated",
        "infos",
        "masks",
        "answers",
    ]
    name = draw(st.sampled_from(names))
    fields = dict(vars(script))
    if name == "answers":
        step = draw(st.integers(0, len(script.rewards)))
        return Script(**fields | {"answers": (*script.answers, (step, draw(st.sampled_from(ANSWERS))))})
    values = list(fields[name])
    at = draw(st.integers(0, len(values) - 1))
    if name == "observations":
        values[at] = draw(odd_observations(script.observation_space, script.observation_space.sample()))
    elif name == "masks":
        values[at] = draw(
            st.one_of(odd_masks(mask_length(script.action_space)), st.just(Raises(RuntimeError("no"))))
        )
    else:
        values[at] = draw(st.sampled_from(INFOS if name == "infos" else THINGS))
    return Script(**fields | {name: tuple(values)})
