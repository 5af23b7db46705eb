"""Comparing from Python: what the command does, in one call."""

from __future__ import annotations

import pytest

import rl_lab

pytestmark = pytest.mark.usefixtures("no_figures")

TINY = {"wandb": "disabled", "video_episodes": 0, "pictures": False, "eval_episodes": 2, "total_steps": 100}


def test_runs_a_study_and_writes_its_page(tmp_path, capsys):
    found = rl_lab.compare("FrozenLake-v1", ["q-learning", "random"], seeds=1, out=tmp_path, **TINY)
    assert (found.page, found.failures) == (tmp_path / "index.html", {})
    assert "q-learning" in found.page.read_text()
    assert len(list(tmp_path.glob("runs/**/summary.json"))) == 2
    assert capsys.readouterr().out == ""
    again = rl_lab.compare(
        ("FrozenLake-v1",), ("q-learning", "random"), seeds=1, out=tmp_path, progress=True, **TINY
    )
    assert again == found
    assert capsys.readouterr().out == "2 of 2 runs are done already\n"
    (verdict,) = again.verdicts
    assert verdict.startswith("On FrozenLake-v1, ")
    assert verdict in found.page.read_text()


def test_tells_once_of_a_model_that_is_not_what_is_played(tmp_path, capsys):
    names = ["q-learning", "random"]
    rl_lab.compare("odd_models:odd/Leaking-v0", names, seeds=1, out=tmp_path, progress=True, **TINY)
    out = capsys.readouterr().out.splitlines()
    assert [line[:30] for line in out if "the model allows" in line] == ["warning: the model of odd_mode"]


def test_warns_of_such_a_model_without_a_display(tmp_path, capsys):
    with pytest.warns(UserWarning, match="^the model of odd_models:odd/Leaking-v0 ") as said:
        rl_lab.compare("odd_models:odd/Leaking-v0", ["q-learning", "random"], seeds=1, out=tmp_path, **TINY)
    assert len([w for w in said if "the model allows" in str(w.message)]) == 1
    assert capsys.readouterr().out == ""


def test_shows_itself_where_somebody_looks(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("rl_lab.studies.compare.is_watched", lambda: True)
    rl_lab.compare("FrozenLake-v1", "random", seeds=1, out=tmp_path, **TINY)
    assert "FrozenLake-v1 random seed 0" in capsys.readouterr().out


def test_names_the_runs_that_failed(tmp_path):
    folder = tmp_path / "runs" / "FrozenLake-v1" / "q-learning" / "seed_0"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{")
    found = rl_lab.compare("FrozenLake-v1", "q-learning", seeds=1, out=tmp_path, **TINY)
    (cause,) = found.failures.values()
    assert list(found.failures) == ["FrozenLake-v1 q-learning seed 0"]
    assert cause in found.page.read_text()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"workers": 0}, "workers must be at least 1, got 0"),
        ({"seeds": 0}, "seeds must be at least 1, got 0"),
        ({"preset": "fast"}, "has no preset 'fast'"),
        ({"agent_fields": {"q-learning": {"gamma": 2}}}, "gamma must be between"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_refuses_before_anything_is_written(tmp_path, changes, named):
    with pytest.raises(rl_lab.UsageError, match=named):
        rl_lab.compare("FrozenLake-v1", "q-learning", out=tmp_path / "out", **(TINY | changes))
    assert not (tmp_path / "out").exists()
