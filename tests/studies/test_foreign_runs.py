"""Run directories, score files and published scores: what is read, refused and said of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from foreign_files import CARTPOLE, run_folder, score_file
from rl_lab.storage.errors import FormatTooNew
from rl_lab.studies.foreign.join import read_joins
from rl_lab.studies.foreign.joined import BUDGET, EPISODES, Joined, JoinedRun, base_name, matching
from rl_lab.studies.foreign.published import SOURCE
from rl_lab.studies.results import RETURN
from rl_lab.types import UsageError

KEPT = Path(__file__).parents[1] / "fixtures" / "format_2" / "q-learning"
LAKE = "FrozenLake-v1"


def read(out, *words, env_ids=(CARTPOLE,)):
    return [one for join in read_joins(words, env_ids, out) for one in join.joined]


def summary(score, **more):
    return {RETURN: score, "env_steps": 500, "train_seconds": 2.0, "eval_returns": [score, score]} | more


# Run directories -------------------------------------------------------------------------------------


def test_runs_of_a_folder_are_one_agent_each_with_its_seed(tmp_path):
    for seed, score in ((3, 0.5), (7, 0.75)):
        folder = run_folder(tmp_path / "runs" / f"s{seed}", KEPT, summary(score), seed=seed, total_steps=500)
        (folder / "metrics.jsonl").write_text('{"env_steps": 250, "eval_return_mean": 0.25}\nbroken\n')
    (one,) = read(tmp_path / "out", f"old={tmp_path / 'runs'}", env_ids=(LAKE,))
    assert (one.agent, one.env_id, one.kind, one.returns) == ("old", LAKE, "rl_lab", "evaluation")
    assert [run.seed for run in one.runs] == [3, 7]
    assert one.figures(RETURN) == [0.5, 0.75]
    assert (one.figures(EPISODES), one.figures(BUDGET)) == ([2, 2], [500, 500])
    assert [points.tolist() for points in one.runs[0].curve(RETURN)] == [[250.0], [0.25]]


def test_the_last_evaluation_stands_once_where_the_budget_was_rounded_up(tmp_path):
    folder = run_folder(tmp_path / "runs/a", KEPT, summary(0.5), total_steps=500)
    points = ((250, 0.1), (500, 0.3), (512, 0.5))
    rows = [json.dumps({"env_steps": steps, "eval_return_mean": value}) for steps, value in points]
    (folder / "metrics.jsonl").write_text("\n".join(rows) + "\n")
    (one,) = read(tmp_path / "out", f"old={folder}", env_ids=(LAKE,))
    assert one.runs[0].points["eval_return_mean"] == ((250.0, 0.1), (512.0, 0.5))


def test_several_agents_are_told_apart(tmp_path):
    run_folder(tmp_path / "runs/a", KEPT, summary(0.5))
    run_folder(tmp_path / "runs/b", KEPT, summary(0.5), agent="random", fields={})
    found = read(tmp_path / "out", f"old={tmp_path / 'runs'}", env_ids=(LAKE,))
    assert [one.agent for one in found] == ["old:q-learning", "old:random"]


def test_runs_without_a_result_are_left_out_and_counted(tmp_path):
    run_folder(tmp_path / "runs/a", KEPT, summary(0.5), seed=1)
    run_folder(tmp_path / "runs/b", KEPT, None, seed=2)
    (one,) = read(tmp_path / "out", f"old={tmp_path / 'runs'}", env_ids=(LAKE,))
    assert len(one.runs) == 1
    assert "1 of 2 runs without a result left out" in one.remarks
    (tmp_path / "runs/a/summary.json").unlink()
    with pytest.raises(UsageError, match="none of its 2 runs has finished with an evaluation"):
        read(tmp_path / "out", f"old={tmp_path / 'runs'}", env_ids=(LAKE,))


def test_two_runs_of_one_seed_are_refused(tmp_path):
    for name in ("a", "b"):
        run_folder(tmp_path / "runs" / name, KEPT, summary(0.5))
    with pytest.raises(UsageError, match=r"are both q-learning on FrozenLake-v1 with seed"):
        read(tmp_path / "out", f"old={tmp_path / 'runs'}", env_ids=(LAKE,))


def test_different_settings_within_an_agent_are_said(tmp_path):
    run_folder(tmp_path / "runs/a", KEPT, summary(0.5), seed=1, total_steps=500)
    run_folder(tmp_path / "runs/b", KEPT, summary(0.5), seed=2, total_steps=700, fields={"gamma": 0.5})
    (one,) = read(tmp_path / "out", f"old={tmp_path / 'runs'}", env_ids=(LAKE,))
    assert "hyperparameters differ between its runs" in one.remarks
    assert any("total_steps" in remark for remark in one.remarks)


def test_damaged_and_newer_runs_are_refused(tmp_path):
    folder = run_folder(tmp_path / "runs/a", KEPT, summary(0.5))
    (folder / "config.json").write_text("{")
    with pytest.raises(UsageError, match=r"config\.json is damaged"):
        read(tmp_path / "out", f"old={folder}", env_ids=(LAKE,))
    (folder / "config.json").write_text('{"format": 99}')
    with pytest.raises(FormatTooNew, match="has format 99"):
        read(tmp_path / "out", f"old={folder}", env_ids=(LAKE,))


def test_a_study_does_not_join_itself(tmp_path):
    run_folder(tmp_path / "out/runs/a", KEPT, summary(0.5))
    for path in (tmp_path / "out", tmp_path / "out/runs/a", tmp_path / "out/../out/runs"):
        with pytest.raises(UsageError, match="belongs to the study itself"):
            read(tmp_path / "out", f"old={path}", env_ids=(LAKE,))


# Scores ----------------------------------------------------------------------------------------------


def test_rows_of_a_run_are_a_curve_and_a_row_without_a_seed_is_a_run(tmp_path):
    path = score_file(
        tmp_path / "scores.csv",
        f"a,{CARTPOLE},1,30,200",
        f"a,{CARTPOLE},1,10,100",
        f"b,{CARTPOLE},1,5,",
        f"a,{CARTPOLE},,7,",
        f"a,{CARTPOLE},,8,",
        "a,Acrobot-v1,1,-90,100",
    )
    found = read(tmp_path / "out", f"paper={path}")
    assert [(one.agent, one.env_id) for one in found] == [
        ("paper:a", CARTPOLE), ("paper:b", CARTPOLE), ("paper:a", "Acrobot-v1")
    ]  # fmt: skip
    runs = found[0].runs
    assert [(run.seed, run.scalar(RETURN), run.scalar("env_steps")) for run in runs] == [
        (1, 30.0, 200.0), (None, 7.0, None), (None, 8.0, None)
    ]  # fmt: skip
    assert [points.tolist() for points in runs[0].curve(RETURN)] == [[100.0, 200.0], [10.0, 30.0]]
    assert found[0].returns == "given"


def test_one_agent_needs_no_column_and_one_environment_can_be_said(tmp_path):
    path = score_file(tmp_path / "scores.csv", "0,1.5,x", "1,2.5,y", head="seed,return,lab")
    (one,) = read(tmp_path / "out", f"paper@{CARTPOLE}={path}")
    assert (one.agent, one.env_id, one.figures(RETURN)) == ("paper", CARTPOLE, [1.5, 2.5])
    assert one.remarks == ("columns left out: lab",)
    with pytest.raises(UsageError, match="lacks the columns env_id"):
        read(tmp_path / "out", f"paper={path}")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (b"", "its head is ''"),
        (b"agent,agent\n1,2\n", "distinct names of columns"),
        (b"agent,env_id,return\na,CartPole-v1,1\n", "lacks the columns seed"),
        (b"agent,env_id,seed,return\n", "holds no score"),
        (b"agent,env_id,seed,return\na,CartPole-v1,1,nan\n", "row 1 has return 'nan'"),
        (b"agent,env_id,seed,return\na,CartPole-v1,1\n", "row 1 has return ''"),
        (b"agent,env_id,seed,return\na,CartPole-v1,1.5,2\n", "row 1 has seed '1.5'"),
        (b"agent,env_id,seed,return\na,,1,2\n", "row 1 has no env_id"),
        (b"agent,env_id,seed,return\na,CartPole-v1,1,2\na,CartPole-v1,1,3\n", "row 2 repeats"),
        (b"agent,env_id,seed,return,env_steps\na,CartPole-v1,1,2,5\na,CartPole-v1,1,3,\n", "row 2 repeats"),
        (b"agent,env_id,seed,return,env_steps\na,CartPole-v1,1,2,-5\n", "row 1 has env_steps '-5'"),
        (b"agent,env_id,seed,return\na,CartPole-v1,1,\xff\n", "isn't text in UTF-8"),
        (b"PK\x03\x04\x00\x00", "can't be read"),
        (b'agent,env_id,seed,return\n"a' + b"x" * 200_000 + b'"\n', "field larger than"),
        (b'agent,env_id,seed,return\n"a"b,CartPole-v1,1,2\n', "can't be read"),
    ],
)
def test_a_score_file_that_is_none_is_refused_in_a_line(tmp_path, text, named):
    (tmp_path / "scores.csv").write_bytes(text)
    with pytest.raises(UsageError, match=named) as refused:
        read(tmp_path / "out", f"paper={tmp_path / 'scores.csv'}")
    assert "\n" not in str(refused.value)


# Published scores ------------------------------------------------------------------------------------


def test_a_published_score_is_a_given_fact(tmp_path):
    (one,) = read(tmp_path / "out", "zoo:dqn", env_ids=("LunarLander-v3",))
    assert (one.agent, one.env_id, one.kind, one.source) == ("zoo:dqn", "LunarLander-v2", "published", SOURCE)
    (run,) = one.runs
    assert (run.seed, run.scalar(RETURN), run.scalar(EPISODES), run.scalar(BUDGET)) == (
        None, 154.382, 200, 100_000
    )  # fmt: skip
    assert "standard deviation over episodes 79.241" in one.remarks
    assert run.curve(RETURN)[0].size == 0
    assert one.untested("LunarLander-v2") == "a published figure, without seeds"


def test_published_scores_can_have_a_name_and_cover_several_environments(tmp_path):
    found = read(tmp_path / "out", "given=zoo:ppo", env_ids=("ALE/Breakout-v5", CARTPOLE, "FrozenLake-v1"))
    assert [(one.agent, one.env_id) for one in found] == [
        ("given", "BreakoutNoFrameskip-v4"), ("given", CARTPOLE)
    ]  # fmt: skip
    assert "stochastic policy" in found[0].remarks
    assert "deterministic policy" in found[1].remarks


@pytest.mark.parametrize(
    ("word", "named"),
    [
        ("zoo:rainbow", "nothing is published of zoo:rainbow .*allowed: a2c, ars, ddpg, dqn"),
        ("zoo:td3", "nothing is published of zoo:td3 on CartPole-v1 .*there is: Ant-v3"),
        ("a@CartPole-v1=zoo:dqn", "zoo: knows its environments"),
        ("nothing", "can't be read .*allowed: NAME=PATH"),
        ("=path", "can't be read"),
        ("a=", "can't be read"),
        ("a@=path", "can't be read"),
        ("../up=path", "can't be read"),
        ("a=no-such-path", "there is no 'no-such-path'"),
    ],
)
def test_words_that_name_nothing_are_refused(tmp_path, word, named):
    with pytest.raises(UsageError, match=named):
        read(tmp_path / "out", word)


def test_names_and_folders_are_checked(tmp_path):
    with pytest.raises(UsageError, match="repeats the name 'zoo_dqn'"):
        read(tmp_path / "out", "zoo:dqn", "zoo_dqn=zoo:dqn")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no run"):
        read(tmp_path / "out", f"a={tmp_path / 'empty'}")
    path = score_file(tmp_path / "scores.csv", "a,Acrobot-v1,1,2,3")
    with pytest.raises(UsageError, match="is of Acrobot-v1, which isn't compared"):
        read(tmp_path / "out", f"a={path}")


# Which environment a run belongs to, and whether it is tested -----------------------------------------


@pytest.mark.parametrize(
    ("env_id", "name"),
    [
        ("ALE/Breakout-v5", "Breakout"), ("BreakoutNoFrameskip-v4", "Breakout"), ("LunarLander-v3", "LunarLander"),
        ("module:lab/GridWorld-v0", "GridWorld"), ("LunarLanderContinuous-v2", "LunarLanderContinuous"),
        ("Pong-ramNoFrameskip-v4", "Pong"), ("BreakoutDeterministic-v4", "Breakout"), ("Custom", "Custom"),
    ],
)  # fmt: skip
def test_versions_of_an_environment_share_a_name(env_id, name):
    assert base_name(env_id) == name


def joined(env_id, kind="scores", seeds=(0, 1), agent="a", returns="given"):
    return Joined(agent, env_id, kind, returns, "x", tuple(JoinedRun(s, {RETURN: 1.0}) for s in seeds))


def test_the_environment_itself_is_shown_before_another_version_of_it():
    old, new, other = joined("LunarLander-v2"), joined("LunarLander-v3"), joined("LunarLander-v1", agent="b")
    assert matching([old, new, other], "LunarLander-v3") == [new, other]
    assert matching([old, new], "LunarLander-v4") == [new]
    assert matching([old], "Acrobot-v1") == []


def test_nothing_that_is_joined_enters_a_test_and_why_is_said():
    assert joined(CARTPOLE).untested(CARTPOLE) == "not run by this study"
    assert joined(CARTPOLE).untested("CartPole-v0") == "another environment"
