"""The listings of agents, environments and presets: a line each, and nothing heavy is imported for it."""

from __future__ import annotations

import ast
import subprocess
import sys

import gymnasium
import pytest

from commands import call, require_refusal
from rl_lab.cli.agents import agents
from rl_lab.cli.envs import envs
from rl_lab.cli.listing import first_sentence, print_table
from rl_lab.cli.presets import presets
from rl_lab.training.registry import agent_names, preset_fields, presets_of


def rows(out: str) -> list[list[str]]:
    return [line.split(maxsplit=1) for line in out.splitlines()]


class TestAgents:
    def test_has_a_line_for_each(self, capsys):
        code, out, err = call(capsys, agents)
        assert (code, err) == (0, "")
        told = dict(rows(out))
        assert list(told) == agent_names()
        assert len(set(told.values())) == len(told)
        assert all(len(text) > 30 for text in told.values())

    def test_loads_no_agent(self):
        code = (
            "import sys\nfrom rl_lab.cli.agents import agents\nagents([])\n"
            "print([m for m in ('torch', 'stable_baselines3', 'rl_lab.agents.tabular') if m in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert ast.literal_eval(done.stdout.splitlines()[-1]) == []


class TestEnvs:
    def test_has_a_line_for_each_of_the_lab_and_of_gymnasium(self, capsys):
        code, out, err = call(capsys, envs)
        assert (code, err) == (0, "")
        told = {row[0]: row[1:] for row in rows(out)}
        lab = {env_id for env_id in gymnasium.registry if env_id.startswith("lab/")}
        assert lab
        assert lab <= told.keys()
        assert {"CartPole-v1", "FrozenLake-v1", "ALE/*"} <= told.keys()
        assert "CartPole-v0" not in told  # there is a newer version
        assert all(told.values())

    def test_a_name_lists_what_contains_it(self, capsys):
        out = call(capsys, envs, "pong")[1]
        assert [row[0] for row in rows(out)] == ["ALE/Pong-v5"]
        assert len(rows(call(capsys, envs, "ALE")[1])) > 50

    def test_a_name_that_no_id_contains_is_refused(self, capsys):
        require_refusal(call(capsys, envs, "no such game"), "'no such game'", "allowed")


class TestPresets:
    def test_names_agent_preset_and_what_it_sets(self, capsys):
        code, out, err = call(capsys, presets)
        assert (code, err) == (0, "")
        told = {tuple(line.split(maxsplit=2)[:2]): line for line in out.splitlines()}
        assert set(told) == {(agent, preset) for agent in agent_names() for preset in presets_of(agent)}
        assert "total_steps=50000 learning_rate=0.0023" in told["dqn", "zoo:CartPole-v1"]

    def test_of_one_agent(self, capsys):
        out = call(capsys, presets, "ppo")[1]
        assert [line.split()[1] for line in out.splitlines()] == list(presets_of("ppo"))
        assert call(capsys, presets, "random") == (0, "", "")

    def test_of_one_preset_lists_its_fields(self, capsys):
        out = call(capsys, presets, "dqn", "recommended:CartPole-v1")[1]
        assert [row[0] for row in rows(out)] == list(preset_fields("dqn", "recommended:CartPole-v1"))
        assert ["hidden", "128,128"] in rows(out)

    @pytest.mark.parametrize(
        ("words", "named"),
        [(["dqm"], ["'dqm'", "close: dqn"]), (["dqn", "fast"], ["'fast'", "zoo:CartPole-v1"])],
    )
    def test_refuses_in_one_line(self, capsys, words, named):
        require_refusal(call(capsys, presets, *words), *named)


class TestFirstSentence:
    def test_is_read_from_a_class_a_function_or_else_the_module(self):
        assert first_sentence("rl_lab.cli.listing", "first_sentence").startswith(
            "Return the first sentence of"
        )
        assert first_sentence("rl_lab.cli.agents", "AgentsOptions") == "The command takes no options."
        assert first_sentence("rl_lab.cli.agents", "nothing") == "The command that lists agents."
        assert first_sentence("rl_lab.cli", "nothing").startswith("The commands: one module each")

    def test_leaves_headings_and_the_targets_of_links_out(self):
        told = first_sentence("gymnasium.envs.classic_control.cartpole", "CartPoleEnv")
        assert told.startswith("This environment corresponds to")
        assert "http" not in told

    @pytest.mark.parametrize(
        "module", ["no_such_package.module", "math", "rl_lab.no_such_module", "os.path.no"]
    )
    def test_is_empty_without_a_source(self, module):
        assert first_sentence(module, "name") == ""


def test_a_table_is_cut_in_a_terminal_only(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    table = [("a", "b" * 30), ("long", "c")]
    print_table(table)
    assert capsys.readouterr().out == f"a     {'b' * 30}\nlong  c\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    print_table(table)
    assert capsys.readouterr().out == f"a     {'b' * 11}...\nlong  c\n"
