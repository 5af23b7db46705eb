"""Shell completion: the script is tyro's, and offers commands, options and values."""

from __future__ import annotations

import subprocess

import pytest

from commands import call, require_refusal
from rl_lab.cli.commands import COMMANDS, dispatch
from rl_lab.mdp.average_reward import AVERAGE_METHODS
from rl_lab.mdp.methods import METHODS


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """The script for bash, in a file."""
    from rl_lab.cli.commands import COMMANDS
    from rl_lab.cli.completion import completion_script

    path = tmp_path_factory.mktemp("completion") / "rl-lab.bash"
    path.write_text(completion_script("bash", COMMANDS))
    return path


def offered(script, *words: str) -> set[str]:
    """Return what bash offers for the last of the words."""
    quoted = " ".join(f"'{word}'" for word in ("rl-lab", *words))
    code = (
        f"source '{script}'; COMP_WORDS=({quoted}); COMP_CWORD={len(words)}; "
        "_tyro_rl_lab; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    return set(
        subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )


def test_offers_commands_options_and_values(script):
    assert offered(script, "") >= set(COMMANDS)
    assert offered(script, "tra") == {"train"}
    assert offered(script, "train", "--target-p") == {"--target-period-env-steps", "--target-period-updates"}
    of_sb3 = {"sb3-a2c", "sb3-dqn", "sb3-ppo", "sb3-qrdqn", "sb3-recurrent-ppo"}
    assert offered(script, "train", "--agent", "sb3-") == of_sb3
    assert offered(script, "benchmark", "d") == {"dp", "dqn"}
    assert offered(script, "benchmark", "acting", "--tu") == {"--turns"}
    assert offered(script, "solve", "--method", "") == {*METHODS, *AVERAGE_METHODS}
    assert offered(script, "watch", "--ep") == {"--episodes"}


@pytest.mark.parametrize("words", [[], ["tcsh"], ["bash", "zsh"]])
def test_another_shell_is_refused(capsys, words):
    require_refusal(call(capsys, dispatch, "--print-completion", *words), "allowed: bash, zsh, fish")
