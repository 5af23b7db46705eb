"""What a page may ask of a session: one JSON object per message, checked field by field before anything happens.

    {"type": "seek", "step": 12}

Every kind of message is a dataclass below, whose fields are exactly those of its object.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from dataclasses import dataclass
from typing import Any, Protocol

from rl_lab.watching.session import Session

MAX_BYTES = 4_096  # of a message
MAX_SEED = 2**31 - 1
MAX_STEP = 10**9
PICKS = re.compile(r"best|worst|last|every:[1-9][0-9]{0,8}|[0-9]{1,9}", re.ASCII)
SPEEDS = 64.0  # the largest multiple of an environment's own speed, and 1 / this the smallest


class Malformed(ValueError):
    """A message that means nothing. The text is one line for whoever sent it."""


class Command(Protocol):
    """What a message asks for."""

    def apply(self, session: Session) -> None:
        """Do it.

        Raises:
            UsageError: it can't be done now.
        """


@dataclass(frozen=True)
class Play:
    """Go on."""

    def apply(self, session: Session) -> None:
        """Do it."""
        session.play()


@dataclass(frozen=True)
class Pause:
    """Stop."""

    def apply(self, session: Session) -> None:
        """Do it."""
        session.pause()


@dataclass(frozen=True)
class Step:
    """Pause, and show the next step."""

    def apply(self, session: Session) -> None:
        """Do it."""
        session.step()


@dataclass(frozen=True)
class Speed:
    """Set the speed as a multiple of the environment's own; 0 for as fast as can be."""

    factor: float

    def __post_init__(self) -> None:
        """Check the factor.

        Raises:
            Malformed: it is out of range.
        """
        if self.factor and not 1 / SPEEDS <= self.factor <= SPEEDS:
            raise Malformed(f"factor {self.factor} (allowed: 0, or {1 / SPEEDS:g} to {SPEEDS:g})")

    def apply(self, session: Session) -> None:
        """Do it."""
        session.set_speed(self.factor)


@dataclass(frozen=True)
class Restart:
    """Begin the first episode of a seed, or the open episode once more if the seed is null."""

    seed: int | None

    def __post_init__(self) -> None:
        if self.seed is not None:
            _require_within("seed", self.seed, MAX_SEED)

    def apply(self, session: Session) -> None:
        """Do it."""
        session.restart(self.seed)


@dataclass(frozen=True)
class Next:
    """Begin the next episode."""

    def apply(self, session: Session) -> None:
        """Do it."""
        session.next_episode()


@dataclass(frozen=True)
class Seek:
    """Pause at a step that was played."""

    step: int

    def __post_init__(self) -> None:
        _require_within("step", self.step, MAX_STEP)

    def apply(self, session: Session) -> None:
        """Do it."""
        session.seek(self.step)


@dataclass(frozen=True)
class Take:
    """Let a human act in the place of an agent."""

    agent: int

    def apply(self, session: Session) -> None:
        """Do it."""
        session.take_over(self.agent)


@dataclass(frozen=True)
class HandBack:
    """Let the agent act again."""

    def apply(self, session: Session) -> None:
        """Do it."""
        session.hand_back()


@dataclass(frozen=True)
class Press:
    """Hold a key down, which stands for an action."""

    action: int

    def apply(self, session: Session) -> None:
        """Do it."""
        session.press(self.action)


@dataclass(frozen=True)
class Release:
    """Hold no key any more."""

    def apply(self, session: Session) -> None:
        """Do it."""
        session.release()


@dataclass(frozen=True)
class Save:
    """Save what a human played. It is carried out by the owner of the session, who knows where."""

    def apply(self, session: Session) -> None:
        """Do nothing to the session."""


@dataclass(frozen=True)
class Past:
    """Show training episodes: best, worst, last, every:N, or a number as text. The owner of the session finds them."""

    episode: str

    def __post_init__(self) -> None:
        """Check the episode.

        Raises:
            Malformed: it is neither a word that picks some nor a number.
        """
        if not PICKS.fullmatch(self.episode):
            raise Malformed(
                f"episode {self.episode[:20]!r} (allowed: best, worst, last, every:N, or a number from 0)"
            )

    def apply(self, session: Session) -> None:
        """Do nothing to the session."""


@dataclass(frozen=True)
class Reasons:
    """Find the reasons of decisions by a method; "" for none."""

    method: str

    def apply(self, session: Session) -> None:
        """Do it."""
        session.set_reasons(self.method[:40])


@dataclass(frozen=True)
class Look:
    """Say whether the page can be seen, since nothing is played that nobody sees. The server takes note."""

    seen: bool

    def apply(self, session: Session) -> None:
        """Do nothing to the session."""


KINDS: dict[str, type] = {
    "play": Play, "pause": Pause, "step": Step, "speed": Speed, "restart": Restart, "next": Next, "seek": Seek,
    "take": Take, "hand_back": HandBack, "press": Press, "release": Release, "save": Save, "past": Past,
    "reasons": Reasons, "look": Look,
}  # fmt: skip


def parse(text: str | bytes) -> Any:
    """Return the `Command` that a message stands for.

    Raises:
        Malformed: it stands for none.
    """
    if len(text) > MAX_BYTES:
        raise Malformed(f"a message of {len(text)} bytes (allowed: up to {MAX_BYTES})")
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        raise Malformed("no JSON (allowed: an object with a type)") from None
    if not isinstance(body, dict):
        raise Malformed("no object (allowed: an object with a type)")
    name = body.pop("type", None)
    kind = KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise Malformed(f"type {str(name)[:20]!r} is unknown (allowed: {', '.join(KINDS)})")
    fields = {f.name: str(f.type) for f in dataclasses.fields(kind)}
    if body.keys() != fields.keys():
        allowed = ", ".join(fields) or "none"
        raise Malformed(f"{name} has the fields {_few(sorted(body))} (allowed: {allowed})")
    return kind(**{field: _typed(field, fields[field], value) for field, value in body.items()})


def _typed(field: str, kind: str, value: Any) -> Any:
    """Return a field's value in the type that its dataclass says.

    Raises:
        Malformed: it is of another.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if value is None and "None" in kind:
        return None
    if kind in ("str", "bool") and isinstance(value, str if kind == "str" else bool):
        return value
    if kind == "float" and is_number and abs(value) < 1e9 and math.isfinite(value):
        return float(value)
    if kind.startswith("int") and is_number and isinstance(value, int):
        return value
    raise Malformed(f"{field} is {str(value)[:20]!r} (allowed: {kind})")


def _few(names: list[str]) -> str:
    return ", ".join(name[:20] for name in names[:5]) or "none"


def _require_within(field: str, value: int, last: int) -> None:
    if not 0 <= value <= last:
        raise Malformed(
            f"{field} {value if abs(value) < 10**12 else 'of many digits'} (allowed: 0 to {last})"
        )
