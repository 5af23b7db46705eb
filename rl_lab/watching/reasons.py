"""Why a decision was made, for those who ask: saliency over the picture, or what numbers of a vector contributed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rl_lab.agent import Policy
from rl_lab.explanation.attribution import attribution
from rl_lab.explanation.insight import Facts
from rl_lab.explanation.saliency import FIGURES, METHODS, require_saliency, saliency_overlay
from rl_lab.types import Array, Obs, State, UsageError

CONTRIBUTIONS = "contributions"
MOST_NUMBERS = 64  # in an observation whose numbers are explained one by one


@dataclass(frozen=True)
class Reasons:
    """Finds the reasons of decisions in one environment.

    Attributes:
        methods: by which they can be found, of "gradient", "perturbation" (both for images) and "contributions".
        facts: of the environment; None where there are no methods.
    """

    methods: tuple[str, ...] = ()
    facts: Facts | None = None

    def find(
        self,
        method: str,
        frame: Array,
        policy: Policy,
        obs: Obs,
        state: State,
        is_first: Array,
        mask: Array | None,
    ) -> tuple[Array, Mapping[str, Any] | None]:
        """Return the frame uint8 [H, W, 3], coloured for images, and for vectors what their numbers contributed."""
        assert self.facts is not None
        if method == CONTRIBUTIONS:
            return frame, attribution(policy, obs, state, is_first, mask, self.facts).as_dict()
        space = self.facts.observation_space
        return (
            saliency_overlay(policy, obs, state, is_first, frame, space=space, method=method, mask=mask),
            None,
        )


NO_REASONS = Reasons()


def reasons_of(
    policy: Policy, facts: Facts, obs: Obs, state: State, is_first: Array, mask: Array | None
) -> Reasons:
    """Return what finds the reasons of a policy's decisions, given what it is asked with at one step."""
    tells = bool(set(FIGURES) & set(policy.inspect(obs, state, is_first, mask)))
    methods = [m for m in METHODS if tells and _is_salient(policy, facts, m)]
    if tells and not methods and len(facts.observation_names) <= MOST_NUMBERS:
        try:
            attribution(policy, obs, state, is_first, mask, facts, steps=1)
            methods = [CONTRIBUTIONS]
        except UsageError:  # discrete observations
            pass
    return Reasons(tuple(methods), facts)


def _is_salient(policy: Policy, facts: Facts, method: str) -> bool:
    try:
        require_saliency(policy, facts.observation_space, method)
    except UsageError:
        return False
    return True
