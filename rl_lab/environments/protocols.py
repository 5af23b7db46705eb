"""How Atari games are played, by name: the protocols under which results are reported.

Mnih et al. (2015), "Human-level control through deep reinforcement learning", https://doi.org/10.1038/nature14236
Machado et al. (2018), "Revisiting the Arcade Learning Environment", https://arxiv.org/abs/1709.06009
Castro et al. (2018), "Dopamine: A Research Framework for Deep Reinforcement Learning", https://arxiv.org/abs/1812.06110

All of them show stacks of four grey 84x84 pictures, each the maximum over the last two of four frames. They differ in
what makes a game that is otherwise deterministic vary, and in the actions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium

from rl_lab.checks import shown
from rl_lab.types import UsageError

PREPROCESSING = ("auto", "none", "atari", "nature", "dopamine", "machado", "v5")
STACK = 4  # pictures that are observed together
SIDE = 84  # pixels
WHOLE = {
    "noop_max": (0, 1_000), "frameskip": (1, 1_000), "max_num_frames_per_episode": (1, 10**9), "mode": (0, 10**9),
    "difficulty": (0, 10**9),
}  # fmt: skip
"""The whole numbers of a protocol, from and to: ale_py counts in 32 bits, and 1,000 frames may take a second."""
OWN = ("mode", "difficulty")  # of a game; None for its default


@dataclass(frozen=True)
class Protocol:
    """What `env_kwargs` may change of a game.

    Raises:
        UsageError: a value that isn't allowed.
    """

    repeat_action_probability: float = 0.0
    """Probability, at each frame, that the last frame's action is repeated instead: a sticky action."""
    noop_max: int = 0
    """Frames without an action before an episode begins: 0 to noop_max - 1, drawn from the episode's seed."""
    full_action_space: bool = False
    """All 18 actions, or those alone that do something in this game."""
    use_fire_reset: bool = False
    """Press FIRE before an episode begins, in games that have it; one no-op fewer follows."""
    frameskip: int = 4
    """Frames for which an action is held."""
    maxpool: bool = True
    """Show the maximum over the last two frames of an action, since many games draw objects in every second frame
    alone; with `frameskip` 1 there is one frame, and no maximum."""
    max_num_frames_per_episode: int = 108_000
    """Frames after which an episode is truncated; 108,000 are 30 minutes."""
    mode: int | None = None
    """The game's own mode; None for its default. One that is given is played by single environments alone."""
    difficulty: int | None = None
    """The game's own difficulty; None for its default. As for `mode`."""

    def __post_init__(self) -> None:
        for name, (least, most) in WHOLE.items():
            value = getattr(self, name)
            if value is None and name in OWN:
                continue
            if type(value) is not int or not least <= value <= most:
                raise UsageError(f"{name} must be a whole number from {least} to {most}, got {shown(value)}")
        for name in ("full_action_space", "use_fire_reset", "maxpool"):
            if type(getattr(self, name)) is not bool:
                raise UsageError(f"{name} must be true or false, got {shown(getattr(self, name))}")
        sticky = self.repeat_action_probability
        if type(sticky) not in (int, float) or not 0.0 <= sticky <= 1.0:
            raise UsageError(f"repeat_action_probability must lie between 0 and 1, got {shown(sticky)}")

    @property
    def in_one_vector(self) -> bool:
        """Whether ale_py's own vector can play it: it takes neither a mode nor a difficulty."""
        return self.mode is None and self.difficulty is None


PROTOCOLS = {
    # no-op starts alone make games vary
    "nature": Protocol(noop_max=30),
    # sticky actions alone do; with the actions of each game, as in Dopamine's runs, or all 18, as Machado et al. advise
    "dopamine": Protocol(repeat_action_probability=0.25),
    "machado": Protocol(repeat_action_probability=0.25, full_action_space=True),
    # both: sticky actions are those of the ids that end in v5, no-op starts those of ale_py's own vector
    "v5": Protocol(repeat_action_probability=0.25, noop_max=30),
}


def protocol_of(name: str, env_kwargs: Mapping[str, Any]) -> Protocol:
    """Return a protocol by name, with what `env_kwargs` change of it.

    Raises:
        UsageError: another argument, or a value that isn't allowed.
    """
    known = [field.name for field in dataclasses.fields(Protocol)]
    for given in env_kwargs:
        if given not in known:
            raise UsageError(
                f"env_kwargs {given!r} is unknown to protocol {name!r} (allowed: {', '.join(known)})"
            )
    return dataclasses.replace(PROTOCOLS[name], **env_kwargs)


def resolve_preprocessing(env_id: str, preprocess: str) -> str:
    """Return the preprocessing by name; "auto" means "atari" for ale_py's games, under any of their ids, else "none".

    Raises:
        UsageError: an unknown name, or one for games with another environment.
    """
    if preprocess not in PREPROCESSING:
        raise UsageError(f"preprocess {preprocess!r} is unknown (allowed: {', '.join(PREPROCESSING)})")
    if preprocess == "auto":
        return "atari" if _is_game(env_id) else "none"
    if preprocess != "none" and not _is_game(env_id):
        raise UsageError(f"preprocess {preprocess!r} needs a game, ALE/..., not {env_id!r}")
    return preprocess


def _is_game(env_id: str) -> bool:
    """Return whether an id, with a module before it or not, is that of one of ale_py's games."""
    name = env_id.rpartition(":")[2]
    registered = gymnasium.registry.get(name)
    return name.startswith("ALE/") or str(getattr(registered, "entry_point", "")).startswith("ale_py")
