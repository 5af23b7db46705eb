"""Checks an environment as people write them: the contract over many steps, seeding, replay, aliasing, masks."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Literal

import gymnasium
import numpy as np

from rl_lab.checks import show_space
from rl_lab.environments.contract import Contract
from rl_lab.environments.ending import CloseRaised, name_of
from rl_lab.environments.global_draws import DrawsGlobally
from rl_lab.environments.played import Played, copied, equal, never, play_episode, random_actions, replay
from rl_lab.environments.wrappers import LifeLoss
from rl_lab.mdp.agreement import find_disagreement
from rl_lab.mdp.model import TabularModel, extract_model
from rl_lab.seeding import seed_of
from rl_lab.types import EnvironmentFault, UsageError

Maker = Callable[[], gymnasium.Env]
BRIEF_STEPS = 20  # at least so many are played before a run, ...
LONG_STEPS = 200  # ... and so many of an episode, ...
LONG_SECONDS = 0.5  # ... if playing them, and playing them again twice, takes about as long as this
BRIEF_SECONDS = 10.0  # after which the check before a run stops
OPENINGS = 100  # episodes are begun, and begun again after others, ...
OPENING_STEPS = 4  # ... for so many steps, ...
OPENING_SECONDS = 2.0  # ... unless it takes longer than this to begin them
PLACED_STEPS = 30_000  # from states of a model that were set: ten times as many as before a run
Verdict = Literal["ok", "note", "fault"]
CHECKS = {
    "contract": "everything that resets and steps return, and that nothing raises",
    "bounds": "floats that lie outside their declared bounds",
    "replay": "seed and actions give the same episode again, which exact resuming needs",
    "aliasing": "returned observations stay as they are",
    "masks": "how many actions they leave",
    "ends": "episodes end, or have a time limit",
    "seeds": "seeds decide how an episode opens",
    "model": "the finite MDP, if there is one, agrees with what is played",
}  # what is looked at, in the order of the findings


@dataclass(frozen=True)
class Finding:
    """What one check found: "ok", a "note" on what one should know, or a "fault" that keeps agents from learning."""

    check: str  # one of CHECKS
    verdict: Verdict
    text: str


def check_env(make: Maker, *, steps: int = 1000, episodes: int = 3, seed: int = 0) -> list[Finding]:
    """Play random legal actions and return what was found, in the order of CHECKS.

    Where a fault keeps the environment from being played, the checks after it are left out.

    Args:
        make: makes a fresh environment.
        steps: at least so many steps are played, ...
        episodes: ... and at least so many episodes begun.
        seed: of the episodes and actions.

    Raises:
        UsageError: a space of a kind that no agent takes.
    """
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with closing(_held(make)) as env:
            found = _found(make, env, steps, episodes, seed, said)
    closed = [env.close_fault] if env.close_fault else _said(said, CloseRaised)
    return found + [Finding("contract", "note", line) for line in closed[:1]]


def _found(
    make: Maker, env: Contract, steps: int, episodes: int, seed: int, said: list[warnings.WarningMessage]
) -> list[Finding]:
    """Return what `check_env` finds before the environment is closed; `said` are the warnings so far."""
    played: list[Played] = []
    begun = time.perf_counter()
    try:
        for episode in _play(env, steps, episodes, seed):
            played.append(episode)
    except EnvironmentFault as fault:
        return [Finding("contract", "fault", str(fault)), *_on_replay(make, env, played)]
    found = [_on_contract(env, played, time.perf_counter() - begun)]
    found += _on_bounds(env)
    replayed = list(_on_replay(make, env, played, openings=_openings(env, seed)))
    found += [*_or_draws(replayed, said), _on_aliasing(played)]
    found += [_on_masks(played), _on_ends(env, played)]
    try:
        return [*found, _on_seeds(env, seed), *_on_model(env, seed)]
    except EnvironmentFault as fault:
        return [*found, Finding("contract", "fault", str(fault))]


def brief_check(make: Maker, seed: int = 0) -> list[str]:
    """Play a few steps, or an episode if it is quick, and return what one should know before a run.

    These are notes on replay and on bounds, and that the check was cut short because the environment is slow.

    Raises:
        UsageError: a space of a kind that no agent takes, or an environment that breaks its contract at once.
    """
    pace = _Pace()
    with closing(_held(make)) as env, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the contract says is returned
        warnings.simplefilter("always", CloseRaised)
        try:
            played = list(_play(env, BRIEF_STEPS, 1, seed, at_least=LONG_STEPS, enough=pace.enough))
        except EnvironmentFault as fault:
            raise UsageError(str(fault)) from fault
        found = list(_on_replay(make, env, played, pace.over))
        if broken := next((finding.text for finding in found if finding.verdict == "fault"), None):
            raise UsageError(broken)
        cut = [pace.cut] if pace.cut else []
        return (
            cut
            + env.notes
            + _silent_lives(env)
            + [finding.text for finding in found if finding.verdict == "note"]
        )


def _silent_lives(env: gymnasium.Env) -> list[str]:
    """Return in a line that an environment has said nothing of the lives that are asked for, if so."""
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, LifeLoss) and not env.is_told:
            return [
                "life_loss_terminates does nothing unless steps tell of lives: in the steps of the check"
                f" {name_of(env)} has given neither info['lives'] nor info['life_lost']"
            ]
        env = env.env
    return []


class _Pace:
    """Says when a check before a run has taken long enough: a third of the time goes to play, the rest to replays."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self.cut: str | None = None  # what was skipped, in words

    def enough(self, steps: int) -> bool:
        """Return whether play should stop after so many steps."""
        seconds = time.monotonic() - self._begun
        if steps >= BRIEF_STEPS:
            return seconds > LONG_SECONDS / 3
        return self._too_slow(seconds > BRIEF_SECONDS / 3, f"{steps} of {BRIEF_STEPS} steps were played")

    def over(self, steps: int) -> bool:
        """Return whether playing again should stop after so many steps."""
        late = time.monotonic() - self._begun > BRIEF_SECONDS
        return self._too_slow(late, f"an episode was played again for {steps} steps only")

    def _too_slow(self, is_late: bool, what: str) -> bool:
        if is_late and self.cut is None:
            self.cut = (
                f"the environment is slow: the check before the run was cut short, {what} (rl-lab check-env takes its"
                " time)"
            )
        return is_late


