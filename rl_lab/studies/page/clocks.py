"""How far the clocks of runs can be trusted: whether they had a processor to themselves."""

from __future__ import annotations

from rl_lab.studies.results import StudyResults

FREE = 0.9  # share of the wall-clock time below which a run didn't have a processor to itself


def processor_share(study: StudyResults) -> float | None:
    """Return the CPU time of finished runs as a share of their wall-clock time; None where it isn't known.

    It is above 1 where runs have several busy processes or threads.
    """
    times = [
        (cpu, wall)
        for runs in study.runs.values()
        for run in runs
        if (cpu := run.scalar("cpu_seconds")) is not None and (wall := run.scalar("wall_seconds"))
    ]
    return sum(cpu for cpu, _ in times) / sum(wall for _, wall in times) if times else None


def clocks_note(study: StudyResults) -> str | None:
    """Return what has to be said of the seconds of a study; None where runs had a processor to themselves."""
    share = processor_share(study)
    if share is None or share >= FREE:
        return None
    return (
        f"The runs had a processor for {share:.0%} of their wall-clock time: for the rest, other work had it, or they "
        "waited. Seconds and steps per second are those of a shared machine; CPU seconds depend less on it."
    ).replace("%", " %")
