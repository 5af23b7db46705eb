"""Makes environments by name: one, or a vector of them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from importlib.metadata import entry_points
from typing import Any, NamedTuple

import gymnasium
from gymnasium.wrappers import NormalizeObservation, NormalizeReward

from rl_lab.checks import count, shown
from rl_lab.environments.contract import Contract
from rl_lab.environments.form_vector import FormVector
from rl_lab.environments.forms import FEWEST, FormMaker, equals_single_envs, form_maker, make_form
from rl_lab.environments.global_draws import LateDraws, OwnGlobals, draws_globally
from rl_lab.environments.gymnasium_says import first_line, held_warnings
from rl_lab.environments.lake_maps import require_map
from rl_lab.environments.masks import MaskFromObservation
from rl_lab.environments.modules import import_here
from rl_lab.environments.named_wrappers import wrapped
from rl_lab.environments.observed import RAISED, show_error
from rl_lab.environments.protocols import PROTOCOLS, Protocol, protocol_of, resolve_preprocessing
from rl_lab.environments.trial import marked
from rl_lab.environments.vectors import LocalVector, ReadInfo, SingleVector, VectorEnv
from rl_lab.environments.workers import WorkerVector
from rl_lab.environments.wrappers import LifeLoss
from rl_lab.extras import missing
from rl_lab.types import EnvironmentFault, UsageError

VECTORS = ("sync", "async", "own")
# Atari games as they were called before they had a namespace; ale_py registers them still.
FORMER_GAME = re.compile(r"[A-Z]\w*?(NoFrameskip|Deterministic)?-v[04]")


def make_env(
    env_id: str,
    env_kwargs: Mapping[str, Any] | None = None,
    *,
    wrappers: Sequence[str] = (),
    preprocess: str = "auto",
    life_loss_terminates: bool = False,
    render_mode: str | None = None,
) -> gymnasium.Env:
    """Make one environment from a Gymnasium id, "module:id", or an id of an installed `rl_lab.envs` namespace.

    Wrappers, from the inside out: the environment's own; those that are named; `OwnGlobals` if any of these draws
    from global generators, else `LateDraws` around what is neither Gymnasium's, ALE's nor the lab's; for Atari,
    preprocessing (84x84 grey, every 4th frame) and a stack of 4 frames; `MaskFromObservation` where a Dict
    observation holds the mask; `LifeLoss`. A game under a protocol is stacks of pictures already, and takes no wrappers
    beneath them.

    Args:
        env_kwargs: keyword arguments for the environment; under a protocol the fields of `Protocol`.
        wrappers: names of wrappers, "module:Class", from the inside out.
        preprocess: "auto" (Gymnasium's Atari preprocessing for the games of ale_py), "atari", "none", or for games the
            name of one of the `PROTOCOLS`.
        life_loss_terminates: report lost lives in `info`, so that they zero the bootstrap.

    Raises:
        UsageError: an unknown id, wrong arguments, a missing package, or a wrapper with memory across episodes.
        EnvironmentFault: `sys.exit()` is called while it is made.
    """
    _require_arguments(env_id, env_kwargs, wrappers)
    _load_namespace(env_id)
    if (protocol := _protocol(env_id, env_kwargs, wrappers, preprocess)) is not None:
        with _as_usage_errors(env_id, dict(env_kwargs or {})):
            from rl_lab.environments.atari import make_game

            env = marked(make_game(env_id, protocol, render_mode))
        return LifeLoss(env) if life_loss_terminates else env
    kwargs = dict(env_kwargs or {}) | ({"render_mode": render_mode} if render_mode else {})
    is_atari = resolve_preprocessing(env_id, preprocess) == "atari"
    if is_atari:
        kwargs.setdefault("frameskip", 1)  # the preprocessing skips frames itself
        if not wrappers:  # the preprocessing looks at the screen itself, and needs no other picture
            kwargs.setdefault("obs_type", "grayscale")
    with _as_usage_errors(env_id, kwargs), held_warnings():
        require_map(env_id, kwargs)
        kind = _globals_wrapper(env_id, kwargs, wrappers)
        env = gymnasium.make(env_id, disable_env_checker=True, **kwargs)  # the contract checks more, for less
        env = wrapped(marked(env), wrappers)
        require_no_memory_across_episodes(env)
        env = env if kind is None else kind(env)
        env = _atari(env) if is_atari else env
    env = MaskFromObservation(env) if MaskFromObservation.fits(env) else env
    return LifeLoss(env) if life_loss_terminates else env


def _protocol(
    env_id: str, env_kwargs: Mapping[str, Any] | None, wrappers: Sequence[str], preprocess: str
) -> Protocol | None:
    """Return the protocol under which a game is played, or None for another kind of preprocessing.

    Raises:
        UsageError: no game, wrong arguments, or wrappers beneath it.
    """
    if resolve_preprocessing(env_id, preprocess) not in PROTOCOLS:
        return None
    if wrappers:
        raise UsageError(
            f"wrappers {', '.join(wrappers)} go beneath preprocess, and protocol {preprocess!r} has no place for them"
            " (allowed: preprocess atari or none)"
        )
    return protocol_of(preprocess, env_kwargs or {})


# Environments and wrappers that draw from generators of their own alone, by the modules they are in.
SEEDED_MODULES = ("gymnasium.", "rl_lab.envs", "ale_py")
_found: dict[str, bool] = {}  # by id, arguments and wrappers: whether there are draws from a global generator


def _globals_wrapper(
    env_id: str, kwargs: dict[str, Any], wrappers: Sequence[str]
) -> type[OwnGlobals | LateDraws] | None:
    """Return what an environment in its wrappers needs for its draws from global generators; None: there are none.

    This is found out once, on an instance of its own.
    """
    spec = gymnasium.registry.get(env_id.rpartition(":")[2])
    entry_point: Any = getattr(spec, "entry_point", "")
    added = [layer.entry_point for layer in getattr(spec, "additional_wrappers", ())]
    sources = [str(getattr(entry_point, "__module__", entry_point)), *added, *wrappers]
    if all(source.startswith(SEEDED_MODULES) for source in sources):
        return None
    key = f"{env_id} {sorted(kwargs.items())} {list(wrappers)}"
    if key not in _found:
        plain = {k: v for k, v in kwargs.items() if k != "render_mode"}
        env = gymnasium.make(env_id, disable_env_checker=True, **plain)
        try:
            _found[key] = draws_globally(wrapped(marked(env), wrappers))
        finally:
            with suppress(*RAISED):  # which is said of an environment that is played in earnest
                env.close()
    return OwnGlobals if _found[key] else LateDraws


def known_draws() -> dict[str, bool]:
    """Return what has been found out about draws from global generators in this process, for `know_draws`."""
    return dict(_found)


def know_draws(found: dict[str, bool]) -> None:
    """Take over what another process has found out, so that this one need not play for it."""
    _found.update(found)


def _require_arguments(env_id: Any, env_kwargs: Any, wrappers: Any) -> None:
    """Raise UsageError for an id that is no text, arguments without names, and wrappers that are no list of names."""
    if not isinstance(env_id, str):
        raise UsageError(f"environment {shown(env_id)} is no text (allowed: an id, such as CartPole-v1)")
    if env_kwargs is not None and not isinstance(env_kwargs, Mapping):
        raise UsageError(f"env_kwargs {shown(env_kwargs)} is no dict (allowed: values by name)")
    is_list = isinstance(wrappers, Sequence) and not isinstance(wrappers, str)
    if not (is_list and all(isinstance(name, str) for name in wrappers)):
        raise UsageError(
            f"wrappers {shown(wrappers)} is no list of names (allowed: such as ['gymnasium.wrappers:RescaleAction'])"
        )


def _load_namespace(env_id: str) -> None:
    """Import the module that registers an id: the one before the colon, or one that an installed package names.

    Raises:
        UsageError: the module can't be imported.
    """
    module, _, name = env_id.rpartition(":")
    if module:
        _quieten(import_here(module, f"environment {env_id!r}"))
    elif name not in gymnasium.registry:
        former = FORMER_GAME.fullmatch(name)
        namespace = "ALE" if former else name.split("/")[0] if "/" in name else None
        for entry in entry_points(group="rl_lab.envs", name=namespace) if namespace else ():
            try:
                _quieten(entry.load())
            except ImportError as error:
                if former is None or former[1]:  # CartPole-v0 isn't there, whether games are or not
                    raise UsageError(missing(f"environment {env_id!r}", error, entry)) from error
            except SystemExit as error:
                raise UsageError(
                    f"environment {env_id!r}: its package can't be imported: {show_error(error)}"
                ) from error


def _quieten(module: Any) -> None:
    """Keep games from printing a banner each."""
    if module.__name__ == "ale_py":
        module.ALEInterface.setLoggerMode(module.LoggerMode.Error)


@contextmanager
def _as_usage_errors(env_id: str, kwargs: Mapping[str, Any]) -> Iterator[None]:
    """Turn errors about an environment's id, arguments or installation into a UsageError of one line."""
    try:
        yield
    except UsageError:
        raise
    except ModuleNotFoundError as error:
        raise UsageError(f"environment {env_id!r} needs a package that is missing: {error}") from error
    except gymnasium.error.UnregisteredEnv as error:
        raise UsageError(_unknown(env_id)) from error
    except gymnasium.error.DependencyNotInstalled as error:
        raise UsageError(f"environment {env_id!r} needs a package that is missing: {error}") from error
    except (gymnasium.error.Error, TypeError, ValueError, LookupError, AssertionError) as error:
        cause, mode = first_line(error), kwargs.get("render_mode")
        if mode and ("'render_mode'" in cause or (len(kwargs) == 1 and cause.endswith("takes no arguments"))):
            raise UsageError(
                f"environment {env_id!r} can't be drawn: it takes no render_mode {mode!r} ({cause})"
            ) from error
        with_kwargs = f" with {kwargs}" if kwargs else ""
        raise UsageError(f"environment {env_id!r}{with_kwargs}: {cause}") from error
    except SystemExit as error:
        raise EnvironmentFault(f"environment {env_id!r}, while it is made: {show_error(error)}") from error


def _unknown(env_id: str) -> str:
    close = difflib.get_close_matches(env_id.rpartition(":")[2], gymnasium.registry, n=3)
    hint = f"; close: {', '.join(close)}" if close else ""
    return f"unknown environment {env_id!r} (allowed: a Gymnasium id, namespace/id or module:id{hint})"


def require_no_memory_across_episodes(env: gymnasium.Env) -> None:
    """Raise UsageError where an episode would depend on the ones before it, or be part of a game alone.

    That is so where a wrapper normalises, and where it ends an episode with a lost life: SB3's goes on with the game at
    the next reset, whatever seed that has.
    """
    layer = env
    while isinstance(layer, gymnasium.Wrapper):
        if type(layer).__name__ == "EpisodicLifeEnv" or getattr(layer, "terminal_on_life_loss", False):
            raise UsageError(
                f"wrapper {type(layer).__name__} ends episodes when a life is lost: returns wouldn't be those of whole"
                " games (allowed: life_loss_terminates, which only zeroes the bootstrap)"
            )
        if isinstance(layer, NormalizeObservation | NormalizeReward):
            raise UsageError(
                f"wrapper {type(layer).__name__} remembers across episodes: normalise in the agent"
            )
        layer = layer.env


def _atari(env: gymnasium.Env) -> gymnasium.Env:
    """Preprocess as Machado et al. (2018), "Revisiting the Arcade Learning Environment", and stack 4 frames."""
    from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation

    return FrameStackObservation(AtariPreprocessing(env), 4)


def make_envs(
    env_id: str,
    num_envs: int = 1,
    env_kwargs: Mapping[str, Any] | None = None,
    *,
    wrappers: Sequence[str] = (),
    preprocess: str = "auto",
    life_loss_terminates: bool = False,
    vector: str = "sync",
    env_timeout_seconds: float = 60.0,
    render_mode: str | None = None,
) -> VectorEnv:
    """Make a vector of environments. For the other arguments see `make_env`.

    Args:
        vector: "sync" (all in this process), "async" (each in its own) or "own" (a vectorised form of the environment,
            which for games under a protocol is ale_py's, with threads). With "sync", 8 environments or more are played
            in a form that promises to equal single environments; several games under a protocol in ale_py's.
        env_timeout_seconds: the longest that a step or reset may take in a process of its own.

    Raises:
        UsageError: an unknown environment or `vector`, `num_envs` below 1, or "own" where there is no such form.
    """
    num_envs = count("num_envs", num_envs)
    _require_arguments(env_id, env_kwargs, wrappers)
    if vector not in VECTORS:
        raise UsageError(f"vector {vector!r} is unknown (allowed: {', '.join(VECTORS)})")
    make = partial(
        make_env, env_id, env_kwargs, wrappers=wrappers, preprocess=preprocess,
        life_loss_terminates=life_loss_terminates, render_mode=render_mode,
    )  # fmt: skip
    _load_namespace(env_id)
    protocol = _protocol(env_id, env_kwargs, wrappers, preprocess)
    together = num_envs > 1 and vector in ("sync", "own") and render_mode is None
    if protocol is not None and protocol.in_one_vector and together:
        with _as_usage_errors(env_id, dict(env_kwargs or {})):
            from rl_lab.environments.atari import GameVector

            return GameVector(env_id, num_envs, protocol, watches_lives=life_loss_terminates)
    layers = Layers(tuple(wrappers), preprocess, life_loss_terminates, render_mode)
    kwargs = dict(env_kwargs or {})
    if (maker := chosen_form(env_id, num_envs, kwargs, layers, vector)) is not None:
        with _as_usage_errors(env_id, kwargs):
            return FormVector(make_form(env_id, maker, num_envs, kwargs), env_id)
    vector = "sync" if vector == "own" else vector
    return vector_of(make, num_envs, vector=vector, env_timeout_seconds=env_timeout_seconds)


class Layers(NamedTuple):
    """What is put around an environment, or drawn of it; see `make_env`."""

    wrappers: tuple[str, ...] = ()
    preprocess: str = "auto"
    life_loss_terminates: bool = False
    render_mode: str | None = None


def chosen_form(
    env_id: str, num_envs: int, kwargs: Mapping[str, Any], layers: Layers, vector: str
) -> FormMaker | None:
    """Return what makes the vectorised form in which environments are played; None: they are played one by one.

    Raises:
        UsageError: a form was asked for, and there is none that fits.
    """
    if num_envs == 1 or vector == "async" or (vector == "sync" and num_envs < FEWEST):
        return None
    _load_namespace(env_id)
    protocol = _protocol(env_id, kwargs, layers.wrappers, layers.preprocess)
    if protocol is not None and protocol.in_one_vector:
        return None  # ale_py's own vector plays it
    plain = layers._replace(preprocess="auto") == Layers()
    fits = plain and resolve_preprocessing(env_id, layers.preprocess) == "none"
    if vector == "sync":
        maker = form_maker(env_id, kwargs) if fits else None
        return maker if equals_single_envs(maker) else None
    with _as_usage_errors(env_id, kwargs):
        if (maker := form_maker(env_id, kwargs, must_load=True) if fits else None) is None:
            raise UsageError(
                f"vector own needs a vectorised form, and {env_id} has none that takes these arguments and wrappers"
                " (allowed: sync, async)"
            )
    return maker


def other_episodes(
    env_id: str, num_envs: int, kwargs: Mapping[str, Any], layers: Layers, vector: str
) -> str | None:
    """Return in a line why a vector plays other episodes than single environments do; None: they are the same.

    Raises:
        UsageError: a vectorised form was asked for, and there is none that fits.
    """
    maker = chosen_form(env_id, num_envs, kwargs, layers, vector)
    if maker is None or equals_single_envs(maker):
        return None
    return f"the vector of {env_id} plays episodes of its own: with the same seed, single environments play others"


def vector_of(
    make: Callable[[], gymnasium.Env],
    num_envs: int,
    *,
    vector: str = "sync",
    env_timeout_seconds: float = 60.0,
) -> VectorEnv:
    """Make a vector of the environments that `make` makes, each held to the `Contract`.

    Raises:
        UsageError: `vector` is unknown.
    """
    if vector not in ("sync", "async"):
        raise UsageError(f"vector {vector!r} is unknown (allowed: sync, async)")
    if vector == "async":
        return WorkerVector([partial(_held, make, i) for i in range(num_envs)], env_timeout_seconds)
    if num_envs == 1:
        return SingleVector(make())
    return LocalVector([Contract(make(), i) for i in range(num_envs)])


def _held(make: Callable[[], gymnasium.Env], env_index: int) -> gymnasium.Env:
    """Make an environment that is held to the contract, and passes on only the info that is read."""
    return ReadInfo(Contract(make(), env_index))
