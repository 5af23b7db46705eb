"""The curves: means of finished runs, the last evaluation once, over steps and over seconds."""

from __future__ import annotations

import json

import numpy as np
import pytest

from page_studies import LAKE, describe, write_run
from rl_lab.studies.page.curves import SECONDS, STEPS, curve_panel
from rl_lab.studies.page.symlog import LINEAR, Symlog
from rl_lab.studies.results import REGRET, RETURN, load_study


def rows(run, *extra):
    with (run / "metrics.jsonl").open("a") as file:
        file.write("".join(json.dumps(row) + "\n" for row in extra))


def test_curve_is_the_interquartile_mean_of_the_finished_seeds(tmp_path):
    study = describe(tmp_path, ["dqn"], seeds=5)
    for seed, score in enumerate([1.0, 0.0, 1.0, 100.0]):
        write_run(study, "dqn", seed, [score] * 3, env_steps=300)
    write_run(study, "dqn", 4, [50.0] * 3)
    panel = curve_panel(load_study(study), LAKE, RETURN, STEPS)
    (line,) = panel.lines
    assert (line.x, line.y) == ([0.0, 100.0, 200.0], [1.0, 1.0, 1.0])  # without the lowest and the highest
    assert [(run.seed, run.done) for run in panel.seeds] == [
        (0, True),
        (1, True),
        (2, True),
        (3, True),
        (4, False),
    ]


def test_the_last_evaluation_stands_once_where_the_budget_was_rounded_up(tmp_path):
    """One at the 300 steps that were asked for, one at the 304 that were made."""
    study = describe(tmp_path, ["ppo"], seeds=2)
    for seed, done in enumerate([{"env_steps": 304}, {}]):
        run = write_run(study, "ppo", seed, [0.0, 0.1, 0.2, 0.3], **done)
        config = json.loads((run / "config.json").read_bytes()) | {"total_steps": 300}
        (run / "config.json").write_text(json.dumps(config))
        rows(run, {"env_steps": 304, "eval_return_mean": 0.9})
    finished, stopped = load_study(study).of_env(LAKE)
    assert [values.tolist() for values in finished.curve(RETURN)] == [
        [0, 100, 200, 304],
        [0.0, 0.1, 0.2, 0.9],
    ]
    assert stopped.curve(RETURN)[0].tolist() == [0, 100, 200, 300, 304]  # it may go on


def test_an_exact_budget_keeps_its_last_evaluation(tmp_path):
    run = write_run(describe(tmp_path, ["dqn"], seeds=1), "dqn", 0, [0.0, 0.1, 0.2, 0.3], env_steps=300)
    config = json.loads((run / "config.json").read_bytes()) | {"total_steps": 300}
    (run / "config.json").write_text(json.dumps(config))
    assert load_study(tmp_path).of_env(LAKE)[0].curve(RETURN)[0].tolist() == [0, 100, 200, 300]


def test_seconds_are_interpolated_between_the_rows_that_tell_them(tmp_path):
    run = write_run(
        describe(tmp_path, ["dqn"], seeds=1), "dqn", 0, [0.0, 0.5, 0.75], env_steps=200, train_seconds=5.0
    )
    rows(run, {"env_steps": 50, "train_seconds": 1.0}, {"env_steps": 150, "train_seconds": 2.0})
    panel = curve_panel(load_study(tmp_path), LAKE, RETURN, SECONDS)
    (line,) = panel.lines
    assert (line.x, line.y) == ([0.0, 1.5, 5.0], [0.0, 0.5, 0.75])


def test_without_any_clock_there_is_no_curve_over_seconds(tmp_path):
    write_run(describe(tmp_path, ["dqn"], seeds=1), "dqn", 0, [0.0, 0.5])
    assert curve_panel(load_study(tmp_path), LAKE, RETURN, SECONDS) is None
    assert curve_panel(load_study(tmp_path), LAKE, REGRET, STEPS) is None


def test_an_agent_that_solves_the_model_is_a_horizontal_line(tmp_path):
    study = describe(tmp_path, ["dqn", "value-iteration"], seeds=1)
    write_run(study, "dqn", 0, [0.0, 0.1, 0.2, 0.3], env_steps=300, train_seconds=4.0)
    write_run(study, "value-iteration", 0, [0.7], env_steps=0, train_seconds=0.5)
    over = {axis: curve_panel(load_study(study), LAKE, RETURN, axis).lines[1] for axis in (STEPS, SECONDS)}
    assert (over[STEPS].x, over[STEPS].y) == ([0.0, 300.0], [0.7, 0.7])
    assert (over[SECONDS].x, over[SECONDS].y) == ([0.5, 4.0], [0.7, 0.7])


def test_regrets_over_magnitudes_have_an_axis_that_still_shows_zero(tmp_path):
    study = describe(tmp_path, ["dqn"], seeds=1)
    write_run(study, "dqn", 0, [0.0] * 8, env_steps=700, regret=0.0)  # 0.1 down to 0.0008
    assert curve_panel(load_study(study), LAKE, REGRET, STEPS).y_log
    place = Symlog.of([0.0, 0.0008, 0.1])
    assert place.threshold == pytest.approx(1e-4)
    assert place([0.0, 1e-4, 1e-3, 0.1]).tolist() == pytest.approx([0.0, LINEAR, LINEAR + 1, LINEAR + 3])
    assert np.all(np.diff(place(np.linspace(-0.1, 0.1, 400))) > 0)
    assert place.ticks([0.1]) == [0.0, 1e-4, 1e-3, 1e-2, 0.1]
