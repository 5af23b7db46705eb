"""The live page of a run that has saved nothing yet."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from rl_lab.cli import watch_web
from rl_lab.cli.watch_web import WebOptions
from rl_lab.types import UsageError
from runs import learn

FIELDS = {"total_steps": 40, "eval_episodes": 0}


@pytest.fixture
def begun(tmp_path):
    """A run as it is while it trains, before its first checkpoint; the checkpoints stand beside it."""
    learn(tmp_path / "run", "q-learning", "FrozenLake-v1", **FIELDS)
    (tmp_path / "run/summary.json").unlink()
    (tmp_path / "run/checkpoints").rename(tmp_path / "later")
    (tmp_path / "run/checkpoints").mkdir()
    return tmp_path / "run"


def test_the_page_waits_for_the_first_checkpoint_and_says_so(begun, monkeypatch, capsys):
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 3:
            (begun / "checkpoints").rmdir()
            (begun.parent / "later").rename(begun / "checkpoints")

    monkeypatch.setattr(watch_web, "time", SimpleNamespace(sleep=sleep))
    monkeypatch.setattr("rl_lab.watching.courtesy.give_way", lambda: False)
    (shown,) = watch_web._shown(WebOptions((str(begun),)))
    assert slept == [watch_web.WAIT_SECONDS] * 3
    assert shown.folder == begun
    assert capsys.readouterr().out == f"waiting for the first checkpoint of {str(begun)!r} (Ctrl-C ends it)\n"


@pytest.mark.parametrize("ending", ["ended", "never began"])
def test_a_run_that_saves_nothing_any_more_is_refused(begun, monkeypatch, ending):
    name = "summary.json" if ending == "ended" else "metrics.jsonl"
    path = begun / name
    path.write_text("{}") if ending == "ended" else path.unlink()
    monkeypatch.setattr(watch_web, "time", None)
    with pytest.raises(UsageError, match="has no checkpoint yet"):
        watch_web._shown(WebOptions((str(begun),)))
