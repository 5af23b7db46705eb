"""Simulates the runs of several seeds together, on all cores, before each of them is carried out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence

from rl_lab.mdp.simulate import Simulation
from rl_lab.problem import Problem
from rl_lab.runs.config import RunConfig
from rl_lab.runs.moments import Moments
from rl_lab.runs.progress import tell_watcher
from rl_lab.training.simulated_session import AheadOfTime, Part, next_stop, parts_of, to_tell
from rl_lab.training.simulation import Simulated

MEMORY_BYTES = 2**28  # for the stretches of the runs that are simulated together
BYTES_A_STEP = 17  # of a stretch: action, reward, termination


def simulate_together(
    learner: Simulated,
    problem: Problem,
    configs: Sequence[RunConfig],
    tell: Callable[[str], None] = tell_watcher,
) -> Iterator[AheadOfTime | None]:
    """Yield each run's stretches, in order; None for a run that is to be simulated by itself, while it is carried out.

    That is so if values left all bounds in it or in one simulated beside it, or if the memory can't hold its stretches.

    Args:
        problem: of one of the runs; the others differ from it in the seed.
        configs: of the runs, which differ in the seed and the folder.
        tell: shows a line; of what takes long before the first stretch is there.
    """
    stops = stops_of(configs[0])
    seeds = [config.seed for config in configs]
    size = _group_size(learner.simulation(problem, seeds[:1]), stops)
    if size == 0:
        yield from [None] * len(seeds)
        return
    for start in range(0, len(seeds), size):
        group = seeds[start : start + size]
        simulation = learner.simulation(problem, group)
        if told := to_tell(simulation):
            tell(told)
        yield from _ahead(simulation, stops)


def stops_of(config: RunConfig) -> list[int]:
    """Return the steps between which a run is simulated in one piece."""
    moments, at, stops = Moments.of(config), 0, []
    while at < config.total_steps:
        at = next_stop(at, moments.after(at), config.total_steps)
        stops.append(at)
    return stops


def _group_size(simulation: Simulation, stops: list[int]) -> int:
    """Return how many runs are simulated together: as many as the memory holds, which may be none."""
    state = sum(array.nbytes for array in simulation.knowledge) + simulation.knowledge.q.nbytes
    return MEMORY_BYTES // (len(stops) * state + BYTES_A_STEP * stops[-1])


def _ahead(simulation: Simulation, stops: list[int]) -> Iterator[AheadOfTime | None]:
    parts: list[deque[Part]] = [deque() for _ in simulation.seeds]
    limit = simulation.limit
    simulation.prepare()  # which isn't training
    try:
        for stop in stops:
            for kept, part in zip(parts, parts_of(simulation, stop), strict=True):
                kept.append(part)
    except FloatingPointError:  # each is simulated alone, and the one that fails says so
        yield from [None] * len(parts)
        return
    for kept in parts:
        yield AheadOfTime(kept, limit)
