"""Kill runs many times: the long form of verify.py. This is the same as `rl-lab torture`."""

from rl_lab.cli.parsing import main
from rl_lab.cli.torture import torture

if __name__ == "__main__":
    main(torture)
