"""SB3's files: which runs, returns and steps they hold, and that nothing else is made up."""

from __future__ import annotations

import pickle
import zipfile

import numpy as np
import pytest

from foreign_files import CARTPOLE, evaluations_file, monitor_file
from rl_lab.studies.foreign import files
from rl_lab.studies.foreign.join import read_joins
from rl_lab.studies.foreign.joined import EPISODES
from rl_lab.studies.results import RETURN
from rl_lab.types import UsageError


def joined(tmp_path, word):
    (join,) = read_joins([word], (CARTPOLE,), tmp_path / "out")
    return join.joined


def test_evaluations_are_the_scores_and_monitor_tells_the_environment_and_the_seconds(tmp_path):
    folder = tmp_path / "logs"
    monitor_file(folder, [(10.0, 10, 1.5), (30.0, 30, 4.0)])
    evaluations_file(folder, [20, 40], [[1.0, 3.0, 5.0], [10.0, 20.0, 60.0]])
    (one,) = joined(tmp_path, f"theirs={folder}")
    (run,) = one.runs
    assert (one.agent, one.env_id, one.kind, one.returns) == ("theirs", CARTPOLE, "sb3", "evaluation")
    assert run.seed is None
    assert run.figures == {RETURN: 30.0, EPISODES: 3, "env_steps": 40, "wall_seconds": 4.0}
    assert [points.tolist() for points in run.curve(RETURN)] == [[20.0, 40.0], [3.0, 30.0]]


def test_the_episodes_of_several_environments_are_ordered_by_their_ends(tmp_path):
    folder = tmp_path / "logs"
    monitor_file(folder, [(1.0, 10, 2.0), (3.0, 30, 6.0)], name="0.monitor.csv", start=1000.0)
    monitor_file(folder, [(2.0, 20, 3.0), (4.0, 40, 9.0)], name="1.monitor.csv", start=1001.0)
    (one,) = joined(tmp_path, f"theirs={folder}")
    (run,) = one.runs
    assert one.returns == "training"
    steps, means = run.curve(RETURN)
    assert steps.tolist() == [10, 30, 60, 100]  # ends at 1002, 1004, 1006 and 1010 seconds
    assert means.tolist() == [1.0, 1.5, 2.0, 2.5]
    assert run.figures == {RETURN: 2.5, "env_steps": 100, "wall_seconds": 10.0}


def test_the_score_of_training_is_the_mean_of_the_last_hundred_episodes(tmp_path):
    monitor_file(tmp_path / "logs", [(float(k), 1, float(k)) for k in range(150)])
    (one,) = joined(tmp_path, f"theirs={tmp_path / 'logs'}")
    assert one.runs[0].scalar(RETURN) == np.mean(range(50, 150))
    assert "training episodes, with exploration" in one.remarks[0]
    assert one.untested(CARTPOLE) == "returns of training episodes"


def test_each_folder_below_is_a_run(tmp_path):
    for k in (1, 2, 3):
        monitor_file(tmp_path / "logs" / "dqn" / f"CartPole-v1_{k}", [(float(k), 5, 1.0)])
    (one,) = joined(tmp_path, f"theirs={tmp_path / 'logs'}")
    assert [run.scalar(RETURN) for run in one.runs] == [1.0, 2.0, 3.0]


def test_an_environment_that_no_file_names_must_be_said(tmp_path):
    folder = tmp_path / "logs"
    evaluations_file(folder, [10], [[1.0]])
    with pytest.raises(UsageError, match=r"doesn't say what was played \(allowed: NAME@ENV_ID="):
        joined(tmp_path, f"theirs={folder}")
    (one,) = joined(tmp_path, f"theirs@{CARTPOLE}={folder}")
    assert one.env_id == CARTPOLE
    monitor_file(folder, [(1.0, 1, 1.0)], env_id=None)
    assert joined(tmp_path, f"theirs@{CARTPOLE}={folder}")[0].env_id == CARTPOLE
    monitor_file(folder, [(1.0, 1, 1.0)], env_id="Acrobot-v1")
    with pytest.raises(UsageError, match=f"played on Acrobot-v1, not {CARTPOLE}"):
        joined(tmp_path, f"theirs@{CARTPOLE}={folder}")


def test_a_last_line_that_a_killed_run_left_is_passed_over_and_said(tmp_path):
    path = monitor_file(tmp_path / "logs", [(1.0, 10, 1.0), (5.0, 10, 2.0)])
    path.write_text(path.read_text()[:-4])
    (one,) = joined(tmp_path, f"theirs={tmp_path / 'logs'}")
    assert one.runs[0].figures["env_steps"] == 10
    assert "the last line of 1 monitor.csv was cut off and is left out" in one.remarks


