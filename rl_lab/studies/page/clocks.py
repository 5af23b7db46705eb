"""How far the clocks of runs can be trusted: whether they had a process, and a processor, to themselves."""

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
    """Return what has to be said of the seconds of a study; None where runs shared no process or processor."""
    return " ".join(text for text in (_sharing(study), _waiting(study)) if text) or None


def _sharing(study: StudyResults) -> str | None:
    """Return which agents' runs learned together in one process; None if none did."""
    found: dict[str, int] = {}
    for (_, agent), runs in study.runs.items():
        for run in runs:
            if (number := run.scalar("runs_together")) is not None:
                found[agent] = max(found.get(agent, 0), int(number))
    if not found:
        return None
    named = ", ".join(f"{agent} (up to {number})" for agent, number in found.items())
    return (
        f"Runs that learned together in one process: {named}. Their seconds are their shares of it, less than a run "
        "alone takes; their memory is that of the whole process."
    )


def _waiting(study: StudyResults) -> str | None:
    """Return how much of the time runs had a processor; None where they had one to themselves, or it isn't known."""
    share = processor_share(study)
    if share is None or share >= FREE:
        return None
    return (
        f"The runs had a processor for {share:.0%} of their wall-clock time: for the rest, other work had it, or they "
        "waited. Seconds and steps per second are those of a shared machine; CPU seconds depend less on it."
    ).replace("%", " %")
