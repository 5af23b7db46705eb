"""Train one agent in a run directory. This is the same as `rl-lab train`."""

from rl_lab.cli.parsing import main
from rl_lab.cli.train import train

if __name__ == "__main__":
    main(train)
