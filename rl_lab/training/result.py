"""What training leaves behind, and how a notebook shows it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rl_lab.agent import Policy


@dataclass(frozen=True, repr=False)
class Result:
    """What training leaves behind. A notebook shows it with its learning curves and its film."""

    run_dir: Path
    """The run directory."""
    policy: Policy
    """The greedy policy, ready to act."""
    summary: dict[str, Any] | None
    """What summary.json holds; None if the run was stopped after saving, before its end."""
    resumes: bool = True
    """Whether the run can go on exactly where it was stopped."""
    agent: str = ""
    """Name of the agent."""
    env_id: str = ""
    """Id of the environment."""
    env_steps: int = 0
    """Environment steps that were taken, over all sessions of the run."""
    stopped_by: str | None = None
    """What stopped the run before its end: "a signal", or the callback and its reason; None if it is finished."""
    finished_before: bool = False
    """Whether a resumed run had nothing left to do."""

    @property
    def eval_return_mean(self) -> float | None:
        """Mean return of the last evaluation's episodes; None if the run isn't finished, or has no evaluation."""
        return None if self.summary is None else self.summary.get("eval_return_mean")

    @property
    def film(self) -> Path | None:
        """The video of the final policy; None if there is none."""
        path = self.run_dir / "videos" / "final.mp4"
        return path if path.is_file() else None

    def learning_curves(self) -> bytes | None:
        """Return the returns of evaluations and of training episodes over the environment steps, as a PNG.

        None if there are none to draw.
        """
        from rl_lab.evaluation.run_curves import draw_curves  # brings matplotlib

        return draw_curves(self.run_dir)

    def __repr__(self) -> str:
        return f"Result({self._told()}, {str(self.run_dir)!r})"

    def _told(self) -> str:
        """Return in a line what has come of the run."""
        head = f"{self.agent} on {self.env_id}" if self.agent else "run"
        steps = f"{self.env_steps} steps"
        if self.summary is None:
            return f"{head}: stopped after {steps} by {self.stopped_by or 'a signal'}"
        if self.eval_return_mean is None:
            return f"{head}: {steps}, not evaluated"
        return f"{head}: return {self.eval_return_mean:.6g} after {steps}"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the line, the learning curves and the film."""
        from rl_lab.evaluation.html import picture, text, video

        curves, film = self.learning_curves(), self.film
        parts = [text(self._told()), text(str(self.run_dir))]
        parts += [] if curves is None else [picture(curves, "learning curves")]
        parts += [] if film is None else [video(film)]
        return "\n".join(parts)
