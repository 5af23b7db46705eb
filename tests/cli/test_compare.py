"""The command `compare`: wrong input is one line, and no study is begun. `tests/studies` has the studies themselves."""

from __future__ import annotations

import json

import pytest

from commands import call, require_refusal
from rl_lab.cli.compare import compare


class TestRefuses:
    @pytest.mark.parametrize(
        ("words", "named"),
        [
            (["--agents", "nobody"], ["'nobody'"]),
            (["--agents", "random", "q-learning"], ["CartPole-v1", "Discrete"]),
            (["--agents", "random", "--set", "gamma"], ["'gamma'", "name=value"]),
            (["--agents", "random", "--set", "nonsense=1"], ["'nonsense'"]),
            (
                ["--agents", "random", "--set", "dqn:gamma=1"],
                ["fields are given for agent 'dqn'", "isn't compared"],
            ),
            (
                ["--agents", "random", "--set", "env_id=Taxi-v4"],
                ["env_id can't be given for the runs of a study"],
            ),
            (["--agents", "dqn", "--set", "dqn:learning_rate=-1"], ["learning_rate", "-1"]),
            (["--agents", "dqn", "--set", "learning_rate=quick"], ["learning_rate", "quick"]),
            (["--agents", "random", "--seeds", "0"], ["seeds", "got 0"]),
            (["--agents", "random", "--workers", "0"], ["workers", "got 0"]),
            (["--agents", "random", "--config", "nowhere.yaml"], ["nowhere.yaml"]),
            (["--agents", "random", "dqn", "--alpha", "0.1"], ["alpha 0.1 does nothing", "until_decided"]),
            (["--agents", "random", "dqn", "--until-decided", "--seeds", "9"], ["seeds 9", "until_decided"]),
            (["--agents", "random", "dqn", "--until-decided", "--alpha", "2"], ["alpha", "got 2.0"]),
            (
                ["--agents", "random", "dqn", "--until-decided", "--max-seeds", "7"],
                ["max_seeds 7", "5 or 10"],
            ),
            (["--agents", "random", "--until-decided"], ["needs two agents or more, got random"]),
            (["--agents", "random", "--keep-horizon"], ["keep_horizon does nothing", "holds no study"]),
            (["--agents", "random", "--batched"], ["batched does nothing for random", "q-learning"]),
            (["--agents", "q-learning", "--batched"], ["CartPole-v1", "discrete observations"]),
            (
                ["--env-id", "FrozenLake-v1", "--agents", "sarsa", "--batched", "--engine", "ray"],
                ["batched", "engine 'ray'", "'local'"],
            ),
            ([], ["--agents"]),
        ],
        ids=lambda value: " ".join(value) or "nobody",
    )
    def test_studies(self, capsys, tmp_path, words, named):
        require_refusal(
            call(capsys, compare, "--env-id", "CartPole-v1", *words, "--out", tmp_path / "out"), *named
        )
        assert not (tmp_path / "out").exists()


def test_the_verdict_is_told_before_the_page(monkeypatch, tmp_path, capsys):
    from rl_lab.studies.compare import Comparison

    (tmp_path / "tables").mkdir()
    told = {"study": {"verdicts": [{"text": "On A, b is better than c."}]}}
    (tmp_path / "tables" / "numbers.json").write_text(json.dumps(told))
    found = Comparison(tmp_path / "index.html", {})
    monkeypatch.setattr("rl_lab.studies.compare.compare_study", lambda *args, **options: found)
    assert compare(["--env-id", "FrozenLake-v1", "--agents", "q-learning", "--out", str(tmp_path)]) == 0
    told_lines = capsys.readouterr().out.splitlines()
    assert told_lines == ["On A, b is better than c.", f"comparison page: {tmp_path / 'index.html'}"]
