"""`python -m rl_lab` is the command `rl-lab`."""

from rl_lab.cli.commands import entry

if __name__ == "__main__":
    entry()
