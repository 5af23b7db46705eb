"""Kill runs many times: the long form of verify.py. The same code as `rl-lab torture`."""

from rl_lab.cli.parsing import main
from rl_lab.cli.torture import torture

if __name__ == "__main__":
    main(torture)