def _held(make: Maker) -> Contract:
    """Make an environment that is held to the contract."""
    env = make()
    return env if isinstance(env, Contract) else Contract(env)


def _play(
    env: Contract,
    steps: int,
    episodes: int,
    seed: int,
    at_least: int = 1,
    enough: Callable[[int], bool] = never,
) -> Iterator[Played]:
    """Play so many steps and episodes; episodes may go on for `at_least` steps until it is enough."""
    rng = np.random.default_rng(seed_of(seed, "check actions"))
    taken = number = 0
    while (taken < steps or number < episodes) and not (number and enough(taken)):
        left, before = max(steps - taken, steps // episodes, at_least), taken
        episode = play_episode(
            env,
            seed_of(seed, "check", number),
            random_actions(env, rng),
            left,
            lambda t, before=before: enough(before + t),  # type: ignore[misc]
        )
        taken, number = taken + len(episode.actions), number + 1
        yield episode


def _openings(env: Contract, seed: int) -> Iterator[Played]:
    """Play how many episodes begin: what survives a reset may show in few of them."""
    rng, begun = np.random.default_rng(seed_of(seed, "check openings")), time.monotonic()
    for number in range(OPENINGS):
        yield play_episode(
            env, seed_of(seed, "check opening", number), random_actions(env, rng), OPENING_STEPS
        )
        if time.monotonic() - begun > OPENING_SECONDS:
            return


# What is found ---------------------------------------------------------------------------------------


def _on_contract(env: Contract, played: list[Played], seconds: float) -> Finding:
    steps = sum(len(episode.actions) for episode in played)
    rate = f"{steps / max(seconds, 1e-9):.0f} steps/s"
    spaces = f"observations {show_space(env.observation_space)}, actions {show_space(env.action_space)}"
    return Finding("contract", "ok", f"{steps} steps in {len(played)} episodes, {rate}; {spaces}")


def _on_bounds(env: Contract) -> list[Finding]:
    """What lies outside is noted as it is met; integers outside are no note but a fault of the contract."""
    if env.notes:
        return [Finding("bounds", "note", note) for note in env.notes]
    return [Finding("bounds", "ok", "no observation was met outside its declared bounds")]


def _on_replay(
    make: Maker,
    env: Contract,
    played: list[Played],
    enough: Callable[[int], bool] = never,
    openings: Iterable[Played] = (),
) -> Iterator[Finding]:
    """Play episodes again, in the same environment and in a fresh one: what exact resuming rests on.

    They are played in reverse, so that each comes after another episode than before.
    """
    try:
        for episode in reversed([*played, *openings]):
            if (where := _differs(episode, env, enough)) is not None:
                yield _not_replayed(episode, where, "after other episodes")
                return
        with closing(_held(make)) as fresh:
            for episode in reversed(played[:3]):
                if (where := _differs(episode, fresh, enough)) is not None:
                    yield _not_replayed(episode, where, "in a fresh environment")
                    return
    except EnvironmentFault as fault:
        yield Finding("replay", "fault", str(fault))
        return
    if played:
        yield Finding("replay", "ok", "seed and actions give the same episode again, to the bit")


def _or_draws(replayed: list[Finding], said: list[warnings.WarningMessage]) -> list[Finding]:
    """Return what was found by replays, or else that draws from a global generator were noticed in play."""
    draws = _said(said, DrawsGlobally)
    if not draws or any(finding.verdict == "fault" for finding in replayed):
        return replayed
    return [Finding("replay", "note", draws[0])]


def _said(said: list[warnings.WarningMessage], kind: type[Warning]) -> list[str]:
    """Return the warnings of one kind."""
    return [str(warning.message) for warning in said if issubclass(warning.category, kind)]


def _differs(episode: Played, env: Contract, enough: Callable[[int], bool]) -> str | None:
    """Play an episode again; return where it differs first, or None. What isn't played again isn't compared."""
    again = replay(env, episode, enough)
    cut = not any(flag for outcome in again.outcomes[-1:] for flag in outcome[1:])
    return (episode.first(len(again.actions)) if cut else episode).difference(again)


def _not_replayed(episode: Played, where: str, when: str) -> Finding:
    text = f"the episode of seed {episode.seed} differs at {where} when it is played again {when}: "
    return Finding(
        "replay", "note", text + "runs of one seed differ, and resumed runs close the open episode"
    )


def _on_seeds(env: Contract, seed: int) -> Finding:
    """Reset with several seeds: they should matter, unless every episode opens alike."""
    first = [copied(env.reset(seed=seed_of(seed, "check", k))[0]) for k in range(4)]
    if all(equal(first[0], other) for other in first[1:]):
        return Finding("seeds", "note", "four seeds open four episodes alike")
    return Finding("seeds", "ok", "seeds decide how an episode opens")


def _on_aliasing(played: list[Played]) -> Finding:
    for episode in played:
        for t, (was, now) in enumerate(zip(episode.observations, episode.returned, strict=True)):
            if not equal(was, now):
                text = f"the observation of step {t} is changed by a later step; the lab copies observations"
                return Finding("aliasing", "note", text)
    return Finding("aliasing", "ok", "observations stay as they were returned")


def _on_masks(played: list[Played]) -> Finding:
    if played[0].masks[0] is None:
        return Finding("masks", "ok", "none: every action counts as legal")
    legal = np.array([mask.sum() for episode in played for mask in episode.masks_to_act_by()])
    return Finding("masks", "ok", f"{legal.min()} to {legal.max()} of {played[0].masks[0].size} are legal")


def _on_ends(env: Contract, played: list[Played]) -> Finding:
    ended = sum(any(episode.outcomes[-1][1:]) for episode in played if episode.outcomes)
    longest = max(len(episode.actions) for episode in played)
    limit = env.spec.max_episode_steps if env.spec is not None else None
    if ended or limit is not None:
        return Finding(
            "ends", "ok", f"{ended} of {len(played)} episodes ended; time limit: {limit or 'none'}"
        )
    text = (
        f"no episode of up to {longest} steps ended, and there is no time limit (allowed: max_episode_steps)"
    )
    return Finding("ends", "note", text)


def _on_model(env: Contract, seed: int) -> Iterator[Finding]:
    """Compare the model, if there is one, with steps that are played."""
    try:
        model = extract_model(env)
    except ValueError as error:
        yield Finding("model", "fault", str(error))
        return
    if model is None:
        yield Finding("model", "ok", "none: nothing exact is reported")
    elif (wrong := _disagreement(env, model, seed)) is not None:
        yield Finding("model", "note", f"it is not what is played, so nothing exact is reported: {wrong}")
    else:
        yield Finding("model", "ok", f"{model.num_states} states; the steps played agree with it")


def _disagreement(env: Contract, model: TabularModel, seed: int) -> str | None:
    return find_disagreement(env, model, placed_steps=PLACED_STEPS, seed=seed)
