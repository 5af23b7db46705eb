"""Show or film a trained agent. This is the same as `rl-lab watch`."""

from rl_lab.cli.parsing import main
from rl_lab.cli.watch import watch

if __name__ == "__main__":
    main(watch)
