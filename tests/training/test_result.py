"""What training returns: a short line, and in a notebook its curves and its film."""

from __future__ import annotations

import base64
import re
import subprocess
import sys

import numpy as np
import pytest

import rl_lab
from rl_lab.evaluation import html
from rl_lab.evaluation.run_curves import EVALUATION, TRAINING, draw_curves, points
from rl_lab.runs.rows import read_rows
from runs import QUICK, learn

LAKE = {"total_steps": 300, "log_every_steps": 50, "eval_every_steps": 100}


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp("result") / "run"
    return learn(folder, "q-learning", "FrozenLake-v1", video_episodes=1, **LAKE)


def test_its_repr_is_one_short_line(result):
    mean = result.summary["eval_return_mean"]
    told = f"Result(q-learning on FrozenLake-v1: return {mean:g} after 300 steps, {str(result.run_dir)!r})"
    assert repr(result) == told


def test_the_repr_of_a_run_without_a_return(tmp_path):
    stopped = learn(tmp_path / "a", "q-learning", "FrozenLake-v1", stop_at=200, **LAKE)
    assert "q-learning on FrozenLake-v1: stopped after 200 steps by a signal, " in repr(stopped)
    assert stopped.eval_return_mean is None
    blind = learn(tmp_path / "b", "random", "FrozenLake-v1", total_steps=20, eval_episodes=0)
    assert "random on FrozenLake-v1: 20 steps, not evaluated, " in repr(blind)


def test_a_finished_run_that_is_resumed_tells_the_same(result):
    again = rl_lab.resume(result.run_dir)
    assert repr(again) == repr(result)


def test_a_notebook_sees_curves_and_film(result):
    shown = result._repr_html_()
    png = base64.b64decode(
        re.search(r'<img alt="learning curves" src="data:image/png;base64,([^"]+)"', shown)[1]
    )
    assert png.startswith(b"\x89PNG")
    film = base64.b64decode(re.search(r'<video [^>]*src="data:video/mp4;base64,([^"]+)"', shown)[1])
    assert film == result.film.read_bytes()


def test_a_film_that_is_too_large_is_linked(result, monkeypatch):
    monkeypatch.setattr(html, "EMBEDDED_BYTES", 1000)
    shown = result._repr_html_()
    assert "<video" not in shown
    assert f'<a href="{result.film}">' in shown
    assert "too large to embed" in shown


def test_without_film_and_returns_there_is_only_the_line(tmp_path):
    result = learn(tmp_path, "random", "FrozenLake-v1", total_steps=1, eval_episodes=0)
    assert result.film is None
    assert result.learning_curves() is None
    assert "<img" not in result._repr_html_()


def test_text_cannot_become_html():
    assert html.text("<b>&") == "<p>&lt;b&gt;&amp;</p>"
    assert 'alt="&quot;x"' in html.picture(b"", '"x')


def test_the_curves_are_those_of_the_rows(result):
    rows = read_rows(result.run_dir)
    steps, returns = points(rows, EVALUATION)
    assert steps.tolist() == [100, 200, 300]
    assert returns[-1] == result.summary["eval_return_mean"]
    trained = points(rows, TRAINING)[0]
    assert set(trained) <= set(range(50, 301, 50))
    steps, returns = points([{"env_steps": 1, "a": None}, {"env_steps": 2, "a": 3}, {"env_steps": 4}], "a")
    assert (steps.tolist(), returns.tolist()) == ([2.0], [3.0])
    assert np.frombuffer(draw_curves(result.run_dir)[16:24], ">u4").tolist() == [540, 288]  # width, height


def test_neither_matplotlib_nor_ipython_is_imported_until_it_is_shown(tmp_path):
    code = f"""if True:
        import sys, rl_lab
        result = rl_lab.learn("random", "FrozenLake-v1", run_dir={str(tmp_path)!r}, total_steps=40, **{QUICK!r})
        repr(result)
        assert not {{"matplotlib", "IPython", "torch"}} & set(sys.modules), "imported"
        result._repr_html_()
        assert "matplotlib" in sys.modules
    """
    subprocess.run([sys.executable, "-c", code], check=True)
