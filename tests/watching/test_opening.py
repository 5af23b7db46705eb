"""Opening the page of runs: what it is told, past training episodes, following, saving; refusals of the command."""

from __future__ import annotations

import re
import signal
import subprocess
import sys

import pytest

from rl_lab.cli import watch_web as command
from rl_lab.cli.watch import watch
from rl_lab.runs.rows import read_episodes
from rl_lab.types import UsageError
from rl_lab.watching import desk, opening
from rl_lab.watching.guard import Guard
from rl_lab.watching.messages import Past, Save, Take
from rl_lab.watching.sources import watched
from runs import learn


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A short run of Q-learning on FrozenLake."""
    folder = tmp_path_factory.mktemp("runs") / "a"
    learn(folder, "q-learning", "FrozenLake-v1", total_steps=2000, seed=3)
    return folder


@pytest.fixture
def page(run_dir, monkeypatch):
    """The page of the run, whose server isn't started."""
    monkeypatch.setattr(desk, "give_way", lambda: None)  # the tests' own process goes on at its priority
    page = opening.live_page([watched(run_dir)], Guard(1))
    yield page
    page.player.session.close()


def test_a_page_begins_with_the_runs_seed_names_and_exact_values(page, run_dir):
    session = page.player.session
    assert (session.seed, session.playing) == (3, True)
    about = page._hello["agents"][0]
    assert about["action_names"] == ["left", "down", "right", "up"]
    assert about["keys"][3] == [3, ["ArrowUp", "4"]]
    assert page._hello["past_episodes"] == len(read_episodes(run_dir))
    insight = session.view().lanes[0].figures["insight"]
    assert len(insight["optimal"]) == len(insight["values"]) == 4
    cells = page.broadcast.notices["map 0"]["cells"]
    assert cells["values"][0][0] == max(insight["values"])
    assert len(cells["arrows"][0][0]) >= 1
    assert cells["values"][3][3] is None  # the goal, where no action is taken
    assert insight["regret"] == max(insight["optimal"]) - insight["optimal"][insight["chosen"]]


def test_every_nth_training_episode_is_picked(page, run_dir):
    session, rows = page.player.session, read_episodes(run_dir)
    page.player._carry(session, Past("every:40"))
    seen = []
    while (past := session.view().figures["past"]) is not None:
        seen.append(past["row"])
        assert session.view().figures["episode_seed"] == rows[past["row"]]["seed"]
        session.next_episode()
    assert seen == list(range(0, len(rows), 40))


@pytest.mark.parametrize("which", ["best", "worst", "last", "5"])
def test_a_training_episode_is_played_again_with_its_return(page, run_dir, which):
    session, rows = page.player.session, read_episodes(run_dir)
    page.player._carry(session, Past(which))
    while not session.is_over:
        session.advance()
    figures = session.view().figures
    returns = [row["return"] for row in rows]
    expected = {
        "best": returns.index(max(returns)),
        "worst": returns.index(min(returns)),
        "last": len(rows) - 1,
        "5": 5,
    }
    row = figures["past"]["row"]
    assert row == expected[which]
    assert figures["check"]["agrees"]
    assert figures["newest"] == rows[row]["length"]
    assert figures["episode_seed"] == rows[row]["seed"]
    with pytest.raises(UsageError, match="training episode 99999"):
        page.player._carry(session, Past("99999"))


def test_what_was_played_is_saved_under_the_next_number(page, tmp_path):
    session = page.player.session
    page.player._carry.__self__._save_to = tmp_path / "played"
    with pytest.raises(UsageError, match="nobody has played"):
        page.player._carry(session, Save())
    page.player._carry(session, Take(0))
    session.press(2)
    session.advance()
    for number in ("001", "002"):
        assert page.player._carry(session, Save()).endswith(
            f"saved 1 episodes, 1 steps, to {tmp_path}/played/{number}"[-20:]
        )
        assert (tmp_path / "played" / number / "metadata.json").is_file()


def test_curves_of_the_run_are_told(page):
    told = []
    page.player._idle.__self__.tell = told.append
    page.player._idle(page.player.session)
    assert [notice["type"] for notice in told] == ["curves 0"]
    assert told[0]["env_steps"] == 2000


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--web"], "run"),
        (["--web", "a", "b", "c"], "1 or 2 RUN_DIRs"),
        (["--web", "a", "--port", "-1"], "port must be at least 0"),
        (["--web", "a", "--port", "65536"], "port must be at most 65535"),
        (["--web", "/nowhere"], "/nowhere"),
        (["--web", "a", "--video", "x.mp4"], "--video"),
        (["--web", "a", "--checkpoint", "1", "2", "3"], "two checkpoints at most, got 3"),
        (
            ["--web", "a", "--best", "--checkpoint", "1"],
            "--best is one checkpoint (allowed: without --checkpoint 1)",
        ),
        (["--web", "random"], "allowed: with --env-id ID"),
    ],
)
def test_wrong_words_are_refused(words, complaint):
    with pytest.raises(UsageError, match=re.escape(complaint)):
        watch(words)


def test_a_missing_package_is_named_with_the_command_that_brings_it(monkeypatch):
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"--web needs starlette.*pip install 'rl_lab\[web\]'"):
        watch(["--web", "a"])


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_command_with_code_0(run_dir, number):
    words = [sys.executable, "-m", "rl_lab", "watch", "--web", str(run_dir)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert re.match(r"watching on http://127\.0\.0\.1:\d+/ ", process.stdout.readline())
    process.send_signal(number)
    out, errors = process.communicate(timeout=60)
    assert (process.returncode, out, errors) == (0, "ended\n", "")