def test_scores_of_two_kinds_are_not_put_together(tmp_path):
    monitor_file(tmp_path / "logs/a", [(1.0, 1, 1.0)])
    monitor_file(tmp_path / "logs/b", [(1.0, 1, 1.0)])
    evaluations_file(tmp_path / "logs/b", [1], [[1.0]])
    with pytest.raises(UsageError, match="aren't of one kind"):
        joined(tmp_path, f"theirs={tmp_path / 'logs'}")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("r,l,t\n1,1,1\n", "first line isn't that of SB3's Monitor"),
        ("#{broken\nr,l,t\n1,1,1\n", "first line isn't that of SB3's Monitor"),
        ("#[1]\nr,l,t\n1,1,1\n", "first line isn't that of SB3's Monitor"),
        ('#{"env_id": "CartPole-v1"}\n', "holds no episode"),
        ('#{"env_id": "CartPole-v1"}\nr,l,t\n', "holds no episode"),
        ('#{"env_id": "CartPole-v1"}\nr,t\n1,1\n', "row 1 lacks l"),
        ('#{"env_id": "CartPole-v1"}\nr,l,t\nnan,1,1\n', "row 1 has r 'nan'"),
        ('#{"env_id": "CartPole-v1"}\nr,l,t\n1,-1,1\n', "row 1 has l '-1'"),
        ('#{"env_id": "CartPole-v1"}\nr,l,t\n1,1\n', "row 1 has t ''"),
        ('#{"env_id": "CartPole-v1"}\nr,l,t\n1,1,1,1\n', "row 1 has 4 values for 3 columns"),
        ('#{"env_id": "CartPole-v1"}\nr,l,t\n1,"1,1\n', "can't be read"),
    ],
)
def test_a_monitor_file_that_is_none_is_refused_in_a_line(tmp_path, text, named):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "monitor.csv").write_text(text)
    with pytest.raises(UsageError, match=named) as refused:
        joined(tmp_path, f"theirs={tmp_path / 'logs'}")
    assert "\n" not in str(refused.value)


class Hostile:
    """An object whose unpickling leaves a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_hostile_evaluations_file_runs_no_code(tmp_path):
    folder, mark = tmp_path / "logs", tmp_path / "ran"
    folder.mkdir()
    objects = np.array([Hostile(mark)], dtype=object)
    np.savez(folder / "evaluations.npz", timesteps=np.array([1]), results=objects)
    with pytest.raises(
        UsageError, match=r"evaluations\.npz can't be read: ValueError: Object arrays cannot be loaded"
    ):
        joined(tmp_path, f"theirs@{CARTPOLE}={folder}")
    (folder / "evaluations.npz").write_bytes(pickle.dumps(Hostile(mark)))
    with pytest.raises(UsageError, match=r"evaluations\.npz can't be read"):
        joined(tmp_path, f"theirs@{CARTPOLE}={folder}")
    assert not mark.exists()


def test_an_archive_that_unpacks_to_much_more_is_not_unpacked(tmp_path, monkeypatch):
    folder = tmp_path / "logs"
    evaluations_file(folder, range(2000), np.zeros((2000, 10)))
    monkeypatch.setattr(files, "MOST_BYTES", 100_000)
    with pytest.raises(UsageError, match=r"its arrays have \d+ bytes \(allowed: up to 100000\)"):
        joined(tmp_path, f"theirs@{CARTPOLE}={folder}")


def test_an_array_whose_head_promises_more_than_there_is_is_refused(tmp_path):
    folder = tmp_path / "logs"
    path = evaluations_file(folder, [1], [[1.0]])
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            huge = data.replace(b"'shape': (1, 1), }" + b" " * 10, b"'shape': (10000000000, 9), }")
            assert name != "results.npy" or huge != data
            archive.writestr(name, huge)
    with pytest.raises(UsageError, match="can't be read"):
        joined(tmp_path, f"theirs@{CARTPOLE}={folder}")


@pytest.mark.parametrize(
    ("steps", "results", "named"),
    [
        ([], np.zeros((0, 2)), "needed"),
        ([1, 2], [[1.0]], "needed"),
        ([1], [1.0], "needed"),
        ([2, 1], [[1.0], [1.0]], "ascending"),
        ([1], [[np.inf]], "isn't an array of finite numbers"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, steps, results, named):
    evaluations_file(tmp_path / "logs", steps, results)
    with pytest.raises(UsageError, match=named):
        joined(tmp_path, f"theirs@{CARTPOLE}={tmp_path / 'logs'}")


def test_every_cut_and_flipped_byte_of_an_archive_is_read_or_refused_in_a_line(tmp_path):
    folder = tmp_path / "logs"
    path = evaluations_file(folder, [20, 40], [[1.0, 3.0], [10.0, 20.0]])
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(150):
        data = bytearray(whole)
        data[rng.integers(len(data))] ^= 1 << rng.integers(8)
        path.write_bytes(bytes(data) if rng.random() < 0.7 else whole[: rng.integers(len(whole))])
        refused = ""
        try:
            joined(tmp_path, f"theirs@{CARTPOLE}={folder}")
        except UsageError as error:
            refused = str(error)
        assert "\n" not in refused


def test_what_sb3_itself_writes_is_understood(tmp_path):
    import gymnasium
    from stable_baselines3 import A2C
    from stable_baselines3.common.callbacks import EvalCallback
    from stable_baselines3.common.monitor import Monitor

    folder = tmp_path / "logs"
    folder.mkdir()
    env = Monitor(gymnasium.make(CARTPOLE), str(folder))
    callback = EvalCallback(
        Monitor(gymnasium.make(CARTPOLE)), n_eval_episodes=2, eval_freq=50, log_path=str(folder), verbose=0
    )
    A2C("MlpPolicy", env, seed=0, device="cpu").learn(150, callback=callback)
    env.close()
    (one,) = joined(tmp_path, f"theirs={folder}")
    (run,) = one.runs
    assert (one.env_id, one.returns, run.figures["env_steps"], run.figures[EPISODES]) == (
        CARTPOLE, "evaluation", 150, 2
    )  # fmt: skip
    steps, returns = run.curve(RETURN)
    assert steps.tolist() == [50, 100, 150]
    assert returns[-1] == run.scalar(RETURN) == callback.last_mean_reward
