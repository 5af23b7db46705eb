"""The command that checks an environment."""

from __future__ import annotations

import re

import pytest

from commands import call, require_refusal
from pages import ROOT
from rl_lab.cli.check_env import check_env
from rl_lab.environments.check_env import CHECKS


def test_prints_a_verdict_for_each_check(capsys):
    code, out, err = call(capsys, check_env, "CartPole-v1")
    assert (code, err) == (0, "")
    assert [line.split()[:2] for line in out.splitlines()[:-1]] == [["ok", name] for name in CHECKS]
    assert out.splitlines()[-1] == "CartPole-v1 can be learned"


def test_the_help_and_the_page_name_every_check(capsys):
    with pytest.raises(SystemExit):
        check_env(["--help"])
    shown = capsys.readouterr().out
    assert [name for name in CHECKS if f"  {name}: {CHECKS[name]}\n" in shown] == list(CHECKS)
    page = (ROOT / "docs" / "environments.md").read_text()
    table = page.split("### Check an environment")[1].split("### ")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(CHECKS)


def test_a_fault_is_exit_code_1(capsys):
    words = ("faulty:lab-test/Faulty-v0", "--env-kwargs", "fault='nan reward'", "at=60")
    code, out, _ = call(capsys, check_env, *words)
    assert code == 1
    assert "fault  contract" in out
    assert "step 60): reward: nan (allowed: a finite number)" in out
    assert out.splitlines()[-1] == "faulty:lab-test/Faulty-v0 can't be learned as it is: 1 fault"


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("exit", r"step 60\): its process ended \(exit code 7\)"),
        ("hang", r"step 60\): no answer within 0\.5 s"),
        ("exit made", r"while it is made\): its process ended \(exit code 7\)"),
        ("quit made", r"while it is made: SystemExit \(faulty\.py, line \d+\)"),
        ("quit", r"step 60\): step raised SystemExit \(faulty\.py, line \d+\)"),
    ],
)
def test_what_hangs_or_ends_its_process_is_a_fault(capsys, fault, says):
    words = (
        "faulty:lab-test/Faulty-v0",
        "--env-kwargs",
        f"fault='{fault}'",
        "at=60",
        "--env-timeout-seconds",
        "0.5",
    )
    code, out, err = call(capsys, check_env, *words)
    assert (code, err) == (1, "")
    assert re.search(rf"^fault  contract  environment .*{says}$", out.splitlines()[0])
    assert out.splitlines()[-1] == "faulty:lab-test/Faulty-v0 can't be learned as it is: 1 fault"


def test_what_is_raised_when_it_is_closed_is_a_note(capsys):
    words = ("faulty:lab-test/Faulty-v0", "--env-kwargs", "fault='raise closed'", "at=3")
    code, out, err = call(capsys, check_env, *words)
    assert (code, err) == (0, "")
    assert (
        "note   contract  environment lab-test/Faulty-v0: close raised RuntimeError: the arm is stuck" in out
    )
    assert out.splitlines()[-1] == "faulty:lab-test/Faulty-v0 can be learned; 2 notes"


def test_notes_are_counted(capsys):
    code, out, _ = call(capsys, check_env, "FrozenLake-v1")
    assert code == 0
    assert "note   seeds" in out
    assert out.splitlines()[-1] == "FrozenLake-v1 can be learned; 1 note"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--steps", "0"], ["steps", "0"]),
        (["--episodes", "0"], ["episodes"]),
        (["--seed", "-1"], ["seed", "-1"]),
        (["--env-timeout-seconds", "0"], ["env_timeout_seconds", "0"]),
    ],
)
def test_wrong_values_are_refused(capsys, words, named):
    require_refusal(call(capsys, check_env, "CartPole-v1", *words), *named)


def test_an_unknown_environment_is_refused(capsys):
    require_refusal(call(capsys, check_env, "NoSuch-v0"), "NoSuch-v0")
