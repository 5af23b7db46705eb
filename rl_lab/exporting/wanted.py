"""What an export writes beside the policy itself."""

from __future__ import annotations

from dataclasses import dataclass

from rl_lab.types import UsageError


@dataclass(frozen=True)
class Wanted:
    """What to write beside the policy itself, and how much to play for it."""

    int8: bool = False
    """A file with weights of 8 bits too."""
    prune: float | None = None
    """A file too in which this share of each hidden layer's weights, the smallest ones, is 0."""
    distil: tuple[int, ...] = ()
    """A network of these widths too that has learned to imitate the policy."""
    distil_episodes: int = 100
    """Episodes that are recorded for it."""
    distil_steps: int = 50_000
    """Environment steps of the recording that it learns from, over and over."""
    episodes: int = 20
    """Seeded evaluation episodes of each policy in the table."""
    card: bool = True
    """The page about the policy, with a film of an episode."""

    def __post_init__(self) -> None:
        """Refuse what would be ignored.

        Raises:
            UsageError: an option of a small network without one.
        """
        for name in ("distil_episodes", "distil_steps") if not self.distil else ():
            if (value := getattr(self, name)) != getattr(type(self), name):
                raise UsageError(f"{name} {value} does nothing without distil (allowed: with distil WIDTH)")
