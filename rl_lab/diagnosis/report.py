"""What a diagnosis found: plain numbers, and the same in words."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from rl_lab.diagnosis.calibration import Calibration
from rl_lab.diagnosis.loss_bias import LossBias
from rl_lab.diagnosis.split import RegretSplit
from rl_lab.diagnosis.visited import Visits
from rl_lab.environments.layout import Layout
from rl_lab.mdp.model import TabularModel

FORMAT = 1
ROUNDING = 1e-9  # values that differ by less, relative to their size, are called equal


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """Why a run's policy falls short; `as_dict` has all of it as plain numbers."""

    run_dir: str
    agent: str
    env_id: str
    seed: int
    env_steps: int
    """At the checkpoint whose policy was looked at."""
    eval_gamma: float
    """Discount of all returns of the split and of the calibration."""
    split: RegretSplit | None
    """None where it can't be computed; `no_split` says why."""
    no_split: str | None
    loss: LossBias | None
    """None where there is none or it can't be computed; `no_loss` says why."""
    no_loss: str | None
    calibration: Calibration | None
    """None where no episode was played."""
    visits: Visits | None
    """None where the states aren't known."""
    notes: tuple[str, ...] = ()
    """What a reader should know, a line each."""
    model: TabularModel | None = None
    """The finite MDP; None if there is none."""
    layout: Layout | None = None
    """How its states lie on a grid; None if they don't."""

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON has it: numbers, text, lists and dicts; None where something isn't known."""
        return {
            "format": FORMAT,
            "agent": self.agent,
            "env_id": self.env_id,
            "seed": self.seed,
            "env_steps": self.env_steps,
            "eval_gamma": self.eval_gamma,
            "split": None if self.split is None else split_as_dict(self.split),
            "no_split": self.no_split,
            "loss": None if self.loss is None else loss_as_dict(self.loss),
            "no_loss": self.no_loss,
            "calibration": None if self.calibration is None else calibration_as_dict(self.calibration),
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        """Return the diagnosis in words, a few lines."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{self.agent} on {self.env_id}, seed {self.seed}, at {self.env_steps} environment steps"
        yield from (
            [f"regret: not split, {self.no_split}"] if self.split is None else _of_split(self.split, self)
        )
        if self.loss is not None:
            yield from _of_loss(self.loss)
        elif self.no_loss is not None:
            yield f"loss: its fixed point isn't computed, {self.no_loss}"
        if self.calibration is not None:
            yield from _of_calibration(self.calibration)
        yield from (f"note: {note}" for note in self.notes)


def split_as_dict(split: RegretSplit) -> dict[str, Any]:
    """Return a split as plain numbers, its parts included."""
    derived = ("regret", "exploration", "representation", "rest", "untried", "main")
    return dataclasses.asdict(split) | {name: getattr(split, name) for name in derived}


def loss_as_dict(loss: LossBias) -> dict[str, Any]:
    """Return a loss's bias as plain numbers; values of states are lists."""
    fields = {f.name: getattr(loss, f.name) for f in dataclasses.fields(loss)}
    plain = {name: x.tolist() if isinstance(x, np.ndarray) else x for name, x in fields.items()}
    return plain | {name: getattr(loss, name) for name in ("from_targets", "from_loss", "from_learning")}


def calibration_as_dict(found: Calibration) -> dict[str, Any]:
    """Return a calibration as plain numbers; the bins of its reliability curve are a list of dicts."""
    plain = dataclasses.asdict(found)
    return plain | {"reliability": list(plain["reliability"])}


# Words -----------------------------------------------------------------------------------------------

CAUSES = {
    "exploration": "exploration",
    "representation": "representation",
    "rest": "optimisation and estimation",
}


def number(value: float) -> str:
    """Return a number in words: three digits, and 0 for what is rounding."""
    return f"{0.0 if abs(value) < 1e-12 else value:.4g}"


def _of_split(split: RegretSplit, diagnosis: Diagnosis) -> Iterator[str]:
    yield (
        f"regret {number(split.regret)}: the optimum is {number(split.optimal_return)}, the policy achieves"
        f" {number(split.achieved_return)} (exact, gamma {diagnosis.eval_gamma:g})"
    )
    for name, part in split.parts.items():
        share = f"{100 * part / split.regret:4.0f} %" if split.regret > 0 else "      "
        yield f"  {name:<15}{number(part):>10} {share}  {explain(name, split)}"
    if split.untried > 0:
        lost = min(split.untried, split.visited_return - split.achieved_return)
        yield f"  of what is lost in visited states, {number(lost)} needs actions that were never tried there"
    yield "  nothing is lost" if split.main is None else f"  mainly {CAUSES[split.main]}"


def explain(name: str, split: RegretSplit) -> str:
    """Return what a part of the regret means, given the numbers."""
    if name == "exploration":
        met = f"{split.visited_states} of {split.states} states were visited"
        return f"{met}; the best policy that is free in them returns {number(split.visited_return)}"
    if name == "representation":
        assert split.expressed_return is not None
        if split.function_class is not None and not split.fits:
            return (
                f"{split.function_class} expresses it" if split.representation == 0 else split.function_class
            )
        found = f"the best of {split.fits} {'fit' if split.fits == 1 else 'fits'} of {split.function_class}"
        bound = "" if split.representation == 0 else "; at most this, a better fit may exist"
        return f"{found} returns {number(split.expressed_return)}{bound}"
    unknown = " and representation, as the agent doesn't tell what it can express"
    return "optimisation and estimation" + (unknown if split.expressed_return is None else "")


def _of_loss(loss: LossBias) -> Iterator[str]:
    steps = f"{loss.n_steps}-step targets" if loss.n_steps > 1 else "one-step targets"
    own = "" if loss.loss == "squared" else f", of {loss.loss} {number(loss.loss_value)}"
    yield (
        f"loss: {loss.loss}, {steps}, gamma {loss.gamma:g}; at the start the optimum is {number(loss.optimal_value)},"
        f" the fixed point of the squared loss {number(loss.squared_value)}{own}"
    )
    if loss.predicted_value is not None:
        assert loss.from_learning is not None
        error = loss.predicted_value - loss.optimal_value
        yield (
            f"  predicted {number(loss.predicted_value)}, off by {number(error)}: targets {number(loss.from_targets)},"
            f" loss {number(loss.from_loss)}, learning {number(loss.from_learning)}"
        )
    if loss.largest_bias:
        yield f"  largest bias of the loss in a state: {number(loss.largest_bias)}"
    if abs(loss.regret) > ROUNDING:
        yield f"  the policy that is greedy at its fixed point loses {number(loss.regret)} by it"


def _of_calibration(found: Calibration) -> Iterator[str]:
    yield (
        f"calibration: {found.episodes} episodes, {found.steps} steps,"
        f" {found.compared_steps} compared (gamma {found.gamma:g})"
    )
    if found.bias is None:
        reason = "episodes were cut off too early" if found.predicts else "the policy predicts no values"
        yield f"  values aren't compared: {reason}"
    if found.bias is not None and found.rmse is not None:
        yield f"  predicted minus realised return: mean {number(found.bias)}, root mean square {number(found.rmse)}"
    if found.start_predicted is not None and found.start_realised is not None:
        yield f"  at the start: predicted {number(found.start_predicted)}, realised {number(found.start_realised)}"
    if found.gap_mean is not None and found.gap_median is not None and found.ties is not None:
        yield (
            f"  action gap: mean {number(found.gap_mean)}, median {number(found.gap_median)},"
            f" ties on {100 * found.ties:.0f} % of the steps"
        )
    if found.entropy_mean is not None and found.entropy_uniform is not None:
        most = number(found.entropy_uniform)
        yield f"  entropy of the policy that collects: {number(found.entropy_mean)} nats of at most {most}"
